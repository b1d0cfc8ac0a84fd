//! Stores events from a peer: compares a batch with the log, then stores and folds the new events.
//!
//! A peer is untrusted input. It may serve events repeatedly, other content under a known id, purged events, and events
//! that we signed and do not have. None of these may stop the rest of the batch. The checkpoint must never be ahead of
//! the stored events, because the events in between would not be requested again (I4).
//!
//! Example: of four events, one is already stored, one differs from the stored event of the same id, one is older than
//! the purge cutoff, and one is new. The first is skipped, the second is recorded as rejected, the origin sequence of
//! the third is recorded as purged, and the fourth is stored and folded. Then the checkpoint moves past all four.

use rusqlite::OptionalExtension;
use thrum_core::{
    Event, Payload,
    event::Rejected,
    exchange::{Applied, Batch},
    limits,
};

use crate::{
    StoreError, Tx,
    cutoff::{self, Aged},
    fold,
    numbers::LOG_NUMBER,
    origin::Counters,
    pieces::Content,
};

impl Tx<'_> {
    /// Stores a batch together with the peer's checkpoint (I4). Events that are already stored or that a purge forbids
    /// are skipped. An event that cannot be folded is parked and does not stop the others (I5).
    ///
    /// # Errors
    /// Only those of the disk. Then no part of the batch is stored, and the same batch may be applied again.
    pub fn apply(&mut self, batch: &Batch) -> Result<Applied, StoreError> {
        self.apply_read(batch, batch.events.iter().map(Content::of))
    }

    /// Stores a batch whose `contents`, one per event in the same order, were parsed before the transaction.
    pub(crate) fn apply_read(
        &mut self,
        batch: &Batch,
        contents: impl IntoIterator<Item = Content>,
    ) -> Result<Applied, StoreError> {
        self.heed_clock()?;
        let mut outcome = Applied { rejected: batch.rejected.len(), ..Applied::default() };
        for rejected in &batch.rejected {
            self.reject(&batch.peer, rejected)?;
        }
        for (event, Content { payload, sum }) in batch.events.iter().zip(contents) {
            if let Some(held) = self.held(event)? {
                outcome.skipped += 1;
                if held != event.body {
                    outcome.collided += 1;
                    let reason = "an event with this id and other content is here already".to_owned();
                    let sample =
                        event.body[..event.body.floor_char_boundary(limits::MAX_REJECTED_SAMPLE_BYTES)].to_owned();
                    self.reject(&batch.peer, &Rejected { id: event.id.clone(), reason, sample })?;
                }
                continue;
            }
            let target = payload.as_ref().map_or(None, Payload::target);
            let is_purged = cutoff::is_purged(self.conn, Aged::of(event, target), self.cutoff()?)?;
            let Counters { log_id, next_origin_seq, .. } = &self.progress.counters;
            let is_ours = event.origin == self.id.as_str() && event.log == **log_id;
            // The event's origin sequence was assigned here, and its row is gone: purged, or lost to the disk. A lost
            // event is stored again.
            let is_known = is_ours && event.seq < *next_origin_seq && (is_purged || !self.holds_number(event)?);
            if is_ours && !is_known {
                // We signed this event and do not have it. So this database is an older copy of its log, even if it has
                // assigned the same origin sequence to another event since.
                tracing::warn!(event = %event.id, "a peer holds an event of this daemon that this database never assigned: a new log begins");
                self.progress.counters.begin_log(self.ambient);
            }
            if is_purged {
                self.progress.keep_out(event);
                outcome.skipped += 1;
                continue;
            }
            let sequence = self.insert(event, sum, &batch.peer, target)?;
            fold::fold(self, event, sequence, payload)?;
            outcome.applied += 1;
        }
        outcome.purged = self.deferred.purge;
        fold::finish(self)?;
        if outcome.rejected + outcome.collided > 0 {
            self.trim_rejected(&batch.peer)?;
        }
        if batch.checkpoint > 0 {
            let now = self.now().nanos();
            self.conn
                .prepare_cached("INSERT OR REPLACE INTO checkpoints (peer, log, sequence, at, event_id) VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute((&batch.peer, &batch.log, batch.checkpoint, now, &batch.checkpoint_event))?;
        }
        Ok(outcome)
    }

    /// Removes the checkpoints of a removed peer, and the records of its rejected events.
    ///
    /// # Errors
    /// SQLite's.
    pub fn forget(&mut self, peer: &str) -> Result<(), StoreError> {
        self.conn.execute("DELETE FROM checkpoints WHERE peer = ?1", [peer])?;
        self.conn.execute("DELETE FROM rejections WHERE peer = ?1", [peer])?;
        // If the peer is paired again, its rejected events must be reported as new.
        self.conn.execute("DELETE FROM rejected WHERE peer = ?1", [peer])?;
        Ok(())
    }

    /// Returns the body of the stored event that has the same id and signer as this event.
    fn held(&mut self, event: &Event) -> Result<Option<String>, StoreError> {
        let Some(signer) = self.progress.numbers.signer(self.conn, event)? else { return Ok(None) };
        let mut statement =
            self.conn.prepare_cached("SELECT body FROM event_rows WHERE event_id = ?1 AND signer = ?2")?;
        Ok(statement.query_row((&event.id, signer), |row| row.get(0)).optional()?)
    }

    /// Returns `true` if an event is stored at the origin sequence of this event.
    fn holds_number(&self, event: &Event) -> Result<bool, StoreError> {
        let mut statement = self
            .conn
            .prepare_cached(&format!("SELECT 1 FROM event_rows WHERE log = {LOG_NUMBER} AND origin_seq = ?3"))?;
        Ok(statement.exists((&event.origin, &event.log, event.seq))?)
    }
}
