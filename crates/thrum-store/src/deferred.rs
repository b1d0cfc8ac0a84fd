//! Work that is done once at the end of a batch, however many of its events require it.
//!
//! Some events change much at once: a registration that is earlier than those known refills a mailbox, a clean-up
//! re-evaluates all registrations of its agent, and some starts of a session re-evaluate all events of the session. A
//! batch may hold many such events, each earlier or later than the one before. So their rules only record here what
//! must be recomputed from the log, and `fold/finish.rs` does it.
//!
//! Until it does, the affected rows are consistent with each other, as before the batch. Further events of the batch
//! are folded into these rows, or skipped; the recomputation replaces the result.
//!
//! Example: a batch brings 30 registrations of one agent. Its name is in [`Deferred::agents`] once, and its mailbox is
//! filled once.

use std::collections::BTreeSet;

/// The targets to be recomputed.
#[derive(Debug, Default)]
pub(crate) struct Deferred {
    /// Agents: their homes, properties and mailboxes.
    pub(crate) agents: BTreeSet<String>,
    /// Agents and homes whose sessions, work contexts, presences and claims a clean-up hides.
    pub(crate) cleaned: BTreeSet<(String, String)>,
    /// Sessions whose start and end must be chosen from all their events in the log.
    pub(crate) sessions: BTreeSet<String>,
    /// Messages that have another home now, because their author moved, and that a daemon other than their origin
    /// edited or deleted.
    pub(crate) messages: BTreeSet<String>,
    /// Whether purges now remove more events, so that rows may have to leave the log.
    pub(crate) purge: bool,
}

impl Deferred {
    /// Number of names at which a rebuild of the projection does the deferred work before it folds more events. No
    /// batch has so many events.
    const MOST: usize = 10_000;

    /// Returns `true` if the deferred work should be done before more events are folded.
    pub(crate) fn is_full(&self) -> bool {
        self.agents.len() + self.cleaned.len() + self.sessions.len() + self.messages.len() >= Self::MOST
    }
}
