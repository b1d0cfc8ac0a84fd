//! Events that are in the log but not, or not yet, in the projection: the table `parked`.
//!
//! A rule that cannot fold an event gives the reason and the missing prerequisite: a target, a time, or a later
//! version. The event is recorded here with both, and folded when the prerequisite arrives. Events about a message that
//! a purge may have removed would wait for ever and look like a fault. They have a separate reason and are not counted.
//!
//! Example: a receipt arrives before its message and is parked under the message's id. When the message arrives, its
//! rule finds a row for the id here, and the receipt is released as pending work (`message.rs`).

use rusqlite::Connection;
use thrum_core::{Event, Timestamp};

use super::rank::At;
use crate::{StoreError, Tx, cutoff};

/// The result of folding an event.
pub(super) enum Folded {
    /// The event is in the projection, or correctly has no effect there.
    Done,
    /// The event is in the projection, and earlier events are parked for it. Their release is recorded as pending work.
    Awaited,
    /// The event waits for its target, for its time, or for a version that understands it.
    Parked { reason: String, target: Option<String>, due: Option<Timestamp> },
}

impl Folded {
    pub(super) fn waits_for(target: &str, reason: &str) -> Self {
        Self::Parked { reason: reason.to_owned(), target: Some(target.to_owned()), due: None }
    }
}

/// Records an event as parked.
pub(super) fn park(
    tx: &Tx<'_>,
    event: &Event,
    reason: &str,
    target: Option<&str>,
    due: Option<Timestamp>,
) -> Result<(), StoreError> {
    tx.conn.prepare_cached("INSERT OR REPLACE INTO parked VALUES (?1, ?2, ?3, ?4, ?5)")?.execute((
        &event.id,
        event.signer(),
        reason,
        target,
        due.map(Timestamp::nanos),
    ))?;
    Ok(())
}

/// Removes an event from the parked events.
pub(super) fn unpark(tx: &Tx<'_>, event: &Event) -> Result<(), StoreError> {
    tx.conn
        .prepare_cached("DELETE FROM parked WHERE event_id = ?1 AND signer = ?2")?
        .execute((&event.id, event.signer()))?;
    Ok(())
}

const NOT_HERE: &str = "its message is not here";
/// The reason for events parked for a message that is unlikely to arrive: a purge of one daemon's messages may have
/// removed it, which leaves the events of other daemons about them. If another daemon has created a message of this id,
/// the event is still applied when it arrives.
pub(crate) const MAY_BE_PURGED: &str = "its message is not here, and older than a purge by a daemon that signs nothing";

/// Parks an event whose message is missing.
pub(super) fn waits_for_message(tx: &Tx<'_>, at: At<'_>, message_id: &str) -> Result<Folded, StoreError> {
    let may_be_purged = cutoff::is_older(message_id, at.event.at, tx.highest_cutoff()?);
    Ok(Folded::waits_for(message_id, if may_be_purged { MAY_BE_PURGED } else { NOT_HERE }))
}

/// Changes the reason of an event that is parked for its message to [`MAY_BE_PURGED`]. Returns `true` if it had another
/// reason.
pub(super) fn give_up(conn: &Connection, event_id: &str, signer: &str) -> Result<bool, StoreError> {
    let mut statement =
        conn.prepare_cached("UPDATE parked SET reason = ?3 WHERE event_id = ?1 AND signer = ?2 AND reason = ?4")?;
    Ok(statement.execute((event_id, signer, MAY_BE_PURGED, NOT_HERE))? > 0)
}
