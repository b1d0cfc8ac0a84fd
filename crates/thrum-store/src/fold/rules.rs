//! Dispatches each event to the rule that folds it.
//!
//! A rule is a function over one event, in the file of its subject. It changes rows, defers work that it cannot do by
//! itself to the end of the batch (`deferred.rs`), and queues work on an unbounded number of rows (`pending.rs`). So no
//! rule calls another rule, and any event can be passed to its rule at any time: a new one, a parked one that is due, or
//! one that belongs to a message being rebuilt.
//!
//! Example: a `message.edit` whose content cannot be parsed is parked here, with the reason, and no rule sees it.

use thrum_core::{Event, Payload, bounds};

use super::{
    agent, claim, cleanup, message,
    parked::{self, Folded, Parking},
    purge,
    rank::At,
    receipt, session,
};
use crate::{StoreError, Tx};

/// Passes one event of the log to its rule. Parks the event if there is no rule for it, or if the rule cannot fold it
/// yet.
pub(super) fn apply(
    tx: &mut Tx<'_>,
    event: &Event,
    sequence: u64,
    payload: serde_json::Result<Payload>,
) -> Result<Folded, StoreError> {
    let at = At { event, sequence };
    let folded = match &payload {
        Ok(payload) if bounds::oversized_id(payload) => {
            Parking::not_understood("an id in it is too long".to_owned()).into()
        }
        Ok(Payload::MessageCreate(body)) => message::create(tx, at, body)?,
        Ok(Payload::MessageEdit(body)) => message::edit(tx, at, body)?,
        Ok(Payload::MessageDelete(body)) => message::delete(tx, at, body)?,
        Ok(Payload::MessageReceipt(body)) => receipt::receipt(tx, at, body)?,
        Ok(Payload::AgentRegister(body)) => agent::register(tx, at, body)?,
        Ok(Payload::AgentCleanup(body)) => cleanup::execute(tx, at, body)?,
        Ok(Payload::SessionStart(body)) => session::start(tx, at, body)?,
        Ok(Payload::SessionEnd(body)) => session::end(tx, at, body)?,
        Ok(Payload::AgentUpdate(body)) => session::update(tx.conn, at, body)?,
        Ok(Payload::AgentPresence(body)) => session::presence(tx.conn, at, body)?,
        Ok(Payload::AgentWoken(body)) => receipt::woken(tx.conn, at, body)?,
        Ok(Payload::PurgeExecuted(body)) => purge::execute(tx, at, body)?,
        Ok(Payload::FileClaim(body)) => claim::claim(tx.conn, at, body)?,
        Ok(Payload::FileRelease(body)) => claim::release(tx.conn, at, body)?,
        // `everyone` and roles are built in. The events of Go Thrum's groups are only stored and relayed;
        // `query/go_groups.rs` reads them from the log.
        Ok(
            Payload::GroupCreate(_)
            | Payload::GroupUpdate(_)
            | Payload::GroupDelete(_)
            | Payload::GroupMemberAdd(_)
            | Payload::GroupMemberRemove(_),
        ) => Folded::Done,
        Ok(Payload::Unknown) => Parking::not_understood("its type is not known to this version".to_owned()).into(),
        Err(error) => Parking::not_understood(format!("its content cannot be read: {error}")).into(),
    };
    if let Folded::Parked(parking) = &folded {
        parked::park(tx, event, parking)?;
    }
    Ok(folded)
}
