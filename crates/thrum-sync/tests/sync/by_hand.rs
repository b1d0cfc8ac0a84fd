//! A daemon with a peer played by the test: the messages on its persistent connection, line by line.

use serde_json::{Value, json};
use thrum_sync::{Log, legacy::peers::GoPeers, peers::Replaced, replicator::State, transport::Kind};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::kit::{self, Daemon, PATIENCE};

/// A connection that carries lines.
pub struct Wire(pub BufReader<TcpStream>);

impl Wire {
    pub async fn say(&mut self, line: &Value) {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    pub async fn hear(&mut self) -> Value {
        let mut line = String::new();
        timeout(PATIENCE, self.0.read_line(&mut line)).await.expect("a line").unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Reads the next request, which must be of this method, and answers it.
    pub async fn expect(&mut self, method: &str, result: Value) -> Value {
        let request = self.hear().await;
        assert_eq!(request["method"], method, "{request}");
        self.say(&json!({"jsonrpc": "2.0", "result": result, "id": request["id"]})).await;
        request["params"].clone()
    }
}

/// The peer `d_hand`, which is paired with a daemon and played by the test.
pub struct Hand {
    pub daemon: Daemon,
    pub listener: TcpListener,
    /// The peer's connection to the daemon.
    pub to_daemon: Wire,
    pub token: String,
}

impl Hand {
    pub async fn pair() -> Self {
        let daemon = Daemon::start("alpha").await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pairing = daemon.peers.start_pairing(Kind::Local, PATIENCE).await.unwrap();
        let mut to_daemon = Wire(BufReader::new(TcpStream::connect(&pairing.address).await.unwrap()));
        let address = listener.local_addr().unwrap().to_string();
        let params = json!({"code": pairing.code.reveal(), "daemon_id": "d_hand", "name": "hand", "address": address});
        to_daemon.say(&json!({"method": "pair.request", "params": params, "id": 1})).await;
        let token = to_daemon.hear().await["result"]["token"].as_str().unwrap().to_owned();
        Self { daemon, listener, to_daemon, token }
    }

    /// Accepts the daemon's persistent connection to its peer, up to the first pull. The peer's highest sequence is
    /// `latest`.
    pub async fn accept(&self, latest: u64) -> Wire {
        let (stream, _) = timeout(PATIENCE, self.listener.accept()).await.expect("it dials").unwrap();
        let mut wire = Wire(BufReader::new(stream));
        let params = wire
            .expect("sync.peer_info", json!({"daemon_id": "d_hand", "name": "hand", "log_id": "log", "latest": latest}))
            .await;
        assert_eq!(params["token"], self.token.as_str());
        wire
    }
}

pub fn nothing() -> Value {
    json!({"events": [], "next_sequence": 0, "more_available": false, "log_id": "log"})
}

fn event(sequence: u64, event_json: &Value) -> Value {
    json!({"event_id": format!("evt_{sequence}"), "sequence": sequence, "type": "future.thing", "timestamp": "2026-01-01T00:00:00Z",
        "origin_daemon": "d_far", "event_json": event_json})
}

/// I5: the bad event is counted, the good one is stored, the checkpoint moves, and nothing is echoed.
#[tokio::test(flavor = "multi_thread")]
async fn events_from_a_peer_are_acknowledged_and_not_announced_to_it() {
    let hand = Hand::pair().await;
    let mut wire = hand.accept(8).await;
    let events = [event(7, &json!("no object")), event(8, &json!({"v": 1}))];
    let first = wire
        .expect("sync.pull", json!({"events": events, "next_sequence": 8, "more_available": false, "log_id": "log"}))
        .await;
    assert_eq!((&first["after_sequence"], &first["log_id"]), (&json!(0), &json!("log")));
    let second = wire.expect("sync.pull", nothing()).await;
    assert_eq!(second["after_sequence"], 8, "no notify came before it");
    assert_eq!(hand.daemon.log.event_ids(), ["evt_8"]);
    let status = &hand.daemon.peers.status().await.unwrap()[0];
    assert_eq!((status.details.rejected, status.read_by_us, status.state), (1, 8, State::Connected));
    hand.daemon.log.register("ann");
    let notify = wire.expect("sync.notify", json!({"status": "ok"})).await;
    assert_eq!(
        (&notify["daemon_id"], &notify["latest_seq"]),
        (&json!(hand.daemon.id), &json!(hand.daemon.log.latest()))
    );
}

/// C23
#[tokio::test(flavor = "multi_thread")]
async fn a_notify_makes_the_daemon_pull_over_its_kept_connection() {
    let mut hand = Hand::pair().await;
    let mut wire = hand.accept(0).await;
    wire.expect("sync.pull", nothing()).await;
    let notify = |id: &str| json!({"method": "sync.notify", "params": {"token": hand.token, "daemon_id": id, "latest_seq": 1}, "id": 2});
    let (others, own) = (notify("d_somebody"), notify("d_hand"));
    hand.to_daemon.say(&others).await;
    assert_eq!(hand.to_daemon.hear().await["result"]["status"], "ok");
    hand.to_daemon.say(&own).await;
    assert_eq!(hand.to_daemon.hear().await["result"]["status"], "ok");
    let news =
        json!({"events": [event(1, &json!({"v": 1}))], "next_sequence": 1, "more_available": false, "log_id": "log"});
    wire.expect("sync.pull", news).await;
    wire.expect("sync.pull", nothing()).await;
    let mut status = hand.daemon.peers.watch("hand").unwrap();
    timeout(PATIENCE, status.wait_for(|status| status.ends == 2)).await.expect("it is read to its end").unwrap();
    assert!(kit::logs().contains("sync.notify: synced from d_hand — applied=1 skipped=0"), "the page's line");
}

/// C10: a removed peer is cut off in both directions without any further message.
#[tokio::test(flavor = "multi_thread")]
async fn removal_closes_open_connections_at_once() {
    let mut hand = Hand::pair().await;
    let mut wire = hand.accept(0).await;
    wire.expect("sync.pull", nothing()).await;
    hand.to_daemon.say(&json!({"method": "sync.peer_info", "params": {"token": hand.token}, "id": 2})).await;
    assert_eq!(hand.to_daemon.hear().await["result"]["daemon_id"], hand.daemon.id.as_str());
    hand.daemon.peers.remove("hand").await.unwrap();
    for mut wire in [wire, hand.to_daemon] {
        let mut rest = Vec::new();
        timeout(PATIENCE / 4, wire.0.read_to_end(&mut rest)).await.expect("closed").unwrap();
        assert!(rest.is_empty());
    }
    assert_eq!(hand.daemon.log.checkpoint("d_hand").unwrap(), None);
}

/// A retry would not find the peer any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_removal_succeeds_even_if_the_checkpoint_cannot_be_deleted() {
    let hand = Hand::pair().await;
    hand.accept(0).await.expect("sync.pull", nothing()).await;
    hand.daemon.log.close();
    assert_eq!(hand.daemon.peers.remove("hand").await.unwrap().name, "hand");
    assert!(hand.daemon.peers.list().is_empty());
    assert!(kit::logs().contains("cannot delete the checkpoint of a removed peer"));
}

/// C19: a second reply, or any unsolicited line, ends the connection; another one follows.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_speaks_without_being_asked_is_hung_up_on() {
    let hand = Hand::pair().await;
    let mut wire = hand.accept(0).await;
    wire.expect("sync.pull", nothing()).await;
    wire.say(&json!({"result": {}, "id": 2})).await;
    let mut rest = Vec::new();
    timeout(PATIENCE, wire.0.read_to_end(&mut rest)).await.expect("closed").unwrap();
    let mut again = hand.accept(0).await;
    again.expect("sync.pull", nothing()).await;
}

/// A peer of the replaced Go daemon still addresses that daemon: its id is in our replies and notifies.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_taken_over_from_go_knows_us_by_the_id_it_knew() {
    let daemon = Daemon::start("alpha").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (token, address) = ("5".repeat(64), listener.local_addr().unwrap().to_string());
    let file = json!({"local": {"daemon_id": "d_go", "port": 9147}, "peers": [{"name": "hand", "address": address, "daemon_id": "d_hand", "token": token}]});
    let replaced = Replaced { known_as: "d_go".into(), ..Replaced::default() };
    let take = || daemon.peers.take_over(GoPeers::read(&file.to_string()).unwrap(), replaced.clone(), false);
    let taken = take().await.unwrap();
    assert_eq!(
        (taken[0].status, taken[0].note.as_ref().is_some_and(|note| note.contains("9147"))),
        ("taken", true),
        "another port"
    );

    let (stream, _) = timeout(PATIENCE, listener.accept()).await.expect("it dials").unwrap();
    let mut wire = Wire(BufReader::new(stream));
    let params = wire.expect("sync.peer_info", json!({"daemon_id": "d_hand", "name": "hand"})).await;
    assert_eq!(params, json!({"token": token}));
    let params = wire.expect("sync.pull", json!({"events": [], "next_sequence": 0, "more_available": false})).await;
    assert_eq!(params, json!({"after_sequence": 0, "max_batch": 1000, "token": token}));
    daemon.log.register("ann");
    assert_eq!(wire.expect("sync.notify", json!({"status": "ok"})).await["daemon_id"], "d_go");

    let address = daemon.peers.address(Kind::Local).await.expect("it listens for those it took over");
    let mut to_daemon = Wire(BufReader::new(TcpStream::connect(&address).await.unwrap()));
    to_daemon.say(&json!({"method": "sync.peer_info", "params": {"token": token}, "id": 2})).await;
    assert_eq!(to_daemon.hear().await["result"]["daemon_id"], "d_go");

    let again = take().await.unwrap();
    assert_eq!((again[0].status, daemon.peers.list().len()), ("known", 1));
    assert!(!kit::logs().contains(&token));
}
