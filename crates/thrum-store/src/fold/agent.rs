//! Folds agents: per name and home the last registration counts, and a clean-up hides earlier ones (`cleanup.rs`).
//!
//! Most registrations are folded at once ([`register`]). Two kinds are not: those that may change a mailbox of this
//! daemon, and those of an agent that has moved here from a daemon that signs nothing, or declares that it did
//! (`former.rs`). They may change since when the agent is registered, its home, and the mail it gets. So the agent is
//! recomputed from all its registrations, once at the end of the batch ([`settle`]).

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension};
use thrum_core::{Event, Payload, Timestamp, bounds, payload::AgentRegister};

use super::{
    cleanup, events,
    former::{self, Moved},
    mailbox,
    parked::Folded,
    pending,
    rank::{At, rank},
    residence::{self, joined},
};
use crate::{StoreError, Tx};

struct Registered {
    owner: i64,
    last: (Timestamp, String),
    first_at: Timestamp,
    role: String,
}

fn registered(conn: &Connection, agent_id: &str, home: &str) -> Result<Option<Registered>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT owner, registered_at, event_id, first_at, role FROM agents WHERE agent_id = ?1 AND home = ?2",
    )?;
    let found = statement.query_row((agent_id, home), |row| {
        Ok(Registered {
            owner: row.get(0)?,
            last: (Timestamp::from_nanos(row.get(1)?), row.get(2)?),
            first_at: Timestamp::from_nanos(row.get(3)?),
            role: row.get(4)?,
        })
    });
    Ok(found.optional()?)
}

/// Folds a registration. The last registration determines the agent's properties, including its role. The first one
/// determines since when the agent is registered: it gets mail to its role and to everyone only from that time on.
pub(super) fn register(tx: &mut Tx<'_>, at: At<'_>, body: &AgentRegister) -> Result<Folded, StoreError> {
    let (event, conn) = (at.event, tx.conn);
    if tx.deferred.agents.contains(&body.agent_id) {
        return Ok(Folded::Done);
    }
    if former::concerns(conn, event, body)? {
        tx.deferred.agents.insert(body.agent_id.clone());
        return Ok(Folded::Done);
    }
    let cleaned_up = cleanup::cleaned_up(conn, &body.agent_id, &event.origin)?;
    if cleanup::is_hidden(cleaned_up.as_ref(), at.rank()) {
        if let Some((until, _)) = cleaned_up {
            residence::extend(tx, &body.agent_id, &event.origin, joined(event, body), until.nanos())?;
        }
        return Ok(Folded::Done);
    }
    if event.origin != tx.home() {
        residence::extend(tx, &body.agent_id, &event.origin, joined(event, body), i64::MAX)?;
    }
    match registered(conn, &body.agent_id, &event.origin)? {
        // An agent with another home has no mailbox here, so its new row follows from the old row and this event.
        None if event.origin != tx.home() => put(conn, event, body, joined(event, body))?,
        Some(before) if event.origin != tx.home() && (before.last.0, before.last.1.as_str()) < at.rank() => {
            put(conn, event, body, before.first_at.min(joined(event, body)))?;
        }
        Some(_) if event.origin != tx.home() => {
            conn.prepare_cached("UPDATE agents SET first_at = ?3 WHERE agent_id = ?1 AND home = ?2 AND first_at > ?3")?
                .execute((&body.agent_id, &event.origin, joined(event, body).nanos()))?;
        }
        // In the next two cases no mailbox changes.
        Some(before)
            if before.first_at <= joined(event, body) && at.rank() < (before.last.0, before.last.1.as_str()) => {}
        Some(before) if before.first_at <= joined(event, body) && before.role == body.role => {
            put(conn, event, body, before.first_at)?
        }
        _ => {
            tx.deferred.agents.insert(body.agent_id.clone());
        }
    }
    Ok(Folded::Done)
}

/// The registration of an agent at one home: the last event, and since when the agent is registered.
struct Registration<'a> {
    last: (&'a Event, &'a AgentRegister),
    first_at: Timestamp,
}

/// Recomputes an agent from all its registrations: its moves, its properties, the ownership of its messages, and its
/// mailboxes.
pub(super) fn settle(tx: &mut Tx<'_>, agent_id: &str) -> Result<(), StoreError> {
    let registrations = registrations(tx, agent_id)?;
    let moved = former::moves(&registrations);
    let moves = former::write_moves(tx.conn, agent_id, &moved)?;
    if moves {
        let rewritten = former::reassign_messages(tx, agent_id)?;
        tx.deferred.messages.extend(rewritten);
    }
    let resides = residence::settle(tx.conn, agent_id, &registrations, &moved)?;
    let current = current_registrations(tx.conn, agent_id, &registrations, &moved)?;
    remove_but_at(tx, agent_id, &current.keys().collect::<Vec<_>>())?;
    for registration in current.values() {
        let (event, body) = registration.last;
        settle_at_home(tx, event, body, registration.first_at, moves || resides)?;
    }
    Ok(())
}

/// Returns all registrations of an agent, ordered by sequence.
fn registrations(tx: &Tx<'_>, agent_id: &str) -> Result<Vec<(Event, AgentRegister)>, StoreError> {
    let mut registrations = Vec::new();
    events::each(tx, "target = ?1 AND type = 'agent.register'", agent_id, |mut event, sequence| {
        if let Ok(payload) = Payload::read(&event.kind, &event.body)
            && !bounds::oversized_id(&payload)
            && let Payload::AgentRegister(body) = payload
        {
            // Free the body: a sender can make it much larger than the parsed fields.
            event.body = String::new();
            registrations.push((sequence, (event, body)));
        }
        Ok(())
    })?;
    registrations.sort_unstable_by_key(|(sequence, _)| *sequence);
    Ok(registrations.into_iter().map(|(_, registration)| registration).collect())
}

/// Returns, by home, the last registration that no clean-up hides, and since when the agent is registered.
/// Registrations at a home from which the agent has moved away count only for that time, at its new home.
fn current_registrations<'a>(
    conn: &Connection,
    agent_id: &str,
    registrations: &'a [(Event, AgentRegister)],
    moved: &BTreeMap<&str, Moved>,
) -> Result<BTreeMap<String, Registration<'a>>, StoreError> {
    let mut current: BTreeMap<String, Registration<'a>> = BTreeMap::new();
    let mut earlier = Vec::new();
    for (event, body) in registrations {
        if let Some(to) = moved.get(event.origin.as_str()).filter(|to| event.at < to.until) {
            earlier.push((&to.home, event));
            continue;
        }
        if cleanup::is_hidden(cleanup::cleaned_up(conn, agent_id, &event.origin)?.as_ref(), rank(event)) {
            continue;
        }
        let registration = current
            .entry(event.origin.clone())
            .or_insert(Registration { last: (event, body), first_at: joined(event, body) });
        registration.first_at = registration.first_at.min(joined(event, body));
        if rank(registration.last.0) < rank(event) {
            registration.last = (event, body);
        }
    }
    for (home, event) in earlier {
        let hidden = cleanup::is_hidden(cleanup::cleaned_up(conn, agent_id, home)?.as_ref(), rank(event));
        if let Some(registration) = current.get_mut(home).filter(|_| !hidden) {
            registration.first_at = registration.first_at.min(event.at);
        }
    }
    Ok(current)
}

/// Updates an agent's row at one home. Starts to refill the agent's mailbox if the home is this daemon and the change
/// affects the mailbox.
fn settle_at_home(
    tx: &mut Tx<'_>,
    event: &Event,
    body: &AgentRegister,
    first_at: Timestamp,
    refill: bool,
) -> Result<(), StoreError> {
    let conn = tx.conn;
    let before = registered(conn, &body.agent_id, &event.origin)?;
    put(conn, event, body, first_at)?;
    let changed =
        refill || before.as_ref().is_none_or(|before| before.first_at != first_at || before.role != body.role);
    if changed
        && event.origin == tx.home()
        && let Some(now) = registered(conn, &body.agent_id, &event.origin)?
    {
        mailbox::begin(tx, now.owner, before.is_none())?;
    }
    Ok(())
}

/// Removes an agent's rows at all homes except these. If this daemon is not among them, schedules the removal of the
/// agent's mailbox.
fn remove_but_at(tx: &Tx<'_>, agent_id: &str, homes: &[&String]) -> Result<(), StoreError> {
    let conn = tx.conn;
    let mut known = conn.prepare_cached("SELECT owner, home FROM agents WHERE agent_id = ?1")?;
    let known: Vec<(i64, String)> =
        known.query_map([agent_id], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    for (owner, home) in known.iter().filter(|(_, home)| !homes.contains(&home)) {
        conn.prepare_cached("DELETE FROM agents WHERE owner = ?1")?.execute([owner])?;
        if home == tx.home() {
            pending::prune(conn, *owner)?;
        }
    }
    Ok(())
}

/// Writes the agent's row. The number of a mailbox that held messages is never reused, because rows of the old mailbox
/// may still exist.
fn put(conn: &Connection, event: &Event, body: &AgentRegister, first_at: Timestamp) -> Result<(), StoreError> {
    conn.prepare_cached(
        "INSERT INTO agents (owner, agent_id, home, event_id, registered_at, first_at, kind, role, module, display, hostname, worktree)
         VALUES (max(coalesce((SELECT max(owner) FROM agents), 0), coalesce((SELECT max(owner) FROM mailbox_counts), 0)) + 1,
                 ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         ON CONFLICT (agent_id, home) DO UPDATE SET event_id = excluded.event_id, registered_at = excluded.registered_at,
             first_at = excluded.first_at, kind = excluded.kind, role = excluded.role, module = excluded.module,
             display = excluded.display, hostname = excluded.hostname, worktree = excluded.worktree",
    )?
    .execute((
        &body.agent_id,
        &event.origin,
        &event.id,
        event.at.nanos(),
        first_at.nanos(),
        &body.kind,
        &body.role,
        &body.module,
        &body.display,
        &body.hostname,
        body.worktree.as_deref().unwrap_or_default(),
    ))?;
    Ok(())
}
