//! Sessions and what goes on in them.
//!
//! Of several beginnings of a session one counts: that of the daemon that made its id, else the first. Where it began, it ends:
//! of that daemon's ends the first counts. An end whose beginning is not known is shown until it is.

use rusqlite::{Connection, OptionalExtension};
use thrum_core::{
    Event, Payload, Stamp, bounds, key,
    payload::{AgentUpdate, SessionEnd, SessionStart},
};

use super::{At, Claim, Folded, agent, claim};
use crate::{StoreError, Tx, arrival};

/// Where a session began, as far as that is here.
enum Begun {
    Not,
    Unknown,
    At { home: String, at: Stamp, event_id: String },
}

fn begun(conn: &Connection, session: &str) -> Result<Begun, StoreError> {
    let mut statement = conn.prepare_cached("SELECT started_at, start_event, home FROM sessions WHERE session_id = ?1")?;
    let found: Option<(Option<i64>, Option<String>, String)> =
        statement.query_row([session], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
    Ok(match found {
        None => Begun::Not,
        Some((Some(at), Some(event_id), home)) => Begun::At { home, at: Stamp::from_nanos(at), event_id },
        Some(_) => Begun::Unknown,
    })
}

/// A session begins.
pub(super) fn start(tx: &mut Tx<'_>, at: At<'_>, body: &SessionStart) -> Result<Folded, StoreError> {
    let (conn, event) = (tx.conn, at.event);
    let cleanup = agent::cleaned_up(conn, &body.agent_id, &event.origin)?;
    if agent::is_hidden(cleanup.as_ref(), at.rank()) {
        return Ok(Folded::Done);
    }
    match begun(conn, &body.session_id)? {
        Begun::Not => put_start(conn, event, body)?,
        // There may be any number of beginnings: those that do not count cost nothing, and one of the same daemon changes nothing else.
        Begun::At { home, at: begun, event_id }
            if claim(&body.session_id, &home, (begun, &event_id)) <= claims(&body.session_id, event) => {}
        Begun::At { home, .. } if home == event.origin => {
            let shown = arrival::shown_of(conn, &event.origin, event.at)?.nanos();
            conn.prepare_cached(
                "UPDATE sessions SET agent_id = ?2, started_at = ?3, start_event = ?4, shown_at = ?5 WHERE session_id = ?1",
            )?
            .execute((&body.session_id, &body.agent_id, event.at.nanos(), &event.id, shown))?;
        }
        _ => {
            tx.later.sessions.insert(body.session_id.clone());
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

/// A session ends, whether or not its beginning is known.
pub(super) fn end(tx: &mut Tx<'_>, at: At<'_>, body: &SessionEnd) -> Result<Folded, StoreError> {
    match begun(tx.conn, &body.session_id)? {
        // Ends of one signer have ids of their own. Others may share instant and id, and are told apart by their origins.
        Begun::At { home, .. } if home == at.event.origin && key::is_signed_origin(&home) => put_end(tx.conn, at.event, body)?,
        Begun::At { home, .. } if !may_end(&home, &at.event.origin) => {}
        Begun::At { .. } | Begun::Unknown if !is_end_of_rank(tx.conn, &body.session_id, at)? => put_end(tx.conn, at.event, body)?,
        _ => {
            tx.later.sessions.insert(body.session_id.clone());
        }
    }
    Ok(Folded::Done)
}

/// Whether the end that counts has the instant and the id of this one.
fn is_end_of_rank(conn: &Connection, session: &str, at: At<'_>) -> Result<bool, StoreError> {
    let mut statement = conn.prepare_cached("SELECT 1 FROM sessions WHERE session_id = ?1 AND ended_at = ?2 AND end_event = ?3")?;
    Ok(statement.exists((session, at.event.at.nanos(), &at.event.id))?)
}

/// Whose word counts that a session of `home` is over. Where that daemon signs nothing, anybody could say it in its name, and it
/// is also said by the daemon to which the agent moved.
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

/// Works out the contexts of all agents of a home from what is in the log about them.
pub(super) fn refold_contexts(tx: &mut Tx<'_>, home: &str) -> Result<(), StoreError> {
    let conn = tx.conn;
    conn.prepare_cached("DELETE FROM contexts WHERE home = ?1")?.execute([home])?;
    super::each(tx, "type = 'agent.update' AND origin_daemon = ?1", home, |event, sequence| {
        match Payload::read(&event.kind, &event.body) {
            Ok(payload) if bounds::oversized_id(&payload) => {}
            Ok(Payload::AgentUpdate(body)) => drop(update(conn, At { event: &event, sequence }, &body)?),
            _ => {}
        }
        Ok(())
    })
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

fn claims<'e>(session: &str, event: &'e Event) -> Claim<'e> {
    claim(session, &event.origin, (event.at, &event.id))
}

/// Works a session out from what is in the log about it.
pub(super) fn refold(tx: &mut Tx<'_>, session: &str) -> Result<(), StoreError> {
    let conn = tx.conn;
    conn.prepare_cached("DELETE FROM sessions WHERE session_id = ?1")?.execute([session])?;
    // Only the best so far is kept: there may be many, each padded to the size that an event may have.
    let mut begun: Option<(Event, SessionStart)> = None;
    super::each(tx, "target = ?1 AND type = 'agent.session.start'", session, |mut event, _| {
        if let Ok(payload) = Payload::read(&event.kind, &event.body)
            && !bounds::oversized_id(&payload)
            && let Payload::SessionStart(body) = payload
            && !agent::is_hidden(agent::cleaned_up(conn, &body.agent_id, &event.origin)?.as_ref(), (event.at, &event.id))
            && begun.as_ref().is_none_or(|(first, _)| claims(session, &event) < claims(session, first))
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
    super::each(tx, "target = ?1 AND type = 'agent.session.end'", session, |mut event, _| {
        if begun.as_ref().is_none_or(|(begun, _)| may_end(&begun.origin, &event.origin))
            && let Ok(payload) = Payload::read(&event.kind, &event.body)
            && !bounds::oversized_id(&payload)
            && let Payload::SessionEnd(body) = payload
            && ended.as_ref().is_none_or(|(first, _)| (event.at, &event.id, &event.origin) < (first.at, &first.id, &first.origin))
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
