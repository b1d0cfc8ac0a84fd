//! The types that log and replication share, such as the pages served to a peer and the batches received from one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{Event, SetDigest, Timestamp, event::Rejected};

/// Rows of the log to be served to a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The rows in ascending sequence.
    pub rows: Vec<Row>,
    /// Whether at least one more row follows.
    pub more: bool,
}

/// One row of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The row's sequence in this daemon's log. A peer uses it only as its position in this log: the same event has
    /// another sequence in every other log.
    pub sequence: u64,
    /// `event_id`.
    pub id: String,
    /// `type`.
    pub kind: String,
    /// `origin_daemon`.
    pub origin: String,
    /// Canonical form without `sequence`. Empty in a reference.
    pub body: String,
    /// The short digest of the canonical form, if the row is sent as a reference, see [`Holder`].
    pub reference: Option<String>,
}

/// Returns the digest by which a reference identifies the canonical form of an event: the first 16 hex digits of its
/// SHA-256.
pub fn short_digest(body: &str) -> String {
    let mut digest = SetDigest::of(body.as_bytes()).to_string();
    digest.truncate(16);
    digest
}

/// What a peer is assumed to hold already: events that came from the peer or have it as their origin, and events of the
/// listed origins that came from other peers. They are sent to it as references, with the digests of their bodies. The
/// assumption may be wrong: the peer asks again for the bodies of events that it lacks.
#[derive(Clone, Copy, Debug)]
pub struct Holder<'a> {
    /// `daemon_id` of the peer.
    pub peer: &'a str,
    /// Origins whose events the peer also gets from others.
    pub origins: &'a BTreeSet<String>,
}

impl Holder<'_> {
    /// Returns `true` if the peer is assumed to hold an event of this origin that came from `source`, which is empty
    /// for events made here.
    pub fn holds(&self, origin: &str, source: &str) -> bool {
        source == self.peer || origin == self.peer || (!source.is_empty() && self.origins.contains(origin))
    }
}

impl Row {
    /// The event as peers and Go Thrum receive it: canonical form, with this daemon's `sequence` as first member.
    pub fn event_json(&self) -> String {
        let rest = self.body.strip_prefix('{').unwrap_or("}");
        let comma = if rest.starts_with('}') { "" } else { "," };
        format!("{{\"sequence\":{}{comma}{rest}", self.sequence)
    }
}

/// Events received together, with their signatures verified: by a pull, an announcement, a reconciliation or an import.
/// The store splits the batch into small transactions, and the last one moves the peer's checkpoint.
#[derive(Clone, Debug)]
pub struct Batch {
    /// `daemon_id` of the peer that served the batch; empty for an import. The events may have other origins.
    pub peer: String,
    /// The peer's `log_id`; empty for a peer that has none.
    pub log: String,
    /// The sequence up to which the peer's log was read; 0 leaves the checkpoint unchanged.
    pub checkpoint: u64,
    /// The id of the event at the checkpoint; empty if the log has an id. It shows at the next pull whether a log
    /// without id is still the same.
    pub checkpoint_event: String,
    /// Well-formed events, each with a valid signature or from an origin that does not sign. Events that are new here
    /// are in the order served.
    pub events: Vec<Event>,
    /// Events that stay outside the log.
    pub rejected: Vec<Rejected>,
}

/// How far a peer's log was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// The id of the peer's log; empty for a peer whose log has no id.
    pub log: String,
    /// The last sequence that was read.
    pub sequence: u64,
    /// The id of the event at that sequence; empty if the log has an id.
    pub event: String,
}

/// The causal prerequisites of a row, for a peer that applies rows one by one and cannot wait for missing ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prerequisites {
    /// Whether the row has no effect, because a purge or a later clean-up of its author covers it. Such a row is not
    /// served to the peer.
    pub hidden: bool,
    /// For an edit, deletion or receipt: whether the peer lacks its message. The peer has the message if an earlier row
    /// creates it, the peer can apply that creating row, the creating row is not hidden, and no clean-up of its author
    /// follows the creating row in the log.
    pub message_missing: bool,
    /// For an `agent.update`: whether the peer lacks the start of one of the sessions that the update names, by the
    /// same criteria.
    pub session_missing: bool,
}

/// Events that are too long for a legacy peer to store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LongEvents {
    /// The ids of the events, newest first.
    pub ids: Vec<String>,
    /// Whether the search stopped at its limit, so that older long events may exist.
    pub more: bool,
}

/// Problems with the events that one peer served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Troubles {
    /// Number of edits and deletions without effect here, because only the daemon of a message's author may make them.
    pub without_effect: u64,
    /// Id and reason of the latest event that is counted in `without_effect`.
    pub last_without_effect: Option<(String, String)>,
    /// Number of events in the log that are not folded now but may be later.
    pub parked: u64,
    /// Number of events that stayed outside the log since the peer was added.
    pub rejected: u64,
    /// The latest of the rejected events; `None` if there was none.
    pub last: Option<LastRejected>,
}

/// The latest event from a peer that stayed outside the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRejected {
    /// `event_id`, as far as the event has one; chosen by the peer that served it.
    pub event_id: String,
    /// The reason, in words.
    pub reason: String,
    /// When the event was served.
    pub at: Timestamp,
}

/// The result of storing a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Events that are new to this log.
    pub applied: usize,
    /// Events that this log already held, or that a purge keeps out of it.
    pub skipped: usize,
    /// Those of [`skipped`](Self::skipped) that the peer sent as references.
    pub referred: usize,
    /// Skipped events whose content differs from the event held here under the same id.
    pub collided: usize,
    /// Events of [`Batch::rejected`]. Those counted in `collided` are recorded as rejected, too.
    pub rejected: usize,
    /// Whether a purge in the batch moved a cutoff or listed further events, so that the whole log is searched for
    /// events to remove.
    pub purged: bool,
}

/// The durable state of the log, published to waiting tasks after every COMMIT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// This log's id. Changes when the database turns out not to be the one that this daemon used last.
    pub log: Arc<str>,
    /// The highest sequence in the log.
    pub latest: u64,
    /// The highest sequence per source: the `daemon_id` of the peer that served the events, or the empty string for
    /// events made here.
    pub by_source: Arc<BTreeMap<String, u64>>,
}

impl Commit {
    /// The highest sequence that did not come from `peer`, to be announced to that peer. 0 if there is none.
    pub fn latest_not_from(&self, peer: &str) -> u64 {
        self.by_source
            .iter()
            .filter(|(source, _)| source.as_str() != peer)
            .map(|(_, latest)| *latest)
            .max()
            .unwrap_or(0)
    }
}
