//! The connections that others opened to us, and how many there may be.

use std::{collections::BTreeMap, sync::Mutex};

use thrum_core::limits;
use tokio_util::sync::CancellationToken;

use super::lock;

/// All open incoming connections.
#[derive(Default)]
pub(super) struct Visitors(Mutex<Table>);

#[derive(Default)]
struct Table {
    next: u64,
    /// Oldest first.
    open: BTreeMap<u64, Visitor>,
}

struct Visitor {
    /// Whose token it has shown.
    peer: Option<String>,
    stop: CancellationToken,
}

impl Visitors {
    /// Lets a connection in. When there are too many strangers, the oldest must go: who pairs or authenticates does so at
    /// once. `None` when peers themselves hold all places.
    pub(super) fn enter(&self, stop: &CancellationToken) -> Option<(u64, CancellationToken)> {
        let mut table = lock(&self.0);
        let strangers = table.open.values().filter(|visitor| visitor.peer.is_none()).count();
        if strangers >= limits::MAX_UNAUTHENTICATED_CONNECTIONS || table.open.len() >= limits::MAX_PEER_CONNECTIONS {
            let oldest = *table.open.iter().find(|(_, visitor)| visitor.peer.is_none())?.0;
            if let Some(visitor) = table.open.remove(&oldest) {
                visitor.stop.cancel();
            }
        }
        table.next += 1;
        let (id, stop) = (table.next, stop.child_token());
        table.open.insert(id, Visitor { peer: None, stop: stop.clone() });
        Some((id, stop))
    }

    /// Notes whose connection this is.
    pub(super) fn known(&self, id: u64, peer: &str) {
        if let Some(visitor) = lock(&self.0).open.get_mut(&id) {
            visitor.peer = Some(peer.to_owned());
        }
    }

    pub(super) fn leave(&self, id: u64) {
        lock(&self.0).open.remove(&id);
    }

    /// Closes every connection of a peer.
    pub(super) fn close(&self, peer: &str) {
        lock(&self.0).open.values().filter(|visitor| visitor.peer.as_deref() == Some(peer)).for_each(|visitor| visitor.stop.cancel());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C17
    #[test]
    fn strangers_push_out_the_oldest_stranger_and_never_a_peer() {
        let (visitors, stop) = (Visitors::default(), CancellationToken::new());
        let (peer, peers_stop) = visitors.enter(&stop).unwrap();
        visitors.known(peer, "d_x");
        let strangers: Vec<_> = (0..=limits::MAX_UNAUTHENTICATED_CONNECTIONS).map(|_| visitors.enter(&stop).unwrap().1).collect();
        let closed: Vec<_> = strangers.iter().map(CancellationToken::is_cancelled).collect();
        assert!(closed[0] && closed[1..].iter().all(|closed| !closed));
        assert!(!peers_stop.is_cancelled());
        visitors.close("d_x");
        assert!(peers_stop.is_cancelled());
    }

    #[test]
    fn when_peers_hold_every_place_nobody_else_comes_in() {
        let (visitors, stop) = (Visitors::default(), CancellationToken::new());
        for _ in 0..limits::MAX_PEER_CONNECTIONS {
            let (id, _) = visitors.enter(&stop).unwrap();
            visitors.known(id, "d_x");
        }
        assert!(visitors.enter(&stop).is_none());
        visitors.leave(1);
        assert!(visitors.enter(&stop).is_some());
    }
}
