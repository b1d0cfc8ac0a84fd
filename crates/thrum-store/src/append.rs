//! Creates own events: stamps, signs, numbers, stores and folds them in one step.
//!
//! Timestamps decide which of two competing events counts. So an own event must be later than the event that it
//! answers, than all own events before it, and than every purge cutoff. The clock alone does not guarantee that: it may
//! have been set back, or lag behind. On the other hand, a peer's clock that is years ahead must not pull ours along.
//!
//! Example: our clock shows 10:00:00 and our last event has 10:00:05. A reply to a message of 10:00:30 gets the next
//! timestamp after 10:00:30, because the clocks differ by less than [`limits::CLOCK_OFF`]. A reply to a message of the
//! year 2099 gets the next timestamp after 10:00:05.

use thrum_core::{Draft, Error, ErrorKind, Event, Payload, SetDigest, Timestamp, bounds, ids, ids::IdKind, limits};

use crate::{StoreError, Tx, fold, origin::Counters};

impl Tx<'_> {
    /// Stamps, signs, numbers, stores and folds an own event. `after` is the time of the event that the new one answers
    /// or confirms. The new event is later than `after`, unless that time is more than [`limits::CLOCK_OFF`] ahead of
    /// our clock. It is also later than all own events before, except those from a time when our own clock was far
    /// ahead.
    ///
    /// # Errors
    /// SQLite's; [`ErrorKind::Invalid`] if the event would be too large, or a field of it exceeds the [`bounds`].
    pub fn append(&mut self, payload: Payload, after: Option<Timestamp>) -> Result<Event, StoreError> {
        let believed = self.now().plus(limits::CLOCK_OFF);
        // Another daemon's clock that is far ahead must not become ours: our events would look new for ever.
        self.append_at(payload, after.filter(|after| *after <= believed))
    }

    /// Appends an event that has an effect only if it is later than an earlier event of the time `after`, for example
    /// because it replaces or hides that event. The new event is later even if the earlier one lies far ahead because
    /// our clock was wrong. The events after the new one are stamped by the clock again.
    ///
    /// # Errors
    /// Those of [`append`](Self::append).
    pub(crate) fn append_over(&mut self, payload: Payload, after: Option<Timestamp>) -> Result<Event, StoreError> {
        self.append_at(payload, after)
    }

    fn append_at(&mut self, mut payload: Payload, after: Option<Timestamp>) -> Result<Event, StoreError> {
        bounds::check(&mut payload)?;
        self.heed_clock()?;
        let now = self.now();
        let after = after.map_or(Timestamp::ZERO, Timestamp::next);
        // Even if the clock was set back or lags, new events must be later than our last one and must not look purged.
        let clock = now.max(self.progress.counters.last_at.next()).max(self.floor()?);
        let id = self.new_id(IdKind::Event)?;
        // Ids run ahead of the clock if many are created in a short time. No event may be earlier than its id: after a
        // restart, ids begin after the last timestamp, and would then repeat.
        let at = clock.max(after).max(ids::ulid_time(&id).unwrap_or_default());
        let Counters { log_id, next_origin_seq, .. } = &self.progress.counters;
        let event = Draft { id, at, payload: &payload }
            .seal(self.key, log_id, *next_origin_seq)
            .map_err(|error| Error::new(ErrorKind::Invalid, format!("the event cannot be stored: {error}")))?;
        let sequence = self.insert(&event, SetDigest::of(event.body.as_bytes()), "", payload.target())?;
        self.progress.counters.next_origin_seq += 1;
        self.progress.counters.last_at = if at <= clock.plus(limits::CLOCK_OFF) { at } else { clock };
        self.progress.counters.highest_at = self.progress.counters.highest_at.max(at);
        fold::fold(self, &event, sequence, Ok(payload))?;
        fold::finish(self)?;
        Ok(event)
    }
}
