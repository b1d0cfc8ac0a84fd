//! The end of a batch: does the work that its events deferred (`deferred.rs`), and then pending work.
//!
//! The order matters. Moves of agents determine the home of a message and thus the daemons that may change it. So
//! agents are recomputed before their messages are rebuilt. Purges come last, so that they remove rows from a
//! consistent state.
//!
//! Example: a batch brings a registration that declares a former home, and a purge. The agent is recomputed, its
//! messages get their new home, those that the new home has edited are rebuilt, and only then `purge` is put into the
//! queue.

use std::mem;

use super::{agent, claim, message, pending, session, work};
use crate::{StoreError, Tx};

/// Does the deferred work, and then pending work. Called at the end of a batch and after each own event, so perhaps
/// several times in one transaction.
pub(crate) fn finish(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    for agent_id in mem::take(&mut tx.deferred.agents) {
        agent::settle(tx, &agent_id)?;
    }
    for (agent_id, home) in mem::take(&mut tx.deferred.cleaned) {
        session::hide(tx, &agent_id, &home)?;
        claim::delete_before_cleanup(tx.conn, &agent_id, &home)?;
    }
    for session in mem::take(&mut tx.deferred.sessions) {
        session::refold(tx, &session)?;
    }
    // The move of an agent may have changed which daemons may edit or delete its messages.
    for message_id in mem::take(&mut tx.deferred.messages) {
        message::replace(tx, &message_id)?;
    }
    if mem::take(&mut tx.deferred.purge) {
        pending::purge(tx.conn)?;
    }
    work(tx)
}
