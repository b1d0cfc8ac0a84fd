//! Agents that moved: from a daemon that signs nothing to one that does.
//!
//! A mailbox belongs to an agent and its home, and so does the word of its author. When somebody changes from Go Thrum to
//! this program, the old events keep the old daemon's id, and the same agent would stand there twice, its mail unread here
//! and its words another's. So the daemon that takes an agent over says so in the agent's registration (`former_homes`),
//! signed like all of its events, and this fold treats what the former home said of the agent as the agent's own.
//!
//! It is decided from the registrations of one agent, all of them, whenever one of them comes:
//!
//! * Only a daemon that signs can say it, and only of one that does not: who has a key speaks for itself.
//! * The first one that says it is believed, by the times that they give. A peer that lies about the time can still come
//!   first, for nothing about the former home can be proven; it wins the right to edit and delete the old mail, which it could do
//!   as well by serving unsigned events in the former home's name. Whom that mail is addressed to, this gives it no say in. It has
//!   one by another rule: of several creations under one id of Go's a signed one counts (`super::claim`), so that every peer with
//!   a key can replace old mail by its own, which is then shown as its own. Mail that was written by daemons that bind their ids
//!   nobody can change.
//! * What the former home said counts up to the last time it was said. After that, anybody who can serve unsigned events
//!   could write in its name, and mark new mail as read: that is a namesake's word, as it was before.
//! * It is for good: a clean-up hides the agent, but old mail does not become a stranger's.
//!
//! The former home's registrations only tell since when the agent was there (which decides its mail to roles and everyone);
//! what it is and whether it still is, says its home alone. Sessions stay where they were: they are history.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension};
use thrum_core::{Event, Payload, Stamp, bounds, key, limits, payload::AgentRegister};

use super::{Rank, agent, residence};
use crate::{StoreError, Tx};

/// Where an agent lives of which `origin` said something at `at`: at `origin`, unless it moved.
pub(super) fn live(conn: &Connection, agent_id: &str, origin: &str, at: Stamp) -> Result<String, StoreError> {
    if key::is_signed_origin(origin) {
        return Ok(origin.to_owned());
    }
    let mut statement = conn.prepare_cached("SELECT home FROM former_homes WHERE agent_id = ?1 AND former = ?2 AND until > ?3")?;
    let moved: Option<String> = statement.query_row((agent_id, origin, at.nanos()), |row| row.get(0)).optional()?;
    Ok(moved.unwrap_or_else(|| origin.to_owned()))
}

/// Whether an agent of this name has ever moved.
fn has_moved(conn: &Connection, agent_id: &str) -> Result<bool, StoreError> {
    Ok(conn.prepare_cached("SELECT 1 FROM former_homes WHERE agent_id = ?1")?.exists([agent_id])?)
}

/// Whether a registration has to be seen together with the others of its agent.
pub(super) fn concerns(conn: &Connection, event: &Event, body: &AgentRegister) -> Result<bool, StoreError> {
    Ok(claimed(event, body).next().is_some() || has_moved(conn, &body.agent_id)?)
}

/// The former homes that a registration may name.
fn claimed<'a>(event: &Event, body: &'a AgentRegister) -> impl Iterator<Item = &'a str> {
    let homes = if key::is_signed_origin(&event.origin) { body.former_homes.as_slice() } else { &[] };
    let may = |home: &&str| !home.is_empty() && home.len() <= limits::MAX_FOREIGN_ID_BYTES && !key::is_signed_origin(home);
    homes.iter().map(String::as_str).filter(may)
}

/// Where an agent lives that lived elsewhere, and up to when that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) home: String,
    pub(super) until: Stamp,
}

/// What one home says of the agent.
struct Standing<'a> {
    last: (&'a Event, &'a AgentRegister),
    first_at: Stamp,
}

/// Works out an agent from all of its registrations: where it moved, what it is, whose its messages are, what is in its mailboxes.
pub(super) fn settle(tx: &mut Tx<'_>, agent_id: &str) -> Result<(), StoreError> {
    let registrations = registrations(tx, agent_id)?;
    let moved = moves(&registrations);
    let moves = write_moves(tx.conn, agent_id, &moved)?;
    if moves {
        let rewritten = reassign_messages(tx, agent_id)?;
        tx.later.messages.extend(rewritten);
    }
    let resides = residence::settle(tx.conn, agent_id, &registrations, &moved)?;
    let standings = standings(tx.conn, agent_id, &registrations, &moved)?;
    agent::remove_but_at(tx.conn, agent_id, &standings.keys().collect::<Vec<_>>())?;
    for standing in standings.values() {
        let (event, body) = standing.last;
        agent::settle(tx, event, body, standing.first_at, moves || resides)?;
    }
    Ok(())
}

/// Writes down where an agent moved; says whether that is news.
fn write_moves(conn: &Connection, agent_id: &str, moved: &BTreeMap<&str, Moved>) -> Result<bool, StoreError> {
    let mut known = conn.prepare_cached("SELECT former, home, until FROM former_homes WHERE agent_id = ?1")?;
    let known: BTreeMap<String, Moved> = known
        .query_map([agent_id], |row| Ok((row.get(0)?, Moved { home: row.get(1)?, until: Stamp::from_nanos(row.get(2)?) })))?
        .collect::<Result<_, _>>()?;
    if known.iter().map(|(former, to)| (former.as_str(), to)).eq(moved.iter().map(|(former, to)| (*former, to))) {
        return Ok(false);
    }
    conn.prepare_cached("DELETE FROM former_homes WHERE agent_id = ?1")?.execute([agent_id])?;
    for (former, Moved { home, until }) in moved {
        conn.prepare_cached("INSERT INTO former_homes VALUES (?1, ?2, ?3, ?4)")?.execute((agent_id, former, home, until.nanos()))?;
    }
    Ok(true)
}

fn registrations(tx: &Tx<'_>, agent_id: &str) -> Result<Vec<(Event, AgentRegister)>, StoreError> {
    let mut registrations = Vec::new();
    super::each(tx, "target = ?1 AND type = 'agent.register'", agent_id, |mut event, sequence| {
        match Payload::read(&event.kind, &event.body) {
            Ok(payload) if bounds::oversized_id(&payload) => {}
            Ok(Payload::AgentRegister(body)) => {
                // Much larger than what is read of it, if somebody wants it to be.
                event.body = String::new();
                registrations.push((sequence, (event, body)));
            }
            _ => {}
        }
        Ok(())
    })?;
    registrations.sort_unstable_by_key(|(sequence, _)| *sequence);
    Ok(registrations.into_iter().map(|(_, registration)| registration).collect())
}

fn rank(event: &Event) -> Rank<'_> {
    (event.at, &event.id)
}

/// By former home: who said first that the agent moved, and when that daemon said so last.
fn moves(registrations: &[(Event, AgentRegister)]) -> BTreeMap<&str, Moved> {
    let mut first: BTreeMap<&str, &Event> = BTreeMap::new();
    for (event, body) in registrations {
        for former in claimed(event, body) {
            let known = first.entry(former).or_insert(event);
            if (rank(event), &event.origin) < (rank(known), &known.origin) {
                *known = event;
            }
        }
    }
    let until = |former: &str, home: &str| {
        let says = |(event, body): &&(Event, AgentRegister)| event.origin == home && claimed(event, body).any(|named| named == former);
        registrations.iter().filter(says).map(|(event, _)| event.at).max().unwrap_or_default()
    };
    first.into_iter().map(|(former, event)| (former, Moved { home: event.origin.clone(), until: until(former, &event.origin) })).collect()
}

/// By home: its last registration that no clean-up hides, and since when the agent was there.
fn standings<'a>(
    conn: &Connection,
    agent_id: &str,
    registrations: &'a [(Event, AgentRegister)],
    moved: &BTreeMap<&str, Moved>,
) -> Result<BTreeMap<String, Standing<'a>>, StoreError> {
    let mut standings: BTreeMap<String, Standing<'a>> = BTreeMap::new();
    let mut earlier = Vec::new();
    for (event, body) in registrations {
        if let Some(to) = moved.get(event.origin.as_str()).filter(|to| event.at < to.until) {
            earlier.push((&to.home, event));
            continue;
        }
        if agent::is_hidden(agent::cleaned_up(conn, agent_id, &event.origin)?.as_ref(), rank(event)) {
            continue;
        }
        let standing =
            standings.entry(event.origin.clone()).or_insert(Standing { last: (event, body), first_at: agent::joined(event, body) });
        standing.first_at = standing.first_at.min(agent::joined(event, body));
        if rank(standing.last.0) < rank(event) {
            standing.last = (event, body);
        }
    }
    for (home, event) in earlier {
        let hidden = agent::is_hidden(agent::cleaned_up(conn, agent_id, home)?.as_ref(), rank(event));
        if let Some(standing) = standings.get_mut(home).filter(|_| !hidden) {
            standing.first_at = standing.first_at.min(event.at);
        }
    }
    Ok(standings)
}

/// Writes down whose the agent's messages are now. Gives those to which daemons wrote that may have gained or lost the right to.
fn reassign_messages(tx: &Tx<'_>, agent_id: &str) -> Result<Vec<String>, StoreError> {
    let mut statement = tx.conn.prepare_cached(
        "UPDATE messages SET home = coalesce(
             (SELECT f.home FROM former_homes f WHERE f.agent_id = ?1 AND f.former = messages.origin AND f.until > messages.at), origin)
         WHERE agent_id = ?1 AND home <> coalesce(
             (SELECT f.home FROM former_homes f WHERE f.agent_id = ?1 AND f.former = messages.origin AND f.until > messages.at), origin)
         RETURNING message_id, EXISTS (
             SELECT 1 FROM revisions r WHERE r.message_id = messages.message_id AND r.origin <> messages.origin)",
    )?;
    let changed: Vec<(String, bool)> = statement.query_map([agent_id], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    Ok(changed.into_iter().filter(|(_, written_to)| *written_to).map(|(message_id, _)| message_id).collect())
}
