//! The connections that others opened to us, and how many there may be.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use thrum_core::limits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
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
    /// Of each peer that asked for something: how many of its questions may be answered at once.
    turns: BTreeMap<String, Arc<Semaphore>>,
}

struct Visitor {
    /// Whose token it has shown.
    peer: Option<String>,
    /// The node that it is from; none on loopback.
    node: Option<String>,
    stop: CancellationToken,
}

impl Table {
    /// The oldest stranger of the node that has the most of them: who connects all the time ends his own.
    fn stranger_to_end(&self) -> Option<u64> {
        let mut strangers: BTreeMap<Option<&str>, (usize, Reverse<u64>)> = BTreeMap::new();
        for (id, visitor) in self.open.iter().filter(|(_, visitor)| visitor.peer.is_none()) {
            strangers.entry(visitor.node.as_deref()).or_insert((0, Reverse(*id))).0 += 1;
        }
        strangers.into_values().max().map(|(_, Reverse(oldest))| oldest)
    }

    fn end(&mut self, id: u64) {
        if let Some(visitor) = self.open.remove(&id) {
            visitor.stop.cancel();
        }
    }
}

impl Visitors {
    /// Lets a connection from this node in. When there are too many strangers, the oldest of the node that has the most must go:
    /// who pairs or authenticates does so at once. `None` when peers themselves hold all places.
    pub(super) fn enter(&self, node: Option<&str>, stop: &CancellationToken) -> Option<(u64, CancellationToken)> {
        let mut table = lock(&self.0);
        let strangers = table.open.values().filter(|visitor| visitor.peer.is_none()).count();
        if strangers >= limits::MAX_UNAUTHENTICATED_CONNECTIONS || table.open.len() >= limits::MAX_PEER_CONNECTIONS {
            let oldest = table.stranger_to_end()?;
            table.end(oldest);
        }
        table.next += 1;
        let (id, stop) = (table.next, stop.child_token());
        table.open.insert(id, Visitor { peer: None, node: node.map(str::to_owned), stop: stop.clone() });
        Some((id, stop))
    }

    /// Notes whose connection this is. A peer that has too many loses its oldest.
    pub(super) fn known(&self, id: u64, peer: &str) {
        let mut table = lock(&self.0);
        match table.open.get_mut(&id) {
            Some(visitor) if visitor.peer.as_deref() != Some(peer) => visitor.peer = Some(peer.to_owned()),
            _ => return,
        }
        let mut its = table.open.iter().filter(|(_, visitor)| visitor.peer.as_deref() == Some(peer)).map(|(id, _)| *id);
        if let Some(oldest) = its.next()
            && its.count() >= limits::MAX_CONNECTIONS_OF_PEER
        {
            table.end(oldest);
        }
    }

    /// Waits until one of at most [`limits::MAX_SERVED_OF_PEER`] questions of this peer may be answered; to be held until then.
    /// `None` if the peer is removed meanwhile.
    pub(super) async fn turn(&self, peer: &str) -> Option<OwnedSemaphorePermit> {
        let turns = {
            let mut table = lock(&self.0);
            let turns = table.turns.entry(peer.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(limits::MAX_SERVED_OF_PEER)));
            Arc::clone(turns)
        };
        turns.acquire_owned().await.ok()
    }

    pub(super) fn leave(&self, id: u64) {
        lock(&self.0).open.remove(&id);
    }

    /// Closes every connection of a peer that is removed.
    pub(super) fn close(&self, peer: &str) {
        let mut table = lock(&self.0);
        table.open.values().filter(|visitor| visitor.peer.as_deref() == Some(peer)).for_each(|visitor| visitor.stop.cancel());
        if let Some(turns) = table.turns.remove(peer) {
            turns.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C17
    #[test]
    fn strangers_push_out_the_oldest_stranger_and_never_a_peer() {
        let (visitors, stop) = (Visitors::default(), CancellationToken::new());
        let (peer, peers_stop) = visitors.enter(None, &stop).unwrap();
        visitors.known(peer, "d_x");
        let strangers: Vec<_> = (0..=limits::MAX_UNAUTHENTICATED_CONNECTIONS).map(|_| visitors.enter(None, &stop).unwrap().1).collect();
        let closed: Vec<_> = strangers.iter().map(CancellationToken::is_cancelled).collect();
        assert!(closed[0] && closed[1..].iter().all(|closed| !closed));
        assert!(!peers_stop.is_cancelled());
        visitors.close("d_x");
        assert!(peers_stop.is_cancelled());
    }

    /// C17
    #[test]
    fn a_node_that_connects_all_the_time_pushes_out_its_own_connections_and_those_of_no_other() {
        let (visitors, stop) = (Visitors::default(), CancellationToken::new());
        let others: Vec<_> = ["n1", "n1", "n2"].map(|node| visitors.enter(Some(node), &stop).unwrap().1).into();
        let its: Vec<_> = (0..limits::MAX_UNAUTHENTICATED_CONNECTIONS * 2).map(|_| visitors.enter(Some("n3"), &stop).unwrap().1).collect();
        assert!(others.iter().all(|stop| !stop.is_cancelled()));
        assert_eq!(its.iter().filter(|stop| !stop.is_cancelled()).count(), limits::MAX_UNAUTHENTICATED_CONNECTIONS - others.len());
        assert!(its[0].is_cancelled() && !its.last().unwrap().is_cancelled());
    }

    #[test]
    fn when_peers_hold_every_place_nobody_else_comes_in() {
        let (visitors, stop) = (Visitors::default(), CancellationToken::new());
        for n in 0..limits::MAX_PEER_CONNECTIONS {
            let (id, _) = visitors.enter(None, &stop).unwrap();
            visitors.known(id, &format!("d_{n}"));
        }
        assert!(visitors.enter(None, &stop).is_none());
        visitors.leave(1);
        assert!(visitors.enter(None, &stop).is_some());
    }

    /// C17
    #[test]
    fn a_peer_with_too_many_connections_loses_its_oldest_and_no_other_peer_does() {
        let (visitors, stop) = (Visitors::default(), CancellationToken::new());
        let enter = |peer: &str| {
            let (id, stop) = visitors.enter(None, &stop).unwrap();
            // Each of its requests says again whose it is.
            visitors.known(id, peer);
            visitors.known(id, peer);
            stop
        };
        let other = enter("d_other");
        let its: Vec<_> = (0..limits::MAX_CONNECTIONS_OF_PEER * 3).map(|_| enter("d_x")).collect();
        let open: Vec<_> = its.iter().map(|stop| !stop.is_cancelled()).collect();
        let (old, new) = open.split_at(limits::MAX_CONNECTIONS_OF_PEER * 2);
        assert!(old.iter().all(|open| !open) && new.iter().all(|open| *open) && !other.is_cancelled());
    }

    #[tokio::test]
    async fn a_peer_waits_for_its_own_questions_and_not_for_those_of_others() {
        use std::{future::Future, task::Poll};

        let visitors = Visitors::default();
        let mut held = Vec::new();
        for _ in 0..limits::MAX_SERVED_OF_PEER {
            held.push(visitors.turn("d_x").await);
        }
        let mut next = std::pin::pin!(visitors.turn("d_x"));
        let mut waits = async || std::future::poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await;
        assert!(waits().await.is_pending());
        assert!(visitors.turn("d_y").await.is_some());
        held.pop();
        assert!(matches!(waits().await, Poll::Ready(Some(_))));
    }
}
