//! How results become text: one trait, one page.

use std::io::{self, IsTerminal};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;
use thrum_core::{Stamp, name::printable};

use crate::{text, time};

/// The styles of all output. Left out where the terminal or the reader does not want them (`NO_COLOR`, a pipe).
pub(crate) mod style {
    use clap::builder::styling::{AnsiColor, Style};

    pub(crate) const BOLD: Style = Style::new().bold();
    pub(crate) const DIM: Style = Style::new().dimmed();
    pub(crate) const RED: Style = AnsiColor::Red.on_default().bold();
    pub(crate) const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
    pub(crate) const GREEN: Style = AnsiColor::Green.on_default();
    pub(crate) const CYAN: Style = AnsiColor::Cyan.on_default();
}

use style::{BOLD, CYAN, DIM};

/// What a command gives back.
pub(crate) trait Render {
    /// Text for people. Others' words go through [`Page`]'s methods or [`text`].
    fn human(&self, page: &mut Page);

    /// The contract with programs: fields are added, never renamed.
    fn json(&self) -> Value;

    /// The exit code, where a result is not simply a success.
    fn code(&self) -> u8 {
        0
    }
}

/// A text in the making, and what it must know about its reader.
pub(crate) struct Page {
    text: String,
    /// The columns of the terminal; `None` if there is none.
    width: Option<u16>,
    now: Stamp,
}

impl Page {
    pub(crate) fn for_stdout() -> Self {
        // Who forces colours on a pipe shows it to people, as `thrum demo` does.
        let forced = std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0");
        let terminal = io::stdout().is_terminal() || forced;
        let columns = || rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| size.ws_col).filter(|columns| *columns > 0);
        Self::new(terminal.then(|| columns().unwrap_or(80)), time::now())
    }

    /// For a terminal of `width` columns, or none, at the time `now`.
    pub(crate) fn new(width: Option<u16>, now: Stamp) -> Self {
        Self { text: String::new(), width, now }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The text as a pipe gets it, without styles.
    #[cfg(test)]
    pub(crate) fn plain(&self) -> String {
        anstream::adapter::strip_str(&self.text).to_string()
    }

    pub(crate) fn now(&self) -> Stamp {
        self.now
    }

    /// Adds a line as it is.
    pub(crate) fn line(&mut self, line: impl AsRef<str>) {
        self.text.push_str(line.as_ref());
        self.text.push('\n');
    }

    /// Adds a body, indented; its own line breaks stay.
    pub(crate) fn body(&mut self, body: &str, indent: &str) {
        for line in text::lines(body).lines() {
            self.line(format!("{indent}{line}").trim_end());
        }
    }

    /// Adds `Name:  value` with the value in a column of its own.
    pub(crate) fn field(&mut self, name: &str, value: impl AsRef<str>) {
        self.line(format!("{DIM}{:<12}{DIM:#} {}", format!("{name}:"), value.as_ref()));
    }

    /// An instant: how long ago for people at a terminal, RFC 3339 for everyone else.
    pub(crate) fn time(&self, then: Stamp) -> String {
        if self.width.is_some() { time::ago(self.now, then) } else { time::exact(then) }
    }

    /// How long something has lasted.
    pub(crate) fn lasting(&self, since: Stamp) -> String {
        if self.width.is_some() { time::brief(self.now.since(since)) } else { format!("since {}", time::exact(since)) }
    }

    /// Adds a table without lines around its cells, as wide as the terminal at most.
    pub(crate) fn table(&mut self, header: &[&str], rows: Vec<Vec<String>>) {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(header.iter().copied());
        table.add_rows(rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect::<Vec<_>>()));
        if let Some(width) = self.width {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width.max(20));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        for (index, line) in table.lines().enumerate() {
            let line = line.trim_end();
            if index == 0 { self.line(format!("{BOLD}{line}{BOLD:#}")) } else { self.line(line) }
        }
    }
}

/// `@name`, as agents are addressed.
pub(crate) fn agent(name: &str) -> String {
    format!("{CYAN}@{}{CYAN:#}", printable(name))
}

/// The same result as it is: what one call gave, in both forms. For commands whose whole result is a line and a value.
pub(crate) struct Said {
    pub(crate) line: String,
    pub(crate) value: Value,
}

impl Render for Said {
    fn human(&self, page: &mut Page) {
        page.line(&self.line);
    }

    fn json(&self) -> Value {
        self.value.clone()
    }
}

/// Nothing more to say: what had to be printed was printed while it happened.
pub(crate) struct Silent;

impl Render for Silent {
    fn human(&self, _: &mut Page) {}

    fn json(&self) -> Value {
        Value::Null
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Stamp {
        Stamp::from_millis(seconds * 1000).unwrap()
    }

    #[test]
    fn people_at_a_terminal_read_how_long_ago_and_everyone_else_reads_when() {
        assert_eq!(Page::new(Some(80), at(100_000)).time(at(99_700)), "5m ago");
        assert_eq!(Page::new(None, at(100_000)).time(at(99_700)), "1970-01-02T03:41:40Z");
    }

    #[test]
    fn a_table_stays_within_a_narrow_terminal_and_wide_characters_keep_its_columns() {
        let rows = || vec![vec!["日本語の名前".to_owned(), "127.0.0.1:9100".to_owned()], vec!["ann\x1b[2J".to_owned(), "x".repeat(60)]];
        let mut wide = Page::new(None, at(0));
        wide.table(&["NAME", "ADDRESS"], rows());
        let lines: Vec<_> = wide.text().lines().collect();
        assert_eq!(lines[1], "日本語の名前  127.0.0.1:9100", "twelve columns, as the name below has");
        assert!(lines[2].starts_with("ann\\u{1b}[2J"), "{}", lines[2]);
        let mut narrow = Page::new(Some(40), at(0));
        narrow.table(&["NAME", "ADDRESS"], rows());
        assert!(narrow.text().lines().skip(1).all(|line| line.chars().count() <= 40), "{}", narrow.text());
    }

    #[test]
    fn a_body_is_indented_and_keeps_its_lines() {
        let mut page = Page::new(Some(80), at(0));
        page.body("one\n\n  two\n", "    ");
        assert_eq!(page.text(), "    one\n\n      two\n");
    }
}
