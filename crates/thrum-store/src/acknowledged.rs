//! How far peers have read our log, according to their own acknowledgements, with times. Stored only to survive a
//! restart; the daemon decides which ones to keep
//! ([`limits::MAX_ACKNOWLEDGEMENTS`](thrum_core::limits::MAX_ACKNOWLEDGEMENTS)).

use thrum_core::Timestamp;

use crate::{Reader, StoreError, Tx};

impl Reader<'_> {
    /// Returns the acknowledgements, ordered by peer and sequence: the peer, a sequence of our log, and a time by which
    /// the peer had everything up to it.
    ///
    /// # Errors
    /// SQLite's.
    pub fn acknowledged(&self) -> Result<Vec<(String, u64, Timestamp)>, StoreError> {
        let mut statement =
            self.conn.prepare_cached("SELECT peer, sequence, at FROM acknowledged ORDER BY peer, sequence")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, Timestamp::from_nanos(row.get(2)?))))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

impl Tx<'_> {
    /// Adds acknowledgements of a peer. With `afresh` they replace all earlier ones.
    ///
    /// # Errors
    /// SQLite's.
    pub fn save_acknowledged(&self, peer: &str, afresh: bool, marks: &[(u64, Timestamp)]) -> Result<(), StoreError> {
        if afresh {
            self.conn.prepare_cached("DELETE FROM acknowledged WHERE peer = ?1")?.execute([peer])?;
        }
        let mut insert = self.conn.prepare_cached("INSERT OR REPLACE INTO acknowledged VALUES (?1, ?2, ?3)")?;
        for (sequence, at) in marks {
            insert.execute((peer, sequence, at.nanos()))?;
        }
        Ok(())
    }
}
