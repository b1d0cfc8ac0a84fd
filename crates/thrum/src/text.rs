//! Makes texts by others safe for a terminal, and wraps lines.

use std::iter;

use serde_json::Value;
use textwrap::{
    Options, WordSeparator, WordSplitter,
    core::{Word, display_width},
};
use thrum_core::{
    json::{prefix, text_size},
    name::{self, is_printable},
};

/// Escapes a text of several lines. Line breaks are kept, except at the end, and lose their carriage return. A tab
/// becomes four spaces, and everything else that could control a terminal is escaped.
pub(crate) fn lines(text: &str) -> String {
    let lines: Vec<_> = text.trim_end_matches(['\n', '\r']).split('\n').map(line).collect();
    lines.join("\n")
}

fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    let mut marks = 0;
    for c in text.trim_end_matches('\r').chars() {
        marks = if columns(c) == 0 { marks + 1 } else { 0 };
        match c {
            '\t' => out.push_str("    "),
            // The zero-width non-joiner and joiner, which emoji and some scripts need. After ASCII they have no use.
            '\u{200c}' | '\u{200d}' if !before.is_ascii() => out.push(c),
            c if is_printable(c) && marks <= MOST_MARKS => out.push(c),
            c if is_printable(c) => out.extend(c.escape_unicode()),
            c => out.extend(c.escape_default()),
        }
        before = c;
    }
    out
}

/// Maximum number of combining marks on one letter. Further marks are escaped: they would grow into the lines above and
/// below, and no language needs more.
const MOST_MARKS: usize = 6;

/// The number of columns that a line takes, not counting styles.
pub(crate) fn width(line: &str) -> usize {
    display_width(line)
}

fn columns(c: char) -> usize {
    if c.is_ascii() { usize::from(!c.is_ascii_control()) } else { display_width(c.encode_utf8(&mut [0; 4])) }
}

/// Escapes a text, but keeps every style sequence (`ESC [`, digits and `;`, `m`). A text by others must be escaped
/// before it is styled; otherwise the style sequences in it are kept, too.
pub(crate) fn styled(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\x1b') {
        out.push_str(&line(&rest[..at]));
        let code = rest[at + 1..]
            .strip_prefix('[')
            .and_then(|code| Some(&code[..code.find(|c: char| !matches!(c, '0'..='9' | ';'))?]));
        let end = match code {
            Some(code) if rest[at + 2 + code.len()..].starts_with('m') => at + 3 + code.len(),
            _ => at + 1,
        };
        if end > at + 1 {
            out.push_str(&rest[at..end])
        } else {
            out.push_str("\\u{1b}")
        }
        rest = &rest[end..];
    }
    out + &line(rest)
}

/// Wraps a line to at most `width` columns, with the continuation lines indented by `hang`. Styles take no columns. A
/// word that is longer than a line is not broken, so that it can be copied.
pub(crate) fn wrapped(line: &str, width: usize, hang: usize) -> String {
    if self::width(line) <= width {
        return line.to_owned();
    }
    let words = line.trim_start_matches(' ');
    let (first, further) = (&line[..line.len() - words.len()], " ".repeat(hang));
    let options = Options::new(width)
        .initial_indent(first)
        .subsequent_indent(&further)
        .break_words(false)
        // An option or a name that is broken at its dash cannot be copied.
        .word_splitter(WordSplitter::NoHyphenation)
        .word_separator(WordSeparator::Custom(split_words));
    textwrap::wrap(words, options).join("\n")
}

/// Characters that must not begin a line, in scripts without spaces between words.
const NOT_AT_LINE_START: [char; 14] =
    ['、', '。', '，', '．', '！', '？', '：', '；', '）', '」', '』', '】', '〉', 'ー'];

/// Splits a line into words: at spaces, and after each two-column character, because Chinese and Japanese have no
/// spaces; but not before a character of [`NOT_AT_LINE_START`] or one without width.
fn split_words(line: &str) -> Box<dyn Iterator<Item = Word<'_>> + '_> {
    let mut rest = line;
    Box::new(iter::from_fn(move || {
        let mut spaces = false;
        let mut wide = false;
        let mut ends = rest.char_indices().filter_map(|(at, c)| {
            // A character without width belongs to the one before it.
            let end = (spaces && c != ' ') || (wide && c != ' ' && columns(c) > 0 && !NOT_AT_LINE_START.contains(&c));
            spaces |= c == ' ';
            wide = columns(c) == 2 || (wide && columns(c) == 0);
            end.then_some(at)
        });
        let (word, behind) = rest.split_at(ends.next().unwrap_or(rest.len()));
        rest = behind;
        (!word.is_empty()).then(|| Word::from(word))
    }))
}

/// Returns the beginning of a text on one line: about `chars` characters, and then `…` if something was cut.
pub(crate) fn preview(text: &str, chars: usize) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = line(&words);
    // Do not separate a combining mark from its letter.
    match line.char_indices().skip(chars).find(|(_, c)| columns(*c) > 0) {
        Some((end, _)) => format!("{}…", line[..end].trim_end()),
        None => line,
    }
}

/// Returns one compact line of JSON. Characters that JSON allows but terminals obey are escaped as well.
pub(crate) fn json(value: &Value) -> String {
    thrum_core::json::printable(&value.to_string())
}

pub(crate) use thrum_core::words::count;

/// Shown before each line of a text that somebody else wrote.
pub(crate) const BAR: char = '│';

/// Limit of [`quote`], in characters. Ids and usual paths are shorter.
const QUOTE_CHARS: usize = 1000;

/// Formats a text by others that is not the body of a message, on one line. A plain word stays as it is; everything
/// else is quoted, so that its end is clear and it cannot imitate our own output ([`name::quoted`]).
pub(crate) fn quote(text: &str) -> String {
    quote_within(text, QUOTE_CHARS)
}

/// Formats a text like [`quote`]. A text of more than `most` characters is cut there first, and ends with `…`.
pub(crate) fn quote_within(text: &str, most: usize) -> String {
    let text = text.trim();
    match text.char_indices().nth(most) {
        Some((end, _)) => name::quoted(&format!("{}…", &text[..end])),
        None => name::quoted(text),
    }
}

/// Returns the text, or if it has more than `most` bytes as JSON, its beginning with `…`.
pub(crate) fn clipped(text: &str, most: usize) -> String {
    const CUT: char = '…';
    if text_size(text) <= most {
        return text.to_owned();
    }
    format!("{}{CUT}", prefix(text, most.saturating_sub(CUT.len_utf8())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_keeps_its_lines_and_no_terminal_control() {
        assert_eq!(lines("a\r\n\tb\x1b[2J\u{202e}\x07\n"), "a\n    b\\u{1b}[2J\\u{202e}\\u{7}");
    }

    #[test]
    fn marks_and_joiners_stay_where_languages_need_them_and_no_further() {
        assert_eq!(lines("👩\u{200d}🚀 می\u{200c}خواهم e\u{301}"), "👩\u{200d}🚀 می\u{200c}خواهم e\u{301}");
        assert_eq!(lines("an\u{200d}n \u{61c}x\u{ad}"), "an\\u{200d}n \\u{61c}x\\u{ad}");
        let tower = format!("o{}", "\u{301}".repeat(40));
        assert_eq!(lines(&tower).matches('\u{301}').count(), 6);
    }

    #[test]
    fn a_long_line_breaks_at_words_and_between_wide_characters_and_leaves_long_words_whole() {
        assert_eq!(wrapped("  one two three", 9, 4), "  one two\n    three");
        assert_eq!(wrapped("日本語の長い行です", 8, 2), "日本語の\n  長い行\n  です");
        assert_eq!(wrapped("長い行です。", 10, 0), "長い行で\nす。", "a full stop stays with its sentence");
        assert_eq!(
            wrapped("see https://example.org/a/very/long/path now", 12, 0),
            "see\nhttps://example.org/a/very/long/path\nnow"
        );
        assert_eq!(wrapped("with --idempotency-key x", 12, 0), "with\n--idempotency-key\nx");
        assert_eq!(wrapped("a  b", 80, 4), "a  b");
        assert_eq!(wrapped("👍🏽👍🏽", 4, 0).matches("👍🏽").count(), 2, "a skin tone stays with its hand");
    }

    #[test]
    fn json_escapes_terminal_control_and_keeps_its_meaning() {
        let value = Value::from("x\u{9b}2J\u{202e}\u{e0001}é\n\"");
        let line = json(&value);
        assert_eq!(line, r#""x\u009b2J\u202e\udb40\udc01é\n\"""#);
        assert_eq!(serde_json::from_str::<Value>(&line).expect("still JSON"), value);
    }

    #[test]
    fn a_preview_is_one_short_line() {
        assert_eq!(preview("one\n two\tthree", 80), "one two three");
        assert_eq!(preview("日本語のメッセージ", 4), "日本語の…");
        assert_eq!(preview("👩\u{200d}🚀 e\u{301}e", 5), "👩\u{200d}🚀 e\u{301}…");
        assert_eq!(preview("a\u{202e}b\x1bc", 80), "a\\u{202e}b\\u{1b}c");
    }
}
