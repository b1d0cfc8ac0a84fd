//! Folds purges, and sweeps the events that they remove.
//!
//! The cutoff, the ids that purges list and the event alone decide which events are removed (`crate::cutoff`). Folding
//! a purge only moves the cutoff and records the ids; from then on, such events do not enter the log. [`sweep`] removes
//! the existing ones in pieces (`work.rs`), row by row in the order of the log. If a purge removes a message for all
//! origins, the message disappears with the first of its events, so it is never shown in an earlier state. Until the
//! sweep reaches it, the message is shown as before the purge. But it is not added to any mailbox, and refolds skip
//! events that are to be removed ([`events::each`]).

use rusqlite::Connection;
use thrum_core::{
    SetDigest, Timestamp, ids, key, limits,
    payload::{Ages, EventType, PurgeExecuted, Subject},
};

use super::{
    events, message,
    own_rows::OwnRows,
    parked::{self, Folded, Parking},
    pending,
    rank::At,
};
use crate::{
    StoreError, Tx,
    cutoff::{self, Aged},
    migrate::overwrite,
    parked_kind::ParkedKind,
    transaction_room::PIECE_BYTES,
};

/// Folds a purge. The effective cutoff is never later than the purge itself, because a purge cannot remove events
/// written after it. While the cutoff lies in the future, the purge is parked.
pub(super) fn execute(tx: &mut Tx<'_>, at: At<'_>, body: &PurgeExecuted) -> Result<Folded, StoreError> {
    let Some(asked) = Timestamp::parse(&body.cutoff) else {
        return Ok(Parking::not_understood(format!("its cutoff is no time: {}", body.cutoff)).into());
    };
    let effective = asked.min(at.event.at);
    let scope = cutoff::scope(&at.event.origin);
    if effective <= cutoff::for_scope(tx.conn, scope)? {
        record_listed_ids(tx, scope, body)?;
        return Ok(Folded::Done);
    }
    let now = tx.now();
    if effective > now.plus(limits::PURGE_AHEAD) {
        // Fold the purge again when its time is near.
        return Ok(Parking::purge_far_ahead(effective.minus(limits::PURGE_AHEAD)).into());
    }
    if effective > now {
        return Ok(Parking::purge_ahead(effective).into());
    }
    tx.conn.prepare_cached("INSERT OR REPLACE INTO cutoffs VALUES (?1, ?2)")?.execute((scope, effective.nanos()))?;
    tx.cutoffs_changed();
    tx.deferred.purge = true;
    record_listed_ids(tx, scope, body)?;
    Ok(Folded::Done)
}

/// Records the ids that a purge lists.
fn record_listed_ids(tx: &mut Tx<'_>, scope: &str, body: &PurgeExecuted) -> Result<(), StoreError> {
    for id in &body.ahead {
        let added =
            tx.conn.prepare_cached("INSERT OR IGNORE INTO purged_ahead VALUES (?1, ?2)")?.execute((id, scope))?;
        tx.deferred.purge |= added > 0;
    }
    Ok(())
}

/// Returns `true` if a purge is due within [`limits::PURGE_AHEAD`] or still in progress.
pub(crate) fn waits(conn: &Connection) -> Result<bool, StoreError> {
    Ok(pending::is_purging(conn)?
        || conn
            .prepare_cached("SELECT 1 FROM parked WHERE due IS NOT NULL AND kind = ?1 LIMIT 1")?
            .exists([ParkedKind::PurgeAhead])?)
}

/// Removes the next purged rows from the log and their data from the projection. Returns the position reached; `None`
/// if no rows were left.
///
/// The text is overwritten in place. When all rows are gone, the store removes copies elsewhere in the file
/// (`crate::store`).
pub(super) fn sweep(tx: &mut Tx<'_>, after: i64) -> Result<Option<i64>, StoreError> {
    let (conn, everything, most, rows) = (tx.conn, tx.cutoff()?, tx.room.piece(), tx.room.rows());
    let (mut leaving, mut last, mut looked, mut given_up) = (Vec::new(), after, 0, 0);
    {
        let mut statement = conn.prepare_cached(
            "SELECT sequence, type, at, target, origin_daemon, event_id, octet_length(body) FROM events WHERE sequence > ?1
             ORDER BY sequence LIMIT ?2",
        )?;
        let mut rows = statement.query((after, rows))?;
        let mut bytes = 0;
        while leaving.len() < most
            && bytes < PIECE_BYTES
            && let Some(row) = rows.next()?
        {
            let event = Aged::of_row(row)?;
            if cutoff::is_purged(conn, event, everything)? {
                bytes += row.get::<_, usize>(6)?;
                leaving.push((row.get::<_, u64>(0)?, event.target.map(str::to_owned)));
            } else if event.kind == "message.delete"
                && let Some(target) = event.target
                && cutoff::is_gone(conn, target)?
            {
                // The deletion stays in the log, but is no longer parked.
                let mut unpark = conn.prepare_cached("DELETE FROM parked WHERE target = ?1 AND event_id = ?2")?;
                unpark.execute((target, event.id))?;
            } else if EventType::waits_for_message(event.kind)
                && let Some(target) = event.target
                && cutoff::is_older(target, event.at, tx.highest_cutoff()?)
            {
                given_up += u64::from(parked::give_up(
                    conn,
                    event.id,
                    if key::is_signed_origin(event.origin) { event.origin } else { "" },
                )?);
            }
            (last, looked) = (row.get(0)?, looked + 1);
        }
    }
    if given_up > 0 {
        tracing::info!(events = given_up, reason = parked::MAY_BE_PURGED, "parked events are not counted any more");
    }
    overwrite(conn, true)?;
    for (sequence, target) in &leaving {
        take_out(tx, *sequence, target.as_deref(), everything)?;
    }
    overwrite(conn, false)?;
    tx.room.spend_looking(leaving.len(), looked);
    if looked > 0 {
        return Ok(Some(last));
    }
    // Remove the samples of old rejected events, which may contain purged text, but keep the record of the rejection.
    conn.execute("UPDATE rejected SET sample = '' WHERE at < ?1 AND sample <> ''", [everything.nanos()])?;
    conn.execute("DELETE FROM presence WHERE agent_id NOT IN (SELECT agent_id FROM agents)", [])?;
    Ok(None)
}

/// Removes one event from the log and its data from the projection. Other events about the same target may stay if the
/// target's id contains no time or if another origin wrote them; the target is then refolded from them.
fn take_out(tx: &mut Tx<'_>, sequence: u64, target: Option<&str>, everything: Timestamp) -> Result<(), StoreError> {
    let conn = tx.conn;
    let event = events::at(tx, sequence)?;
    let aged = Aged::of(&event, target);
    let subject = EventType::by_name(&event.kind).and_then(|known| known.target);
    match (subject, target) {
        _ if aged.ages() == Ages::ByTime => {
            OwnRows::of(&event.kind, &event.body).withdraw(conn, &event.origin, &event.id)?;
            if event.at >= cutoff::for_origin(conn, &event.origin, everything)? && !tx.rebuilds {
                pending::refold_contexts(conn)?;
            }
        }
        (None, _) | (_, None) => {}
        // During a rebuild, only the remaining events are folded anyway.
        (_, Some(_)) if tx.rebuilds => {}
        (Some(Subject::Session), Some(session)) => pending::refold_session(conn, session)?,
        // No purge removes registrations.
        (Some(Subject::Agent), Some(_)) => {}
        (Some(Subject::Message), Some(message_id)) => {
            if ids::ulid_time(message_id).is_some() && cutoff::takes_of_everybody(conn, aged, everything)? {
                message::withdraw(tx, message_id)?;
                pending::gone(conn, message_id)?;
            } else {
                message::withdraw_creation(tx, message_id, sequence)?;
                pending::refold_message(conn, message_id)?;
            }
            message::withdraw_reference(conn, &event)?;
        }
    }
    parked::unpark(tx, &event)?;
    tx.remove_row(sequence)?;
    tx.progress.uncount(event.origin, event.log, event.seq, SetDigest::of(event.body.as_bytes()));
    Ok(())
}
