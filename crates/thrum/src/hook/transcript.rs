//! Reads from a program's transcript what no hook reports: that the user has interrupted the turn.
//!
//! Seen with Claude Code 2.1.332: after Esc it runs neither Stop nor Notification. The last entry of the transcript
//! (one JSON object per line) is then one of the user with the text `[Request interrupted by user]`, or the same with
//! `for tool use`.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use serde_json::Value;

/// Maximum number of bytes that are read from the end of a transcript. Entries after the last one of the conversation
/// are short.
const END: u32 = 64 * 1024;

/// Prefix of the text that marks an interruption.
const INTERRUPTED: &str = "[Request interrupted by user";

/// Returns `true` if the last entry of the conversation is an interruption by the user; `false` also if the file cannot
/// be read.
pub(super) fn is_interrupted(transcript: &Path) -> bool {
    let end = || {
        let mut file = File::open(transcript).ok()?;
        let length = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(END.into()))).ok()?;
        let mut bytes = Vec::new();
        file.take(END.into()).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    };
    let Some(bytes) = end() else { return false };
    let said = |line: &[u8]| {
        let entry: Value = serde_json::from_slice(line).ok()?;
        matches!(entry["type"].as_str(), Some("user" | "assistant")).then(|| entry["message"]["content"].clone())
    };
    let Some(last) = bytes.rsplit(|byte| *byte == b'\n').find_map(said) else { return false };
    let texts: Vec<&str> = match &last {
        Value::String(text) => vec![text],
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => Vec::new(),
    };
    texts.iter().any(|text| text.starts_with(INTERRUPTED))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_interruption_is_the_last_line_of_a_transcript() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("transcript.jsonl");
        let entry = |kind: &str, content: &str| {
            format!("{{\"type\":\"{kind}\",\"message\":{{\"role\":\"{kind}\",\"content\":{content}}}}}\n")
        };
        let prompt = entry("user", "\"sleep\"");
        let interrupted = entry("user", r#"[{"type":"text","text":"[Request interrupted by user for tool use]"}]"#);
        let other = "{\"type\":\"file-history-snapshot\"}\n";
        let long = entry("assistant", &format!("\"{}\"", "x".repeat(200_000)));
        for (text, expected) in [
            (String::new(), false),
            (format!("{prompt}{interrupted}"), true),
            (format!("{long}{interrupted}{other}"), true),
            (format!("{interrupted}{prompt}"), false),
            (format!("{interrupted}{long}"), false),
            (format!("{prompt}{}", &interrupted[..20]), false),
        ] {
            fs::write(&path, &text).unwrap();
            assert_eq!(is_interrupted(&path), expected, "{}", &text[text.len().saturating_sub(200)..]);
        }
        assert!(!is_interrupted(dir.path()), "a directory");
    }
}
