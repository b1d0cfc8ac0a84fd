//! The public form of every error: its kind, what happened, and what to do next.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kind of an error, for programs. It determines the exit code of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request failed for a reason that no other kind describes.
    Failed,
    /// The request itself is invalid.
    Invalid,
    /// Something that the request names does not exist.
    NotFound,
    /// The thing exists, but the caller may not use it, or not now.
    Refused,
    /// The process that should answer is not running or cannot be reached.
    Unavailable,
    /// The request could not be served now; repeated unchanged, it may succeed.
    TryAgain,
}

crate::list_variants!(pub ErrorKind: Failed, Invalid, NotFound, Refused, Unavailable, TryAgain);

impl ErrorKind {
    /// The exit code of a command that fails with this kind (the last two are from sysexits.h).
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Invalid => 2,
            Self::NotFound => 3,
            Self::Refused => 4,
            Self::Unavailable => 69,
            Self::TryAgain => 75,
        }
    }
}

/// Whether the same request may succeed when repeated unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The request will fail again.
    Useless,
    /// The request may succeed later.
    Useful,
}

/// An error as users and other programs see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The kind of error, for programs.
    pub kind: ErrorKind,
    /// One sentence: what happened, and to what.
    pub message: String,
    /// The next step, if known: a sentence or a command.
    pub hint: Option<String>,
    /// Whether to repeat the request unchanged.
    pub retry: Retry,
}

impl Error {
    /// Creates an error without a hint. Only [`ErrorKind::TryAgain`] and [`ErrorKind::Unavailable`] are worth
    /// repeating.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let retry = match kind {
            ErrorKind::TryAgain | ErrorKind::Unavailable => Retry::Useful,
            _ => Retry::Useless,
        };
        Self { kind, message: message.into(), hint: None, retry }
    }

    /// Adds a hint with the next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The `data` of a JSON-RPC error: `{kind, hint?, retryable}`.
    pub fn data(&self) -> serde_json::Value {
        let mut data = serde_json::json!({"kind": self.kind, "retryable": self.retry == Retry::Useful});
        if let Some(hint) = &self.hint {
            data["hint"] = hint.as_str().into();
        }
        data
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
