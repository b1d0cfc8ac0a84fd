//! Purge cutoffs: determines the events that purges remove, whenever these events arrive.
//!
//! Of all purges the highest cutoff counts. A signed purge removes older events of all origins. A purge by an origin
//! that signs nothing could be served by any peer in that origin's name, so it removes only events that claim the same
//! origin: whoever can forge the purge could forge these events as well.
//!
//! Purged rows leave the log, and are not accepted again from peers that still have them. All daemons must arrive at
//! the same rows, so the decision may depend only on the event and the purges. An edit or a receipt follows its
//! message, not its own time, even if the message was never present here: a message's id contains its creation time. If
//! an id contains none (no version of Thrum makes such ids), each event follows its own time.
//!
//! An event that claims a time far in the future would survive all purges until that time. Whether it arrived before
//! the cutoff differs between daemons. So the daemon that purges lists such events in the purge itself
//! ([`lying_ahead`]), by id, and all daemons remove the same events.
//!
//! Registrations, deletions of messages, clean-ups, claims, purges, and events of groups and of unknown types stay.
//! Most of them are needed to rebuild the projection, for example to know what a clean-up hides.
//!
//! Example: a purge with the cutoff March 1 was folded. A receipt of March 5 for a message whose id was made on
//! February 20 is purged, and the copy that a peer serves is skipped. The deletion of that message stays in the log.
//!
//! This file only decides; it changes nothing. The fold of a purge moves the cutoff, and the sweep deletes the rows
//! (`fold/purge.rs`).

use std::collections::BTreeSet;

use rusqlite::{Connection, Row};
use thrum_core::{
    Event, Timestamp, ids, key,
    payload::{Ages, EventType, Subject},
};

use crate::{StoreError, parked_kind::ParkedKind};

/// The result of a purge, or of its preview.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Number of messages that are removed, including deleted ones.
    pub messages: u64,
    /// Number of sessions that are removed.
    pub sessions: u64,
    /// Number of events that leave the log.
    pub events: u64,
}

/// The properties of an event that decide whether it is purged.
#[derive(Clone, Copy)]
pub(crate) struct Aged<'a> {
    pub(crate) id: &'a str,
    pub(crate) origin: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) at: Timestamp,
    /// The message, session or agent to which the event refers.
    pub(crate) target: Option<&'a str>,
}

impl<'a> Aged<'a> {
    /// Extracts the deciding properties of an event with this target.
    pub(crate) fn of(event: &'a Event, target: Option<&'a str>) -> Self {
        Self { id: &event.id, origin: &event.origin, kind: &event.kind, at: event.at, target }
    }

    /// Extracts the deciding properties of a row whose first columns are `sequence, type, at, target, origin_daemon,
    /// event_id` of `events`.
    pub(crate) fn of_row(row: &'a Row<'_>) -> rusqlite::Result<Self> {
        let text = |column| -> rusqlite::Result<Option<&'a str>> { Ok(row.get_ref(column)?.as_str_or_null()?) };
        Ok(Self {
            id: text(5)?.unwrap_or_default(),
            origin: text(4)?.unwrap_or_default(),
            kind: text(1)?.unwrap_or_default(),
            at: Timestamp::from_nanos(row.get(2)?),
            target: text(3)?,
        })
    }

    /// Returns how purges remove events of this type.
    pub(crate) fn ages(self) -> Ages {
        EventType::by_name(self.kind).map_or(Ages::Never, |known| known.ages)
    }

    /// Returns `true` if a purge with this cutoff removes the event without listing it.
    fn is_before(self, cutoff: Timestamp) -> bool {
        match (self.ages(), self.target) {
            (Ages::Never, _) => false,
            (Ages::WithTarget, Some(target)) => is_older(target, self.at, cutoff),
            (Ages::WithTarget, None) | (Ages::ByTime, _) => self.at < cutoff,
        }
    }

    /// The id under which a purge may list the event: its target's id if that contains a time, otherwise its own.
    /// `None` if no purge removes it.
    fn name(self) -> Option<&'a str> {
        match (self.ages(), self.target) {
            (Ages::Never, _) => None,
            (Ages::WithTarget, Some(target)) if ids::ulid_time(target).is_some() => Some(target),
            (Ages::WithTarget | Ages::ByTime, _) => Some(self.id),
        }
    }
}

/// Returns `true` if a purge removes this event. `everything` is the cutoff for all origins.
pub(crate) fn is_purged(conn: &Connection, event: Aged<'_>, everything: Timestamp) -> Result<bool, StoreError> {
    if event.is_before(for_origin(conn, event.origin, everything)?) {
        return Ok(true);
    }
    event.name().map_or(Ok(false), |name| is_named(conn, name, event.origin))
}

/// Returns `true` if a message or session is older than a cutoff, by the time in its id, or by the time `at` of the
/// event if the id contains none. Ids count milliseconds: an id of the same millisecond as the cutoff is not older.
pub(crate) fn is_older(target: &str, at: Timestamp, cutoff: Timestamp) -> bool {
    ids::ulid_time(target).map_or(at < cutoff, |made| made.millis() < cutoff.millis())
}

/// The scope of a purge by `origin`: the origin whose events it removes, or empty for all origins.
pub(crate) fn scope(origin: &str) -> &str {
    if key::is_signed_origin(origin) { "" } else { origin }
}

/// The highest cutoff for all origins among the purges that have taken effect; zero if there is none.
pub(crate) fn for_everything(conn: &Connection) -> Result<Timestamp, StoreError> {
    for_scope(conn, "")
}

/// The highest cutoff for this scope among the purges that have taken effect; zero if there is none.
pub(crate) fn for_scope(conn: &Connection, scope: &str) -> Result<Timestamp, StoreError> {
    let mut statement = conn.prepare_cached("SELECT coalesce((SELECT cutoff FROM cutoffs WHERE origin = ?1), 0)")?;
    Ok(Timestamp::from_nanos(statement.query_row([scope], |row| row.get(0))?))
}

/// The cutoff for events of `origin`. `everything` is the cutoff for all origins.
pub(crate) fn for_origin(conn: &Connection, origin: &str, everything: Timestamp) -> Result<Timestamp, StoreError> {
    match scope(origin) {
        "" => Ok(everything),
        own => Ok(for_scope(conn, own)?.max(everything)),
    }
}

/// The highest cutoff of all purges that have taken effect, whatever their scope. Go Thrum, for example, applies every
/// purge to all origins.
pub(crate) fn highest(conn: &Connection) -> Result<Timestamp, StoreError> {
    let mut statement = conn.prepare_cached("SELECT coalesce(max(cutoff), 0) FROM cutoffs")?;
    Ok(Timestamp::from_nanos(statement.query_row([], |row| row.get(0))?))
}

/// Returns `true` if purges remove the events of all origins about this event's target, not only those of its own
/// origin.
pub(crate) fn takes_of_everybody(
    conn: &Connection,
    event: Aged<'_>,
    everything: Timestamp,
) -> Result<bool, StoreError> {
    is_purged(conn, Aged { origin: "", ..event }, everything)
}

/// The highest cutoff of the parked purges for all origins that are due by `until`; zero if there is none.
pub(crate) fn announced(conn: &Connection, until: Timestamp) -> Result<Timestamp, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT coalesce(max(due), 0) FROM parked WHERE due IS NOT NULL AND due <= ?1 AND kind = ?2 AND signer <> ''",
    )?;
    Ok(Timestamp::from_nanos(statement.query_row((until.nanos(), ParkedKind::PurgeAhead), |row| row.get(0))?))
}

/// Returns `true` if purges for all origins remove a message with this id, as far as the id shows.
pub(crate) fn is_gone(conn: &Connection, message_id: &str) -> Result<bool, StoreError> {
    let Some(made) = ids::ulid_time(message_id) else { return Ok(false) };
    Ok(made.millis() < for_everything(conn)?.millis() || is_named(conn, message_id, "")?)
}

/// Returns `true` if a purge lists this id, for events of `origin`.
fn is_named(conn: &Connection, name: &str, origin: &str) -> Result<bool, StoreError> {
    Ok(conn
        .prepare_cached("SELECT 1 FROM purged_ahead WHERE id = ?1 AND origin IN ('', ?2)")?
        .exists((name, origin))?)
}

/// Returns `true` if purges remove the message that the event with this sequence created. `everything` is the cutoff
/// for all origins.
pub(crate) fn takes_message(conn: &Connection, sequence: i64, everything: Timestamp) -> Result<bool, StoreError> {
    let mut statement = conn
        .prepare_cached("SELECT sequence, type, at, target, origin_daemon, event_id FROM events WHERE sequence = ?1")?;
    let mut rows = statement.query([sequence])?;
    match rows.next()? {
        Some(row) => is_purged(conn, Aged::of_row(row)?, everything),
        None => Ok(false),
    }
}

/// The ids that a purge of everything before `cutoff` must list: those of events that arrived before the cutoff, but
/// claim a later time.
pub(crate) fn lying_ahead(conn: &Connection, cutoff: Timestamp) -> Result<BTreeSet<String>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT e.sequence, e.type, e.at, e.target, e.origin_daemon, e.event_id, a.arrived_at
         FROM ahead a JOIN events e USING (sequence) WHERE a.arrived_at < ?1",
    )?;
    let mut rows = statement.query([cutoff.nanos()])?;
    let mut names = BTreeSet::new();
    while let Some(row) = rows.next()? {
        let (event, arrived) = (Aged::of_row(row)?, Timestamp::from_nanos(row.get(6)?));
        let Some(name) = event.name().filter(|_| !event.is_before(cutoff)) else { continue };
        // The time of an edit or a receipt that lies ahead does not show the time of its message.
        if name == event.id || ids::ulid_time(name).is_some_and(|made| made > arrived) {
            names.insert(name.to_owned());
        }
    }
    Ok(names)
}

/// Counts what a signed purge with this cutoff would remove now. Reads all rows, because an index by age would cost
/// space for every message.
pub(crate) fn preview(conn: &Connection, cutoff: Timestamp) -> Result<Purged, StoreError> {
    let listed = lying_ahead(conn, cutoff)?;
    let mut would = Purged::default();
    let mut sessions = BTreeSet::new();
    let mut message = conn.prepare_cached("SELECT 1 FROM messages WHERE sequence = ?1")?;
    let mut session = conn.prepare_cached("SELECT 1 FROM sessions WHERE session_id = ?1")?;
    let mut statement =
        conn.prepare_cached("SELECT sequence, type, at, target, origin_daemon, event_id FROM events")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let event = Aged::of_row(row)?;
        if !event.is_before(cutoff) && !event.name().is_some_and(|name| listed.contains(name)) {
            continue;
        }
        would.events += 1;
        if event.kind == "message.create" && message.exists([row.get::<_, u64>(0)?])? {
            would.messages += 1;
        } else if EventType::by_name(event.kind).is_some_and(|known| known.target == Some(Subject::Session))
            && session.exists([event.target])?
        {
            sessions.extend(event.target.map(str::to_owned));
        }
    }
    would.sessions = sessions.len() as u64;
    Ok(would)
}
