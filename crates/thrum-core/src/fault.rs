//! The outward face of every error: what kind it is, what happened, what to do next.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What went wrong, for programs: the kind decides the exit code of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// It did not work, and none of the other kinds says why.
    Failed,
    /// The request makes no sense as it is.
    Invalid,
    /// What the request names does not exist.
    NotFound,
    /// It exists, but the caller may not, or not now.
    Refused,
    /// Who should answer is not running.
    Unavailable,
    /// Nothing is known to be wrong; the same request may work later.
    TryAgain,
}

impl ErrorKind {
    /// The exit code of a command that fails so (sysexits.h for the last two).
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
    /// It will fail again.
    Useless,
    /// It may succeed later.
    Useful,
}

/// An error as people and programs outside see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// For programs.
    pub kind: ErrorKind,
    /// One sentence: what happened, and to what.
    pub message: String,
    /// The next step where it is known; a sentence or a command.
    pub hint: Option<String>,
    /// Whether to repeat the request.
    pub retry: Retry,
}

impl Fault {
    /// A fault without a hint; only [`ErrorKind::TryAgain`] and [`ErrorKind::Unavailable`] are worth repeating.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let retry = match kind {
            ErrorKind::TryAgain | ErrorKind::Unavailable => Retry::Useful,
            _ => Retry::Useless,
        };
        Self { kind, message: message.into(), hint: None, retry }
    }

    /// The same with the next step.
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

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}
