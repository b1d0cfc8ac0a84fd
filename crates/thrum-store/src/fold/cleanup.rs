//! Folds clean-ups: the last clean-up of an agent at a home hides what that home wrote about the agent before, except
//! messages.
//!
//! Registrations, sessions, work contexts, presences and claims compete with clean-ups, each in its own file, and all
//! use the functions here.
//!
//! Example: an agent registered at 9:00 is cleaned up at 10:00. A session of 9:30 that arrives afterwards is not shown;
//! a registration of 10:05 shows the agent again.

use rusqlite::{Connection, OptionalExtension};
use thrum_core::{Timestamp, payload::AgentCleanup};

use super::{
    parked::Folded,
    rank::{At, Rank},
};
use crate::{StoreError, Tx};

/// Returns the last clean-up of an agent by its home.
pub(super) fn cleaned_up(
    conn: &Connection,
    agent_id: &str,
    home: &str,
) -> Result<Option<(Timestamp, String)>, StoreError> {
    let mut statement = conn.prepare_cached("SELECT at, event_id FROM cleanups WHERE agent_id = ?1 AND home = ?2")?;
    let found = statement.query_row((agent_id, home), |row| Ok((Timestamp::from_nanos(row.get(0)?), row.get(1)?)));
    Ok(found.optional()?)
}

/// Returns `true` if a clean-up hides an event of this rank.
pub(super) fn is_hidden(cleanup: Option<&(Timestamp, String)>, rank: Rank<'_>) -> bool {
    cleanup.is_some_and(|(time, id)| rank < (*time, id.as_str()))
}

/// Folds a clean-up: hides the agent's earlier registration, sessions, contexts, presence and claims at this home;
/// never messages.
pub(super) fn execute(tx: &mut Tx<'_>, at: At<'_>, body: &AgentCleanup) -> Result<Folded, StoreError> {
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
    tx.deferred.agents.insert(body.agent_id.clone());
    tx.deferred.cleaned.insert((body.agent_id.clone(), event.origin.clone()));
    Ok(Folded::Done)
}
