//! Adds our parts to other programs' files and removes exactly these again.
//!
//! The files belong to the user: comments, order, unknown keys and spacing stay as they are. Hooks and our server are
//! recognised by the command that they run. One that an earlier version wrote is therefore not added a second time, and
//! one that the user pointed elsewhere is left alone. A block of text is recognised by its markers, and setup replaces
//! everything between them. A file that cannot be parsed is not touched.

mod block;
mod json;
mod ours;
mod toml;

use std::ops::Range;

use serde_json::Value;
use thrum_core::{Error, ErrorKind};

pub(super) use ours::events;

/// A part of a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    /// A member of a JSON object: its path, which ends with its name, and its value.
    Member(Vec<&'static str>, Value),
    /// An element of a JSON array: the path of the array, and the element.
    Element(Vec<&'static str>, Value),
    /// A table of a TOML file: its dotted name, and its lines without the header.
    Table(&'static str, &'static str),
    /// Hooks in a TOML file: the name of the array of tables, and for each hook its command and its other lines.
    Hooks(&'static str, &'static [(&'static str, &'static str)]),
    /// A block of lines between two markers, in a text that users write.
    Block(Comment, &'static str),
    /// A member that the program requires in a JSON file. `--remove` removes it if nothing else is left in the file.
    Required(&'static str, Value),
}

/// The comment syntax of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comment {
    /// `<!-- … -->`, in Markdown.
    Html,
    /// `# …`
    Hash,
    /// `// …`
    Slashes,
}

impl Comment {
    /// Returns the marker lines before and after our block.
    fn markers(self) -> (&'static str, &'static str) {
        match self {
            Self::Html => (
                "<!-- thrum: begin (thrum setup writes these lines; --remove takes them out) -->",
                "<!-- thrum: end -->",
            ),
            Self::Hash => ("# thrum: begin (thrum setup writes these lines; --remove takes them out)", "# thrum: end"),
            Self::Slashes => {
                ("// thrum: begin (thrum setup writes these lines; --remove takes them out)", "// thrum: end")
            }
        }
    }
}

/// Returns the text with these parts added.
///
/// # Errors
/// `invalid` if the text is not in the format that the parts require.
pub(super) fn with(text: &str, parts: &[Part]) -> Result<String, Error> {
    let (mark, text) = after_mark(text);
    let text = parts.iter().try_fold(text.to_owned(), |text, part| match part {
        Part::Block(comment, lines) => block::put(&text, *comment, lines),
        Part::Table(name, lines) => toml::put_table(&text, name, lines),
        Part::Hooks(name, hooks) => toml::put_hooks(&text, name, hooks),
        Part::Member(path, value) => json::put_member(&text, path, value),
        Part::Element(path, value) => json::put_element(&text, path, value),
        Part::Required(name, value) => json::put_member(&text, &[name], value),
    })?;
    Ok(format!("{mark}{text}"))
}

/// Returns the text without these parts; `None` if removing them leaves nothing and there is no `before`. `before` is
/// the original text, if it is known. A text that is unchanged since setup becomes `before` again. In a changed text,
/// permissions, required members and empty lists and objects that were in `before` stay.
///
/// # Errors
/// `invalid` if the text is not in the format that the parts require.
pub(super) fn without(text: &str, parts: &[Part], before: Option<&str>) -> Result<Option<String>, Error> {
    if let Some(before) = before
        && with(before, parts).is_ok_and(|with| with == text)
    {
        return Ok(Some(before.to_owned()));
    }
    let (mark, body) = after_mark(text);
    if body.trim().is_empty() {
        return Ok(Some(text.to_owned()));
    }
    let was = json::Before::new(before.map(|before| after_mark(before).1));
    let mut required = Vec::new();
    let mut left = parts.iter().try_fold(body.to_owned(), |text, part| match part {
        Part::Block(comment, _) => block::take(&text, *comment),
        Part::Table(name, _) => toml::take_table(&text, name),
        Part::Hooks(name, hooks) => toml::take_hooks(&text, name, hooks),
        Part::Member(path, _) => json::take_member(&text, path, &was),
        Part::Element(path, value) => json::take_element(&text, path, value, &was),
        Part::Required(name, value) => {
            required.push((*name, value));
            Ok(text)
        }
    })?;
    if left == body {
        return Ok(Some(text.to_owned()));
    }
    // `take_required` would turn an empty text into an empty object.
    if !required.is_empty() && !left.trim().is_empty() {
        left = json::take_required(&left, &required, &was)?;
    }
    let is_empty = left.trim().is_empty() || left.trim() == "{}";
    Ok((before.is_some() || !is_empty).then(|| format!("{mark}{left}")))
}

/// Returns the command lines that still run a hook of ours in a text from which our parts were removed.
pub(super) fn still_runs(text: &str, parts: &[Part]) -> Vec<String> {
    let text = after_mark(text).1;
    let entries = match parts.iter().find(|part| matches!(part, Part::Element(..) | Part::Hooks(..))) {
        Some(Part::Element(..)) => json::value(text, &[]).ok().flatten(),
        Some(Part::Hooks(name, _)) => toml::hooks(text, name).ok().map(Value::Array),
        _ => None,
    };
    let mut lines = entries.as_ref().map(ours::lines).unwrap_or_default();
    lines.retain(|line| events(line).next().is_some());
    lines
}

/// Returns the entries in the text that correspond to a part: the value at its path, equal elements, those that run the
/// same hook, and for `Hooks` every hook that runs `thrum hook`. JSON entries are returned as written, tables as
/// command and arguments, hooks in TOML as command and timeout, and blocks as `null`. A [`Part::Required`] has no
/// entries.
///
/// # Errors
/// `invalid` if the text is not in the format that the part requires.
pub(super) fn found(text: &str, part: &Part) -> Result<Vec<Value>, Error> {
    let text = after_mark(text).1;
    Ok(match part {
        Part::Member(path, value) => {
            let is = json::value(text, path)?;
            if let (Some(is), Some(name)) = (&is, path.last()) {
                json::check_server(name, is, value)?;
            }
            is.into_iter().collect()
        }
        Part::Element(path, value) => json::elements(text, path, value)?,
        Part::Table(name, _) => toml::table(text, name)?.into_iter().collect(),
        Part::Hooks(name, _) => toml::hooks(text, name)?,
        Part::Block(comment, _) => block::blocks(text, *comment)?.into_iter().map(|_| Value::Null).collect(),
        Part::Required(..) => Vec::new(),
    })
}

/// Splits a text into its byte order mark, which some editors write, and the rest.
fn after_mark(text: &str) -> (&str, &str) {
    text.split_at(if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 })
}

/// The error for a file with something else in the place of one of our parts.
fn holds_another(name: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("{name} in it is something else"))
}

/// Returns the line ending of a text.
fn newline(text: &str) -> &'static str {
    if text.split_inclusive('\n').next().is_some_and(|line| line.ends_with("\r\n")) { "\r\n" } else { "\n" }
}

/// Returns the text with further lines appended after a blank line.
fn append(text: &str, lines: &str) -> String {
    let newline = newline(text);
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { newline };
    let gap = if text.trim().is_empty() { "" } else { newline };
    format!("{text}{end}{gap}{}", lines.replace('\n', newline))
}

/// Removes ranges of whole lines, each with the blank line that separates it from the lines before it. The blank line
/// stays if other lines follow the range directly. At the start of the text, the blank line after the range is removed.
fn cut(text: &str, ranges: Vec<Range<usize>>) -> String {
    let mut left = text.to_owned();
    for Range { mut start, mut end } in ranges.into_iter().rev() {
        let eol = |text: &str| ["\n", "\r\n"].into_iter().find(|eol| text.starts_with(eol)).map_or(0, str::len);
        let rest = eol(&left[end..]);
        end += rest;
        let is_apart = left[end..].is_empty() || eol(&left[end..]) > 0;
        let before = left[..start].strip_suffix('\n').map(|before| before.strip_suffix('\r').unwrap_or(before));
        match before {
            Some(before) if is_apart && (before.is_empty() || before.ends_with('\n')) => start = before.len(),
            None if start == 0 => end += eol(&left[end..]),
            _ => {}
        }
        left.replace_range(start..end, "");
    }
    left
}

#[cfg(test)]
mod tests;
