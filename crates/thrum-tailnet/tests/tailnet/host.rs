//! Tests of the machine's node: its changes of state, and its callers.

use std::{io, sync::Arc};

use thrum_core::ErrorKind;
use thrum_sync::{
    Transport,
    transport::{Condition, Kind, Listener, local::Local},
};
use thrum_tailnet::{Mode, State, Tailnet, localapi::LocalApi};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixListener},
    sync::Semaphore,
};

use crate::{
    config,
    fake::{Node, World},
    soon, until, when,
};

/// A machine with a running node, and a transport that uses it.
struct Machine {
    dir: tempfile::TempDir,
    world: World,
    node: Node,
    tailnet: Tailnet,
}

impl Machine {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = World::default();
        let node = Node::start(&world, &dir.path().join("host.sock"), "one", "100.64.0.1");
        let tailnet = Tailnet::new(config(Mode::Auto, dir.path()));
        tailnet.start();
        until(&tailnet, State::Running).await;
        Self { dir, world, node, tailnet }
    }

    /// Starts another node and opens a connection from it to our listener.
    async fn called_by_another(
        &self,
        listener: &dyn Listener,
    ) -> (Node, Tailnet, thrum_sync::transport::Conn, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(&self.world, &dir.path().join("host.sock"), "two", "100.64.0.2");
        let other = Tailnet::new(config(Mode::Host, dir.path()));
        other.start();
        until(&other, State::Running).await;
        let conn = other.dial(&listener.address()).await.unwrap();
        (node, other, conn, dir)
    }
}

async fn ends(listener: &mut dyn Listener) {
    let end = soon("the listener ends", listener.accept()).await.err().map(|error| error.kind());
    assert_eq!(end, Some(io::ErrorKind::NotConnected));
}

#[tokio::test]
async fn everything_that_happens_to_the_machines_tailscale_is_told_and_recovers_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let tailnet = Tailnet::new(config(Mode::Auto, dir.path()));
    tailnet.start();
    let status = until(&tailnet, State::NotRunning).await;
    assert_eq!(
        (status.mode, status.why.as_str()),
        (Some(Mode::Host), "no auth key and no earlier login for a node of its own")
    );
    assert!(status.hint.unwrap().contains("THRUM_TS_AUTHKEY"));
    assert!(matches!(*tailnet.condition().borrow(), Condition::Down(_)));
    let error = tailnet.listen(None).await.err().unwrap();
    assert!(error.kind == ErrorKind::Unavailable && error.hint.is_some(), "{error}");

    let (world, socket) = (World::default(), dir.path().join("host.sock"));
    let node = Node::start(&world, &socket, "one", "100.64.0.1");
    let status = until(&tailnet, State::Running).await;
    assert_eq!(status.dns_name.as_deref(), Some("one.tail.test"));
    assert_eq!(status.user.as_deref(), Some("one@example.org"));
    let mut listener = tailnet.listen(None).await.unwrap();
    let port = listener.port();
    assert_eq!(listener.address(), format!("100.64.0.1:{port}"));

    node.changes(|status| status["BackendState"] = "Stopped".into());
    ends(&mut *listener).await;
    drop(listener);
    assert!(until(&tailnet, State::Stopped).await.sentence.unwrap().contains("stopped"));
    node.changes(|status| status["BackendState"] = "Running".into());
    until(&tailnet, State::Running).await;

    let mut listener = tailnet.listen(Some(port)).await.unwrap();
    node.gets_address("100.64.0.7");
    ends(&mut *listener).await;
    drop(listener);
    let mut listener = tailnet.listen(Some(port)).await.unwrap();
    assert_eq!(listener.address(), format!("100.64.0.7:{port}"), "the port is kept");

    drop(node);
    ends(&mut *listener).await;
    until(&tailnet, State::NotRunning).await;
    let node = Node::start(&world, &socket, "one", "100.64.0.7");
    until(&tailnet, State::Running).await;
    node.forbids(true);
    node.changes(|_| ());
    assert!(until(&tailnet, State::NotPermitted).await.sentence.unwrap().ends_with("access denied"));
    node.forbids(false);
    until(&tailnet, State::Running).await;
    tailnet.stop().await;
    assert_eq!(until(&tailnet, State::Off).await.addresses, Vec::<std::net::IpAddr>::new());
}

#[tokio::test]
async fn it_does_nothing_until_it_is_enabled() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(&World::default(), &dir.path().join("host.sock"), "one", "100.64.0.1");
    let tailnet = Tailnet::new(thrum_tailnet::Config { enabled: false, ..config(Mode::Auto, dir.path()) });
    tailnet.start();
    assert_eq!(*tailnet.condition().borrow(), Condition::Off);
    assert_eq!(tailnet.dial("100.64.0.2:1").await.err().unwrap().message, "the tailnet is not enabled");
    assert!(node.requests().is_empty());
    assert_eq!(tailnet.status().borrow().state, State::Off);
    tailnet.enable();
    assert_eq!(tailnet.status().borrow().state, State::Starting, "before anybody was asked");
    tailnet.enable();
    until(&tailnet, State::Running).await;
    let watched = node.requests().iter().filter(|(line, _)| line.contains("watch-ipn-bus")).count();
    assert_eq!(watched, 1, "enabled once");
    tailnet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_tailscaled_that_never_answers_is_told_and_holds_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let _silent = UnixListener::bind(dir.path().join("host.sock")).unwrap();
    let tailnet = Tailnet::new(config(Mode::Host, dir.path()));
    assert_eq!(tailnet.status().borrow().state, State::Starting);
    tailnet.start();
    let status = until(&tailnet, State::NotRunning).await;
    assert!(status.sentence.unwrap().ends_with("tailscaled does not answer"));
    tailnet.stop().await;
}

#[tokio::test]
async fn a_program_of_this_machine_is_turned_away_and_counted() {
    let machine = Machine::new().await;
    let mut listener = machine.tailnet.listen(None).await.unwrap();
    let mut stranger = TcpStream::connect(("127.0.0.1", listener.port())).await.unwrap();
    // A program that connects through the node's own address is identified, as the node itself.
    let api = LocalApi::new(machine.dir.path().join("host.sock"));
    let mut itself = api.dial(listener.address().parse().unwrap()).await.unwrap();
    let (_node, _other, mut conn, _dir) = machine.called_by_another(&*listener).await;
    let (mut called, caller) = soon("the node is accepted", listener.accept()).await.unwrap();
    assert_eq!(caller.node.unwrap().name, "two");
    assert!(caller.address.starts_with("100.64.0.2:"), "{}", caller.address);
    conn.write_all(b"x").await.unwrap();
    assert_eq!(called.read_u8().await.unwrap(), b'x');
    let accepting = async {
        let never = listener.accept().await;
        unreachable!("{:?}", never.map(|(_, caller)| caller));
    };
    tokio::select! {
        () = accepting => {}
        status = when(&machine.tailnet, |status| status.refused.count == 2) => assert!(status.refused.last.is_some()),
    }
    assert!(matches!(soon("it is closed", stranger.read(&mut [0; 1])).await, Ok(0) | Err(_)));
    assert!(matches!(soon("it is closed, too", itself.read(&mut [0; 1])).await, Ok(0) | Err(_)));
    machine.tailnet.stop().await;
}

#[tokio::test]
async fn one_slow_answer_about_a_caller_keeps_nobody_else_waiting() {
    let machine = Machine::new().await;
    let mut listener = machine.tailnet.listen(None).await.unwrap();
    let (_node, other, first, _dir) = machine.called_by_another(&*listener).await;
    // One answer for two lookups: the second one waits for ever.
    let permits = Arc::new(Semaphore::new(1));
    machine.node.tells_callers_by(&permits);
    let _second = other.dial(&listener.address()).await.unwrap();
    let (_, caller) = soon("one of them is accepted", listener.accept()).await.unwrap();
    assert_eq!(caller.node.unwrap().name, "two");
    permits.add_permits(1);
    soon("and then the other", listener.accept()).await.unwrap();
    drop(first);
    machine.tailnet.stop().await;
}

/// Collects the first byte of every accepted connection until this many callers were refused.
async fn accepted_until_refused(tailnet: &Tailnet, listener: &mut dyn Listener, refused: u64) -> Vec<u8> {
    let mut accepted = Vec::new();
    let accepting = async {
        loop {
            let (mut conn, caller) = listener.accept().await.unwrap();
            assert_eq!((caller.kind, caller.node), (Kind::Local, None));
            accepted.push(conn.read_u8().await.unwrap());
        }
    };
    tokio::select! {
        () = accepting => {}
        _ = when(tailnet, |status| status.refused.count == refused) => {}
    }
    accepted
}

/// A userspace node forwards connections to every loopback port.
#[tokio::test]
async fn the_local_port_is_for_programs_of_this_machine_and_for_no_node() {
    let machine = Machine::new().await;
    let mut local = Local::on_ports(0..=0).guarded(Arc::new(machine.tailnet.clone())).listen(None).await.unwrap();
    let (_node, other, _, _dir) = machine.called_by_another(&*machine.tailnet.listen(None).await.unwrap()).await;
    let address = format!("100.64.0.1:{}", local.port());

    let mut stays = other.dial(&address).await.unwrap();
    stays.write_all(b"1").await.unwrap();
    assert_eq!(accepted_until_refused(&machine.tailnet, &mut *local, 1).await, b"", "a node");
    assert!(matches!(soon("it is closed", stays.read(&mut [0; 1])).await, Ok(0) | Err(_)));

    let mut leaves = other.dial(&address).await.unwrap();
    leaves.write_all(b"2").await.unwrap();
    drop((leaves, stays));
    soon("the node has forgotten its callers", machine.world.all_have_hung_up()).await;
    assert_eq!(
        accepted_until_refused(&machine.tailnet, &mut *local, 2).await,
        b"",
        "a node that left what it had to say"
    );

    // Lookups do not wait for each other: both are requested before either is answered.
    let asked = || {
        machine
            .node
            .requests()
            .iter()
            .filter(|(line, _)| line.contains("whois") && line.contains("addr=127.0.0.1"))
            .count()
    };
    let asked_before = asked();
    let permits = Arc::new(Semaphore::new(0));
    machine.node.tells_callers_by(&permits);
    let mut node = other.dial(&address).await.unwrap();
    node.write_all(b"3").await.unwrap();
    let mut program = TcpStream::connect(("127.0.0.1", local.port())).await.unwrap();
    program.write_all(b"4").await.unwrap();
    let both_are_asked_about = async {
        while asked() < asked_before + 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = local.accept() => unreachable!("nobody was told about"),
        () = soon("both are asked about", both_are_asked_about) => {}
    }
    assert_eq!(machine.tailnet.status().borrow().refused.count, 2, "and neither was given up");
    permits.add_permits(2);
    let (mut conn, _) = soon("a program of this machine is accepted", local.accept()).await.unwrap();
    assert_eq!(conn.read_u8().await.unwrap(), b'4');
    accepted_until_refused(&machine.tailnet, &mut *local, 3).await;
    machine.tailnet.stop().await;
}

#[tokio::test]
async fn who_cannot_be_told_is_turned_away_from_the_local_port_while_the_node_is_up_and_only_then() {
    let machine = Machine::new().await;
    let mut local = Local::on_ports(0..=0).guarded(Arc::new(machine.tailnet.clone())).listen(None).await.unwrap();
    let port = local.port();
    let call = async || TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let _programs = [call().await, call().await];
    machine.node.forbids(true);
    assert_eq!(accepted_until_refused(&machine.tailnet, &mut *local, 2).await, b"");
    machine.node.changes(|_| ());
    until(&machine.tailnet, State::NotPermitted).await;
    let _program = call().await;
    soon("accepted while the node is down", local.accept()).await.unwrap();
    machine.tailnet.stop().await;
    let _program = call().await;
    soon("accepted when there is no node", local.accept()).await.unwrap();
}

#[tokio::test]
async fn names_addresses_neighbours_and_paths_are_the_tailnets() {
    let machine = Machine::new().await;
    let _two = Node::start(&machine.world, &machine.dir.path().join("two.sock"), "two", "100.64.0.2");
    let node = machine.tailnet.node_at("two:9100").await.unwrap().unwrap();
    assert_eq!((node.id.as_str(), node.name.as_str(), node.user.as_str()), ("id-two", "two", "two@example.org"));
    for address in ["100.64.0.2", "100.64.0.2:9100", "two", "TWO.tail.test.", "two.tail.test:1"] {
        assert_eq!(machine.tailnet.node_at(address).await.unwrap().as_ref(), Some(&node), "{address}");
    }
    for (address, kind) in
        [("three", ErrorKind::NotFound), ("100.64.9.9:1", ErrorKind::NotFound), ("10.0.0.1:1", ErrorKind::Invalid)]
    {
        assert_eq!(machine.tailnet.node_at(address).await.unwrap_err().kind, kind, "{address}");
    }
    let neighbours = machine.tailnet.neighbours().await.unwrap();
    assert_eq!(neighbours.len(), 1);
    assert_eq!((&neighbours[0].node, neighbours[0].host.as_str(), neighbours[0].online), (&node, "100.64.0.2", true));
    assert_eq!(neighbours[0].full_name, "two.tail.test");
    let path = machine.tailnet.path("two:9100").await.unwrap().unwrap();
    assert_eq!((path.relay, path.round_trip.as_micros()), (None, 1027));
    assert_eq!(machine.tailnet.path("one").await.unwrap(), None, "there is no way to oneself");
    machine.tailnet.stop().await;
}
