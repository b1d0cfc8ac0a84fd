//! The text of a message: from the command line, a file or standard input.

use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
};

use thrum_core::{ErrorKind, Fault, limits};

/// Where the text comes from.
#[derive(Debug, clap::Args)]
pub(crate) struct Body {
    /// The text, or - to read it from standard input
    #[arg(value_name = "TEXT", required_unless_present = "body_file", conflicts_with = "body_file")]
    text: Option<String>,
    /// Read the text from this file
    #[arg(long, value_name = "FILE")]
    body_file: Option<PathBuf>,
}

impl Body {
    /// The text. Exactly as it is: line ends, too.
    ///
    /// # Errors
    /// `invalid` if it is empty, longer than 1 MiB or no UTF-8; what the file system says otherwise.
    pub(crate) fn read(self) -> Result<String, Fault> {
        match (self.text.as_deref(), self.body_file) {
            (_, Some(path)) => {
                let cannot = |error| read_fault(&path.display().to_string(), &error);
                let mut file = File::open(&path).map_err(cannot)?;
                bounded(&mut file, &path.display().to_string())
            }
            (Some("-"), None) => bounded(&mut io::stdin().lock(), "standard input"),
            (text, None) => checked(text.unwrap_or_default().to_owned()),
        }
    }
}

fn bounded(source: &mut dyn Read, name: &str) -> Result<String, Fault> {
    let mut bytes = Vec::new();
    // One more than allowed shows that there is more; the rest is not worth reading.
    source.take(limits::MAX_CONTENT_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(|error| read_fault(name, &error))?;
    if bytes.len() > limits::MAX_CONTENT_BYTES {
        return Err(too_long());
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        Fault::new(
            ErrorKind::Invalid,
            format!("{name} is not UTF-8 (byte {} is the first that is wrong)", error.utf8_error().valid_up_to() + 1),
        )
        .hint("Convert it, or send binary data as base64.")
    })?;
    checked(text)
}

fn checked(text: String) -> Result<String, Fault> {
    if text.trim().is_empty() {
        return Err(Fault::new(ErrorKind::Invalid, "the text of the message is empty")
            .hint("Give it as TEXT, as - from standard input, or with --body-file FILE."));
    }
    if text.len() > limits::MAX_CONTENT_BYTES {
        return Err(too_long());
    }
    Ok(text)
}

fn too_long() -> Fault {
    Fault::new(ErrorKind::Invalid, format!("the text of the message is longer than {} bytes", limits::MAX_CONTENT_BYTES))
        .hint("Put it into a file of the repository and send its path.")
}

fn read_fault(name: &str, error: &io::Error) -> Fault {
    let kind = if error.kind() == io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Failed };
    Fault::new(kind, format!("cannot read {name}: {error}"))
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
            let fault = checked(text.to_owned()).unwrap_err();
            assert_eq!((fault.kind, fault.message.as_str()), (ErrorKind::Invalid, "the text of the message is empty"), "{text:?}");
            assert!(fault.hint.unwrap().contains("--body-file"));
        }
        assert_eq!(checked(" x\n".to_owned()).as_deref(), Ok(" x\n"), "what is sent is sent exactly");
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_with_the_place() {
        let fault = bounded(&mut b"ab\xff".as_slice(), "x").unwrap_err();
        assert_eq!((fault.kind, fault.message.as_str()), (ErrorKind::Invalid, "x is not UTF-8 (byte 3 is the first that is wrong)"));
    }
}
