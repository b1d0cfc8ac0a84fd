//! Rejected events, which stay outside the log: malformed ones, and those with a wrong signature or with other content
//! than the stored event of the same id.
//!
//! They are stored as rows with a sample of the text, for diagnosis, and counted per peer. A peer may serve any number
//! of them, so the rows per peer and in total are bounded. Of a peer's rows the first and the last are kept: the first
//! show how the trouble began. If there are too many rows in total, the oldest rows of the peer with the most are
//! removed.
//!
//! Example: a peer serves the same malformed event at every pull. It is listed once and counted once.

use thrum_core::{event::Rejected, limits};

use crate::{StoreError, Tx};

impl Tx<'_> {
    /// Records a rejected event.
    pub(crate) fn reject(&mut self, peer: &str, rejected: &Rejected) -> Result<(), StoreError> {
        let now = self.now().nanos();
        let news = self
            .conn
            .prepare_cached(
                "INSERT INTO rejected (at, peer, event_id, reason, sample) SELECT ?1, ?2, ?3, ?4, ?5
                 WHERE NOT EXISTS (SELECT 1 FROM rejected WHERE peer = ?2 AND event_id = ?3 AND reason = ?4)",
            )?
            .execute((now, peer, &rejected.id, &rejected.reason, &rejected.sample))?;
        // A repetition is not counted again.
        if news == 0 {
            return Ok(());
        }
        self.conn
            .prepare_cached(
                "INSERT INTO rejections VALUES (?1, 1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET
                     times = times + 1, at = excluded.at, event_id = excluded.event_id, reason = excluded.reason",
            )?
            .execute((peer, now, &rejected.id, &rejected.reason))?;
        Ok(())
    }

    /// Removes rejected rows beyond the bounds. Call it once per batch.
    pub(crate) fn trim_rejected(&self, peer: &str) -> Result<(), StoreError> {
        let half = limits::MAX_REJECTED_OF_PEER / 2;
        self.conn
            .prepare_cached(
                "DELETE FROM rejected WHERE peer = ?1
                 AND number NOT IN (SELECT number FROM rejected WHERE peer = ?1 ORDER BY number LIMIT ?2)
                 AND number NOT IN (SELECT number FROM rejected WHERE peer = ?1 ORDER BY number DESC LIMIT ?2)",
            )?
            .execute((peer, half))?;
        self.conn
            .prepare_cached(
                "DELETE FROM rejected WHERE number IN (
                     SELECT number FROM (SELECT number, row_number() OVER (PARTITION BY peer ORDER BY number DESC) AS nth FROM rejected)
                     ORDER BY nth DESC, number LIMIT max(0, (SELECT count(*) FROM rejected) - ?1))",
            )?
            .execute([limits::MAX_REJECTED_ROWS])?;
        Ok(())
    }
}
