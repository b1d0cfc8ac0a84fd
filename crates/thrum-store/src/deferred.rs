//! Work that is done once at the end of a batch, however many of its events require it.
//!
//! Some events change much at once: an earlier registration refills a mailbox, a clean-up re-evaluates all
//! registrations, and an earlier creation of a message re-evaluates everything about it. A batch may hold a thousand
//! such events, each earlier or later than the one before. So their rules only record here what must be recomputed from
//! the log, and `fold/finish.rs` does it.
//!
//! Until then the rows are consistent with each other as before the batch. Events in between are folded into them as if
//! nothing were deferred; the recomputation replaces all of that.
//!
//! Example: a batch brings 300 registrations of one agent. Its name is in [`Deferred::agents`] once, and its mailbox is
//! filled once.

use std::collections::BTreeSet;

/// The targets to be recomputed.
#[derive(Debug, Default)]
pub(crate) struct Deferred {
    /// Agents: their homes, properties and mailboxes.
    pub(crate) agents: BTreeSet<String>,
    /// Agents and homes whose sessions and claims a clean-up hides.
    pub(crate) cleaned: BTreeSet<(String, String)>,
    /// Sessions with more than one start or end, from any daemon, or with a home about which nothing can be proven.
    pub(crate) sessions: BTreeSet<String>,
    /// Messages whose author moved.
    pub(crate) messages: BTreeSet<String>,
    /// Whether a purge cutoff moved, so that rows must leave the log.
    pub(crate) purge: bool,
}

impl Deferred {
    /// Maximum number of names kept; a batch has no more events than that.
    const MOST: usize = 10_000;

    /// Returns `true` if the deferred work should be done before more events are folded.
    pub(crate) fn is_full(&self) -> bool {
        self.agents.len() + self.cleaned.len() + self.sessions.len() + self.messages.len() >= Self::MOST
    }
}
