//! A running daemon of Go Thrum: how to recognize it, and how to migrate from it.
//!
//! Such a daemon serves many of our methods on the same socket, so many commands work with it. A hint to restart it
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

/// The error for a daemon of Go Thrum that holds the lock although the caller could not reach it: its socket is gone, or
/// it does not answer there. `None` if no daemon of Go Thrum holds the lock.
pub(crate) fn out_of_reach(repo: &Repo) -> Option<Error> {
    let pid = lock::go_holder(repo)?.as_raw_nonzero();
    let socket = repo.socket();
    let (shown, is_there) = (socket.display(), socket.symlink_metadata().is_ok());
    let but =
        if is_there { format!("does not answer on its socket {shown}") } else { format!("its socket {shown} is gone") };
    let text = format!("a daemon of Go Thrum (pid {pid}) runs, but {but}; it was left running");
    Some(Error::new(ErrorKind::Refused, text).hint(format!("To change over, in the main worktree: {CHANGE_OVER}")))
}
