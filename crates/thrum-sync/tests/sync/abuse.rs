//! Abuse by a paired peer, or by any program that reaches the port: it must cost the abuser more than others, and be
//! visible.

use std::collections::VecDeque;

use serde_json::{Value, json};
use thrum_core::limits;
use thrum_sync::{replicator::State, transport::Kind};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

use crate::{
    by_hand::{Hand, Wire, nothing},
    kit::{Daemon, PATIENCE},
    tailnet::{eventually, status},
};

/// C17: ten thousand connections from strangers over real sockets. The strangers count those that are open, because a
/// closed one reads the end. Meanwhile the daemon's peers exchange events, and a new one pairs.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_connections_hold_as_many_places_as_strangers_may_and_keep_no_peer_out() {
    let (a, b, c) = (Daemon::start("alpha").await, Daemon::start("beta").await, Daemon::start("gamma").await);
    a.log.register("alpha");
    b.log.register("beta");
    a.pair(&b).await;
    let pairing = a.peers.start_pairing(Kind::Local, PATIENCE).await.unwrap();
    let (mut open, keep) = (VecDeque::new(), 4 * limits::MAX_UNAUTHENTICATED_CONNECTIONS);
    for n in 0..10_000 {
        open.push_back(TcpStream::connect(&pairing.address).await.unwrap());
        // Limits the file descriptors on our side.
        if open.len() > keep {
            open.pop_front();
        }
        if n % 2_500 == 1_000 {
            let news = a.log.say("alpha", &format!("still here {n}"));
            b.hears(&news).await;
        }
    }
    // All but the newest connections are closed, and only a few are newest.
    let closed = async {
        let old = open.len() - limits::MAX_UNAUTHENTICATED_CONNECTIONS;
        for stream in open.iter_mut().take(old) {
            assert!(!stream.read(&mut [0; 1]).await.is_ok_and(|read| read > 0));
        }
    };
    // Closed because of newer ones: their own deadline has not expired yet.
    timeout(limits::UNAUTHENTICATED_DEADLINE / 2, closed).await.expect("the old ones are closed");
    let (here, there) = tokio::join!(a.peers.wait_pairing(), c.peers.join(&pairing.address, pairing.code.reveal()));
    assert!(here.unwrap().syncing && there.unwrap().syncing);
    let news = b.log.say("beta", "and here");
    a.hears(&news).await;
}

/// C23: five thousand announcements at once without new events cause few requests, and another peer is served at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_announcements_is_answered_coalesced_and_shown() {
    let mut hand = Hand::pair().await;
    let other = Daemon::start("beta").await;
    let mut wire = hand.accept(0).await;
    let answers = tokio::spawn(async move {
        let mut pulls = 0;
        loop {
            let mut line = String::new();
            if wire.0.read_line(&mut line).await.unwrap_or(0) == 0 {
                return pulls;
            }
            let request: Value = serde_json::from_str(&line).unwrap();
            if request["method"] == "sync.pull" {
                pulls += 1;
            }
            wire.say(&json!({"jsonrpc": "2.0", "result": nothing(), "id": request["id"]})).await;
        }
    });
    hand.daemon.log.register("alpha");
    hand.daemon.pair(&other).await;
    const FLOOD: usize = 5_000;
    let notify = json!({"method": "sync.notify", "id": 1,
        "params": {"token": hand.token, "daemon_id": "d_hand", "latest_seq": 1_000_000, "event_count": 1}});
    for _ in 0..FLOOD / 100 {
        let lines = format!("{notify}\n").repeat(100);
        hand.to_daemon.0.get_mut().write_all(lines.as_bytes()).await.unwrap();
        for _ in 0..100 {
            assert_eq!(hand.to_daemon.hear().await["result"]["status"], "ok");
        }
    }
    let news = hand.daemon.log.say("alpha", "heard in all that noise");
    other.hears(&news).await;
    let shown = async || {
        let statuses = hand.daemon.peers.status().await.unwrap();
        let hand = statuses.into_iter().find(|status| status.daemon_id == "d_hand").unwrap();
        hand.exchange.last_error.filter(|error| error == "it announces again and again what it does not have")
    };
    eventually(shown).await;
    hand.daemon.peers.shutdown().await;
    let pulls = answers.await.unwrap();
    assert!(pulls < FLOOD / 5, "{pulls} questions for {FLOOD} announcements");
}

/// Returns the events of a daemon with a key as a relay serves them: `(envelope, event)`.
fn genuine(daemon: &Daemon) -> Vec<Value> {
    use thrum_sync::Log;
    let rows = daemon.log.page(0, 100, usize::MAX).unwrap().rows;
    let served = |row: &thrum_core::exchange::Row| {
        let event: Value = serde_json::from_str(&row.event_json()).unwrap();
        json!({"event_id": row.id, "sequence": row.sequence, "type": row.kind, "timestamp": event["timestamp"],
            "origin_daemon": row.origin, "event_json": event})
    };
    rows.iter().map(served).collect()
}

/// Returns all manipulations of an event that a relay can attempt. None may be stored under the author's name.
fn forgeries(genuine: &Value) -> Vec<(&'static str, Value)> {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut forged = genuine.clone();
        change(&mut forged);
        forged
    };
    vec![
        ("altered", with(&|event| event["event_json"]["body"]["content"] = json!("something else"))),
        ("an added field", with(&|event| event["event_json"]["urgent"] = json!(true))),
        ("stripped", with(&|event| drop(event["event_json"].as_object_mut().unwrap().remove("signature")))),
        ("an empty signature", with(&|event| event["event_json"]["signature"] = json!(""))),
        ("another id", with(&|event| event["event_id"] = json!("evt_another"))),
        ("another time", with(&|event| event["timestamp"] = json!("2020-01-01T00:00:00Z"))),
        ("another type", with(&|event| event["type"] = json!("message.delete"))),
        ("another number", with(&|event| event["event_json"]["origin_seq"] = json!(7))),
        ("another log", with(&|event| event["event_json"]["origin_log"] = json!("other"))),
        (
            "another daemon's key",
            with(&|event| {
                let id = thrum_core::DaemonKey::generate(&mut crate::kit::System).id();
                event["origin_daemon"] = json!(id.as_str());
            }),
        ),
    ]
}

/// Number of rejected events: one for each of the two forged ids. Repeated forgeries of one event are not counted.
const CAUGHT: u64 = 2;

/// C21: each manipulation by a relay is detected and reported with the relay's name. The genuine event is stored,
/// before the forgery, after it, and from another peer.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_changes_what_it_relays_is_caught_and_named_and_the_genuine_event_gets_in() {
    let author = Daemon::start("author").await;
    author.log.register("ann");
    let message = author.log.say("ann", "genuine");
    let events = genuine(&author);
    let [registration, said] = &events[..] else { panic!("{events:?}") };
    for genuine_first in [true, false] {
        let hand = Hand::pair().await;
        let mut wire = hand.accept(0).await;
        let (mut served, mut sequence) = (vec![registration.clone()], 1);
        let mut add = |event: &Value| {
            sequence += 1;
            let mut event = event.clone();
            event["sequence"] = json!(sequence);
            served.push(event);
        };
        let forged = forgeries(said);
        if genuine_first {
            add(said);
        }
        forged.iter().for_each(|(_, event)| add(event));
        if !genuine_first {
            add(said);
        }
        served[0]["sequence"] = json!(1);
        wire.expect(
            "sync.pull",
            json!({"events": served, "next_sequence": sequence, "more_available": false, "log_id": "log"}),
        )
        .await;
        wire.expect("sync.pull", nothing()).await;
        hand.daemon.hears(&message).await;
        let shown = status(&hand.daemon).await;
        assert_eq!((shown.name.as_str(), shown.details.rejected), ("hand", CAUGHT), "genuine first: {genuine_first}");
        let last = shown.details.last_rejected.unwrap();
        assert_eq!(last.reason, "the signature of its origin is missing or wrong");
        assert_eq!(shown.state, State::Connected, "it is shown, and read on");
        assert_eq!(hand.daemon.log.event_ids().len(), 2, "the two that are genuine");
        assert!(!hand.daemon.log.has_message("something else"));
    }

    // Forged by the hand-played peer, genuine from the author itself.
    let hand = Hand::pair().await;
    let mut wire = hand.accept(0).await;
    let mut served: Vec<Value> = forgeries(said).into_iter().map(|(_, event)| event).collect();
    // Also once without the author's name: that is another event, and does not exclude the genuine one.
    let mut unsigned = said.clone();
    unsigned["origin_daemon"] = json!("d_nobody");
    served.push(unsigned);
    for (n, event) in served.iter_mut().enumerate() {
        event["sequence"] = json!(n + 1);
    }
    wire.expect(
        "sync.pull",
        json!({"events": served, "next_sequence": served.len(), "more_available": false, "log_id": "log"}),
    )
    .await;
    wire.expect("sync.pull", nothing()).await;
    let wrote = |daemon: &Daemon| {
        daemon.log.write(|tx| Ok(tx.reader().message(&message, None)?.map(|message| message.origin))).unwrap()
    };
    assert_eq!(
        wrote(&hand.daemon).as_deref(),
        Some("d_nobody"),
        "as long as nothing else is known, and not in the author's name"
    );
    hand.daemon.pair(&author).await;
    eventually(async || (wrote(&hand.daemon).as_ref() == Some(&author.id)).then_some(())).await;
    let statuses = hand.daemon.peers.status().await.unwrap();
    let of = |name: &str| statuses.iter().find(|status| status.name == name).map(|status| status.details.rejected);
    assert_eq!((of("hand"), of("author")), (Some(CAUGHT), Some(0)), "the relay is named, and nobody else");
}

/// C20: the answer to any request is a page or an error, and the connection stays usable.
#[tokio::test(flavor = "multi_thread")]
async fn absurd_questions_get_answers_within_bounds() {
    let mut hand = Hand::pair().await;
    hand.daemon.log.register("alpha");
    for n in 0..3 {
        hand.daemon.log.say("alpha", &format!("{n}"));
    }
    let log = hand.daemon.log.commit().log.to_string();
    let wire = &mut hand.to_daemon;
    let token = json!(hand.token);
    for (params, events) in [
        (json!({"after_sequence": i64::MAX, "log_id": log}), Some(0)),
        (json!({"after_sequence": u64::MAX, "log_id": log}), None),
        (json!({"after_sequence": 1e30}), None),
        (json!({"after_sequence": -1}), None),
        (json!({"after_sequence": "0"}), None),
        (json!({"after_sequence": [0]}), None),
        (json!({"after_sequence": 0, "max_batch": 0, "log_id": log}), Some(4)),
        (json!({"after_sequence": 0, "max_batch": -5, "log_id": log}), Some(4)),
        (json!({"after_sequence": 0, "max_batch": i64::MAX, "log_id": log}), Some(4)),
        (json!({"after_sequence": 0, "max_batch": 1, "log_id": log}), Some(1)),
        (json!({"after_sequence": 3, "log_id": "x".repeat(60_000)}), Some(4)),
        (json!({"after_sequence": 3, "log_id": {}}), None),
        (json!({"after_sequence": 0, "log_id": "../../etc/passwd\u{1b}[2J"}), Some(4)),
    ] {
        let mut params = params;
        params["token"] = token.clone();
        wire.say(&json!({"method": "sync.pull", "params": params, "id": 1})).await;
        let reply = wire.hear().await;
        assert_eq!(reply["result"]["events"].as_array().map(Vec::len), events, "{params}: {reply}");
        assert_eq!(reply.get("error").is_some(), events.is_none(), "{params}: {reply}");
    }
}

/// C12: anything that is not exactly a token and a method is rejected.
#[tokio::test(flavor = "multi_thread")]
async fn no_form_of_a_token_but_the_token_and_no_form_of_a_method_but_the_method() {
    let hand = Hand::pair().await;
    let address = hand.daemon.peers.address(Kind::Local).await.unwrap();
    let good = hand.token.clone();
    let tokens = [
        Value::Null,
        json!(""),
        json!([good]),
        json!({"token": good}),
        json!(7),
        json!(true),
        json!(good.to_uppercase()),
        json!(format!(" {good}")),
        json!(format!("{good}\n")),
        json!(format!("{good}\u{0}")),
        json!(&good[..63]),
        json!(format!("{good}0")),
        json!("g".repeat(64)),
        json!("0".repeat(64)),
        json!("x".repeat(60_000)),
    ];
    let mut wire = Wire(BufReader::new(TcpStream::connect(&address).await.unwrap()));
    for method in ["sync.peer_info", "sync.pull", "sync.notify", "sync.prove", "sync.refused"] {
        for token in &tokens {
            let params = json!({"token": token, "daemon_id": "d_hand", "latest_seq": 1});
            wire.say(&json!({"method": method, "params": params, "id": 1})).await;
            let reply = wire.hear().await;
            assert!(reply.get("result").is_none() && reply["error"].is_object(), "{method} {token}: {reply}");
        }
        for variant in [
            method.to_uppercase(),
            format!(" {method}"),
            format!("{method} "),
            format!("{method}\u{0}"),
            method.replace('.', "/"),
            format!("pair.{method}"),
        ] {
            wire.say(&json!({"method": variant, "params": {"token": good}, "id": 1})).await;
            assert_eq!(wire.hear().await["error"]["code"], -32601, "{variant}");
        }
    }
    // A duplicate key does not bring back the first value.
    let doubled =
        format!("{{\"method\":\"sync.peer_info\",\"params\":{{\"token\":\"{good}\",\"token\":\"\"}},\"id\":1}}");
    wire.0.get_mut().write_all(format!("{doubled}\n").as_bytes()).await.unwrap();
    assert!(wire.hear().await.get("result").is_none());
    // The connection itself was valid all along.
    wire.say(&json!({"method": "sync.peer_info", "params": {"token": good}, "id": 1})).await;
    assert!(wire.hear().await["result"].is_object());
}
