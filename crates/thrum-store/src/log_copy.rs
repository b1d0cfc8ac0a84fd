//! The log of a database whose daemon does not run, looked at in a private copy: nothing beside the original changes, not even
//! the files that SQLite makes for a reader.

use std::{fs, io, path::Path};

use rusqlite::{Connection, OpenFlags};

use crate::{StoreError, migrate, store};

/// A copy of a log; empty where there is no database yet.
pub struct LogCopy(Option<Connection>);

impl LogCopy {
    /// Copies the database at `path` into `scratch`, a private directory with room for it.
    ///
    /// # Errors
    /// [`StoreError::Newer`], [`StoreError::Gos`], [`StoreError::Foreign`], [`StoreError::Damaged`]; the disk's.
    pub fn of(path: &Path, scratch: &Path) -> Result<Self, StoreError> {
        let copy = scratch.join("log.db");
        let failed = |error: io::Error| StoreError::ReadOnly(format!("cannot copy {}: {error}", path.display()));
        match fs::copy(path, &copy) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self(None)),
            copied => copied.map_err(failed)?,
        };
        match fs::copy(path.with_extension("db-wal"), copy.with_extension("db-wal")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            copied => drop(copied.map_err(failed)?),
        }
        let conn = store::connect(&copy, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        Ok(Self((migrate::check(&conn)? > 0).then_some(conn)))
    }

    /// Whether this event is there, word for word.
    ///
    /// # Errors
    /// SQLite's.
    pub fn holds(&self, event_id: &str, body: &str) -> Result<bool, StoreError> {
        let Some(conn) = &self.0 else { return Ok(false) };
        Ok(conn.prepare_cached("SELECT 1 FROM events WHERE event_id = ?1 AND body = ?2")?.exists((event_id, body))?)
    }
}
