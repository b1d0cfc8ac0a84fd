//! A daemon that stops on purpose tells its peers (`sync.goodbye`), which show that until they hear of it again.

use serde_json::{Value, json};
use thrum_sync::replicator::State;
use tokio::{io::AsyncBufReadExt, time::timeout};

use crate::{
    by_hand::{Hand, Wire, nothing},
    kit::{Daemon, PATIENCE},
    tailnet::{status, until},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_stops_is_shown_as_stopped_until_it_is_back() {
    let (mut a, b) = (Daemon::start("alpha").await, Daemon::start("beta").await);
    a.pair(&b).await;
    until(&a, "beta", |status| status.state == State::Connected).await;
    a.peers.shutdown().await;
    until(&b, "alpha", |status| status.shown().0 == State::Stopped).await;
    let shown = status(&b).await;
    assert_eq!((shown.state, b.peers.reach()[0].1), (State::Stopped, State::Stopped));
    assert!(shown.exchange.next_attempt.is_some(), "it is dialled as before");
    a.restart().await;
    until(&b, "alpha", |status| status.shown().0 == State::Connected && status.stopped.is_none()).await;
}

/// Connects a daemon to a peer that describes itself like this, and stops the daemon. The peer answers nothing more.
/// Returns the lines that it still got.
async fn heard_at_the_end(info: Value) -> (Vec<Value>, String) {
    let hand = Hand::pair().await;
    let (stream, _) = timeout(PATIENCE, hand.listener.accept()).await.expect("it dials").unwrap();
    let mut wire = Wire(tokio::io::BufReader::new(stream));
    let is_legacy = info["log_id"].is_null();
    wire.expect("sync.peer_info", info).await;
    let mut pulled = nothing();
    if is_legacy {
        pulled.as_object_mut().unwrap().remove("log_id");
    }
    wire.expect("sync.pull", pulled).await;
    let mut daemon = hand.daemon.peers.watch("hand").unwrap();
    timeout(PATIENCE, daemon.wait_for(|status| status.ends > 0)).await.expect("all is read").unwrap();
    timeout(PATIENCE, hand.daemon.peers.shutdown()).await.expect("a silent peer does not keep it");
    let (mut lines, mut line) = (Vec::new(), String::new());
    while timeout(PATIENCE, wire.0.read_line(&mut line)).await.expect("an end").is_ok_and(|read| read > 0) {
        lines.push(serde_json::from_str(&line).unwrap());
        line.clear();
    }
    (lines, hand.token)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_announces_it_gets_one_goodbye() {
    let info = json!({"daemon_id": "d_hand", "log_id": "log", "latest": 0, "protocols": ["lines-1", "goodbye-1"]});
    let (lines, token) = heard_at_the_end(info).await;
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!(
        (&line["method"], &line["params"]),
        (&json!("sync.goodbye"), &json!({"reason": "stopping", "token": token}))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_peer_and_one_that_does_not_announce_it_get_none() {
    for info in [
        json!({"daemon_id": "d_hand", "name": "hand"}),
        json!({"daemon_id": "d_hand", "name": "hand", "protocols": ["goodbye-1"]}),
        json!({"daemon_id": "d_hand", "log_id": "log", "latest": 0, "protocols": ["lines-1", "ahead-1"]}),
    ] {
        assert_eq!(heard_at_the_end(info.clone()).await.0, Vec::<Value>::new(), "{info}");
    }
}

/// C23: a goodbye needs the token, any number of them is one record, whatever reason they give, and the next
/// request takes it back.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_goodbyes_is_one_record_that_the_next_request_takes_back() {
    let Hand { daemon, listener, mut to_daemon, token } = Hand::pair().await;
    drop(listener);
    until(&daemon, "hand", |status| status.state == State::Unreachable).await;
    let goodbye = |token: &str, reason: Value| json!({"method": "sync.goodbye", "id": 1, "params": {"token": token, "reason": reason}});
    to_daemon.say(&goodbye("wrong", json!("stopping"))).await;
    assert_eq!(to_daemon.hear().await["error"]["message"], "unauthorized: unknown peer token");
    assert_eq!(status(&daemon).await.state, State::Unreachable);

    to_daemon.say(&goodbye(&token, json!("stopping"))).await;
    assert_eq!(to_daemon.hear().await["result"], json!({"status": "ok"}));
    until(&daemon, "hand", |status| status.shown().0 == State::Stopped).await;
    let since = status(&daemon).await.since;
    for reason in [json!("\u{1b}[2J"), json!("x".repeat(10_000)), json!(7), Value::Null].iter().cycle().take(200) {
        to_daemon.say(&goodbye(&token, reason.clone())).await;
        assert_eq!(to_daemon.hear().await["result"]["status"], "ok");
    }
    let shown = status(&daemon).await;
    assert_eq!((shown.state, shown.since), (State::Stopped, since));

    to_daemon.say(&json!({"method": "sync.peer_info", "params": {"token": token}, "id": 2})).await;
    assert_eq!(to_daemon.hear().await["result"]["daemon_id"], daemon.id.as_str());
    until(&daemon, "hand", |status| status.stopped.is_none()).await;
    assert_ne!(status(&daemon).await.state, State::Stopped);
}
