//! Many peers, most of them unreachable.

use std::{collections::BTreeMap, sync::Arc};

use thrum_core::limits;
use thrum_sync::{
    replicator::State,
    transport::{
        Kind, Transport,
        memory::{MemoryNode, MemoryTailnet},
    },
};

use crate::kit::{Daemon, PATIENCE};

const PEERS: usize = 50;
const ALIVE: usize = 5;

async fn daemon(node: &MemoryNode, name: &str) -> Daemon {
    let daemon = Daemon::start_over(name, vec![Arc::new(node.clone()) as Arc<dyn Transport>]).await;
    daemon.log.register(name);
    daemon
}

/// C39, P7: of fifty peers, forty-five neither accept nor refuse a connection. The other five exchange everything at
/// once, and each unreachable peer is dialled only occasionally.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dead_keep_nobody_from_the_living() {
    let net = MemoryTailnet::default();
    let hub_node = net.node("hub", "ann");
    let hub = daemon(&hub_node, "hub").await;
    let mut peers = Vec::new();
    for n in 0..PEERS {
        let node = net.node(&format!("peer{n}"), "ann");
        let peer = daemon(&node, &format!("peer{n}")).await;
        hub.pair_over(Kind::Tailnet, &peer).await;
        peers.push((node, peer));
    }
    let dead = peers.split_off(ALIVE);
    let dials_before = net.dialled().len();
    for (node, peer) in &dead {
        peer.peers.shutdown().await;
        node.set_deaf(true);
    }
    // The hub fails to reach any of them: it dials each and waits in vain.
    for (_, peer) in &dead {
        let mut status = hub.peers.watch(&peer.id).unwrap();
        let missed = status.wait_for(|status| status.state != State::Connected);
        tokio::time::timeout(PATIENCE, missed).await.expect("in time").unwrap();
    }
    for round in 0..3 {
        let said = hub.log.say("hub", &format!("who is there? {round}"));
        for (_, peer) in &peers {
            peer.hears(&said).await;
            let answer = peer.log.say(&peer.name, "me");
            hub.hears(&answer).await;
        }
    }
    let mut dials: BTreeMap<String, usize> = BTreeMap::new();
    net.dialled().into_iter().skip(dials_before).for_each(|(_, address)| *dials.entry(address).or_default() += 1);
    // A backoff that doubles from one second allows only a handful of attempts within the maximum duration of this
    // test.
    let most = (PATIENCE.as_secs() / limits::BACKOFF_FIRST.as_secs()).ilog2() as usize + 2;
    assert!(dials.values().all(|times| *times <= most), "{dials:?}");
    let status = hub.peers.status().await.unwrap();
    let connected = status.iter().filter(|peer| peer.state == State::Connected).count();
    assert_eq!((status.len(), connected), (PEERS, ALIVE), "the dead are shown as what they are");
}
