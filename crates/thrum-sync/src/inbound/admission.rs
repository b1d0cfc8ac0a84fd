//! Limits the number of inbound connections, and for each peer the number of requests that are served at once.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use thrum_core::limits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::environment::lock;

/// All open inbound connections.
#[derive(Default)]
pub(super) struct Admission(Mutex<Table>);

#[derive(Default)]
struct Table {
    next: u64,
    /// Ordered by age, oldest first.
    open: BTreeMap<u64, Connection>,
    /// By peer: limits how many of its requests are served at once.
    turns: BTreeMap<String, Arc<Semaphore>>,
}

struct Connection {
    /// The peer whose token was used on this connection; `None` until then.
    peer: Option<String>,
    /// The caller's node; `None` on loopback.
    node: Option<String>,
    stop: CancellationToken,
}

impl Table {
    /// Returns the oldest unauthenticated connection of the node that has the most of them, so that a node that keeps
    /// connecting closes its own connections.
    fn stranger_to_end(&self) -> Option<u64> {
        let mut strangers: BTreeMap<Option<&str>, (usize, Reverse<u64>)> = BTreeMap::new();
        for (id, connection) in self.open.iter().filter(|(_, connection)| connection.peer.is_none()) {
            strangers.entry(connection.node.as_deref()).or_insert((0, Reverse(*id))).0 += 1;
        }
        strangers.into_values().max().map(|(_, Reverse(oldest))| oldest)
    }

    fn end(&mut self, id: u64) {
        if let Some(connection) = self.open.remove(&id) {
            connection.stop.cancel();
        }
    }
}

impl Admission {
    /// Admits a connection from this node. If there are too many connections, or too many unauthenticated ones, closes
    /// the oldest unauthenticated one of the node with the most of those: an honest caller authenticates or pairs at
    /// once. Returns `None` if authenticated peers hold all places.
    pub(super) fn enter(&self, node: Option<&str>, stop: &CancellationToken) -> Option<(u64, CancellationToken)> {
        let mut table = lock(&self.0);
        let strangers = table.open.values().filter(|connection| connection.peer.is_none()).count();
        if strangers >= limits::MAX_UNAUTHENTICATED_CONNECTIONS || table.open.len() >= limits::MAX_PEER_CONNECTIONS {
            let oldest = table.stranger_to_end()?;
            table.end(oldest);
        }
        table.next += 1;
        let (id, stop) = (table.next, stop.child_token());
        table.open.insert(id, Connection { peer: None, node: node.map(str::to_owned), stop: stop.clone() });
        Some((id, stop))
    }

    /// Records the peer of a connection. A peer with too many connections loses its oldest.
    pub(super) fn known(&self, id: u64, peer: &str) {
        let mut table = lock(&self.0);
        match table.open.get_mut(&id) {
            Some(connection) if connection.peer.as_deref() != Some(peer) => connection.peer = Some(peer.to_owned()),
            _ => return,
        }
        let mut its =
            table.open.iter().filter(|(_, connection)| connection.peer.as_deref() == Some(peer)).map(|(id, _)| *id);
        if let Some(oldest) = its.next()
            && its.count() >= limits::MAX_CONNECTIONS_OF_PEER
        {
            table.end(oldest);
        }
    }

    /// Waits for one of this peer's [`limits::MAX_SERVED_OF_PEER`] permits. A permit allows serving one request, and
    /// must be held until the reply is written. Returns `None` if the peer is removed meanwhile.
    pub(super) async fn turn(&self, peer: &str) -> Option<OwnedSemaphorePermit> {
        let turns = {
            let mut table = lock(&self.0);
            let turns = table
                .turns
                .entry(peer.to_owned())
                .or_insert_with(|| Arc::new(Semaphore::new(limits::MAX_SERVED_OF_PEER)));
            Arc::clone(turns)
        };
        turns.acquire_owned().await.ok()
    }

    pub(super) fn leave(&self, id: u64) {
        lock(&self.0).open.remove(&id);
    }

    /// Closes all connections of a removed peer.
    pub(super) fn close(&self, peer: &str) {
        let mut table = lock(&self.0);
        table
            .open
            .values()
            .filter(|connection| connection.peer.as_deref() == Some(peer))
            .for_each(|connection| connection.stop.cancel());
        if let Some(turns) = table.turns.remove(peer) {
            turns.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Floods of connections (C17 in docs/security.md).
    #[test]
    fn a_new_unauthenticated_connection_closes_the_oldest_unauthenticated_one() {
        let (admission, stop) = (Admission::default(), CancellationToken::new());
        let (peer, peers_stop) = admission.enter(None, &stop).unwrap();
        admission.known(peer, "d_x");
        let strangers: Vec<_> =
            (0..=limits::MAX_UNAUTHENTICATED_CONNECTIONS).map(|_| admission.enter(None, &stop).unwrap().1).collect();
        let closed: Vec<_> = strangers.iter().map(CancellationToken::is_cancelled).collect();
        assert!(closed[0] && closed[1..].iter().all(|closed| !closed));
        assert!(!peers_stop.is_cancelled());
        admission.close("d_x");
        assert!(peers_stop.is_cancelled());
    }

    /// Floods of connections (C17 in docs/security.md), from one node.
    #[test]
    fn a_node_that_keeps_connecting_closes_only_its_own_connections() {
        let (admission, stop) = (Admission::default(), CancellationToken::new());
        let others: Vec<_> = ["n1", "n1", "n2"].map(|node| admission.enter(Some(node), &stop).unwrap().1).into();
        let its: Vec<_> = (0..limits::MAX_UNAUTHENTICATED_CONNECTIONS * 2)
            .map(|_| admission.enter(Some("n3"), &stop).unwrap().1)
            .collect();
        assert!(others.iter().all(|stop| !stop.is_cancelled()));
        assert_eq!(
            its.iter().filter(|stop| !stop.is_cancelled()).count(),
            limits::MAX_UNAUTHENTICATED_CONNECTIONS - others.len()
        );
        assert!(its[0].is_cancelled() && !its.last().unwrap().is_cancelled());
    }

    #[test]
    fn no_connection_is_admitted_while_peers_hold_all_places() {
        let (admission, stop) = (Admission::default(), CancellationToken::new());
        for n in 0..limits::MAX_PEER_CONNECTIONS {
            let (id, _) = admission.enter(None, &stop).unwrap();
            admission.known(id, &format!("d_{n}"));
        }
        assert!(admission.enter(None, &stop).is_none());
        admission.leave(1);
        assert!(admission.enter(None, &stop).is_some());
    }

    /// Floods of connections (C17 in docs/security.md), from one peer.
    #[test]
    fn a_peer_with_too_many_connections_loses_only_its_own_oldest() {
        let (admission, stop) = (Admission::default(), CancellationToken::new());
        let enter = |peer: &str| {
            let (id, stop) = admission.enter(None, &stop).unwrap();
            // Each request records the peer again.
            admission.known(id, peer);
            admission.known(id, peer);
            stop
        };
        let other = enter("d_other");
        let its: Vec<_> = (0..limits::MAX_CONNECTIONS_OF_PEER * 3).map(|_| enter("d_x")).collect();
        let open: Vec<_> = its.iter().map(|stop| !stop.is_cancelled()).collect();
        let (old, new) = open.split_at(limits::MAX_CONNECTIONS_OF_PEER * 2);
        assert!(old.iter().all(|open| !open) && new.iter().all(|open| *open) && !other.is_cancelled());
    }

    #[tokio::test]
    async fn requests_of_one_peer_do_not_delay_other_peers() {
        use std::{future::Future, task::Poll};

        let admission = Admission::default();
        let mut held = Vec::new();
        for _ in 0..limits::MAX_SERVED_OF_PEER {
            held.push(admission.turn("d_x").await);
        }
        let mut next = std::pin::pin!(admission.turn("d_x"));
        let mut waits = async || std::future::poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await;
        assert!(waits().await.is_pending());
        assert!(admission.turn("d_y").await.is_some());
        held.pop();
        assert!(matches!(waits().await, Poll::Ready(Some(_))));
    }
}
