//! Measures how much storage a peer's events use.

use thrum_core::quota::Amounts;

use crate::{Reader, StoreError};

impl Reader<'_> {
    /// Returns the amount of data stored from these peers, taken together. The numbers of bytes and origins come from the table
    /// `received` (`progress.rs`). Agents and parked events are counted here, which is cheap because quotas bound them.
    ///
    /// # Errors
    /// SQLite's.
    pub fn usage(&self, peers: &[&str]) -> Result<Amounts, StoreError> {
        peers.iter().try_fold(Amounts::NONE, |sum, peer| Ok(sum.plus(&self.usage_of(peer)?)))
    }

    fn usage_of(&self, peer: &str) -> Result<Amounts, StoreError> {
        let mut received =
            self.conn.prepare_cached("SELECT coalesce(sum(bytes), 0), count(*) FROM received WHERE peer = ?1")?;
        let (bytes, origins) = received.query_row([peer], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let count = |sql: &str| -> Result<u64, StoreError> {
            Ok(self.conn.prepare_cached(sql)?.query_row([peer], |row| row.get(0))?)
        };
        Ok(Amounts {
            bytes,
            origins,
            agents: count(
                "SELECT count(*) FROM agents a CROSS JOIN events e ON e.event_id = a.event_id AND +e.origin_daemon = a.home
                 WHERE e.received_from = ?1",
            )?,
            parked: count("SELECT count(*) FROM parked p CROSS JOIN events e USING (event_id, signer) WHERE e.received_from = ?1")?,
        })
    }
}
