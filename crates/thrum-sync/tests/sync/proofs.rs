//! On loopback, where there are no nodes, a peer's identity is its key: not its port, not its token, not its claim.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use serde_json::{Value, json};
use thrum_core::DaemonKey;
use thrum_sync::{
    encrypted::{self, Encrypted},
    protocol::{self, wire},
    replicator::State,
    transport::{Conn, Kind},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    kit::{self, Daemon, PATIENCE, System},
    tailnet::{UNKNOWN, eventually, fails_with, status, told_of, until},
};

/// A connection to a daemon, played by the test.
struct Wire(BufReader<TcpStream>);

impl Wire {
    async fn to(daemon: &Daemon) -> Self {
        let address = daemon.peers.address(Kind::Local).await.unwrap();
        Self(BufReader::new(TcpStream::connect(address).await.unwrap()))
    }

    async fn ask(&mut self, method: &str, params: Value) -> Value {
        let line = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1});
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).await.unwrap();
        let mut reply = String::new();
        timeout(PATIENCE, self.0.read_line(&mut reply)).await.expect("a line").unwrap();
        serde_json::from_str(&reply).unwrap()
    }
}

/// A program that took a daemon's port. Records each line that it reads, and replies with `answer`.
struct Squatter {
    heard: Arc<Mutex<Vec<String>>>,
    _task: AbortOnDropHandle<()>,
}

impl Squatter {
    /// A program without the daemon's key.
    async fn at(address: &str, answer: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Self {
        Self::with_key(address, None, answer).await
    }

    /// With the daemon's `key` it encrypts connections as the daemon does, and answers the lines in them.
    async fn with_key(
        address: &str,
        key: Option<DaemonKey>,
        answer: impl Fn(&Value) -> Value + Send + Sync + 'static,
    ) -> Self {
        // The previous owner may be about to release the port.
        let listener = eventually(async || TcpListener::bind(address).await.ok()).await;
        let (heard, answer) = (Arc::new(Mutex::new(Vec::new())), Arc::new(answer));
        let keeps = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (heard, answer, key) = (Arc::clone(&keeps), Arc::clone(&answer), key.clone());
                tokio::spawn(async move {
                    let mut wire = BufReader::new(Box::new(stream) as Conn);
                    let mut line = String::new();
                    while wire.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                        let request: Value = serde_json::from_str(&line).unwrap();
                        heard.lock().unwrap().push(std::mem::take(&mut line));
                        let begins = key.as_ref().filter(|_| request["method"] == wire::ENCRYPT);
                        let answered = begins.map(|key| {
                            let message = request["params"]["message"].as_str().unwrap();
                            encrypted::answer(&kit::identity(key), message, Kind::Local).unwrap()
                        });
                        let mut reply = match &answered {
                            Some((message, ..)) => json!({"jsonrpc": "2.0", "result": {"message": message}}),
                            None => answer(&request),
                        };
                        reply["id"] = request["id"].clone();
                        let written = wire.write_all(format!("{reply}\n").as_bytes()).await;
                        if written.is_err() || wire.flush().await.is_err() {
                            return;
                        }
                        if let Some((.., keys)) = answered {
                            wire = BufReader::new(Box::new(Encrypted::new(wire.into_inner(), keys)));
                        }
                    }
                });
            }
        });
        Self { heard, _task: AbortOnDropHandle::new(task) }
    }

    fn heard(&self) -> String {
        self.heard.lock().unwrap().concat()
    }
}

async fn pair() -> (Daemon, Daemon) {
    let (a, b) = (Daemon::start("alpha").await, Daemon::start("beta").await);
    a.log.register("alpha");
    b.log.register("beta");
    a.pair(&b).await;
    // Opening a pairing session starts the listener, which stays open.
    for daemon in [&a, &b] {
        let pairing = daemon.peers.start_pairing(Kind::Local, PATIENCE).await.unwrap();
        daemon.peers.cancel_pairing(pairing.session);
    }
    a.agrees().await;
    (a, b)
}

/// C7, C11: a program that takes the port of a stopped daemon gets no token, and its answer that the peer was removed
/// is not believed. Includes one that replays a reply of the daemon, and one that plays a legacy peer.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_a_daemons_port_gets_no_token_and_is_not_believed() {
    let (mut a, b) = pair().await;
    let address = a.peers.address(Kind::Local).await.unwrap();
    let token = b.peers.list()[0].token.clone().unwrap();
    let own = DaemonKey::generate(&mut System);
    // The genuine daemon's reply to b, from another handshake.
    let begin = |with: &str| encrypted::begin(&kit::identity(b.log.key.get().unwrap()), with, Kind::Local).unwrap().1;
    let old = Wire::to(&a).await.ask(wire::ENCRYPT, json!({"message": begin(&a.id)})).await;
    assert!(old["result"]["message"].is_string(), "{old}");
    // Another daemon's reply to a handshake that b began with it.
    let (other, ..) = encrypted::answer(&kit::identity(&own), &begin(own.id().as_str()), Kind::Local).unwrap();
    a.peers.shutdown().await;

    type Answer = Box<dyn Fn(&Value) -> Value + Send + Sync>;
    let error = |message: &'static str| json!({"jsonrpc": "2.0", "error": {"code": -32000, "message": message}});
    let said = a.id.clone();
    let answers: Vec<(&str, Answer)> = vec![
        ("unauthorized", Box::new(move |_| error(UNKNOWN))),
        (
            "method not found",
            Box::new(
                |_| json!({"jsonrpc": "2.0", "error": {"code": -32601, "message": "method not found: sync.encrypt"}}),
            ),
        ),
        // The same reply: the error also names the harmless cause.
        (
            "or it runs an older Thrum: update it there",
            Box::new(
                |_| json!({"jsonrpc": "2.0", "error": {"code": -32601, "message": "method not found: sync.encrypt"}}),
            ),
        ),
        (
            "makes no sense",
            Box::new(move |_| json!({"jsonrpc": "2.0", "result": {"daemon_id": said, "name": "alpha"}})),
        ),
        ("does not have that daemon's key", Box::new(move |_| old.clone())),
        ("does not have that daemon's key", Box::new(move |_| json!({"jsonrpc": "2.0", "result": {"message": other}}))),
        // The caller's own message.
        (
            "does not have that daemon's key",
            Box::new(|request| json!({"jsonrpc": "2.0", "result": {"message": request["params"]["message"]}})),
        ),
        (
            "does not have that daemon's key",
            Box::new(|_| json!({"jsonrpc": "2.0", "result": {"message": "A".repeat(5000)}})),
        ),
    ];
    for (why, answer) in answers {
        let squatter = Squatter::at(&address, answer).await;
        b.peers.force(None).await.unwrap();
        until(&b, "alpha", |status| fails_with("does not prove to be alpha")(status) && fails_with(why)(status)).await;
        let heard = squatter.heard();
        assert!(heard.contains(wire::ENCRYPT) && !heard.contains(token.reveal()), "{why}: {heard}");
        assert!(!b.peers.list()[0].removed_us);
    }
    a.restart().await;
    let news = a.log.say("alpha", "it is I");
    b.hears(&news).await;
    b.agrees().await;
}

/// C6: a signature is valid only on its network, for its challenge, and for the daemon that asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_listeners_proof_is_good_for_one_network_one_challenge_and_one_daemon() {
    let (a, b) = pair().await;
    let challenge = "5".repeat(64);
    let mut wire = Wire::to(&a).await;
    let hello = wire.ask("sync.hello", json!({"challenge": challenge, "daemon_id": b.id})).await["result"].clone();
    let signature = hello["signature"].as_str().unwrap();
    assert!(protocol::proves_to_listen(signature, &challenge, Kind::Local, &a.id, &b.id));
    assert!(!protocol::proves_to_listen(signature, &challenge, Kind::Tailnet, &a.id, &b.id));
    assert!(!protocol::proves_to_listen(signature, &"6".repeat(64), Kind::Local, &a.id, &b.id));
    assert!(!protocol::proves_to_listen(signature, &challenge, Kind::Local, &a.id, "d_other"));
    assert!(!thrum_core::key::proves(signature, &challenge, &a.id, &b.id), "nor is it a caller's");
    assert!(
        wire.ask("sync.hello", json!({"challenge": challenge, "daemon_id": b.id})).await["error"].is_object(),
        "once"
    );
    for bad in [
        json!({"challenge": "short", "daemon_id": b.id}),
        json!({"challenge": format!("listening-local-{}", "5".repeat(48)), "daemon_id": b.id}),
        json!({"challenge": challenge, "daemon_id": ""}),
        json!({"challenge": challenge, "daemon_id": "d".repeat(300)}),
        json!({}),
        json!([]),
    ] {
        let reply = Wire::to(&a).await.ask("sync.hello", bad.clone()).await;
        assert!(reply.get("result").is_none(), "{bad}: {reply}");
    }
}

/// C11: a token is useless without the key, and its owner learns that it was copied.
#[tokio::test(flavor = "multi_thread")]
async fn a_copied_token_brings_nothing_on_loopback_either() {
    let (a, b) = pair().await;
    let token = b.peers.list()[0].token.clone().unwrap();
    let token = token.reveal();
    let (key, thief) = (b.log.key.get().unwrap(), DaemonKey::generate(&mut System));
    for (method, params) in [
        ("sync.peer_info", json!({"token": token})),
        ("sync.pull", json!({"token": token, "after_sequence": 0})),
        ("sync.notify", json!({"token": token, "daemon_id": b.id, "latest_seq": 9, "event_count": 1})),
        ("sync.refused", json!({"token": token, "node_id": "n", "node_name": "n", "node_user": "u"})),
    ] {
        let reply = Wire::to(&a).await.ask(method, params).await;
        assert_eq!(reply["error"]["data"]["kind"], "prove", "{method}: {reply}");
    }
    // C7: a caller that claims to be that daemon must have its key. A caller with its own id is another daemon.
    let hello = async |wire: &mut Wire, id: &str| {
        let reply = wire.ask("sync.hello", json!({"challenge": "0".repeat(64), "daemon_id": id})).await;
        reply["result"]["challenge"].as_str().unwrap().to_owned()
    };
    let prove = |id: &str, signature: String| json!({"token": token, "daemon_id": id, "signature": signature});
    for (claims, signs) in [(b.id.as_str(), &thief), (thief.id().as_str(), &thief)] {
        let mut wire = Wire::to(&a).await;
        let asked = hello(&mut wire, claims).await;
        assert_eq!(
            wire.ask("sync.prove", prove(claims, signs.prove(&asked, &a.id))).await["error"]["message"],
            UNKNOWN
        );
        assert!(wire.ask("sync.pull", json!({"token": token})).await["error"].is_object());
    }
    // An answer is valid only on its connection and only once.
    let (mut one, mut other) = (Wire::to(&a).await, Wire::to(&a).await);
    let (asked, _) = (hello(&mut one, &b.id).await, hello(&mut other, &b.id).await);
    let answer = prove(&b.id, key.prove(&asked, &a.id));
    assert_eq!(other.ask("sync.prove", answer.clone()).await["error"]["message"], UNKNOWN);
    assert!(one.ask("sync.prove", answer.clone()).await["result"].is_object());
    assert!(one.ask("sync.peer_info", json!({"token": token})).await["result"].is_object());
    assert_eq!(one.ask("sync.prove", answer).await["error"]["message"], UNKNOWN);

    let refused = status(&a).await.details.refused.expect("shown");
    assert_eq!((refused.node.id.as_str(), refused.node.name.as_str()), ("local", "another program of this machine"));
    assert_eq!(told_of(&b).await.0.id, "local");
    assert_eq!(status(&a).await.state, State::Connected, "the peer itself is not affected");
    assert!(kit::logs().contains(
        "refused a token that was used from another node than its peer's peer=beta node=another program of this machine"
    ));
}

/// C11: a caller that is challenged is not reported before it has failed. An honest peer without a hello is challenged,
/// too.
#[tokio::test(flavor = "multi_thread")]
async fn an_unanswered_challenge_counts_as_token_misuse_and_a_proof_does_not() {
    let (a, b) = pair().await;
    let token = b.peers.list()[0].token.clone().unwrap();
    let token = token.reveal();
    let key = b.log.key.get().unwrap();
    let asked = async |wire: &mut Wire| {
        let reply = wire.ask("sync.peer_info", json!({"token": token})).await;
        reply["error"]["data"]["challenge"].as_str().unwrap().to_owned()
    };
    let mut wire = Wire::to(&a).await;
    let challenge = asked(&mut wire).await;
    assert_eq!(status(&a).await.details.refused, None, "it was only asked");
    let proof = json!({"token": token, "daemon_id": b.id, "signature": key.prove(&challenge, &a.id)});
    assert!(wire.ask("sync.prove", proof).await["result"].is_object());
    assert!(wire.ask("sync.peer_info", json!({"token": token})).await["result"].is_object());
    drop(wire);
    assert_eq!(status(&a).await.details.refused, None);

    let mut wire = Wire::to(&a).await;
    asked(&mut wire).await;
    drop(wire);
    eventually(async || status(&a).await.details.refused).await;
    assert_eq!(told_of(&b).await.0.id, "local");
}

/// C7, C11: a daemon with a copied registry and its own key, and one with a registry older than the last pairing, are
/// told that they were removed, and get no events.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_with_a_copied_or_outdated_registry_is_not_accepted() {
    let (a, mut b) = pair().await;
    let file = b.directory.path().join("peers.json");
    let before = std::fs::read(&file).unwrap();
    let mut copy = Daemon::start("gamma").await;
    copy.log.register("gamma");
    copy.peers.shutdown().await;
    std::fs::write(copy.directory.path().join("peers.json"), &before).unwrap();
    copy.restart().await;
    until(&copy, "alpha", |status| status.state == State::RemovedUs).await;
    assert_eq!(copy.log.event_ids().len(), 1, "its own, and nothing that was served");
    copy.peers.shutdown().await;

    // Paired anew, and then an older file is restored: its token is no longer valid.
    a.peers.remove("beta").await.unwrap();
    eventually(async || b.peers.list()[0].removed_us.then_some(())).await;
    a.pair(&b).await;
    b.peers.shutdown().await;
    std::fs::write(&file, &before).unwrap();
    b.restart().await;
    until(&b, "alpha", |status| status.state == State::RemovedUs).await;
    assert!(status(&a).await.details.refused.is_none_or(|stray| stray.node.id == "local"));
}

/// The cost of a proof: one request per new connection, none for the caller's own proof, and nothing afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_proof_costs_one_exchange_per_connection() {
    let (mut a, b) = pair().await;
    let address = a.peers.address(Kind::Local).await.unwrap();
    a.peers.shutdown().await;
    let key = a.log.key.get().unwrap().clone();
    let id = key.id().to_string();
    let squatter = Squatter::with_key(&address, Some(key), move |request| match request["method"].as_str().unwrap() {
        "sync.peer_info" => {
            json!({"jsonrpc": "2.0", "result": {"daemon_id": id, "name": "alpha", "log_id": "log", "latest": 0}})
        }
        _ => json!({"jsonrpc": "2.0", "result": {"events": [], "next_sequence": 0, "more_available": false, "log_id": "log"}}),
    })
    .await;
    b.peers.force(None).await.unwrap();
    until(&b, "alpha", |status| status.state == State::Connected).await;
    let heard = squatter.heard.lock().unwrap().clone();
    let methods: Vec<String> = heard
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["method"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(methods[..2], [wire::ENCRYPT, "sync.peer_info"]);
    let proofs = [wire::ENCRYPT, "sync.hello", "sync.prove"];
    assert_eq!(methods.iter().filter(|method| proofs.contains(&method.as_str())).count(), 1, "{methods:?}");
    drop(squatter);
    a.restart().await;
    a.agrees().await;
}

/// Forwards connections to another address, and records what passes. With `altered`, changes a byte of each part.
struct Forwarder {
    port: u16,
    passed: Arc<Mutex<Vec<u8>>>,
    altered: Arc<AtomicBool>,
    _task: AbortOnDropHandle<()>,
}

impl Forwarder {
    async fn to(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (passed, altered) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<AtomicBool>::default());
        let (record, alter, address) = (Arc::clone(&passed), Arc::clone(&altered), address.to_owned());
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((caller, _)) = listener.accept().await {
                let Ok(there) = TcpStream::connect(&address).await else { continue };
                let ((from, to), (back, forth)) = (caller.into_split(), there.into_split());
                connections.spawn(pass(from, forth, Arc::clone(&record), Arc::clone(&alter)));
                connections.spawn(pass(back, to, Arc::clone(&record), Arc::clone(&alter)));
            }
        });
        Self { port, passed, altered, _task: AbortOnDropHandle::new(task) }
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, record: Arc<Mutex<Vec<u8>>>, alter: Arc<AtomicBool>) {
    let mut part = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut part).await {
        record.lock().unwrap().extend_from_slice(&part[..read]);
        if alter.load(Ordering::SeqCst) {
            part[read / 2] ^= 1;
        }
        if to.write_all(&part[..read]).await.is_err() {
            return;
        }
    }
}

/// C6, C7: a program between two daemons reads neither tokens nor mail, and what it changes ends the connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_between_two_daemons_reads_and_changes_nothing() {
    let (a, mut b) = pair().await;
    let token = b.peers.list()[0].token.clone().unwrap();
    let address = a.peers.address(Kind::Local).await.unwrap();
    let forwarder = Forwarder::to(&address).await;
    b.peers.shutdown().await;
    let file = b.directory.path().join("peers.json");
    let port = address.rsplit_once(':').unwrap().1;
    let redirected = std::fs::read_to_string(&file).unwrap().replace(port, &forwarder.port.to_string());
    std::fs::write(&file, redirected).unwrap();
    b.restart().await;
    let news = a.log.say("alpha", "a secret plan");
    b.hears(&news).await;
    let passed = forwarder.passed.lock().unwrap().clone();
    assert!(passed.len() > 500, "it went this way: {}", passed.len());
    for secret in [token.reveal(), "a secret plan", "sync.pull"] {
        assert!(!passed.windows(secret.len()).any(|part| part == secret.as_bytes()), "{secret}");
    }

    forwarder.altered.store(true, Ordering::SeqCst);
    let more = a.log.say("alpha", "and another one");
    until(&b, "alpha", |status| status.state == State::Unreachable).await;
    forwarder.altered.store(false, Ordering::SeqCst);
    b.peers.force(None).await.unwrap();
    b.hears(&more).await;
    b.agrees().await;
}
