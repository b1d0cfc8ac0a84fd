//! C28: a machine was cloned with its daemon's key, and both daemons run.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use thrum_core::Ambient;
use thrum_store::{OpenOptions, Store};
use thrum_sync::{
    Transport,
    transport::{Kind, local::Local},
};

use crate::{
    kit::{self, Daemon, StoreLog, System, World, start_peers_over},
    tailnet::{Two, Wire, eventually, listening, over, status},
};

/// Interval at which each daemon shows a sign of life.
const ROUND: Duration = Duration::from_secs(1);

/// Creates a daemon with the key, the log and the peers of one that is not running.
async fn clone_of(original: &Daemon, transports: Vec<Arc<dyn Transport>>) -> Daemon {
    let directory = kit::directory();
    for entry in std::fs::read_dir(original.directory.path()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), directory.path().join(entry.file_name())).unwrap();
    }
    let key = original.log.key.get().unwrap().clone();
    let world = World::new(System.random_u64());
    world.nanos.store(System.now().nanos(), Ordering::Relaxed);
    let left = original.log.read(|store| Ok(store.fingerprint())).unwrap();
    let store =
        Store::open(&directory.path().join("messages.db"), OpenOptions::new(key.clone(), Some(left)), Box::new(world))
            .unwrap();
    let log = StoreLog::new(store);
    log.key.set(key).unwrap();
    let peers =
        start_peers_over(transports, ROUND, false, &original.name, &original.id, &log, &directory).await.unwrap();
    Daemon { name: original.name.clone(), id: original.id.clone(), log, peers, directory }
}

async fn address(daemon: &Daemon) -> String {
    daemon.peers.address(Kind::Local).await.unwrap()
}

/// Waits until this peer tells a daemon that another one with its key is at this address. The port is known once that
/// daemon has reported it or was dialled there.
async fn is_told(daemon: &Daemon, by: &str, address: &str) {
    let told =
        async || daemon.peers.others_with_our_key().pop().filter(|(peer, seen)| peer == by && seen.address == address);
    eventually(told).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c28_a_clone_is_said_by_the_peer_and_by_both_daemons_and_nothing_that_they_write_is_lost() {
    let (mut a, mut b) = (Daemon::start("wren").await, Daemon::start("robin").await);
    a.log.register("ann");
    b.log.register("ben");
    a.pair(&b).await;
    let before = b.log.say("ben", "before the copy");
    a.hears(&before).await;
    a.restart_with_sync_interval(ROUND).await;
    b.peers.shutdown().await;
    let c = clone_of(&b, vec![Arc::new(Local::on_ports(0..=0))]).await;
    assert_eq!((&c.id, c.log.commit().log), (&b.id, b.log.commit().log), "nothing there tells the two apart");
    b.restart_with_sync_interval(ROUND).await;

    let (of_b, of_c) = (address(&b).await, address(&c).await);
    is_told(&b, "wren", &of_c).await;
    is_told(&c, "wren", &of_b).await;
    let mut places: Vec<String> = status(&a).await.details.same_key.into_iter().map(|seen| seen.address).collect();
    places.sort();
    let mut expected = vec![of_b, of_c];
    expected.sort();
    assert_eq!(places, expected);
    assert!(status(&a).await.details.notes[0].contains("Two daemons run with its key"));
    assert_eq!(kit::logs().matches("two daemons run with the key of a peer peer=robin").count(), 1, "once");
    assert_eq!(kit::logs().matches("another daemon runs with this daemon's key seen_by=wren").count(), 2, "once each");

    // At first both write under one log id, with the same origin sequences.
    let said = [b.log.say("ben", "from the original"), c.log.say("ben", "from the clone"), a.log.say("ann", "to both")];
    for daemon in [&a, &b, &c] {
        for message in &said {
            daemon.hears(message).await;
        }
    }
    assert!(
        a.peers.others_with_our_key().is_empty() && status(&b).await.details.same_key.is_empty(),
        "of the peer nothing is said"
    );
}

/// C28: on a tailnet each of them is on its own node. At first, their peer must assume that the daemon has moved.
#[tokio::test(flavor = "multi_thread")]
async fn c28_a_clone_on_another_node_is_said_with_the_nodes_and_both_are_heard() {
    let mut two = Two::paired().await;
    two.a.peers.shutdown().await;
    two.a.peers = start_peers_over(over(&two.here), ROUND, false, "alpha", &two.a.id, &two.a.log, &two.a.directory)
        .await
        .unwrap();
    two.b.peers.shutdown().await;
    let elsewhere = two.net.node("tower", "ben");
    let c = clone_of(&two.b, over(&elsewhere)).await;
    two.b.peers = start_peers_over(over(&two.there), ROUND, false, "beta", &two.b.id, &two.b.log, &two.b.directory)
        .await
        .unwrap();
    let both = eventually(async || Some(status(&two.a).await.details.same_key).filter(|both| both.len() == 2)).await;
    let nodes: Vec<_> = both.iter().map(|seen| seen.node.clone().unwrap()).collect();
    assert!(nodes.contains(&two.there.node()) && nodes.contains(&elsewhere.node()), "{nodes:?}");
    is_told(&two.b, "alpha", &listening(&c).await).await;
    is_told(&c, "alpha", &listening(&two.b).await).await;
    let said = [
        two.b.log.say("beta", "from the original"),
        c.log.say("beta", "from the clone"),
        two.a.log.say("alpha", "to both"),
    ];
    for daemon in [&two.a, &two.b, &c] {
        for message in &said {
            daemon.hears(message).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_is_no_clone() {
    let (a, mut b) = (Daemon::start("alpha").await, Daemon::start("beta").await);
    b.log.register("ben");
    a.pair(&b).await;
    for n in 0..6 {
        b.restart().await;
        let news = b.log.say("ben", &format!("restarted {n}"));
        a.hears(&news).await;
    }
    assert_eq!(status(&a).await.details.same_key, []);
    assert!(b.peers.others_with_our_key().is_empty());
}

/// A peer of an earlier version sends no instance. A peer that sends an arbitrary one affects only itself.
#[tokio::test(flavor = "multi_thread")]
async fn processes_count_only_on_connections_with_a_proven_key() {
    let two = Two::paired().await;
    let token = two.b.peers.list()[0].token.clone().unwrap();
    let ask =
        async |wire: &mut Wire| wire.ask("sync.peer_info", json!({"token": token.reveal()})).await["result"].clone();
    let as_process = async |instance: Value| {
        let mut wire = Wire::dial(&two.there, &listening(&two.a).await).await;
        wire.prove_as(instance, &two.b, &two.a).await;
        assert!(ask(&mut wire).await["same_key"].is_null());
        wire
    };
    two.b.peers.shutdown().await;
    for instance in [Value::Null, json!(7), json!("not hexadecimal"), json!("a".repeat(33))] {
        let (mut one, mut other) = (as_process(instance.clone()).await, as_process(instance).await);
        for _ in 0..3 {
            assert!(ask(&mut one).await["same_key"].is_null() && ask(&mut other).await["same_key"].is_null());
        }
    }
    // Without a proof.
    let mut stranger = Wire::dial(&two.there, &listening(&two.a).await).await;
    stranger.ask("sync.hello", json!({"challenge": "0".repeat(64), "daemon_id": two.b.id, "instance": "0e"})).await;
    assert_eq!(status(&two.a).await.details.same_key, []);

    let (mut one, mut other) = (as_process(json!("0a")).await, as_process(json!("0b")).await);
    for wire in [&mut one, &mut other] {
        // The evidence of a request dates from the previous reply, so one request is not enough.
        ask(wire).await;
    }
    ask(&mut one).await;
    let told = ask(&mut other).await["same_key"].clone();
    assert_eq!(told["node"]["name"], two.there.node().name.as_str(), "{told}");
    assert!(told["ago_ms"].is_u64() && told["address"].is_string(), "{told}");
    assert_eq!(status(&two.a).await.details.same_key.len(), 2);
}
