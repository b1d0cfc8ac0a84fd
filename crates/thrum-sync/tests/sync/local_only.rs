//! `daemon.local_only` excludes all other machines, in both directions.

use std::sync::Arc;

use thrum_core::{ErrorKind, limits};
use thrum_sync::{
    replicator::State,
    transport::{
        Kind, Transport,
        local::Local,
        memory::{MemoryNode, MemoryTailnet},
    },
};

use crate::kit::{Daemon, PATIENCE, start_peers_over};

/// Restarts a daemon's peers with a tailnet.
async fn connect(daemon: &mut Daemon, node: &MemoryNode, local_only: bool) {
    daemon.peers.shutdown().await;
    let transports: Vec<Arc<dyn Transport>> = vec![Arc::new(Local::on_ports(0..=0)), Arc::new(node.clone())];
    daemon.peers = start_peers_over(
        transports,
        limits::SYNC_INTERVAL,
        local_only,
        &daemon.name,
        &daemon.id,
        &daemon.log,
        &daemon.directory,
    )
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_local_only_no_other_machine_is_dialled_listened_for_or_joined_and_the_peer_says_why() {
    let net = MemoryTailnet::default();
    let (here, there) = (net.node("here", "ann"), net.node("there", "ann"));
    let (mut a, mut b) = (Daemon::start("alpha").await, Daemon::start("beta").await);
    connect(&mut a, &here, false).await;
    connect(&mut b, &there, false).await;
    let (one, other) = a.pair_over(Kind::Tailnet, &b).await;
    assert!(one.syncing && other.syncing);
    a.peers.shutdown().await;
    let ours = || net.dialled().into_iter().filter(|(by, _)| *by == here.node().id).count();
    let before = ours();

    connect(&mut a, &here, true).await;
    let mut standing = a.peers.watch("beta").unwrap();
    let held = standing.wait_for(|status| {
        status.exchange.last_error.as_deref().is_some_and(|error| error.contains("daemon.local_only"))
    });
    tokio::time::timeout(PATIENCE, held).await.unwrap().unwrap();
    assert_ne!(a.peers.status().await.unwrap()[0].state, State::Connected);
    assert_eq!(a.peers.join("100.64.0.2:9100", "1234").await.unwrap_err().kind, ErrorKind::Refused);
    assert_eq!(a.peers.start_pairing(Kind::Tailnet, PATIENCE).await.err().unwrap().kind, ErrorKind::Refused);
    assert_eq!((ours(), a.peers.address(Kind::Tailnet).await), (before, None));
    assert!(here.listen(Some(9100)).await.is_ok(), "nothing of ours has the port");
    assert!(a.peers.list()[0].name == "beta", "it stays paired");

    let c = Daemon::start("gamma").await;
    assert!(a.pair(&c).await.0.syncing, "this machine is no other machine");
}
