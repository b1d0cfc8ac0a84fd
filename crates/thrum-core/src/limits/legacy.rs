//! Bounds on legacy peers.

use std::time::Duration;

/// Least time between two notifies to a legacy peer, which starts a pull for each of them.
pub const LEGACY_NOTIFY_GAP: Duration = Duration::from_millis(100);

/// How far back a legacy peer's log is read again. Such a log can show sequence N+1 before N, for as long as a write of
/// the legacy peer takes to become visible. The legacy peer's own calls end after 30 s; this is four times as long.
pub const LEGACY_LOOK_BACK: Duration = Duration::from_secs(120);

/// Least time between two re-reads of a legacy peer's log on one connection (see [`LEGACY_LOOK_BACK`]). Shorter than
/// [`SYNC_INTERVAL`](super::SYNC_INTERVAL), so that every sync interval of the default length includes one.
pub const LEGACY_LOOK_GAP: Duration = Duration::from_secs(10);

/// Maximum number of remembered positions, reached in the last [`LEGACY_LOOK_BACK`] while reading a legacy peer's log:
/// one per two seconds, with room to spare.
pub const LEGACY_POSITIONS: usize = 128;

/// Least time between two remembered positions, except for the newest; positions in between are dropped.
pub const LEGACY_POSITIONS_APART: Duration = Duration::from_secs(2);

/// Time after which a legacy peer counts as stuck if it keeps asking for the same position although it receives events:
/// it cannot apply one of them. Storing a thousand events takes such a peer about twelve seconds.
pub const LEGACY_STUCK: Duration = Duration::from_secs(60);

/// Number of requests for the same position, over at least [`LEGACY_STUCK`], after which a legacy peer gets events one
/// by one. With fewer requests, the answers may simply have been lost.
pub const LEGACY_STUCK_ASKS: u32 = 3;

/// Number of requests for the same single event, over at least [`LEGACY_STUCK`], after which that event is skipped for
/// a legacy peer. The sixth request shows that five answers had no effect. If each answer is lost with probability 1/5,
/// chance does that once in 3,000 times. Only requests that were answered with this one event count.
pub const LEGACY_REFUSED_ASKS: u32 = 6;

/// Most positions remembered from a legacy peer's requests; beyond this the oldest is dropped. Such a peer asks in up
/// to ten threads at once.
pub const LEGACY_ASKED_POSITIONS: usize = 32;

/// Most events remembered as refused by a legacy peer and skipped for it. The oldest is dropped first; the peer has
/// passed it by then.
pub const LEGACY_SKIPPED: usize = 64;

/// Longest event served to a legacy peer, in bytes of the legacy peer's own JSON. After a line of 1 MiB a legacy peer
/// cannot read its own journal any more. The remaining 1 KiB is room for fields that the legacy peer adds and for
/// numbers that it writes differently.
pub const LEGACY_LINE_BYTES: usize = (1 << 20) - 1024;

/// Canonical length in bytes above which an event may exceed [`LEGACY_LINE_BYTES`] in a legacy peer's encoding. A
/// database index contains the same number.
pub const LEGACY_LONG_BYTES: usize = 170_000;

/// Most events above [`LEGACY_LONG_BYTES`] examined for the status of a legacy peer, newest first. Further ones are not
/// counted.
pub const LEGACY_LONG_EVENTS: usize = 64;

/// Most rows examined for one request of a legacy peer. If none of them can be served, the answer is empty, and the
/// next request continues after them. A hundred thousand rows take about three seconds; a legacy peer gives up after
/// thirty.
pub const LEGACY_ROWS_LOOKED_AT: usize = 100_000;

/// Most creations of one message, or starts of one session, examined for a legacy peer. Honest daemons write one, and a
/// peer that writes thousands costs no more than this. If a legacy peer can apply none of those examined, events that
/// depend on that message or session are withheld from it.
pub const LEGACY_CREATIONS: usize = 256;

/// How long the status shows a call from a Go daemon of version 0.7 or later, which cannot be a peer.
pub const NEWER_GO_SHOWN: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest author name served to a legacy peer, in bytes. Such a peer uses it in a file name, which may have 255 bytes.
pub const LEGACY_AUTHOR_BYTES: usize = 200;
