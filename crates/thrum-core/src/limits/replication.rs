//! Bounds on replication: batches, sync intervals, throttles, comparisons and reconciliations.

use std::time::Duration;

use super::peers::PEER_INFO;

/// Most events in one batch. Go clients always request this number and treat larger values as this one.
pub const MAX_BATCH_EVENTS: usize = 1000;

/// Most bytes of event bodies in one batch, unless a single event is larger. A reply thus stays far below
/// [`MAX_LINE_BYTES`](super::MAX_LINE_BYTES) and fits into the request deadline on a slow link.
pub const MAX_BATCH_BYTES: usize = 1 << 20;

/// Most events sent with an announcement, and most bytes of their bodies. Together with the fields around them, they fit
/// into a request ([`MAX_PEER_REQUEST_BYTES`](super::MAX_PEER_REQUEST_BYTES)).
pub const MAX_PUSHED_EVENTS: usize = 32;

/// See [`MAX_PUSHED_EVENTS`].
pub const MAX_PUSHED_BYTES: usize = 16 << 10;

/// Most heads sent to a peer. A head may take three kilobytes of a line, and a daemon has one per log of each origin. A
/// daemon with more heads sends none and reports that it cannot be compared.
pub const MAX_HEADS: usize = 2000;

/// Most runs of origin sequences in one answer about a log, and in one request for events: twenty to one hundred
/// kilobytes of a line. A log with more gaps is described in several answers.
pub const MAX_TOLD_RUNS: usize = 1000;

/// Most ids in one answer about a log whose events have no origin sequences, and in one request for such events. A
/// longer list is answered in [`TOLD_PARTS`] parts. An id takes about a hundred bytes of a line, at most two kilobytes.
pub const MAX_TOLD_IDS: usize = 500;

/// Number of parts into which a log is divided if its ids do not fit into one answer. Two logs of 100,000 events that
/// differ in one event are compared in three requests.
pub const TOLD_PARTS: u64 = 16;

/// Deepest division of a log's ids into parts. Each part has a sixteenth of the events, and no log has 16^8 events.
pub const MAX_DEPTH: usize = 8;

/// Most runs of origin sequences, and most ids, that a report on one log names as missing. All missing events are
/// counted; a person reads only this many.
pub const MAX_NAMED: usize = 20;

/// Default sync interval: every peer is pulled this often, whether or not it announced anything.
pub const SYNC_INTERVAL: Duration = Duration::from_secs(15);

/// Shortest and longest sync interval that may be configured. Commits are announced at once, so a shorter interval
/// finds nothing more; with a longer one, it would stay unnoticed for hours that a peer is gone.
pub const SYNC_INTERVAL_RANGE: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(5)..=Duration::from_secs(60 * 60);

/// A peer that was pulled more recently than this is skipped in the periodic pull. With a short sync interval, two
/// thirds of the interval count instead.
pub const RECENT: Duration = Duration::from_secs(10);

/// Most batches with a purge that one peer may have stored in a burst; one more is granted every [`PURGE_PAUSE`]. Each
/// such batch scans the whole log, and a peer may send any number of them.
pub const PURGES_AT_ONCE: u32 = 16;

/// Time after which a peer may have another batch with a purge stored. See [`PURGES_AT_ONCE`].
pub const PURGE_PAUSE: Duration = Duration::from_secs(10);

/// Pause after a batch with more rejected events than new ones, and after each batch beyond [`REPEATED_AT_ONCE`].
/// Verifying a thousand signatures takes forty milliseconds.
pub const REJECTED_PAUSE: Duration = Duration::from_secs(1);

/// Most already stored events that one peer may serve in a burst: four times the largest log that we know of, as after
/// a backup was restored on the peer. Beyond this the peer is throttled, because repeated events at line speed cost
/// work and bring nothing.
pub const REPEATED_AT_ONCE: u64 = 2_000_000;

/// Number by which a peer's count of repeated events is reduced per second. A peer that has used up
/// [`REPEATED_AT_ONCE`] is read once per [`REJECTED_PAUSE`].
pub const REPEATED_PER_SECOND: u64 = 1_000;

/// Number of consecutive small batches after which a peer is throttled. A batch is small if it is much smaller than
/// allowed, although more events follow. Our daemons send such batches only before a single large event.
pub const SMALL_BATCHES_IN_A_ROW: u32 = 64;

/// Number of consecutive announcements without a new event after which a peer is throttled. An announcement can be
/// empty because its events have already arrived from another peer.
pub const EMPTY_NOTIFIES: u32 = 16;

/// Least time between two requests to a peer that is throttled by [`SMALL_BATCHES_IN_A_ROW`] or [`EMPTY_NOTIFIES`]. Ten
/// commits or requests per second cost almost nothing.
pub const THROTTLED_REQUEST_PAUSE: Duration = Duration::from_millis(100);

/// How long `sync force` waits for its pulls. Less than [`LOCAL_CALL`](super::LOCAL_CALL), so that the answer still
/// arrives in time.
pub const FORCE: Duration = Duration::from_secs(8);

/// How long `sync verify` waits for agreement, unless its caller sets another time.
pub const VERIFY: Duration = Duration::from_secs(10);

/// Pause between two comparisons of one `sync verify`.
pub const VERIFY_PAUSE: Duration = Duration::from_millis(100);

/// Sync intervals between two anti-entropy checks of a connected peer (five minutes). A check costs one connection and
/// one request. The empty pulls in between say nothing about events below the checkpoint.
pub const SYNC_INTERVALS_PER_CHECK: u32 = 20;

/// Consecutive checks, one sync interval apart, that must find the same difference before it is reconciled. Events in
/// transit also cause differences, but not the same difference for three intervals.
pub const CHECKS_BEFORE_RECONCILE: u32 = 3;

/// Largest multiple of the usual pause between anti-entropy checks: more than an hour. The pause doubles after each
/// reconciliation that brought nothing.
pub const MAX_CHECK_PAUSES: u32 = 16;

/// Least time between two reconciliations that a peer triggers by reporting that events are missing here. Each of them
/// reads the whole log here, which takes a second for a million events.
pub const HINT_PAUSE: Duration = Duration::from_secs(10);

/// How long `sync verify` leaves a difference to the normal sync before it reconciles the difference.
pub const REPAIR_AFTER: Duration = Duration::from_secs(1);

/// Deadline for one reconciliation that requests more than one event at a time: a peer that delays its answers must not
/// hold it up for ever. For single events, the deadline is [`SLOW_PULL`](super::SLOW_PULL).
pub const REPAIR: Duration = Duration::from_secs(60);

/// Deadline for one request of a reconciliation about what the peer holds. The answer usually has fifty kilobytes.
/// Requests for events have [`PULL`](super::PULL).
pub const REPAIR_CALL: Duration = PEER_INFO;

/// Most reconciliations with one peer in one `sync verify`.
pub const MAX_REPAIRS: u32 = 3;

/// Most requests of one reconciliation. 100,000 events that are missing in one contiguous range take a hundred; the
/// next reconciliation continues with the rest.
pub const MAX_REPAIR_CALLS: u32 = 2000;

/// Most `sync.fetch` answers for one log without any requested event before the rest of that log is given up.
pub const MAX_FRUITLESS: u32 = 3;

/// Most connections that one reconciliation may lose and reopen. Each loss reduces the number of events per request
/// ([`REPAIR_LESS`]); this many losses reduce it to one.
pub const MAX_REPAIR_LOSSES: u32 = 4;

/// Divisor for the number of requested events after a connection failed to deliver them. Three reductions take a
/// request from a thousand events to one.
pub const REPAIR_LESS: usize = 10;
