//! Opens connections to a database, with the same settings for writing and reading.
//!
//! SQLite keeps files beside a database (`messages.db-wal`) that belong to it. Opening a database whose own file is
//! missing or empty deletes its write-ahead log, which may hold the only copy of committed data. [`connect`] refuses
//! such a file before SQLite opens it.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::StoreError;

/// The path of the file that SQLite keeps beside a database with this suffix.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Opens a connection with our settings.
///
/// # Errors
/// [`StoreError::Damaged`] for a file without pages that has a write-ahead log; SQLite's.
pub(crate) fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    // SQLite deletes the log of a database without pages, even on a read-only connection. That log may be the only data
    // left.
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |about| about.len());
    if length(path) == 0 && length(&beside(path, "-wal")) > 0 {
        return Err(StoreError::Damaged("the file is gone or empty, and its write-ahead log is not".to_owned()));
    }
    let conn = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // There is only one writer, so only a checkpoint can make a connection wait.
    conn.busy_timeout(std::time::Duration::from_secs(5))?;
    conn.set_prepared_statement_cache_capacity(64);
    // Otherwise SQLite would keep copies of the pages that jobs in savepoints change in a file beside the database.
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(conn)
}
