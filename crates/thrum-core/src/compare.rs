//! What two daemons tell each other when they compare one log of one origin: numbers where events have them, ids where not.

use crate::{Runs, Sum};

/// One log of one origin.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogOf {
    /// `origin_daemon`; opaque if foreign.
    pub origin: String,
    /// `origin_log`; empty for events that name none.
    pub log: String,
}

/// Which events of a log are held, and which a purge took away or kept out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Held.
    pub held: Runs,
    /// Purged.
    pub purged: Runs,
    /// Up to here all is said; there is more above it. 0 where everything is said.
    pub next: u64,
}

/// Which events of a log are held, between two ids in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listing {
    /// Each, with the sum of its canonical form, in order.
    Ids(Vec<(String, Sum)>),
    /// They are too many for one answer: in parts of about the same size, in order.
    Parts(Vec<Part>),
}

/// A stretch of ids, and what is held there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The last id of it; empty for the last part.
    pub upto: String,
    /// How many events.
    pub count: u64,
    /// The sum over their canonical forms.
    pub sum: Sum,
}

/// Events that somebody asks for by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// By their place in the log.
    Numbers(Runs),
    /// By id.
    Ids(Vec<String>),
}
