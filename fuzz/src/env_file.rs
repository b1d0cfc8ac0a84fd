//! Target: the parser of `.env` files.

use thrum_core::limits;
use thrum_daemon::fuzzing;

use crate::assert_sayable;

/// Parses the bytes of a file. The result contains only our own variables, each of which is in the file, and no warning
/// reveals a value.
pub fn env_file(bytes: &[u8]) {
    let Ok(read) = fuzzing::env_file(bytes) else { return };
    assert!(bytes.len() as u64 <= limits::MAX_ENV_FILE_BYTES, "larger than a file may be");
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().count().max(1);
    for (name, value) in &read.values {
        assert!(name.starts_with("THRUM_") || name.starts_with("TAILSCALE_"), "{name} is not ours");
        assert!(text.contains(name.as_str()), "{name} is not in the file");
        assert!(!value.is_empty(), "an empty variable is none");
        // Between single quotes every character is literal, except these.
        if !value.contains(['\'', '\\', '\n', '\r']) {
            let again = fuzzing::env_file(format!("{name}='{value}'\n").as_bytes()).expect("a file");
            assert_eq!(again.values, [(name.clone(), value.clone())], "what is quoted reads the same");
        }
    }
    for line in &read.unreadable {
        assert!((1..=lines).contains(line), "line {line} of {lines}");
    }
    for warning in &read.warnings {
        assert_sayable(warning);
        // An auth key contains long words without escapes. So no warning may contain a long word of the file, unless it
        // is part of a variable's name.
        for word in
            text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.len() >= 16 && !read.is_in_a_name(word))
        {
            assert!(!warning.contains(word), "{warning:?} shows {word:?}");
        }
    }
}
