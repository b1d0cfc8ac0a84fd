//! Bounds on pairing, and on the search for machines to pair with.

use std::time::Duration;

use super::peers::DIAL;

/// Longest time that a pairing session waits for the other machine.
pub const PAIRING_SESSION: Duration = Duration::from_secs(5 * 60);

/// Most connection attempts, of [`DIAL`] each, for one connection of a user's `peer join`. The first packets between
/// two machines that never communicated may need longer than that to find a path, and nothing retries a join
/// automatically.
pub const JOIN_DIALS: u32 = 3;

/// Deadline for all connection attempts for one connection of a join.
pub const JOIN_DIAL: Duration = DIAL.saturating_mul(JOIN_DIALS);

/// Deadline for the first request of a join, which asks how the other side pairs. Our daemon answers from memory; a
/// legacy peer answers that it does not know the method.
pub const PROBE_TO_JOIN: Duration = Duration::from_secs(10);

/// Deadline for one pairing request of the joining side, which sends the code or a proof of it. Before the other side
/// answers, it writes the guess or the new peer to disk.
pub const PAIR: Duration = Duration::from_secs(30);

/// Wrong codes allowed to one node in one pairing session, as Go Thrum's documentation promises. All callers on
/// loopback count as one node. An exchange that was begun and not finished counts as a wrong code.
pub const PAIRING_TRIES: u8 = 3;

/// Wrong codes allowed per hour from one node of the tailnet.
pub const PAIRING_NODE_HOUR: usize = 6;

/// Wrong codes allowed per hour from all callers on loopback together, and as many from all nodes of the tailnet
/// together.
pub const PAIRING_TOTAL_HOUR: usize = 10;

/// Wrong codes allowed per day from all callers on loopback together, and as many from all nodes of the tailnet
/// together.
pub const PAIRING_TOTAL_DAY: usize = 30;

/// How long both sides of a pairing wait for the first exchange before they report what is missing.
pub const FIRST_EXCHANGE: Duration = Duration::from_secs(5);

/// How long a pairing or a search for machines waits for a tailnet that is starting. Less than
/// [`LOCAL_CALL`](super::LOCAL_CALL), so that the answer still arrives in time.
pub const TAILNET_UP: Duration = Duration::from_secs(8);

/// Most nodes probed in a search for machines that wait to be joined. In a larger tailnet, people know their machines
/// by name.
pub const PROBED_NODES: usize = 64;

/// Most concurrent probes. If only one node is probed, and refuses connections, all of [`PORTS`] take two round trips.
/// The connections stay below the usual limit of 1,024 open files.
pub const PROBES: usize = 64;

/// Deadline for connecting in one probe, and again for the answer. A node that does not even refuse a connection within
/// this time is probed on its other ports only after all other nodes.
pub const PROBE: Duration = Duration::from_secs(2);

/// Deadline for all probes together. A node that has not answered by then is not listed.
pub const PROBE_ALL: Duration = Duration::from_secs(5);

/// Ports tried for listening, on loopback and on the tailnet, and probed for daemons that wait to be joined. The first
/// is also Go Thrum's default for the tailnet.
pub const PORTS: std::ops::RangeInclusive<u16> = 9100..=9200;
