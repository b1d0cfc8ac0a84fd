//! The types with which two daemons compare one log of one origin: by origin sequence, or by id if the events have no
//! origin sequences or their origin sequences show no difference.

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
    /// Origin sequences of events that a purge removed or kept out.
    pub purged: RangeSet,
    /// The origin sequence up to which `held` and `purged` are complete, if the log may go on above it; 0 if they cover
    /// the whole log.
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
    /// The last id of the part. For the last part, the end of the requested interval; empty if that is the end of the
    /// log.
    pub upto: String,
    /// Number of events in the part.
    pub count: u64,
    /// Digest over the canonical forms of the events in the part.
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
