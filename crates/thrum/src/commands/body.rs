//! The text of a message: from the command line, a file or standard input.

use std::{
    fs::File,
    io::{self, IsTerminal, Read},
    os::fd::AsFd,
    path::PathBuf,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use thrum_core::{Error, ErrorKind, limits};

use crate::output::Output;

/// How long a command that was not explicitly asked to read standard input waits for it before it prints a note.
const SILENT: Duration = Duration::from_secs(2);

/// How much longer than [`SILENT`] such a command waits before it fails. A test run that is piped into `thrum send` may
/// take minutes, but a command that was given an open pipe by mistake must end.
const UNASKED: Duration = Duration::from_secs(10 * 60);

/// Where the text comes from.
#[derive(Debug, clap::Args)]
pub(crate) struct Body {
    /// The text of the message; - or no argument reads it from standard input
    #[arg(value_name = "TEXT", conflicts_with = "body_file")]
    text: Option<String>,
    /// Read the text from a file
    #[arg(long, value_name = "FILE")]
    body_file: Option<PathBuf>,
}

impl Body {
    /// Reads the text, byte for byte, line ends included.
    ///
    /// # Errors
    /// `invalid` if there is no text, or if it is blank, longer than 1 MiB or not UTF-8; otherwise the file system's
    /// error.
    pub(crate) fn read(self, output: &Output) -> Result<String, Error> {
        match (self.text.as_deref(), self.body_file) {
            (Some("-"), None) => bounded(&mut io::stdin().lock(), "standard input"),
            (_, Some(path)) if path.as_os_str() == "-" => bounded(&mut io::stdin().lock(), "standard input"),
            (_, Some(path)) => {
                let cannot = |error| read_error(&path.display().to_string(), &error);
                let mut file = File::open(&path).map_err(cannot)?;
                bounded(&mut file, &path.display().to_string())
            }
            (Some(text), None) => checked(text.to_owned()),
            (None, None) => {
                unasked("--body-file FILE", output)?;
                bounded(&mut io::stdin().lock(), "standard input")
            }
        }
    }
}

/// Waits until standard input has something to read or ends, for a command that was not explicitly asked to read it.
/// `file` is another way to give a text, for the hint.
///
/// # Errors
/// `invalid` if standard input is a terminal, or is silent for too long.
pub(crate) fn unasked(file: &str, output: &Output) -> Result<(), Error> {
    let stdin = io::stdin();
    let ready = |within: Duration| {
        let within = Timespec::try_from(within).ok();
        let flags = PollFlags::IN | PollFlags::HUP;
        // If the poll is interrupted or not supported, the read will show what there is.
        poll(&mut [PollFd::from_borrowed_fd(stdin.as_fd(), flags)], within.as_ref()).map_or(true, |ready| ready > 0)
    };
    let none = |why: &str| {
        let ways =
            format!("Give the text as TEXT, with {file}, or on standard input (- waits for it as long as it takes).");
        Error::new(ErrorKind::Invalid, format!("no text was given{why}")).hint(ways)
    };
    if stdin.is_terminal() {
        return Err(none(""));
    }
    if !ready(SILENT) {
        output.note("Reading the text from standard input …");
        if !ready(UNASKED) {
            return Err(none(&format!(
                ", and nothing came on standard input within {} minutes",
                UNASKED.as_secs() / 60
            )));
        }
    }
    Ok(())
}

/// A short text such as an intent: the argument, or standard input without trailing white space.
///
/// # Errors
/// `invalid` if nothing was given, or if standard input is blank, too long or not UTF-8; otherwise the error of reading
/// it. An empty argument is a valid text.
pub(crate) fn short(text: Option<String>, output: &Output) -> Result<String, Error> {
    match text {
        Some(text) if text != "-" => return Ok(text),
        Some(_) => {}
        None => unasked("\"\" to clear it", output)?,
    }
    Ok(bounded(&mut io::stdin().lock(), "standard input")?.trim_end().to_owned())
}

fn bounded(source: &mut dyn Read, name: &str) -> Result<String, Error> {
    let mut bytes = Vec::new();
    // One byte more than allowed shows that the text is too long; the rest is not read.
    source
        .take(limits::MAX_CONTENT_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| read_error(name, &error))?;
    if bytes.len() > limits::MAX_CONTENT_BYTES {
        return Err(too_long());
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        Error::new(
            ErrorKind::Invalid,
            format!("{name} is not UTF-8 (byte {} is the first that is wrong)", error.utf8_error().valid_up_to() + 1),
        )
        .hint("Convert it, or send binary data as base64.")
    })?;
    checked(text)
}

/// Returns the text of a message unchanged if it is valid.
///
/// # Errors
/// `invalid` if it is blank or longer than 1 MiB.
pub(crate) fn checked(text: String) -> Result<String, Error> {
    if text.trim().is_empty() {
        return Err(Error::new(ErrorKind::Invalid, "the text is empty")
            .hint("Give it as TEXT, as - from standard input, or with --body-file FILE."));
    }
    if text.len() > limits::MAX_CONTENT_BYTES {
        return Err(too_long());
    }
    Ok(text)
}

fn too_long() -> Error {
    Error::new(
        ErrorKind::Invalid,
        format!("the text of the message is longer than {} bytes", limits::MAX_CONTENT_BYTES),
    )
    .hint("Put it into a file of the repository and send its path.")
}

/// Returns the error for a source of text that cannot be read.
pub(crate) fn read_error(name: &str, error: &io::Error) -> Error {
    let kind = if error.kind() == io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Failed };
    Error::new(kind, format!("cannot read {name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_one_mebibyte_passes_and_one_byte_more_does_not() {
        let of = |length: usize| bounded(&mut io::repeat(b'a').take(length as u64), "x");
        assert_eq!(of(limits::MAX_CONTENT_BYTES).map(|text| text.len()), Ok(limits::MAX_CONTENT_BYTES));
        assert_eq!(of(limits::MAX_CONTENT_BYTES + 1).unwrap_err().kind, ErrorKind::Invalid);
        assert_eq!(of(0).unwrap_err().kind, ErrorKind::Invalid);
    }

    #[test]
    fn a_text_of_nothing_but_space_is_empty() {
        for text in ["", " ", "\n", " \t\r\n", "\u{3000}"] {
            let error = checked(text.to_owned()).unwrap_err();
            assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Invalid, "the text is empty"), "{text:?}");
            assert!(error.hint.unwrap().contains("--body-file"));
        }
        assert_eq!(checked(" x\n".to_owned()).as_deref(), Ok(" x\n"), "what is sent is sent exactly");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused_with_their_position() {
        let error = bounded(&mut b"ab\xff".as_slice(), "x").unwrap_err();
        assert_eq!(
            (error.kind, error.message.as_str()),
            (ErrorKind::Invalid, "x is not UTF-8 (byte 3 is the first that is wrong)")
        );
    }
}
