//! Bounds on replication: batches, sync intervals, throttles, comparisons and reconciliations.

use std::time::Duration;

use super::peers::PEER_INFO;

/// Most events in one batch. Go Thrum's clients always request this number; its servers treat larger values as this
/// one.
pub const MAX_BATCH_EVENTS: usize = 1000;

/// Most bytes of event bodies in one batch that we serve, unless a single event is larger. A reply thus stays far below
/// [`MAX_LINE_BYTES`](super::MAX_LINE_BYTES) and fits into the request deadline on a slow link.
pub const MAX_BATCH_BYTES: usize = 1 << 20;

/// Most batches of one peer that are being checked and stored at the same time. While one is stored, the next one is
/// read from the network and checked.
pub const BATCHES_IN_PROGRESS: usize = 2;

/// Most events sent with an announcement.
pub const MAX_PUSHED_EVENTS: usize = 32;

/// Most bytes of event bodies sent with an announcement, unless a single event is larger. Events that do not fit into a
/// request ([`MAX_PEER_REQUEST_BYTES`](super::MAX_PEER_REQUEST_BYTES)) are not sent with it.
pub const MAX_PUSHED_BYTES: usize = 16 << 10;

/// Most heads sent to a peer. A head may take three kilobytes of a line, and a daemon has one per log of each origin. A
/// daemon with more heads leaves them out of its reply, and its peer then reports that this daemon cannot be compared.
pub const MAX_HEADS: usize = 2000;

/// Most runs of origin sequences in one request for events, and in each of the two lists (held, purged) of one answer
/// about a log. Such an answer has twenty to one hundred kilobytes. A log with more gaps is described in several
/// answers.
pub const MAX_TOLD_RUNS: usize = 1000;

/// Most ids in one answer about a log that is compared by id, and in one request for events by id. For more events, the
/// answer has no ids, but counts and digests of at most [`TOLD_PARTS`] parts. An id takes about a hundred bytes of a
/// line, at most two kilobytes.
pub const MAX_TOLD_IDS: usize = 500;

/// Most parts into which a log, or an interval of its ids, is divided if its ids do not fit into one answer. Two logs
/// of 100,000 events that differ in one event are compared in three requests.
pub const TOLD_PARTS: u64 = 16;

/// Deepest division of a log's ids into parts. Each part has a sixteenth of the events, and no log has 16^8 events.
pub const MAX_DEPTH: usize = 8;

/// Most runs of origin sequences, and most ids, that a report on one log names as missing. All missing events are
/// counted; a longer list would not help a reader. Also limits the list of daemons that sent events dated ahead of
/// our clock.
pub const MAX_NAMED: usize = 20;

/// Default sync interval: every connected peer is pulled this often, whether or not it announced anything.
pub const SYNC_INTERVAL: Duration = Duration::from_secs(15);

/// Shortest and longest sync interval that may be configured. Commits are announced at once, so a shorter interval
/// finds nothing more. With a longer one, the loss of a peer could go unnoticed for hours.
pub const SYNC_INTERVAL_RANGE: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(5)..=Duration::from_secs(60 * 60);

/// A peer that was pulled more recently than this is skipped in the periodic pull. With a short sync interval, two
/// thirds of the interval count instead.
pub const RECENT: Duration = Duration::from_secs(10);

/// Number of batches with a purge that we store from one peer without a pause; one more is granted every
/// [`PURGE_PAUSE`]. For each such batch the whole log is searched, and a peer may send any number of them. A
/// reconciliation ends after this many.
pub const PURGES_AT_ONCE: u32 = 16;

/// Time in which a peer's allowance of batches with a purge grows by one. See [`PURGES_AT_ONCE`].
pub const PURGE_PAUSE: Duration = Duration::from_secs(10);

/// Pause after a batch with more rejected events than new ones, and after each batch while a peer is beyond
/// [`REPEATED_AT_ONCE`]. Verifying a full batch of a thousand signatures takes forty milliseconds, so such a peer costs
/// at most a twenty-fifth of a core.
pub const REJECTED_PAUSE: Duration = Duration::from_secs(1);

/// Maximum number of events that one peer may serve in a burst although they are already held here: four times the
/// largest log that we know of. A peer serves its whole log again after a backup was restored there. Beyond this number
/// the peer is throttled, because repeated events at line speed cost work and bring nothing.
pub const REPEATED_AT_ONCE: u64 = 2_000_000;

/// Number by which a peer's count of repeated events is reduced per second. A peer whose count exceeds
/// [`REPEATED_AT_ONCE`] is read at most once per [`REJECTED_PAUSE`].
pub const REPEATED_PER_SECOND: u64 = 1_000;

/// Number of consecutive small batches after which a peer is throttled. A batch is small if it has fewer than
/// [`MAX_BATCH_EVENTS`] events and less than half of [`MAX_BATCH_BYTES`], although more events follow. Our daemons send
/// such batches only before a large event, or if fewer events were requested.
pub const SMALL_BATCHES_IN_A_ROW: u32 = 64;

/// Number of consecutive announcements without a new event after which a peer is throttled. An honest announcement
/// brings no new event if its events have already arrived from another peer.
pub const EMPTY_NOTIFIES: u32 = 16;

/// How long a batch waits for an event that it refers to by its id, and that this log lacks. Such an event is usually on
/// its way from another peer. Afterwards its body is requested.
pub const REFERENCE_PATIENCE: Duration = Duration::from_millis(200);

/// Pause before the next pull from a peer that is throttled by [`SMALL_BATCHES_IN_A_ROW`] or [`EMPTY_NOTIFIES`]. Ten
/// pulls and commits per second cost almost nothing.
pub const THROTTLED_REQUEST_PAUSE: Duration = Duration::from_millis(100);

/// How long `sync force` waits for its pulls. Less than [`LOCAL_CALL`](super::LOCAL_CALL), so that the answer still
/// arrives in time.
pub const FORCE: Duration = Duration::from_secs(8);

/// How long a command waits for an exchange through git. The first one may push everything.
pub const GIT_EXCHANGE: Duration = Duration::from_secs(300);

/// How long `sync verify` waits for agreement, unless its caller sets another time.
pub const VERIFY: Duration = Duration::from_secs(10);

/// Pause between two comparisons of one `sync verify`.
pub const VERIFY_PAUSE: Duration = Duration::from_millis(100);

/// Sync intervals between two anti-entropy checks of a connected peer that does not differ (five minutes by default). A
/// check costs one connection and one request. The empty pulls in between say nothing about events below the
/// checkpoint.
pub const SYNC_INTERVALS_PER_CHECK: u32 = 20;

/// Consecutive checks, one sync interval apart, that must find the same difference before it is reconciled. Events in
/// transit also cause differences, but not the same one in three checks, which span two intervals.
pub const CHECKS_BEFORE_RECONCILE: u32 = 3;

/// Largest multiple of the usual pause between anti-entropy checks (more than an hour by default), and of
/// [`HINT_PAUSE`]. Both pauses double after each reconciliation that brought nothing.
pub const MAX_CHECK_PAUSES: u32 = 16;

/// Least time between two reconciliations that a peer triggers by reporting that events are missing here; longer after
/// unfounded reports ([`MAX_CHECK_PAUSES`]). For each of them the whole log here is read, which takes a second for a
/// million events.
pub const HINT_PAUSE: Duration = Duration::from_secs(10);

/// How long `sync verify` leaves a difference to the normal sync before it reconciles the difference. The first wait is
/// at most a quarter of the time that `sync verify` was given.
pub const REPAIR_AFTER: Duration = Duration::from_secs(1);

/// Deadline for one reconciliation, so that a peer that delays its answers does not hold it up for ever. If earlier
/// losses have reduced its requests to single events, the deadline is [`SLOW_PULL`](super::SLOW_PULL).
pub const REPAIR: Duration = Duration::from_secs(60);

/// Deadline for a request of a reconciliation that asks what the peer holds, and for the request that reports to the
/// peer that it is missing events. The answer usually has fifty kilobytes. The deadline of a request for events is
/// [`PULL`](super::PULL), or [`SLOW_PULL`](super::SLOW_PULL) for a single event.
pub const REPAIR_CALL: Duration = PEER_INFO;

/// Most reconciliations with one peer in one `sync verify`.
pub const MAX_REPAIRS: u32 = 3;

/// Most requests of one reconciliation. 100,000 events that are missing in one contiguous range take a hundred
/// requests. If more requests are needed, the next reconciliation continues.
pub const MAX_REPAIR_CALLS: u32 = 2000;

/// If this many `sync.fetch` answers about one log contain no requested event, a reconciliation requests no more events
/// of this log. Also the number of answers with mostly rejected events that end the reconciliation.
pub const MAX_FRUITLESS: u32 = 3;

/// Most connections that one reconciliation may lose and reopen; the next loss ends it. A loss during a request for
/// events reduces the number of events per request ([`REPAIR_LESS`]): three such losses reduce it to one.
pub const MAX_REPAIR_LOSSES: u32 = 4;

/// Divisor for the number of events per request after a connection was lost before it delivered them. Three reductions
/// take a request from a thousand events to one.
pub const REPAIR_LESS: usize = 10;
