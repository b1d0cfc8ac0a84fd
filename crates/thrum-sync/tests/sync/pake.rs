//! Attacks on pairing without sending the code: in the middle, from the side, by answering like a legacy peer, by
//! cutting connections.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use thrum_core::ErrorKind;
use thrum_sync::{
    pairing::{
        Code,
        pake::{self, Parties},
    },
    peers::Waited,
    protocol::wire::Begin,
    transport::{Kind, Listener, Transport, memory::MemoryTailnet},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::kit::{Daemon, PATIENCE, System};

/// A loopback joiner played by the test, which claims to be this daemon.
struct Joiner {
    stream: BufReader<TcpStream>,
    parties: Parties,
}

impl Joiner {
    async fn of(daemon: &Daemon, listener: &Daemon, address: &str) -> Self {
        let own = daemon.peers.address(Kind::Local).await.unwrap_or_default();
        let parties = Parties {
            version: pake::VERSION.into(),
            joiner: daemon.id.clone(),
            joiner_name: daemon.name.clone(),
            joiner_address: own,
            joiner_node: "local".into(),
            listener: listener.id.clone(),
            listener_node: "local".into(),
            listener_address: address.to_owned(),
        };
        Self { stream: BufReader::new(TcpStream::connect(address).await.unwrap()), parties }
    }

    async fn say(&mut self, line: &str) {
        self.stream.get_mut().write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    async fn ask(&mut self, line: &str) -> Value {
        self.say(line).await;
        let mut reply = String::new();
        timeout(PATIENCE, self.stream.read_line(&mut reply)).await.expect("a line").unwrap();
        serde_json::from_str(&reply).unwrap()
    }

    fn begin(&self, message: String) -> String {
        let Parties { version, joiner, joiner_name: name, joiner_address: address, .. } = self.parties.clone();
        Begin { version, daemon_id: joiner, name, address, message }.line(1)
    }

    /// Starts the exchange. Returns the line with the confirmation.
    async fn begun(&mut self, code: &Code) -> String {
        let (joining, message) = pake::join(code, self.parties.clone(), &mut System);
        let reply = self.ask(&self.begin(message)).await;
        let (_, mac) = joining.confirm(reply["result"]["msg"].as_str().unwrap_or_else(|| panic!("{reply}"))).unwrap();
        json!({"method": "pair.confirm", "params": {"mac": mac}, "id": 2}).to_string()
    }
}

/// C6: the address is wrong, and the daemon there relays everything.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_in_the_middle_is_a_wrong_code_to_both_and_is_shown() {
    let net = MemoryTailnet::default();
    let nodes: Vec<_> = ["desk", "laptop", "cafe"].map(|name| net.node(name, "x")).into();
    let over = |node: usize| -> Vec<Arc<dyn Transport>> { vec![Arc::new(nodes[node].clone())] };
    let (a, b) = (Daemon::start_over("alpha", over(0)).await, Daemon::start_over("beta", over(1)).await);
    let pairing = a.peers.start_pairing(Kind::Tailnet, PATIENCE).await.unwrap();
    let port = pairing.address.rsplit_once(':').unwrap().1.parse().unwrap();
    let mut between: Box<dyn Listener> = nodes[2].listen(Some(port)).await.unwrap();
    let wrong_host = between.address();
    let (cafe, to) = (nodes[2].clone(), pairing.address.clone());
    let relay = tokio::spawn(async move {
        loop {
            let (mut from, _) = between.accept().await.unwrap();
            let mut on = cafe.dial(&to).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut from, &mut on).await });
        }
    });
    let refused = b.peers.join(&wrong_host, pairing.code.reveal()).await.unwrap_err();
    assert_eq!(
        (refused.kind, refused.message.as_str()),
        (ErrorKind::Refused, "invalid pairing code (2 attempts remaining)")
    );
    let Waited::Tried(tried) = a.peers.wait_pairing_or_attempt(0).await.unwrap() else { panic!("nobody joined") };
    assert_eq!((tried.len(), tried[0].who().as_str()), (1, "cafe (x)"));
    assert!(a.peers.list().is_empty() && b.peers.list().is_empty());
    relay.abort();
    // The code was not revealed by that: it still works at the right address.
    let (here, there) = tokio::join!(a.peers.wait_pairing(), b.peers.join(&pairing.address, pairing.code.reveal()));
    assert_eq!(
        (here.unwrap().pairing.as_deref(), there.unwrap().pairing.as_deref()),
        (Some("spake2-1"), Some("spake2-1"))
    );
}

/// C6: on loopback, where all callers are one node, the port differs.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_in_the_middle_on_this_machine_is_a_wrong_code_too() {
    let (a, b) = (Daemon::start("alpha").await, Daemon::start("beta").await);
    let pairing = a.peers.start_pairing(Kind::Local, PATIENCE).await.unwrap();
    let between = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, to) = (between.local_addr().unwrap().to_string(), pairing.address.clone());
    tokio::spawn(async move {
        loop {
            let (mut from, _) = between.accept().await.unwrap();
            let mut on = TcpStream::connect(&to).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut from, &mut on).await });
        }
    });
    let refused = b.peers.join(&address, pairing.code.reveal()).await.unwrap_err();
    assert_eq!(refused.message, "invalid pairing code (2 attempts remaining)");
    assert!(a.peers.list().is_empty() && b.peers.list().is_empty());
}

/// C6: the same port at another address of this machine leads to another program. A joiner does not dial it, and one
/// that does fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_at_another_address_of_this_machine_is_not_dialled_and_is_a_wrong_code() {
    let (a, b) = (Daemon::start("alpha").await, Daemon::start("beta").await);
    let pairing = a.peers.start_pairing(Kind::Local, PATIENCE).await.unwrap();
    let port = pairing.address.rsplit_once(':').unwrap().1.to_owned();
    let between = TcpListener::bind(format!("127.0.0.2:{port}")).await.unwrap();
    let to = pairing.address.clone();
    tokio::spawn(async move {
        loop {
            let (mut from, _) = between.accept().await.unwrap();
            let mut on = TcpStream::connect(&to).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut from, &mut on).await });
        }
    });
    for alias in [format!("127.0.0.2:{port}"), format!("[::1]:{port}")] {
        let refused = b.peers.join(&alias, pairing.code.reveal()).await.unwrap_err();
        assert_eq!(
            (refused.kind, refused.message.contains("another address of this machine")),
            (ErrorKind::Invalid, true),
            "{refused}"
        );
    }
    // An older joiner dials it: the two sides see different listeners.
    let mut joiner = Joiner::of(&b, &a, &format!("127.0.0.2:{port}")).await;
    let confirmation = joiner.begun(&pairing.code).await;
    let reply = joiner.ask(&confirmation).await;
    assert_eq!(reply["error"]["message"], "invalid pairing code (2 attempts remaining)", "{reply}");
    assert!(a.peers.list().is_empty() && b.peers.list().is_empty());
    // `localhost` is 127.0.0.1, whatever the name resolves to.
    let by_name = format!("localhost:{port}");
    let (here, there) = tokio::join!(a.peers.wait_pairing(), b.peers.join(&by_name, pairing.code.reveal()));
    assert!(here.unwrap().syncing && there.unwrap().syncing);
    assert_eq!(b.peers.list()[0].address, pairing.address);
}

/// Starts a listener that answers each request with `answer`. Returns its address and the received requests.
async fn stranger(mut answer: impl FnMut(&Value) -> Value + Send + 'static) -> (String, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    tokio::spawn(async move {
        loop {
            let mut stream = BufReader::new(listener.accept().await.unwrap().0);
            let mut line = String::new();
            while stream.read_line(&mut line).await.is_ok_and(|length| length > 0) {
                let request: Value = serde_json::from_str(&line).unwrap();
                line.clear();
                let mut reply = answer(&request);
                reply["id"] = request["id"].clone();
                hears.lock().unwrap().push(request);
                stream.get_mut().write_all(format!("{reply}\n").as_bytes()).await.unwrap();
            }
        }
    });
    (address, heard)
}

/// C6: a daemon that answers like a legacy peer, or like a future version, is not sent the code, unless the caller
/// requests that.
#[tokio::test(flavor = "multi_thread")]
async fn a_joiner_does_not_fall_back_by_itself() {
    let b = Daemon::start("beta").await;
    let unknown = json!({"error": {"code": -32601, "message": "method not found: pair.probe"}});
    let before = json!({"result": {"name": "x", "protocols": ["lines-1"], "version": "0.1.0", "waiting": true}});
    let to_come =
        json!({"result": {"daemon_id": "d_x", "name": "x", "pairing": ["spake2-9"], "version": "9", "waiting": true}});
    let nobody =
        json!({"result": {"daemon_id": "", "name": "x", "pairing": ["spake2-1"], "version": "9", "waiting": true}});
    for probed in [unknown, before, to_come, nobody] {
        let paired =
            json!({"result": {"status": "paired", "daemon_id": "d_old", "name": "old", "token": "5".repeat(64)}});
        let answered = probed.clone();
        let (address, heard) =
            stranger(move |request| if request["method"] == "pair.probe" { answered.clone() } else { paired.clone() })
                .await;
        let refused = b.peers.join(&address, "0042").await.unwrap_err();
        assert_eq!(
            (refused.kind, refused.message.ends_with("nothing was sent")),
            (ErrorKind::Refused, true),
            "{refused}"
        );
        assert!(refused.hint.as_ref().is_some_and(|hint| hint.contains("--plain")), "{refused:?}");
        let listener = b.peers.inspect(&address).await.unwrap();
        assert_eq!((listener.pairing.as_str(), &listener.address), ("plain", &address));
        let methods = |heard: &Mutex<Vec<Value>>| -> Vec<String> {
            heard.lock().unwrap().iter().map(|one| one["method"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(methods(&heard), ["pair.probe", "pair.probe"], "{probed}");
        assert!(b.peers.list().is_empty());

        let joined = b.peers.join_even_plainly(&address, "0042").await.unwrap();
        assert_eq!((joined.peer_name.as_str(), joined.pairing.as_deref()), ("old", Some("plain")));
        assert_eq!(methods(&heard)[2..4], ["pair.probe", "pair.request"]);
        assert_eq!(heard.lock().unwrap()[3]["params"]["code"], "0042");
        b.peers.remove("old").await.unwrap();
    }
}

/// C6: a listener with its own tokens that does not know the code is never stored, whatever it answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_does_not_know_the_code_learns_nothing_and_is_not_stored() {
    let b = Daemon::start("beta").await;
    b.peers.start_pairing(Kind::Local, PATIENCE).await.unwrap();
    let own = b.peers.address(Kind::Local).await.unwrap();
    let id = b.id.clone();
    let proven: Arc<Mutex<Option<(String, String)>>> = Arc::default();
    for knows in [false, true] {
        let (id, own, proven) = (id.clone(), own.clone(), Arc::clone(&proven));
        let port = Arc::new(Mutex::new(String::new()));
        let at = Arc::clone(&port);
        let mut answered = None;
        let (address, heard) = stranger(move |request| {
            let params = &request["params"];
            match request["method"].as_str().unwrap() {
                "pair.probe" => {
                    json!({"result": {"daemon_id": "d_mallory", "name": "m", "pairing": ["spake2-1"], "version": "1", "waiting": true}})
                }
                "pair.begin" => {
                    let parties = Parties {
                        version: pake::VERSION.into(),
                        joiner: id.clone(),
                        joiner_name: "beta".into(),
                        joiner_address: own.clone(),
                        joiner_node: "local".into(),
                        listener: "d_mallory".into(),
                        listener_node: "local".into(),
                        listener_address: at.lock().unwrap().clone(),
                    };
                    let code = Code::parse(if knows { "0042" } else { "0043" }).unwrap();
                    let (state, message) = pake::answer(&code, &parties, params["msg"].as_str().unwrap(), &mut System);
                    answered = Some(state);
                    json!({"result": {"msg": message}})
                }
                _ => {
                    let token = thrum_sync::Token::generate(&mut System);
                    let sealed = answered.take().and_then(|state| state.check(params["mac"].as_str().unwrap()));
                    let (mac, sealed) = sealed.map_or_else(|| ("0".repeat(64), "0".repeat(160)), |proven| proven.seal(&token, "m"));
                    *proven.lock().unwrap() = Some((mac.clone(), sealed.clone()));
                    // With the right code; only the clear-text name differs.
                    json!({"result": {"status": "paired", "mac": mac, "sealed_token": sealed, "daemon_id": "d_mallory", "name": "n"}})
                }
            }
        })
        .await;
        port.lock().unwrap().clone_from(&address);
        let refused = b.peers.join(&address, "0042").await.unwrap_err();
        assert_eq!(
            (refused.kind, refused.message.ends_with("nothing was stored")),
            (ErrorKind::Refused, true),
            "{refused}"
        );
        assert!(b.peers.list().is_empty());
        let heard = heard.lock().unwrap();
        let keys = |n: usize| heard[n]["params"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(
            (keys(0), keys(1), keys(2)),
            (
                vec![],
                vec!["address", "daemon_id", "msg", "name", "version"].into_iter().map(str::to_owned).collect(),
                vec!["mac".to_owned()]
            )
        );
    }
    let last = proven.lock().unwrap().clone().unwrap();
    assert_ne!(last.0, "0".repeat(64), "the second one knew the code");
}

/// C9: if any message is lost, pairing again repairs it.
#[tokio::test(flavor = "multi_thread")]
async fn a_pairing_cut_off_at_any_message_is_healed_by_pairing_again() {
    let (a, b) = (Daemon::start("alpha").await, Daemon::start("beta").await);
    let pairing = a.peers.start_pairing(Kind::Local, PATIENCE).await.unwrap();
    let code = &pairing.code;
    // First, nothing follows the first message. Then the confirmation is lost.
    let mut cut = Joiner::of(&b, &a, &pairing.address).await;
    let (_, message) = pake::join(code, cut.parties.clone(), &mut System);
    cut.say(&cut.begin(message)).await;
    drop(cut);
    let mut cut = Joiner::of(&b, &a, &pairing.address).await;
    drop(cut.begun(code).await);
    drop(cut);
    let Waited::Tried(tried) = a.peers.wait_pairing_or_attempt(1).await.unwrap() else { panic!("nobody joined") };
    assert_eq!((tried.len(), a.peers.list().len()), (2, 0), "nothing is stored, and both count");
    let (here, there) = tokio::join!(a.peers.wait_pairing(), b.peers.join(&pairing.address, code.reveal()));
    assert!(here.unwrap().syncing && there.unwrap().syncing, "in the same session, with the last try");

    // The final reply is lost: one side has stored a pairing that the other never learned about.
    let c = Daemon::start("gamma").await;
    let pairing = a.peers.start_pairing(Kind::Local, PATIENCE).await.unwrap();
    let mut cut = Joiner::of(&c, &a, &pairing.address).await;
    let confirmation = cut.begun(&pairing.code).await;
    cut.say(&confirmation).await;
    let half = a.peers.wait_pairing().await.unwrap();
    assert!(!half.syncing && half.message.is_some(), "{half:?}");
    drop(cut);
    assert_eq!((a.peers.list().len(), c.peers.list().len()), (2, 0));
    let (here, there) = a.pair(&c).await;
    assert!(here.syncing && there.syncing, "{here:?} {there:?}");
    assert_eq!((a.peers.list().len(), c.peers.list().len()), (2, 1));
}

/// C1, C3: a connection allows one exchange, an exchange one confirmation, and a recording none.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_good_for_one_exchange_and_a_recorded_one_for_none() {
    let (a, b) = (Daemon::start("alpha").await, Daemon::start("beta").await);
    let pairing = a.peers.start_pairing(Kind::Local, PATIENCE).await.unwrap();
    let guesses = || {
        let text = std::fs::read_to_string(a.directory.path().join("pairing.json"))
            .unwrap_or_else(|_| r#"{"attempts":[]}"#.into());
        serde_json::from_str::<Value>(&text).unwrap()["attempts"].as_array().unwrap().len()
    };
    let refused = |reply: &Value| reply["error"]["message"].as_str().unwrap_or("no error").to_owned();
    let mut joiner = Joiner::of(&b, &a, &pairing.address).await;
    let confirm = json!({"method": "pair.confirm", "params": {"mac": "00"}, "id": 2}).to_string();
    assert_eq!(refused(&joiner.ask(&confirm).await), "this connection has not begun to pair");
    // C5: a message of the wrong type is neither a message nor a guess.
    let number = json!({"method": "pair.begin", "params": {"msg": 42, "daemon_id": "d_x"}, "id": 1}).to_string();
    assert!(refused(&joiner.ask(&number).await).starts_with("invalid params"));
    assert_eq!(guesses(), 0);

    let (joining, message) = pake::join(&pairing.code, joiner.parties.clone(), &mut System);
    let first = joiner.begin(message);
    let answered = joiner.ask(&first).await;
    assert_eq!(guesses(), 1, "on disk before it is answered");
    assert_eq!(refused(&joiner.ask(&first).await), "this connection has begun to pair already");
    assert_eq!(guesses(), 1);
    let wrong = joiner.ask(&confirm).await;
    assert_eq!(refused(&wrong), "invalid pairing code (2 attempts remaining)");
    assert_eq!(wrong["error"]["data"]["code"], "wrong_code");
    let (_, mac) = joining.confirm(answered["result"]["msg"].as_str().unwrap()).unwrap();
    let right = json!({"method": "pair.confirm", "params": {"mac": mac}, "id": 2}).to_string();
    assert_eq!(
        refused(&joiner.ask(&right).await),
        "this connection has not begun to pair",
        "it was right, and too late"
    );

    let mut again = Joiner::of(&b, &a, &pairing.address).await;
    assert_ne!(again.ask(&first).await["result"]["msg"], answered["result"]["msg"]);
    assert_eq!(refused(&again.ask(&right).await), "invalid pairing code (1 attempt remaining)", "the same lines again");
    let mut broken = Joiner::of(&b, &a, &pairing.address).await;
    let noise = broken.begin("no message at all".into());
    assert!(broken.ask(&noise).await["result"]["msg"].is_string(), "that it is none shows only at the end");
    let last = broken.ask(&right).await;
    assert_eq!(refused(&last), "invalid pairing code (0 attempts remaining)");
    assert_eq!(last["error"]["data"]["code"], "last_wrong_code");
    assert!(a.peers.list().is_empty());
}

/// C7: only a caller that knows the code learns that a daemon is known here.
#[tokio::test(flavor = "multi_thread")]
async fn only_a_joiner_with_the_code_learns_that_its_id_is_paired() {
    let (a, b) = (Daemon::start("alpha").await, Daemon::start("beta").await);
    a.pair(&b).await;
    a.agrees().await;
    let token = a.peers.list()[0].token.clone().unwrap();
    let pairing = a.peers.start_pairing(Kind::Local, PATIENCE).await.unwrap();
    let mut joiner = Joiner::of(&b, &a, &pairing.address).await;
    let wrong = Code::parse(&format!("{:04}", (pairing.code.reveal().parse::<u32>().unwrap() + 1) % 10_000)).unwrap();
    let confirmation = joiner.begun(&wrong).await;
    assert_eq!(joiner.ask(&confirmation).await["error"]["message"], "invalid pairing code (2 attempts remaining)");
    let mut joiner = Joiner::of(&b, &a, &pairing.address).await;
    let confirmation = joiner.begun(&pairing.code).await;
    let refused = joiner.ask(&confirmation).await;
    assert_eq!(refused["error"]["message"], "already paired with beta");
    assert_eq!(refused["error"]["data"]["code"], "already_paired");
    assert!(a.peers.list()[0].token.as_ref().unwrap().matches(token.reveal()));
}
