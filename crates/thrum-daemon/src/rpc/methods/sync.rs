//! `sync.*` and `tsync.force`: whether all have everything, and making it so now.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thrum_core::{Fault, Stamp, limits};
use thrum_sync::service::{Forced, PeerStatus, Verified};

use super::peer::{Standing, sync_state};
use crate::daemon::Daemon;

#[derive(Serialize)]
pub(super) struct Status {
    running: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_sync_at: Option<Stamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    sync_state: &'static str,
    /// Whether peers on other machines are left alone.
    local_only: bool,
    /// Whether peers on the tailnet are spoken to.
    tailnet: bool,
    /// How often every peer is asked, in seconds.
    sync_interval: u64,
    peers: Vec<Standing>,
}

pub(super) async fn status(daemon: &Daemon) -> Result<Status, Fault> {
    let peers = daemon.peers.status().await?;
    let error = |peer: &PeerStatus| peer.last_error.as_ref().map(|error| format!("{}: {error}", peer.name));
    Ok(Status {
        running: true,
        last_sync_at: last_sync(&peers),
        last_error: peers.iter().find_map(error),
        sync_state: sync_state(&peers),
        local_only: daemon.config.local_only(),
        tailnet: daemon.tailnet.status().borrow().enabled,
        sync_interval: daemon.config.sync_interval().as_secs(),
        peers: peers.into_iter().map(Standing::of).collect(),
    })
}

fn last_sync(peers: &[PeerStatus]) -> Option<Stamp> {
    peers.iter().filter_map(|peer| peer.last_sync).max()
}

#[derive(Deserialize)]
pub(super) struct Force {
    #[serde(default)]
    from: Option<String>,
}

impl Force {
    fn from(&self) -> Option<&str> {
        self.from.as_deref().filter(|from| !from.is_empty())
    }
}

#[derive(Serialize)]
pub(super) struct Triggered {
    triggered: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_sync_at: Option<Stamp>,
    sync_state: &'static str,
    local_only: bool,
    results: Vec<Forced>,
}

pub(super) async fn force(daemon: &Daemon, params: Force) -> Result<Triggered, Fault> {
    let results = daemon.peers.force(params.from()).await?;
    let peers = daemon.peers.status().await?;
    Ok(Triggered {
        triggered: !results.is_empty(),
        last_sync_at: last_sync(&peers),
        sync_state: sync_state(&peers),
        local_only: daemon.config.local_only(),
        results,
    })
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum TsyncForced {
    NoPeers { status: &'static str, message: &'static str },
    Done { status: &'static str, results: Vec<Forced> },
}

pub(super) async fn tsync_force(daemon: &Daemon, params: Force) -> Result<TsyncForced, Fault> {
    if daemon.peers.list().is_empty() {
        return Ok(TsyncForced::NoPeers { status: "no_peers", message: "no peers configured" });
    }
    Ok(TsyncForced::Done { status: "ok", results: daemon.peers.force(params.from()).await? })
}

#[derive(Deserialize)]
pub(super) struct Verify {
    #[serde(default)]
    timeout_ms: Option<u64>,
}

pub(super) async fn verify(daemon: &Daemon, params: Verify) -> Result<Verified, Fault> {
    let within = params.timeout_ms.map_or(limits::VERIFY, Duration::from_millis);
    daemon.peers.verify(within.min(limits::MAX_WAIT)).await
}
