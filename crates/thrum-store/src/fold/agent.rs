//! Agents: per name and home, the last registration counts; a clean-up hides what came before it.

use rusqlite::{Connection, OptionalExtension};
use thrum_core::{
    Event, Stamp,
    payload::{AgentCleanup, AgentRegister},
};

use super::{At, Folded, Rank, former, message, residence};
use crate::{StoreError, Tx};

struct Registered {
    owner: i64,
    last: (Stamp, String),
    first_at: Stamp,
    role: String,
}

fn registered(conn: &Connection, agent_id: &str, home: &str) -> Result<Option<Registered>, StoreError> {
    let mut statement =
        conn.prepare_cached("SELECT owner, registered_at, event_id, first_at, role FROM agents WHERE agent_id = ?1 AND home = ?2")?;
    let found = statement.query_row((agent_id, home), |row| {
        Ok(Registered {
            owner: row.get(0)?,
            last: (Stamp::from_nanos(row.get(1)?), row.get(2)?),
            first_at: Stamp::from_nanos(row.get(3)?),
            role: row.get(4)?,
        })
    });
    Ok(found.optional()?)
}

/// The last clean-up of an agent by its home, if there was one.
pub(super) fn cleaned_up(conn: &Connection, agent_id: &str, home: &str) -> Result<Option<(Stamp, String)>, StoreError> {
    let mut statement = conn.prepare_cached("SELECT at, event_id FROM cleanups WHERE agent_id = ?1 AND home = ?2")?;
    let found = statement.query_row((agent_id, home), |row| Ok((Stamp::from_nanos(row.get(0)?), row.get(1)?)));
    Ok(found.optional()?)
}

/// Whether a clean-up hides what stands at `rank`.
pub(super) fn is_hidden(cleanup: Option<&(Stamp, String)>, rank: Rank<'_>) -> bool {
    cleanup.is_some_and(|(time, id)| rank < (*time, id.as_str()))
}

/// Since when a registration says that the agent is there.
pub(super) fn joined(event: &Event, body: &AgentRegister) -> Stamp {
    body.joined_at.as_deref().and_then(Stamp::parse).map_or(event.at, |joined| joined.min(event.at))
}

/// The last registration says what the agent is; the first decides which mail to roles and everyone it gets.
pub(super) fn register(tx: &mut Tx<'_>, at: At<'_>, body: &AgentRegister) -> Result<Folded, StoreError> {
    let (event, conn) = (at.event, tx.conn);
    if tx.later.agents.contains(&body.agent_id) {
        return Ok(Folded::Done);
    }
    if former::concerns(conn, event, body)? {
        tx.later.agents.insert(body.agent_id.clone());
        return Ok(Folded::Done);
    }
    let cleanup = cleaned_up(conn, &body.agent_id, &event.origin)?;
    if is_hidden(cleanup.as_ref(), at.rank()) {
        if let Some((until, _)) = cleanup {
            residence::extend(tx, &body.agent_id, &event.origin, joined(event, body), until.nanos())?;
        }
        return Ok(Folded::Done);
    }
    if event.origin != tx.home() {
        residence::extend(tx, &body.agent_id, &event.origin, joined(event, body), i64::MAX)?;
    }
    match registered(conn, &body.agent_id, &event.origin)? {
        // An agent that lives elsewhere has no mailbox here, so that what it is follows from what it was and this event.
        None if event.origin != tx.home() => put(conn, event, body, joined(event, body))?,
        Some(before) if event.origin != tx.home() && (before.last.0, before.last.1.as_str()) < at.rank() => {
            put(conn, event, body, before.first_at.min(joined(event, body)))?;
        }
        Some(_) if event.origin != tx.home() => {
            conn.prepare_cached("UPDATE agents SET first_at = ?3 WHERE agent_id = ?1 AND home = ?2 AND first_at > ?3")?.execute((
                &body.agent_id,
                &event.origin,
                joined(event, body).nanos(),
            ))?;
        }
        // Nobody's mailbox changes.
        Some(before) if before.first_at <= joined(event, body) && at.rank() < (before.last.0, before.last.1.as_str()) => {}
        Some(before) if before.first_at <= joined(event, body) && before.role == body.role => put(conn, event, body, before.first_at)?,
        _ => {
            tx.later.agents.insert(body.agent_id.clone());
        }
    }
    Ok(Folded::Done)
}

/// Makes an agent what its registrations say, at one home, and fills its mailbox if that says so and it is read here.
pub(super) fn settle(tx: &Tx<'_>, event: &Event, body: &AgentRegister, first_at: Stamp, refill: bool) -> Result<(), StoreError> {
    let conn = tx.conn;
    let before = registered(conn, &body.agent_id, &event.origin)?;
    put(conn, event, body, first_at)?;
    let changed = refill || before.is_none_or(|before| before.first_at != first_at || before.role != body.role);
    if changed && event.origin == tx.home() {
        fill_mailbox(conn, &body.agent_id, &event.origin)?;
    }
    Ok(())
}

/// Takes an agent away with its mailboxes, but from these homes.
pub(super) fn remove_but_at(conn: &Connection, agent_id: &str, homes: &[&String]) -> Result<(), StoreError> {
    let mut known = conn.prepare_cached("SELECT owner, home FROM agents WHERE agent_id = ?1")?;
    let known: Vec<(i64, String)> = known.query_map([agent_id], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    for (owner, _) in known.iter().filter(|(_, home)| !homes.contains(&home)) {
        conn.prepare_cached("DELETE FROM mailbox WHERE owner = ?1")?.execute([owner])?;
        conn.prepare_cached("DELETE FROM agents WHERE owner = ?1")?.execute([owner])?;
    }
    Ok(())
}

/// Writes what the agent is.
fn put(conn: &Connection, event: &Event, body: &AgentRegister, first_at: Stamp) -> Result<(), StoreError> {
    conn.prepare_cached(
        "INSERT INTO agents (agent_id, home, event_id, registered_at, first_at, kind, role, module, display, hostname, worktree)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
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

/// Hides the home's earlier registration, sessions and contexts of the agent; never messages.
pub(super) fn cleanup(tx: &mut Tx<'_>, at: At<'_>, body: &AgentCleanup) -> Result<Folded, StoreError> {
    let (event, conn) = (at.event, tx.conn);
    let before = cleaned_up(conn, &body.agent_id, &event.origin)?;
    if before.as_ref().is_some_and(|(time, id)| (*time, id.as_str()) >= at.rank()) {
        return Ok(Folded::Done);
    }
    conn.prepare_cached("INSERT OR REPLACE INTO cleanups VALUES (?1, ?2, ?3, ?4)")?.execute((
        &body.agent_id,
        &event.origin,
        event.at.nanos(),
        &event.id,
    ))?;
    tx.later.agents.insert(body.agent_id.clone());
    tx.later.cleaned.insert((body.agent_id.clone(), event.origin.clone()));
    Ok(Folded::Done)
}

/// Puts into an agent's mailbox what is addressed to it, anew.
fn fill_mailbox(conn: &Connection, agent_id: &str, home: &str) -> Result<(), StoreError> {
    let Some(agent) = registered(conn, agent_id, home)? else { return Ok(()) };
    conn.prepare_cached("DELETE FROM mailbox WHERE owner = ?1")?.execute([agent.owner])?;
    conn.prepare_cached(&format!(
        "INSERT INTO mailbox (owner, at, sequence, unread)
         SELECT ?1, m.shown_at, m.sequence,
                NOT (m.agent_id = ?2 AND m.home = ?3) AND NOT {}
         FROM (SELECT a.sequence FROM audience a WHERE a.kind = 0 AND a.value = ?2 AND {}
               UNION
               SELECT a.sequence FROM audience a JOIN messages m ON m.sequence = a.sequence
               WHERE a.kind = 1 AND a.value = ?4 AND a.home = '' AND a.at >= ?5 AND NOT (m.agent_id = ?2 AND m.home = ?3)
               UNION
               SELECT a.sequence FROM audience a JOIN messages m ON m.sequence = a.sequence
               WHERE a.kind = 2 AND a.value = '' AND a.home = '' AND a.at >= ?5 AND NOT (m.agent_id = ?2 AND m.home = ?3)) addressed
         JOIN messages m ON m.sequence = addressed.sequence JOIN agents a ON a.owner = ?1",
        message::read_at_home("m.message_id", "m.at"),
        residence::is_for("?2", "?3")
    ))?
    .execute((agent.owner, agent_id, home, &agent.role, agent.first_at.nanos()))?;
    Ok(())
}
