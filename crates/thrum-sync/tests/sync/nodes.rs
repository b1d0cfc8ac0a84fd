//! Daemons on a tailnet: identifying callers, restricting tokens to nodes, and nodes that move, vanish and return.

use serde_json::{Value, json};
use thrum_core::{DaemonKey, Error, ErrorKind, limits};
use thrum_sync::{
    replicator::State,
    transport::{
        Condition, Kind, Transport,
        memory::{MemoryNode, MemoryTailnet},
    },
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    time::timeout,
};

use crate::{
    kit::{self, Daemon, PATIENCE, System},
    tailnet::{Two, UNKNOWN, Wire, daemon, eventually, fails_with, listening, over, status, told_of, until},
};

/// C11: the token alone is useless on another node, with another key, or with a replayed answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_token_brings_nothing_and_is_reported() {
    let two = Two::paired().await;
    let thief = two.net.node("cafe", "mallory");
    let (token, to) = (two.b.peers.list()[0].token.clone().unwrap(), listening(&two.a).await);
    let token = token.reveal();
    let key = two.b.log.key.get().unwrap();

    let mut wire = Wire::dial(&thief, &to).await;
    let mut challenges = Vec::new();
    for (method, params) in
        [("sync.peer_info", json!({"token": token})), ("sync.pull", json!({"token": token, "after_sequence": 0}))]
    {
        let reply = wire.ask(method, params).await;
        assert!(reply.get("result").is_none(), "{reply}");
        assert_eq!(
            (&reply["error"]["data"]["kind"], &reply["error"]["data"]["retryable"]),
            (&json!("prove"), &json!(true))
        );
        challenges.push(reply["error"]["data"]["challenge"].as_str().unwrap().to_owned());
    }
    assert_ne!(challenges[0], challenges[1], "each is fresh");
    let prove = |signature: String| json!({"token": token, "daemon_id": two.b.id, "signature": signature});
    // The earlier challenge is no longer valid, even though the right key answers it.
    assert_eq!(wire.ask("sync.prove", prove(key.prove(&challenges[0], &two.a.id))).await["error"]["message"], UNKNOWN);
    // The wrong answer has also used up the later challenge.
    assert_eq!(wire.ask("sync.prove", prove(key.prove(&challenges[1], &two.a.id))).await["error"]["message"], UNKNOWN);

    let challenge = |reply: Value| reply["error"]["data"]["challenge"].as_str().unwrap().to_owned();
    let asked = challenge(wire.ask("sync.peer_info", json!({"token": token})).await);
    let other = DaemonKey::generate(&mut System);
    assert_eq!(
        wire.ask("sync.prove", prove(other.prove(&asked, &two.a.id))).await["error"]["message"],
        UNKNOWN,
        "another's key"
    );
    let asked = challenge(wire.ask("sync.peer_info", json!({"token": token})).await);
    let mut second = Wire::dial(&thief, &to).await;
    let elsewhere = second.ask("sync.prove", prove(key.prove(&asked, &two.a.id))).await;
    assert_eq!(elsewhere["error"]["message"], UNKNOWN, "a challenge belongs to its connection");
    let wrong_way = wire.ask("sync.prove", prove(key.prove(&asked, "d_other"))).await;
    assert_eq!(wrong_way["error"]["message"], UNKNOWN, "an answer to another daemon");

    let shown = status(&two.a).await;
    let refused = shown.details.refused.expect("shown");
    assert_eq!((&refused.node, refused.times), (&thief.node(), 3), "as often as it failed");
    assert_eq!(
        (shown.details.node, shown.details.moved, shown.state),
        (Some(two.there.node()), None, State::Connected),
        "the peer itself is not concerned"
    );
    assert!(
        kit::logs()
            .contains("refused a token that was used from another node than its peer's peer=beta node=cafe (mallory)")
    );
    assert_eq!(told_of(&two.b).await, (thief.node(), 1), "its owner hears of it, once a minute");
    let news = two.a.log.say("alpha", "still here");
    two.b.hears(&news).await;
}

/// C11: a caller that does not even attempt a proof is reported when it hangs up.
#[tokio::test(flavor = "multi_thread")]
async fn token_misuse_is_reported_even_if_the_caller_falls_silent() {
    let two = Two::paired().await;
    let thief = two.net.node("cafe", "mallory");
    let token = two.b.peers.list()[0].token.clone().unwrap();
    let mut wire = Wire::dial(&thief, &listening(&two.a).await).await;
    assert!(wire.ask("sync.pull", json!({"token": token.reveal()})).await["error"].is_object());
    drop(wire);
    assert_eq!(told_of(&two.b).await, (thief.node(), 1));
}

/// C11: a complete daemon with a copied registry and a key of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_with_a_copied_registry_is_refused_and_both_sides_say_so() {
    let mut two = Two::paired().await;
    let thief = two.net.node("cafe", "mallory");
    two.b.peers.shutdown().await;
    let mut copy = daemon("gamma", &thief).await;
    copy.peers.shutdown().await;
    std::fs::copy(two.b.directory.path().join("peers.json"), copy.directory.path().join("peers.json")).unwrap();
    copy.restart_over(over(&thief)).await;
    let name = copy.peers.list()[0].name.clone();
    until(&copy, &name, |status| status.state == State::RemovedUs).await;
    assert_eq!(status(&two.a).await.details.refused.map(|stray| stray.node), Some(thief.node()));
    assert_eq!(copy.log.event_ids().len(), 1, "its own, and nothing that was served");
    two.b.restart_over(over(&two.there)).await;
    two.a.agrees().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_proves_its_key_from_another_node_has_moved_there() {
    let mut two = Two::paired().await;
    let new = two.net.node("tower", "ben");
    two.b.restart_over(over(&new)).await;
    // The peer calls, is challenged, and proves its identity. Then it is dialled at its new place.
    let news = two.a.log.say("alpha", "where are you?");
    two.b.hears(&news).await;
    let back = two.b.log.say("beta", "here");
    two.a.hears(&back).await;
    two.a.agrees().await;
    let shown = status(&two.a).await;
    let moved = shown.details.moved.expect("shown");
    assert_eq!((moved.from, moved.to), (two.there.node(), new.node()));
    assert_eq!((shown.details.node, shown.details.refused), (Some(new.node()), None));
    assert_eq!(shown.address, listening(&two.b).await);
    assert!(
        status(&two.b).await.details.refused_there.is_none()
            && !kit::logs().lines().any(|line| line.contains("refused a token") && line.contains("node=tower (ben)")),
        "no false alarm"
    );
    two.a.restart_over(over(&two.here)).await;
    assert_eq!(status(&two.a).await.details.moved.map(|moved| moved.to), Some(new.node()), "durably");
    // The old node is a stranger now.
    let token = two.b.peers.list()[0].token.clone().unwrap();
    let mut wire = Wire::dial(&two.there, &listening(&two.a).await).await;
    assert_eq!(wire.ask("sync.peer_info", json!({"token": token.reveal()})).await["error"]["data"]["kind"], "prove");
}

/// C11: Go Thrum listens on one node and dials from another.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_without_key_calls_from_one_other_node_and_from_no_third() {
    let net = MemoryTailnet::default();
    let (here, box1, tsnet, third) =
        (net.node("desk", "ann"), net.node("box", "ben"), net.node("box-1", "ben"), net.node("cafe", "mallory"));
    let a = daemon("alpha", &here).await;
    let mut go = tsnet.listen(None).await.unwrap();
    let pairing = a.peers.start_pairing(Kind::Tailnet, PATIENCE).await.unwrap();
    let mut wire = Wire::dial(&box1, &pairing.address).await;
    let params = json!({"code": pairing.code.reveal(), "daemon_id": "d_47fkcmt93fcz", "name": "go", "address": format!("{}:9100", tsnet.host())});
    let token = wire.ask("pair.request", params).await["result"]["token"].as_str().unwrap().to_owned();
    let asks = async |node: &MemoryNode| {
        Wire::dial(node, &pairing.address).await.ask("sync.peer_info", json!({"token": token})).await
    };
    assert!(asks(&box1).await["result"].is_object());
    let answers = async {
        let mut wire = BufReader::new(go.accept().await.unwrap().0);
        let mut line = String::new();
        wire.read_line(&mut line).await.unwrap();
        let id = serde_json::from_str::<Value>(&line).unwrap()["id"].clone();
        let reply = json!({"jsonrpc": "2.0", "result": {"daemon_id": "d_47fkcmt93fcz", "name": "go"}, "id": id});
        wire.write_all(format!("{reply}\n").as_bytes()).await.unwrap();
        eventually(async || status(&a).await.details.node).await
    };
    assert_eq!(answers.await, tsnet.node(), "the one that was dialled was learnt");
    let reply = asks(&third).await;
    assert_eq!(
        (&reply["error"]["message"], reply["error"].get("data")),
        (&json!(UNKNOWN), None),
        "as an unknown token, to the letter"
    );
    assert!(asks(&tsnet).await["result"].is_object(), "where it listens it is, too");
    let shown = status(&a).await;
    assert_eq!((shown.details.calls_from, shown.details.node), (Some(box1.node()), Some(tsnet.node())));
    assert_eq!(shown.details.refused.map(|stray| stray.node), Some(third.node()));
}

/// C17
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_opens_connections_without_end_closes_its_own_and_keeps_nobody_out() {
    let two = Two::paired().await;
    let (to, token) = (listening(&two.a).await, two.b.peers.list()[0].token.clone().unwrap());
    let mut open = Vec::new();
    for _ in 0..limits::MAX_PEER_CONNECTIONS {
        let mut wire = Wire::dial(&two.there, &to).await;
        wire.prove(&two.b, &two.a).await;
        open.push(wire);
    }
    let other = two.net.node("cafe", "carl");
    assert!(Wire::dial(&other, &to).await.ask("pair.probe", json!({})).await["result"].is_object());
    let mut newest = open.pop().unwrap();
    assert!(newest.ask("sync.peer_info", json!({"token": token.reveal()})).await["result"].is_object());
    let mut rest = Vec::new();
    let ended = timeout(PATIENCE, open[0].0.read_to_end(&mut rest)).await.expect("closed");
    assert!(ended.is_err() || rest.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn announcements_under_another_id_are_logged_once_a_minute() {
    let two = Two::paired().await;
    let token = two.b.peers.list()[0].token.clone().unwrap();
    let mut wire = Wire::dial(&two.there, &listening(&two.a).await).await;
    wire.prove(&two.b, &two.a).await;
    let notify = json!({"token": token.reveal(), "daemon_id": "d_never_heard_of", "latest_seq": 1, "event_count": 1});
    for _ in 0..20 {
        assert!(wire.ask("sync.notify", notify.clone()).await["result"].is_object());
    }
    assert_eq!(kit::logs().matches("sync.notify: unknown peer d_never_heard_of").count(), 1);
}

/// An entry written by Go, or older than the recording of nodes.
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_without_node_learns_it_once_and_then_keeps_to_it() {
    let mut two = Two::paired().await;
    for (daemon, node) in [(&mut two.a, &two.here), (&mut two.b, &two.there)] {
        daemon.peers.shutdown().await;
        let file = daemon.directory.path().join("peers.json");
        let mut registry: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        registry["peers"][0].as_object_mut().unwrap().remove("node").expect("it was bound");
        std::fs::write(&file, registry.to_string()).unwrap();
        daemon.restart_over(over(node)).await;
    }
    two.a.agrees().await;
    assert_eq!(status(&two.a).await.details.node, Some(two.there.node()));
    assert_eq!(status(&two.b).await.details.node, Some(two.here.node()));
    let thief = two.net.node("cafe", "mallory");
    let token = two.b.peers.list()[0].token.clone().unwrap();
    let mut wire = Wire::dial(&thief, &listening(&two.a).await).await;
    assert!(wire.ask("sync.peer_info", json!({"token": token.reveal()})).await["error"].is_object());
}

/// As after an import, when the address belongs to another node by now.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_where_another_daemon_answers_is_not_learnt() {
    let mut two = Two::paired().await;
    two.a.peers.shutdown().await;
    two.b.peers.shutdown().await;
    let stranger = two.net.node("cafe", "mallory");
    let gamma = daemon("gamma", &stranger).await;
    let file = two.a.directory.path().join("peers.json");
    let mut registry: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    registry["peers"][0].as_object_mut().unwrap().remove("node").expect("it was bound");
    registry["peers"][0]["address"] = json!(listening(&gamma).await);
    std::fs::write(&file, registry.to_string()).unwrap();
    two.a.restart_over(over(&two.here)).await;
    until(&two.a, "beta", fails_with("does not prove to be beta")).await;
    assert_eq!(status(&two.a).await.details.node, None, "nothing was proven");
    assert!(two.a.peers.ping("beta").await.is_err());
    assert_eq!(status(&two.a).await.details.node, None, "nor now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_address_is_followed_and_its_new_owner_gets_no_token() {
    let two = Two::paired().await;
    let old = listening(&two.b).await;
    two.a.peers.shutdown().await;
    let before = two.net.dialled().len();
    two.there.move_to("100.64.0.88");
    let squatter = two.net.node("cafe", "mallory");
    squatter.move_to(old.split(':').next().unwrap());
    let _open = squatter.listen(Some(9100)).await.unwrap();
    let mut two = two;
    two.a.restart_over(over(&two.here)).await;
    let news = two.a.log.say("alpha", "found you");
    two.b.hears(&news).await;
    two.a.agrees().await;
    let moved = listening(&two.b).await;
    assert!(moved.starts_with("100.64.0.88:"), "its own listener has followed, too: {moved}");
    assert!(two.dialled_by(&two.here, before).iter().all(|address| *address == moved), "{:?}", two.net.dialled());
    assert_eq!(two.a.peers.list()[0].address, moved, "it is kept");
    assert!(kit::logs().contains(&format!("[pairing] beta is at {moved} now, and not at {old} any more")));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_to_an_address_whose_node_is_gone() {
    let mut two = Two::paired().await;
    let address = listening(&two.b).await;
    two.a.peers.shutdown().await;
    two.b.peers.shutdown().await;
    two.there.delete();
    let squatter = two.net.node("cafe", "mallory");
    squatter.move_to(address.split(':').next().unwrap());
    let _open = squatter.listen(Some(9100)).await.unwrap();
    let before = two.net.dialled().len();
    two.a.restart_over(over(&two.here)).await;
    until(
        &two.a,
        "beta",
        fails_with("its node laptop (ben) is not on this tailnet, and 100.64.0.2:9100 belongs to cafe (mallory)"),
    )
    .await;
    assert_eq!(two.dialled_by(&two.here, before), [""; 0]);
}

/// C8
#[tokio::test(flavor = "multi_thread")]
async fn a_joiner_that_gives_another_nodes_address_is_called_on_its_own_node() {
    let net = MemoryTailnet::default();
    let (here, joiner, victim) = (net.node("desk", "ann"), net.node("laptop", "ben"), net.node("db", "ann"));
    let a = daemon("alpha", &here).await;
    let _victim = victim.listen(Some(9100)).await.unwrap();
    let _joiner = joiner.listen(Some(9100)).await.unwrap();
    let pairing = a.peers.start_pairing(Kind::Tailnet, PATIENCE).await.unwrap();
    let id = DaemonKey::generate(&mut System).id().to_string();
    for address in [format!("{}:9100", victim.host()), "127.0.0.1:9100".into(), "192.168.0.1:9100".into()] {
        let before = net.dialled().len();
        let pairing = match address.starts_with("100.") {
            true => &pairing,
            false => &a.peers.start_pairing(Kind::Tailnet, PATIENCE).await.unwrap(),
        };
        let mut wire = Wire::dial(&joiner, &pairing.address).await;
        let params = json!({"code": pairing.code.reveal(), "daemon_id": id, "name": "beta", "address": address});
        assert!(
            wire.ask("pair.request", params).await["result"].is_object(),
            "a pairing that never worked is replaced"
        );
        let own = format!("{}:9100", joiner.host());
        eventually(async || (a.peers.list()[0].address == own).then_some(())).await;
        let by_us: Vec<_> =
            net.dialled().into_iter().skip(before).filter(|(by, _)| *by == here.node().id).map(|(_, to)| to).collect();
        assert!(by_us.iter().all(|to| *to == own), "{by_us:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tailnet_that_is_not_up_delays_nothing_and_says_why_until_it_is() {
    let mut two = Two::paired().await;
    let port = listening(&two.a).await.rsplit_once(':').unwrap().1.to_owned();
    let why = Error::new(ErrorKind::Unavailable, "Tailscale is stopped on this machine").hint("Run `tailscale up`.");
    two.here.set(Condition::Down(why.clone()));
    until(&two.a, "beta", fails_with("Tailscale is stopped on this machine (Run `tailscale up`)")).await;
    let refused = two.a.peers.start_pairing(Kind::Tailnet, PATIENCE).await.err().unwrap();
    assert_eq!(refused, why);
    two.a.peers.shutdown().await;
    two.a.restart_over(over(&two.here)).await;
    assert_eq!(
        (two.a.peers.address(Kind::Tailnet).await, two.a.peers.condition(Kind::Tailnet)),
        (None, Some(Condition::Down(why)))
    );

    two.here.set(Condition::Up);
    let news = two.b.log.say("beta", "good morning");
    two.a.hears(&news).await;
    two.b.agrees().await;
    assert_eq!(listening(&two.a).await, format!("{}:{port}", two.here.host()), "on the port that it had");
    two.here.set(Condition::Off);
    until(&two.a, "beta", fails_with("the tailnet is not enabled")).await;
    assert_eq!(two.a.peers.listen_error().await, None, "nobody asked for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pairing_waits_for_a_tailnet_that_is_starting() {
    let net = MemoryTailnet::default();
    let here = net.node("desk", "ann");
    here.set(Condition::Starting("visit https://login.example/a/1".into()));
    let a = Daemon::start_over("alpha", over(&here)).await;
    let (started, ()) = tokio::join!(a.peers.start_pairing(Kind::Tailnet, PATIENCE), async { here.set(Condition::Up) });
    assert!(started.unwrap().address.starts_with("100.64.0.1:"));
}

#[tokio::test(start_paused = true)]
async fn a_tailnet_that_does_not_come_up_ends_the_wait_with_its_own_sentence() {
    let net = MemoryTailnet::default();
    let here = net.node("desk", "ann");
    here.set(Condition::Starting("visit https://login.example/a/1".into()));
    let a = Daemon::start_over("alpha", over(&here)).await;
    let error = a.peers.start_pairing(Kind::Tailnet, PATIENCE).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::TryAgain);
    assert!(error.message.contains("visit https://login.example/a/1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tailnet_port_that_a_go_thrum_knows_and_another_has_is_shown_and_never_changed() {
    let net = MemoryTailnet::default();
    let here = net.node("desk", "ann");
    let mut a = daemon("alpha", &here).await;
    let address = listening(&a).await;
    let port = address.rsplit_once(':').unwrap().1.parse().unwrap();
    a.peers.shutdown().await;
    a.knows_a_go_thrum(Kind::Tailnet);
    let thief = here.listen(Some(port)).await.unwrap();
    a.restart_over(over(&here)).await;
    let error = eventually(async || a.peers.listen_error().await).await;
    assert!(error.message.contains(&address), "{error}");
    assert_eq!(a.peers.start_pairing(Kind::Tailnet, PATIENCE).await.err().unwrap(), error);
    drop(thief);
    assert_eq!(a.peers.start_pairing(Kind::Tailnet, PATIENCE).await.unwrap().address, address);
}

/// C11: a caller unknown to the tailnet gets no reply at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_node_is_hung_up_on() {
    let two = Two::paired().await;
    let stranger = two.net.node("?", "");
    stranger.hide();
    let mut conn = stranger.dial(&listening(&two.a).await).await.unwrap();
    let token = two.b.peers.list()[0].token.clone().unwrap();
    let request = json!({"method": "sync.peer_info", "params": {"token": token.reveal()}, "id": 1});
    // The connection may already be closed.
    let _ = conn.write_all(format!("{request}\n").as_bytes()).await;
    let mut heard = Vec::new();
    let _ = timeout(PATIENCE, conn.read_to_end(&mut heard)).await.expect("closed");
    assert!(heard.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ping_says_how_a_peer_is_reached_and_a_silent_peer_why_it_is_not() {
    let two = Two::paired().await;
    two.a.agrees().await;
    two.there.set_relay(Some("fra"));
    let pinged = two.a.peers.ping("beta").await.unwrap();
    assert_eq!((pinged.name.as_str(), &pinged.daemon_id, &pinged.node), ("beta", &two.b.id, &Some(two.there.node())));
    assert_eq!(pinged.path.as_ref().map(|path| (path.relay.as_deref(), path.round_trip_us)), Some((Some("fra"), 1000)));
    assert_eq!((pinged.version.as_deref(), pinged.our_version.as_str()), (Some("0.1.0"), "0.1.0"));
    assert_eq!((pinged.backlog_from_them, pinged.backlog_to_them), (Some(0), Some(0)));
    assert!(pinged.clock_offset_ms.is_some_and(|offset| offset.abs() < 60_000));
    two.there.set_relay(None);
    assert_eq!(two.a.peers.ping("beta").await.unwrap().path.map(|path| path.relay), Some(None), "measured anew");

    two.b.peers.shutdown().await;
    let error = two.a.peers.ping("beta").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::TryAgain);
    assert!(error.message.starts_with("beta does not answer: nobody answers at 100.64.0.2:"), "{error}");
    assert_eq!(two.a.peers.ping("nobody").await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_shows_the_way_that_was_looked_at_when_the_peer_was_connected() {
    let two = Two::paired().await;
    let path = eventually(async || status(&two.a).await.details.path).await;
    assert_eq!((path.relay, path.round_trip_us), (None, 1000));
}
