//! Bounds on the tailnet and on `tailscaled`.

use std::time::Duration;

/// Deadline for one call to a `tailscaled`, and for one run of `ps`. Dialling has a deadline of its own
/// ([`DIAL`](super::DIAL)), and so has the lookup of a caller ([`WHOIS`]). A notification stream is bounded only until
/// it begins. A status request takes about a millisecond, a ping a round trip on the network.
pub const LOCALAPI_CALL: Duration = Duration::from_secs(5);

/// Deadline for a `whois` request to `tailscaled`, one per connection that it forwards. The answer takes 0.7 ms; for an
/// unknown caller, `tailscaled` itself searches for a tenth of a second.
pub const WHOIS: Duration = Duration::from_secs(2);

/// Most connections of one listener whose callers are being looked up at once. Further connections wait in the
/// operating system's queue, so that a program that connects continuously costs no more than this.
pub const MAX_WHOIS: usize = 32;

/// Longest answer of a `tailscaled`, in bytes. Its status has about a kilobyte and a half per node of the tailnet.
pub const MAX_LOCALAPI_BYTES: usize = 32 << 20;

/// Longest line kept from the notification stream of a `tailscaled`, in bytes. Longer lines contain the whole tailnet,
/// of which only the fact that it changed matters here.
pub const MAX_LOCALAPI_NOTICE_BYTES: usize = 256 << 10;

/// Longest time between two status requests to a `tailscaled`, even if it sends no notification. Also the least time
/// between two requests for a new login.
pub const TAILNET_LOOK: Duration = Duration::from_secs(30);

/// First wait before another attempt to find a missing `tailscaled`, or to start our own again. The wait doubles up to
/// [`TAILNET_RETRY_LAST`].
pub const TAILNET_RETRY_FIRST: Duration = Duration::from_millis(500);

/// Longest wait before another attempt with a `tailscaled` (see [`TAILNET_RETRY_FIRST`]), and thus the longest time
/// until we notice that a user has started Tailscale.
pub const TAILNET_RETRY_LAST: Duration = Duration::from_secs(15);

/// How long our own node may be starting before the status reports that the control server does not answer. A login
/// takes a tenth of a second on a near server and a few seconds on a far one.
pub const TAILNET_STARTING: Duration = Duration::from_secs(15);

/// How long our own `tailscaled` may take from its start until it answers on its socket; usually 50 ms.
pub const TAILSCALED_START: Duration = Duration::from_secs(10);

/// Time between two checks of our own `tailscaled`: whether its socket answers while it starts, and whether one left by
/// an earlier daemon has ended.
pub const TAILSCALED_LOOK: Duration = Duration::from_millis(20);

/// How long our own `tailscaled` may take to exit after it was asked to; then it is killed. Together with the rest of a
/// stop this stays below what service managers allow.
pub const TAILSCALED_STOP: Duration = Duration::from_secs(3);

/// Size in bytes at which the log of our own `tailscaled` is started anew. The previous one is kept beside it.
pub const TAILSCALED_LOG_BYTES: u64 = 2 << 20;

/// Longest line copied into the log of our own `tailscaled`, in bytes.
pub const MAX_TAILSCALED_LINE_BYTES: usize = 4 << 10;

/// Least time between two log lines about refused callers.
pub const REFUSED_CALLERS_PAUSE: Duration = Duration::from_secs(10);

/// Most pings of a peer in search of a direct path. The first pings go through a relay while the nodes look for one.
pub const TAILNET_PINGS: usize = 3;
