//! Detects that the state directory is deleted, replaced or restored while its daemon runs (`git clean -xfd`, `rm -rf`,
//! `git stash -a`, a restored cache). The daemon then ends, and neither writes to nor removes from a directory that it
//! does not hold.
//!
//! [`Hold::check`] compares the lock file at its path with the locked one, by device and inode, and does the same for
//! the files of the database. This costs four `stat`s. The check is made after every commit, before its callers are
//! answered; after every query, for agents and for peers; during every call on the socket; and every
//! [`STATE_LOOK`](thrum_core::limits::STATE_LOOK). Where another check follows anyway, [`Hold::check_lately`] accepts
//! the result of a check a moment ago, and after a call [`Hold::check_lately_since`] accepts one that was made during
//! the call. The lock file represents the whole of `.thrum/var`: its path leads through `.thrum` and `var`, and the
//! lock no longer excludes other daemons once another file is at that path. The database is checked in addition,
//! because it may be deleted alone (as by `find -name '*.db*' -delete`), and later writes to it would be lost.
//!
//! Every file that a daemon writes or removes by name after its start:
//!
//! | file | how it stays within the directory held |
//! |---|---|
//! | `thrum.lock` | opened once, never removed; [`crate::lock`] |
//! | `thrum.pid`, `daemon.json` | relative to a descriptor ([`HeldDir`](thrum_sync::held_dir::HeldDir)) |
//! | `peers.json`, `pairing.json` | the same, through `StateFile` of `thrum-sync` |
//! | `daemon.log` and its rotation | the same; [`crate::logging`] |
//! | `tailscaled.log` and its rotation, `tsnet/tailscaled.pid` | the same; `thrum-tailnet/src/own/` |
//! | `tsnet/` | locked by its own file; see note 1 |
//! | `thrum.sock`, also in the runtime directory | removed only if its inode is the bound one; [`crate::listen`] |
//! | `messages.db`, `-wal`, `-shm` | opened by path after a check; see note 2 |
//! | `.thrum/context/*`, `.thrum/config.json` | written by path, right after a check; see note 3 |
//! | `git.json`, `git-log.jsonl` | written by path, right after a check |
//!
//! Notes:
//!
//! 1. `tailscaled` writes there by path, and is ended when the lock file is gone.
//! 2. SQLite removes the write-ahead log by path when the last connection closes. Connections are therefore not closed
//!    once the directory or `messages.db` is lost: the process ends with them open. If only the other two files are
//!    gone, closing copies the written data into `messages.db`.
//! 3. By path, because notes may belong to another worktree, and commands change `config.json` with the same code.
//!
//! Backups, exports, restored and rebuilt databases are written by commands, not by the daemon.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use thrum_core::{Error, ErrorKind, Retry};
use tokio_util::sync::CancellationToken;

use crate::{lock::Lock, paths::Repo, private_files};

/// Handle to the state directory of the running daemon; clones share the state.
#[derive(Clone, Debug)]
pub(crate) struct Hold(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    lock: Lock,
    shown: String,
    /// The database, its write-ahead log and its shared-memory index.
    database: OnceLock<Vec<OpenFile>>,
    lost: CancellationToken,
    /// When the last successful check began.
    checked: Mutex<Option<Instant>>,
}

/// How old the result of a check may be for [`Hold::check_lately`].
const LATELY: Duration = Duration::from_millis(20);

/// The path and identity of an open file.
#[derive(Debug)]
struct OpenFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl OpenFile {
    /// Returns the file at a path; `None` if there is none.
    fn at(path: PathBuf) -> Option<Self> {
        private_files::file_identity(&path).map(|identity| Self { path, identity })
    }

    fn is_in_place(&self) -> bool {
        private_files::file_identity(&self.path) == Some(self.identity)
    }
}

impl Hold {
    pub(crate) fn new(lock: Lock, repo: &Repo) -> Self {
        Self(Arc::new(Inner {
            lock,
            shown: repo.var().display().to_string(),
            database: OnceLock::new(),
            lost: CancellationToken::new(),
            checked: Mutex::new(None),
        }))
    }

    /// Also checks the open database and the files beside it from now on. Only the first call has an effect.
    pub(crate) fn keep(&self, database: PathBuf) {
        let beside = ["db-wal", "db-shm"].map(|extension| database.with_extension(extension));
        self.0.database.get_or_init(|| [database].into_iter().chain(beside).filter_map(OpenFile::at).collect());
    }

    /// Checks that the state directory is the one that this daemon locked, and that the database in it is the one that
    /// it opened.
    ///
    /// # Errors
    /// `try_again` as soon as either was deleted or replaced, and ever after. A retry helps: the next command starts a
    /// daemon on the new directory.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let began = Instant::now();
        if self.is_lost() || !self.0.lock.is_in_place() || !self.files().iter().all(OpenFile::is_in_place) {
            self.0.lost.cancel();
            return Err(self.loss());
        }
        *self.checked() = Some(began);
        Ok(())
    }

    fn is_lost(&self) -> bool {
        self.0.lost.is_cancelled()
    }

    fn loss(&self) -> Error {
        let (what, hint) = match self.files().iter().find(|file| !file.is_in_place()) {
            Some(file) if self.0.lock.is_in_place() => (
                file.path.display().to_string(),
                "Repeat the command: it starts a daemon, which reports if something must be repaired first.",
            ),
            _ => (
                self.0.shown.clone(),
                "Repeat the command: it starts a daemon on what is there now. Mail of the former directory is where that went.",
            ),
        };
        let text =
            format!("{what} was deleted or replaced while its daemon ran; this daemon stores nothing more and ends");
        Error { retry: Retry::Useful, ..Error::new(ErrorKind::TryAgain, text).hint(hint) }
    }

    /// Like [`check`](Self::check), but accepts a check that succeeded in the last 20 ms. For callers that make a full
    /// check afterwards.
    pub(crate) fn check_lately(&self) -> Result<(), Error> {
        self.check_unless(|_| true)
    }

    /// Like [`check_lately`](Self::check_lately), but accepts only a check that began after `since`.
    pub(crate) fn check_lately_since(&self, since: Instant) -> Result<(), Error> {
        self.check_unless(|began| began >= since)
    }

    /// Makes the check unless one succeeded in the last 20 ms whose beginning `suffices`.
    fn check_unless(&self, suffices: impl FnOnce(Instant) -> bool) -> Result<(), Error> {
        let is_checked = self.checked().is_some_and(|began| began.elapsed() <= LATELY && suffices(began));
        if is_checked { self.check_result() } else { self.check() }
    }

    /// Fails if a check has failed; makes none. For callers who know that one was made after what they report.
    pub(crate) fn check_result(&self) -> Result<(), Error> {
        if self.is_lost() { Err(self.loss()) } else { Ok(()) }
    }

    fn checked(&self) -> MutexGuard<'_, Option<Instant>> {
        // Every change is a single assignment.
        self.0.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns `true` if the database may be closed. Closing copies its write-ahead log into its file and removes that
    /// log by path.
    pub(crate) fn may_close(&self) -> bool {
        self.0.lock.is_in_place() && self.files().first().is_none_or(OpenFile::is_in_place)
    }

    /// Resolves once a check has failed.
    pub(crate) async fn lost(&self) {
        self.0.lost.cancelled().await;
    }

    fn files(&self) -> &[OpenFile] {
        self.0.database.get().map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock;

    #[test]
    fn after_a_call_a_check_from_before_it_is_not_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo::create(dir.path(), None).unwrap();
        let hold = Hold::new(lock::acquire(&repo).unwrap(), &repo);
        hold.check().unwrap();
        let began = Instant::now();
        hold.check_lately_since(began).unwrap();
        std::fs::remove_dir_all(repo.var()).unwrap();
        let call = Instant::now();
        assert_eq!(hold.check_lately_since(call).unwrap_err().kind, ErrorKind::TryAgain);
        assert!(hold.check_result().is_err() && hold.check_lately().is_err(), "and ever after");
    }
}
