//! Opens connections to a database, with the same settings for writing and reading.
//!
//! SQLite keeps files beside a database (`messages.db-wal`) that belong to it. Opening a database whose own file is
//! missing or empty deletes its write-ahead log, which may hold the only copy of committed data. [`connect`] refuses
//! such a file before SQLite opens it. [`empty_log`] moves the content of the write-ahead log into the database file.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use crate::StoreError;

/// Number of compiled statements that a connection keeps. Larger than the number of statements in this crate (some
/// 250), so that none is compiled twice: compiling a statement costs as much as running it ten times.
const STATEMENTS: usize = 320;

/// The path of the file with this suffix that SQLite keeps beside a database.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// How long a connection waits for a lock. There is only one writer, so connections rarely wait for each other: mainly for
/// a checkpoint.
pub(crate) const BUSY: Duration = Duration::from_secs(5);

/// Opens a connection with our settings.
///
/// # Errors
/// [`StoreError::Damaged`] for a file without pages that has a write-ahead log; SQLite's.
pub(crate) fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    // SQLite deletes the write-ahead log of a database without pages, even on a read-only connection. That file may be
    // the only data left.
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |about| about.len());
    if length(path) == 0 && length(&beside(path, "-wal")) > 0 {
        return Err(StoreError::Damaged("the file is gone or empty, and its write-ahead log is not".to_owned()));
    }
    let conn = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(BUSY)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    // Otherwise SQLite compiles a statement again whenever a value is bound that decides whether a partial index
    // applies, such as `due <= ?1` beside an index `WHERE due IS NOT NULL`.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // Otherwise SQLite would copy every page that a job in a savepoint changes to a temporary file.
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(conn)
}

/// Checkpoints the whole write-ahead log into the database file and empties its own file. Returns `false` if a reader
/// or another writer still needs a part of it after the connection's busy timeout.
pub(crate) fn empty_log(conn: &Connection) -> rusqlite::Result<bool> {
    let is_busy: bool = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    Ok(!is_busy)
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    #[test]
    fn a_bound_value_never_compiles_a_statement_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let conn = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE).unwrap();
        conn.execute_batch(
            "CREATE TABLE t (a INTEGER PRIMARY KEY, kind TEXT); CREATE INDEX i ON t (kind) WHERE kind = 'purge';",
        )
        .unwrap();
        let mut statement = conn.prepare("SELECT max(a) FROM t WHERE kind = ?1").unwrap();
        for kind in ["mail", "purge", "mail", "purge"] {
            statement.query_row([kind], |_| Ok(())).unwrap();
        }
        assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
    }

    /// Counts the calls of `prepare_cached` in the source, each of which is taken for one statement.
    #[test]
    fn a_connection_keeps_all_statements_of_this_crate() {
        fn count(directory: &Path) -> usize {
            let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
            entries
                .map(|path| {
                    if path.is_dir() {
                        return count(&path);
                    }
                    std::fs::read_to_string(&path).unwrap().matches(".prepare_cached(").count()
                })
                .sum()
        }
        let found = count(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
        assert!((100..STATEMENTS).contains(&found), "{found} statements, {STATEMENTS} are kept");
    }
}
