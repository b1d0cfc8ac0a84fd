//! The state directory may be deleted, replaced or restored while its daemon runs (`git clean -xfd`, `rm -rf`, `git stash -a`, a
//! restored cache). The daemon then ends, and neither writes to nor removes from a directory that it does not hold.
//!
//! [`Hold::check`] compares the lock file at its path with the one that is locked, by device and inode. It costs one `stat` and is
//! made before every answer to an agent, before and after every commit, before every answer to a peer, and every
//! [`STATE_LOOK`](thrum_core::limits::STATE_LOOK). The lock file stands for the whole of `.thrum/var`: its path leads through
//! `.thrum` and `var`, and the lock excludes nobody any more once another file is at that path.
//!
//! Every file that a daemon writes or removes by name:
//!
//! | file | how it stays within the directory held |
//! |---|---|
//! | `thrum.lock` | opened once, never removed; [`crate::lock`] |
//! | `thrum.pid`, `daemon.json` | relative to a descriptor ([`HeldDir`](thrum_sync::held_dir::HeldDir)) |
//! | `peers.json`, `pairing.json` | the same, through `StateFile` of `thrum-sync` |
//! | `daemon.log` and its rotation | the same; [`crate::logfile`] |
//! | `tailscaled.log` and its rotation, `tsnet/tailscaled.pid` | the same; `thrum-tailnet/src/own/` |
//! | `tsnet/` itself | locked by a file of its own; `tailscaled`, which writes there by path, is ended when that lock file is gone |
//! | `thrum.sock`, also in the runtime directory | removed only if its inode is the one that was bound; [`crate::listen`] |
//! | `messages.db`, `-wal`, `-shm` | opened by path after a check; SQLite removes the log by path when the last connection closes, so connections are not closed once the directory is lost: the process ends with them open |
//! | `.thrum/context/*`, `.thrum/config.json` | by path, right after a check, because they may be another worktree's |
//!
//! Backups, exports, restored and rebuilt databases are written by commands, not by the daemon.

use std::sync::Arc;

use thrum_core::{ErrorKind, Fault, Retry};
use tokio_util::sync::CancellationToken;

use crate::{lock::Lock, paths::Repo};

/// The state directory of the running daemon. Cloning gives another handle.
#[derive(Clone, Debug)]
pub(crate) struct Hold(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    lock: Lock,
    shown: String,
    lost: CancellationToken,
}

impl Hold {
    pub(crate) fn new(lock: Lock, repo: &Repo) -> Self {
        Self(Arc::new(Inner { lock, shown: repo.var().display().to_string(), lost: CancellationToken::new() }))
    }

    /// Checks that the state directory is the one that this daemon locked.
    ///
    /// # Errors
    /// `try_again` as soon as it is another one, and from then on. A retry helps: the next command starts a daemon on the new one.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        if !self.0.lost.is_cancelled() && self.0.lock.is_in_place() {
            return Ok(());
        }
        self.0.lost.cancel();
        let text = format!("{} was deleted or replaced while its daemon ran; this daemon stores nothing more and ends", self.0.shown);
        let hint = "Repeat the command: it starts a daemon on what is there now. Mail of the former directory is where that went.";
        Err(Fault { retry: Retry::Useful, ..Fault::new(ErrorKind::TryAgain, text).hint(hint) })
    }

    /// Resolves once a check has failed.
    pub(crate) async fn lost(&self) {
        self.0.lost.cancelled().await;
    }
}
