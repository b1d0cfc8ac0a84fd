//! Handles agents that moved from a daemon that signs nothing to one that does.
//!
//! A mailbox belongs to an agent and its home, and so do the messages that the agent wrote. When a user changes from Go
//! Thrum to this program, the old events keep the old daemon's id. The same agent would appear twice, with its mail
//! unread here and its messages owned by another agent. So the daemon that takes an agent over declares this in the
//! agent's registration (`former_homes`), signed like all its events, and this fold treats the former home's events
//! about the agent as the agent's own.
//!
//! The moves are computed from all registrations of one agent, whenever the agent is recomputed (`agent.rs`):
//!
//! * Only a daemon that signs can declare a move, and only from one that does not: no other daemon may speak for a
//!   former home that could sign for itself.
//! * The first declaration counts, by the times in the events. A peer that lies about the time can still come first,
//!   because nothing about the former home can be proven. It gains the right to edit and delete the old mail, which it
//!   could also do by serving unsigned events in the former home's name. It gains no influence on who receives that
//!   mail. (Without any move, a peer with a key can replace an unsigned message by one of its own with the same id,
//!   which is shown as that peer's: a signed creation takes precedence, see `rank.rs`. A message whose id is bound to
//!   its maker, see `ids::is_made_by`, cannot be replaced.)
//! * The former home's events count up to the last time at which the move was declared. Later events are treated as
//!   those of another agent of the same name. Otherwise any peer could write in the former home's name and mark new
//!   mail as read.
//! * A move is permanent: a clean-up hides the agent, but its old mail stays its own.
//!
//! The former home's registrations only determine since when the agent was registered (which decides
//! which messages to roles and to everyone it receives). Only its current home determines its properties and whether it is still registered. Sessions stay at
//! the former home, as history.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension};
use thrum_core::{Event, Timestamp, key, limits, payload::AgentRegister};

use super::rank::rank;
use crate::{StoreError, Tx};

/// Returns the home of the agent about which `origin` wrote an event at `at`: `origin` itself, unless the agent moved
/// away from it and the move was last declared after `at`.
pub(super) fn live(conn: &Connection, agent_id: &str, origin: &str, at: Timestamp) -> Result<String, StoreError> {
    if key::is_signed_origin(origin) {
        return Ok(origin.to_owned());
    }
    let mut statement =
        conn.prepare_cached("SELECT home FROM former_homes WHERE agent_id = ?1 AND former = ?2 AND until > ?3")?;
    let moved: Option<String> = statement.query_row((agent_id, origin, at.nanos()), |row| row.get(0)).optional()?;
    Ok(moved.unwrap_or_else(|| origin.to_owned()))
}

/// Returns `true` if an agent of this name has ever moved.
fn has_moved(conn: &Connection, agent_id: &str) -> Result<bool, StoreError> {
    Ok(conn.prepare_cached("SELECT 1 FROM former_homes WHERE agent_id = ?1")?.exists([agent_id])?)
}

/// Returns `true` if a registration must be evaluated together with the others of its agent.
pub(super) fn concerns(conn: &Connection, event: &Event, body: &AgentRegister) -> Result<bool, StoreError> {
    Ok(claimed(event, body).next().is_some() || has_moved(conn, &body.agent_id)?)
}

/// The former homes that a registration validly declares.
fn claimed<'a>(event: &Event, body: &'a AgentRegister) -> impl Iterator<Item = &'a str> {
    let homes = if key::is_signed_origin(&event.origin) { body.former_homes.as_slice() } else { &[] };
    let may =
        |home: &&str| !home.is_empty() && home.len() <= limits::MAX_FOREIGN_ID_BYTES && !key::is_signed_origin(home);
    homes.iter().map(String::as_str).filter(may)
}

/// The home to which an agent moved, and the time up to which the former home's events count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) home: String,
    pub(super) until: Timestamp,
}

/// Stores the moves of an agent; returns `true` if they changed.
pub(super) fn write_moves(
    conn: &Connection,
    agent_id: &str,
    moved: &BTreeMap<&str, Moved>,
) -> Result<bool, StoreError> {
    let mut known = conn.prepare_cached("SELECT former, home, until FROM former_homes WHERE agent_id = ?1")?;
    let known: BTreeMap<String, Moved> = known
        .query_map([agent_id], |row| {
            Ok((row.get(0)?, Moved { home: row.get(1)?, until: Timestamp::from_nanos(row.get(2)?) }))
        })?
        .collect::<Result<_, _>>()?;
    if known.iter().map(|(former, to)| (former.as_str(), to)).eq(moved.iter().map(|(former, to)| (*former, to))) {
        return Ok(false);
    }
    conn.prepare_cached("DELETE FROM former_homes WHERE agent_id = ?1")?.execute([agent_id])?;
    for (former, Moved { home, until }) in moved {
        conn.prepare_cached("INSERT INTO former_homes VALUES (?1, ?2, ?3, ?4)")?.execute((
            agent_id,
            former,
            home,
            until.nanos(),
        ))?;
    }
    Ok(true)
}

/// Returns the moves of an agent by former home: the daemon that first declared the move, and the time of that daemon's
/// last declaration.
pub(super) fn moves(registrations: &[(Event, AgentRegister)]) -> BTreeMap<&str, Moved> {
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
        let says = |(event, body): &&(Event, AgentRegister)| {
            event.origin == home && claimed(event, body).any(|claimed| claimed == former)
        };
        registrations.iter().filter(says).map(|(event, _)| event.at).max().unwrap_or_default()
    };
    first
        .into_iter()
        .map(|(former, event)| (former, Moved { home: event.origin.clone(), until: until(former, &event.origin) }))
        .collect()
}

/// Updates the homes of the agent's messages. Returns the messages whose home changed, if they were edited or deleted by
/// a daemon other than their origin: that daemon may have gained or lost the right to do so.
pub(super) fn reassign_messages(tx: &Tx<'_>, agent_id: &str) -> Result<Vec<String>, StoreError> {
    let mut statement = tx.conn.prepare_cached(
        "UPDATE messages SET home = coalesce(
             (SELECT f.home FROM former_homes f WHERE f.agent_id = ?1 AND f.former = messages.origin AND f.until > messages.at), origin)
         WHERE agent_id = ?1 AND home <> coalesce(
             (SELECT f.home FROM former_homes f WHERE f.agent_id = ?1 AND f.former = messages.origin AND f.until > messages.at), origin)
         RETURNING message_id, EXISTS (
             SELECT 1 FROM revisions r WHERE r.message_id = messages.message_id AND r.origin <> messages.origin)",
    )?;
    let changed: Vec<(String, bool)> =
        statement.query_map([agent_id], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    Ok(changed.into_iter().filter(|(_, written_to)| *written_to).map(|(message_id, _)| message_id).collect())
}
