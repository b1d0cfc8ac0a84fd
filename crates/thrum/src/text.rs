//! Others' words on their way to a terminal.

use std::fmt::Write;

use serde_json::Value;
use thrum_core::name::{is_printable, printable};

/// A text of several lines: line breaks stay, a tab becomes four columns, everything else that could drive a terminal is escaped.
pub(crate) fn lines(text: &str) -> String {
    let lines: Vec<_> = text.trim_end_matches(['\n', '\r']).split('\n').map(line).collect();
    lines.join("\n")
}

fn line(text: &str) -> String {
    printable(&text.trim_end_matches('\r').replace('\t', "    "))
}

/// The beginning of a text on one line of at most `chars` characters.
pub(crate) fn preview(text: &str, chars: usize) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = printable(&words);
    match line.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", line[..end].trim_end()),
        None => line,
    }
}

/// One compact line of JSON in which also those characters are escaped that JSON allows but terminals obey.
pub(crate) fn json(value: &Value) -> String {
    escaped(&value.to_string())
}

/// The same for a line that is JSON already; line breaks between its values are not.
pub(crate) fn escaped(plain: &str) -> String {
    let mut out = String::with_capacity(plain.len());
    for c in plain.chars() {
        if is_printable(c) {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}

/// `1 message`, `2 messages`.
pub(crate) fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_keeps_its_lines_and_nothing_that_drives_a_terminal() {
        assert_eq!(lines("a\r\n\tb\x1b[2J\u{202e}\x07\n"), "a\n    b\\u{1b}[2J\\u{202e}\\u{7}");
    }

    #[test]
    fn json_escapes_what_terminals_obey_and_stays_the_same_json() {
        let value = Value::from("x\u{9b}2J\u{202e}\u{e0001}é\n\"");
        let line = json(&value);
        assert_eq!(line, r#""x\u009b2J\u202e\udb40\udc01é\n\"""#);
        assert_eq!(serde_json::from_str::<Value>(&line).expect("still JSON"), value);
    }

    #[test]
    fn a_preview_is_one_short_line() {
        assert_eq!(preview("one\n two\tthree", 80), "one two three");
        assert_eq!(preview("日本語のメッセージ", 4), "日本語の…");
    }
}
