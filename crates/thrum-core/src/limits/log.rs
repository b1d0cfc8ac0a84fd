//! Bounds on the log and its database: the writer, purges, parked and rejected events, and the removal of peers.

use std::time::Duration;

/// Most requests queued for the writer, and likewise most pieces of peers' batches. A full queue blocks the caller,
/// which is the back-pressure.
pub const WRITER_QUEUE: usize = 1024;

/// Most requests in one group commit. The bound keeps the first of them from waiting too long.
pub const MAX_GROUP_COMMIT: usize = 256;

/// Most readers of one agent's mail whose cursors are kept: the agent's sessions of several weeks, and the programs
/// that read in the agent's name. The least recently moved cursors are dropped.
pub const MAX_CURSORS: usize = 256;

/// Longest name of a reader of mail (see [`MAX_CURSORS`]), in bytes: a session id plus a suffix that distinguishes the
/// session's programs.
pub const MAX_READER_BYTES: usize = 256;

/// Most pairs of peer and reason that `sync parked` lists: 200 KB if every reason has the maximum length.
pub const MAX_PARKED_GROUPS: usize = 100;

/// Most rows of rejected events kept for all peers together. Above this, rows of the peer with the most rows are
/// dropped. Dropped rows remain counted.
pub const MAX_REJECTED_ROWS: usize = 1000;

/// Most rows of rejected events kept for one peer: its first and its latest, half each. A flood of rejections thus
/// hides neither the first cause nor the latest one.
pub const MAX_REJECTED_OF_PEER: usize = 100;

/// Most bytes kept of a rejected event, enough to recognise it.
pub const MAX_REJECTED_SAMPLE_BYTES: usize = 1024;

/// Number of recorded runs of purged origin sequences in one log at which late events no longer add any. A late event
/// is one that a peer serves after the purge that covers it. The peer may choose any sequence for it, so the record
/// must be bounded. A late event that is not recorded is requested again later, and discarded again.
pub const MAX_KEPT_OUT_RUNS: usize = 1000;

/// Number of recorded runs of purged origin sequences in all logs together at which late events no longer add any: ten
/// megabytes.
pub const MAX_KEPT_OUT_ROWS: usize = 100_000;

/// Largest content, in bytes, of a database file that is rewritten after a purge or the removal of a peer. Rewriting
/// takes about five seconds on a slow disk, and agents wait meanwhile. In a file with more content the purged rows are
/// only overwritten in place: old copies of them may remain, and the file keeps its size.
pub const MAX_REWRITTEN_BYTES: u64 = 512 << 20;

/// Least time between two rewrites of the database file (see [`MAX_REWRITTEN_BYTES`]). A peer may send any number of
/// purges.
pub const REWRITE_PAUSE: Duration = Duration::from_secs(60);

/// Longest time that the answer to a purge waits until the purged text is removed completely. The command waits longer
/// for the answer. The rest is removed in the background.
pub const PURGE_ANSWERED: Duration = Duration::from_secs(40);

/// A purge that lies at most this far ahead of our clock keeps projections from being compared with peers until it
/// takes effect. Adjusted clocks differ by minutes, unadjusted ones by hours. A purge further ahead also waits, but
/// does not prevent comparisons: otherwise a peer could date a purge a hundred years ahead, and no daemons could ever
/// compare their projections.
pub const PURGE_AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

/// Most ids listed in one purge event: messages, sessions and events that claim a time later than their arrival.
/// Further purge events list the rest.
pub const MAX_PURGED_AHEAD: usize = 1000;

/// Most purges that a status lists: those that arrived last.
pub const LISTED_PURGES: u64 = 20;

/// Most rows of the log examined in one step of removing a peer's events: about ten milliseconds of the writer.
pub const FORGET_ROWS: usize = 500;

/// How often the last sequence of the log is noted beside the database. If a copy of the database file that was made
/// since the daemon's latest start is restored, it is recognised because it ends before the noted sequence, unless it
/// was made after the latest note. An older copy is recognised by its number of openings.
pub const NOTE_LOG_END: Duration = Duration::from_secs(60);

/// Clock difference above which a peer is flagged, because its mail sorts into the wrong place.
///
/// Also applies to our own clock. A step back by more than this means that the clock was ahead before. A smaller step
/// may be an ordinary correction, and event times continue from the latest one written.
pub const CLOCK_OFF: Duration = Duration::from_secs(10 * 60);

/// How far ahead of our clock an event's time may lie for the event to be shown at that time. Clocks synchronised over
/// the network differ by less than a second.
pub const CLOCK_AHEAD: Duration = Duration::from_secs(2);
