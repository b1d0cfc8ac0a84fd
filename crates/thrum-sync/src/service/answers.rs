//! What the daemon gets to hear, in the shapes that its clients are shown.

use std::time::Duration;

use serde::Serialize;
use thrum_core::{Runs, Stamp, Sum, exchange::LastRejected, heads::Difference, quota::OverQuota};

use super::ping::micros;
use crate::{
    legacy::serving::Skipped,
    pairing::{Attempt, Code, SessionId},
    registry::{Moved, Stray},
    replicator::State,
    transport::{self, Kind, Node},
};

/// A pairing session, as `peer add` shows it.
pub struct PairingStarted {
    /// To cancel it when who started it goes away.
    pub session: SessionId,
    /// For the person.
    pub code: Code,
    /// Where the other side joins.
    pub address: String,
    /// Our name.
    pub name: String,
    /// On what kind of transport.
    pub transport: Kind,
    /// When it ends by itself.
    pub expires_at: Stamp,
    /// How long that is from now.
    pub expires_in: Duration,
}

impl PairingStarted {
    /// The command for the other side.
    pub fn join(&self) -> String {
        format!("thrum peer join {}", self.address)
    }

    /// `NAME:IP:PORT:CODE`, which Go Thrum v0.6 takes. A colon in the name would break it.
    pub fn peercode(&self) -> String {
        format!("{}:{}:{}", self.name.replace(':', "-"), self.address, self.code.reveal())
    }
}

/// How a wait for a pairing went on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waited {
    /// Somebody joined.
    Joined(Joined),
    /// Nobody yet, but somebody tried: all wrong codes of the session, in order.
    Tried(Vec<Attempt>),
}

/// Who waits to be joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The daemons, by node and port.
    pub daemons: Vec<Waiting>,
    /// How many nodes were asked.
    pub asked: usize,
    /// How many were not, because there are too many.
    pub not_asked: usize,
}

/// A daemon that waits to be joined, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// What it calls itself.
    pub name: String,
    /// Where to join it.
    pub address: String,
    /// On which node it is; `None` on loopback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Node>,
    /// Its program's version.
    pub version: String,
    /// On what kind of transport.
    pub transport: String,
}

/// Who is at an address that somebody wants to join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listener {
    /// Where exactly.
    pub address: String,
    /// On which node; `None` on loopback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Node>,
    /// What it calls itself; empty for old peers.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its program's version; empty for old peers.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// How it pairs, as [`Protocol::as_str`](crate::pairing::Protocol::as_str) says it: `plain` means that it would be sent
    /// the code.
    pub pairing: String,
}

/// How packets travel to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Route {
    /// The relay they go through; `None` when they go directly.
    pub relay: Option<String>,
    /// There and back as the network itself measures it, in microseconds.
    pub round_trip_us: u64,
}

impl From<transport::Path> for Route {
    fn from(path: transport::Path) -> Self {
        Self { relay: path.relay, round_trip_us: micros(path.round_trip) }
    }
}

/// What `peer ping` found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pinged {
    /// What we call it.
    pub name: String,
    /// Who it is.
    pub daemon_id: String,
    /// Where it answered.
    pub address: String,
    /// On which node; `None` on loopback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Node>,
    /// How packets travel to it; `None` where the network does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Route>,
    /// One request and its answer on an open connection, in microseconds.
    pub round_trip_us: u64,
    /// By how much its clock is ahead of ours; `None` for old peers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_offset_ms: Option<i64>,
    /// Its program's version; `None` for old peers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Our program's version.
    pub our_version: String,
    /// Events of its that are not here yet; `None` before it first answered.
    pub backlog_from_them: Option<u64>,
    /// Events of ours that it has not confirmed; `None` if it never said how far it is, as old peers do not.
    pub backlog_to_them: Option<u64>,
}

/// A new peer, seen from either side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Joined {
    /// What we call it.
    pub peer_name: String,
    /// Who it is.
    pub peer_daemon_id: String,
    /// Where we dial it.
    pub peer_address: String,
    /// How it was paired: `spake2-1`, or `plain`, where the code was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pairing: Option<String>,
    /// Whether both sides have read what the other had when they paired.
    pub syncing: bool,
    /// What is missing if not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Everything there is to know about one peer (I11). The first seven fields are Go Thrum's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerStatus {
    /// Who it is.
    pub daemon_id: String,
    /// What we call it.
    pub name: String,
    /// Where we dial it.
    pub address: String,
    /// Whether it can be authenticated.
    pub has_token: bool,
    /// When it was paired.
    pub paired_at: Option<Stamp>,
    /// When it was last heard.
    pub last_sync: Option<Stamp>,
    /// Our checkpoint in its log, under Go's name.
    pub last_synced_seq: u64,
    /// On what kind of transport it was paired.
    pub transport: String,
    /// How it was paired: `spake2-1`, or `plain`, where the code was sent; `None` if nobody noted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paired_by: Option<String>,
    /// Whether it can be reached.
    pub state: State,
    /// It cannot be dialled and is asked over a connection that it opened.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub asked_over_its_connection: bool,
    /// It cannot dial us and asks over a connection that we opened.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub asks_over_our_connection: bool,
    /// Since when.
    pub since: Stamp,
    /// Why it is read no further, if so much of it is kept here already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over_quota: Option<OverQuota>,
    /// What went wrong last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When it is dialled again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Stamp>,
    /// Our checkpoint in its log.
    pub read_by_us: u64,
    /// Its highest sequence as far as known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub their_latest: Option<u64>,
    /// How far it has read us, as it said itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_by_them: Option<u64>,
    /// Our highest sequence.
    pub our_latest: u64,
    /// Events of its that are not here yet; `None` before it first answered.
    pub backlog_from_them: Option<u64>,
    /// Events of ours that it has not confirmed, of an old peer those that it has not asked for; `None` before it asked.
    pub backlog_to_them: Option<u64>,
    /// Events that came from it and wait for something.
    pub parked: u64,
    /// Events that came from it and were refused, ever.
    pub rejected: u64,
    /// The last of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_rejected: Option<LastRejected>,
    /// Events that it, an old peer, refused, and that are not sent to it any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<Skipped>,
    /// What a person should know of it beside, in sentences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Its program's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// By how much its clock is ahead of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_offset_ms: Option<i64>,
    /// The node where it listens; `None` on loopback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Node>,
    /// The node that it calls from, where that is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_from: Option<Node>,
    /// The last time it proved that it is on another node now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved: Option<Moved>,
    /// Who else used its token last, and was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Stray>,
    /// Whom the peer refused last who used the token that we share with it, as it says: somebody has a copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_there: Option<Stray>,
    /// How packets travel to it, at most a minute ago; `None` where nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Route>,
    /// What was missing when it last held other events than we for some rounds, since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repaired: Option<Repaired>,
}

/// What a forced pull brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Forced {
    /// From whom.
    pub peer: String,
    /// What we call it.
    pub name: String,
    /// Events that were new.
    pub applied: u64,
    /// Events that were here.
    pub skipped: u64,
    /// Why it did not reach the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What `verify` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every peer that can be compared holds the same events, and makes the same of them.
    Equal,
    /// At least one holds other events, or makes something else of them.
    Differs,
    /// At least one holds other events while a purge lies in the future on one side, which may be all there is to it; none
    /// differs otherwise.
    Waiting,
    /// At least one could not be asked, and none differs; or none can be compared.
    Unreachable,
    /// Nobody is paired.
    NoPeers,
}

/// `verify`, in all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// The sum of it.
    pub status: Verdict,
    /// Who we are.
    pub daemon_id: String,
    /// Events held here.
    pub events: u64,
    /// The digest of what we make of them.
    pub projection: Sum,
    /// Events that were missing here and were fetched.
    #[serde(skip_serializing_if = "is_zero")]
    pub fetched: u64,
    /// Peer by peer.
    pub peers: Vec<Compared>,
}

/// `serde` asks by reference.
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// `verify`, for one peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// What we call it.
    pub name: String,
    /// Who it is.
    pub daemon_id: String,
    /// `equal`, `differs`, `waiting` or `unreachable`.
    pub status: Verdict,
    /// What is missing on which side, by origin.
    pub differences: Vec<Difference>,
    /// What exactly was missing, and what was fetched. Only of peers that tell.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Missing>,
    /// Why it could not be compared, or not in full, or what differs beside the events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What of one log of one origin was held on one side only when that was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// Whose events.
    pub origin: String,
    /// Of which of its logs; empty for events that name none.
    pub log: String,
    /// What the peer says to hold, and we do not.
    #[serde(skip_serializing_if = "Lack::is_nothing")]
    pub here: Lack,
    /// What we hold, and the peer does not.
    #[serde(skip_serializing_if = "Lack::is_nothing")]
    pub there: Lack,
    /// Places whose events we hold and the peer purged: not missing. At most [`MAX_NAMED`](thrum_core::limits::MAX_NAMED) runs.
    #[serde(skip_serializing_if = "Runs::is_empty")]
    pub purged_there: Runs,
    /// Places whose events the peer holds and we purged: not asked for.
    #[serde(skip_serializing_if = "Runs::is_empty")]
    pub purged_here: Runs,
    /// Events of it that the peer then served, and that were new.
    #[serde(skip_serializing_if = "is_zero")]
    pub fetched: u64,
    /// Events that are missing no more all the same: they came by another way meanwhile, or a purge keeps them out.
    #[serde(skip)]
    pub came: u64,
    /// Events that have the same id and another content there.
    #[serde(skip_serializing_if = "is_zero")]
    pub other_content: u64,
    /// What did not go as it should.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Missing {
    /// How many events are missing here still, as the peer says.
    pub const fn still(&self) -> u64 {
        self.here.events.saturating_sub(self.fetched).saturating_sub(self.came)
    }
}

/// Events that one side does not hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lack {
    /// How many.
    pub events: u64,
    /// Their places in the log, where they have some; at most [`MAX_NAMED`](thrum_core::limits::MAX_NAMED) runs.
    #[serde(skip_serializing_if = "Runs::is_empty")]
    pub numbers: Runs,
    /// Their ids, where they have no places; at most as many.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
}

impl Lack {
    /// Whether nothing is missing.
    pub const fn is_nothing(&self) -> bool {
        self.events == 0
    }
}

/// What the daemon found and did by itself when a peer held other events than we for some rounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// When.
    pub at: Stamp,
    /// Events that were missing here and were fetched.
    pub fetched: u64,
    /// Events that the peer says to hold, and that are still missing here.
    pub missing_here: u64,
    /// Events that were missing there. It fetches them itself.
    pub missing_there: u64,
    /// What did not go as it should.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}
