//! A running daemon of Go Thrum: how to recognize it, and how to migrate from it.
//!
//! Such a daemon serves the same socket with the same methods, so many commands work with it. A hint to restart it
//! would be wrong: our daemon cannot start on its `.thrum`, so a user who follows the hint would be left without a
//! daemon.

use thrum_core::{Error, ErrorKind, name::printable};
use thrum_daemon::{lock, paths::Repo};

use crate::answers::Health;

/// The commands that migrate a repository in place, with all its messages.
pub(crate) const CHANGE_OVER: &str = "thrum daemon stop && mv .thrum .thrum-go && thrum init && thrum import .thrum-go";

/// Returns `true` if a daemon with this answer is Go Thrum's: its `health` has no id.
pub(crate) fn answers(health: &Health) -> bool {
    health.daemon_id.is_empty()
}

/// Describes the daemon in a sentence.
pub(crate) fn sentence(health: &Health) -> String {
    format!("the running daemon is one of Go Thrum (version {})", printable(&health.version))
}

/// The error for a daemon of Go Thrum that was left running, with the way to migrate.
pub(crate) fn left_running(health: &Health) -> Error {
    Error::new(
        ErrorKind::Refused,
        format!("{}, which this program cannot restart; it was left running", sentence(health)),
    )
    .hint(format!("To change over, in the main worktree: {CHANGE_OVER}"))
}

/// The error for a daemon of Go Thrum that holds the lock although the caller could not reach it: its socket is gone.
/// `None` if no daemon of Go Thrum holds the lock.
pub(crate) fn without_socket(repo: &Repo) -> Option<Error> {
    let pid = lock::go_holder(repo)?.as_raw_nonzero();
    let text = format!(
        "a daemon of Go Thrum (pid {pid}) runs, but its socket {} is gone; it was left running",
        repo.socket().display()
    );
    Some(Error::new(ErrorKind::Refused, text).hint(format!("To change over, in the main worktree: {CHANGE_OVER}")))
}
