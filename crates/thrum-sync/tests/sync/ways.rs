//! Mail flows whichever side can dial, and a peer that listens elsewhere now is followed.

use std::sync::Arc;

use thrum_core::{ErrorKind, Fault};
use thrum_sync::{
    Transport,
    replicator::State,
    transport::{
        Conn, Kind, Listener, Pending,
        local::Local,
        memory::{MemoryNode, MemoryTailnet},
    },
};
use tokio::net::TcpListener;

use crate::kit::Daemon;

/// Loopback on which nobody can be dialled from here, as behind a firewall that lets callers in and nobody out.
struct NoDialling(Local);

impl Transport for NoDialling {
    fn kind(&self) -> Kind {
        Kind::Local
    }

    fn listen(&self, port: Option<u16>) -> Pending<'_, Result<Box<dyn Listener>, Fault>> {
        self.0.listen(port)
    }

    fn dial<'a>(&'a self, _: &'a str) -> Pending<'a, Result<Conn, Fault>> {
        Box::pin(async { Err(Fault::new(ErrorKind::Unavailable, "a firewall")) })
    }
}

fn no_dialling() -> Vec<Arc<dyn Transport>> {
    vec![Arc::new(NoDialling(Local::on_ports(0..=0)))]
}

async fn paired() -> (Daemon, Daemon) {
    let (a, b) = (Daemon::start("alpha").await, Daemon::start("beta").await);
    a.log.register("ann");
    b.log.register("ben");
    a.pair(&b).await;
    (a, b)
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_flows_both_ways_where_one_side_cannot_dial_the_other() {
    let (a, mut b) = paired().await;
    b.restart_over(no_dialling()).await;
    for n in 0..3 {
        let (there, back) = (a.log.say("ann", &format!("there {n}")), b.log.say("ben", &format!("back {n}")));
        b.hears(&there).await;
        a.hears(&back).await;
    }
    let (here, there) = (a.peers.status().await.unwrap().remove(0), b.peers.status().await.unwrap().remove(0));
    assert_eq!((here.state, there.state), (State::Connected, State::Connected));
    assert!(here.asks_over_our_connection && !here.asked_over_its_connection, "{here:?}");
    assert!(there.asked_over_its_connection && !there.asks_over_our_connection, "{there:?}");

    // It is given back when it is not needed any more.
    b.restart_over(vec![Arc::new(Local::on_ports(0..=0))]).await;
    let news = a.log.say("ann", "dialled again");
    b.hears(&news).await;
    assert!(!b.peers.status().await.unwrap()[0].asked_over_its_connection);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_lent_and_broke_is_lent_anew() {
    let (mut a, mut b) = paired().await;
    b.restart_over(no_dialling()).await;
    let first = a.log.say("ann", "first");
    b.hears(&first).await;
    a.restart().await;
    let second = a.log.say("ann", "second");
    b.hears(&second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_whose_port_was_taken_listens_on_another_one_and_peers_follow() {
    let (mut a, b) = paired().await;
    let address = a.peers.address(Kind::Local).await.unwrap();
    a.peers.shutdown().await;
    let taken = TcpListener::bind(&address).await.unwrap();
    a.restart().await;
    let elsewhere = a.peers.address(Kind::Local).await.unwrap();
    assert_ne!(elsewhere, address);
    let news = a.log.say("ann", "from another port");
    b.hears(&news).await;
    assert_eq!(b.peers.list()[0].address, elsewhere);
    assert!(!b.peers.status().await.unwrap()[0].asked_over_its_connection, "it dials there");

    // It stays there, so that peers need not follow once more.
    drop(taken);
    a.restart().await;
    assert_eq!(a.peers.address(Kind::Local).await.unwrap(), elsewhere);
}

async fn over(daemon: &mut Daemon, node: &MemoryNode) {
    daemon.restart_over(vec![Arc::new(Local::on_ports(0..=0)), Arc::new(node.clone())]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_on_a_tailnet_that_listens_on_another_port_is_followed() {
    let net = MemoryTailnet::default();
    let (here, there) = (net.node("here", "ann"), net.node("there", "ann"));
    let (mut a, mut b) = (Daemon::start("alpha").await, Daemon::start("beta").await);
    over(&mut a, &here).await;
    over(&mut b, &there).await;
    a.log.register("ann");
    a.pair_over(Kind::Tailnet, &b).await;
    let before = a.peers.address(Kind::Tailnet).await.unwrap();
    a.peers.shutdown().await;
    let port: u16 = before.rsplit_once(':').unwrap().1.parse().unwrap();
    let _taken = here.listen(Some(port)).await.unwrap();
    over(&mut a, &here).await;
    let news = a.log.say("ann", "from another port");
    b.hears(&news).await;
    let address = b.peers.list()[0].address.clone();
    assert_ne!(address, before);
    assert_eq!(address.rsplit_once(':').unwrap().0, before.rsplit_once(':').unwrap().0, "the host is the node's, whatever a peer says");
}
