//! The event log as replication sees it.

use std::sync::Arc;

use thrum_core::{
    Event, Fault, Heads, Stamp, Sum,
    compare::{Listing, LogOf, Numbers, Wanted},
    exchange::{Applied, Batch, Checkpoint, Footing, LongEvents, Page, Row, Troubles},
    quota::OverQuota,
};

/// The event log. Every call may block on the disk; callers in async code go through `spawn_blocking`.
///
/// An error means that the log could not be read or written (disk, corruption); nothing has changed then, and the same
/// call may succeed later.
pub trait Log: Send + Sync + 'static {
    /// The log's id now. It changes when the database turns out not to be the one we left.
    fn id(&self) -> Arc<str>;

    /// The highest sequence; 0 if the log is empty.
    fn latest(&self) -> u64;

    /// Rows above `after`, ascending, at most `max_events` and `max_bytes` of bodies, but at least one if there is any.
    fn page(&self, after: u64, max_events: usize, max_bytes: usize) -> Result<Page, Fault>;

    /// What stands around each of these rows, in the order given: for peers that cannot judge by themselves. `fits` decides whether
    /// such a peer can apply a row on which others depend.
    fn footings(&self, rows: &[Row], fits: &dyn Fn(&Row) -> bool) -> Result<Vec<Footing>, Fault>;

    /// Events that an old peer cannot keep, among the newest `max` of more than
    /// [`LEGACY_LONG_BYTES`](thrum_core::limits::LEGACY_LONG_BYTES). `is_too_long` is asked of a body that may be short enough.
    fn long_events(&self, max: usize, is_too_long: fn(&str) -> bool) -> Result<LongEvents, Fault>;

    /// What is held of every origin.
    fn heads(&self) -> Result<Heads, Fault>;

    /// What is held of every origin, counted from the events themselves. Reads all of them: for `verify` only.
    fn counted(&self) -> Result<Heads, Fault>;

    /// Counts the events, and makes heads and projection anew from them if that is not what [`heads`](Self::heads) keeps: the disk
    /// lost rows. Whether it was so. Reads all of them; nobody else writes while something is made anew, and only then.
    fn mend(&self) -> Result<bool, Fault>;

    /// Which places above `after` of a log are held and which were purged, at most `most` runs of each.
    fn numbers(&self, of: &LogOf, after: u64, most: usize) -> Result<Numbers, Fault>;

    /// Which events of a log are held after one id up to another (empty: the end), each by itself if they are at most `most`.
    fn listing(&self, of: &LogOf, after: &str, upto: &str, most: usize) -> Result<Listing, Fault>;

    /// How many events of a log are held there, and their sum.
    fn stretch(&self, of: &LogOf, after: &str, upto: &str) -> Result<(u64, Sum), Fault>;

    /// Those of these events that are here, at most [`limits::MAX_BATCH_EVENTS`](thrum_core::limits::MAX_BATCH_EVENTS) and
    /// [`limits::MAX_BATCH_BYTES`](thrum_core::limits::MAX_BATCH_BYTES), but at least one if there is any.
    fn named(&self, of: &LogOf, wanted: &Wanted) -> Result<Page, Fault>;

    /// The digest over the projection. Reads all of it: for `verify` only.
    fn projection(&self) -> Result<Sum, Fault>;

    /// Whether a purge lies in the future here, so that the projection is not yet what it will be.
    fn purge_waits(&self) -> Result<bool, Fault>;

    /// Where `peer` was last read up to.
    fn checkpoint(&self, peer: &str) -> Result<Option<Checkpoint>, Fault>;

    /// Which of these are here already, word for word, in the order given.
    fn holds(&self, events: &[&Event]) -> Result<Vec<bool>, Fault>;

    /// Stores what a pull brought, and in the last of its transactions the peer's checkpoint; returns after that one's COMMIT. After an
    /// error some of it may be stored, and the checkpoint is where it was.
    fn apply(&self, batch: Batch) -> Result<Applied, Fault>;

    /// The peer itself says that it has our log, the one with the present [`id`](Self::id), up to here, durably. Must not wait.
    fn acknowledged(&self, peer: &str, upto: u64, at: Stamp);

    /// Forgets the checkpoints and acknowledgements of a removed peer.
    fn forget(&self, peer: &str) -> Result<(), Fault>;

    /// How many rows above `after` did not come from `peer`.
    fn backlog(&self, peer: &str, after: u64) -> Result<u64, Fault>;

    /// Why `peer` is to be read no further, if so much of it is kept already.
    fn over_quota(&self, _peer: &str) -> Result<Option<OverQuota>, Fault> {
        Ok(None)
    }

    /// What is wrong with what `peer` served.
    fn troubles(&self, peer: &str) -> Result<Troubles, Fault>;
}
