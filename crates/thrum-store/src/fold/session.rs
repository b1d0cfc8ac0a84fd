//! Sessions and what goes on in them. Start and end are independent facts; the first of each counts.

use rusqlite::Connection;
use thrum_core::{
    Payload,
    payload::{AgentUpdate, SessionEnd, SessionStart},
};

use super::{At, Folded, agent};
use crate::{StoreError, Tx};

/// A session begins.
pub(super) fn start(conn: &Connection, at: At<'_>, body: &SessionStart) -> Result<Folded, StoreError> {
    let event = at.event;
    let cleanup = agent::cleaned_up(conn, &body.agent_id, &event.origin)?;
    if agent::is_hidden(cleanup.as_ref(), at.rank()) {
        return Ok(Folded::Done);
    }
    conn.prepare_cached(
        "INSERT INTO sessions (session_id, agent_id, home, started_at, start_event) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET agent_id = excluded.agent_id, home = excluded.home,
             started_at = excluded.started_at, start_event = excluded.start_event
         WHERE started_at IS NULL OR (excluded.started_at, excluded.start_event) < (started_at, start_event)",
    )?
    .execute((&body.session_id, &body.agent_id, &event.origin, event.at.nanos(), &event.id))?;
    Ok(Folded::Done)
}

/// A session ends, whether or not its beginning is known.
pub(super) fn end(conn: &Connection, at: At<'_>, body: &SessionEnd) -> Result<Folded, StoreError> {
    let event = at.event;
    conn.prepare_cached(
        "INSERT INTO sessions (session_id, agent_id, home, ended_at, end_event, end_reason) VALUES (?1, '', '', ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET ended_at = excluded.ended_at, end_event = excluded.end_event, end_reason = excluded.end_reason
         WHERE ended_at IS NULL OR (excluded.ended_at, excluded.end_event) < (ended_at, end_event)",
    )?
    .execute((&body.session_id, event.at.nanos(), &event.id, &body.reason))?;
    Ok(Folded::Done)
}

/// The last update of a session counts, per agent and home.
pub(super) fn update(conn: &Connection, at: At<'_>, body: &AgentUpdate) -> Result<Folded, StoreError> {
    let event = at.event;
    let cleanup = agent::cleaned_up(conn, &body.agent_id, &event.origin)?;
    if agent::is_hidden(cleanup.as_ref(), at.rank()) {
        return Ok(Folded::Done);
    }
    for context in &body.work_contexts {
        let text = serde_json::to_string(context).map_err(|error| StoreError::Sqlite(error.to_string()))?;
        conn.prepare_cached(
            "INSERT INTO contexts VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET at = excluded.at, event_id = excluded.event_id, context = excluded.context
             WHERE (excluded.at, excluded.event_id) > (at, event_id)",
        )?
        .execute((&context.session_id, &body.agent_id, &event.origin, event.at.nanos(), &event.id, text))?;
    }
    Ok(Folded::Done)
}

/// Hides the sessions and contexts of an agent that began before its clean-up.
pub(super) fn hide(tx: &mut Tx<'_>, agent_id: &str, home: &str) -> Result<(), StoreError> {
    let Some((time, id)) = agent::cleaned_up(tx.conn, agent_id, home)? else { return Ok(()) };
    let (time, id) = (time.nanos(), id.as_str());
    tx.conn
        .prepare_cached("DELETE FROM contexts WHERE agent_id = ?1 AND home = ?2 AND (at, event_id) < (?3, ?4)")?
        .execute((agent_id, home, time, id))?;
    let sessions: Vec<String> = {
        let mut statement = tx
            .conn
            .prepare_cached("SELECT session_id FROM sessions WHERE agent_id = ?1 AND home = ?2 AND (started_at, start_event) < (?3, ?4)")?;
        statement.query_map((agent_id, home, time, id), |row| row.get(0))?.collect::<Result<_, _>>()?
    };
    for session in &sessions {
        refold(tx, session)?;
    }
    Ok(())
}

/// Folds a session again from what is left of it in the log.
pub(super) fn refold(tx: &mut Tx<'_>, session: &str) -> Result<(), StoreError> {
    tx.conn.prepare_cached("DELETE FROM sessions WHERE session_id = ?1")?.execute([session])?;
    for (event, sequence) in super::load(tx, "target = ?1 AND type IN ('agent.session.start', 'agent.session.end')", session)? {
        super::fold(tx, &event, sequence, Payload::read(&event.kind, &event.body))?;
    }
    Ok(())
}
