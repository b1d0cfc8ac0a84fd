//! Making a directory a Thrum repository. Doing it twice changes nothing, and nothing that people wrote is rewritten.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use thrum_core::{ErrorKind, Fault};
use thrum_daemon::paths::{self, Repo};

use crate::git;

/// The line in `.gitignore`.
const IGNORED: &str = ".thrum/";

/// What was found and done.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) repo: Repo,
    /// Whether `.thrum` was made now.
    pub(crate) created: bool,
    /// Whether the directory is in a git repository.
    pub(crate) git: bool,
    /// The `.gitignore` that got a line.
    pub(crate) ignored_in: Option<PathBuf>,
    /// The worktree that has the daemon, if it is another one.
    pub(crate) shares_with: Option<PathBuf>,
    /// A `.env` that git would commit.
    pub(crate) exposed_env: Option<PathBuf>,
}

/// Makes the git worktree that `start` lies in (outside git, `start` itself) a Thrum repository. In a linked worktree that
/// is a redirect to the main one, which is set up, too, if it was not.
pub(crate) fn set_up(start: &Path) -> Result<Setup, Fault> {
    let start = fs::canonicalize(start).map_err(|error| io_fault("look at", start, &error))?;
    let top = paths::git_top(&start);
    let main = match paths::main_worktree(&top) {
        Some(main) if main != top => Some(set_up(&main)?.repo),
        _ => None,
    };
    let git = top.join(".git").exists();
    let created = !top.join(".thrum").is_dir();
    let repo = Repo::create(&top, main.as_ref().map(Repo::thrum_dir))?;
    write_config(&repo.config())?;
    let ignored_in = if git { ignore(&top)? } else { None };
    let exposed_env = [".env", ".thrum/.env"].iter().find(|name| git && top.join(name).exists() && git::ignores(&top, name) == Some(false));
    Ok(Setup {
        created,
        git,
        ignored_in,
        shares_with: main.map(|main| main.main_root().to_owned()),
        exposed_env: exposed_env.map(|name| top.join(name)),
        repo,
    })
}

/// Nothing leaves this machine through git unless somebody says so. Go Thrum's `init` writes the same.
fn write_config(path: &Path) -> Result<(), Fault> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => file.write_all(b"{\n  \"daemon\": {\n    \"local_only\": true\n  }\n}\n").map_err(|e| io_fault("write", path, &e)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(io_fault("write", path, &error)),
    }
}

/// Adds our line to `.gitignore`, in the file's own kind of line ends. `None` if it was there.
pub(crate) fn ignore(top: &Path) -> Result<Option<PathBuf>, Fault> {
    let path = top.join(".gitignore");
    let old = match fs::read(&path) {
        Ok(old) => old,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(io_fault("read", &path, &error)),
    };
    let Some(addition) = ignore_line(&old) else { return Ok(None) };
    // Appended, so that a crash cannot lose what was there, and a link stays a link.
    let mut file = OpenOptions::new().append(true).create(true).open(&path).map_err(|e| io_fault("write", &path, &e))?;
    file.write_all(addition.as_bytes()).map_err(|e| io_fault("write", &path, &e))?;
    Ok(Some(path))
}

/// What to append to a `.gitignore` with this content, if anything.
fn ignore_line(old: &[u8]) -> Option<String> {
    let covers = |line: &[u8]| matches!(line.trim_ascii(), b".thrum" | b".thrum/" | b"/.thrum" | b"/.thrum/");
    if old.split(|byte| *byte == b'\n').any(covers) {
        return None;
    }
    let end = if old.windows(2).any(|pair| pair == b"\r\n") { "\r\n" } else { "\n" };
    let close_last_line = if old.is_empty() || old.ends_with(b"\n") { "" } else { end };
    Some(format!("{close_last_line}{IGNORED}{end}"))
}

fn io_fault(what: &str, path: &Path, error: &io::Error) -> Fault {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Refused,
        _ => ErrorKind::Failed,
    };
    Fault::new(kind, format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ignore_line_is_added_once_in_the_files_own_line_ends() {
        for (old, addition) in [
            ("", Some(".thrum/\n")),
            ("target\n", Some(".thrum/\n")),
            ("target", Some("\n.thrum/\n")),
            ("target\r\nnode_modules\r\n", Some(".thrum/\r\n")),
            ("target\r\nnode_modules", Some("\r\n.thrum/\r\n")),
            ("target\n.thrum/\n", None),
            ("/.thrum\r\n", None),
            (".thrum", None),
            ("# .thrum/ is not here\n!.thrum/x\n", Some(".thrum/\n")),
        ] {
            assert_eq!(ignore_line(old.as_bytes()).as_deref(), addition, "{old:?}");
        }
    }
}
