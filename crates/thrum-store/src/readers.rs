//! Read-only connections.

use std::{
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, PoisonError},
};

use rusqlite::{Connection, OpenFlags};

use crate::{StoreError, migrate, store};

/// Connections kept open for reading; as many answers can be worked out at once as two cores have use for, with some waiting
/// on the disk.
const CONNECTIONS: usize = 4;

/// A handful of read-only connections for whoever asks.
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

/// One consistent view of the database; see [`query`](crate::query) for what it answers.
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
    /// Readers of the database that a [`Store`](crate::Store) opened at `path` for the daemon `home`.
    pub fn new(path: &Path, home: &str) -> Self {
        let idle = Mutex::new(Idle { open: 0, connections: Vec::new() });
        Self { path: path.to_owned(), home: home.to_owned(), idle, returned: Condvar::new() }
    }

    /// Readers of a database that this process did not open for writing: beside its daemon, or without one. `None` if there is
    /// no database yet.
    ///
    /// # Errors
    /// [`StoreError::Newer`], [`StoreError::Gos`], [`StoreError::Damaged`]; SQLite's.
    pub fn beside(path: &Path, home: &str) -> Result<Option<Self>, StoreError> {
        if !path.try_exists().map_err(|error| StoreError::ReadOnly(error.to_string()))? {
            return Ok(None);
        }
        let readers = Self::new(path, home);
        readers.with(|reader| migrate::check(reader.conn))?;
        Ok(Some(readers))
    }

    /// Runs `question` on a connection, in one read transaction: all it reads is of one moment. Blocks while all are busy.
    ///
    /// # Errors
    /// SQLite's, and the question's own.
    pub fn with<T>(&self, question: impl FnOnce(&Reader<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let conn = self.take()?;
        let answer = read(&conn, &self.home, question);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // A transaction that could not be ended would keep its view for ever.
        if conn.is_autocommit() {
            idle.connections.push(conn);
        } else {
            idle.open -= 1;
        }
        self.returned.notify_one();
        answer
    }

    fn take(&self) -> Result<Connection, StoreError> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(conn) = idle.connections.pop() {
                return Ok(conn);
            }
            if idle.open < CONNECTIONS {
                let conn = store::connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
                idle.open += 1;
                return Ok(conn);
            }
            idle = self.returned.wait(idle).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn read<T>(conn: &Connection, home: &str, question: impl FnOnce(&Reader<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
    conn.prepare_cached("BEGIN")?.execute([])?;
    let answer = question(&Reader::new(conn, home));
    let end = conn.prepare_cached("COMMIT").and_then(|mut end| end.execute([]));
    let answer = answer?;
    end?;
    Ok(answer)
}
