//! Length of an event in the journal of a Go daemon.
//!
//! A Go daemon appends each event as one line of JSON to a journal, and reads its journals at every start. Its line
//! reader holds 1 MiB; after one longer line the daemon does not start again. Its encoder escapes more than ours does,
//! so a text of 200 KB can already be too long.

use thrum_core::limits;

/// Returns `true` if an event is too long for the journal. `body` is its canonical form.
pub(crate) fn is_too_long(body: &str) -> bool {
    // The encoder turns one byte into at most six.
    body.len() > limits::LEGACY_LINE_BYTES / 6 && line_bytes(body) > limits::LEGACY_LINE_BYTES
}

/// Returns the length of the line, without the sequence that the Go daemon adds.
fn line_bytes(body: &str) -> usize {
    let mut escaped = false;
    let more = |c: char| {
        let after_backslash = escaped;
        escaped = c == '\\' && !after_backslash;
        match c {
            '<' | '>' | '&' => 5,
            '\u{2028}' | '\u{2029}' => 3,
            // Daemons built before Go 1.22 write `\u0008` and `\u000c`.
            'b' | 'f' if after_backslash => 4,
            _ => 0,
        }
    };
    body.len() + body.chars().map(more).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_as_long_as_gos_encoder_makes_it() {
        for (body, line) in [
            (r#"{"a":"plain"}"#, r#"{"a":"plain"}"#),
            (r#"{"a":"<b> & c"}"#, r#"{"a":"\u003cb\u003e \u0026 c"}"#),
            ("{\"a\":\"\u{2028}\u{2029}\"}", r#"{"a":"\u2028\u2029"}"#),
            (r#"{"a":"\b\f\n\\b"}"#, r#"{"a":"\u0008\u000c\n\\b"}"#),
            (r#"{"a":"é\u0001"}"#, r#"{"a":"é\u0001"}"#),
        ] {
            assert_eq!(line_bytes(body), line.len(), "{body}");
        }
    }

    #[test]
    fn the_bound_is_exact_and_counts_what_is_escaped() {
        let plain = |length: usize| "x".repeat(length);
        assert!(!is_too_long(&plain(limits::LEGACY_LINE_BYTES)) && is_too_long(&plain(limits::LEGACY_LINE_BYTES + 1)));
        let escaped = limits::LEGACY_LINE_BYTES / 6;
        assert!(!is_too_long(&"<".repeat(escaped)) && is_too_long(&"<".repeat(escaped + 1)));
    }
}
