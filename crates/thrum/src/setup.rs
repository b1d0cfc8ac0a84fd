//! Turns a directory into a Thrum repository. Repeating it changes nothing, and the user's files are only appended to.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use thrum_core::{Error, ErrorKind};
use thrum_daemon::{layout, paths::Repo, sandbox};

use crate::{git, output::Output};

/// The line in `.gitignore`.
const IGNORED: &str = ".thrum/";

/// What was found, and what was set up.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) repo: Repo,
    /// `true` if `.thrum` was created now.
    pub(crate) created: bool,
    /// `true` if the directory is in a git repository.
    pub(crate) git: bool,
    /// The `.gitignore` or `info/exclude` to which a line was added.
    pub(crate) ignored_in: Option<PathBuf>,
    /// The worktree that has the daemon, if it is another one.
    pub(crate) shares_with: Option<PathBuf>,
    /// A `.env` that git would commit.
    pub(crate) exposed_env: Option<PathBuf>,
}

impl Setup {
    /// Formats a file's path for users: relative to the top of the worktree if it is inside.
    pub(crate) fn shown(&self, file: &Path) -> String {
        file.strip_prefix(self.repo.root()).unwrap_or(file).display().to_string()
    }

    /// Prints what the user should know about the repository that was just set up.
    pub(crate) fn tell(&self, output: &Output) {
        if !self.git {
            output.note("This is no git repository. Thrum works here all the same; only what needs git is missing.");
        }
        if let Some(env) = &self.exposed_env {
            output.warn(&format!(
                "{} is not ignored by git; it may hold auth keys. Add it to .gitignore.",
                env.display()
            ));
        }
    }
}

/// Sets up the git worktree that contains `start` (outside git, `start` itself). If the mailbox of its repository is in
/// another directory ([`layout::shared_dir`]), that directory is set up as well if necessary, and the worktree gets a
/// redirect to it. `stealth` leaves `.gitignore` alone.
pub(crate) fn set_up(start: &Path, stealth: bool) -> Result<Setup, Error> {
    let start = fs::canonicalize(start).map_err(|error| io_error("look at", start, &error))?;
    set_up_at(layout::git_top(&start), stealth)
}

/// Creates the `.thrum` of a fresh worktree, before something is written into it.
pub(crate) fn complete(repo: &Repo) -> Result<(), Error> {
    if repo.is_set_up() || repo.nested().is_some() {
        Ok(())
    } else {
        set_up_at(repo.root().to_owned(), false).map(|_| ())
    }
}

fn set_up_at(top: PathBuf, stealth: bool) -> Result<Setup, Error> {
    if fs::symlink_metadata(top.join(".thrum")).is_ok_and(|about| about.is_symlink()) {
        // Reject a link that leads elsewhere before anything is looked up or created behind it.
        Repo::discover(&top)?;
    }
    let home = layout::shared_dir(&top);
    let main = match (&home, shared_already(&top)) {
        // A main worktree keeps a mailbox of its own, even if the layout places the shared one elsewhere.
        (Some(_), None) if !layout::is_linked(&top) && own_mailbox(&top).is_some() => None,
        (Some(home), None) => {
            refuse_own_mailbox(&top)?;
            Some(set_up_at(home.clone(), stealth)?.repo)
        }
        (_, shared) => shared,
    };
    let git = top.join(".git").exists();
    let created = !top.join(".thrum").is_dir();
    let repo = Repo::create(&top, main.as_ref().map(Repo::thrum_dir))?;
    let ignored_in = if git && git::is_worktree(&top) { ignore(&top, stealth)? } else { None };
    let exposed_env = [".env", ".thrum/.env"]
        .iter()
        .find(|name| git && top.join(name).exists() && git::ignores(&top, name) == Some(false));
    Ok(Setup {
        created,
        git,
        ignored_in,
        shares_with: main.map(|main| main.main_root().to_owned()),
        exposed_env: exposed_env.map(|name| top.join(name)),
        repo,
    })
}

/// Returns the repository whose daemon the worktree at `top` shares by a valid redirect. A redirect that a user wrote
/// is kept; a dangling one is rewritten.
fn shared_already(top: &Path) -> Option<Repo> {
    let repo = top.join(".thrum").is_dir().then(|| Repo::discover(top).ok()).flatten()?;
    if repo.main_root() == top { None } else { Repo::discover(repo.main_root()).ok() }
}

fn own_mailbox(top: &Path) -> Option<PathBuf> {
    Some(top.join(".thrum/var/messages.db")).filter(|own| own.exists())
}

/// Rejects a worktree with its own mailbox: a redirect would hide its mail.
fn refuse_own_mailbox(top: &Path) -> Result<(), Error> {
    let Some(own) = own_mailbox(top) else { return Ok(()) };
    Err(Error::new(
        ErrorKind::Refused,
        format!("this worktree has a mailbox of its own, {}, and would share another", own.display()),
    )
    .hint("To share the one of the other worktrees: thrum daemon stop, then move .thrum/var of this worktree away."))
}

/// Makes git ignore `.thrum` by a line in `.gitignore` or `info/exclude`, with the line ends of that file. Returns the
/// changed file; `None` if one of the two has such a line already.
///
/// The line goes into `.gitignore`, which is shared with everyone. It goes into the `info/exclude` that all worktrees
/// share in three cases: in a linked worktree, where a changed `.gitignore` would disturb the branch in work; with
/// `stealth`; and if `.gitignore` is a link, which may lead anywhere and which git does not follow.
pub(crate) fn ignore(top: &Path, stealth: bool) -> Result<Option<PathBuf>, Error> {
    let public = top.join(".gitignore");
    let private = layout::common_dir(top).map(|dir| dir.join("info/exclude"));
    let linked_file = fs::symlink_metadata(&public).is_ok_and(|about| about.is_symlink());
    let chosen =
        if stealth || linked_file || layout::is_linked(top) { private.as_ref().unwrap_or(&public) } else { &public };
    let mut addition = None;
    for path in [Some(&public).filter(|_| !linked_file), private.as_ref()].into_iter().flatten() {
        let old = match fs::read(path) {
            Ok(old) => old,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(io_error("read", path, &error)),
        };
        match ignore_line(&old) {
            None => return Ok(None),
            line if path == chosen => addition = line,
            Some(_) => {}
        }
    }
    let Some(addition) = addition else { return Ok(None) };
    if let Some(dir) = chosen.parent() {
        fs::create_dir_all(dir).map_err(|e| io_error("make the directory", dir, &e))?;
    }
    // Append, so that a crash cannot lose the existing content.
    let mut file =
        OpenOptions::new().append(true).create(true).open(chosen).map_err(|e| io_error("write", chosen, &e))?;
    file.write_all(addition.as_bytes()).map_err(|e| io_error("write", chosen, &e))?;
    Ok(Some(chosen.clone()))
}

/// Adds the ignore line to a repository that was set up before, if the line is missing. A failure is only a warning:
/// `.thrum/var`, which holds key and mail, has a `.gitignore` of its own.
pub(crate) fn keep_ignored(repo: &Repo, output: &Output) {
    let top = layout::git_top(repo.root());
    if !top.join(".git").exists() || !git::is_worktree(&top) {
        return;
    }
    match ignore(&top, false) {
        Ok(None) => {}
        Ok(Some(file)) => {
            output.note(&format!("Added {IGNORED} to {}", file.strip_prefix(&top).unwrap_or(&file).display()))
        }
        Err(error) => output.warn(&format!("{}: git may take {IGNORED} along", error.message)),
    }
}

/// Returns the text to append to a `.gitignore` with this content, if any.
fn ignore_line(old: &[u8]) -> Option<String> {
    let covers = |line: &[u8]| matches!(line.trim_ascii(), b".thrum" | b".thrum/" | b"/.thrum" | b"/.thrum/");
    if old.split(|byte| *byte == b'\n').any(covers) {
        return None;
    }
    let end = if old.windows(2).any(|pair| pair == b"\r\n") { "\r\n" } else { "\n" };
    let close_last_line = if old.is_empty() || old.ends_with(b"\n") { "" } else { end };
    Some(format!("{close_last_line}{IGNORED}{end}"))
}

fn io_error(what: &str, path: &Path, cause: &io::Error) -> Error {
    let kind = match cause.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Refused,
        _ => ErrorKind::Failed,
    };
    let error = Error::new(kind, format!("cannot {what} {}: {cause}", path.display()));
    sandbox::hint(cause).map_or(error.clone(), |hint| error.hint(hint))
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
