//! What `daemon.local_only` keeps from happening, on a tailnet that is played on loopback.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use thrum_core::{ErrorKind, Fault, limits};
use thrum_sync::{
    Peers,
    replicator::State,
    transport::{Caller, Conn, Kind, Listener, Pending, Transport, local::Local},
};

use crate::kit::{Daemon, PATIENCE, start_peers_over};

/// A tailnet whose addresses `100.64.0.2:PORT` are the ports of this machine. Counts who dials and listens.
#[derive(Default)]
struct Tailnet {
    dialled: AtomicU32,
    opened: AtomicU32,
}

struct Open(Box<dyn Listener>);

impl Transport for Tailnet {
    fn kind(&self) -> Kind {
        Kind::Tailnet
    }

    fn listen(&self, _: Option<u16>) -> Pending<'_, Result<Box<dyn Listener>, Fault>> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(Box::new(Open(Local::on_ports(0..=0).listen(None).await?)) as Box<dyn Listener>) })
    }

    fn dial<'a>(&'a self, address: &'a str) -> Pending<'a, Result<Conn, Fault>> {
        self.dialled.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move { Local::default().dial(&address.replace("100.64.0.2", "127.0.0.1")).await })
    }
}

impl Listener for Open {
    fn address(&self) -> String {
        self.0.address().replace("127.0.0.1", "100.64.0.2")
    }

    fn port(&self) -> u16 {
        self.0.port()
    }

    fn accept(&mut self) -> Pending<'_, io::Result<(Conn, Caller)>> {
        Box::pin(async {
            let (conn, caller) = self.0.accept().await?;
            Ok((conn, Caller { kind: Kind::Tailnet, ..caller }))
        })
    }
}

/// Starts the peers of a daemon again, with a tailnet.
async fn connect(daemon: &mut Daemon, local_only: bool) -> Arc<Tailnet> {
    daemon.peers.shutdown().await;
    let tailnet = Arc::new(Tailnet::default());
    let transports: Vec<Arc<dyn Transport>> = vec![Arc::new(Local::on_ports(0..=0)), Arc::clone(&tailnet) as Arc<dyn Transport>];
    daemon.peers =
        start_peers_over(transports, limits::ROUND, local_only, &daemon.name, &daemon.id, &daemon.log, &daemon.directory).await.unwrap();
    tailnet
}

async fn pair(showing: &Peers, joining: &Peers) {
    let pairing = showing.start_pairing(Kind::Tailnet, PATIENCE).await.unwrap();
    let (here, there) = tokio::join!(showing.wait_pairing(), joining.join(&pairing.address, pairing.code.reveal()));
    assert!(here.unwrap().syncing && there.unwrap().syncing);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_local_only_no_other_machine_is_dialled_listened_for_or_joined_and_the_peer_says_why() {
    let (mut a, mut b) = (Daemon::start("alpha").await, Daemon::start("beta").await);
    connect(&mut a, false).await;
    connect(&mut b, false).await;
    pair(&a.peers, &b.peers).await;

    let tailnet = connect(&mut a, true).await;
    let mut standing = a.peers.watch("beta").unwrap();
    let held = standing.wait_for(|status| status.last_error.as_deref().is_some_and(|error| error.contains("daemon.local_only")));
    tokio::time::timeout(PATIENCE, held).await.unwrap().unwrap();
    assert_ne!(a.peers.status().await.unwrap()[0].state, State::Connected);
    assert_eq!(a.peers.join("100.64.0.2:9100", "1234").await.unwrap_err().kind, ErrorKind::Refused);
    assert_eq!(a.peers.start_pairing(Kind::Tailnet, PATIENCE).await.err().unwrap().kind, ErrorKind::Refused);
    assert_eq!((tailnet.dialled.load(Ordering::Relaxed), tailnet.opened.load(Ordering::Relaxed)), (0, 0));
    assert!(a.peers.list()[0].name == "beta", "it stays paired");

    let c = Daemon::start("gamma").await;
    assert!(a.pair(&c).await.0.syncing, "this machine is no other machine");
}
