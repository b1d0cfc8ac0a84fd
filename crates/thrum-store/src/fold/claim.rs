//! Folds claims of files: per agent, home and path the last claim or release counts. A release of all files is a
//! release of the path `''`.
//!
//! Queries decide whether a claim has expired, because no rule here uses the clock. Purges do not remove claims or
//! registrations: they are not mail, and there are few.

use rusqlite::Connection;
use thrum_core::{
    Timestamp, limits,
    payload::{FileClaim, FileRelease},
};

use super::{
    cleanup,
    parked::{Folded, Parking},
    rank::At,
};
use crate::StoreError;

/// Folds a claim of files until a given time, at most [`limits::MAX_CLAIM`] after the event.
pub(super) fn claim(conn: &Connection, at: At<'_>, body: &FileClaim) -> Result<Folded, StoreError> {
    let Some(asked) = Timestamp::parse(&body.expires_at) else {
        return Ok(Parking::not_understood(format!("its end is no time: {}", body.expires_at)).into());
    };
    let until = asked.clamp(at.event.at, at.event.at.plus(limits::MAX_CLAIM));
    put(conn, at, &body.agent_id, body.paths.iter().filter(|path| !path.is_empty()), until)
}

/// Folds a release of files.
pub(super) fn release(conn: &Connection, at: At<'_>, body: &FileRelease) -> Result<Folded, StoreError> {
    let all = [String::new()];
    let listed = body.paths.iter().filter(|path| !path.is_empty());
    let all = all.iter().filter(|_| body.paths.is_empty());
    put(conn, at, &body.agent_id, listed.chain(all), at.event.at)
}

fn put<'p>(
    conn: &Connection,
    at: At<'_>,
    agent_id: &str,
    paths: impl Iterator<Item = &'p String>,
    until: Timestamp,
) -> Result<Folded, StoreError> {
    let event = at.event;
    if cleanup::is_hidden(cleanup::cleaned_up(conn, agent_id, &event.origin)?.as_ref(), at.rank()) {
        return Ok(Folded::Done);
    }
    for path in paths {
        conn.prepare_cached(
            "INSERT INTO claims VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET at = excluded.at, event_id = excluded.event_id, until = excluded.until
             WHERE (excluded.at, excluded.event_id) > (at, event_id)",
        )?
        .execute((agent_id, &event.origin, path, event.at.nanos(), &event.id, until.nanos()))?;
    }
    Ok(Folded::Done)
}

/// Hides an agent's claims at `home` that are older than its clean-up there.
pub(super) fn hide(conn: &Connection, agent_id: &str, home: &str) -> Result<(), StoreError> {
    let Some((time, id)) = cleanup::cleaned_up(conn, agent_id, home)? else { return Ok(()) };
    conn.prepare_cached("DELETE FROM claims WHERE agent_id = ?1 AND home = ?2 AND (at, event_id) < (?3, ?4)")?
        .execute((agent_id, home, time.nanos(), &id))?;
    Ok(())
}
