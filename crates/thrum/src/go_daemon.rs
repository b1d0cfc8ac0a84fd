//! A running daemon of Go Thrum: how it is recognised, and how one changes over from it.
//!
//! It serves the same socket with the same methods, so many commands work on it. To stop it is the wrong advice: nothing of this
//! program can start on its `.thrum`, so whoever only restarts has no daemon at all.

use thrum_core::{ErrorKind, Fault, name::printable};

use crate::shapes::Health;

/// How one changes over in the same repository, with everything that was said.
pub(crate) const CHANGE_OVER: &str = "thrum daemon stop && mv .thrum .thrum-go && thrum init && thrum import .thrum-go";

/// Whether a daemon that answers like this is Go Thrum's: its `health` gives no id.
pub(crate) fn answers(health: &Health) -> bool {
    health.daemon_id.is_empty()
}

/// A sentence about it.
pub(crate) fn sentence(health: &Health) -> String {
    format!("the running daemon is one of Go Thrum (version {})", printable(&health.version))
}

/// That it was left running, and the way to change over.
pub(crate) fn left_running(health: &Health) -> Fault {
    Fault::new(ErrorKind::Refused, format!("{}, which this program cannot start anew; it was left running", sentence(health)))
        .hint(format!("To change over, in the main worktree: {CHANGE_OVER}"))
}
