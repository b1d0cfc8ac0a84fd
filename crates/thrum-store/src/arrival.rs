//! The arrival times of events, and the times at which they are therefore shown.
//!
//! An event carries the time that its daemon's clock showed. That clock may be years ahead, and mail dated 2099 would
//! stay above all other mail until then. So an event that claims a time ahead of our clock by more than
//! [`limits::CLOCK_AHEAD`] is shown at about its arrival ([`latest_shown`]), or at its own time if that is earlier.
//! This time counts for order, for `--after` and for signs of life. The arrival differs between daemons. Therefore the
//! fold uses it only to fill `shown_at` of messages and sessions, and `at` of mailboxes, which are not part of the
//! digest (I6). A purge also uses the arrival: it lists events that claim a time after its cutoff, but arrived before
//! it (`cutoff.rs`).
//!
//! Only events that lie ahead of our clock have a row in the table `ahead`. It is not part of the projection, so a
//! rebuild shows every event at the same time as before.
//!
//! `clock.rs` handles the case that our own clock was wrong.

use rusqlite::{Connection, OptionalExtension};
use thrum_core::{Event, Timestamp, ids, limits};

use crate::{Reader, StoreError, Tx};

/// Returns `true` if a time lies ahead of the clock by more than correct clocks differ.
pub(crate) fn lies_ahead(at: Timestamp, now: Timestamp) -> bool {
    at > now.plus(limits::CLOCK_AHEAD)
}

/// The latest time at which an event may be shown if it arrives now and claims the time `at`, which lies ahead. If the
/// event is ahead by at most [`limits::CLOCK_OFF`], this is [`limits::CLOCK_AHEAD`] from now. If it were now, the
/// answer to a message that is ahead by exactly [`limits::CLOCK_AHEAD`] would be shown before that message. If the
/// event is ahead by more than [`limits::CLOCK_OFF`], this is now: no answer is stamped after such an event
/// ([`Tx::append`]).
fn latest_shown(at: Timestamp, now: Timestamp) -> Timestamp {
    if at <= now.plus(limits::CLOCK_OFF) { now.plus(limits::CLOCK_AHEAD) } else { now }
}

/// The latest time that an event claims: its own, or that in the id of its target.
pub(crate) fn claimed(at: Timestamp, target: Option<&str>) -> Timestamp {
    target.and_then(ids::ulid_time).map_or(at, |made| made.max(at))
}

/// The time at which the event with this sequence, which claims the time `at`, is shown.
pub(crate) fn shown(conn: &Connection, sequence: u64, at: Timestamp) -> Result<Timestamp, StoreError> {
    let mut statement = conn.prepare_cached("SELECT shown_at FROM ahead WHERE sequence = ?1")?;
    let known: Option<i64> = statement.query_row([sequence], |row| row.get(0)).optional()?;
    Ok(known.map_or(at, |shown| Timestamp::from_nanos(shown).min(at)))
}

/// The time at which an event is shown if only its origin and claimed time are known.
pub(crate) fn shown_of(conn: &Connection, origin: &str, at: Timestamp) -> Result<Timestamp, StoreError> {
    let mut statement =
        conn.prepare_cached("SELECT shown_at FROM ahead WHERE origin = ?1 AND at = ?2 ORDER BY sequence LIMIT 1")?;
    let known: Option<i64> = statement.query_row((origin, at.nanos()), |row| row.get(0)).optional()?;
    Ok(known.map_or(at, |shown| Timestamp::from_nanos(shown).min(at)))
}

/// SQL for [`shown_of`]; NULL if the time is NULL.
pub(crate) fn shown_sql(origin: &str, at: &str) -> String {
    format!(
        "min({at}, coalesce((SELECT h.shown_at FROM ahead h WHERE h.origin = {origin} AND h.at = {at} ORDER BY h.sequence LIMIT 1), {at}))"
    )
}

/// The events of one daemon that lie ahead of the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// The daemon that stamped the events.
    pub origin: String,
    /// The peer that served the event with the latest time; empty for our own.
    pub via: String,
    /// Number of events.
    pub events: u64,
    /// The latest time of these events.
    pub latest: Timestamp,
}

impl Reader<'_> {
    /// Returns the daemons whose events lie ahead of `now` by more than [`limits::CLOCK_OFF`], furthest ahead first, at
    /// most [`limits::MAX_NAMED`].
    ///
    /// # Errors
    /// SQLite's.
    pub fn ahead(&self, now: Timestamp) -> Result<Vec<Ahead>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT a.origin, count(*), max(a.at), (SELECT received_from FROM events WHERE sequence =
                     (SELECT l.sequence FROM ahead l WHERE l.origin = a.origin ORDER BY l.at DESC LIMIT 1))
             FROM ahead a WHERE a.at > ?1 GROUP BY a.origin ORDER BY max(a.at) DESC LIMIT ?2",
        )?;
        let rows = statement.query_map((now.plus(limits::CLOCK_OFF).nanos(), limits::MAX_NAMED), |row| {
            let via: Option<String> = row.get(3)?;
            Ok(Ahead {
                origin: row.get(0)?,
                events: row.get(1)?,
                latest: Timestamp::from_nanos(row.get(2)?),
                via: via.unwrap_or_default(),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

impl Tx<'_> {
    /// Records the arrival of an event if it lies ahead. Does nothing while the clock is not set.
    pub(crate) fn record_if_ahead(
        &mut self,
        event: &Event,
        sequence: u64,
        target: Option<&str>,
    ) -> Result<(), StoreError> {
        let now = self.now();
        if now >= Timestamp::PLAUSIBLE && lies_ahead(claimed(event.at, target), now) {
            record(self.conn, sequence, &event.origin, event.at, now, latest_shown(event.at, now))?;
        }
        Ok(())
    }

    /// The time at which an own event that is written now is shown.
    pub(crate) fn shown_at(&mut self, at: Timestamp) -> Timestamp {
        self.is_ahead(at).map_or(at, |now| latest_shown(at, now))
    }

    /// Returns the current time if `at` lies ahead of it.
    pub(crate) fn is_ahead(&mut self, at: Timestamp) -> Option<Timestamp> {
        let now = self.now();
        (now >= Timestamp::PLAUSIBLE && lies_ahead(at, now)).then_some(now)
    }
}

/// Records the arrival of an event that lies ahead, and the time at which it is shown.
pub(crate) fn record(
    conn: &Connection,
    sequence: u64,
    origin: &str,
    at: Timestamp,
    arrived: Timestamp,
    shown: Timestamp,
) -> Result<(), StoreError> {
    conn.prepare_cached("INSERT OR REPLACE INTO ahead VALUES (?1, ?2, ?3, ?4, ?5)")?.execute((
        sequence,
        origin,
        at.nanos(),
        arrived.nanos(),
        shown.nanos(),
    ))?;
    Ok(())
}
