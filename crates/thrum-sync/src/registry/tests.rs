use std::fs;

use super::*;
use crate::transport::Caller;

const GO: &str = r#"{
  "local": { "daemon_id": "d_przre8xtmc6c", "port": 9147, "future_local": 1 },
  "peers": [
    { "name": "office-server", "address": "100.64.2.10:9100", "daemon_id": "d_dc13ayhceh3r",
      "token": "1111111111111111111111111111111111111111111111111111111111111111", "paired_at": "2026-03-28T10:05:13.899-07:00",
      "last_sync": "0001-01-01T00:00:00Z", "repo_path": "/home/x", "remote_agents": ["a"] }
  ],
  "future_top": {"kept": true}
}"#;

struct Seed(u8);

impl thrum_core::Ambient for Seed {
    fn now(&mut self) -> Timestamp {
        Timestamp::ZERO
    }
    fn fill(&mut self, buffer: &mut [u8]) {
        self.0 += 1;
        buffer.fill(self.0);
    }
}

fn candidate(id: &str, name: &str) -> Candidate {
    let (daemon_id, name, address) = (id.into(), name.into(), "127.0.0.1:9101".into());
    Candidate { daemon_id, name, address, kind: Kind::Local, node: None, calls_from: None, protocol: Protocol::Plain }
}

fn open(directory: &tempfile::TempDir) -> Result<Registry, Error> {
    Registry::open(directory.path().join("peers.json"), "d_me")
}

fn with_file(text: &str) -> (tempfile::TempDir, Result<Registry, Error>) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("peers.json"), text).unwrap();
    let registry = open(&directory);
    (directory, registry)
}

#[test]
fn a_file_of_gos_is_read_and_keeps_every_key_it_had() {
    let (directory, registry) = with_file(GO);
    let mut registry = registry.unwrap();
    let peer = registry.find("office-server").unwrap();
    assert_eq!((peer.daemon_id.as_str(), peer.token_used, peer.kind()), ("d_dc13ayhceh3r", true, Some(Kind::Tailnet)));
    assert_eq!(peer.as_daemon_id.as_deref(), Some("d_przre8xtmc6c"), "that is whom it knows");
    assert_eq!(peer.last_sync, None, "the year 1 is never");
    assert_eq!(registry.port(Kind::Local), Some(9147));
    registry.pair(candidate("d_new", "new"), Token::generate(&mut Seed(1)), Timestamp::ZERO).unwrap();
    let written: Value =
        serde_json::from_str(&fs::read_to_string(directory.path().join("peers.json")).unwrap()).unwrap();
    assert_eq!(written["future_top"]["kept"], true);
    assert_eq!(written["local"]["future_local"], 1);
    assert_eq!(written["local"]["daemon_id"], "d_me");
    assert_eq!(written["peers"][0]["remote_agents"][0], "a");
    assert_eq!(written["peers"][1]["transport"], "local");
    assert_eq!(open(&directory).unwrap().peers().len(), 2);
}

#[test]
fn the_array_of_the_oldest_version_is_read() {
    let (_directory, registry) =
        with_file(r#"[{"name":"a","address":"100.64.0.1:9100","daemon_id":"d_a","token":""}]"#);
    let registry = registry.unwrap();
    assert_eq!(registry.peers()[0].name, "a");
    assert!(registry.peers()[0].token.is_none());
    assert!(registry.authenticate("", Kind::Tailnet).is_none(), "no token is nobody's token");
}

/// A damaged or hand-edited file (C13 in docs/security.md).
#[test]
fn a_broken_file_is_an_error_and_stays_as_it_is() {
    const TOKEN: &str = "1111111111111111111111111111111111111111111111111111111111111111";
    let peer = format!(r#"{{"name":"a","address":"x:1","daemon_id":"d_a","token":"{TOKEN}"}}"#);
    let same_token = peer.replace("d_a", "d_b");
    for (text, why) in [
        ("", "EOF"),
        (&GO[..GO.len() / 2], "EOF"),
        ("null", "not an object"),
        (&format!("[{peer},{peer}]"), "twice"),
        (&format!("[{peer},{same_token}]"), "also another peer's"),
        (r#"{"peers":[],"peers":[]}"#, "duplicate key"),
        (r#"[{"daemon_id":"d_a","daemon_id":"d_b","name":"a"}]"#, "duplicate key"),
        (r#"[{"daemon_id":"","name":"a"}]"#, "daemon_id"),
        (r#"[{"daemon_id":"d_a","name":"\u001b[2J"}]"#, "invalid peer name"),
        (r#"[{"daemon_id":"d_a","name":"a","token":"short"}]"#, "64 hex digits"),
        (r#"{"local":{"port":70000}}"#, "else than u16"),
        // The unexpected value may be a secret.
        (&format!("[{}]", peer.replace("address", "moved").replace("x:1", TOKEN)), "else than"),
    ] {
        let (directory, registry) = with_file(text);
        let error = registry.expect_err(text);
        assert!(error.message.contains(why), "{text}: {error}");
        assert!(error.hint.is_some() && !error.message.contains(TOKEN), "{error}");
        assert_eq!(fs::read_to_string(directory.path().join("peers.json")).unwrap(), text);
    }
}

/// A joiner with the id of a peer (C7 in docs/security.md).
#[test]
fn a_pairing_that_works_is_not_replaced_and_one_that_does_not_is() {
    let directory = tempfile::tempdir().unwrap();
    let mut registry = open(&directory).unwrap();
    let mut seed = Seed(0);
    let mut pair = |registry: &mut Registry, name: &str| {
        registry.pair(candidate("d_x", name), Token::generate(&mut seed), Timestamp::ZERO)
    };
    pair(&mut registry, "first").unwrap();
    pair(&mut registry, "second").unwrap();
    assert_eq!(registry.peers().len(), 1, "the reply was lost: the token was never used");
    registry.token_worked("d_x").unwrap();
    let refused = pair(&mut registry, "third").unwrap_err();
    assert_eq!((refused.kind, refused.message.as_str()), (ErrorKind::Refused, "already paired with second"));
    registry.removed_us("d_x").unwrap();
    assert!(open(&directory).unwrap().get("d_x").unwrap().removed_us, "known after a restart, too");
    assert_eq!(pair(&mut registry, "fourth").unwrap().name, "fourth");
}

#[test]
fn two_peers_never_have_one_name_and_no_name_drives_a_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let mut registry = open(&directory).unwrap();
    let mut seed = Seed(0);
    let mut name = |id: &str, name: &str| {
        registry.pair(candidate(id, name), Token::generate(&mut seed), Timestamp::ZERO).unwrap().name
    };
    assert_eq!(name("d_1", "box"), "box");
    assert_eq!(name("d_2", "box"), "box-2");
    assert_eq!(name("d_3", "box"), "box-3");
    assert_eq!(name("d_4", ""), "d_4");
    assert_eq!(name("d_5", "a\x1b[2J\nb"), "a\\u{1b}[2J\\nb");
    assert!(name("d_6", &"é".repeat(1000)).chars().count() <= limits::MAX_PEER_NAME_CHARS);
    assert!(open(&directory).is_ok(), "what was accepted can be read again");
}

/// A token on another transport (C11 in docs/security.md).
#[test]
fn a_token_is_valid_on_its_kind_of_transport_only() {
    let directory = tempfile::tempdir().unwrap();
    let mut registry = open(&directory).unwrap();
    let token = Token::generate(&mut Seed(0));
    registry.pair(candidate("d_x", "x"), token.clone(), Timestamp::ZERO).unwrap();
    assert_eq!(registry.authenticate(token.reveal(), Kind::Local).map(|peer| peer.daemon_id.as_str()), Some("d_x"));
    assert!(registry.authenticate(token.reveal(), Kind::Tailnet).is_none());
    registry.remove("d_x").unwrap();
    assert!(registry.authenticate(token.reveal(), Kind::Local).is_none());
}

#[test]
fn last_sync_reaches_the_file_once_per_sync_interval() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("peers.json");
    let mut registry = open(&directory).unwrap();
    registry.pair(candidate("d_x", "x"), Token::generate(&mut Seed(0)), Timestamp::ZERO).unwrap();
    let now = |seconds: u64| Now {
        tick: Duration::from_secs(seconds),
        at: Timestamp::from_nanos(1).plus(Duration::from_secs(seconds)),
    };
    let mut writes = 0;
    let mut last = fs::read(&path).unwrap();
    for second in 0..31 {
        registry.heard("d_x", now(second)).unwrap();
        let text = fs::read(&path).unwrap();
        writes += usize::from(text != last);
        last = text;
    }
    assert_eq!(writes, 2, "at 15 s and at 30 s");
    registry.heard("d_x", now(40)).unwrap();
    registry.flush().unwrap();
    assert_eq!(open(&directory).unwrap().get("d_x").unwrap().last_sync, Some(now(40).at));
}

#[test]
fn a_change_that_cannot_be_written_does_not_count() {
    let directory = tempfile::tempdir().unwrap();
    let gone = directory.path().join("gone");
    fs::create_dir(&gone).unwrap();
    let mut registry = Registry::open(gone.join("peers.json"), "d_me").unwrap();
    fs::remove_dir(&gone).unwrap();
    assert!(registry.pair(candidate("d_x", "x"), Token::generate(&mut Seed(0)), Timestamp::ZERO).is_err());
    assert!(registry.peers().is_empty());
}

#[test]
fn the_address_of_a_peer_follows_its_port_and_the_host_that_the_network_reports() {
    let directory = tempfile::tempdir().unwrap();
    let mut registry = open(&directory).unwrap();
    let peer = Candidate { address: "100.64.0.2:9100".into(), kind: Kind::Tailnet, ..candidate("d_x", "x") };
    registry.pair(peer, Token::generate(&mut Seed(1)), Timestamp::ZERO).unwrap();
    let ip = |text: &str| Some(text.parse().unwrap());
    for (calls_from, port, address) in [
        (None, 9101, "100.64.0.2:9101"),
        (ip("100.64.0.7"), 9101, "100.64.0.7:9101"),
        (ip("fd7a:115c:a1e0::7"), 9102, "100.64.0.7:9102"),
    ] {
        registry.listens_at("d_x", calls_from, port).unwrap();
        assert_eq!(registry.get("d_x").unwrap().address, address);
    }
}

/// A node with many tags has a long "user" text, which is only displayed.
#[test]
fn long_words_about_a_node_are_cut_when_read_and_a_long_id_is_an_error() {
    let long = Node { id: "n1".into(), name: "é".repeat(200), user: "tag:x,".repeat(60) };
    let directory = tempfile::tempdir().unwrap();
    let mut registry = open(&directory).unwrap();
    let peer = Candidate { node: Some(long.clone()), calls_from: Some(long), ..candidate("d_x", "laptop") };
    registry.pair(peer, Token::generate(&mut Seed(1)), Timestamp::ZERO).unwrap();
    drop(registry);
    let registry = open(&directory).unwrap();
    let peer = registry.get("d_x").unwrap();
    for node in [&peer.node, &peer.calls_from] {
        let node = node.as_ref().unwrap();
        assert_eq!(
            (node.id.as_str(), node.name.chars().count(), node.user.len()),
            ("n1", 128, limits::MAX_FOREIGN_ID_BYTES)
        );
    }
    let (_, registry) =
        with_file(&format!(r#"{{"peers":[{{"name":"a","daemon_id":"d_x","node":{{"id":"{}"}}}}]}}"#, "n".repeat(257)));
    assert!(registry.expect_err("refused").message.contains("257 bytes"));
}

fn node(id: &str) -> Node {
    Node { id: id.into(), name: format!("name of {id}"), user: "ann".into() }
}

fn from(id: &str) -> Caller {
    Caller { address: "100.64.0.9:1".into(), kind: Kind::Tailnet, node: Some(node(id)) }
}

/// A token from another node (C11 in docs/security.md).
#[test]
fn a_peer_with_a_key_is_one_node_and_one_without_may_call_from_a_second() {
    let directory = tempfile::tempdir().unwrap();
    let mut registry = open(&directory).unwrap();
    let key = thrum_core::DaemonKey::generate(&mut Seed(9)).id().to_string();
    for id in [key.as_str(), "d_47fkcmt93fcz"] {
        let candidate = Candidate { kind: Kind::Tailnet, ..candidate(id, id) };
        registry.pair(candidate, Token::generate(&mut Seed(u8::try_from(id.len()).unwrap())), Timestamp::ZERO).unwrap();
        assert_eq!(registry.get(id).unwrap().match_node(&from("a")), NodeMatch::FirstCall);
        assert_eq!(
            registry.get(id).unwrap().match_node(&Caller { node: None, ..from("a") }),
            NodeMatch::Elsewhere,
            "nobody of the tailnet"
        );
        registry.learn_caller(id, &node("a")).unwrap();
        registry.learn_caller(id, &node("b")).unwrap();
        assert_eq!(registry.get(id).unwrap().match_node(&from("a")), NodeMatch::Known);
        assert_eq!(registry.get(id).unwrap().match_node(&from("b")), NodeMatch::Elsewhere, "once");
    }
    registry.learn_node("d_47fkcmt93fcz", &node("listens")).unwrap();
    registry.learn_node("d_47fkcmt93fcz", &node("other")).unwrap();
    let go = open(&directory).unwrap().get("d_47fkcmt93fcz").unwrap().clone();
    assert_eq!((go.node, go.calls_from), (Some(node("listens")), Some(node("a"))), "durably");
    let renamed = Node { name: "renamed".into(), ..node("a") };
    registry.learn_node(&key, &renamed).unwrap();
    registry.learn_node(&key, &node("b")).unwrap();
    assert_eq!(registry.get(&key).unwrap().node, Some(renamed.clone()), "the same node by another name");
    registry.moved(&key, &node("b"), Timestamp::ZERO).unwrap();
    let moved = open(&directory).unwrap().get(&key).unwrap().moved.clone();
    assert_eq!(moved, Some(Moved { from: renamed, to: node("b"), at: Timestamp::ZERO }));
    assert_eq!(registry.get(&key).unwrap().match_node(&from("a")), NodeMatch::Elsewhere, "where it was it is no more");
}

#[test]
fn the_ports_of_both_transports_are_kept_apart() {
    let directory = tempfile::tempdir().unwrap();
    let mut registry = open(&directory).unwrap();
    registry.keep_port(Kind::Local, 9100).unwrap();
    registry.keep_port(Kind::Tailnet, 9101).unwrap();
    let again = open(&directory).unwrap();
    assert_eq!((again.port(Kind::Local), again.port(Kind::Tailnet)), (Some(9100), Some(9101)));
}

#[test]
fn token_misuse_is_reported_at_most_once_a_minute() {
    let directory = tempfile::tempdir().unwrap();
    let mut registry = open(&directory).unwrap();
    let at = |seconds: u64| Timestamp::from_nanos(1).plus(Duration::from_secs(seconds));
    let said = (0..120).filter(|second| {
        registry.record_misuse("d_x", &node(if second % 2 == 0 { "a" } else { "b" }), at(*second));
        registry.misuse_is_news("d_x", at(*second))
    });
    assert_eq!(said.collect::<Vec<_>>(), [0, 60]);
    assert_eq!(registry.misuse("d_x").map(|misuse| misuse.times), Some(120));
}

#[test]
fn a_peer_is_called_what_it_calls_itself_until_a_person_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("peers.json");
    let mut registry = Registry::open(path.clone(), "d_me").unwrap();
    for (id, secret) in [("d_a", "1"), ("d_b", "2")] {
        let candidate = Candidate {
            daemon_id: id.into(),
            name: "desk".into(),
            address: "127.0.0.1:9101".into(),
            kind: Kind::Local,
            node: None,
            calls_from: None,
            protocol: Protocol::Pake,
        };
        registry.pair(candidate, Token::parse(&secret.repeat(64)).unwrap(), Timestamp::ZERO).unwrap();
    }
    let names = |registry: &Registry| registry.peers().iter().map(|peer| peer.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&registry), ["desk", "desk-2"]);
    assert_eq!(registry.follow_name("d_b", "desk").unwrap(), None, "its number tells it from the other one");
    assert_eq!(registry.follow_name("d_a", "tower").unwrap().as_deref(), Some("tower"));
    assert_eq!(
        registry.follow_name("d_b", "tower").unwrap().as_deref(),
        Some("tower-2"),
        "nobody takes another's name"
    );
    assert_eq!(registry.follow_name("d_a", "").unwrap(), None);

    assert_eq!(registry.rename("d_b", "tower").unwrap_err().kind, ErrorKind::Refused);
    assert_eq!(registry.rename("d_b", "a\u{1b}[2J").unwrap_err().kind, ErrorKind::Invalid);
    registry.rename("d_b", "box").unwrap();
    let mut registry = Registry::open(path, "d_me").unwrap();
    assert_eq!(registry.follow_name("d_b", "shed").unwrap(), None, "a person named it");
    assert_eq!(names(&registry), ["tower", "box"]);
}
