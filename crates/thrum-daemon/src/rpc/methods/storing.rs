//! Shows what the writer is doing: a peer's batch that takes long keeps other peers waiting.

use std::time::Duration;

use serde::Serialize;
use thrum_store::Busy;
use thrum_sync::peers::PeerStatus;

/// Shorter work is not worth showing.
const LONG: Duration = Duration::from_secs(1);

/// A batch that is being stored, or pending work that earlier events left, for which no peer is named.
#[derive(Serialize)]
pub(super) struct Storing {
    #[serde(skip_serializing_if = "Option::is_none")]
    daemon_id: Option<String>,
    /// Our name for that peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    for_ms: u64,
    /// `done` counts the processed events of the batch, `events` all of them.
    done: usize,
    events: usize,
}

/// Returns the work that has taken longer than a second, the oldest first.
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
