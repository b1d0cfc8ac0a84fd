//! Folds claims of files: for each agent, home and path the last claim or release counts, by event time and then id. A
//! release of all files is a release of the path `''`.
//!
//! The fold of claims does not use the clock, so queries decide whether a claim has expired. Purges keep claims: they
//! are few.

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

/// Folds a claim of files. The claim ends when the event says, at the latest [`limits::MAX_CLAIM`] after the event.
pub(super) fn claim(conn: &Connection, at: At<'_>, body: &FileClaim) -> Result<Folded, StoreError> {
    let Some(asked) = Timestamp::parse(&body.expires_at) else {
        return Ok(
            Parking::not_understood(format!("the end of the claim is not a timestamp: {}", body.expires_at)).into()
        );
    };
    let until = asked.clamp(at.event.at, at.event.at.plus(limits::MAX_CLAIM));
    put(conn, at, &body.agent_id, body.paths.iter().filter(|path| !path.is_empty()), until)
}

/// Folds a release of files.
pub(super) fn release(conn: &Connection, at: At<'_>, body: &FileRelease) -> Result<Folded, StoreError> {
    let all_files = [String::new()];
    if body.paths.is_empty() {
        put(conn, at, &body.agent_id, all_files.iter(), at.event.at)
    } else {
        put(conn, at, &body.agent_id, body.paths.iter().filter(|path| !path.is_empty()), at.event.at)
    }
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

/// Deletes the claims that an agent made before its last clean-up.
pub(super) fn delete_before_cleanup(conn: &Connection, agent_id: &str, home: &str) -> Result<(), StoreError> {
    let Some((time, id)) = cleanup::cleaned_up(conn, agent_id, home)? else { return Ok(()) };
    conn.prepare_cached("DELETE FROM claims WHERE agent_id = ?1 AND home = ?2 AND (at, event_id) < (?3, ?4)")?
        .execute((agent_id, home, time.nanos(), &id))?;
    Ok(())
}
