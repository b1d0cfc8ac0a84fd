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
//! What claims a time that lies ahead would never be older. Which of that came before the cutoff is known only where it arrived, so
//! the daemon that purges names it in the purge itself ([`lying_ahead`]), by id, and every daemon takes away the same.
//!
//! Registrations, deletions, clean-ups, groups and purges stay: a rebuilt projection could not know what they had hidden.
//!
//! A fold only sets the cutoff. [`sweep`] does the work, once at the end of a batch, however many purges were in it.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;
use thrum_core::{Payload, Stamp, Sum, ids, key, limits, payload::PurgeExecuted};

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

/// What purges go by, of an event.
#[derive(Clone, Copy)]
pub(crate) struct Aged<'a> {
    pub(crate) id: &'a str,
    pub(crate) origin: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) at: Stamp,
    /// The message or session it is about.
    pub(crate) target: Option<&'a str>,
}

impl<'a> Aged<'a> {
    /// Whether a cutoff takes it away.
    fn is_before(self, cutoff: Stamp) -> bool {
        if BY_TARGET.contains(&self.kind) {
            self.target.map_or(self.at < cutoff, |target| is_old(target, self.at, cutoff))
        } else {
            self.kind == BY_TIME && self.at < cutoff
        }
    }

    /// By what a purge may name it: what it goes with, if that says when it was made, or itself. `None` if no purge takes it.
    fn name(self) -> Option<&'a str> {
        let with = self.target.filter(|target| BY_TARGET.contains(&self.kind) && ids::ulid_time(target).is_some());
        with.or_else(|| (BY_TARGET.contains(&self.kind) || self.kind == BY_TIME).then_some(self.id))
    }
}

/// Whether a purge takes this event away, where `everything` is the cutoff for everything.
pub(crate) fn is_purged(conn: &Connection, event: Aged<'_>, everything: Stamp) -> Result<bool, StoreError> {
    if event.is_before(cutoff_of(conn, event.origin, everything)?) {
        return Ok(true);
    }
    event.name().map_or(Ok(false), |name| is_named(conn, name, event.origin))
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

/// What purges take away.
struct Taken {
    /// The cutoff for everything.
    everything: Stamp,
    by_origin: BTreeMap<String, Stamp>,
    /// By name of what purges named, whose events they take: an empty origin for everybody's.
    named: BTreeMap<String, BTreeSet<String>>,
}

impl Taken {
    /// What all purges take that were due.
    fn by_all(conn: &Connection) -> Result<Self, StoreError> {
        let mut cutoffs = conn.prepare_cached("SELECT origin, cutoff FROM cutoffs WHERE origin <> ''")?;
        let by_origin = cutoffs.query_map([], |row| Ok((row.get(0)?, Stamp::from_nanos(row.get(1)?))))?.collect::<Result<_, _>>()?;
        let mut named = BTreeMap::<String, BTreeSet<String>>::new();
        let mut names = conn.prepare_cached("SELECT id, origin FROM purged_ahead")?;
        let mut rows = names.query([])?;
        while let Some(row) = rows.next()? {
            named.entry(row.get(0)?).or_default().insert(row.get(1)?);
        }
        Ok(Self { everything: cutoff(conn)?, by_origin, named })
    }

    /// What a signed purge with this cutoff would take.
    fn by_one(conn: &Connection, cutoff: Stamp) -> Result<Self, StoreError> {
        let everybody = BTreeSet::from([String::new()]);
        let named = lying_ahead(conn, cutoff)?.into_iter().map(|name| (name, everybody.clone())).collect();
        Ok(Self { everything: cutoff, by_origin: BTreeMap::new(), named })
    }

    /// The cutoff for events of `origin`.
    fn cutoff_of(&self, origin: &str) -> Stamp {
        self.by_origin.get(origin).map_or(self.everything, |own| self.everything.max(*own))
    }

    fn is_named(&self, event: Aged<'_>, scopes: [&str; 2]) -> bool {
        event.name().and_then(|name| self.named.get(name)).is_some_and(|named| scopes.iter().any(|scope| named.contains(*scope)))
    }

    fn takes(&self, event: Aged<'_>) -> bool {
        event.is_before(self.cutoff_of(event.origin)) || self.is_named(event, ["", event.origin])
    }

    /// Whether it takes what others wrote about the same target, too.
    fn takes_of_everybody(&self, event: Aged<'_>) -> bool {
        event.is_before(self.everything) || self.is_named(event, ["", ""])
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
    Ok(made.millis() < cutoff(conn)?.millis() || is_named(conn, message_id, "")?)
}

/// Whether a purge named this, for what `origin` wrote.
fn is_named(conn: &Connection, name: &str, origin: &str) -> Result<bool, StoreError> {
    Ok(conn.prepare_cached("SELECT 1 FROM purged_ahead WHERE id = ?1 AND origin IN ('', ?2)")?.exists((name, origin))?)
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
        note_names(tx, scope, body)?;
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
    note_names(tx, scope, body)?;
    Ok(Folded::Done)
}

/// Notes what a purge names.
fn note_names(tx: &mut Tx<'_>, scope: &str, body: &PurgeExecuted) -> Result<(), StoreError> {
    for id in &body.ahead {
        let news = tx.conn.prepare_cached("INSERT OR IGNORE INTO purged_ahead VALUES (?1, ?2)")?.execute((id, scope))?;
        tx.later.purge |= news > 0;
    }
    Ok(())
}

/// Takes back the purges that lie far ahead of a clock that was wrong when they were folded. What they took away stays away here;
/// what comes is taken again. Those that are due within [`limits::PURGE_AHEAD`] stay: it may be the clock that is wrong now.
pub(crate) fn reconsider(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    if cutoff_at_go(tx.conn)? <= tx.now().plus(limits::PURGE_AHEAD) {
        return Ok(());
    }
    tx.conn.execute_batch("DELETE FROM cutoffs; DELETE FROM purged_ahead;")?;
    tx.cutoff.set(None);
    tx.floor.set(None);
    for (event, sequence) in super::load(tx, "type = ?1", "purge.executed")? {
        super::fold(tx, &event, sequence, Payload::read(&event.kind, &event.body))?;
    }
    Ok(())
}

/// What a purge of everything before `cutoff` has to name, because it came before that and claims a later time.
pub(crate) fn lying_ahead(conn: &Connection, cutoff: Stamp) -> Result<BTreeSet<String>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT e.event_id, e.type, e.at, e.target, a.arrived_at, e.origin_daemon FROM ahead a JOIN events e USING (sequence) WHERE a.arrived_at < ?1",
    )?;
    let mut rows = statement.query([cutoff.nanos()])?;
    let mut names = BTreeSet::new();
    while let Some(row) = rows.next()? {
        let (id, kind, target): (String, String, Option<String>) = (row.get(0)?, row.get(1)?, row.get(3)?);
        let origin: String = row.get(5)?;
        let event = Aged { id: &id, origin: &origin, kind: &kind, at: Stamp::from_nanos(row.get(2)?), target: target.as_deref() };
        let arrived = Stamp::from_nanos(row.get(4)?);
        let Some(name) = event.name().filter(|_| !event.is_before(cutoff)) else { continue };
        // An edit or a receipt that lies ahead says nothing about the message that it goes with.
        if name == id || ids::ulid_time(name).is_some_and(|made| made > arrived) {
            names.insert(name.to_owned());
        }
    }
    Ok(names)
}

/// The rows that purges take away, one by one, with what purges go by.
fn each_old(conn: &Connection, taken: &Taken, mut found: impl FnMut(u64, Aged<'_>) -> Result<(), StoreError>) -> Result<(), StoreError> {
    // All rows are looked at: an index by age would cost every message, and purges are rare.
    let mut statement = conn.prepare_cached("SELECT sequence, type, at, target, origin_daemon, event_id FROM events")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let text = |column| -> rusqlite::Result<Option<&str>> { Ok(row.get_ref(column)?.as_str_or_null()?) };
        let event = Aged {
            id: text(5)?.unwrap_or_default(),
            origin: text(4)?.unwrap_or_default(),
            kind: text(1)?.unwrap_or_default(),
            at: Stamp::from_nanos(row.get(2)?),
            target: text(3)?,
        };
        if taken.takes(event) {
            found(row.get(0)?, event)?;
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
    each_old(conn, &Taken::by_one(conn, cutoff)?, |sequence, event| {
        would.events += 1;
        if event.kind == "message.create" && message.exists([sequence])? {
            would.messages += 1;
        } else if event.kind.starts_with("agent.session.") && session.exists([event.target])? {
            sessions.extend(event.target.map(str::to_owned));
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
    let (conn, taken) = (tx.conn, Taken::by_all(tx.conn)?);
    let cutoff = taken.everything;
    let count = |sql: &str| -> Result<u64, StoreError> { Ok(conn.prepare_cached(sql)?.query_row([], |row| row.get(0))?) };
    let shown =
        || -> Result<(u64, u64), StoreError> { Ok((count("SELECT count(*) FROM messages")?, count("SELECT count(*) FROM sessions")?)) };
    let before = shown()?;

    conn.execute_batch("CREATE TEMP TABLE IF NOT EXISTS leaving (sequence INTEGER PRIMARY KEY) STRICT; DELETE FROM temp.leaving;")?;
    let mut events = 0;
    // What else is about the same target stays if the target says no time, or if another origin wrote it.
    let mut touched: BTreeSet<(String, bool)> = BTreeSet::new();
    // Whose contexts were said later than what is left.
    let mut updated: BTreeSet<String> = BTreeSet::new();
    {
        let mut leaves = conn.prepare_cached("INSERT INTO temp.leaving VALUES (?1)")?;
        each_old(conn, &taken, |sequence, event| {
            leaves.execute([sequence])?;
            if event.kind == BY_TIME && !event.is_before(taken.cutoff_of(event.origin)) {
                updated.insert(event.origin.to_owned());
            }
            if let Some(target) = event.target {
                let of_session = event.kind.starts_with("agent.session.");
                if of_session || ids::ulid_time(target).is_none() || !taken.takes_of_everybody(event) {
                    touched.insert((target.to_owned(), of_session));
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
         DELETE FROM ahead WHERE sequence IN (SELECT sequence FROM temp.leaving);
         DELETE FROM events WHERE sequence IN (SELECT sequence FROM temp.leaving);",
    )?;
    conn.execute("DELETE FROM contexts WHERE at < ?1", [cutoff.nanos()])?;
    for (origin, cutoff) in &taken.by_origin {
        conn.prepare_cached("DELETE FROM contexts WHERE home = ?1 AND at < ?2")?.execute((origin, cutoff.nanos()))?;
    }
    // What was refused then may hold text of then; that it was refused stays known.
    conn.execute("UPDATE rejected SET sample = '' WHERE at < ?1", [cutoff.nanos()])?;
    // While the log is folded again, it is what is left that is folded.
    let (touched, updated) = if tx.rebuilds { Default::default() } else { (touched, updated) };
    for origin in &updated {
        session::refold_contexts(tx, origin)?;
    }
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
    for target in &targets {
        let Some(made) = ids::ulid_time(target) else { continue };
        if made.millis() >= cutoff.millis() && !is_named(conn, target, "")? {
            continue;
        }
        conn.prepare_cached("DELETE FROM parked WHERE target = ?1")?.execute([target])?;
    }
    Ok(())
}
