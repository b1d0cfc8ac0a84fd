//! Purges: one cutoff, the highest, takes away what is older, whenever it comes.
//!
//! A purge that is signed takes away everything. One of an origin that signs nothing could be served by anybody in that origin's name,
//! so it takes away only what is said to be written by that origin: who can forge the purge could forge these events as well.
//!
//! What is purged is gone: its rows leave the log, and it is not taken again from whoever still has it. So that every daemon
//! comes to the same rows, whether an event goes must follow from the event and the cutoff alone, whatever else is here. An
//! edit or a receipt goes with its message, not by its own time, although the message may never have been here: a message's
//! id says when it was made. Where an id says no time, which no Thrum ever made, each event goes by its own.
//!
//! Registrations, deletions, clean-ups, groups and purges stay: a rebuilt projection could not know what they had hidden.
//!
//! A fold only sets the cutoff. [`sweep`] does the work, once at the end of a batch, however many purges were in it.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;
use thrum_core::{Stamp, Sum, ids, key, limits, payload::PurgeExecuted};

use super::{At, Folded, message, session};
use crate::{StoreError, Tx, migrate::overwrite};

/// What a purge takes away, or would.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Messages that are shown no more.
    pub messages: u64,
    /// Sessions that are shown no more.
    pub sessions: u64,
    /// Events that leave the log.
    pub events: u64,
}

/// Why a purge is parked that is due within [`limits::PURGE_AHEAD`]: until then peers may have folded different things.
pub(crate) const AHEAD: &str = "it lies in the future";

/// Why one is parked that is not.
pub(crate) const FAR_AHEAD: &str = "it lies more than a day in the future";

/// The types of events that age: what is about a message or a session has its age, a context its own.
const BY_TARGET: [&str; 5] = ["message.create", "message.edit", "message.receipt", "agent.session.start", "agent.session.end"];
const BY_TIME: &str = "agent.update";

/// Whether a cutoff takes this event away. `target` is the message or session it is about.
pub(crate) fn is_purged(kind: &str, at: Stamp, target: Option<&str>, cutoff: Stamp) -> bool {
    if BY_TARGET.contains(&kind) { target.map_or(at < cutoff, |target| is_old(target, at, cutoff)) } else { kind == BY_TIME && at < cutoff }
}

/// Ids count milliseconds; one that began before the cutoff and ended after it is not before it.
fn is_old(target: &str, at: Stamp, cutoff: Stamp) -> bool {
    ids::ulid_time(target).map_or(at < cutoff, |made| made.millis() < cutoff.millis())
}

/// Whose events a purge of `origin` takes away: empty for everybody's.
fn scope(origin: &str) -> &str {
    if key::is_signed_origin(origin) { "" } else { origin }
}

/// The highest cutoff for everything that was due: what is older of messages, sessions and contexts is gone.
pub(crate) fn cutoff(conn: &Connection) -> Result<Stamp, StoreError> {
    cutoff_in(conn, "")
}

/// The highest cutoff for this scope that was due.
fn cutoff_in(conn: &Connection, scope: &str) -> Result<Stamp, StoreError> {
    let mut statement = conn.prepare_cached("SELECT coalesce((SELECT cutoff FROM cutoffs WHERE origin = ?1), 0)")?;
    Ok(Stamp::from_nanos(statement.query_row([scope], |row| row.get(0))?))
}

/// The cutoff for events of `origin`, where `everything` is the one for everything.
pub(crate) fn cutoff_of(conn: &Connection, origin: &str, everything: Stamp) -> Result<Stamp, StoreError> {
    match scope(origin) {
        "" => Ok(everything),
        own => Ok(cutoff_in(conn, own)?.max(everything)),
    }
}

/// The highest cutoff of any purge: Go Thrum takes every purge for one of everything.
pub(crate) fn cutoff_at_go(conn: &Connection) -> Result<Stamp, StoreError> {
    let mut statement = conn.prepare_cached("SELECT coalesce(max(cutoff), 0) FROM cutoffs")?;
    Ok(Stamp::from_nanos(statement.query_row([], |row| row.get(0))?))
}

/// The cutoffs that a log is held against.
struct Cutoffs {
    everything: Stamp,
    by_origin: BTreeMap<String, Stamp>,
}

impl Cutoffs {
    fn all(conn: &Connection) -> Result<Self, StoreError> {
        let mut statement = conn.prepare_cached("SELECT origin, cutoff FROM cutoffs WHERE origin <> ''")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, Stamp::from_nanos(row.get(1)?))))?;
        Ok(Self { everything: cutoff(conn)?, by_origin: rows.collect::<Result<_, _>>()? })
    }

    fn of(&self, origin: &str) -> Stamp {
        self.by_origin.get(origin).map_or(self.everything, |own| self.everything.max(*own))
    }
}

/// The highest cutoff for everything that still waits for its time, of those up to an instant.
pub(crate) fn announced(conn: &Connection, until: Stamp) -> Result<Stamp, StoreError> {
    let mut statement = conn
        .prepare_cached("SELECT coalesce(max(due), 0) FROM parked WHERE due IS NOT NULL AND due <= ?1 AND reason = ?2 AND signer <> ''")?;
    Ok(Stamp::from_nanos(statement.query_row((until.nanos(), AHEAD), |row| row.get(0))?))
}

/// Whether a purge waits that is due soon.
pub(crate) fn waits(conn: &Connection) -> Result<bool, StoreError> {
    Ok(conn.prepare_cached("SELECT 1 FROM parked WHERE due IS NOT NULL AND reason = ?1 LIMIT 1")?.exists([AHEAD])?)
}

/// Whether a message of this id would be gone, as far as the id says.
pub(super) fn is_gone(conn: &Connection, message_id: &str) -> Result<bool, StoreError> {
    let Some(made) = ids::ulid_time(message_id) else { return Ok(false) };
    Ok(made.millis() < cutoff(conn)?.millis())
}

/// The cutoff is never later than the purge itself: a purge cannot take away what is written after it. While it lies in the
/// future, it waits.
pub(super) fn execute(tx: &mut Tx<'_>, at: At<'_>, body: &PurgeExecuted) -> Result<Folded, StoreError> {
    let Some(asked) = Stamp::parse(&body.cutoff) else {
        return Ok(Folded::Parked { reason: format!("its cutoff is no time: {}", body.cutoff), target: None, due: None });
    };
    let effective = asked.min(at.event.at);
    let scope = scope(&at.event.origin);
    if effective <= cutoff_in(tx.conn, scope)? {
        return Ok(Folded::Done);
    }
    let now = tx.now();
    if effective > now.plus(limits::PURGE_AHEAD) {
        // Looked at again when it is near.
        return Ok(Folded::Parked { reason: FAR_AHEAD.to_owned(), target: None, due: Some(effective.minus(limits::PURGE_AHEAD)) });
    }
    if effective > now {
        return Ok(Folded::Parked { reason: AHEAD.to_owned(), target: None, due: Some(effective) });
    }
    tx.conn.prepare_cached("INSERT OR REPLACE INTO cutoffs VALUES (?1, ?2)")?.execute((scope, effective.nanos()))?;
    tx.cutoff.set(None);
    tx.floor.set(None);
    tx.later.purge = true;
    Ok(Folded::Done)
}

/// The rows that cutoffs take away, one by one.
fn each_old(
    conn: &Connection,
    cutoffs: &Cutoffs,
    mut found: impl FnMut(&rusqlite::Row<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    // All rows are looked at: an index by age would cost every message, and purges are rare.
    let mut statement = conn.prepare_cached("SELECT sequence, type, at, target, origin_daemon FROM events")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let text = |column| -> rusqlite::Result<Option<&str>> { Ok(row.get_ref(column)?.as_str_or_null()?) };
        if is_purged(text(1)?.unwrap_or_default(), Stamp::from_nanos(row.get(2)?), text(3)?, cutoffs.of(text(4)?.unwrap_or_default())) {
            found(row)?;
        }
    }
    Ok(())
}

/// What a purge with this cutoff would take away now.
pub(crate) fn preview(conn: &Connection, cutoff: Stamp) -> Result<Purged, StoreError> {
    let mut would = Purged::default();
    let mut sessions = BTreeSet::new();
    let mut message = conn.prepare_cached("SELECT 1 FROM messages WHERE sequence = ?1")?;
    let mut session = conn.prepare_cached("SELECT 1 FROM sessions WHERE session_id = ?1")?;
    each_old(conn, &Cutoffs { everything: cutoff, by_origin: BTreeMap::new() }, |row| {
        would.events += 1;
        let kind: String = row.get(1)?;
        let target: Option<String> = row.get(3)?;
        if kind == "message.create" && message.exists([row.get::<_, i64>(0)?])? {
            would.messages += 1;
        } else if kind.starts_with("agent.session.") && session.exists([&target])? {
            sessions.extend(target);
        }
        Ok(())
    })?;
    would.sessions = sessions.len() as u64;
    Ok(would)
}

/// Takes the rows that are older than the cutoff out of the log, and what they were in the projection.
///
/// The text is overwritten where it stood; the store then sees to the other corners of the file (`crate::store`).
pub(super) fn sweep(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    let (conn, cutoffs) = (tx.conn, Cutoffs::all(tx.conn)?);
    let cutoff = cutoffs.everything;
    let count = |sql: &str| -> Result<u64, StoreError> { Ok(conn.prepare_cached(sql)?.query_row([], |row| row.get(0))?) };
    let shown =
        || -> Result<(u64, u64), StoreError> { Ok((count("SELECT count(*) FROM messages")?, count("SELECT count(*) FROM sessions")?)) };
    let before = shown()?;

    conn.execute_batch("CREATE TEMP TABLE IF NOT EXISTS leaving (sequence INTEGER PRIMARY KEY) STRICT; DELETE FROM temp.leaving;")?;
    let mut events = 0;
    // What else is about the same target stays if the target says no time, or if another origin wrote it.
    let mut touched: BTreeSet<(String, bool)> = BTreeSet::new();
    {
        let mut leaves = conn.prepare_cached("INSERT INTO temp.leaving VALUES (?1)")?;
        each_old(conn, &cutoffs, |row| {
            leaves.execute([row.get::<_, i64>(0)?])?;
            let kind: String = row.get(1)?;
            if let Some(target) = row.get::<_, Option<String>>(3)? {
                let of_session = kind.starts_with("agent.session.");
                let goes_everywhere = is_purged(&kind, Stamp::from_nanos(row.get(2)?), Some(&target), cutoff);
                if of_session || ids::ulid_time(&target).is_none() || !goes_everywhere {
                    touched.insert((target, of_session));
                }
            }
            Ok(())
        })?;
        let mut leaving =
            conn.prepare_cached("SELECT origin_daemon, origin_log, body, origin_seq FROM events JOIN temp.leaving USING (sequence)")?;
        let mut rows = leaving.query([])?;
        while let Some(row) = rows.next()? {
            let sum = Sum::of(row.get_ref(2)?.as_bytes().map_err(rusqlite::Error::from)?);
            tx.progress.uncount(row.get(0)?, row.get(1)?, row.get(3)?, sum);
            events += 1;
        }
    }
    overwrite(conn, true)?;
    conn.execute_batch(
        "DELETE FROM parked WHERE (event_id, signer) IN (SELECT event_id, signer FROM events JOIN temp.leaving USING (sequence));
         DELETE FROM mailbox WHERE sequence IN (SELECT sequence FROM temp.leaving);
         DELETE FROM audience WHERE sequence IN (SELECT sequence FROM temp.leaving);
         DELETE FROM receipts WHERE message_id IN (SELECT target FROM events JOIN temp.leaving USING (sequence) WHERE type = 'message.receipt');
         DELETE FROM revisions WHERE kind = 0 AND message_id IN (SELECT target FROM events JOIN temp.leaving USING (sequence) WHERE type = 'message.edit');
         DELETE FROM messages WHERE sequence IN (SELECT sequence FROM temp.leaving);
         DELETE FROM events WHERE sequence IN (SELECT sequence FROM temp.leaving);",
    )?;
    conn.execute("DELETE FROM contexts WHERE at < ?1", [cutoff.nanos()])?;
    for (origin, cutoff) in &cutoffs.by_origin {
        conn.prepare_cached("DELETE FROM contexts WHERE home = ?1 AND at < ?2")?.execute((origin, cutoff.nanos()))?;
    }
    // What was refused then may hold text of then; that it was refused stays known.
    conn.execute("UPDATE rejected SET sample = '' WHERE at < ?1", [cutoff.nanos()])?;
    // While the log is folded again, it is what is left that is folded.
    let touched = if tx.rebuilds { BTreeSet::new() } else { touched };
    for (target, of_session) in &touched {
        if *of_session {
            session::refold(tx, target)?;
        } else {
            message::refold(tx, target)?;
        }
    }
    unpark(conn, cutoff)?;
    conn.execute("DELETE FROM presence WHERE agent_id NOT IN (SELECT agent_id FROM agents)", [])?;
    overwrite(conn, false)?;
    conn.execute_batch("DELETE FROM temp.leaving")?;
    let after = shown()?;
    tx.swept.messages += before.0.saturating_sub(after.0);
    tx.swept.sessions += before.1.saturating_sub(after.1);
    tx.swept.events += events;
    Ok(())
}

/// What waits for a message that is gone waits no more.
fn unpark(conn: &Connection, cutoff: Stamp) -> Result<(), StoreError> {
    let mut parked = conn.prepare_cached("SELECT DISTINCT target FROM parked WHERE target IS NOT NULL")?;
    let targets: Vec<String> = parked.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for target in targets.iter().filter(|target| ids::ulid_time(target).is_some_and(|made| made.millis() < cutoff.millis())) {
        conn.prepare_cached("DELETE FROM parked WHERE target = ?1")?.execute([target])?;
    }
    Ok(())
}
