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
    /// The peer that served the batch; absent for pending work and an import.
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
        daemon_id: peer.filter(|id| !id.is_empty()),
        for_ms: u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX),
        done,
        events,
    };
    busy.into_iter().filter(|busy| busy.lasts > LONG).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_batch_that_a_peer_served_has_a_daemon_id() {
        let busy = |peer: Option<&str>| Busy { peer: peer.map(str::to_owned), lasts: 2 * LONG, done: 1, events: 3 };
        let shown = storing(vec![busy(Some("d_gone")), busy(Some("")), busy(None)], &[]);
        let without_peer = json!({"for_ms": 2000, "done": 1, "events": 3});
        let of_peer = json!({"daemon_id": "d_gone", "for_ms": 2000, "done": 1, "events": 3});
        assert_eq!(serde_json::to_value(shown).unwrap(), json!([of_peer, without_peer, without_peer]));
    }
}
