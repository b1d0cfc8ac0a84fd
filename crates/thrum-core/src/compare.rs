//! The types with which two daemons compare one log of one origin: by origin sequence where the events have one,
//! otherwise by id.

use crate::{RangeSet, SetDigest};

/// Identifies one log of one origin.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogOf {
    /// `origin_daemon`; opaque if foreign.
    pub origin: String,
    /// `origin_log`; empty for events that name none.
    pub log: String,
}

/// The events of a log by origin sequence: which are held, and which a purge removed or kept out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Origin sequences of events that are held.
    pub held: RangeSet,
    /// Origin sequences of events that were purged.
    pub purged: RangeSet,
    /// The origin sequence up to which this description is complete if more follows above it; 0 if it covers the whole
    /// log.
    pub next: u64,
}

/// The events that are held in a log, in an interval of ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listing {
    /// Each id with the digest of its event's canonical form, in order.
    Ids(Vec<(String, SetDigest)>),
    /// Too many ids for one answer: consecutive parts of about the same size, in order.
    Parts(Vec<Part>),
}

/// An interval of ids, with the number and the digest of the events held in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The last id of the part; empty for the last part.
    pub upto: String,
    /// Number of events.
    pub count: u64,
    /// Digest over the canonical forms of the events.
    pub sum: SetDigest,
}

/// Events that a peer requests explicitly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// By origin sequence.
    Numbers(RangeSet),
    /// By id.
    Ids(Vec<String>),
}
