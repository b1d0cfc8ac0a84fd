//! The new files that commands write where they are told to.

use std::path::Path;

use thrum_core::{ErrorKind, Fault};
use thrum_daemon::layout;

use crate::git;

/// That there is a directory for it. Said before anything is written beside its place, under a name that nobody gave.
pub(crate) fn has_directory(file: &Path) -> Result<(), Fault> {
    let Some(dir) = file.parent().filter(|dir| !dir.as_os_str().is_empty() && !dir.exists()) else { return Ok(()) };
    Err(Fault::new(ErrorKind::Failed, format!("cannot write to {}: there is no directory {}", file.display(), dir.display()))
        .hint(format!("mkdir -p {}", dir.display())))
}

/// Whether it lies in a worktree whose next `git add .` would take it along.
pub(crate) fn git_would_take(file: &Path) -> bool {
    let Ok(file) = file.canonicalize() else { return false };
    let top = layout::git_top(&file);
    match (file.strip_prefix(&top), file.to_str()) {
        (Ok(below), Some(name)) if top.join(".git").exists() && !below.starts_with(".git") => git::ignores(&top, name) == Some(false),
        _ => false,
    }
}
