//! Folds sessions, work contexts and presences.
//!
//! Of several starts of a session, one counts: the start by the daemon that made the id, otherwise the first signed
//! one, otherwise the first one (`rank.rs`). Only the daemon where a session started may end it, unless that daemon
//! signs nothing ([`may_end`]); the first permitted end counts. An end without a known start is stored, but not shown
//! until the start arrives.

use rusqlite::{Connection, OptionalExtension};
use thrum_core::{
    Event, Payload, Timestamp, bounds, key,
    payload::{AgentPresence, AgentUpdate, SessionEnd, SessionStart},
};

use super::{
    cleanup, events,
    parked::Folded,
    rank::{At, precedence, precedence_of, rank},
};
use crate::{StoreError, Tx, arrival};

/// What is known here about the start of a session: nothing, only that the session has ended, or the start that counts.
enum Begun {
    Not,
    Unknown,
    At { home: String, at: Timestamp, event_id: String },
}

fn begun(conn: &Connection, session: &str) -> Result<Begun, StoreError> {
    let mut statement =
        conn.prepare_cached("SELECT started_at, start_event, home FROM sessions WHERE session_id = ?1")?;
    let found: Option<(Option<i64>, Option<String>, String)> =
        statement.query_row([session], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
    Ok(match found {
        None => Begun::Not,
        Some((Some(at), Some(event_id), home)) => Begun::At { home, at: Timestamp::from_nanos(at), event_id },
        Some(_) => Begun::Unknown,
    })
}

/// Folds the start of a session.
pub(super) fn start(tx: &mut Tx<'_>, at: At<'_>, body: &SessionStart) -> Result<Folded, StoreError> {
    let (conn, event) = (tx.conn, at.event);
    let cleaned_up = cleanup::cleaned_up(conn, &body.agent_id, &event.origin)?;
    if cleanup::is_hidden(cleaned_up.as_ref(), at.rank()) {
        return Ok(Folded::Done);
    }
    match begun(conn, &body.session_id)? {
        Begun::Not => put_start(conn, event, body)?,
        // There may be any number of starts. A start that does not take precedence changes nothing; a start that does,
        // and that is by the same daemon, changes only the session's row.
        Begun::At { home, at: begun, event_id }
            if precedence(&body.session_id, &home, (begun, &event_id)) <= precedence_of(&body.session_id, event) => {}
        Begun::At { home, .. } if home == event.origin => {
            let shown = arrival::shown_of(conn, &event.origin, event.at)?.nanos();
            conn.prepare_cached(
                "UPDATE sessions SET agent_id = ?2, started_at = ?3, start_event = ?4, shown_at = ?5 WHERE session_id = ?1",
            )?
            .execute((&body.session_id, &body.agent_id, event.at.nanos(), &event.id, shown))?;
        }
        _ => {
            tx.deferred.sessions.insert(body.session_id.clone());
        }
    }
    Ok(Folded::Done)
}

fn put_start(conn: &Connection, event: &Event, body: &SessionStart) -> Result<(), StoreError> {
    conn.prepare_cached(
        "INSERT INTO sessions (session_id, agent_id, home, started_at, start_event, shown_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute((
        &body.session_id,
        &body.agent_id,
        &event.origin,
        event.at.nanos(),
        &event.id,
        arrival::shown_of(conn, &event.origin, event.at)?.nanos(),
    ))?;
    Ok(())
}

/// Folds the end of a session, whether or not its start is known.
pub(super) fn end(tx: &mut Tx<'_>, at: At<'_>, body: &SessionEnd) -> Result<Folded, StoreError> {
    match begun(tx.conn, &body.session_id)? {
        // Ends by one signer have unique ids, so time and id decide between them. Unsigned ends may share both and
        // differ only in their origins, which only a refold compares.
        Begun::At { home, .. } if home == at.event.origin && key::is_signed_origin(&home) => {
            put_end(tx.conn, at.event, body)?
        }
        Begun::At { home, .. } if !may_end(&home, &at.event.origin) => {}
        Begun::At { .. } | Begun::Unknown if !is_end_of_rank(tx.conn, &body.session_id, at)? => {
            put_end(tx.conn, at.event, body)?
        }
        _ => {
            tx.deferred.sessions.insert(body.session_id.clone());
        }
    }
    Ok(Folded::Done)
}

/// Returns `true` if the end that counts has the same time and id as this one.
fn is_end_of_rank(conn: &Connection, session: &str, at: At<'_>) -> Result<bool, StoreError> {
    let mut statement =
        conn.prepare_cached("SELECT 1 FROM sessions WHERE session_id = ?1 AND ended_at = ?2 AND end_event = ?3")?;
    Ok(statement.exists((session, at.event.at.nanos(), &at.event.id))?)
}

/// Returns `true` if `origin` may end a session of `home`. If `home` signs nothing, any daemon may: any peer could
/// forge the events of `home` anyway, and the daemon to which the agent moved ends its open sessions (`ops/moving.rs`).
fn may_end(home: &str, origin: &str) -> bool {
    home == origin || !key::is_signed_origin(home)
}

fn put_end(conn: &Connection, event: &Event, body: &SessionEnd) -> Result<(), StoreError> {
    conn.prepare_cached(
        "INSERT INTO sessions (session_id, agent_id, home, ended_at, end_event, end_reason) VALUES (?1, '', '', ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET ended_at = excluded.ended_at, end_event = excluded.end_event, end_reason = excluded.end_reason
         WHERE ended_at IS NULL OR (excluded.ended_at, excluded.end_event) < (ended_at, end_event)",
    )?
    .execute((&body.session_id, event.at.nanos(), &event.id, &body.reason))?;
    Ok(())
}

/// Folds an update. The last update of a session counts, per agent and home.
pub(super) fn update(conn: &Connection, at: At<'_>, body: &AgentUpdate) -> Result<Folded, StoreError> {
    let event = at.event;
    let cleaned_up = cleanup::cleaned_up(conn, &body.agent_id, &event.origin)?;
    if cleanup::is_hidden(cleaned_up.as_ref(), at.rank()) {
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

/// Folds a presence. The last presence that a daemon reports for an agent counts.
pub(super) fn presence(conn: &Connection, at: At<'_>, body: &AgentPresence) -> Result<Folded, StoreError> {
    let event = at.event;
    let cleaned_up = cleanup::cleaned_up(conn, &body.agent_id, &event.origin)?;
    if cleanup::is_hidden(cleaned_up.as_ref(), at.rank()) {
        return Ok(Folded::Done);
    }
    let of = |text: &Option<String>| text.as_deref().and_then(Timestamp::parse).map(|at| at.min(event.at));
    let (since, person_at) = (of(&body.since).unwrap_or(event.at), of(&body.person_at).unwrap_or_default());
    conn.prepare_cached(
        "INSERT INTO presences (agent_id, home, at, event_id, state, wakeable, since, person_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT DO UPDATE SET at = excluded.at, event_id = excluded.event_id, state = excluded.state,
             wakeable = excluded.wakeable, since = excluded.since, person_at = excluded.person_at
         WHERE (excluded.at, excluded.event_id) > (at, event_id)",
    )?
    .execute((
        &body.agent_id,
        &event.origin,
        event.at.nanos(),
        &event.id,
        &body.state,
        body.wakeable,
        since.nanos(),
        person_at.nanos(),
    ))?;
    Ok(Folded::Done)
}

/// Hides the sessions, contexts and presence of an agent at `home` that are older than its clean-up there.
pub(super) fn hide(tx: &mut Tx<'_>, agent_id: &str, home: &str) -> Result<(), StoreError> {
    let Some((time, id)) = cleanup::cleaned_up(tx.conn, agent_id, home)? else { return Ok(()) };
    let (time, id) = (time.nanos(), id.as_str());
    tx.conn
        .prepare_cached("DELETE FROM contexts WHERE agent_id = ?1 AND home = ?2 AND (at, event_id) < (?3, ?4)")?
        .execute((agent_id, home, time, id))?;
    tx.conn
        .prepare_cached("DELETE FROM presences WHERE agent_id = ?1 AND home = ?2 AND (at, event_id) < (?3, ?4)")?
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

/// Rebuilds a session from all its events in the log.
pub(super) fn refold(tx: &mut Tx<'_>, session: &str) -> Result<(), StoreError> {
    let conn = tx.conn;
    conn.prepare_cached("DELETE FROM sessions WHERE session_id = ?1")?.execute([session])?;
    // Keep only the best candidate so far: there may be many, each as large as an event may be.
    let mut begun: Option<(Event, SessionStart)> = None;
    events::each(tx, "target = ?1 AND type = 'agent.session.start'", session, |mut event, _| {
        if let Ok(payload) = Payload::read(&event.kind, &event.body)
            && !bounds::oversized_id(&payload)
            && let Payload::SessionStart(body) = payload
            && !cleanup::is_hidden(cleanup::cleaned_up(conn, &body.agent_id, &event.origin)?.as_ref(), rank(&event))
            && begun.as_ref().is_none_or(|(first, _)| precedence_of(session, &event) < precedence_of(session, first))
        {
            event.body = String::new();
            begun = Some((event, body));
        }
        Ok(())
    })?;
    if let Some((event, body)) = &begun {
        put_start(conn, event, body)?;
    }
    let mut ended: Option<(Event, SessionEnd)> = None;
    events::each(tx, "target = ?1 AND type = 'agent.session.end'", session, |mut event, _| {
        if begun.as_ref().is_none_or(|(begun, _)| may_end(&begun.origin, &event.origin))
            && let Ok(payload) = Payload::read(&event.kind, &event.body)
            && !bounds::oversized_id(&payload)
            && let Payload::SessionEnd(body) = payload
            && ended
                .as_ref()
                .is_none_or(|(first, _)| (event.at, &event.id, &event.origin) < (first.at, &first.id, &first.origin))
        {
            event.body = String::new();
            ended = Some((event, body));
        }
        Ok(())
    })?;
    if let Some((event, body)) = ended {
        put_end(conn, &event, &body)?;
    }
    Ok(())
}
