//! What is worked out once at the end of a batch, however many of its events ask for it.
//!
//! Some events change much at once: an earlier registration fills a mailbox anew, a clean-up looks at all registrations again,
//! an earlier creation of a message at everything that is about it. A batch may hold a thousand of them, each earlier or later
//! than the one before. So their rules only write down here what has to be worked out from the log.
//!
//! Until then the rows agree with each other as they were before the batch, and the events in between are folded into them
//! as if nothing were pending; what is worked out replaces all of that.

use std::{collections::BTreeSet, mem};

use super::{former, message, pending, purge, session};
use crate::{StoreError, Tx};

/// What is to be worked out.
#[derive(Debug, Default)]
pub(crate) struct Later {
    /// Agents: where they live, what they are, what is in their mailboxes.
    pub(super) agents: BTreeSet<String>,
    /// Agents and homes of which a clean-up hides sessions.
    pub(super) cleaned: BTreeSet<(String, String)>,
    /// Sessions of which more than one beginning, or end, was said, by whomever, or of whose home nothing can be proven.
    pub(super) sessions: BTreeSet<String>,
    /// Messages whose author moved.
    pub(super) messages: BTreeSet<String>,
    /// Whether the purge's cutoff moved: rows have to leave the log.
    pub(super) purge: bool,
}

impl Later {
    /// Whether rows have to leave the log.
    pub(crate) fn purges(&self) -> bool {
        self.purge
    }
}

/// Works out what is pending. Every transaction that folds ends with it.
pub(crate) fn finish(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    for agent_id in mem::take(&mut tx.later.agents) {
        former::settle(tx, &agent_id)?;
    }
    for (agent_id, home) in mem::take(&mut tx.later.cleaned) {
        session::hide(tx, &agent_id, &home)?;
    }
    for session in mem::take(&mut tx.later.sessions) {
        session::refold(tx, &session)?;
    }
    // An agent that moved may have changed who may write to its messages.
    for message_id in mem::take(&mut tx.later.messages) {
        message::replace(tx, &message_id)?;
    }
    if mem::take(&mut tx.later.purge) {
        purge::sweep(tx)?;
    }
    pending::work(tx)?;
    Ok(())
}
