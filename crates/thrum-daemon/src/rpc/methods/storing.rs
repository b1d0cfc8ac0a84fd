//! Shows what the writer is doing: a peer's batch that takes long keeps other peers waiting.

use std::time::Duration;

use serde::Serialize;
use thrum_store::Busy;
use thrum_sync::peers::PeerStatus;

/// Work that takes longer than this is shown.
const LONG: Duration = Duration::from_secs(1);

/// A batch that is being stored, or pending work that earlier events left, for which no peer is named.
#[derive(Serialize)]
pub(super) struct Storing {
    #[serde(skip_serializing_if = "Option::is_none")]
    daemon_id: Option<String>,
    /// Our name for the peer that served the batch; absent for pending work, an import, and a peer that was removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    for_ms: u64,
    /// Number of processed events of the batch; 0 for pending work.
    done: usize,
    /// Number of all events of the batch; 0 for pending work.
    events: usize,
}

/// Returns the work that has taken longer than [`LONG`]: batches, the oldest first, then pending work.
pub(super) fn storing(busy: Vec<Busy>, peers: &[PeerStatus]) -> Vec<Storing> {
    let name = |id: &str| peers.iter().find(|peer| peer.daemon_id == id).map(|peer| peer.name.clone());
    let shown = |Busy { peer, lasts, done, events }| Storing {
        peer: peer.as_deref().and_then(name),
        daemon_id: peer,
        for_ms: u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX),
        done,
        events,
    };
    busy.into_iter().filter(|busy| busy.lasts > LONG).map(shown).collect()
}
