//! The few questions that we ask git.
//!
//! Commands that read and send mail do not wait for git. The branch is read from a file, and `prime` runs git in
//! parallel to its other work, for a limited time ([`changes`]). Setting up, registering, `backup` and `doctor` wait
//! for git, with a time limit, and continue without an answer. The state of an agent's work and the staged files are
//! collected by [`thrum_daemon::git`].

pub(crate) mod changes;

use std::{path::Path, time::Duration};

use thrum_daemon::git as run;
pub(crate) use thrum_daemon::git::branch;

/// How long a command that waits for git, such as setting up, waits for an answer.
const SETTING_UP: Duration = Duration::from_secs(5);

/// Returns `Some(true)` if git ignores `name` in `top`; `None` if git gives no answer.
pub(crate) fn ignores(top: &Path, name: &str) -> Option<bool> {
    let deadline = std::time::Instant::now() + SETTING_UP;
    match run::status(top, &["check-ignore", "--quiet", "--", name], deadline)? {
        0 => Some(true),
        1 => Some(false),
        _ => None,
    }
}

/// Returns `true` if files in `top` can be committed: it is a worktree, and not the directory around a bare repository.
/// Also `true` if git gives no answer.
pub(crate) fn is_worktree(top: &Path) -> bool {
    let deadline = std::time::Instant::now() + SETTING_UP;
    run::output(top, &["rev-parse", "--is-inside-work-tree"], deadline)
        .is_none_or(|answer| answer.trim_ascii() == b"true")
}
