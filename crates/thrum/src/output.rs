//! The output of a command: results go to standard output, everything else goes to standard error, and errors have one
//! form for users and one for programs.
//!
//! Hints are lines for users and data for programs: with `--json` they are `hints` in the result and `hint` in an
//! error. `--quiet` and the variable `THRUM_NO_HINTS` suppress them.

use std::{
    cell::RefCell,
    env,
    io::{self, IsTerminal, Write},
};

use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind, Retry};

use crate::{
    progress::Progress,
    render::{
        self, HANG, Page, Render,
        style::{DIM, RED, YELLOW},
    },
    text,
};

/// Prints the results, notes and errors of a command.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    /// The hints given so far, which are printed with the result or after it; `None` if hints are suppressed.
    hints: Option<RefCell<Vec<String>>>,
}

impl Output {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        let unwanted =
            quiet || env::var("THRUM_NO_HINTS").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
        Self { json, quiet, hints: (!unwanted).then(RefCell::default) }
    }

    /// Returns `true` if the caller asked for JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints the result of a command: one compact line of JSON, or text. Returns `true` if all of it was written. A
    /// reader that has closed the pipe is not an error.
    pub(crate) fn result(&self, result: &dyn Render) -> Result<bool, Error> {
        let hints = self.hints.as_ref().map(RefCell::take).unwrap_or_default();
        if self.json {
            let mut value = result.json();
            if let (Value::Object(fields), false) = (&mut value, hints.is_empty()) {
                fields.insert("hints".to_owned(), hints.into());
            }
            return if value.is_null() { Ok(true) } else { Self::last(&format!("{}\n", text::json(&value))) };
        }
        let mut page = Page::for_stdout();
        result.human(&mut page);
        let written = Self::last(page.text())?;
        hints.iter().for_each(|hint| Self::say_hint(hint));
        Ok(written)
    }

    /// Prints the final output. If the reader has closed the pipe, the command still ends with its own exit code.
    fn last(text: &str) -> Result<bool, Error> {
        match write(text) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            written => written.or_else(unless_reader_left).map(|()| true),
        }
    }

    /// Prints one compact line of JSON immediately.
    pub(crate) fn json_line(&self, value: &Value) -> Result<(), Error> {
        self.text(&format!("{}\n", text::json(value)))
    }

    /// Prints text immediately and unchanged, except that styles are removed if standard output does not support them.
    pub(crate) fn text(&self, text: &str) -> Result<(), Error> {
        write(text).or_else(unless_reader_left)
    }

    /// Prints bytes immediately: unchanged, or on a terminal as text with control characters escaped.
    pub(crate) fn exactly(&self, bytes: &[u8]) -> Result<(), Error> {
        let mut out = io::stdout().lock();
        if out.is_terminal() {
            return self.text(&format!("{}\n", text::lines(&String::from_utf8_lossy(bytes))));
        }
        out.write_all(bytes).and_then(|()| out.flush()).or_else(unless_reader_left)
    }

    /// Prints a note about what is going on, unless the output is for a program or `--quiet`.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet && !self.json {
            Self::talk_wrapped(&text::lines(text));
        }
    }

    /// Prints a warning, for users or for programs; only `--quiet` suppresses it.
    pub(crate) fn warn(&self, text: &str) {
        if self.quiet {
            return;
        }
        if self.json {
            Self::talk(&text::json(&json!({"warning": {"message": text}})));
        } else {
            Self::talk_wrapped(&format!("{YELLOW}Warning:{YELLOW:#} {}", text::lines(text)));
        }
    }

    /// Shows a progress line while the command works, for users at a terminal only.
    pub(crate) fn progress(&self, what: &str, total: Option<u64>) -> Progress {
        if self.quiet || self.json { Progress::silent() } else { Progress::on_terminal(what, total) }
    }

    /// Suggests the next command. The hint is printed below the result; if the command fails, only the error's own hint
    /// is printed.
    pub(crate) fn hint(&self, text: &str) {
        if let Some(hints) = &self.hints {
            hints.borrow_mut().push(text.to_owned());
        }
    }

    fn say_hint(text: &str) {
        Self::talk_wrapped(&format!("{DIM}Hint:{DIM:#} {}", text::lines(text)));
    }

    /// Prints an error and returns its exit code.
    pub(crate) fn error(&self, error: &Error) -> u8 {
        let hint = error.hint.as_deref().filter(|_| self.hints.is_some());
        if self.json {
            let error = json!({"error": {
                "kind": error.kind, "message": error.message, "hint": hint, "retryable": error.retry == Retry::Useful,
            }});
            Self::talk(&text::json(&error));
        } else {
            Self::talk_wrapped(&format!("{RED}Error:{RED:#} {}", text::lines(&error.message)));
            if let Some(hint) = hint {
                Self::say_hint(hint);
            }
        }
        error.kind.exit_code()
    }

    /// Returns `true` if a user can be asked.
    pub(crate) fn can_ask(&self) -> bool {
        io::stdin().is_terminal()
    }

    /// Asks on the terminal and reads one line; `None` if standard input is not a terminal or has ended.
    pub(crate) fn ask(&self, question: &str) -> Option<String> {
        if !io::stdin().is_terminal() {
            return None;
        }
        let mut err = io::stderr().lock();
        write!(err, "{question}").and_then(|()| err.flush()).ok()?;
        let mut line = String::new();
        (io::stdin().read_line(&mut line).ok()? > 0).then_some(line)
    }

    /// Prints a usage error in the parser's words.
    pub(crate) fn usage(text: &str) {
        Self::talk_wrapped(text.trim_end_matches('\n'));
    }

    /// Prints lines for users, wrapped at words: a terminal would break a long line inside a word.
    fn talk_wrapped(lines: &str) {
        let Some(width) = render::columns(&io::stderr()) else { return Self::talk(lines) };
        let wrapped: Vec<_> = lines.split('\n').map(|line| text::wrapped(line, width, HANG.min(width / 3))).collect();
        Self::talk(&wrapped.join("\n"));
    }

    fn talk(line: &str) {
        // If standard error is closed, there is no way to report it.
        let _ = writeln!(anstream::AutoStream::auto(io::stderr().lock()), "{line}");
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = anstream::AutoStream::auto(io::stdout().lock());
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

/// Handles a failed write to standard output: exits with 0 if the reader has closed the pipe (`thrum inbox | head -1`),
/// otherwise returns an error.
pub(crate) fn unless_reader_left(error: io::Error) -> Result<(), Error> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    Err(Error::new(ErrorKind::Failed, format!("cannot write to standard output: {error}")))
}
