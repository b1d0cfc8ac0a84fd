//! Daemons that find and join each other on a tailnet, and strangers that interfere.

use serde_json::{Value, json};
use thrum_core::{ErrorKind, limits};
use thrum_sync::{
    peers::Waited,
    transport::{
        Kind, Transport,
        memory::{MemoryNode, MemoryTailnet},
    },
};
use tokio::time::sleep;

use crate::{
    kit::{Daemon, PATIENCE},
    tailnet::{Wire, daemon, listening, over},
};

fn wrong(code: &str) -> String {
    format!("{:04}", (code.parse::<u32>().unwrap() + 1) % 10_000)
}

/// C2, C1: the stranger is excluded and the joiner is not; the operator sees both; the total number of guesses is
/// bounded.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_codes_lock_out_only_the_guessing_node_and_are_bounded_in_total() {
    let net = MemoryTailnet::default();
    let nodes: Vec<_> =
        ["desk", "laptop", "cafe", "bar", "pub"].map(|name| net.node(name, &format!("{name}@x"))).into();
    let (a, b) = (daemon("alpha", &nodes[0]).await, daemon("beta", &nodes[1]).await);
    let guess = async |node: &MemoryNode, address: &str, code: &str| {
        let params = json!({"code": code, "daemon_id": "d_stranger", "name": "x", "address": ""});
        let reply = Wire::dial(node, address).await.ask("pair.request", params).await;
        reply["error"]["message"].as_str().unwrap_or("right").to_owned()
    };
    let pairing = a.peers.start_pairing(Kind::Tailnet, PATIENCE).await.unwrap();
    let (to, code) = (pairing.address.clone(), pairing.code.reveal().to_owned());
    for left in [2, 1, 0] {
        assert_eq!(
            guess(&nodes[2], &to, &wrong(&code)).await,
            format!("invalid pairing code ({left} attempt{} remaining)", if left == 1 { "" } else { "s" })
        );
    }
    assert_eq!(guess(&nodes[2], &to, &code).await, "too many failed attempts", "also with the right one");
    let Waited::Tried(tried) = a.peers.wait_pairing_or_attempt(1).await.unwrap() else { panic!("nobody joined") };
    let shown: Vec<_> = tried.iter().map(|one| (one.who(), one.left)).collect();
    assert_eq!(
        shown,
        [("cafe (cafe@x)".to_owned(), 2), ("cafe (cafe@x)".to_owned(), 1), ("cafe (cafe@x)".to_owned(), 0)]
    );
    let (here, there) = tokio::join!(a.peers.wait_pairing_or_attempt(3), b.peers.join(&to, &code));
    assert!(matches!(here.unwrap(), Waited::Joined(joined) if joined.syncing) && there.unwrap().syncing);

    let pairing = a.peers.start_pairing(Kind::Tailnet, PATIENCE).await.unwrap();
    let code = pairing.code.reveal().to_owned();
    for node in [3, 3, 3, 4, 4, 4] {
        assert!(guess(&nodes[node], &to, &wrong(&code)).await.starts_with("invalid pairing code ("));
    }
    assert!(guess(&nodes[2], &to, &wrong(&code)).await.ends_with("(2 attempts remaining)"), "the tenth of all");
    let refused = guess(&nodes[1], &to, &code).await;
    assert!(
        refused.starts_with("too many failed attempts; pairing from there is possible again at 20"),
        "for everybody: {refused}"
    );
    let ended = a.peers.wait_pairing().await.unwrap_err();
    assert_eq!(ended.kind, ErrorKind::Refused);
    assert!(
        ended.message.contains("locked until") && ended.message.ends_with("the last from cafe (cafe@x)"),
        "{ended}"
    );
    assert!(a.peers.start_pairing(Kind::Tailnet, PATIENCE).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_joined_by_its_name_and_where_somebody_waits_there() {
    let net = MemoryTailnet::default();
    let (here, there) = (net.node("desk.tail1.ts.net", "ann"), net.node("laptop", "ben"));
    // Two repositories on one machine; the second one waits.
    let (first, second, b) =
        (daemon("first", &here).await, daemon("second", &here).await, daemon("beta", &there).await);
    assert_ne!(listening(&first).await, listening(&second).await);
    let pairing = second.peers.start_pairing(Kind::Tailnet, PATIENCE).await.unwrap();
    let (waited, joined) = tokio::join!(second.peers.wait_pairing(), b.peers.join("Desk", pairing.code.reveal()));
    assert_eq!((waited.unwrap().peer_name.as_str(), joined.unwrap().peer_name.as_str()), ("beta", "second"));
    assert_eq!(b.peers.list()[0].address, listening(&second).await, "the address is stored, not the name");

    let before = net.dialled().len();
    for (nowhere, kind) in [
        ("nowhere", ErrorKind::NotFound),
        ("192.168.0.1:9100", ErrorKind::Invalid),
        ("100.64.0.99", ErrorKind::NotFound),
        ("desk.evil.example:9100", ErrorKind::NotFound),
    ] {
        let error = b.peers.join(nowhere, "1234").await.unwrap_err();
        assert_eq!((error.kind, error.hint.is_some()), (kind, true), "{nowhere}");
    }
    let to_nobody = net
        .dialled()
        .into_iter()
        .skip(before)
        .filter(|(by, to)| *by == there.node().id && *to != listening_now(&second))
        .count();
    assert_eq!(to_nobody, 0, "no code was sent");
}

/// A code is sent only to an unambiguous target.
#[tokio::test(flavor = "multi_thread")]
async fn no_code_is_sent_to_an_ambiguous_or_partial_name() {
    let net = MemoryTailnet::default();
    let (here, there) = (net.node("build.theirs.ts.net", "mallory"), net.node("laptop.mine.ts.net", "ben"));
    let (first, second, b) =
        (daemon("first", &here).await, daemon("second", &here).await, daemon("beta", &there).await);
    let one = first.peers.start_pairing(Kind::Tailnet, PATIENCE).await.unwrap();
    let other = second.peers.start_pairing(Kind::Tailnet, PATIENCE).await.unwrap();

    let error = b.peers.join("build", one.code.reveal()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    for shown in [format!("first at {}", one.address), format!("second at {}", other.address)] {
        assert!(error.message.contains(&shown), "{error}");
    }
    assert!(error.hint.is_some());

    let before = net.dialled().len();
    let error = b.peers.join("build.mine.ts.net", one.code.reveal()).await.unwrap_err();
    assert_eq!((error.kind, net.dialled().len()), (ErrorKind::NotFound, before));
    let to = format!("BUILD.theirs.ts.net.:{}", one.address.rsplit_once(':').unwrap().1);
    assert_eq!(b.peers.join(&to, one.code.reveal()).await.unwrap().peer_name, "first", "no code was wrong");
}

fn listening_now(daemon: &Daemon) -> String {
    let registry = std::fs::read_to_string(daemon.directory.path().join("peers.json")).unwrap();
    let registry: Value = serde_json::from_str(&registry).unwrap();
    format!("100.64.0.1:{}", registry["local"]["tailnet_port"])
}

#[tokio::test(flavor = "multi_thread")]
async fn only_daemons_that_wait_to_be_joined_are_found() {
    let net = MemoryTailnet::default();
    let nodes: Vec<_> = ["desk", "laptop", "tower", "off"].map(|name| net.node(name, "ann")).into();
    let (a, b) = (daemon("alpha", &nodes[0]).await, daemon("beta", &nodes[1]).await);
    let (_idle, asleep) = (daemon("idle", &nodes[2]).await, daemon("asleep", &nodes[3]).await);
    let (pairing, _hidden) = (
        a.peers.start_pairing(Kind::Tailnet, PATIENCE).await.unwrap(),
        asleep.peers.start_pairing(Kind::Tailnet, PATIENCE).await.unwrap(),
    );
    nodes[3].set_online(false);
    let found = b.peers.waiting().await.unwrap();
    assert_eq!((found.asked, found.not_asked, found.daemons.len()), (2, 0, 1));
    let one = &found.daemons[0];
    assert_eq!((one.name.as_str(), &one.address, &one.node), ("alpha", &pairing.address, &Some(nodes[0].node())));
    // A probe needs no token and reveals nothing more.
    let reply = Wire::dial(&nodes[1], &pairing.address).await.ask("pair.probe", json!({})).await;
    let keys: Vec<_> = reply["result"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["daemon_id", "name", "pairing", "protocols", "version", "waiting"]);
    a.peers.cancel_pairing(pairing.session);
    assert!(b.peers.waiting().await.unwrap().daemons.is_empty());
}

/// Holds for any number of nodes, whether they accept the connection and stay silent, or do not even refuse it. Time is
/// virtual.
#[tokio::test(start_paused = true)]
async fn the_search_for_waiting_daemons_is_bounded() {
    for deaf in [true, false] {
        let net = MemoryTailnet::default();
        let here = net.node("desk", "ann");
        let mut open = Vec::new();
        for n in 0..limits::PROBED_NODES + 6 {
            let node = net.node(&format!("node{n:03}"), "ann");
            node.set_deaf(deaf);
            open.push(node.listen(Some(*limits::PORTS.start())).await.unwrap());
        }
        let a = Daemon::start_over("alpha", over(&here)).await;
        let started = tokio::time::Instant::now();
        let (found, at_once) = tokio::join!(a.peers.waiting(), async {
            sleep(limits::PROBE / 2).await;
            net.dialled().len()
        });
        let found = found.unwrap();
        assert!(started.elapsed() <= limits::PROBE_ALL, "{:?}", started.elapsed());
        assert_eq!((found.daemons.len(), found.asked, found.not_asked), (0, limits::PROBED_NODES, 6));
        assert_eq!(at_once, limits::PROBES);
    }
}

/// Every port that a daemon may use is probed, even if another machine does not even refuse a connection. Time is
/// virtual.
#[tokio::test(start_paused = true)]
async fn a_waiting_daemon_is_found_on_the_last_port_beside_silent_machines() {
    let net = MemoryTailnet::default();
    let (here, there, asker) = (net.node("desk", "ann"), net.node("laptop", "ben"), net.node("tower", "ann"));
    for n in 0..limits::PROBED_NODES - 3 {
        net.node(&format!("phone{n:03}"), "ann").set_deaf(true);
    }
    let mut taken = Vec::new();
    for port in *limits::PORTS.start()..*limits::PORTS.end() {
        taken.push(there.listen(Some(port)).await.unwrap());
    }
    let (first, last, b) = (daemon("first", &here).await, daemon("last", &there).await, daemon("beta", &asker).await);
    let mut expected = Vec::new();
    for waiting in [&first, &last] {
        expected.push(waiting.peers.start_pairing(Kind::Tailnet, PATIENCE).await.unwrap().address);
    }
    assert!(expected[1].ends_with(&limits::PORTS.end().to_string()), "{expected:?}");
    drop(taken);
    let found = b.peers.waiting().await.unwrap();
    assert_eq!(found.daemons.into_iter().map(|one| one.address).collect::<Vec<_>>(), expected);
}

/// C9: the new peer is about to store its token. A daemon that dialled it at once would be told that it is unknown.
/// Time is virtual.
#[tokio::test(start_paused = true)]
async fn after_a_pairing_the_new_peer_has_a_second_to_speak_first() {
    let net = MemoryTailnet::default();
    let (here, there) = (net.node("desk", "ann"), net.node("laptop", "ben"));
    let a = daemon("alpha", &here).await;
    let mut theirs = there.listen(None).await.unwrap();
    let pairing = a.peers.start_pairing(Kind::Tailnet, PATIENCE).await.unwrap();
    let mut wire = Wire::dial(&there, &pairing.address).await;
    let params =
        json!({"code": pairing.code.reveal(), "daemon_id": "d_hand", "name": "hand", "address": theirs.address()});
    assert!(wire.ask("pair.request", params).await["result"]["token"].is_string());
    let paired = tokio::time::Instant::now();
    theirs.accept().await.unwrap();
    assert!(paired.elapsed() >= limits::BACKOFF_FIRST, "{:?}", paired.elapsed());
}
