//! The status of a peer (I11 in ARCHITECTURE.md).

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thrum_core::{Heads, SetDigest, Timestamp, quota::OverQuota};

use crate::{
    clock,
    protocol::wire::{self, Info},
};

/// Connection state of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not connected yet, or disconnected a moment ago.
    Connecting,
    /// The peer answers.
    Connected,
    /// The peer does not answer, or not correctly; see `last_error`.
    Unreachable,
    /// The peer said that it is stopping, and has not been heard of since.
    Stopped,
    /// The peer answers that it does not know us.
    RemovedUs,
    /// The peer is over its quota here and is not read further, whether or not it answers.
    OverQuota,
}

impl State {
    /// Returns `true` if nothing is exchanged with the peer, or nothing is read from it, and this may last.
    pub const fn needs_attention(self) -> bool {
        match self {
            Self::Connecting | Self::Connected => false,
            Self::Unreachable | Self::Stopped | Self::RemovedUs | Self::OverQuota => true,
        }
    }
}

/// A peer's digests at the time of the last comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparable {
    /// The peer's version vector; `None` if it reports none.
    pub heads: Option<Heads>,
    /// The digest of the peer's projection; `None` if it reports none.
    pub projection: Option<SetDigest>,
    /// Whether a purge at the peer is due soon or not done yet.
    pub purge_waits: bool,
}

/// The exchange with one peer, in the form shown to users.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExchangeStatus {
    /// Why the peer is not read further, if it is over its quota.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over_quota: Option<OverQuota>,
    /// The last error; `None` once all events of the peer are here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Time of the next dial, while disconnected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Timestamp>,
    /// The peer's highest known sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub their_latest: Option<u64>,
    /// How far the peer has durably stored our log, as it reports itself. `None` for legacy peers and until its first
    /// pull.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_by_them: Option<u64>,
    /// Version of the peer's program; `None` for legacy peers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// By how many milliseconds the peer's clock is ahead of ours; `None` for legacy peers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_offset_ms: Option<i64>,
}

/// The state of one peer's replicator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicatorStatus {
    /// Connection state; neither [`State::Stopped`] nor [`State::OverQuota`], which [`shown`](Self::shown) adds.
    pub state: State,
    /// Time of the last state change.
    pub since: Timestamp,
    /// When the peer said that it is stopping; `None` once it calls or answers on a new connection.
    pub stopped: Option<Timestamp>,
    /// The part shown to users as it is.
    pub exchange: ExchangeStatus,
    /// Our checkpoint in the peer's log: its log id (empty for a legacy peer) and the sequence.
    pub checkpoint: Option<(String, u64)>,
    /// Number of events in the peer's log when last asked; `None` if the peer did not report it, as for legacy peers.
    pub their_total: Option<u64>,
    /// When a pull last reached the end of the peer's log.
    pub pulled_at: Option<Timestamp>,
    /// Whether this is a legacy peer; `None` until the peer has answered once.
    pub legacy: Option<bool>,
    /// Whether the peer supports comparison by origin sequence and id, and serves requested events.
    pub ranges: bool,
    /// The peer's digests from the comparison with ticket `compared`.
    pub comparable: Option<Arc<Comparable>>,
    /// Ticket of the last answered comparison.
    pub compared: u64,
    /// Ticket of the last forced pull that ended, successfully or not.
    pub forced: u64,
    /// Number of pull runs that reached the end.
    pub ends: u64,
    /// Number of failures of any kind.
    pub failures: u64,
    /// Number of the peer's events that were new here, since the driver's start.
    pub applied: u64,
    /// Number of the peer's events that were already here or that a purge keeps out, since the driver's start.
    pub skipped: u64,
}

impl ReplicatorStatus {
    pub(super) fn new(checkpoint: Option<(String, u64)>, at: Timestamp) -> Self {
        Self {
            state: State::Connecting,
            since: at,
            stopped: None,
            exchange: ExchangeStatus::default(),
            checkpoint,
            their_total: None,
            pulled_at: None,
            legacy: None,
            ranges: false,
            comparable: None,
            compared: 0,
            forced: 0,
            ends: 0,
            failures: 0,
            applied: 0,
            skipped: 0,
        }
    }

    /// Returns whether mail can reach the peer, and since when: never [`State::OverQuota`], because such a peer still
    /// reads what we send.
    pub fn reach(&self) -> (State, Timestamp) {
        match (self.state, self.stopped) {
            (State::Connecting | State::Unreachable, Some(stopped)) => (State::Stopped, stopped),
            (state, _) => (state, self.since),
        }
    }

    /// Returns the state to display, and since when it lasts.
    pub fn shown(&self) -> (State, Timestamp) {
        if self.exchange.over_quota.is_some() { (State::OverQuota, self.since) } else { self.reach() }
    }

    pub(super) fn set_state(&mut self, state: State, at: Timestamp) {
        if self.state != state {
            (self.state, self.since) = (state, at);
        }
    }

    /// Records the peer's identity reply. `sent` and `now` enclose the time at which the peer read its clock.
    pub(super) fn met(&mut self, info: Info, sent: Timestamp, now: Timestamp, compared: u64) {
        self.set_state(State::Connected, now);
        self.stopped = None;
        self.exchange.their_latest = info.latest;
        self.their_total = info.heads.as_ref().map(Heads::total);
        self.legacy = Some(info.log.is_none());
        self.ranges = info.protocols.iter().any(|protocol| protocol == wire::RANGES);
        self.exchange.version = info.version;
        self.exchange.clock_offset_ms = info.time.map(|theirs| clock::offset_ms(theirs, sent, now));
        if compared > self.compared {
            self.compared = compared;
            self.comparable = Some(Arc::new(Comparable {
                heads: info.heads,
                projection: info.projection,
                purge_waits: info.purge_waits,
            }));
        }
    }

    /// Returns how many of the peer's events we have not read yet: in a log read before, the sequences above our
    /// checkpoint; otherwise the peer's total.
    pub fn backlog(&self) -> Option<u64> {
        let latest = self.exchange.their_latest?;
        match &self.checkpoint {
            Some((_, read)) if *read > 0 => Some(latest.saturating_sub(*read)),
            _ => self.their_total.or(Some(latest)),
        }
    }
}
