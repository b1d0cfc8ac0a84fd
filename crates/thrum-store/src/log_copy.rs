//! Reads, from a private copy, the log of a database whose daemon is not running. The original and the files beside it
//! stay unchanged; SQLite may create or change some of these files even for a reader.

use std::{fs, io, path::Path};

use rusqlite::{Connection, OpenFlags};

use crate::{StoreError, connection, migrate};

/// A copy of a log; empty if there is no database yet.
pub struct LogCopy(Option<Connection>);

impl LogCopy {
    /// Copies the database at `path` into `scratch`, a private directory with room for it.
    ///
    /// # Errors
    /// [`StoreError::Newer`], [`StoreError::Gos`], [`StoreError::Foreign`], [`StoreError::Damaged`]; those of the disk.
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
        let conn = connection::connect(&copy, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        Ok(Self((migrate::check(&conn)? > 0).then_some(conn)))
    }

    /// Returns `true` if exactly this event is in the log.
    ///
    /// # Errors
    /// SQLite's.
    pub fn holds(&self, event_id: &str, body: &str) -> Result<bool, StoreError> {
        let Some(conn) = &self.0 else { return Ok(false) };
        Ok(conn.prepare_cached("SELECT 1 FROM events WHERE event_id = ?1 AND body = ?2")?.exists((event_id, body))?)
    }
}
