//! `health`: one answer that says whether all is well, and what is not.

use serde::Serialize;
use thrum_core::Fault;
use thrum_sync::transport::Kind;

use super::peer::{Listed, sync_state};
use crate::daemon::Daemon;

#[derive(Serialize)]
pub(super) struct Health {
    status: &'static str,
    uptime_ms: u64,
    version: String,
    repo_id: String,
    sync_state: &'static str,
    daemon_id: String,
    pid: u32,
    repo_path: String,
    log_id: String,
    events: u64,
    messages: u64,
    agents: u64,
    parked: u64,
    rejected: u64,
    tailscale_sync: TailscaleSync,
    /// Where peers on this machine reach us.
    #[serde(skip_serializing_if = "Option::is_none")]
    local_address: Option<String>,
    /// What the user should mend.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// The shape that Go Thrum documents.
#[derive(Serialize)]
struct TailscaleSync {
    enabled: bool,
    hostname: String,
    peer_count: usize,
    peers: Vec<Listed>,
}

pub(super) async fn health(daemon: &Daemon) -> Result<Health, Fault> {
    let totals = daemon.storage.read(|reader| reader.totals()).await?;
    let peers = daemon.peers.status().await?;
    let commit = daemon.storage.commits().borrow().clone();
    let mut warnings = daemon.warnings.clone();
    warnings.extend(daemon.peers.listen_error().await.map(|fault| fault.to_string()));
    Ok(Health {
        status: "ok",
        uptime_ms: u64::try_from(daemon.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        version: daemon.version.clone(),
        repo_id: daemon.repo.name(),
        sync_state: sync_state(&peers),
        daemon_id: daemon.id.clone(),
        pid: std::process::id(),
        repo_path: daemon.repo.main_root().display().to_string(),
        log_id: commit.log.to_string(),
        events: totals.events,
        messages: totals.messages,
        agents: totals.agents,
        parked: totals.parked,
        rejected: totals.rejected,
        tailscale_sync: TailscaleSync {
            enabled: daemon.peers.address(Kind::Tailnet).await.is_some(),
            hostname: daemon.name.clone(),
            peer_count: peers.len(),
            peers: peers.iter().map(Listed::of).collect(),
        },
        local_address: daemon.peers.address(Kind::Local).await,
        warnings,
    })
}
