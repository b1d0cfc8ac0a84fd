//! Large batches from a plain peer. While a batch is stored, `status` and `doctor` name its peer. A stop or a kill
//! interrupts it between two pieces, and neither loses nor duplicates an event.

use std::{collections::BTreeSet, time::Instant};

use serde_json::{Value, json};

use crate::common::{
    TestRepo, pair,
    plain::{PlainPeer, WAIT, until},
};

/// Number of local agents. A message that names them all is resolved and stored for each of them, so a batch of a
/// thousand takes seconds.
const AGENTS: usize = 300;

/// Events in a batch, and in one of its pieces (`thrum-store/src/pieces.rs`).
const BATCH: u64 = 1000;
const PIECE: u64 = 100;

/// Creates a repository with many agents, and a peer that will send messages to all of them.
fn crowded() -> (TestRepo, PlainPeer) {
    let repo = TestRepo::with_agent("repo", "ann");
    let mut rpc = repo.connect();
    for n in 1..AGENTS {
        rpc.call("agent.register", &json!({"name": format!("a{n}"), "role": "reader", "module": "m", "force": true}));
    }
    let peer = PlainPeer::join(&repo, "crowd");
    (repo, peer)
}

fn to_all(n: u64) -> (&'static str, Value) {
    let names: Vec<String> = (1..AGENTS).map(|n| format!("a{n}")).collect();
    (
        "message.create",
        json!({"message_id": format!("msg_{n}"), "agent_id": "eve", "body": {"content": "hear me"}, "recipients": names}),
    )
}

/// Ids of the events that were received from a peer, read from the database of a stopped daemon.
fn came_from(repo: &TestRepo, peer: &str) -> Vec<String> {
    let database = rusqlite::Connection::open(repo.path(".thrum/var/messages.db")).unwrap();
    let mut statement =
        database.prepare("SELECT event_id FROM events WHERE received_from = ?1 ORDER BY sequence").unwrap();
    statement.query_map([peer], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn status_and_doctor_name_the_peer_whose_batch_is_being_stored_and_for_how_long() {
    let (repo, peer) = crowded();
    peer.serve((0..20 * BATCH).map(to_all));
    let mut rpc = repo.connect();
    let mut storing = Value::Null;
    until(|| {
        storing = rpc.call("health", &json!({}))["storing"][0].clone();
        storing["peer"] == "crowd"
    });
    let number = |name: &str| storing[name].as_u64().unwrap();
    assert_eq!(storing["daemon_id"], "d_crowd");
    assert!(number("for_ms") > 1000 && number("done") <= number("events") && number("events") <= BATCH, "{storing}");
    for command in [&["status"][..], &["doctor"]] {
        let mut shown = String::new();
        // Between two batches the output names no peer.
        until(|| {
            shown = repo.thrum(command).stdout;
            shown.contains("a batch of crowd for ")
        });
        let line = shown.lines().find(|line| line.contains("a batch of crowd for ")).unwrap();
        let said = line.split("a batch of crowd for ").nth(1).unwrap();
        let (seconds, done) = said.split_once("s, ").unwrap();
        assert!(
            seconds.parse::<u64>().unwrap() >= 1 && done.contains(" of ") && done.contains(" events done"),
            "{line}"
        );
    }
}

#[test]
fn a_stop_ends_a_batch_between_two_pieces_and_the_next_start_goes_on() {
    let (repo, peer) = crowded();
    let all = 2 * BATCH;
    let mut rpc = repo.connect();
    peer.serve((0..all).map(to_all));
    // At least one piece of the first batch is stored.
    until(|| rpc.call("health", &json!({}))["messages"].as_u64().is_some_and(|messages| messages >= PIECE));
    repo.thrum(&["daemon", "stop"]).ok();
    let stored = came_from(&repo, "d_crowd").len() as u64;
    // A whole batch has a little less than a thousand events, limited by its size in bytes.
    assert!(stored >= PIECE && stored.is_multiple_of(PIECE), "whole pieces, and no whole batch: {stored}");
    repo.thrum(&["daemon", "start"]).ok();
    until(|| repo.connect().call("health", &json!({}))["messages"] == all);
    repo.thrum(&["daemon", "stop"]).ok();
    let came = came_from(&repo, "d_crowd");
    assert_eq!((came.len() as u64, came.iter().collect::<BTreeSet<_>>().len() as u64), (all, all), "each once");
}

/// Receipts and edits before their message, agents and mail, with more of each than a piece holds.
fn mixed() -> Vec<(&'static str, Value)> {
    let mut events = Vec::new();
    for n in 0..300 {
        events.push((
            "message.receipt",
            json!({"message_id": "msg_late", "agent_id": format!("reader{n}"), "receipt_type": "read"}),
        ));
        events.push((
            "message.edit",
            json!({"message_id": format!("msg_{n}"), "body": {"content": format!("edited {n}")}}),
        ));
        events.push((
            "agent.register",
            json!({"agent_id": format!("eve{n}"), "kind": "agent", "role": "coder", "module": "m"}),
        ));
    }
    for n in 0..600 {
        let mail = json!({"message_id": format!("msg_{n}"), "agent_id": "eve1", "recipients": ["ann"], "body": {"content": format!("mail {n}")},
            "refs": [{"type": "mention", "value": "ann"}]});
        events.push(("message.create", mail));
    }
    let late =
        json!({"message_id": "msg_late", "agent_id": "eve1", "recipients": ["ann"], "body": {"content": "late"}});
    events.push(("message.create", late));
    events
}

#[test]
fn p2_a_large_batch_killed_repeatedly_between_its_pieces_is_applied_completely() {
    let (repo, undisturbed) = (TestRepo::with_agent("repo", "ann"), TestRepo::with_agent("undisturbed", "ann"));
    let events = mixed();
    let all = events.len() as u64;
    // Each daemon gets a peer with the same name and id.
    let (peer, other) = (PlainPeer::join(&repo, "crowd"), PlainPeer::join(&undisturbed, "crowd"));
    other.serve(events.clone());
    repo.thrum(&["daemon", "stop"]).ok();
    peer.prepare(events);
    let (mut held, mut kills) = (0, 0);
    let mut is_whole = false;
    let end = Instant::now() + WAIT;
    while !is_whole {
        repo.thrum(&["daemon", "start"]).ok();
        // The daemon is killed once it has more events than before: after a piece, at any point of the next one.
        while let Some(health) = repo.connect().attempt("health", &json!({})) {
            assert!(Instant::now() < end, "it did not come to its end");
            let now = health["events"].as_u64().unwrap();
            assert!(now >= held, "what was stored is gone: {now} < {held}");
            is_whole = health["tailscale_sync"]["peers"][0]["last_synced_seq"] == all;
            if is_whole {
                break;
            }
            if now > held {
                held = now;
                // Each kill follows its commit after a longer delay than the one before.
                for _ in 0..2 * kills {
                    repo.connect().attempt("health", &json!({}));
                }
                repo.kill_daemon();
                kills += 1;
                break;
            }
        }
    }
    assert!(kills >= 3, "killed {kills} times only");
    until(|| undisturbed.connect().call("health", &json!({}))["tailscale_sync"]["peers"][0]["last_synced_seq"] == all);
    let mail = [&repo, &undisturbed].map(mail_of_ann);
    assert_eq!(mail[0].len(), 601);
    assert_eq!(mail[0], mail[1]);
    for repo in [&repo, &undisturbed] {
        assert_eq!(repo.connect().call("health", &json!({}))["parked"], 0);
        repo.thrum(&["daemon", "stop"]).ok();
    }
    let came = [&repo, &undisturbed].map(|repo| came_from(repo, "d_crowd"));
    assert_eq!(came[0].len() as u64, all, "none twice");
    assert_eq!(came[0].iter().collect::<BTreeSet<_>>(), came[1].iter().collect());
    // Compares the logs and the projections of both daemons.
    for repo in [&repo, &undisturbed] {
        repo.thrum(&["daemon", "start"]).ok();
    }
    pair(&repo, &undisturbed);
    let verified = repo.thrum(&["sync", "verify"]).stdout;
    assert!(verified.contains("undisturbed  holds the same"), "{verified}");
}

/// Ids and texts of all messages for `ann`.
fn mail_of_ann(repo: &TestRepo) -> Vec<(String, String)> {
    let mut rpc = repo.connect();
    let mut mail = Vec::new();
    for page in 1..=7 {
        let params =
            json!({"for_agent": "ann", "caller_agent_id": "ann", "page_size": 100, "page": page, "sort_order": "asc"});
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let listing = rpc.call("message.list", &params);
        mail.extend(
            listing["messages"]
                .as_array()
                .unwrap()
                .iter()
                .map(|it| (text(&it["message_id"]), text(&it["body"]["content"]))),
        );
    }
    mail.sort();
    mail
}
