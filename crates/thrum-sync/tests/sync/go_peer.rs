//! A Go daemon played by the test: events that it cannot store, unreadably long events that it sends, and its later
//! versions.

use serde_json::{Value, json};
use thrum_core::limits;
use thrum_sync::{Log, legacy::peers::GoPeers, peers::Replaced, replicator::State, transport::Kind};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::{
    by_hand::{Hand, Wire},
    kit::{Daemon, PATIENCE},
    tailnet::eventually,
};

/// Accepts the daemon's persistent connection to its Go peer, up to the first pull.
async fn accept(hand: &Hand) -> Wire {
    let (stream, _) = timeout(PATIENCE, hand.listener.accept()).await.expect("it dials").unwrap();
    let mut wire = Wire(BufReader::new(stream));
    wire.expect("sync.peer_info", json!({"daemon_id": "d_hand", "name": "hand"})).await;
    wire
}

/// Pulls as the Go daemon. Returns the served ids.
async fn pull(hand: &mut Hand, after: u64) -> Vec<String> {
    pull_some(hand, after, 1000).await.0
}

/// Pulls at most `most` events. Returns the served ids and the next sequence.
async fn pull_some(hand: &mut Hand, after: u64, most: u64) -> (Vec<String>, u64) {
    let params = json!({"token": hand.token, "after_sequence": after, "max_batch": most});
    hand.to_daemon.say(&json!({"jsonrpc": "2.0", "method": "sync.pull", "params": params, "id": 2})).await;
    let reply = hand.to_daemon.hear().await;
    let id = |event: &Value| event["event_id"].as_str().unwrap().to_owned();
    let events = reply["result"]["events"].as_array().unwrap().iter().map(id).collect();
    (events, reply["result"]["next_sequence"].as_u64().unwrap())
}

/// Builds an event of an unknown type, with its fields in Go's order.
fn event(sequence: u64, text: &str) -> String {
    format!(
        r#"{{"event_id":"evt_{sequence}","sequence":{sequence},"type":"future.thing","timestamp":"2026-01-01T00:00:00Z","origin_daemon":"d_far","event_json":{{"v":1,"text":"{text}"}}}}"#
    )
}

async fn answer(wire: &mut Wire, id: &Value, events: &[String], next: u64, more: bool) -> bool {
    let events = events.join(",");
    let result = format!(r#"{{"events":[{events}],"next_sequence":{next},"more_available":{more}}}"#);
    let line = format!("{{\"jsonrpc\":\"2.0\",\"result\":{result},\"id\":{id}}}\n");
    // The daemon hangs up if a line is too long.
    wire.0.get_mut().write_all(line.as_bytes()).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_fits_into_no_answer_is_skipped_and_named_and_the_others_are_read() {
    let hand = Hand::pair().await;
    let long = |sequence| event(sequence, &"x".repeat(limits::MAX_LINE_BYTES));
    let mut asked = Vec::new();
    let mut wire = accept(&hand).await;
    // Serves as Go does: a limited number of events above the requested sequence.
    let rows = [event(3, "short"), long(7), event(9, "short, too"), long(12), long(13), event(15, "the last")];
    let numbers = [3, 7, 9, 12, 13, 15];
    loop {
        let mut line = String::new();
        if timeout(PATIENCE, wire.0.read_line(&mut line)).await.expect("a line or an end").unwrap_or(0) == 0 {
            wire = accept(&hand).await;
            continue;
        }
        let request: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(request["method"], "sync.pull", "{request}");
        let (after, most) =
            (request["params"]["after_sequence"].as_u64().unwrap(), request["params"]["max_batch"].as_u64().unwrap());
        asked.push((after, most));
        let from = numbers.iter().filter(|number| **number <= after).count();
        let upto = (from + usize::try_from(most).unwrap()).min(rows.len());
        let next = upto.checked_sub(1).filter(|_| upto > from).map_or(0, |last| numbers[last]);
        answer(&mut wire, &request["id"], &rows[from..upto], next, upto < rows.len()).await;
        if from == rows.len()
            || (upto == rows.len() && !rows[from..upto].iter().any(|row| row.len() > limits::MAX_LINE_BYTES))
        {
            break;
        }
    }
    let status = eventually(async || {
        let status = hand.daemon.peers.status().await.unwrap().remove(0);
        (hand.daemon.log.event_ids() == ["evt_3", "evt_9", "evt_15"] && status.read_by_us == 15).then_some(status)
    })
    .await;
    let last = status.details.last_rejected.expect("it is named");
    assert_eq!((status.state, status.details.rejected, last.event_id.as_str()), (State::Connected, 3, "evt_13"));
    assert!(last.reason.contains("was not read"), "{}", last.reason);
    assert!(asked.len() < 25, "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_its_journal_cannot_hold_is_not_sent_to_a_go_daemon_and_named() {
    let mut hand = Hand::pair().await;
    let mut wire = accept(&hand).await;
    wire.expect("sync.pull", json!({"events": [], "next_sequence": 0, "more_available": false})).await;
    hand.daemon.log.register("ann");
    let before = hand.daemon.log.event_ids();
    // Each takes six bytes in Go's journal.
    hand.daemon.log.say("ann", &"<".repeat(limits::LEGACY_LINE_BYTES / 6 + 1));
    let long = hand.daemon.log.event_ids().into_iter().find(|id| !before.contains(id)).unwrap();
    hand.daemon.log.say("ann", &"<".repeat(1000));
    let served = pull(&mut hand, 0).await;
    assert_eq!((served.len(), served.contains(&long)), (before.len() + 1, false));
    let status = hand.daemon.peers.status().await.unwrap().remove(0);
    let named =
        status.details.notes.iter().any(|note| note.contains("too long for the journal") && note.contains(&long));
    assert!(named, "{:?}", status.details.notes);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_go_daemon_could_not_apply_is_named_with_the_reason() {
    let mut hand = Hand::pair().await;
    let mut wire = accept(&hand).await;
    let long = "x".repeat(limits::LEGACY_AUTHOR_BYTES + 1);
    let odd = [("evt_1", "../up"), ("evt_2", long.as_str()), ("evt_3", "fine")].map(|(id, name)| {
        let event = json!({"agent_id": name, "kind": "agent", "role": "r", "module": "m", "display": "", "v": 1});
        json!({"event_id": id, "sequence": id[4..].parse::<u64>().unwrap(), "type": "agent.register",
            "timestamp": "2026-01-01T00:00:00Z", "origin_daemon": "d_far", "event_json": event})
    });
    wire.expect("sync.pull", json!({"events": odd, "next_sequence": 3, "more_available": false})).await;
    eventually(async || (hand.daemon.log.event_ids().len() == 3).then_some(())).await;
    for _ in 0..2 {
        assert_eq!(pull(&mut hand, 0).await, ["evt_3"], "the others are sent");
    }
    let notes = hand.daemon.peers.status().await.unwrap().remove(0).details.notes;
    for (id, why) in [("evt_1", "its agent's name is a path"), ("evt_2", "its agent's name is too long for a file's")] {
        assert!(
            notes.contains(&format!("1 event is not sent to the Go daemon there, because {why}: {id}")),
            "{notes:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn how_far_a_go_daemon_is_behind_is_shown_until_it_has_asked_for_all() {
    let mut hand = Hand::pair().await;
    let mut wire = accept(&hand).await;
    wire.expect("sync.pull", json!({"events": [], "next_sequence": 0, "more_available": false})).await;
    hand.daemon.log.register("ann");
    for n in 0..10 {
        hand.daemon.log.say("ann", &n.to_string());
    }
    let all = hand.daemon.log.event_ids().len() as u64;
    let (_, next) = pull_some(&mut hand, 0, 4).await;
    let status = hand.daemon.peers.status().await.unwrap().remove(0);
    assert_eq!(status.details.backlog_to_them, Some(all), "it has not asked for more yet");
    assert!(
        status.details.notes.iter().any(|note| note.contains(&format!("{all} events are not there yet"))),
        "{:?}",
        status.details.notes
    );
    let rest = pull(&mut hand, next).await.len() as u64;
    assert_eq!(rest, all - 4);
    let status = hand.daemon.peers.status().await.unwrap().remove(0);
    assert_eq!((status.details.backlog_to_them, status.details.notes), (Some(0), vec![]));
    // The peer could not apply them.
    pull(&mut hand, next).await;
    assert_eq!(hand.daemon.peers.status().await.unwrap()[0].details.backlog_to_them, Some(rest));
    let latest = hand.daemon.log.latest();
    assert_eq!(pull(&mut hand, latest).await.len(), 0);
    assert_eq!(hand.daemon.peers.status().await.unwrap()[0].details.backlog_to_them, Some(0));
}

/// The response of Go v0.7 and later to a plain line, and to any client that is not a browser.
const NEWER: &str =
    "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request";

#[tokio::test(flavor = "multi_thread")]
async fn a_later_go_daemon_is_named_when_it_is_joined_and_where_a_peer_became_one() {
    let hand = Hand::pair().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let say = async {
        for listener in [&listener, &listener, &hand.listener] {
            let (mut stream, _) = timeout(PATIENCE, listener.accept()).await.expect("it dials").unwrap();
            stream.read_u8().await.unwrap();
            stream.write_all(NEWER.as_bytes()).await.unwrap();
        }
    };
    let ask = async {
        for error in [
            hand.daemon.peers.inspect(&address).await.unwrap_err(),
            hand.daemon.peers.join_even_plainly(&address, "1234").await.unwrap_err(),
        ] {
            assert!(error.message.contains("Go Thrum v0.7 or later"), "{error:?}");
            assert!(error.hint.as_ref().is_some_and(|hint| hint.contains("thrum import")), "{error:?}");
        }
        eventually(async || {
            let status = hand.daemon.peers.status().await.unwrap().remove(0);
            status.exchange.last_error.filter(|error| error.contains("Go Thrum v0.7 or later"))
        })
        .await
    };
    let (_, why) = tokio::join!(say, ask);
    assert!(!why.contains("not a JSON object"), "{why}");
}

/// Its client displays nothing of an HTTP error.
#[tokio::test(flavor = "multi_thread")]
async fn a_later_go_daemon_that_calls_is_told_what_to_do_and_shown_here() {
    let daemon = Daemon::start("alpha").await;
    let pairing = daemon.peers.start_pairing(Kind::Local, PATIENCE).await.unwrap();
    let handshake = format!(
        "GET /ws?pairing_code=1234567890123456 HTTP/1.1\r\nHost: {}\r\nUser-Agent: Go-http-client/1.1\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n\r\n",
        pairing.address
    );
    assert_eq!(daemon.peers.newer_go(), None);
    for _ in 0..2 {
        let mut stream = TcpStream::connect(&pairing.address).await.unwrap();
        stream.write_all(handshake.as_bytes()).await.unwrap();
        let mut call = vec![0x81, 0x80 | 126, 0, 200, 0, 0, 0, 0];
        let text =
            json!({"id": 1, "jsonrpc": "2.0", "method": "pair.request", "params": {"code": pairing.code.reveal()}})
                .to_string();
        call.extend(format!("{text:200}").bytes());
        stream.write_all(&call).await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is closed").unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.starts_with("HTTP/1.1 101 ") && answer.contains(r#""id":1"#) && answer.contains("v0.5.9 to v0.6.3"),
            "{answer}"
        );
    }
    let shown = daemon.peers.newer_go().expect("it called").to_string();
    assert!(shown.contains("(2 times)") && shown.contains("thrum import"), "{shown}");
    assert_eq!(daemon.peers.list().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_of_a_later_go_daemon_is_named() {
    let daemon = Daemon::start("alpha").await;
    let error = daemon.peers.join("127.0.0.1:9", "1234567890123456").await.unwrap_err();
    assert!(error.message.contains("Go Thrum v0.7 or later"), "{error:?}");
    assert!(!daemon.peers.join("127.0.0.1:9", "12345").await.unwrap_err().message.contains("Go Thrum"));
}

/// A non-legacy daemon that was paired with the replaced Go daemon still knows this one by the old id, and signs for
/// that id.
#[tokio::test(flavor = "multi_thread")]
async fn a_rust_peer_of_the_go_daemon_that_is_replaced_goes_on_with_its_replacement() {
    let (new, peer) = (Daemon::start("alpha").await, Daemon::start("beta").await);
    let addresses = async |daemon: &Daemon| {
        let pairing = daemon.peers.start_pairing(Kind::Local, PATIENCE).await.unwrap();
        daemon.peers.cancel_pairing(pairing.session);
        pairing.address
    };
    let (at_new, at_peer) = (addresses(&new).await, addresses(&peer).await);
    let token = "5".repeat(64);
    let file = |id: &str, address: &str| {
        let entry = json!({"name": id, "address": address, "daemon_id": id, "token": token});
        GoPeers::read(&json!({"local": {"daemon_id": "d_go", "port": 9147}, "peers": [entry]}).to_string()).unwrap()
    };
    // The pairing with the Go daemon.
    let known_as = peer.id.clone();
    peer.peers.take_over(file("d_go", &at_new), Replaced { known_as, ..Replaced::default() }, false).await.unwrap();
    let taken = new
        .peers
        .take_over(file(&peer.id, &at_peer), Replaced { known_as: "d_go".into(), ..Replaced::default() }, false)
        .await
        .unwrap();
    assert_eq!(taken[0].status, "taken");
    new.log.register("ann");
    peer.log.register("bob");
    let (from_new, from_peer) = (new.log.say("ann", "from the new one"), peer.log.say("bob", "from the peer"));
    peer.hears(&from_new).await;
    new.hears(&from_peer).await;
}
