//! `health`: reports the state of the daemon and its known problems in one answer.

use serde::Serialize;
use thrum_core::{Ambient, Error, Timestamp, name, words::count};
use thrum_sync::{
    clock::go_duration,
    peers::{PeerStatus, SAME_KEY},
    registry::Seen,
    transport::Kind,
};

use super::{
    peer::{Listed, ago, sync_state},
    purges::{Purges, purges},
    storing::{Storing, storing},
};
use crate::{ambient::System, daemon::Daemon, tailnet};

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
    /// The fields that Go Thrum's commands read; only if the tailnet is enabled or there are peers.
    #[serde(skip_serializing_if = "Option::is_none")]
    tailscale: Option<Tailscale>,
    /// The state of the tailnet.
    tailnet: tailnet::TailnetHealth,
    /// The address for peers on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    local_address: Option<String>,
    /// Why peers cannot dial this daemon although they expect to.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_listening: Option<NotListening>,
    /// The purges and their authors; absent if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    purges: Option<Purges>,
    /// Writer tasks that have taken longer than a second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    storing: Vec<Storing>,
    /// Removed peers whose data is being dropped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    forgetting: Vec<Forgetting>,
    /// Daemons with events that are dated ahead of this machine's clock.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ahead: Vec<Ahead>,
    /// Other daemons that, as peers report, run with this daemon's key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    same_key: Vec<SameKey>,
    /// Problems that the user should fix.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// Another daemon that runs with this daemon's key.
#[derive(Serialize)]
struct SameKey {
    /// Our name for the peer that reports it.
    peer: String,
    #[serde(flatten)]
    seen: Seen,
}

impl SameKey {
    fn warning(&self) -> String {
        let ago = go_duration(System.now().since(self.seen.at));
        let peer = name::shown_machine(&self.peer);
        format!(
            "another daemon runs with this daemon's key: seen by {peer} at {}, {ago} ago; {SAME_KEY}",
            self.seen.location()
        )
    }
}

#[derive(Serialize)]
struct NotListening {
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// The peers in the format that Go Thrum documents.
#[derive(Serialize)]
struct TailscaleSync {
    enabled: bool,
    hostname: String,
    peer_count: usize,
    peers: Vec<Listed>,
}

/// The peers in the format that Go Thrum's daemon serves.
#[derive(Serialize)]
struct Tailscale {
    enabled: bool,
    hostname: String,
    connected_peers: usize,
    peers: Vec<TailscalePeer>,
    sync_status: &'static str,
}

#[derive(Serialize)]
struct TailscalePeer {
    daemon_id: String,
    name: String,
    last_sync: String,
}

impl Tailscale {
    fn of(enabled: bool, hostname: &str, peers: &[PeerStatus]) -> Option<Self> {
        let peer = |peer: &PeerStatus| TailscalePeer {
            daemon_id: peer.daemon_id.clone(),
            name: peer.name.clone(),
            last_sync: ago(peer.last_sync),
        };
        let sync_status = if sync_state(peers) == "syncing" { "syncing" } else { "idle" };
        (enabled || !peers.is_empty()).then(|| Self {
            enabled,
            hostname: hostname.to_owned(),
            connected_peers: peers.len(),
            peers: peers.iter().map(peer).collect(),
            sync_status,
        })
    }
}

/// Progress of dropping a removed peer's data, in rows of the log.
#[derive(Serialize)]
struct Forgetting {
    daemon_id: String,
    done: u64,
    rows: u64,
}

/// Returns a warning about events that the daemon could not fetch by itself.
fn missing(peer: &PeerStatus) -> Option<String> {
    let repaired = peer.details.repaired.as_ref().filter(|repaired| repaired.missing_here > 0)?;
    let why = repaired.note.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
    let events = if repaired.missing_here == 1 {
        "1 event that is".to_owned()
    } else {
        format!("{} events that are", repaired.missing_here)
    };
    Some(format!("{} claims to hold {events} missing here{why}; see `thrum sync verify`", peer.name))
}

/// A daemon with events that are dated ahead of our clock. Its own clock is wrong, or was wrong when it wrote them.
#[derive(Serialize)]
struct Ahead {
    daemon_id: String,
    /// Our name for the daemon, if it is a peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Our name for the peer that served the events, if another daemon wrote them; the peer's id if it was removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<String>,
    /// `true` if the daemon is this one.
    local: bool,
    events: u64,
    /// The latest timestamp among the events.
    latest: Timestamp,
}

impl Ahead {
    fn of(daemon: &Daemon, peers: &[PeerStatus], ahead: thrum_store::Ahead) -> Self {
        let name = |id: &str| peers.iter().find(|peer| peer.daemon_id == id).map(|peer| peer.name.clone());
        let via = Some(&ahead.via).filter(|via| !via.is_empty() && **via != ahead.origin);
        Self {
            name: name(&ahead.origin),
            via: via.map(|via| name(via).unwrap_or_else(|| via.clone())),
            local: ahead.origin == daemon.id,
            daemon_id: ahead.origin,
            events: ahead.events,
            latest: ahead.latest,
        }
    }

    fn warning(&self) -> String {
        let events = count(self.events, "event");
        let (are, others) = if self.events == 1 { ("is", "that") } else { ("are", "the others") };
        let latest = self.latest.to_the_second();
        if self.local {
            return format!(
                "the clock of this machine was wrong: {events} of it {are} dated up to {latest}. What is written now is dated right; \
                 `thrum purge` takes {others} away"
            );
        }
        let name = name::shown_machine(self.name.as_ref().unwrap_or(&self.daemon_id));
        let via = self.via.as_ref().map(|via| format!(" (through {})", name::shown_machine(via))).unwrap_or_default();
        let shown = if self.events == 1 { "is shown where it came" } else { "are shown where they came" };
        format!("the clock of {name}{via} is or was wrong: {events} of it {are} dated up to {latest}, and {shown}")
    }
}

pub(super) async fn health(daemon: &Daemon) -> Result<Health, Error> {
    let found = daemon.storage.read(|reader| Ok((reader.totals()?, reader.ahead(System.now())?, reader.forgetting()?)));
    let (totals, ahead, forgetting) = found.await?;
    let peers = daemon.peers.status().await?;
    let commit = daemon.storage.commits().borrow().clone();
    let mut warnings = daemon.warnings.clone();
    let listen_error = daemon.peers.listen_error().await;
    warnings.extend(listen_error.as_ref().map(ToString::to_string));
    warnings.extend(daemon.peers.newer_go().map(|newer| newer.to_string()));
    warnings.extend(peers.iter().filter_map(missing));
    let purges = purges(daemon, &mut warnings).await?;
    let storing = storing(daemon.storage.writer.busy(), &peers);
    let ahead: Vec<Ahead> = ahead.into_iter().map(|ahead| Ahead::of(daemon, &peers, ahead)).collect();
    warnings.extend(ahead.iter().map(Ahead::warning));
    let same_key: Vec<SameKey> =
        daemon.peers.others_with_our_key().into_iter().map(|(peer, seen)| SameKey { peer, seen }).collect();
    warnings.extend(same_key.iter().map(SameKey::warning));
    let tailnet = daemon.tailnet.status().borrow().clone();
    let address = daemon.peers.address(Kind::Tailnet).await;
    let enabled = tailnet.enabled;
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
            enabled,
            hostname: daemon.name.clone(),
            peer_count: peers.len(),
            peers: peers.iter().map(Listed::of).collect(),
        },
        tailnet: tailnet::TailnetHealth::of(&tailnet, address, &daemon.config),
        tailscale: Tailscale::of(enabled, &daemon.name, &peers),
        local_address: daemon.peers.address(Kind::Local).await,
        not_listening: listen_error.map(|Error { message, hint, .. }| NotListening { message, hint }),
        purges,
        storing,
        forgetting: forgetting
            .into_iter()
            .map(|it| Forgetting { daemon_id: it.peer, done: it.done, rows: it.upto })
            .collect(),
        ahead,
        same_key,
        warnings,
    })
}
