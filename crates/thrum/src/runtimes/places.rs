//! Locates the files of a program and decides which of them may be written.
//!
//! These are the files of this worktree, Codex's hooks in the main checkout (Codex reads them there for all worktrees),
//! and the user's own settings, but only for a program named on the command line. A link in the worktree is followed
//! only if its target is in the worktree too. For example, `CLAUDE.md` is often a link to `AGENTS.md`.

use std::{
    env, fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use thrum_daemon::layout;

use super::table::{CLAUDE_LOCAL_SETTINGS, CLAUDE_SETTINGS, CODEX_HOOKS};

/// Most bytes read of a program's settings or instructions. A file of a user may have grown over years; ours take a few
/// kilobytes of it.
const MAX_SETTINGS_BYTES: u64 = 1 << 20;

/// Returns the file that a program reads instead of `file`, or `file` itself. Claude Code reads AGENTS.md unless there
/// is a CLAUDE.md, so creating a CLAUDE.md would hide AGENTS.md. opencode has a separate file name for settings with
/// comments.
pub(super) fn variant(top: &Path, file: &'static str) -> &'static str {
    match file {
        "CLAUDE.md" if !top.join(file).exists() => "AGENTS.md",
        "opencode.json" if !top.join(file).exists() && top.join("opencode.jsonc").exists() => "opencode.jsonc",
        _ => file,
    }
}

/// Returns the file besides `file` from which the program reads hooks, and to which a user may have moved ours.
pub(super) fn counterpart(file: &str) -> Option<&'static str> {
    (file == CLAUDE_SETTINGS).then_some(CLAUDE_LOCAL_SETTINGS)
}

/// Returns all files in which `setup` may have written the parts for `file`.
pub(super) fn variants(file: &'static str) -> Vec<&'static str> {
    match file {
        "CLAUDE.md" => vec![file, "AGENTS.md"],
        "opencode.json" => vec![file, "opencode.jsonc"],
        _ => vec![file],
    }
}

/// Returns the directory in which a program looks for `file` when it runs in the worktree at `top`. In a linked
/// worktree, Codex 0.171.0 reads its hooks, and only these, from the main checkout if there is one.
pub(super) fn read_in(top: &Path, file: &str) -> PathBuf {
    let main = if file == CODEX_HOOKS { layout::parent_with_git(top) } else { None };
    main.unwrap_or_else(|| top.to_owned())
}

/// Returns the path of `file` for output: relative to the worktree, or absolute if the file is in another worktree.
pub(super) fn shown(top: &Path, dir: &Path, file: &str) -> String {
    if dir == top { file.to_owned() } else { dir.join(file).display().to_string() }
}

/// Returns the real path of `file`, with links resolved. The error is the reason why the file must not be written.
pub(super) fn resolve(top: &Path, file: &str) -> Result<PathBuf, String> {
    if let Some(below) = file.strip_prefix("~/") {
        return of_person(below);
    }
    let path = top.join(file);
    let outside = |real: &Path| format!("it leads to {}, out of this worktree", real.display());
    // If the file does not exist yet, the nearest existing directory above it decides.
    let mut there = path.as_path();
    while fs::symlink_metadata(there).is_err() {
        there = there.parent().ok_or("it has no directory")?;
    }
    let real = fs::canonicalize(there).map_err(|error| format!("it cannot be examined: {error}"))?;
    let top = fs::canonicalize(top).map_err(|error| format!("the worktree cannot be examined: {error}"))?;
    if !real.starts_with(&top) {
        return Err(outside(&real));
    }
    let rest = path.strip_prefix(there).unwrap_or(Path::new(""));
    Ok(if rest.as_os_str().is_empty() { real } else { real.join(rest) })
}

/// Returns the path of a file below the user's home. `KIMI_CODE_HOME`, if it is set, replaces `~/.kimi-code`.
fn of_person(below: &str) -> Result<PathBuf, String> {
    let directory = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let path = match (below.strip_prefix(".kimi-code/"), directory("KIMI_CODE_HOME")) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => directory("HOME").ok_or("there is no HOME")?.join(below),
    };
    // These files are often links to another directory.
    Ok(fs::canonicalize(&path).unwrap_or(path))
}

/// Reads the text of a file; `None` if the file does not exist.
pub(super) fn read(path: &Path) -> Result<Option<String>, String> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("it cannot be read: {error}")),
        Ok(about) if !about.is_file() => return Err("it is no file".to_owned()),
        Ok(about) if about.len() > MAX_SETTINGS_BYTES => {
            return Err("it is too long for settings".to_owned());
        }
        Ok(_) => {}
    }
    fs::read_to_string(path).map(Some).map_err(|error| format!("it cannot be read: {error}"))
}

/// Returns `true` if a file that cannot be parsed or read may contain our parts: each of them contains the word
/// `thrum`.
pub(super) fn may_have_ours(path: &Path) -> bool {
    // We write regular files only, and reading something else, such as a pipe, may never end.
    if fs::metadata(path).is_ok_and(|about| !about.is_file()) {
        return false;
    }
    match fs::read(path) {
        Ok(bytes) => bytes.windows(5).any(|word| word == b"thrum"),
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    }
}

/// Returns `true` if the file's permissions forbid every user to write it. Replacing the file would still work, but the
/// permissions are assumed to be intended.
pub(super) fn is_read_only(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|about| about.permissions().mode() & 0o222 == 0)
}

#[cfg(test)]
mod tests {
    use std::{process::Command, sync::mpsc, thread, time::Duration};

    use super::*;

    #[test]
    fn a_pipe_in_the_place_of_a_settings_file_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join(".mcp.json");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let (sender, looked) = mpsc::channel();
        thread::spawn(move || sender.send((read(&pipe), may_have_ours(&pipe))));
        let seen = looked.recv_timeout(Duration::from_secs(60)).expect("it waits for no writer");
        assert_eq!(seen, (Err("it is no file".to_owned()), false));
    }
}
