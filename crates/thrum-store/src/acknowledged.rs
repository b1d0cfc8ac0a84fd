//! How far peers have read our log, by their own word, and when they said so. Kept here only to survive a restart; the daemon
//! decides what to keep ([`limits::MAX_ACKNOWLEDGEMENTS`](thrum_core::limits::MAX_ACKNOWLEDGEMENTS)).

use thrum_core::Stamp;

use crate::{Reader, StoreError, Tx};

impl Reader<'_> {
    /// Every peer with a sequence of our log and when it first had everything up to there, by peer and sequence.
    ///
    /// # Errors
    /// SQLite's.
    pub fn acknowledged(&self) -> Result<Vec<(String, u64, Stamp)>, StoreError> {
        let mut statement = self.conn.prepare_cached("SELECT peer, sequence, at FROM acknowledged ORDER BY peer, sequence")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, Stamp::from_nanos(row.get(2)?))))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

impl Tx<'_> {
    /// Adds what a peer acknowledged; with `afresh`, in place of all it had before.
    ///
    /// # Errors
    /// SQLite's.
    pub fn save_acknowledged(&self, peer: &str, afresh: bool, marks: &[(u64, Stamp)]) -> Result<(), StoreError> {
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
