//! Helps commands that write files: replaces a file atomically, and checks where a file is to go.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use thrum_core::{Error, ErrorKind};
use thrum_daemon::layout;

use crate::git;

/// Replaces a file atomically: writes and syncs a temporary file, then renames it. If that fails, the old file stays.
///
/// # Errors
/// Returns the file system's error.
pub(crate) fn replace(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let beside = path.with_file_name(format!(".{name}.{}", std::process::id()));
    // Remove a file that a crash left here, instead of writing into it: a link may have taken its place.
    let _ = fs::remove_file(&beside);
    let write = || -> io::Result<()> {
        let mut out = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        fs::rename(&beside, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&beside);
    })
}

/// Checks that the file's directory exists. Commands write under a temporary name first, and an error that mentions
/// this name would puzzle the user.
pub(crate) fn has_directory(file: &Path) -> Result<(), Error> {
    let Some(dir) = file.parent().filter(|dir| !dir.as_os_str().is_empty() && !dir.exists()) else { return Ok(()) };
    Err(Error::new(
        ErrorKind::Failed,
        format!("cannot write to {}: there is no directory {}", file.display(), dir.display()),
    )
    .hint(format!("mkdir -p {}", dir.display())))
}

/// Returns `true` if the file is in a worktree where `git add .` would add it.
pub(crate) fn git_would_take(file: &Path) -> bool {
    let Ok(file) = file.canonicalize() else { return false };
    let top = layout::git_top(&file);
    match (file.strip_prefix(&top), file.to_str()) {
        (Ok(below), Some(name)) if top.join(".git").exists() && !below.starts_with(".git") => {
            git::ignores(&top, name) == Some(false)
        }
        _ => false,
    }
}
