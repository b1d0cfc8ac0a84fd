//! `git.*`: sync through a git remote.

use serde::Deserialize;
use thrum_core::{Error, ErrorKind};

use crate::{
    daemon::Daemon,
    git_sync::{GitLog, GitStatus},
};

#[derive(Deserialize)]
pub(super) struct On {
    /// The name of a git remote, or its URL; the obvious remote if absent.
    #[serde(default)]
    remote: Option<String>,
    /// Encrypt what is published.
    #[serde(default)]
    encrypt: bool,
}

#[derive(Deserialize)]
pub(super) struct Off {
    /// Remove this daemon's ref from the remote.
    #[serde(default)]
    remove: bool,
}

#[derive(Deserialize)]
pub(super) struct Log {
    /// The most entries; all that are kept if absent.
    #[serde(default = "all")]
    limit: usize,
}

const fn all() -> usize {
    usize::MAX
}

#[derive(Deserialize)]
pub(super) struct Decided {
    /// For each daemon on the remote that is meant, its name, fingerprint or id.
    #[serde(default)]
    names: Vec<String>,
}

pub(super) fn status(daemon: &Daemon) -> GitStatus {
    daemon.git_sync.status()
}

pub(super) fn log(daemon: &Daemon, params: Log) -> GitLog {
    daemon.git_sync.log(params.limit)
}

pub(super) async fn on(daemon: &Daemon, params: On) -> Result<GitStatus, Error> {
    daemon.git_sync.switch_on(params.remote.filter(|remote| !remote.is_empty()), params.encrypt).await
}

pub(super) async fn off(daemon: &Daemon, params: Off) -> Result<GitStatus, Error> {
    daemon.git_sync.switch_off(params.remove).await
}

pub(super) async fn decide(daemon: &Daemon, params: Decided, is_trusted: bool) -> Result<GitStatus, Error> {
    if params.names.is_empty() {
        return Err(Error::new(ErrorKind::Invalid, "names is required"));
    }
    daemon.git_sync.decide(params.names, is_trusted).await
}
