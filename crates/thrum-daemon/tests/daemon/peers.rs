//! Two daemons on one machine: pairing, mail between them, removal.

use serde_json::{Value, json};

use crate::harness::{Daemon, Start, World, keep_port};

/// Go Thrum's keys (recorded).
const GOS_LIST: [&str; 5] = ["daemon_id", "name", "address", "last_sync", "last_synced_seq"];
const GOS_STATUS: [&str; 7] =
    ["daemon_id", "name", "address", "has_token", "paired_at", "last_sync", "last_synced_seq"];

fn two(world: &World) -> (Daemon, Daemon) {
    let start = |name: &str| {
        let repo = world.repo(name);
        keep_port(&repo);
        Start::of(&repo).env("THRUM_TS_HOSTNAME", name).run()
    };
    (start("left"), start("right"))
}

fn pair(left: &Daemon, right: &Daemon) -> (Value, Value) {
    let mut adding = left.client();
    let shown = adding.ok("peer.start_pairing", json!({"transport": "local"}));
    adding.request("peer.wait_pairing", json!({}));
    let joined = right.call("peer.join", json!({"address": shown["address"], "code": shown["code"]}));
    let added = adding.answer().unwrap();
    (added, joined)
}

#[test]
fn two_repositories_pair_and_mail_from_one_wakes_the_other() {
    let world = World::new();
    let (left, right) = two(&world);
    left.agent("alice", "planner");
    right.agent("bob", "builder");
    let (added, joined) = pair(&left, &right);
    assert_eq!(
        (&added["status"], &added["peer_name"], &added["syncing"]),
        (&json!("paired"), &json!("right"), &json!(true)),
        "{added}"
    );
    assert_eq!(
        (&joined["status"], &joined["peer_name"], &joined["syncing"]),
        (&json!("paired"), &json!("left"), &json!(true)),
        "{joined}"
    );

    let mut waiting = right.client();
    waiting.request("message.wait", json!({"caller_agent_id": "bob", "timeout_ms": 60_000}));
    let sent = left.call("message.send", json!({"content": "hello", "mentions": ["bob"], "caller_agent_id": "alice"}));
    let woken = waiting.answer().unwrap();
    assert_eq!(woken["messages"][0]["message_id"], sent["message_id"]);
    assert_eq!(woken["messages"][0]["from_home"], joined["peer_daemon_id"]);

    let mut seen = left.client();
    seen.ok("events.watch", json!({}));
    right.call("message.markRead", json!({"message_ids": [sent["message_id"]], "caller_agent_id": "bob"}));
    // Other events may come first, such as the one that a waiter was given the message.
    while seen.line()["params"]["type"] != "message.receipt" {}
    let outbox = left.call("message.outbox", json!({"caller_agent_id": "alice"}));
    assert!(outbox["messages"][0]["recipients"][0]["read_at"].is_string(), "{outbox}");

    for daemon in [&left, &right] {
        let verified = daemon.call("sync.verify", json!({"timeout_ms": 30_000}));
        assert_eq!((&verified["status"], &verified["events"]), (&json!("equal"), &json!(5)), "{verified}");
    }
    let listed = left.call("peer.list", json!({}));
    assert!(GOS_LIST.iter().all(|key| listed[0].get(key).is_some()) && listed[0]["state"] == "connected", "{listed}");
    let status = left.call("peer.status", json!({}));
    assert!(GOS_STATUS.iter().all(|key| status[0].get(key).is_some()), "{status}");
    assert!(status[0]["last_sync"].as_str().is_some_and(|text| text.ends_with("s ago")), "{status}");
    let forced = left.call("tsync.force", json!({"from": "right"}));
    assert_eq!((&forced["status"], &forced["results"][0]["applied"]), (&json!("ok"), &json!(0)), "{forced}");
    assert!(left.call("sync.force", json!({}))["last_sync_at"].is_string());
    assert_eq!(left.call("health", json!({}))["tailscale_sync"]["peers"][0]["name"], "right");

    let team = left.call("agent.list", json!({}));
    let bob = team["agents"].as_array().unwrap().iter().find(|agent| agent["agent_id"] == "bob").unwrap();
    assert_eq!((&bob["local"], &bob["home"]), (&json!(false), &added["peer_daemon_id"]));
    let refused = left.client().error("message.send", json!({"content": "forged", "caller_agent_id": "bob"}));
    assert_eq!(refused["data"]["kind"], "refused", "one daemon does not act for another's agents");
}

#[test]
fn a_list_of_agents_distinguishes_namesakes_on_two_machines() {
    let world = World::new();
    let (left, right) = two(&world);
    pair(&left, &right);
    left.agent("alice", "planner");
    left.agent("carol", "tester");
    let mut seen = left.client();
    seen.ok("events.watch", json!({}));
    right.agent("alice", "tester");
    right.agent("carol", "tester");
    while seen.line()["params"]["event_json"]["agent_id"] != "carol" {}

    let group = left.call("group.members", json!({"name": "tester", "expand": true}));
    assert_eq!(
        group["expanded"],
        json!(["@alice@right", "carol", "@carol@right"]),
        "Go Thrum's client looks for its own id: {group}"
    );
    let shown: Vec<_> =
        group["agents"].as_array().unwrap().iter().map(|it| (&it["address"], &it["signed"], &it["local"])).collect();
    let (yes, no) = (json!(true), json!(false));
    let (alice, carol, other) = (json!("@alice@right"), json!("@carol"), json!("@carol@right"));
    assert_eq!(shown, [(&alice, &yes, &no), (&carol, &yes, &yes), (&other, &yes, &no)]);

    let sent = left.call(
        "message.send",
        json!({"content": "x", "mentions": ["carol", "carol@right"], "caller_agent_id": "alice"}),
    );
    let mark = json!({"message_ids": [sent["message_id"]], "caller_agent_id": "carol"});
    right.call("message.wait", json!({"caller_agent_id": "carol", "timeout_ms": 60_000}));
    right.call("message.markRead", mark.clone());
    while seen.line()["params"]["type"] != "message.receipt" {}
    let marked = left.call("message.markRead", mark);
    let id = sent["message_id"].as_str().unwrap();
    assert_eq!(marked["also_read_by"][id], json!(["@carol@right"]), "{marked}");
    assert_eq!((&marked["readers"][id][0]["home_name"], &marked["readers"][id][0]["local"]), (&json!("right"), &no));
}

#[test]
fn a_session_ends_with_the_connection_that_started_it() {
    let world = World::new();
    let (left, right) = two(&world);
    let mut adding = left.client();
    let shown = adding.ok("peer.start_pairing", json!({}));
    assert_eq!(left.client().error("peer.start_pairing", json!({}))["data"]["kind"], "refused");
    let mut watching = left.client();
    watching.request("peer.wait_pairing", json!({}));
    drop(adding);
    assert_eq!(watching.answer().unwrap_err()["message"], "pairing canceled");
    let error = right.client().error("peer.join", json!({"address": shown["address"], "code": shown["code"]}));
    assert_eq!(error["message"], "no active pairing session");
    left.client().ok("peer.start_pairing", json!({}));
}

#[test]
fn c4_c5_codes_are_text_of_four_digits_and_appear_nowhere() {
    let world = World::new();
    let (left, right) = two(&world);
    let mut adding = left.client();
    let shown = adding.ok("peer.start_pairing", json!({}));
    let code = shown["code"].as_str().unwrap();
    assert_eq!(shown["peercode"], json!(format!("left:{}:{code}", shown["address"].as_str().unwrap())));
    let mut joining = right.client();
    for wrong in [json!(7392), json!("42"), json!(" 739"), json!("４２４２"), json!(null), json!(["7392"])] {
        let error = joining.error("peer.join", json!({"address": shown["address"], "code": wrong}));
        assert_eq!(error["data"]["kind"], "invalid", "{wrong}");
        assert!(!error.to_string().contains("7392"), "{error}");
    }
    let joined = joining.ok("peer.join", json!({"address": shown["address"], "code": code}));
    assert_eq!(joined["status"], "paired", "nothing of that was counted");
    for daemon in [&left, &right] {
        let log = std::fs::read_to_string(daemon.repo.log_file()).unwrap();
        let plain: Vec<&str> =
            log.lines().filter(|line| line[20..].contains(code) && line.contains("[pairing]")).collect();
        assert!(plain.iter().all(|line| line.contains("127.0.0.1") || line.contains("d_k")), "{plain:?}");
        assert!(!log.contains(&format!("code={code}")), "{log}");
    }
}

#[test]
fn c10_a_removed_peer_is_gone_and_the_other_side_learns_it() {
    let world = World::new();
    let (left, right) = two(&world);
    pair(&left, &right);
    assert_eq!(left.client().error("peer.remove", json!({"name": "rihgt"}))["data"]["hint"], "Did you mean right?");
    assert_eq!(left.call("peer.remove", json!({"name": "right"}))["status"], "ok");
    assert_eq!(left.call("peer.list", json!({})), json!([]));
    right.call("sync.force", json!({}));
    assert_eq!(right.call("peer.status", json!({}))[0]["state"], "removed_us");
    let mut client = left.client();
    assert_eq!(client.error("peer.remove", json!({"name": "right"}))["message"], "peer \"right\" not found");
    assert_eq!(client.error("peer.remove", json!({}))["message"], "name or daemon_id is required");
}

#[test]
fn unreachable_addresses_and_ones_own_are_refused() {
    let world = World::new();
    let (left, _right) = two(&world);
    let mut adding = left.client();
    let shown = adding.ok("peer.start_pairing", json!({}));
    let mut joining = left.client();
    for (address, kind) in [
        (json!("127.0.0.1:1"), "unavailable"),
        (json!(""), "invalid"),
        (json!("host:x"), "invalid"),
        (shown["address"].clone(), "refused"),
    ] {
        let error = joining.error("peer.join", json!({"address": address, "code": "0042"}));
        assert_eq!(error["data"]["kind"], kind, "{address}: {error}");
    }
}

#[test]
fn a_restarted_daemon_finds_its_peers_again() {
    let world = World::new();
    let (left, right) = two(&world);
    right.agent("bob", "builder");
    pair(&left, &right);
    let repo = left.repo.clone();
    left.signal(rustix::process::Signal::KILL);
    left.ended();
    let left = Start::of(&repo).env("THRUM_TS_HOSTNAME", "left").run();
    left.agent("alice", "planner");
    let verified = left.call("sync.verify", json!({"timeout_ms": 60_000}));
    assert_eq!((&verified["status"], &verified["events"]), (&json!("equal"), &json!(2)), "{verified}");
}
