//! Mail flows even if only one side can dial, and a peer's new port is followed.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use thrum_core::{Error, ErrorKind, exchange::Batch, limits};
use thrum_sync::{
    Log, Transport,
    peers::Verdict,
    replicator::State,
    transport::{
        Conn, Kind, Listener, Pending,
        local::Local,
        memory::{MemoryNode, MemoryTailnet},
    },
};
use tokio::net::TcpListener;

use crate::{
    kit::{Daemon, PATIENCE},
    tailnet::{Two, eventually, until},
};

/// Loopback on which nothing can be dialled from here until it is opened, like a firewall that blocks outgoing
/// connections.
struct NoDialling(Local, Arc<AtomicBool>);

impl Transport for NoDialling {
    fn kind(&self) -> Kind {
        Kind::Local
    }

    fn listen(&self, port: Option<u16>) -> Pending<'_, Result<Box<dyn Listener>, Error>> {
        self.0.listen(port)
    }

    fn dial<'a>(&'a self, address: &'a str) -> Pending<'a, Result<Conn, Error>> {
        if self.1.load(Ordering::Relaxed) {
            return self.0.dial(address);
        }
        Box::pin(async { Err(Error::new(ErrorKind::Unavailable, "a firewall")) })
    }
}

fn no_dialling() -> Vec<Arc<dyn Transport>> {
    no_dialling_until(&Arc::default())
}

fn no_dialling_until(opened: &Arc<AtomicBool>) -> Vec<Arc<dyn Transport>> {
    vec![Arc::new(NoDialling(Local::on_ports(0..=0), Arc::clone(opened)))]
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
    assert!(here.details.asks_over_our_connection && !here.details.asked_over_its_connection, "{here:?}");
    assert!(there.details.asked_over_its_connection && !there.details.asks_over_our_connection, "{there:?}");

    // It is given back when it is no longer needed.
    b.restart_over(vec![Arc::new(Local::on_ports(0..=0))]).await;
    let news = a.log.say("ann", "dialled again");
    b.hears(&news).await;
    assert!(!b.peers.status().await.unwrap()[0].details.asked_over_its_connection);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_cannot_dial_says_goodbye_over_the_connection_that_the_peer_lends() {
    let (a, mut b) = paired().await;
    b.restart_over(no_dialling()).await;
    until(&b, "alpha", |status| status.state == State::Connected).await;
    b.peers.shutdown().await;
    until(&a, "beta", |status| status.shown().0 == State::Stopped).await;
}

/// As after a peer was away for some seconds: it was unreachable when it was dialled, and calls when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_lent_is_given_back_when_the_peer_can_be_dialled_again() {
    let (a, mut b) = paired().await;
    let opened = Arc::default();
    b.restart_over(no_dialling_until(&opened)).await;
    let lent = a.log.say("ann", "over the connection that was lent");
    b.hears(&lent).await;
    assert!(b.peers.status().await.unwrap()[0].details.asked_over_its_connection);
    opened.store(true, Ordering::Relaxed);
    eventually(async || {
        let (here, there) = (a.peers.status().await.unwrap().remove(0), b.peers.status().await.unwrap().remove(0));
        (!here.details.asks_over_our_connection && !there.details.asked_over_its_connection).then_some(())
    })
    .await;
    let (there, back) = (a.log.say("ann", "over another one"), b.log.say("ben", "back"));
    b.hears(&there).await;
    a.hears(&back).await;
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
    // The mail may have arrived over a lent connection, before the new port was dialled.
    let dials = async || {
        let is_lent = b.peers.status().await.unwrap()[0].details.asked_over_its_connection;
        (!is_lent && b.peers.list()[0].address == elsewhere).then_some(())
    };
    eventually(dials).await;

    // It keeps that port, so that peers need not follow again.
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
    assert_eq!(
        address.rsplit_once(':').unwrap().0,
        before.rsplit_once(':').unwrap().0,
        "the host is the node's, whatever a peer says"
    );
}

/// A daemon that cannot dial its peer, while only the peer has an event below the checkpoint.
#[tokio::test(flavor = "multi_thread")]
async fn a_ping_and_a_comparison_go_over_the_connection_that_the_peer_lends() {
    let (a, mut b) = paired().await;
    let first = a.log.say("ann", "first");
    b.hears(&first).await;
    a.agrees().await;
    // The checkpoint claims that the event was read, so no pull fetches it.
    b.peers.shutdown().await;
    let missed = a.log.say("ann", "missed");
    let upto = a.log.latest();
    let (peer, log) = (a.id.clone(), a.log.id().to_string());
    let (checkpoint_event, events, rejected) = (String::new(), Vec::new(), Vec::new());
    b.log.apply(Batch { peer, log, checkpoint: upto, checkpoint_event, events, rejected }).unwrap();
    b.restart_over(no_dialling()).await;
    until(&b, "alpha", |status| status.state == State::Connected).await;

    let pinged = b.peers.ping("alpha").await.unwrap();
    assert!(pinged.asked_over_its_connection && pinged.round_trip_us > 0, "{pinged:?}");
    assert!(!a.peers.ping("beta").await.unwrap().asked_over_its_connection);
    assert!(!b.log.has_message(&missed));
    let verified = b.peers.verify(PATIENCE).await.unwrap();
    assert_eq!((verified.status, verified.fetched), (Verdict::Equal, 1), "{verified:?}");
    assert!(b.log.has_message(&missed));
    // The replicator's own requests continue meanwhile.
    let later = a.log.say("ann", "later");
    b.hears(&later).await;
}

/// As when the `tailscaled` of a machine is killed: open connections carry nothing any more, without an end. The clock
/// is the runtime's.
#[tokio::test(start_paused = true)]
async fn a_connection_that_died_without_an_end_is_replaced_before_a_pull_would_be_given_up() {
    let two = Two::paired().await;
    let id = two.a.log.say("alpha", "while it works");
    two.b.hears(&id).await;
    // With the paused clock, this continues once all tasks are idle, before the next periodic pull.
    tokio::time::sleep(limits::CONNECTION_QUIET).await;
    two.there.freeze();
    let id = two.a.log.say("alpha", "after it died");
    let waited = tokio::time::Instant::now();
    two.b.hears(&id).await;
    assert!(waited.elapsed() < limits::PULL, "{:?}", waited.elapsed());
}
