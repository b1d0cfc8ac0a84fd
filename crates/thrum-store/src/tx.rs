//! The transaction in which a job runs: the connection, the clock, and the state that is held until the transaction
//! ends.
//!
//! A job needs more than a connection. Each own event takes the next sequence, a timestamp later than that of our last
//! event, and an id. Every event of a peer is compared with the purge cutoff. Changes to many rows are deferred to the
//! end of the batch. This state belongs to one transaction and is dropped with it, so [`Tx`] holds all of it.
//!
//! This file holds that state and reads the clock; it does not interpret events. The operations on a transaction are in
//! other files: `append.rs` stores own events, `apply.rs` stores those of a peer, and `ops/` serves the requests of
//! agents.
//!
//! Example: a job calls [`Tx::append`] twice. The first call reads the cutoff from its row and assigns sequence 7, the
//! second uses the cutoff that the transaction has cached and gets sequence 8. If COMMIT fails, the next job's
//! transaction assigns 7 again.

use std::cell::Cell;

use rusqlite::Connection;
use thrum_core::{
    Ambient, DaemonId, DaemonKey, Timestamp,
    ids::{IdKind, IdSource},
    limits,
};

use crate::{
    Reader, StoreError, cutoff, deferred::Deferred, origin::Counters, progress::Progress, transaction_room::Room,
};

/// The transaction in which a job runs.
pub struct Tx<'s> {
    pub(crate) conn: &'s Connection,
    pub(crate) key: &'s DaemonKey,
    pub(crate) id: &'s DaemonId,
    pub(crate) ambient: &'s mut dyn Ambient,
    pub(crate) ids: &'s mut IdSource,
    pub(crate) progress: &'s mut Progress,
    /// Cached value of [`cutoff`](Self::cutoff).
    cutoff: Cell<Option<Timestamp>>,
    /// Cached value of [`highest_cutoff`](Self::highest_cutoff).
    highest_cutoff: Cell<Option<Timestamp>>,
    /// Cached value of [`floor`](Self::floor).
    floor: Cell<Option<Timestamp>>,
    /// Work to be done before the transaction ends.
    pub(crate) deferred: Deferred,
    /// How much pending work the transaction may still do.
    pub(crate) room: Room,
    /// The sequence up to which the log is folded: the last one, except during a rebuild.
    pub(crate) frontier: u64,
    /// Whether the log is folded again from its start; rows then keep their sequences.
    pub(crate) rebuilds: bool,
}

impl<'s> Tx<'s> {
    pub(crate) fn new(
        conn: &'s Connection,
        key: &'s DaemonKey,
        id: &'s DaemonId,
        ambient: &'s mut dyn Ambient,
        ids: &'s mut IdSource,
        progress: &'s mut Progress,
    ) -> Self {
        let (frontier, room) = (progress.counters.next_sequence - 1, Room::new(progress.piece));
        Self {
            conn,
            key,
            id,
            ambient,
            ids,
            progress,
            cutoff: Cell::new(None),
            highest_cutoff: Cell::new(None),
            floor: Cell::new(None),
            deferred: Deferred::default(),
            room,
            frontier,
            rebuilds: false,
        }
    }

    /// The daemon that owns the store; the home of the agents registered here.
    pub fn home(&self) -> &str {
        self.id.as_str()
    }

    /// A reader for queries on the state as this transaction sees it.
    pub fn reader(&self) -> Reader<'_> {
        Reader::new(self.conn, self.id.as_str())
    }

    /// The cutoff of purges for all origins. Its row is read once per transaction, because many events are compared
    /// with it.
    pub(crate) fn cutoff(&self) -> Result<Timestamp, StoreError> {
        if let Some(known) = self.cutoff.get() {
            return Ok(known);
        }
        let cutoff = cutoff::for_everything(self.conn)?;
        self.cutoff.set(Some(cutoff));
        Ok(cutoff)
    }

    /// The highest cutoff of any purge, for one origin or for all.
    pub(crate) fn highest_cutoff(&self) -> Result<Timestamp, StoreError> {
        if let Some(known) = self.highest_cutoff.get() {
            return Ok(known);
        }
        let highest = cutoff::highest(self.conn)?;
        self.highest_cutoff.set(Some(highest));
        Ok(highest)
    }

    /// Discards the cached cutoffs after a purge has changed them.
    pub(crate) fn cutoffs_changed(&mut self) {
        self.cutoff.set(None);
        self.highest_cutoff.set(None);
        self.floor.set(None);
    }

    /// Lower bound for our own timestamps: an event older than a purge cutoff would be discarded. Includes the cutoffs
    /// of parked purges that are due within [`limits::CLOCK_OFF`], which may lie in the future only because our clock
    /// lags. Purges further ahead do not count; otherwise a wrong clock of their daemon would become ours.
    pub(crate) fn floor(&mut self) -> Result<Timestamp, StoreError> {
        if let Some(known) = self.floor.get() {
            return Ok(known);
        }
        let believed = self.now().plus(limits::CLOCK_OFF);
        let floor = cutoff::announced(self.conn, believed)?.max(self.cutoff()?);
        self.floor.set(Some(floor));
        Ok(floor)
    }

    /// The current time. If the clock is not set, or has gone back by at most [`limits::CLOCK_OFF`], the time of the
    /// last write.
    pub(crate) fn now(&mut self) -> Timestamp {
        let (shown, known) = (self.ambient.now(), self.progress.counters.clock_at);
        if shown < Timestamp::PLAUSIBLE || known <= shown.plus(limits::CLOCK_OFF) { shown.max(known) } else { shown }
    }

    /// Returns a new id. Its time is never before a purge cutoff, because the id determines the age of a message or
    /// session.
    ///
    /// # Errors
    /// SQLite's.
    pub(crate) fn new_id(&mut self, kind: IdKind) -> Result<String, StoreError> {
        let floor = self.floor()?.max(self.now());
        loop {
            let id = self.ids.next(kind, &mut NotBefore { ambient: self.ambient, floor });
            // A clock that was ahead and was corrected may show the same millisecond a second time.
            let Counters { last_at, highest_at, .. } = self.progress.counters;
            if last_at == highest_at || !self.is_taken(kind, &id)? {
                return Ok(id);
            }
        }
    }

    fn is_taken(&self, kind: IdKind, id: &str) -> Result<bool, StoreError> {
        let sql = match kind {
            IdKind::Event => "SELECT 1 FROM events WHERE event_id = ?1",
            IdKind::Message | IdKind::Session => "SELECT 1 FROM events WHERE target = ?1",
        };
        Ok(self.conn.prepare_cached(sql)?.exists([id])?)
    }
}

/// A clock that never shows a time before `floor`.
struct NotBefore<'a> {
    ambient: &'a mut dyn Ambient,
    floor: Timestamp,
}

impl Ambient for NotBefore<'_> {
    fn now(&mut self) -> Timestamp {
        self.ambient.now().max(self.floor)
    }

    fn fill(&mut self, buffer: &mut [u8]) {
        self.ambient.fill(buffer);
    }
}
