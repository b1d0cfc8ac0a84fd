//! Edits our block in a text file that users write: lines between two marker lines.

use std::ops::Range;

use thrum_core::{Error, ErrorKind};

use super::{Comment, append, cut, newline};

/// Returns the text with the block in place of each existing block of ours, or added at the end if there is none.
///
/// # Errors
/// As [`blocks`].
pub(super) fn put(text: &str, comment: Comment, lines: &str) -> Result<String, Error> {
    let (begin, end) = comment.markers();
    let block = format!("{begin}\n{}\n{end}", lines.trim());
    let found = blocks(text, comment)?;
    if !found.is_empty() {
        let (mut text, block) = (text.to_owned(), block.replace('\n', newline(text)));
        found.into_iter().rev().for_each(|range| text.replace_range(range, &block));
        return Ok(text);
    }
    Ok(append(text, &format!("{block}\n")))
}

/// Returns the text without our blocks.
///
/// # Errors
/// As [`blocks`].
pub(super) fn take(text: &str, comment: Comment) -> Result<String, Error> {
    Ok(cut(text, blocks(text, comment)?))
}

/// Returns the ranges of our blocks, from the begin marker to the end marker.
///
/// # Errors
/// `invalid` if a marker is missing its counterpart, because it is then unknown which lines are ours.
pub(super) fn blocks(text: &str, comment: Comment) -> Result<Vec<Range<usize>>, Error> {
    let (full, end) = comment.markers();
    let begin = full.split_once(" (").map_or(full, |(begin, _)| begin);
    let lost = |line: usize, has: &str, lacks: &str, what: &str| {
        Error::new(
            ErrorKind::Invalid,
            format!(
                "line {line} is \"{has}\", but \"{lacks}\" is missing; put that line where our lines {what}, or take them all out"
            ),
        )
    };
    let (mut found, mut open, mut at) = (Vec::new(), None, 0);
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let start = at + line.len() - line.trim_start().len();
        at += line.len();
        if line.trim_start().starts_with(begin) {
            if let Some((line, _)) = open.replace((number, start)) {
                return Err(lost(line, full, end, "end"));
            }
        } else if line.trim_start().starts_with(end) {
            let (_, begins) = open.take().ok_or_else(|| lost(number, end, full, "begin"))?;
            found.push(begins..start + end.len());
        }
    }
    match open {
        Some((line, _)) => Err(lost(line, full, end, "end")),
        None => Ok(found),
    }
}
