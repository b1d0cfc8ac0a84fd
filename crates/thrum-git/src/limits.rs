//! Bounds of the exchange through git, each with its reason.

use std::time::Duration;

use thrum_core::limits::{MAX_BATCH_EVENTS, MAX_EVENT_BYTES};

/// Time for a `git` command that works on the local disk. Listing and packing some hundred megabytes takes seconds.
pub const LOCAL: Duration = Duration::from_secs(120);

/// Time without a byte of output from a `git` command that talks to the remote, which reports its progress twice a
/// second once the other side answers.
pub const NO_PROGRESS: Duration = Duration::from_secs(30);

/// Time without a byte of output from a push. The host runs its hooks without saying anything.
pub const NO_PROGRESS_OF_PUSH: Duration = Duration::from_secs(300);

/// Time for the rest of the output of a process that has ended. All of it is there already, unless a process that it has
/// left behind holds the pipe open.
pub const LEFT_BEHIND: Duration = Duration::from_secs(1);

/// Time between two exchanges without news.
pub const INTERVAL: Duration = Duration::from_secs(300);

/// Time after the last event until it is published: agents often write several in a row.
pub const SETTLE: Duration = Duration::from_secs(10);

/// Time between two exchanges because of news, and the longest that news wait for more. Each exchange costs the remote
/// two connections.
pub const SOONEST: Duration = Duration::from_secs(60);

/// Pause after the first failed exchange. It is doubled with each further one.
pub const FIRST_BACKOFF: Duration = Duration::from_secs(15);

/// The longest pause between failed exchanges: a remote that is back after a day is used again within half an hour.
pub const LAST_BACKOFF: Duration = Duration::from_secs(1800);

/// Time after which it is asked again whether everybody can read the remote.
pub const EXPOSURE: Duration = Duration::from_secs(86_400);

/// The most output of a command that is kept: a segment with its frame, or a list of refs.
pub const MAX_OUTPUT_BYTES: usize = 64 << 20;

/// The most of standard error that is kept, from its end, where git says why it failed.
pub const MAX_STDERR_BYTES: usize = 8 << 10;

/// The most bytes that one fetch may bring: the whole mailbox of a team, at some 300 bytes for a message, and as much
/// as hosts take with one push.
pub const MAX_FETCH_BYTES: u64 = 2 << 30;

/// The most bytes that are kept of a remote while everybody on it is looked at.
pub const MAX_KEPT_BYTES: u64 = 2 * MAX_FETCH_BYTES;

/// Garbage is collected once the packs are larger than this and twice their size after the last collection.
pub const GROWN_BYTES: u64 = 64 << 20;

/// Time for which only trusted daemons are looked at after a remote had too much.
pub const ONLY_TRUSTED: Duration = Duration::from_secs(86_400);

/// The most daemons that are read from one remote. More would not be shown by any list either.
pub const MAX_DAEMONS: usize = 1_000;

/// The most bytes of a manifest: a thousand recipients of some 200 bytes.
pub const MAX_MANIFEST_BYTES: usize = 512 << 10;

/// Manifests that are read at once.
pub const MANIFESTS_AT_ONCE: usize = 50;

/// The most runs of origin sequences of a segment. A list of more is not read by anybody.
pub const MAX_RUNS: usize = thrum_core::limits::MAX_TOLD_RUNS;

/// The most bytes of an index, compressed and expanded: 2,000 heads and 10,000 segments of some 300 bytes.
pub const MAX_INDEX_BYTES: usize = 4 << 20;

/// The most bytes of a segment, compressed or sealed.
pub const MAX_SEGMENT_BYTES: usize = 16 << 20;

/// The most bytes of an expanded segment.
pub const MAX_EXPANDED_BYTES: usize = SEGMENT_BYTES + MAX_EVENT_BYTES + 2;

/// Bytes of events at which a segment is full and the next one begins.
pub const SEGMENT_BYTES: usize = 4 << 20;

/// Bundles of a size class that exist beside each other; one more, and all are merged into one.
pub const BUNDLES_OF_A_CLASS: usize = 3;

/// The largest bundle of the lowest size class. Each class is four times as large as the one below.
pub const LOWEST_CLASS_BYTES: u64 = 64 << 10;

/// From this size, bundles are merged without rewriting their segments.
pub const FULL_BUNDLE_BYTES: u64 = 4 << 20;

/// The most bundles of a manifest that is read. Ours have at most 15, because a fetch by git negotiates with the tip and
/// its first 15 parents only (measured with git 2.39 and 2.55).
pub const MAX_BUNDLES: usize = 64;

/// The most segments of an index that is read.
pub const MAX_SEGMENTS: usize = 10_000;

/// Number of events that are handed to the log at once.
pub const EVENTS_AT_ONCE: usize = MAX_BATCH_EVENTS;
