//! Errors of the store, and the remedies.

use rusqlite::ErrorCode;
use thrum_core::{Error, ErrorKind};

/// Error of a store operation. The transaction, or the job's part of it, was rolled back, so no part of it is stored.
/// Only where a variant says so, all of it may be stored instead.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The request itself was refused, for the reason in the error.
    #[error("{0}")]
    Refused(Error),
    /// The database was made by a newer version. Retrying does not help.
    #[error("the database is of format {found}; this version of thrum reads up to {known}")]
    Newer {
        /// The format of the file: its `user_version`, or the format that a backup's manifest states.
        found: i64,
        /// The newest format that this binary reads.
        known: i64,
    },
    /// The file is not a database, or is a damaged one. Retrying does not help.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// The file is a database of another program, which must not be repaired. Retrying does not help.
    #[error("the database is that of another program")]
    Foreign,
    /// The file is Go Thrum's database. Retrying does not help.
    #[error("the database is one of Go Thrum")]
    Gos,
    /// The disk is full. Retrying helps once there is room.
    #[error("the disk is full: nothing was stored")]
    Full,
    /// The file or its directory cannot be opened, copied or written. Retrying helps once that is possible.
    #[error("the database cannot be written: {0}")]
    ReadOnly(String),
    /// COMMIT failed, or another error ended the transaction, so it is unknown whether the work is durable. Retry with
    /// the same idempotency key.
    #[error("the commit failed, so it is not known whether the work was stored: {0}")]
    Unknown(String),
    /// COMMIT failed because the disk is full, so it is unknown whether the work is durable. Retrying helps once there
    /// is room.
    #[error("the disk is full, so it is not known whether the work was stored")]
    UnknownFull,
    /// Any other error that SQLite reports.
    #[error("database: {0}")]
    Sqlite(String),
    /// The writer has stopped, or accepts no more pieces of batches.
    #[error("the store is closed")]
    Closed,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(text),
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => Self::ReadOnly(text),
            _ => Self::Sqlite(text),
        }
    }
}

impl StoreError {
    /// The error of a failed COMMIT. Whatever the cause, the whole transaction may have reached the disk.
    pub(crate) fn of_commit(error: rusqlite::Error) -> Self {
        if error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
            Self::UnknownFull
        } else {
            Self::Unknown(error.to_string())
        }
    }

    /// A copy of this error, so that each job of a failed group gets one. Kinds that are not copied here become
    /// [`Unknown`](Self::Unknown).
    pub(crate) fn repeated(&self) -> Self {
        match self {
            Self::Full => Self::Full,
            Self::UnknownFull => Self::UnknownFull,
            Self::Damaged(text) => Self::Damaged(text.clone()),
            Self::ReadOnly(text) => Self::ReadOnly(text.clone()),
            Self::Unknown(text) => Self::Unknown(text.clone()),
            other => Self::Unknown(other.to_string()),
        }
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::Refused(error) => error,
            StoreError::Newer { .. } => Self::new(ErrorKind::Refused, message).hint("Install the newer version of thrum that wrote it."),
            StoreError::Damaged(_) => Self::new(ErrorKind::Failed, message)
                .hint("`thrum daemon stop && thrum doctor --fix` saves what can be read of it, and peers bring back what they have. Or put a backup in its place: thrum restore FILE"),
            StoreError::Foreign => Self::new(ErrorKind::Refused, message)
                .hint("Move it away: mkdir .thrum-other && mv .thrum/var/messages.db* .thrum-other/ && thrum doctor --fix"),
            StoreError::Gos => Self::new(ErrorKind::Refused, message)
                .hint("Move it and take it over: thrum daemon stop; mv .thrum .thrum-go && thrum init && thrum import .thrum-go"),
            StoreError::Full => Self::new(ErrorKind::TryAgain, message).hint("Make room and try again."),
            StoreError::ReadOnly(_) => Self::new(ErrorKind::Failed, message).hint("Check owner and permissions of .thrum/var."),
            StoreError::Unknown(_) => Self::new(ErrorKind::TryAgain, message).hint("Try again."),
            StoreError::UnknownFull => Self::new(ErrorKind::TryAgain, message).hint("Make room, then try again."),
            StoreError::Sqlite(_) => Self::new(ErrorKind::Failed, message),
            StoreError::Closed => Self::new(ErrorKind::Unavailable, message),
        }
    }
}
