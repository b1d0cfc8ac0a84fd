//! The words that the log and the replication share: what one gives to a peer, what the other took from it.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;

use crate::{Event, Stamp};

/// Rows of the log as a peer is served them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In ascending sequence.
    pub rows: Vec<Row>,
    /// Whether at least one more row follows.
    pub more: bool,
}

/// One row of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// This daemon's number for it; says nothing to another daemon.
    pub sequence: u64,
    /// `event_id`.
    pub id: String,
    /// `type`.
    pub kind: String,
    /// `origin_daemon`.
    pub origin: String,
    /// Canonical form without `sequence`.
    pub body: String,
}

impl Row {
    /// The event as peers and Go Thrum see it: canonical form, with this daemon's `sequence` put first.
    pub fn event_json(&self) -> String {
        let rest = self.body.strip_prefix('{').unwrap_or("}");
        let comma = if rest.starts_with('}') { "" } else { "," };
        format!("{{\"sequence\":{}{comma}{rest}", self.sequence)
    }
}

/// What one pull brought, verified, ready to be stored in one transaction with the peer's checkpoint.
#[derive(Clone, Debug)]
pub struct Batch {
    /// `daemon_id` of the peer that served it, which need not be the origin of anything in it.
    pub peer: String,
    /// The peer's `log_id`; empty for peers that have none.
    pub log: String,
    /// Where the peer's log was read up to; 0 leaves the checkpoint as it is.
    pub checkpoint: u64,
    /// The event that stands there, by which a log without id is known again. Empty for logs that have one.
    pub checkpoint_event: String,
    /// Well-formed events whose signatures hold or that need none, in the order served.
    pub events: Vec<Event>,
    /// What stays outside the log.
    pub rejected: Vec<Rejected>,
}

/// Where a peer's log was read up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which of its logs; empty for a peer whose log has no id.
    pub log: String,
    /// Up to here.
    pub sequence: u64,
    /// The event that stands there, for a log without id; else empty.
    pub event: String,
}

/// What stands around a row in the log, for a peer that applies rows one by one and cannot wait for what is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footing {
    /// Whether a purge or a clean-up hides it.
    pub hidden: bool,
    /// For an edit, deletion or receipt: whether no creation of its message stands before it that the peer can apply, that is not
    /// hidden, and whose author was not cleaned up after it.
    pub lacks_message: bool,
    /// For an update of sessions: whether the beginning of one of them is missing there in the same way.
    pub lacks_session: bool,
}

/// An event that did not enter the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// `event_id` as far as there is one.
    pub id: String,
    /// Why, in words.
    pub reason: String,
    /// The beginning of what was served.
    pub sample: String,
}

/// Events that an old peer cannot keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LongEvents {
    /// Their ids, newest first.
    pub ids: Vec<String>,
    /// Whether older events were not looked at.
    pub more: bool,
}

/// What is wrong with what one peer served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Troubles {
    /// Events that change nothing here, because only the author of a message may edit or delete it.
    pub without_effect: u64,
    /// The last of them, and why.
    pub last_without_effect: Option<(String, String)>,
    /// Events in the log that are not folded.
    pub parked: u64,
    /// Events that stayed outside the log, ever.
    pub rejected: u64,
    /// The last of those.
    pub last: Option<LastRejected>,
}

/// The last event of a peer that stayed outside the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LastRejected {
    /// `event_id` as far as there is one; whoever served it chose it.
    pub event_id: String,
    /// Why, in words.
    pub reason: String,
    /// When it was served.
    pub at: Stamp,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Events new to this log.
    pub applied: usize,
    /// Events that were here already.
    pub skipped: usize,
    /// Those of them whose content is not what is here.
    pub collided: usize,
    /// Events that stayed outside the log.
    pub rejected: usize,
    /// Whether the whole log was looked through for what a purge in it takes away.
    pub purged: bool,
}

/// What is durable, as far as those who wait for it care. Sent after every COMMIT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// This log's id; changes when the database turns out not to be the one we left.
    pub log: Arc<str>,
    /// The highest sequence.
    pub latest: u64,
    /// The highest sequence by where it came from: a peer's `daemon_id`, or the empty string for events made here.
    pub by_source: Arc<BTreeMap<String, u64>>,
}

impl Commit {
    /// The highest sequence that did not come from `peer`, hence what to announce to it. 0 if there is none.
    pub fn latest_not_from(&self, peer: &str) -> u64 {
        self.by_source.iter().filter(|(source, _)| source.as_str() != peer).map(|(_, latest)| *latest).max().unwrap_or(0)
    }
}
