//! The event log as seen by replication.

use std::sync::Arc;

use thrum_core::{
    Error, Event, Heads, SetDigest, Timestamp,
    compare::{Listing, LogOf, Numbers, Wanted},
    exchange::{Applied, Batch, Checkpoint, Holder, LongEvents, Page, Prerequisites, Row, Troubles},
    quota::OverQuota,
};

/// The event log. Each call except [`id`](Self::id) and [`acknowledged`](Self::acknowledged) may block on disk I/O;
/// async code must make these calls through `spawn_blocking`.
///
/// An error means that the log could not be read or written (disk, corruption). After an error nothing has changed,
/// except as described at [`apply`](Self::apply), and a retry may succeed later.
pub trait Log: Send + Sync + 'static {
    /// Returns the current log id. It changes when the database turns out not to be the one that this daemon left.
    fn id(&self) -> Arc<str>;

    /// Returns the highest sequence; 0 if the log is empty.
    fn latest(&self) -> u64;

    /// Returns the rows above `after` in ascending order: at most `max_events` and `max_bytes` of bodies, but at least
    /// one if there is any.
    fn page(&self, after: u64, max_events: usize, max_bytes: usize) -> Result<Page, Error>;

    /// Returns the rows above `after` like [`page`](Self::page). Rows whose events `holder` is assumed to hold are
    /// references.
    fn page_for(&self, holder: Holder<'_>, after: u64, max_events: usize, max_bytes: usize) -> Result<Page, Error>;

    /// Returns the causal prerequisites of each row, in the given order, for legacy peers, which cannot wait for
    /// missing ones. `fits` decides whether a legacy peer can apply a row on which others depend.
    fn prerequisites(&self, rows: &[Row], fits: &dyn Fn(&Row) -> bool) -> Result<Vec<Prerequisites>, Error>;

    /// Returns the events that a legacy peer cannot keep, among the newest `max` events of more than
    /// [`LEGACY_LONG_BYTES`](thrum_core::limits::LEGACY_LONG_BYTES). `is_too_long` decides about bodies that may still
    /// be short enough.
    fn long_events(&self, max: usize, is_too_long: fn(&str) -> bool) -> Result<LongEvents, Error>;

    /// Returns the maintained version vector of all origins.
    fn heads(&self) -> Result<Heads, Error>;

    /// Counts the version vector from the events themselves. Reads all events: for `verify` only.
    fn counted(&self) -> Result<Heads, Error>;

    /// Recounts the events, and rebuilds version vector and projection if the result differs from
    /// [`heads`](Self::heads), as when the disk lost rows. Returns `true` if it rebuilt them. Reads all events, and
    /// blocks other writers only while it rebuilds.
    fn recount(&self) -> Result<bool, Error>;

    /// Returns which origin sequences of a log, above `after`, are held and which were purged, at most `most` ranges of
    /// each.
    fn numbers(&self, of: &LogOf, after: u64, most: usize) -> Result<Numbers, Error>;

    /// Lists the events of a log that are held and have an id above `after` and up to `upto` (empty: no upper bound):
    /// one by one if there are at most `most`, otherwise in parts.
    fn listing(&self, of: &LogOf, after: &str, upto: &str, most: usize) -> Result<Listing, Error>;

    /// Returns the number and the digest of the events of a log that are held and have an id above `after` and up to
    /// `upto` (empty: no upper bound).
    fn stretch(&self, of: &LogOf, after: &str, upto: &str) -> Result<(u64, SetDigest), Error>;

    /// Returns the requested events that are held: at most
    /// [`limits::MAX_BATCH_EVENTS`](thrum_core::limits::MAX_BATCH_EVENTS) and
    /// [`limits::MAX_BATCH_BYTES`](thrum_core::limits::MAX_BATCH_BYTES), but at least one if there is any.
    fn requested(&self, of: &LogOf, wanted: &Wanted) -> Result<Page, Error>;

    /// Computes the digest of the projection. Reads all of it: for `verify` only.
    fn projection(&self) -> Result<SetDigest, Error>;

    /// Returns `true` while purged events are being removed here. They are still held until they have been removed.
    fn purge_goes_on(&self) -> Result<bool, Error>;

    /// Returns `true` if a purge here is due within [`limits::PURGE_AHEAD`](thrum_core::limits::PURGE_AHEAD) or is not
    /// completed, so that the projection is not final yet.
    fn purge_waits(&self) -> Result<bool, Error>;

    /// Returns how far the log of `peer` has been applied here.
    fn checkpoint(&self, peer: &str) -> Result<Option<Checkpoint>, Error>;

    /// Returns for each event whether an identical one is already held, in the given order.
    fn holds(&self, events: &[&Event]) -> Result<Vec<bool>, Error>;

    /// Returns `true` if all these events are held. Each is given by its id and its
    /// [short digest](thrum_core::exchange::short_digest).
    fn holds_references(&self, references: &[(&str, &str)]) -> Result<bool, Error>;

    /// Stores the result of a pull, and in the last of its transactions the peer's checkpoint. Returns after that
    /// transaction's COMMIT. After an error, part of the batch may be stored, and the checkpoint is unchanged.
    fn apply(&self, batch: Batch) -> Result<Applied, Error>;

    /// Records the peer's own report that it durably holds our log (the one with the current [`id`](Self::id)) up to
    /// `upto`. Must not block.
    fn acknowledged(&self, peer: &str, upto: u64, at: Timestamp);

    /// Forgets the checkpoints and acknowledgements of a removed peer, and the records of its rejected events.
    fn forget(&self, peer: &str) -> Result<(), Error>;

    /// Returns how many rows above `after` did not come from `peer`; an upper bound if there are many.
    fn backlog(&self, peer: &str, after: u64) -> Result<u64, Error>;

    /// Returns why these peers must not be read further, if too much of their data, taken together, is already kept.
    fn over_quota(&self, _peers: &[&str]) -> Result<Option<OverQuota>, Error> {
        Ok(None)
    }

    /// Returns the problems with the events that `peer` served.
    fn troubles(&self, peer: &str) -> Result<Troubles, Error>;
}
