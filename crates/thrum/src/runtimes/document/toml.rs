//! Edits tables in a TOML file. They are added and removed as text, because serialising the parsed document would
//! change comments and line ends.

use std::ops::Range;

use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind};
use toml_edit::{Document, Item, Table};

use super::{append, cut, holds_another, ours};

fn parse(text: &str) -> Result<Document<&str>, Error> {
    Document::parse(text)
        .map_err(|error| Error::new(ErrorKind::Invalid, format!("it is no TOML ({})", error.message())))
}

/// Returns the item at a dotted name.
fn item<'a>(document: &'a Document<&str>, name: &str) -> Option<&'a Item> {
    name.split('.').try_fold(document.as_item(), |item, key| item.get(key))
}

pub(super) fn put_table(text: &str, name: &str, lines: &str) -> Result<String, Error> {
    if table(text, name)?.is_some() {
        return Ok(text.to_owned());
    }
    let added = append(text, &format!("[{name}]\n{lines}"));
    // If a parent table is written as a value, no table can be added to it, and parsing fails.
    parse(&added)?;
    Ok(added)
}

/// Returns the text without our table.
///
/// # Errors
/// `invalid` if our table has no header of its own (`thrum = { … }`, `thrum.command = …`), because its lines may then
/// contain other entries, or if the text is not TOML.
pub(super) fn take_table(text: &str, name: &str) -> Result<String, Error> {
    let document = parse(text)?;
    let Some(item) = item(&document, name).filter(|item| is_ours(item)) else { return Ok(text.to_owned()) };
    let mut ranges = Vec::new();
    match item.as_table().filter(|table| !table.is_dotted()) {
        Some(table) => lines_of(text, table, &mut ranges),
        None => return Err(Error::new(ErrorKind::Invalid, format!("{name} in it is not written as [{name}]"))),
    }
    ranges.sort_by_key(|range| range.start);
    Ok(cut(text, ranges))
}

/// Returns the command and the arguments in our server's table; `None` if there is no such table.
///
/// # Errors
/// `invalid` if the item in its place has no `command`, or if the text is not TOML.
pub(super) fn table(text: &str, name: &str) -> Result<Option<Value>, Error> {
    match item(&parse(text)?, name) {
        Some(item) if item.get("command").is_none() => Err(holds_another(name)),
        item => Ok(item.map(command)),
    }
}

fn command(item: &Item) -> Value {
    let args = item.get("args").and_then(|args| args.as_array());
    let args: Vec<&str> = args.into_iter().flatten().filter_map(|arg| arg.as_str()).collect();
    json!({"command": item.get("command").and_then(|command| command.as_str()), "args": args})
}

fn is_ours(item: &Item) -> bool {
    let command = command(item);
    ours::runs_thrum(&command) || ours::starts_server(&command)
}

/// Adds the hooks that no table runs yet.
pub(super) fn put_hooks(text: &str, name: &str, hooks: &[(&str, &str)]) -> Result<String, Error> {
    let document = parse(text)?;
    if document.as_item().get(name).is_some_and(|item| !item.is_array_of_tables()) {
        return Err(Error::new(ErrorKind::Invalid, format!("{name} is no array of tables")));
    }
    let added = hooks.iter().fold(text.to_owned(), |text, (command, lines)| {
        let is_there = tables(&document, name).any(|table| runs(table, command));
        if is_there { text } else { append(&text, &format!("[[{name}]]\ncommand = \"{command}\"\n{lines}")) }
    });
    parse(&added)?;
    Ok(added)
}

/// Returns the text without our hooks. A hook whose command line does more than run `thrum hook` stays.
pub(super) fn take_hooks(text: &str, name: &str, hooks: &[(&str, &str)]) -> Result<String, Error> {
    let document = parse(text)?;
    let mut ranges = Vec::new();
    for table in tables(&document, name) {
        let has_more = table.get("command").and_then(Item::as_str).is_none_or(ours::does_more);
        if !has_more && hooks.iter().any(|(command, _)| runs(table, command)) {
            lines_of(text, table, &mut ranges);
        }
    }
    ranges.sort_by_key(|range| range.start);
    Ok(cut(text, ranges))
}

/// Returns the command and timeout of every hook that runs `thrum hook`.
pub(super) fn hooks(text: &str, name: &str) -> Result<Vec<Value>, Error> {
    let document = parse(text)?;
    let entry = |table: &Table| {
        let command = table.get("command")?.as_str().filter(|command| ours::events(command).next().is_some())?;
        Some(json!({"command": command, "timeout": table.get("timeout").and_then(Item::as_integer)}))
    };
    Ok(tables(&document, name).filter_map(entry).collect())
}

fn tables<'a>(document: &'a Document<&str>, name: &str) -> impl Iterator<Item = &'a Table> {
    document.as_item().get(name).and_then(Item::as_array_of_tables).into_iter().flatten()
}

/// Returns `true` if a table runs `thrum hook` for the same event as `command`.
fn runs(table: &Table, command: &str) -> bool {
    let Some(event) = ours::events(command).next() else { return false };
    table.get("command").and_then(Item::as_str).is_some_and(|line| ours::events(line).any(|it| it == event))
}

/// Collects the lines of a table, from its header to its last value, and those of its subtables. Lines after the last
/// value do not count: a comment there was written by the user or belongs to the next table.
fn lines_of(text: &str, table: &Table, ranges: &mut Vec<Range<usize>>) {
    let mut end = 0;
    values_end(table, &mut end, text, ranges);
    // A table without its own header has the span of its name in the header of another table.
    let Some(header) = table.span().filter(|_| !table.is_implicit()) else { return };
    let start = text[..header.start].rfind('\n').map_or(0, |at| at + 1);
    let end = end.max(header.end);
    let line = text[end..].find('\n').map_or(text.len(), |at| end + at);
    // The line break is not part of the range.
    ranges.push(start..if text[..line].ends_with('\r') { line - 1 } else { line });
}

fn values_end(table: &Table, end: &mut usize, text: &str, ranges: &mut Vec<Range<usize>>) {
    for (_, item) in table {
        match item {
            Item::Table(inner) if inner.is_dotted() => values_end(inner, end, text, ranges),
            Item::Table(inner) => lines_of(text, inner, ranges),
            Item::ArrayOfTables(tables) => tables.iter().for_each(|inner| lines_of(text, inner, ranges)),
            Item::Value(value) => *end = value.span().map_or(*end, |span| span.end.max(*end)),
            Item::None => {}
        }
    }
}
