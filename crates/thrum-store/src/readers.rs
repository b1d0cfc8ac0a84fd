//! A pool of read-only connections.

use std::{
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use rusqlite::{Connection, OpenFlags};

use crate::{StoreError, connection, migrate};

/// Maximum number of open read connections: enough to use two cores, with some queries waiting for the disk.
const CONNECTIONS: usize = 4;

/// A small pool of read-only connections.
pub struct Readers {
    path: PathBuf,
    home: String,
    idle: Mutex<Idle>,
    returned: Condvar,
}

struct Idle {
    open: usize,
    connections: Vec<Connection>,
}

/// One consistent view of the database. [`query`](crate::query) contains the queries.
pub struct Reader<'c> {
    pub(crate) conn: &'c Connection,
    pub(crate) home: &'c str,
}

impl<'c> Reader<'c> {
    pub(crate) fn new(conn: &'c Connection, home: &'c str) -> Self {
        Self { conn, home }
    }
}

impl Readers {
    /// Creates readers of the database that a [`Store`](crate::Store) opened at `path` for the daemon `home`.
    pub fn new(path: &Path, home: &str) -> Self {
        let idle = Mutex::new(Idle { open: 0, connections: Vec::new() });
        Self { path: path.to_owned(), home: home.to_owned(), idle, returned: Condvar::new() }
    }

    /// Creates readers of a database that this process has not opened for writing, whether its daemon runs or not.
    /// Returns `None` if there is no database yet.
    ///
    /// # Errors
    /// [`StoreError::Newer`], [`StoreError::Gos`], [`StoreError::Foreign`], [`StoreError::Damaged`],
    /// [`StoreError::ReadOnly`]; SQLite's.
    pub fn beside(path: &Path, home: &str) -> Result<Option<Self>, StoreError> {
        if !path.try_exists().map_err(|error| StoreError::ReadOnly(error.to_string()))? {
            return Ok(None);
        }
        let readers = Self::new(path, home);
        readers.with(|reader| migrate::check(reader.conn))?;
        Ok(Some(readers))
    }

    /// Runs `question` on a connection in one read transaction, so that all its reads see the same state. Blocks while
    /// all connections are busy.
    ///
    /// # Errors
    /// SQLite's, and the question's own.
    pub fn with<T>(&self, question: impl FnOnce(&Reader<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let conn = self.take()?;
        let lost = Lost(self);
        let answer = read(&conn, &self.home, question);
        std::mem::forget(lost);
        let mut idle = self.idle();
        // Drop a connection whose transaction could not be ended; it would keep its old view for ever.
        if conn.is_autocommit() {
            idle.connections.push(conn);
        } else {
            idle.open -= 1;
        }
        self.returned.notify_one();
        answer
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Result<Connection, StoreError> {
        let mut idle = self.idle();
        loop {
            if let Some(conn) = idle.connections.pop() {
                return Ok(conn);
            }
            if idle.open < CONNECTIONS {
                let conn = connection::connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
                idle.open += 1;
                return Ok(conn);
            }
            idle = self.returned.wait(idle).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Counts a connection as closed if the question panics. Otherwise every caller would wait for ever after a few panics.
struct Lost<'r>(&'r Readers);

impl Drop for Lost<'_> {
    fn drop(&mut self) {
        self.0.idle().open -= 1;
        self.0.returned.notify_one();
    }
}

fn read<T>(
    conn: &Connection,
    home: &str,
    question: impl FnOnce(&Reader<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    conn.prepare_cached("BEGIN")?.execute([])?;
    let answer = question(&Reader::new(conn, home));
    let end = conn.prepare_cached("COMMIT").and_then(|mut end| end.execute([]));
    let answer = answer?;
    end?;
    Ok(answer)
}
