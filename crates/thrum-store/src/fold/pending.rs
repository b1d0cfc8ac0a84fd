//! The queue of work that one transaction leaves for later ones: the table `pending`.
//!
//! One event may affect any number of others: a message may arrive after a hundred thousand receipts for it, and a
//! purge removes all old events. This work is recorded in the table `pending` and done in pieces, each in a transaction
//! that also records the progress. So a caller waits for one piece, not for all of the work, and a killed process
//! resumes where it stopped.
//!
//! * `arrived`: a message has arrived, and the events that waited for it are released. They are no longer listed as
//!   parked, unless their daemon may not change the message. They move behind the message in the log, for peers that
//!   read rows in order and cannot keep events that they cannot apply yet (`message.rs`).
//! * `fill` and `prune`: messages are added to an agent's mailbox, newest first, and removed from it if they do not
//!   belong there (`mailbox.rs`).
//! * `purge`: purged events leave the log (`purge.rs`).
//! * `refold …`: a purge removed some of the events about a message or a session, or some work contexts or presences.
//!   The remaining ones are folded again when no more events leave (`refold.rs`, `session.rs`).
//!
//! While `purge` or `refold …` is pending, daemons do not compare projections. The other kinds do not change the
//! compared tables.
//!
//! This file maintains the queue and chooses the next work; it does none of the work. `work.rs` dispatches each row to
//! the file of its subject.
//!
//! Example: a purge is folded, and an agent registers. The queue holds `purge` and `fill 7`. The kinds take turns:
//! after a piece of `fill` comes a piece of `purge`. Meanwhile the purge adds `refold message msg_1`, which is not
//! dispatched before `purge` is done.

use rusqlite::{Connection, OptionalExtension};

use crate::StoreError;

pub(super) const ARRIVED: &str = "arrived";
pub(super) const FILL: &str = "fill";
pub(super) const PRUNE: &str = "prune";
pub(super) const PURGE: &str = "purge";
// These sort behind `purge`; `is_purging` and `next` rely on that.
pub(super) const REFOLD_CONTEXTS: &str = "refold contexts";
pub(super) const REFOLD_MESSAGE: &str = "refold message";
pub(super) const REFOLD_SESSION: &str = "refold session";

/// One row of the table `pending`. Each kind of work defines its own meaning of `after` and `upto`.
pub(super) struct Pending {
    pub(super) work: String,
    pub(super) target: String,
    pub(super) after: i64,
    pub(super) upto: i64,
}

/// Returns `true` if any work is left.
pub(crate) fn is_pending(conn: &Connection) -> Result<bool, StoreError> {
    Ok(conn.prepare_cached("SELECT 1 FROM pending LIMIT 1")?.exists([])?)
}

/// Returns `true` if the log may still contain purged rows.
pub(crate) fn is_sweeping(conn: &Connection) -> Result<bool, StoreError> {
    Ok(conn.prepare_cached("SELECT 1 FROM pending WHERE work = 'purge'")?.exists([])?)
}

/// Returns `true` if a purge is in progress, including the refolds that follow it.
pub(crate) fn is_purging(conn: &Connection) -> Result<bool, StoreError> {
    Ok(conn.prepare_cached("SELECT 1 FROM pending WHERE work >= 'purge' LIMIT 1")?.exists([])?)
}

/// Returns `true` if a mailbox of this daemon is being filled.
pub(crate) fn is_filling(conn: &Connection) -> Result<bool, StoreError> {
    Ok(conn.prepare_cached("SELECT 1 FROM pending WHERE work = 'fill' LIMIT 1")?.exists([])?)
}

/// Records the progress of some work, or that it is done.
pub(super) fn keep(conn: &Connection, work: &str, target: &str, left: Option<(i64, i64)>) -> Result<(), StoreError> {
    match left {
        Some((after, upto)) => put(conn, work, target, after, upto),
        None => done(conn, work, target),
    }
}

/// Records work with its position, and replaces the position of work that is already recorded.
fn put(conn: &Connection, work: &str, target: &str, after: i64, upto: i64) -> Result<(), StoreError> {
    conn.prepare_cached("INSERT OR REPLACE INTO pending VALUES (?1, ?2, ?3, ?4)")?
        .execute((work, target, after, upto))?;
    Ok(())
}

fn done(conn: &Connection, work: &str, target: &str) -> Result<(), StoreError> {
    conn.prepare_cached("DELETE FROM pending WHERE work = ?1 AND target = ?2")?.execute((work, target))?;
    Ok(())
}

/// Records that the first creation of a message arrived, with this sequence, and that events waited for it.
pub(super) fn arrived(conn: &Connection, message_id: &str, created: u64) -> Result<(), StoreError> {
    put(conn, ARRIVED, message_id, 0, i64::try_from(created).unwrap_or(i64::MAX))
}

/// Schedules the mailbox with this owner to be filled, newest messages first.
pub(super) fn fill(conn: &Connection, owner: i64) -> Result<(), StoreError> {
    put(conn, FILL, &owner.to_string(), i64::MAX, i64::MAX)
}

/// Cancels the release of a message's waiting events: the message is gone again, or is refolded completely.
pub(super) fn gone(conn: &Connection, message_id: &str) -> Result<(), StoreError> {
    done(conn, ARRIVED, message_id)
}

/// Schedules the mailbox with this owner to be pruned: it may hold messages that do not belong there, or its agent is
/// gone.
pub(super) fn prune(conn: &Connection, owner: i64) -> Result<(), StoreError> {
    put(conn, PRUNE, &owner.to_string(), i64::MIN, i64::MIN)
}

/// Schedules a sweep, because purges now remove more events.
pub(super) fn purge(conn: &Connection) -> Result<(), StoreError> {
    put(conn, PURGE, "", 0, 0)
}

/// Schedules a refold of a message, because a purge removed some of its events.
pub(super) fn refold_message(conn: &Connection, message_id: &str) -> Result<(), StoreError> {
    put(conn, REFOLD_MESSAGE, message_id, 0, 0)
}

/// Schedules a refold of a session, because a purge removed some of its events.
pub(super) fn refold_session(conn: &Connection, session: &str) -> Result<(), StoreError> {
    put(conn, REFOLD_SESSION, session, 0, 0)
}

/// Schedules a refold of work contexts and presences, because a purge removed one that may be later than some that
/// stay.
pub(super) fn refold_contexts(conn: &Connection) -> Result<(), StoreError> {
    put(conn, REFOLD_CONTEXTS, "", 0, 0)
}

/// Returns the next work. `turn` is the kind that was done last, so that the kinds take turns. Refolds wait until no
/// more events leave the log; until then, their turn passes to the first kind.
pub(super) fn next(conn: &Connection, turn: &str) -> Result<Option<Pending>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT work, target, after, upto FROM pending WHERE work > ?1 ORDER BY work, target LIMIT 1",
    )?;
    let mut behind = |work: &str| -> Result<Option<Pending>, StoreError> {
        let read = |row: &rusqlite::Row<'_>| {
            Ok(Pending { work: row.get(0)?, target: row.get(1)?, after: row.get(2)?, upto: row.get(3)? })
        };
        Ok(statement.query_row([work], read).optional()?)
    };
    let Some(next) = behind(turn)?.map_or_else(|| behind(""), |next| Ok(Some(next)))? else { return Ok(None) };
    if next.work.as_str() > PURGE && is_sweeping(conn)? { behind("") } else { Ok(Some(next)) }
}
