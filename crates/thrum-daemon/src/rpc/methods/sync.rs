//! `sync.*` and `tsync.force`: show the state of the peers, synchronise now, compare with the peers, and list parked
//! events.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use thrum_core::{Error, Timestamp, limits};
use thrum_store::query;
use thrum_sync::peers::{Forced, PeerStatus, Verdict, Verified};

use super::peer::{FullStatus, sync_state};
use crate::{
    daemon::Daemon,
    git_sync::{GitForced, GitStatus},
};

#[derive(Serialize)]
pub(super) struct SyncStatus {
    running: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_sync_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    sync_state: &'static str,
    /// `true` if the daemon does not communicate with other machines.
    local_only: bool,
    /// `true` if the daemon communicates with peers on the tailnet.
    tailnet: bool,
    /// Interval at which every peer is asked, in seconds.
    sync_interval: u64,
    peers: Vec<FullStatus>,
    /// Sync through a git remote; absent while it is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    git: Option<GitStatus>,
}

pub(super) async fn status(daemon: &Daemon) -> Result<SyncStatus, Error> {
    let peers = daemon.peers.status().await?;
    let error = |peer: &PeerStatus| peer.exchange.last_error.as_ref().map(|error| format!("{}: {error}", peer.name));
    Ok(SyncStatus {
        running: true,
        last_sync_at: last_sync(&peers, daemon),
        last_error: peers.iter().find_map(error),
        sync_state: sync_state(&peers),
        local_only: daemon.config.local_only(),
        tailnet: daemon.tailnet.status().borrow().enabled,
        sync_interval: daemon.config.sync_interval().as_secs(),
        peers: peers.into_iter().map(FullStatus::of).collect(),
        git: daemon.git_sync.is_on().then(|| daemon.git_sync.status()),
    })
}

/// When events were last exchanged with a peer, or through git.
fn last_sync(peers: &[PeerStatus], daemon: &Daemon) -> Option<Timestamp> {
    peers.iter().filter_map(|peer| peer.last_sync).max().max(daemon.git_sync.last_exchange())
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
    last_sync_at: Option<Timestamp>,
    sync_state: &'static str,
    local_only: bool,
    results: Vec<Forced>,
    /// The exchange through git; absent while that is off, and if one peer is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    git: Option<GitForced>,
}

pub(super) async fn force(daemon: &Daemon, params: Force) -> Result<Triggered, Error> {
    let through_git = async {
        let is_wanted = daemon.git_sync.is_on() && params.from().is_none();
        if is_wanted { Some(daemon.git_sync.forced().await) } else { None }
    };
    let (results, git) = tokio::join!(daemon.peers.force(params.from()), through_git);
    let results = results?;
    let peers = daemon.peers.status().await?;
    Ok(Triggered {
        triggered: !results.is_empty() || git.is_some(),
        last_sync_at: last_sync(&peers, daemon),
        sync_state: sync_state(&peers),
        local_only: daemon.config.local_only(),
        results,
        git,
    })
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum TsyncForced {
    NoPeers { status: &'static str, message: &'static str },
    Done { status: &'static str, results: Vec<Forced> },
}

pub(super) async fn tsync_force(daemon: &Daemon, params: Force) -> Result<TsyncForced, Error> {
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

/// The answer to `sync.verify`.
#[derive(Serialize)]
pub(super) struct NamedVerified {
    #[serde(flatten)]
    verified: Verified,
    /// The names of the origins of events that differ, by id.
    names: BTreeMap<String, String>,
}

pub(super) async fn verify(daemon: &Daemon, params: Verify) -> Result<NamedVerified, Error> {
    let within = params.timeout_ms.map_or(limits::VERIFY, Duration::from_millis);
    let mut verified = daemon.peers.verify(within.min(limits::MAX_WAIT)).await?;
    let mut through_git = daemon.git_sync.verify().await;
    let differences = verified.peers.iter().chain(&through_git).flat_map(|peer| {
        let missing = peer.missing.iter().map(|one| &one.origin);
        peer.differences.iter().map(|one| &one.origin).chain(missing)
    });
    let origins: BTreeSet<String> = differences.cloned().collect();
    let mut machines = daemon.machines();
    let read = daemon.storage.read(move |reader| {
        reader.name_machines(&mut machines, origins.iter().map(String::as_str))?;
        Ok((machines, origins))
    });
    let (machines, origins) = read.await?;
    // An answer that is no daemon's, about the remote, has a name already.
    for one in through_git.iter_mut().filter(|one| !one.daemon_id.is_empty()) {
        one.name = machines.name(&one.daemon_id).into_owned();
    }
    through_git.sort_by(|one, other| (&one.name, &one.daemon_id).cmp(&(&other.name, &other.daemon_id)));
    verified.peers.extend(through_git);
    verified.status = Verdict::of(&verified.peers);
    let names = origins.into_iter().map(|id| (id.clone(), machines.name(&id).into_owned()));
    Ok(NamedVerified { verified, names: names.collect() })
}

/// Events that have no effect here, by peer and reason.
#[derive(Serialize)]
pub(super) struct ParkedList {
    groups: Vec<Parked>,
    /// `true` if there are more groups than listed.
    more: bool,
}

#[derive(Serialize)]
struct Parked {
    /// The peer that served the events; absent for events written here.
    #[serde(skip_serializing_if = "Option::is_none")]
    daemon_id: Option<String>,
    /// Our name for that peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    reason: String,
    events: u64,
    /// `true` if the events are expected to take effect later.
    waits: bool,
    last: ParkedEvent,
}

/// The latest event of a group to arrive.
#[derive(Serialize)]
struct ParkedEvent {
    event_id: String,
    #[serde(rename = "type")]
    kind: String,
    origin: String,
    origin_name: String,
    at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    due: Option<Timestamp>,
}

pub(super) async fn parked(daemon: &Daemon) -> Result<ParkedList, Error> {
    let mut machines = daemon.machines();
    let read = daemon.storage.read(move |reader| {
        let (groups, more) = reader.parked()?;
        reader.name_machines(
            &mut machines,
            groups.iter().flat_map(|group| [group.peer.as_str(), group.last.origin.as_str()]),
        )?;
        Ok((groups, more, machines))
    });
    let (groups, more, machines) = read.await?;
    let name = |id: &str| machines.name(id).into_owned();
    let shown = |query::Parked { peer, reason, events, waits, last }: query::Parked| {
        let query::ParkedEvent { event_id, origin, kind, at, target, due } = last;
        let daemon_id = (!peer.is_empty()).then_some(peer);
        let last = ParkedEvent { event_id, kind, origin_name: name(&origin), origin, at, target, due };
        Parked { peer: daemon_id.as_deref().map(name), daemon_id, reason, events, waits, last }
    };
    Ok(ParkedList { groups: groups.into_iter().map(shown).collect(), more })
}
