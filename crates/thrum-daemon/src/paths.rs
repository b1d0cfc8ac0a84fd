//! The paths of a repository: its worktrees, their `.thrum` directories, and the daemon's files in them.
//!
//! All worktrees of a repository share one daemon. The daemon's state is in the `.thrum` of [`layout::shared_dir`].
//! Every other worktree that is set up has a `.thrum` of its own for its identities, with a file `redirect` that
//! contains the path of the shared one. Only one hop is allowed: a chain of redirects is a manual mistake, and
//! following it would hide the mistake. A fresh worktree has no redirect but shares the mailbox too, because git's
//! files show which repository the worktree belongs to. A worktree without a redirect that already has a mailbox of
//! its own keeps that mailbox.
//!
//! The command and the daemon must arrive at the same paths from any directory. All results therefore depend only on
//! the start directory and the file system. The exception is a socket path that is too long: it comes from the record
//! of the running daemon or, without one, from `XDG_RUNTIME_DIR`.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use thrum_core::{Error, ErrorKind, SetDigest, limits};

use crate::{layout, pidfile, private_files};

/// A repository that uses Thrum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repo {
    root: PathBuf,
    local_dir: PathBuf,
    main_root: PathBuf,
    thrum_dir: PathBuf,
    nested: Option<PathBuf>,
}

impl Repo {
    /// Finds the repository that contains `start`, with links resolved: the nearest `.thrum` at or above it, but not
    /// above the enclosing git repository if the layout of that repository determines its mailbox. A caller that
    /// honours `THRUM_HOME` passes it as `start`.
    ///
    /// # Errors
    /// `not_found` if there is no `.thrum`, or only one outside the linked git worktree that contains `start`, or only
    /// that of a linked worktree which has neither its own mailbox nor a shared one; `refused` if `.thrum` is a link
    /// that leads out of the repository; `invalid` if its redirect is not the absolute path of a directory, or leads
    /// to another redirect.
    pub fn discover(start: &Path) -> Result<Self, Error> {
        let start = fs::canonicalize(start).map_err(|error| private_files::io_error("look at", start, &error))?;
        let root = start.ancestors().find(|dir| dir.join(".thrum").is_dir());
        match (root, layout::nearest_git(&start)) {
            (Some(root), top) if top.is_none_or(|top| root.starts_with(top)) => Self::at(root),
            (outer, Some(top)) => Self::without_own(top, outer),
            _ => Err(nothing_here(&start)),
        }
    }

    /// Returns the repository of the git worktree at `top`, which has no `.thrum`. `outer` is the nearest directory
    /// above that has one.
    fn without_own(top: &Path, outer: Option<&Path>) -> Result<Self, Error> {
        if let Some(home) = layout::shared_dir(top).filter(|home| home.join(".thrum").is_dir()) {
            return Ok(Self { root: top.to_owned(), local_dir: top.join(".thrum"), ..Self::at(&home)? });
        }
        // An agent in a linked worktree that lies inside another worktree is not the agent of the outer one.
        if layout::is_linked(top) {
            return Err(not_set_up(top));
        }
        let outer = Self::at(outer.ok_or_else(|| nothing_here(top))?)?;
        Ok(Self { nested: Some(top.to_owned()), ..outer })
    }

    /// Creates `.thrum` and its directories in `root` unless they exist. `redirect_to` is the `.thrum` with the
    /// daemon's state, if that is a different one.
    ///
    /// # Errors
    /// The errors of [`discover`](Self::discover) and of the file system. Nothing is written through a link that leads
    /// elsewhere.
    pub fn create(root: &Path, redirect_to: Option<&Path>) -> Result<Self, Error> {
        let root = fs::canonicalize(root).map_err(|error| private_files::io_error("look at", root, &error))?;
        let mut local = root.join(".thrum");
        if fs::symlink_metadata(&local).is_ok_and(|about| about.is_symlink()) {
            local = resolve_inside(&root)?;
        }
        private_files::make_dir(&local, 0o750)?;
        private_files::refuse_links(&[&local.join("identities")])?;
        private_files::make_dir(&local.join("identities"), 0o750)?;
        if let Some(target) = redirect_to.filter(|target| **target != local) {
            private_files::write_private(&local.join("redirect"), format!("{}\n", target.display()).as_bytes())?;
        }
        let repo = Self::at(&root)?;
        repo.make_var()?;
        Ok(repo)
    }

    /// Creates [`var`](Self::var) unless it exists, with a `.gitignore` that keeps keys and mail out of every enclosing
    /// repository, even if that repository's own ignore line is lost.
    ///
    /// # Errors
    /// File system errors; `refused` if `var` is a link or belongs to another user.
    pub(crate) fn make_var(&self) -> Result<(), Error> {
        let var = self.var();
        private_files::make_private_dir(&var)?;
        let ignore = var.join(".gitignore");
        if ignore.symlink_metadata().is_err() {
            private_files::write_private(&ignore, b"*\n")?;
        }
        Ok(())
    }

    /// Returns the repository whose `.thrum` is in `root`, a path without links.
    fn at(root: &Path) -> Result<Self, Error> {
        let local_dir = resolve_inside(root)?;
        let root = root.to_owned();
        let (main_root, thrum_dir) = match (follow_redirect(&local_dir)?, layout::shared_dir(&root)) {
            (Some(elsewhere), _) => (elsewhere.parent().unwrap_or(&elsewhere).to_owned(), elsewhere),
            (None, Some(home)) if !has_mailbox(&local_dir) && home.join(".thrum").is_dir() => {
                let shared = Self::at(&home)?;
                (shared.main_root, shared.thrum_dir)
            }
            (None, Some(_)) if !has_mailbox(&local_dir) && layout::is_linked(&root) => return Err(not_set_up(&root)),
            (None, _) => (root.clone(), local_dir.clone()),
        };
        Ok(Self { root, local_dir, main_root, thrum_dir, nested: None })
    }

    /// Returns the worktree of this repository that contains `path`.
    ///
    /// # Errors
    /// `refused` if `path` is relative, or is in no worktree that shares this daemon: a client must not decide where
    /// the daemon reads and writes.
    pub fn worktree(&self, path: &Path) -> Result<Self, Error> {
        let found = if path.is_absolute() { Self::discover(path).ok() } else { None };
        found.filter(|found| found.thrum_dir == self.thrum_dir).ok_or_else(|| {
            let shown = thrum_core::name::printable(&path.display().to_string());
            Error::new(ErrorKind::Refused, format!("{shown} is no worktree of {}", self.main_root.display()))
                .hint("Give the absolute path of a worktree in which `thrum init` was run.")
        })
    }

    /// Returns the top of the current worktree: the directory that contains its `.thrum`, or would contain it in a
    /// fresh worktree.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns this worktree's own `.thrum`, which contains its identities. A fresh worktree has none yet.
    pub fn local_dir(&self) -> &Path {
        &self.local_dir
    }

    /// Returns the `.thrum` with the daemon's state, which may be that of another worktree.
    pub fn thrum_dir(&self) -> &Path {
        &self.thrum_dir
    }

    /// Returns the directory that contains [`thrum_dir`](Self::thrum_dir): this worktree, unless it shares another
    /// mailbox.
    pub fn main_root(&self) -> &Path {
        &self.main_root
    }

    /// Returns the top of the current git repository if that is a separate repository below this one, without a
    /// `.thrum` of its own. Such a repository uses the mailbox of the enclosing one.
    pub fn nested(&self) -> Option<&Path> {
        self.nested.as_deref()
    }

    /// Returns `true` if this worktree has a `.thrum`. A fresh worktree has none, but still shares the mailbox of its
    /// repository.
    pub fn is_set_up(&self) -> bool {
        self.nested.is_none() && self.local_dir.is_dir()
    }

    /// Returns the name of the daemon's repository: the last component of its path, as in Go Thrum.
    pub fn name(&self) -> String {
        self.main_root.file_name().map_or_else(|| "root".to_owned(), |name| name.to_string_lossy().into_owned())
    }

    /// `.thrum/identities` of this worktree: one file per agent.
    pub fn identities(&self) -> PathBuf {
        self.local_dir.join("identities")
    }

    /// `.thrum/config.json`.
    pub fn config(&self) -> PathBuf {
        self.thrum_dir.join("config.json")
    }

    /// The `.env` files in order of precedence.
    pub fn env_files(&self) -> [PathBuf; 2] {
        [self.thrum_dir.join(".env"), self.main_root().join(".env")]
    }

    /// `.thrum/var`, mode 0700: the daemon's own files.
    pub fn var(&self) -> PathBuf {
        self.thrum_dir.join("var")
    }

    /// Returns the path of the socket that the daemon listens on.
    ///
    /// This is `var/thrum.sock`. If that path is too long for a socket, it is the path that the running daemon
    /// recorded. Without a record, it is a short path in the user's runtime directory, derived from a hash of the path
    /// of `.thrum`.
    pub fn socket(&self) -> PathBuf {
        let usual = self.var().join("thrum.sock");
        if usual.as_os_str().len() <= limits::MAX_SOCKET_PATH_BYTES {
            return usual;
        }
        pidfile::read(&self.pid_file())
            .and_then(|running| running.socket_path)
            .unwrap_or_else(|| self.short_socket(&runtime_dir()))
    }

    /// Returns the socket path for a daemon that starts now.
    pub(crate) fn socket_to_open(&self) -> PathBuf {
        let usual = self.var().join("thrum.sock");
        if usual.as_os_str().len() <= limits::MAX_SOCKET_PATH_BYTES { usual } else { self.short_socket(&runtime_dir()) }
    }

    fn short_socket(&self, runtime_dir: &Path) -> PathBuf {
        let hash = SetDigest::of(self.thrum_dir.as_os_str().as_encoded_bytes()).to_string();
        runtime_dir.join(format!("{}.sock", &hash[..16]))
    }

    /// `var/thrum.pid`: the daemon's process and socket. Only the lock decides whether a daemon runs.
    pub fn pid_file(&self) -> PathBuf {
        self.var().join("thrum.pid")
    }

    /// `var/thrum.lock`: locked by the daemon for as long as it runs.
    pub fn lock_file(&self) -> PathBuf {
        self.var().join("thrum.lock")
    }

    /// `var/daemon.json`: the daemon's key.
    pub fn identity_file(&self) -> PathBuf {
        self.var().join("daemon.json")
    }

    /// `var/tsnet`: the identity of the daemon's own tailnet node, unless the user keeps it elsewhere.
    pub fn node_dir(&self) -> PathBuf {
        self.var().join("tsnet")
    }

    /// `var/messages.db`: the event log and its projection.
    pub fn database(&self) -> PathBuf {
        self.var().join("messages.db")
    }

    /// `var/peers.json`: the registry of peers.
    pub fn peers_file(&self) -> PathBuf {
        self.var().join("peers.json")
    }

    /// `var/daemon.log`; older files have the suffix `.1`, `.2` or `.3`.
    pub fn log_file(&self) -> PathBuf {
        self.var().join("daemon.log")
    }
}

/// Returns `true` if a `.thrum` contains a daemon's mail.
pub(crate) fn has_mailbox(thrum_dir: &Path) -> bool {
    thrum_dir.join("var/messages.db").exists()
}

fn nothing_here(start: &Path) -> Error {
    Error::new(ErrorKind::NotFound, format!("no .thrum directory in {} or above", start.display()))
        .hint("Run `thrum init` in the repository first.")
}

fn not_set_up(top: &Path) -> Error {
    Error::new(ErrorKind::NotFound, format!("the git worktree {} is not set up", top.display()))
        .hint("Run `thrum init` or `thrum quickstart` in it first.")
}

/// Returns the user's directory for sockets whose usual path is too long.
pub(crate) fn runtime_dir() -> PathBuf {
    let fits = |dir: &PathBuf| {
        dir.is_absolute()
            && dir.as_os_str().len() + "/thrum/0123456789abcdef.sock".len() <= limits::MAX_SOCKET_PATH_BYTES
    };
    match env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| fits(dir) && dir.is_dir()) {
        Some(dir) => dir.join("thrum"),
        None => PathBuf::from(format!("/tmp/thrum-{}", rustix::process::geteuid().as_raw())),
    }
}

/// Resolves the `.thrum` of `root`. A link that leads out of `root` is refused, because its author would decide where
/// mail and keys go.
fn resolve_inside(root: &Path) -> Result<PathBuf, Error> {
    let named = root.join(".thrum");
    let dir = fs::canonicalize(&named).map_err(|error| private_files::io_error("look at", &named, &error))?;
    if !dir.starts_with(root) {
        return Err(Error::new(
            ErrorKind::Refused,
            format!("{} is a link that leads out of the repository", named.display()),
        )
        .hint(match layout::shared_dir(root) {
            Some(_) => {
                "Remove the link, then run `thrum init`: a worktree shares the mailbox of its repository without one."
            }
            None => "Replace it by a directory; to share a daemon, put the path into `.thrum/redirect`.",
        }));
    }
    Ok(dir)
}

fn follow_redirect(local_dir: &Path) -> Result<Option<PathBuf>, Error> {
    let file = local_dir.join("redirect");
    let wrong = |why: String| {
        let top = local_dir.parent().unwrap_or(local_dir);
        Error::new(ErrorKind::Invalid, format!("{}: {why}", file.display())).hint(
            if layout::shared_dir(top).is_some() {
                "`thrum init` in this worktree writes it again."
            } else if top.join(".git").is_file() {
                "If the main worktree was moved: `git worktree repair` there, then `thrum init` here."
            } else {
                "It holds one line: the absolute path of the .thrum directory that has the daemon."
            },
        )
    };
    let Some(bytes) = private_files::read_private(&file, limits::MAX_SMALL_FILE_BYTES)? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|_| wrong("not UTF-8".to_owned()))?;
    let target = Path::new(text.trim());
    if !target.is_absolute() {
        return Err(wrong(format!("{:?} is no absolute path", target.display().to_string())));
    }
    let dir = fs::canonicalize(target).map_err(|error| wrong(format!("{}: {error}", target.display())))?;
    if !dir.is_dir() {
        return Err(wrong(format!("{} is no directory", target.display())));
    }
    if dir.join("redirect").symlink_metadata().is_ok() {
        return Err(wrong(format!("{} redirects once more", target.display())));
    }
    Ok(Some(dir))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn canonical_tempdir() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = fs::canonicalize(dir.path()).unwrap();
        (dir, path)
    }

    #[test]
    fn a_repository_is_found_from_anywhere_inside_it() {
        let (_guard, dir) = canonical_tempdir();
        let made = Repo::create(&dir, None).unwrap();
        fs::create_dir_all(dir.join("src/deep")).unwrap();
        let found = Repo::discover(&dir.join("src/deep")).unwrap();
        assert_eq!(found, made);
        assert_eq!(found.socket(), dir.join(".thrum/var/thrum.sock"));
        assert_eq!(found.env_files(), [dir.join(".thrum/.env"), dir.join(".env")]);
    }

    #[test]
    fn without_a_repository_the_error_names_the_command_that_creates_one() {
        let (_guard, dir) = canonical_tempdir();
        let error = Repo::discover(&dir).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound);
        assert!(error.hint.unwrap().contains("thrum init"));
    }

    #[test]
    fn another_worktree_shares_the_daemon_and_keeps_its_identities() {
        let (_guard, dir) = canonical_tempdir();
        fs::create_dir_all(dir.join("main")).unwrap();
        fs::create_dir_all(dir.join("feature")).unwrap();
        let main = Repo::create(&dir.join("main"), None).unwrap();
        let feature = Repo::create(&dir.join("feature"), Some(main.thrum_dir())).unwrap();
        assert_eq!(feature.socket(), main.socket());
        assert_eq!(feature.identities(), dir.join("feature/.thrum/identities"));
        assert_eq!((feature.root(), feature.main_root()), (dir.join("feature").as_path(), main.root()));
        assert!(!dir.join("feature/.thrum/var").exists());
    }

    #[test]
    fn only_worktrees_that_share_the_daemon_are_worktrees_of_the_repository() {
        let (_guard, dir) = canonical_tempdir();
        for name in ["main/src", "feature", "other", "plain"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        let main = Repo::create(&dir.join("main"), None).unwrap();
        let feature = Repo::create(&dir.join("feature"), Some(main.thrum_dir())).unwrap();
        Repo::create(&dir.join("other"), None).unwrap();
        assert_eq!(main.worktree(&dir.join("main/src")), Ok(main.clone()));
        assert_eq!(main.worktree(&dir.join("feature")), Ok(feature));
        symlink(dir.join("other"), dir.join("main/link")).unwrap();
        for path in ["other", "plain", "main/link", "nowhere", "feature/../other"] {
            assert_eq!(main.worktree(&dir.join(path)).unwrap_err().kind, ErrorKind::Refused, "{path}");
        }
        assert_eq!(main.worktree(Path::new("main")).unwrap_err().kind, ErrorKind::Refused);
    }

    #[test]
    fn a_redirect_that_is_relative_broken_or_a_chain_is_refused() {
        let (_guard, dir) = canonical_tempdir();
        for name in ["main", "middle", "end"] {
            fs::create_dir_all(dir.join(name).join(".thrum")).unwrap();
        }
        fs::write(dir.join("middle/.thrum/redirect"), format!("{}\n", dir.join("main/.thrum").display())).unwrap();
        let chain = dir.join("middle/.thrum").display().to_string();
        let itself = dir.join("end/.thrum").display().to_string();
        for target in ["", "../main/.thrum", "/nowhere/.thrum", &chain, &itself] {
            fs::write(dir.join("end/.thrum/redirect"), target).unwrap();
            let error = Repo::discover(&dir.join("end")).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Invalid, "{target}");
        }
    }

    #[test]
    fn c14_a_thrum_directory_linked_from_outside_is_refused() {
        let (_guard, dir) = canonical_tempdir();
        fs::create_dir_all(dir.join("elsewhere")).unwrap();
        fs::create_dir_all(dir.join("repo/state")).unwrap();
        symlink(dir.join("elsewhere"), dir.join("repo/.thrum")).unwrap();
        assert_eq!(Repo::discover(&dir.join("repo")).unwrap_err().kind, ErrorKind::Refused);
        fs::remove_file(dir.join("repo/.thrum")).unwrap();
        symlink(dir.join("repo/state"), dir.join("repo/.thrum")).unwrap();
        assert_eq!(Repo::discover(&dir.join("repo")).unwrap().thrum_dir(), dir.join("repo/state"));
    }

    #[test]
    fn nothing_is_written_through_a_link_that_leads_out_of_the_worktree() {
        let (_guard, dir) = canonical_tempdir();
        fs::create_dir_all(dir.join("main")).unwrap();
        fs::create_dir_all(dir.join("feature")).unwrap();
        let main = Repo::create(&dir.join("main"), None).unwrap();
        symlink("../main/.thrum", dir.join("feature/.thrum")).unwrap();
        assert_eq!(Repo::create(&dir.join("feature"), Some(main.thrum_dir())).unwrap_err().kind, ErrorKind::Refused);
        assert!(!dir.join("main/.thrum/redirect").exists(), "the main worktree is no redirect to itself");
        fs::remove_dir(dir.join("main/.thrum/identities")).unwrap();
        fs::create_dir(dir.join("elsewhere")).unwrap();
        symlink(dir.join("elsewhere"), dir.join("main/.thrum/identities")).unwrap();
        assert_eq!(Repo::create(&dir.join("main"), None).unwrap_err().kind, ErrorKind::Refused);
    }

    #[test]
    fn c14_a_path_too_long_for_a_socket_gets_a_short_one_that_all_agree_on() {
        let (_guard, dir) = canonical_tempdir();
        let deep = dir.join("x".repeat(120));
        fs::create_dir_all(&deep).unwrap();
        let repo = Repo::create(&deep, None).unwrap();
        let opened = repo.socket_to_open();
        assert!(opened.as_os_str().len() <= limits::MAX_SOCKET_PATH_BYTES, "{opened:?}");
        assert_eq!(repo.socket(), opened);
        let daemon_of_another_session = repo.short_socket(Path::new("/run/user/1000/thrum"));
        assert_ne!(daemon_of_another_session, opened);
        let _record =
            pidfile::write(&repo.pid_file(), &deep, &daemon_of_another_session, "2026-01-01T00:00:00Z").unwrap();
        assert_eq!(repo.socket(), daemon_of_another_session, "what the running daemon recorded wins");
    }
}
