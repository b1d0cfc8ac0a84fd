//! Events that are in the log but not, or not yet, in the projection: the table `parked`.
//!
//! A rule that cannot fold an event gives the reason and the missing prerequisite: a target, a time, or a later
//! version. The event is recorded here with both, and leaves the table when the prerequisite arrives. Events about a
//! message that a purge may have removed would wait for ever and look like a fault. They have a kind of their own and
//! are not counted.
//!
//! Example: a receipt arrives before its message and is parked under the message's id. When the message arrives, its
//! rule finds a row for the id here, and the receipt is released as pending work (`message.rs`).

use rusqlite::Connection;
use thrum_core::{Event, Timestamp, bounds, limits};

use super::rank::At;
use crate::{StoreError, Tx, cutoff, parked_kind::ParkedKind};

/// The result of folding an event.
pub(super) enum Folded {
    /// The event is in the projection, deferred to the end of the batch, or correctly has no effect.
    Done,
    /// The event is in the projection, and earlier events are parked for it. Their release is recorded as pending work.
    Awaited,
    /// The event waits for its target, for its time, or for a version that understands it, or its daemon may not change
    /// the target.
    Parked(Parking),
}

impl From<Parking> for Folded {
    fn from(parking: Parking) -> Self {
        Self::Parked(parking)
    }
}

/// Why an event is parked, and what it waits for.
pub(super) struct Parking {
    kind: ParkedKind,
    reason: String,
    target: Option<String>,
    due: Option<Timestamp>,
}

impl Parking {
    /// An event that this version does not understand.
    pub(super) fn not_understood(mut reason: String) -> Self {
        bounds::truncate(&mut reason, limits::MAX_REASON_BYTES);
        Self { kind: ParkedKind::NotUnderstood, reason, target: None, due: None }
    }

    /// An edit or deletion of a message of another daemon.
    pub(super) fn not_allowed(reason: &str, message_id: &str) -> Self {
        Self::for_message(ParkedKind::NotAllowed, reason, message_id)
    }

    /// A purge that folds when it is due.
    pub(super) fn purge_ahead(due: Timestamp) -> Self {
        Self::until(ParkedKind::PurgeAhead, "it lies in the future", due)
    }

    /// A purge that lies more than [`limits::PURGE_AHEAD`] in the future and folds again at `due`.
    pub(super) fn purge_far_ahead(due: Timestamp) -> Self {
        Self::until(ParkedKind::PurgeFarAhead, "it lies more than a day in the future", due)
    }

    fn for_message(kind: ParkedKind, reason: &str, message_id: &str) -> Self {
        Self { kind, reason: reason.to_owned(), target: Some(message_id.to_owned()), due: None }
    }

    fn until(kind: ParkedKind, reason: &str, due: Timestamp) -> Self {
        Self { kind, reason: reason.to_owned(), target: None, due: Some(due) }
    }
}

/// Records an event as parked.
pub(super) fn park(tx: &Tx<'_>, event: &Event, parking: &Parking) -> Result<(), StoreError> {
    let Parking { kind, reason, target, due } = parking;
    tx.conn
        .prepare_cached(
            "INSERT OR REPLACE INTO parked (event_id, signer, kind, reason, target, due) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute((&event.id, event.signer(), kind, reason, target, due.map(Timestamp::nanos)))?;
    Ok(())
}

/// Removes an event from the parked events.
pub(super) fn unpark(tx: &Tx<'_>, event: &Event) -> Result<(), StoreError> {
    tx.conn
        .prepare_cached("DELETE FROM parked WHERE event_id = ?1 AND signer = ?2")?
        .execute((&event.id, event.signer()))?;
    Ok(())
}

const MISSING: &str = "its message is not here";
/// The reason shown for [`ParkedKind::MessageMayBePurged`].
pub(super) const MAY_BE_PURGED: &str = "its message is not here, and older than a purge by a daemon that signs nothing";

/// Returns how to park an event whose message is missing: as one whose message may arrive, or may have been purged.
pub(super) fn waits_for_message(tx: &Tx<'_>, at: At<'_>, message_id: &str) -> Result<Folded, StoreError> {
    let may_be_purged = cutoff::is_older(message_id, at.event.at, tx.highest_cutoff()?);
    let (kind, reason) = if may_be_purged {
        (ParkedKind::MessageMayBePurged, MAY_BE_PURGED)
    } else {
        (ParkedKind::MessageMissing, MISSING)
    };
    Ok(Parking::for_message(kind, reason, message_id).into())
}

/// Changes an event that is parked as [`ParkedKind::MessageMissing`] to [`ParkedKind::MessageMayBePurged`]. Returns
/// `true` if the event was parked as the former.
pub(super) fn give_up(conn: &Connection, event_id: &str, signer: &str) -> Result<bool, StoreError> {
    let mut statement = conn
        .prepare_cached("UPDATE parked SET kind = ?3, reason = ?4 WHERE event_id = ?1 AND signer = ?2 AND kind = ?5")?;
    let values = (event_id, signer, ParkedKind::MessageMayBePurged, MAY_BE_PURGED, ParkedKind::MessageMissing);
    Ok(statement.execute(values)? > 0)
}
