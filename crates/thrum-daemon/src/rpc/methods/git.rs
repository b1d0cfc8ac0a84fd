//! `git.*`: sync through a git remote.

use serde::Deserialize;
use thrum_core::Error;

use super::required;
use crate::{daemon::Daemon, git_sync::GitStatus};

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
pub(super) struct Decided {
    /// The name of a daemon on the remote, its fingerprint or its id.
    #[serde(default)]
    name: Option<String>,
}

pub(super) fn status(daemon: &Daemon) -> GitStatus {
    daemon.git_sync.status()
}

pub(super) async fn on(daemon: &Daemon, params: On) -> Result<GitStatus, Error> {
    daemon.git_sync.switch_on(params.remote.filter(|remote| !remote.is_empty()), params.encrypt).await
}

pub(super) async fn off(daemon: &Daemon) -> Result<GitStatus, Error> {
    daemon.git_sync.switch_off().await
}

pub(super) async fn decide(daemon: &Daemon, params: Decided, is_trusted: bool) -> Result<GitStatus, Error> {
    daemon.git_sync.decide(&required("name", params.name)?, is_trusted).await
}
