//! Peers and the exchange with them.

use std::time::Duration;

use serde::Deserialize;
use thrum_core::{
    Timestamp,
    quota::{Measure, OverQuota},
};
use thrum_sync::{
    peers::{PeerDetails, Route},
    replicator::ExchangeStatus,
    transport::Node,
};

use super::{GitStatus, Waiting};
use crate::{text::quote, time};

/// The answer to `sync.status`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SyncStatus {
    pub(crate) last_sync_at: Option<String>,
    pub(crate) last_error: Option<String>,
    pub(crate) sync_state: String,
    pub(crate) local_only: bool,
    /// `true` if the tailnet is used.
    pub(crate) tailnet: bool,
    /// The time between two periodic pulls, in seconds.
    pub(crate) sync_interval: u64,
    pub(crate) peers: Vec<Peer>,
    /// `None` while sync through git is off.
    pub(crate) git: Option<GitStatus>,
}

impl SyncStatus {
    /// The daemons that want in through git.
    pub(crate) fn waiting(&self) -> &[Waiting] {
        self.git.as_ref().map_or(&[], |git| &git.waiting)
    }
}

/// One peer of `peer.status` or `sync.status`. Fields that Go Thrum's daemon may leave out, or send as `null`, are
/// optional here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) daemon_id: String,
    pub(crate) address: String,
    pub(crate) transport: Option<String>,
    pub(crate) state: String,
    pub(crate) since: Option<Timestamp>,
    pub(crate) last_sync_at: Option<Timestamp>,
    pub(crate) read_by_us: Option<u64>,
    pub(crate) our_latest: Option<u64>,
    #[serde(flatten)]
    pub(crate) exchange: ExchangeStatus,
    #[serde(flatten)]
    pub(crate) details: PeerDetails,
}

/// The answer to `peer.start_pairing`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pairing {
    pub(crate) code: String,
    pub(crate) address: String,
    pub(crate) join: String,
    pub(crate) peercode: String,
    pub(crate) transport: String,
}

/// Describes how a peer exceeds its quota, such as `1500 agents kept, 1000 allowed`. Also returns the key of the limit.
pub(crate) fn over_quota(over: OverQuota) -> (String, &'static str) {
    let OverQuota { measure, kept, allowed } = over;
    let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / f64::from(1 << 20));
    match measure {
        Measure::Bytes => (format!("{} kept, {} allowed", megabytes(kept), megabytes(allowed)), "peers.max_mb"),
        Measure::Agents => (format!("{kept} agents kept, {allowed} allowed"), "peers.max_agents"),
        Measure::Origins => (format!("events of {kept} daemons kept, {allowed} allowed"), "peers.max_daemons"),
        Measure::Parked => (format!("{kept} events wait for something, {allowed} may"), "peers.max_parked"),
    }
}

/// Formats a node as `laptop (ann@example.com)`, with control characters escaped.
pub(crate) fn node(node: &Node) -> String {
    let name = quote(if node.name.is_empty() { &node.id } else { &node.name });
    if node.user.is_empty() { name } else { format!("{name} ({})", user(&node.user)) }
}

/// Formats a login name; an e-mail address needs no quotes.
fn user(login: &str) -> String {
    let parts: Vec<_> = login.split('@').collect();
    if parts.len() == 2 && parts.iter().all(|part| quote(part) == *part) { login.to_owned() } else { quote(login) }
}

/// Formats the network path to a peer as `direct, 0.4 ms` or `via relay fra, 48 ms`.
pub(crate) fn route(route: &Route) -> String {
    let way = route.relay.as_ref().map_or_else(|| "direct".to_owned(), |relay| format!("via relay {}", quote(relay)));
    format!("{way}, {}", millis(route.round_trip_us))
}

/// Formats microseconds for users: `0.4 ms`, `48 ms`, `2.3s`.
pub(crate) fn millis(micros: u64) -> String {
    match micros {
        0..10_000 => format!("{}.{} ms", micros / 1000, micros % 1000 / 100),
        _ => time::length(Duration::from_micros(micros)),
    }
}
