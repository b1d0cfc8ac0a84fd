//! Bounds on peers: connections, deadlines of their requests, quotas, and what they announce.

use std::time::Duration;

use super::messages::MAX_LINE_BYTES;

/// Most paired peers. Fifty would already be many; each costs a connection and a request per sync interval.
pub const MAX_PEERS: usize = 200;

/// Most inbound connections from other daemons, authenticated or not: enough for [`MAX_PEERS`] with one persistent
/// connection each, or for fifty Go Thrum peers with several one-shot connections each.
pub const MAX_PEER_CONNECTIONS: usize = 256;

/// Most connections of one peer. Above this the peer's oldest connection is closed, so that one peer never locks out
/// the others. A peer that is not a legacy peer keeps one, plus one for each ping, comparison or reconciliation in
/// progress. Go Thrum pulls in up to ten threads at once and announces on further connections.
pub const MAX_CONNECTIONS_OF_PEER: usize = 16;

/// Most requests of one peer that are processed or answered at once; further requests wait. The bound leaves blocking
/// threads for other peers, and limits the memory for answers that a peer does not read.
pub const MAX_SERVED_OF_PEER: usize = 4;

/// Most peer connections that have not presented a valid token yet. Above this, the oldest such connection of the node
/// that has the most of them is closed.
pub const MAX_UNAUTHENTICATED_CONNECTIONS: usize = 64;

/// Time after which a peer connection without a valid token is closed.
pub const UNAUTHENTICATED_DEADLINE: Duration = Duration::from_secs(10);

/// Pause after a failed `accept`, which may mean that no file descriptors are left.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Most bytes of events kept from one peer, including events that the peer relays: a million messages of a kilobyte.
/// With indexes and projection, the database takes two to three times as much.
pub const MAX_PEER_BYTES: u64 = 1 << 30;

/// Most agents kept from one peer. Thirty are typical and two hundred have been observed; each takes a line of the team
/// view.
pub const MAX_PEER_AGENTS: u64 = 1_000;

/// Most origins whose events are kept from one peer. A peer relays the events of its own peers, at most [`MAX_PEERS`],
/// and Go Thrum's ids change with names and versions.
pub const MAX_PEER_ORIGINS: u64 = 1_000;

/// Most parked events kept from one peer. All events of types that only a newer version knows are parked; beyond this
/// number it is time to update.
pub const MAX_PEER_PARKED: u64 = 50_000;

/// How often the daemon checks whether a peer is still over its quota.
pub const QUOTA_LOOK: Duration = Duration::from_secs(5);

/// Longest request accepted from a peer, in bytes, and longest reply to a pairing request or a probe. Requests carry
/// tokens, codes, ids and numbers, and an announcement may carry a few events
/// ([`MAX_PUSHED_BYTES`](super::MAX_PUSHED_BYTES)). All other events travel in longer replies.
pub const MAX_PEER_REQUEST_BYTES: usize = 64 << 10;

/// Idle time after which a peer's inbound connection is closed: twenty default sync intervals. A peer with a longer
/// interval then reconnects within a second.
pub const PEER_IDLE: Duration = Duration::from_secs(5 * 60);

/// Time within which the rest of a line must arrive once a peer has begun it.
pub const PEER_LINE: Duration = Duration::from_secs(30);

/// Longest time for writing a request or a reply to a peer, or each [`SLOW_BYTES`] of a longer one.
pub const PEER_WRITE: Duration = Duration::from_secs(30);

/// Deadline for connecting to a peer. Go Thrum's clients use the same deadlines for connecting, [`PULL`], [`NOTIFY`],
/// [`PEER_INFO`] and [`PAIR`](super::PAIR).
pub const DIAL: Duration = Duration::from_secs(5);

/// Deadline for one `sync.pull` or `sync.fetch`. If it requests a single event, this is the time for each
/// [`SLOW_BYTES`].
pub const PULL: Duration = Duration::from_secs(30);

/// Silence after which a connection to a peer may be dead without having been closed.
pub const CONNECTION_QUIET: Duration = Duration::from_secs(5);

/// Deadline for the first bytes of an answer on a connection that was silent for [`CONNECTION_QUIET`], if the request
/// is cheap for the peer: as long as a new dial may take. After it the peer is dialled again, and requests on the new
/// connection have their usual deadlines.
pub const ANSWER_AFTER_QUIET: Duration = DIAL;

/// Bytes of a long line that must arrive within [`PULL`], or be written within [`PEER_WRITE`]: 8 KiB per second, which
/// every usable network achieves.
pub const SLOW_BYTES: usize = 256 << 10;

/// Deadline for one `sync.pull` or `sync.fetch` of a single event: the time that the longest possible line takes at the
/// minimum rate.
pub const SLOW_PULL: Duration = PULL.saturating_mul(SLOW_PARTS);

/// Number of [`SLOW_BYTES`] in the longest possible line.
const SLOW_PARTS: u32 = 64;

const _: () = assert!(SLOW_PARTS as usize * SLOW_BYTES == MAX_LINE_BYTES);

/// Deadline for one `sync.notify`.
pub const NOTIFY: Duration = Duration::from_secs(10);

/// How long a stopping daemon lets each peer answer its `sync.goodbye`, as part of [`DRAIN`](super::DRAIN): a few round
/// trips over a relay. A peer that does not answer must not delay the stop.
pub const GOODBYE: Duration = Duration::from_secs(1);

/// Deadline for one `sync.peer_info`, and for the handshake of a new connection (`sync.encrypt`) or of a lent one
/// (`sync.hello`).
pub const PEER_INFO: Duration = Duration::from_secs(10);

/// Deadline for connecting to a peer, including the handshake in which it proves its identity: the sum of both
/// deadlines.
pub const MEET: Duration = DIAL.saturating_add(PEER_INFO);

/// First wait after a failed connection attempt to a peer, or after a disk error during replication. The wait doubles
/// with each further failure, up to [`BACKOFF_LAST`]; the replicator shortens it at random by up to half. Also the
/// least time between dials of a peer that calls, and before another connection is lent to the same peer.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(1);

/// Longest wait between connection attempts to a peer, and between retries after a disk error. Also the interval at
/// which a peer that removed us is contacted again, and at which the daemon retries to remove a removed peer's events
/// (`forgetting.rs`).
pub const BACKOFF_LAST: Duration = Duration::from_secs(5 * 60);

/// Deadline for one `peer ping`, everything included.
pub const PEER_PING: Duration = Duration::from_secs(10);

/// Longest time for measuring the path of the packets to a peer, as part of [`PEER_PING`] or every [`PATH_PAUSE`]. For
/// a path through a relay this takes a second.
pub const PATH: Duration = Duration::from_secs(5);

/// Pause between two checks of the packets' path to a connected peer. Each check costs several packets.
pub const PATH_PAUSE: Duration = Duration::from_secs(60);

/// Least time between two reports, in the log and to the peer, that the peer's token was misused. A stolen token may be
/// used continuously.
pub const TOKEN_MISUSE_PAUSE: Duration = Duration::from_secs(60);

/// How recently each of two processes with one key must have been heard for the status to report them. Equal to the
/// longest wait between two attempts to reach a peer, because a daemon that still runs is heard within that time.
pub const SAME_KEY_RECENT: Duration = BACKOFF_LAST;

/// Most processes remembered per daemon key; beyond this the one heard from longest ago is dropped. Two suffice to
/// detect that two run at once; further ones ran before a restart.
pub const MAX_LIVES: usize = 4;

/// Least time between two log lines about one peer that announces something under another daemon's id.
pub const MISNAMED_PAUSE: Duration = Duration::from_secs(60);
