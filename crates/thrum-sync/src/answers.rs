//! Results that the daemon receives from this crate, in the form shown to its clients.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thrum_core::{RangeSet, SetDigest, Timestamp, exchange::LastRejected, heads::Difference};

use crate::{
    legacy::serving::Skipped,
    pairing::{Attempt, Code, SessionId},
    registry::{Moved, Seen, TokenMisuse},
    replicator::{ExchangeStatus, State},
    transport::{self, Kind, Node},
};

/// A pairing session, as displayed by `peer add`.
pub struct PairingStarted {
    /// Identifies the session, to cancel it when its initiator goes away.
    pub session: SessionId,
    /// The code to display to the user.
    pub code: Code,
    /// The address that the other side joins.
    pub address: String,
    /// This daemon's name.
    pub name: String,
    /// The kind of transport.
    pub transport: Kind,
    /// When the session expires.
    pub expires_at: Timestamp,
    /// Time until the session expires.
    pub expires_in: Duration,
}

impl PairingStarted {
    /// Returns the command for the other side.
    pub fn join(&self) -> String {
        format!("thrum peer join {}", self.address)
    }

    /// Returns `NAME:IP:PORT:CODE`, the format of Go Thrum v0.6. Colons in the name are replaced, because they would
    /// break it.
    pub fn peercode(&self) -> String {
        format!("{}:{}:{}", self.name.replace(':', "-"), self.address, self.code.reveal())
    }
}

/// Result of waiting for a pairing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waited {
    /// A peer joined.
    Joined(Joined),
    /// No peer has joined yet, but there were attempts: all wrong codes and refused callers of the session so far, in
    /// order.
    Tried(Vec<Attempt>),
}

/// Daemons that wait to be joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WaitingDaemons {
    /// The daemons, sorted by node name and address.
    pub daemons: Vec<Waiting>,
    /// Number of nodes that were asked.
    pub asked: usize,
    /// Number of nodes that were not asked, because there are too many.
    pub not_asked: usize,
}

/// A daemon that waits to be joined, as described by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// The daemon's own name.
    pub name: String,
    /// The address at which to join the daemon.
    pub address: String,
    /// The daemon's node; `None` on loopback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Node>,
    /// Version of the daemon's program.
    pub version: String,
    /// The kind of transport.
    pub transport: String,
}

/// The daemon at an address to be joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listener {
    /// The daemon's exact address, `IP:PORT`.
    pub address: String,
    /// The daemon's node; `None` on loopback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Node>,
    /// The daemon's own name; empty for legacy peers.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Version of the daemon's program; empty for legacy peers.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The pairing protocol that a join would use, as in [`Protocol::as_str`](crate::pairing::Protocol::as_str).
    /// `plain` means that the code itself would be sent.
    pub pairing: String,
}

/// The route of packets to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The relay on the route; `None` for a direct route.
    pub relay: Option<String>,
    /// Round-trip time as measured by the network, in microseconds.
    pub round_trip_us: u64,
}

impl From<transport::Path> for Route {
    fn from(path: transport::Path) -> Self {
        Self { relay: path.relay, round_trip_us: micros(path.round_trip) }
    }
}

/// Result of `peer ping`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pinged {
    /// The peer's name here.
    pub name: String,
    /// The peer's id.
    pub daemon_id: String,
    /// The peer's current address.
    pub address: String,
    /// The peer's node; `None` on loopback or if unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Node>,
    /// The route of packets to the peer; `None` on loopback, or if the network does not report it in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Route>,
    /// Whether the ping used the connection that the peer lent to us, instead of dialling.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub asked_over_its_connection: bool,
    /// Duration of one request and its reply on an open connection, in microseconds.
    pub round_trip_us: u64,
    /// By how many milliseconds the peer's clock is ahead of ours (negative: behind); `None` for legacy peers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_offset_ms: Option<i64>,
    /// Version of the peer's program; `None` for legacy peers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Version of our program.
    pub our_version: String,
    /// Number of the peer's events that are not here yet; `None` until the peer has reported its highest sequence.
    pub backlog_from_them: Option<u64>,
    /// Number of events that did not come from the peer and that it has not acknowledged; `None` until the peer first
    /// pulls after a start of this daemon, and always for legacy peers.
    pub backlog_to_them: Option<u64>,
}

/// A new peer, as seen from either side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Joined {
    /// The peer's name here.
    pub peer_name: String,
    /// The peer's id.
    pub peer_daemon_id: String,
    /// The address at which we dial the peer.
    pub peer_address: String,
    /// How the peer was paired: `spake2-1`, or `plain` if the code itself was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pairing: Option<String>,
    /// Whether both sides have read the events that the other had when they paired; with a legacy peer, whether we
    /// have.
    pub syncing: bool,
    /// A sentence that explains why `syncing` is false; `None` if it is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The complete status of one peer (I11).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerStatus {
    /// The peer's id.
    pub daemon_id: String,
    /// The peer's name here.
    pub name: String,
    /// The address at which we dial the peer.
    pub address: String,
    /// Whether the peer has a token, without which it cannot be authenticated.
    pub has_token: bool,
    /// When the peer was paired; `None` if unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paired_at: Option<Timestamp>,
    /// Time of the last contact; `None` if there was none. Not serialized: the daemon itself adds it in two forms.
    #[serde(skip)]
    pub last_sync: Option<Timestamp>,
    /// Our checkpoint in the peer's log, under Go Thrum's name for it; 0 if nothing was read.
    pub last_synced_seq: u64,
    /// The kind of transport on which the peer was paired.
    pub transport: String,
    /// Connection state.
    pub state: State,
    /// Time of the last state change.
    pub since: Timestamp,
    /// Our checkpoint in the peer's log; 0 if nothing was read.
    pub read_by_us: u64,
    /// Our highest sequence.
    pub our_latest: u64,
    /// The exchange with the peer.
    #[serde(flatten)]
    pub exchange: ExchangeStatus,
    /// The peer's events, nodes and problems.
    #[serde(flatten)]
    pub details: PeerDetails,
}

/// Facts about a peer apart from the exchange with it. Go Thrum reports none of these fields, and each has a default,
/// so that programs can read this struct from the answer of any daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PeerDetails {
    /// How the peer was paired: `spake2-1`, or `plain` if the code itself was sent; `None` if unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paired_by: Option<String>,
    /// Whether our requests use a connection that the peer lent to us, because we cannot dial it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub asked_over_its_connection: bool,
    /// Whether the peer's requests use a connection that we lent to it, because it cannot dial us.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub asks_over_our_connection: bool,
    /// Number of the peer's events that are not here yet; `None` until the peer has reported its highest sequence.
    pub backlog_from_them: Option<u64>,
    /// Number of events that did not come from the peer and that it has not acknowledged, or, for a legacy peer, not
    /// requested; `None` until the peer first pulls after a start of this daemon.
    pub backlog_to_them: Option<u64>,
    /// Number of events from this peer that are parked.
    pub parked: u64,
    /// Number of events from this peer that were rejected since the peer was added.
    pub rejected: u64,
    /// The last rejected event; `None` if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_rejected: Option<LastRejected>,
    /// Events that a legacy peer has refused, and that are no longer sent to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<Skipped>,
    /// Additional notes for the user, as sentences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The node on which the peer listens; `None` on loopback or if unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Node>,
    /// The node from which the peer calls, if that may be another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_from: Option<Node>,
    /// The peer's last proven move to another node; `None` if it never moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved: Option<Moved>,
    /// The last misuse of the peer's token here, which was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<TokenMisuse>,
    /// The last misuse of the shared token at the peer, which refused and reported it. A copy of the token may exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_there: Option<TokenMisuse>,
    /// The two daemons that currently run with the peer's key; empty unless there are two. The cause is a cloned
    /// machine or a copied `.thrum`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub same_key: Vec<Seen>,
    /// The route of packets to the peer, measured about once a minute; `None` if unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Route>,
    /// Result of the last automatic reconciliation since the start; `None` if none had anything to report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repaired: Option<Repaired>,
}

/// Result of a forced pull.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Forced {
    /// The peer's id.
    pub peer: String,
    /// The peer's name here.
    pub name: String,
    /// Number of new events.
    pub applied: u64,
    /// Number of events that were already here, or that a purge keeps out.
    pub skipped: u64,
    /// Why the pull did not reach the end of the peer's log; `None` if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Result of `verify`, overall or for one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All peers hold the same events as this daemon. They also have the same projection, which is not compared while a
    /// purge is due soon, or is not completed, on either side.
    Equal,
    /// At least one peer holds other events or has a different projection.
    Differs,
    /// At least one peer holds other events while a purge is due soon, or is not completed, on either side. The purge
    /// may be the only reason. Or a daemon with which events are exchanged through git lacks some until its next
    /// exchange. No peer differs otherwise.
    Waiting,
    /// At least one peer could not be asked or cannot be compared, and no peer differs or waits.
    Unreachable,
    /// There are no peers.
    NoPeers,
}

impl Verdict {
    /// The overall result of these comparisons.
    pub fn of(peers: &[Compared]) -> Self {
        let any = |verdict: Self| peers.iter().any(|peer| peer.status == verdict);
        if peers.is_empty() {
            return Self::NoPeers;
        }
        [Self::Differs, Self::Waiting, Self::Unreachable].into_iter().find(|one| any(*one)).unwrap_or(Self::Equal)
    }
}

/// Complete result of `verify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Overall result.
    pub status: Verdict,
    /// This daemon's id.
    pub daemon_id: String,
    /// Number of events held here.
    pub events: u64,
    /// The digest of our projection.
    pub projection: SetDigest,
    /// Number of events that were missing here and were fetched.
    #[serde(skip_serializing_if = "is_zero")]
    pub fetched: u64,
    /// Result for each peer.
    pub peers: Vec<Compared>,
}

/// Returns `true` for 0. Takes a reference, because `serde` requires one.
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Result of `verify` for one peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// The peer's name here.
    pub name: String,
    /// The peer's id.
    pub daemon_id: String,
    /// Result for this peer: `equal`, `differs`, `waiting` or `unreachable`.
    pub status: Verdict,
    /// The logs in which the two sides differ.
    pub differences: Vec<Difference>,
    /// The missing events of each log that was reconciled, and how many were fetched. Empty for peers that do not
    /// support comparison.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Missing>,
    /// Why the comparison was impossible or incomplete, or a difference apart from the events; `None` if there is
    /// nothing to add.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Events of one log of one origin that only one side held at the time of comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// The origin of the events.
    pub origin: String,
    /// The origin's log; empty for events without a log id.
    pub log: String,
    /// Events that the peer claims to hold and we do not.
    #[serde(skip_serializing_if = "AbsentEvents::is_empty")]
    pub here: AbsentEvents,
    /// Events that we hold and the peer does not.
    #[serde(skip_serializing_if = "AbsentEvents::is_empty")]
    pub there: AbsentEvents,
    /// Origin sequences of events that we hold and the peer has purged. These are not missing. At most
    /// [`MAX_NAMED`](thrum_core::limits::MAX_NAMED) ranges are listed.
    #[serde(skip_serializing_if = "RangeSet::is_empty")]
    pub purged_there: RangeSet,
    /// Origin sequences of events that the peer holds and we have purged. These are not requested. At most
    /// [`MAX_NAMED`](thrum_core::limits::MAX_NAMED) ranges are listed.
    #[serde(skip_serializing_if = "RangeSet::is_empty")]
    pub purged_here: RangeSet,
    /// Number of missing events that the peer then served and that were new.
    #[serde(skip_serializing_if = "is_zero")]
    pub fetched: u64,
    /// Number of missing events that need not be fetched any more: they arrived by another path meanwhile, or a purge
    /// excludes them.
    #[serde(skip)]
    pub came: u64,
    /// Number of events that have the same id but different content at the peer.
    #[serde(skip_serializing_if = "is_zero")]
    pub other_content: u64,
    /// A problem during the comparison.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Missing {
    /// Returns how many events are still missing here, according to the peer.
    pub const fn still(&self) -> u64 {
        self.here.events.saturating_sub(self.fetched).saturating_sub(self.came)
    }
}

/// Events that one side does not hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AbsentEvents {
    /// Number of events.
    pub events: u64,
    /// Origin sequences of the events, if they were compared by origin sequence; at most
    /// [`MAX_NAMED`](thrum_core::limits::MAX_NAMED) ranges.
    #[serde(skip_serializing_if = "RangeSet::is_empty")]
    pub numbers: RangeSet,
    /// Ids of the events, if they were compared by id; at most [`MAX_NAMED`](thrum_core::limits::MAX_NAMED).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
}

impl AbsentEvents {
    /// Returns `true` if no event is missing.
    pub const fn is_empty(&self) -> bool {
        self.events == 0
    }
}

/// Result of an automatic reconciliation, which starts when several checks in a row find the same difference from a
/// peer, or when the peer reports that events are missing here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repaired {
    /// Time of the reconciliation.
    pub at: Timestamp,
    /// Number of events that were missing here and were fetched.
    pub fetched: u64,
    /// Number of events that the peer claims to hold and that are still missing here.
    pub missing_here: u64,
    /// Number of events that were missing at the peer, which fetches them itself.
    pub missing_there: u64,
    /// A problem during the reconciliation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Converts a duration to whole microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
