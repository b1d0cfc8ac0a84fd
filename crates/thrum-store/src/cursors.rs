//! Cursors of the readers of an agent's mail: positions in our log, after which all mail is new to the reader.
//!
//! A message is read once, by the first reader that acts in the agent's name. That is not enough for programs that must
//! each report every message once, such as two sessions of one agent, or the two readers of one session's hooks. Each
//! such program has its own name here and a cursor, which survives a restart. Cursors are not part of the projection or
//! its digest, and are not sent to peers.

use rusqlite::OptionalExtension;
use thrum_core::limits;

use crate::{Reader, StoreError, Tx};

impl Reader<'_> {
    /// Returns the position of a reader of the agent's mail; `None` if it never read or was forgotten.
    ///
    /// # Errors
    /// SQLite's.
    pub fn cursor(&self, agent_id: &str, reader: &str) -> Result<Option<u64>, StoreError> {
        let mut statement =
            self.conn.prepare_cached("SELECT sequence FROM cursors WHERE agent_id = ?1 AND reader = ?2")?;
        Ok(statement.query_row((agent_id, reader), |row| row.get(0)).optional()?)
    }
}

impl Tx<'_> {
    /// Moves a reader to `sequence`, forwards or backwards. An agent has at most [`limits::MAX_CURSORS`]; the least
    /// recently moved ones are removed.
    ///
    /// # Errors
    /// SQLite's.
    pub fn move_cursor(&mut self, agent_id: &str, reader: &str, sequence: u64) -> Result<(), StoreError> {
        let now = self.now();
        self.conn
            .prepare_cached(
                "INSERT OR REPLACE INTO cursors (agent_id, reader, sequence, moved_at) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute((agent_id, reader, sequence, now.nanos()))?;
        self.conn
            .prepare_cached(
                "DELETE FROM cursors WHERE agent_id = ?1 AND reader IN
                     (SELECT c.reader FROM cursors c WHERE c.agent_id = ?1 ORDER BY c.moved_at DESC, c.reader LIMIT -1 OFFSET ?2)",
            )?
            .execute((agent_id, limits::MAX_CURSORS))?;
        Ok(())
    }
}
