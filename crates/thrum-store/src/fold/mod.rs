//! The fold: what the events say, as tables.
//!
//! The projection must be a function of the *set* of events (I6): any order, any route, any repetition gives the same rows.
//! Two means make that so. Whatever competes is decided by instant, then event id, never by arrival; who made a message or a
//! session, by whose its id is before that. And where an event
//! takes something away that hid others (a clean-up, a purge, an earlier creation of the same message), what is left is
//! folded again from the log by its target, instead of being patched, and once per batch (`later.rs`). The common case, an
//! event that comes after all it refers to, stays one or two statements.
//!
//! What a purge takes away is no matter of the other rules: it leaves the log and does not enter it again, so they never
//! see it.
//!
//! An event that cannot be folded, or not yet, is parked with its reason; it is in the log, the digest and the relay all
//! the same (I5). No rule looks at the clock but one: a purge that lies in the future waits until it is due.

mod agent;
mod former;
mod later;
mod message;
mod pending;
mod purge;
pub(crate) mod residence;
mod session;

use rusqlite::Connection;
use thrum_core::{
    Event, Payload, Stamp, bounds, ids, key, limits,
    payload::{MessageCreate, Tag},
};

use crate::{StoreError, Tx};
pub(crate) use later::{Later, finish};
pub(crate) use pending::{Room, is_pending, work};
pub use purge::Purged;
pub(crate) use purge::{Aged, FAR_AHEAD, announced, cutoff, cutoff_at_go, is_purged, lying_ahead, preview, reconsider, waits};

/// Changes with every change of a rule: a database folded by another version is folded again at the next start.
pub(crate) const VERSION: i64 = 10;

/// Where an event stands among those it competes with.
pub(crate) type Rank<'a> = (Stamp, &'a str);

/// Where an event stands among those that make the thing of this id, a message or a session: before all others the daemon that
/// made the id, then who signs, and only then the earlier one, for anybody can say that he was earlier.
pub(crate) type Claim<'a> = (bool, bool, Stamp, &'a str, &'a str);

pub(crate) fn claim<'a>(id: &str, origin: &'a str, (at, event_id): Rank<'a>) -> Claim<'a> {
    (!ids::is_made_by(id, origin), !key::is_signed_origin(origin), at, event_id, origin)
}

/// An event in the hands of its rule.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) event: &'a Event,
    pub(crate) sequence: u64,
}

impl At<'_> {
    fn rank(&self) -> Rank<'_> {
        (self.event.at, &self.event.id)
    }
}

/// What became of an event.
pub(crate) enum Folded {
    /// It is in the projection, or rightly has no effect there.
    Done,
    /// It waits: for its target, for its time, or for a version that understands it.
    Parked { reason: String, target: Option<String>, due: Option<Stamp> },
}

impl Folded {
    fn waits_for(target: &str, reason: &str) -> Self {
        Self::Parked { reason: reason.to_owned(), target: Some(target.to_owned()), due: None }
    }
}

/// Folds one event that was just inserted.
pub(crate) fn fold(tx: &mut Tx<'_>, event: &Event, sequence: u64, payload: serde_json::Result<Payload>) -> Result<(), StoreError> {
    let at = At { event, sequence };
    let folded = match &payload {
        Ok(payload) if bounds::oversized_id(payload) => {
            Folded::Parked { reason: "an id in it is too long".to_owned(), target: None, due: None }
        }
        Ok(Payload::MessageCreate(body)) => message::create(tx, at, body)?,
        Ok(Payload::MessageEdit(body)) => message::edit(tx, at, body)?,
        Ok(Payload::MessageDelete(body)) => message::delete(tx, at, body)?,
        Ok(Payload::MessageReceipt(body)) => message::receipt(tx.conn, at, body)?,
        Ok(Payload::AgentRegister(body)) => agent::register(tx, at, body)?,
        Ok(Payload::AgentCleanup(body)) => agent::cleanup(tx, at, body)?,
        Ok(Payload::SessionStart(body)) => session::start(tx, at, body)?,
        Ok(Payload::SessionEnd(body)) => session::end(tx, at, body)?,
        Ok(Payload::AgentUpdate(body)) => session::update(tx.conn, at, body)?,
        Ok(Payload::PurgeExecuted(body)) => purge::execute(tx, at, body)?,
        // `everyone` and roles are built in; other groups are only stored and relayed.
        Ok(
            Payload::GroupCreate(_)
            | Payload::GroupUpdate(_)
            | Payload::GroupDelete(_)
            | Payload::GroupMemberAdd(_)
            | Payload::GroupMemberRemove(_),
        ) => Folded::Done,
        Ok(Payload::Unknown) => Folded::Parked { reason: "its type is not known to this version".to_owned(), target: None, due: None },
        Err(error) => Folded::Parked { reason: format!("its content cannot be read: {error}"), target: None, due: None },
    };
    if let Folded::Parked { mut reason, target, due } = folded {
        bounds::truncate(&mut reason, limits::MAX_REASON_BYTES);
        park(tx, event, &reason, target.as_deref(), due)?;
    }
    Ok(())
}

fn park(tx: &Tx<'_>, event: &Event, reason: &str, target: Option<&str>, due: Option<Stamp>) -> Result<(), StoreError> {
    tx.conn.prepare_cached("INSERT OR REPLACE INTO parked VALUES (?1, ?2, ?3, ?4, ?5)")?.execute((
        &event.id,
        event.signer(),
        reason,
        target,
        due.map(Stamp::nanos),
    ))?;
    Ok(())
}

fn unpark(tx: &Tx<'_>, event: &Event) -> Result<(), StoreError> {
    tx.conn.prepare_cached("DELETE FROM parked WHERE event_id = ?1 AND signer = ?2")?.execute((&event.id, event.signer()))?;
    Ok(())
}

/// An agent's registrations are others now.
pub(crate) fn agent_changed(tx: &mut Tx<'_>, agent_id: &str) {
    tx.later.agents.insert(agent_id.to_owned());
}

/// What is said of a session is something else now.
pub(crate) fn session_changed(tx: &mut Tx<'_>, session: &str) {
    tx.later.sessions.insert(session.to_owned());
}

/// Takes the rows of a message away while its events are still there; [`refold_message`] makes it of what is left.
pub(crate) fn withdraw_message(tx: &Tx<'_>, message_id: &str) -> Result<(), StoreError> {
    message::withdraw(tx, message_id)
}

/// Makes a message of what the log says about it.
pub(crate) fn refold_message(tx: &mut Tx<'_>, message_id: &str) -> Result<(), StoreError> {
    message::refold(tx, message_id)?;
    Ok(())
}

/// Folds what is due now.
pub(crate) fn due(tx: &mut Tx<'_>) -> Result<usize, StoreError> {
    let now = tx.now().nanos();
    let due: Vec<(String, String)> = {
        let mut statement = tx.conn.prepare_cached("DELETE FROM parked WHERE due <= ?1 RETURNING event_id, signer")?;
        statement.query_map([now], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?
    };
    for (id, signer) in &due {
        for (event, sequence) in load(tx, "event_id = ?1", id)?.into_iter().filter(|(event, _)| event.signer() == signer) {
            fold(tx, &event, sequence, Payload::read(&event.kind, &event.body))?;
        }
    }
    finish(tx)?;
    Ok(due.len())
}

/// Throws the projection away and folds the whole log.
pub(crate) fn rebuild(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    const CHUNK: usize = 1000;
    tx.conn.execute_batch(
        "DELETE FROM parked; DELETE FROM messages; DELETE FROM audience; DELETE FROM agents; DELETE FROM cleanups;
         DELETE FROM former_homes; DELETE FROM residences; DELETE FROM mailbox; DELETE FROM receipts; DELETE FROM revisions;
         DELETE FROM pending; DELETE FROM sessions; DELETE FROM contexts;",
    )?;
    // Purges first: what they take away must not be folded. A cutoff that was due once stays, even if the clock was set back
    // since: what it took away does not come back either.
    tx.rebuilds = true;
    tx.room = Room::ALL;
    tx.frontier = tx.progress.counters.next_sequence - 1;
    for (event, sequence) in load(tx, "type = ?1", "purge.executed")? {
        fold(tx, &event, sequence, Payload::read(&event.kind, &event.body))?;
    }
    tx.later.purge = true;
    finish(tx)?;
    let mut after = 0;
    loop {
        let events = load_chunk(tx.conn, after, CHUNK)?;
        let Some(last) = events.last() else { break };
        after = last.1;
        for (event, sequence) in &events {
            tx.frontier = *sequence;
            fold(tx, event, *sequence, Payload::read(&event.kind, &event.body))?;
        }
    }
    finish(tx)?;
    tx.conn.execute("UPDATE state SET fold_version = ?1, mailboxes_of = ?2", (VERSION, tx.home()))?;
    Ok(())
}

const EVENT_COLUMNS: &str = "sequence, event_id, type, at, origin_daemon, origin_log, origin_seq, body";

fn read_event(row: &rusqlite::Row<'_>) -> rusqlite::Result<(Event, u64)> {
    let event = Event {
        id: row.get(1)?,
        kind: row.get(2)?,
        at: Stamp::from_nanos(row.get(3)?),
        origin: row.get(4)?,
        log: row.get(5)?,
        seq: row.get(6)?,
        body: row.get(7)?,
    };
    Ok((event, row.get(0)?))
}

/// Hands over the events folded so far that satisfy `condition` on one value, one at a time and in no order: together they may
/// be larger than memory.
fn each(tx: &Tx<'_>, condition: &str, value: &str, mut found: impl FnMut(Event, u64) -> Result<(), StoreError>) -> Result<(), StoreError> {
    let mut statement = tx.conn.prepare_cached(&format!("SELECT {EVENT_COLUMNS} FROM events WHERE {condition} AND sequence <= ?2"))?;
    for row in statement.query_map((value, tx.frontier), read_event)? {
        let (event, sequence) = row?;
        found(event, sequence)?;
    }
    Ok(())
}

/// All of them at once, in sequence.
fn load(tx: &Tx<'_>, condition: &str, value: &str) -> Result<Vec<(Event, u64)>, StoreError> {
    let mut events = Vec::new();
    each(tx, condition, value, |event, sequence| {
        events.push((event, sequence));
        Ok(())
    })?;
    events.sort_unstable_by_key(|(_, sequence)| *sequence);
    Ok(events)
}

/// The same, where they stand.
fn places(tx: &Tx<'_>, condition: &str, value: &str) -> Result<Vec<u64>, StoreError> {
    let mut statement = tx.conn.prepare_cached(&format!("SELECT sequence FROM events WHERE {condition} AND sequence <= ?2"))?;
    let mut places: Vec<u64> = statement.query_map((value, tx.frontier), |row| row.get(0))?.collect::<Result<_, _>>()?;
    // Sorted here: a cached statement that sorts is parsed anew by SQLite at every use, and this one runs for every message.
    places.sort_unstable();
    Ok(places)
}

/// The event in one place.
fn at_place(tx: &Tx<'_>, sequence: u64) -> Result<Event, StoreError> {
    let mut statement = tx.conn.prepare_cached(&format!("SELECT {EVENT_COLUMNS} FROM events WHERE sequence = ?1"))?;
    Ok(statement.query_row([sequence], read_event)?.0)
}

fn load_chunk(conn: &Connection, after: u64, most: usize) -> Result<Vec<(Event, u64)>, StoreError> {
    let mut statement =
        conn.prepare_cached(&format!("SELECT {EVENT_COLUMNS} FROM events WHERE sequence > ?1 ORDER BY sequence LIMIT ?2"))?;
    Ok(statement.query_map((after, most), read_event)?.collect::<Result<_, _>>()?)
}

/// Whom a message addresses. A message that addresses nobody is for everyone, as in Go.
pub(crate) struct Audience<'a> {
    message: &'a MessageCreate,
    pub(crate) agents: Vec<&'a str>,
    pub(crate) roles: Vec<&'a str>,
    pub(crate) everyone: bool,
}

impl<'a> Audience<'a> {
    pub(crate) fn of(message: &'a MessageCreate) -> Self {
        let MessageCreate { recipients, scopes, refs, .. } = message;
        let values = |tags: &'a [Tag], kind: &'static str| tags.iter().filter(move |tag| tag.kind == kind).map(|tag| tag.value.as_str());
        let mut agents: Vec<&str> = recipients.iter().map(String::as_str).chain(values(refs, "mention")).collect();
        let groups: Vec<&str> = values(scopes, "group").chain(values(refs, "group")).collect();
        // Go's mention may name a role as well as an agent; an agent is among the recipients, too.
        let mentioned = values(refs, "mention").filter(|name| !recipients.iter().any(|recipient| recipient == name));
        let mut roles: Vec<&str> = groups.iter().copied().filter(|group| *group != "everyone").chain(mentioned).map(bounds::role).collect();
        for list in [&mut agents, &mut roles] {
            list.sort_unstable();
            list.dedup();
        }
        let everyone = groups.contains(&"everyone") || (agents.is_empty() && groups.is_empty());
        Self { message, agents, roles, everyone }
    }

    /// As rows of the table: kind, value and home. An agent of which the message says no home has one row with an empty home.
    fn rows(&self) -> impl Iterator<Item = (i64, &'a str, &'a str)> {
        let message = self.message;
        let agents = self.agents.iter().flat_map(move |agent| {
            let mut homes: Vec<&str> = message.homes_of(agent).collect();
            if homes.is_empty() {
                homes.push("");
            }
            homes.into_iter().map(|home| (0, *agent, home))
        });
        let roles = self.roles.iter().map(|role| (1, *role, ""));
        agents.chain(roles).chain(self.everyone.then_some((2, "", "")))
    }
}
