//! What is known about a peer at a glance (I11).

use std::sync::Arc;

use serde::Serialize;
use thrum_core::{Heads, Stamp, Sum, quota::OverQuota};

use crate::wire::{self, Info};

/// Whether a peer can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not yet, or not any more since a moment ago.
    Connecting,
    /// It answers.
    Connected,
    /// It does not, or not sensibly; `last_error` says how.
    Unreachable,
    /// It answers that it does not know us.
    RemovedUs,
    /// So much of it is kept here that it is read no further, whether or not it answers.
    OverQuota,
}

/// A peer's digests, as fresh as the comparison that asked for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparable {
    /// What it holds.
    pub heads: Option<Heads>,
    /// The digest of its projection.
    pub projection: Option<Sum>,
    /// Whether a purge lies in its future.
    pub purge_waits: bool,
}

/// Everything known about one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether it can be reached.
    pub state: State,
    /// Since when.
    pub since: Stamp,
    /// Why it is read no further, if so much of it is kept here already.
    pub over_quota: Option<OverQuota>,
    /// What went wrong last; `None` once everything that it has is here.
    pub last_error: Option<String>,
    /// When it will be dialled again, while it is not connected.
    pub next_attempt: Option<Stamp>,
    /// How far we have read it: its log's id (empty for an old peer) and the sequence.
    pub checkpoint: Option<(String, u64)>,
    /// Its highest sequence as far as known.
    pub their_latest: Option<u64>,
    /// Events in its log when it was last asked.
    pub their_total: Option<u64>,
    /// How far it has read us, durably, as it said itself. `None` for old peers and until its first pull.
    pub read_by_them: Option<u64>,
    /// When a pull last reached the end of its log.
    pub pulled_at: Option<Stamp>,
    /// Its program's version; `None` for old peers.
    pub version: Option<String>,
    /// Whether it is an old peer; `None` until it has answered once.
    pub legacy: Option<bool>,
    /// Whether it tells what it holds by number and id, and serves events by name.
    pub ranges: bool,
    /// By how much its clock is ahead of ours.
    pub clock_offset_ms: Option<i64>,
    /// Its digests, as of the comparison `compared`.
    pub comparable: Option<Arc<Comparable>>,
    /// The last comparison that was answered.
    pub compared: u64,
    /// The last forced pull that ended, well or not.
    pub forced: u64,
    /// Runs of pulls that reached the end.
    pub ends: u64,
    /// Failures of any kind.
    pub failures: u64,
    /// Events of it that were new here, since the start.
    pub applied: u64,
    /// Events of it that were here already, since the start.
    pub skipped: u64,
}

impl Status {
    pub(super) fn new(checkpoint: Option<(String, u64)>, at: Stamp) -> Self {
        Self {
            state: State::Connecting,
            since: at,
            over_quota: None,
            last_error: None,
            next_attempt: None,
            checkpoint,
            their_latest: None,
            their_total: None,
            read_by_them: None,
            pulled_at: None,
            version: None,
            legacy: None,
            ranges: false,
            clock_offset_ms: None,
            comparable: None,
            compared: 0,
            forced: 0,
            ends: 0,
            failures: 0,
            applied: 0,
            skipped: 0,
        }
    }

    /// The state as people see it.
    pub fn shown_state(&self) -> State {
        if self.over_quota.is_some() { State::OverQuota } else { self.state }
    }

    pub(super) fn set_state(&mut self, state: State, at: Stamp) {
        if self.state != state {
            (self.state, self.since) = (state, at);
        }
    }

    /// The peer answered who it is; `sent` and `now` surround the moment at which it looked at its clock.
    pub(super) fn met(&mut self, info: Info, sent: Stamp, now: Stamp, compared: u64) {
        self.set_state(State::Connected, now);
        self.their_latest = info.latest;
        self.their_total = info.heads.as_ref().map(Heads::total);
        self.legacy = Some(info.log.is_none());
        self.ranges = info.protocols.iter().any(|protocol| protocol == wire::RANGES);
        self.version = info.version;
        self.clock_offset_ms = info.time.map(|theirs| {
            let middle = i64::midpoint(sent.nanos(), now.nanos());
            (theirs.nanos() - middle) / 1_000_000
        });
        if compared > self.compared {
            self.compared = compared;
            self.comparable = Some(Arc::new(Comparable { heads: info.heads, projection: info.projection, purge_waits: info.purge_waits }));
        }
    }

    /// How many of its events are not here yet, as far as known: exact within a log read before, else what it holds in all.
    pub fn backlog(&self) -> Option<u64> {
        let latest = self.their_latest?;
        match &self.checkpoint {
            Some((_, read)) if *read > 0 => Some(latest.saturating_sub(*read)),
            _ => self.their_total.or(Some(latest)),
        }
    }
}
