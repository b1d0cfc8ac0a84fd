//! Repeats calls that were recorded on a Go Thrum v0.6.3 daemon, in the same situation on our daemon. Every difference
//! must be listed in [`DIFFERENCES`] with its reason, and in `docs/compatibility.md`; every listed difference must
//! exist.

use std::{collections::BTreeSet, fs, net::TcpListener, os::unix::fs::PermissionsExt};

use serde_json::{Value, json};

use crate::{
    compare::{self, Differences},
    differences::{DIFFERENCES, Difference},
    go_peer::GoPeer,
    harness::{Daemon, Start, World},
};

const RECORDED: &str = include_str!("../data/rpc-go-serves.jsonl");

/// One exchange with the recorded daemon.
struct Exchange {
    asked: String,
    answered: String,
}

fn recorded() -> Vec<Exchange> {
    let lines: Vec<Value> = RECORDED.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let line = |entry: &Value| entry["line"].as_str().unwrap().to_owned();
    let exchange = |pair: &[Value]| {
        assert_eq!((&pair[0]["from"], &pair[1]["from"]), (&json!("client"), &json!("server")));
        Exchange { asked: line(&pair[0]), answered: line(&pair[1]) }
    };
    lines.chunks(2).map(exchange).collect()
}

/// The situation of the recording: two peers that are down, an agent and a message of one of them, and mail of `a1`.
struct Stage {
    daemon: Daemon,
    /// Names that differ between the recording and our daemon: theirs, ours.
    names: Vec<(String, String)>,
}

fn stage(world: &World) -> Stage {
    let repo = world.repo("g1");
    let peer = GoPeer::listen();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let paired = |name: &str, daemon_id: &str, address: &str, token: &str| {
        json!({"name": name, "address": address, "daemon_id": daemon_id, "token": token.repeat(64),
               "paired_at": "2026-01-01T00:00:00Z", "last_sync": "2026-01-01T00:00:00Z"})
    };
    // In the recording both peers have the same name; here names are unique.
    let peers = json!({"peers": [
        paired("capture-box", "d_capturepeer1", &closed, "1"),
        paired("capture-box-2", "d_capturepeer2", &peer.address(), "2"),
    ]});
    fs::write(repo.peers_file(), peers.to_string()).unwrap();
    // As written by Go Thrum's `init`.
    fs::write(repo.config(), r#"{"daemon":{"local_only":true}}"#).unwrap();
    fs::set_permissions(repo.peers_file(), fs::Permissions::from_mode(0o600)).unwrap();
    let names =
        [("100.64.0.2:9200", closed), ("100.64.0.2:9300", peer.address()), ("capture-box", "capture-box-2".to_owned())];

    let daemon = Start::of(&repo).env("THRUM_HOSTNAME", "box1").env("THRUM_TS_HOSTNAME", "gonode1").run();
    let mut a1 = daemon.client();
    a1.ok(
        "agent.register",
        json!({"name": "a1", "role": "implementer", "module": "m1", "display": "Implementer (m1)"}),
    );
    let session = a1.ok("session.start", json!({"agent_id": "a1"}));
    a1.ok("message.send", json!({"content": "first message", "mentions": ["@everyone"], "caller_agent_id": "a1"}));
    let second = a1.ok("message.send", json!({"content": "second", "caller_agent_id": "a1"}));
    a1.ok("message.delete", json!({"message_id": second["message_id"], "caller_agent_id": "a1"}));
    let peer = peer.serve();
    let got = a1.ok("message.wait", json!({"caller_agent_id": "a1", "timeout_ms": 60_000}));
    a1.ok("message.markRead", json!({"message_ids": [got["messages"][0]["message_id"]], "caller_agent_id": "a1"}));
    peer.leave();
    // Wait until both are known to be down.
    while a1.ok("peer.status", json!({})).as_array().unwrap().iter().any(|peer| peer["state"] != "unreachable") {
        a1.ok("tsync.force", json!({}));
    }
    let mut names: Vec<_> = names.into_iter().map(|(theirs, ours)| (theirs.to_owned(), ours)).collect();
    names.push(("ses_01M83E3518FQXV3SXZY6HY5KJC".to_owned(), session["session_id"].as_str().unwrap().to_owned()));
    Stage { daemon, names }
}

/// Returns the differences: method, place, and difference.
fn replay() -> BTreeSet<(String, String, String)> {
    let world = World::new();
    let Stage { daemon, mut names } = stage(&world);
    let mut client = daemon.client();
    let mut all = BTreeSet::new();
    for Exchange { asked, answered } in recorded() {
        let to_ours = names.iter().fold(asked.clone(), |text, (theirs, ours)| text.replace(theirs, ours));
        client.send_line(&to_ours);
        let ours = client.line();
        let theirs: Value = serde_json::from_str(&answered).unwrap();
        learn(&theirs["result"], &ours["result"], &mut names);
        let ours = names.iter().rev().fold(ours.to_string(), |text, (theirs, ours)| text.replace(ours, theirs));
        let mut found = Differences::new();
        compare::differences(&theirs, &serde_json::from_str(&ours).unwrap(), "", &mut found);
        let method = called(&asked);
        all.extend(found.into_iter().map(|(at, what)| {
            let at = at.strip_prefix("result.").unwrap_or(&at).to_owned();
            // One row covers all methods.
            let method = if at == "error.data" && what == "added" { "any error" } else { &method };
            (method.to_owned(), at, what)
        }));
    }
    all
}

/// Returns the method of a request. `message.list` counts as two methods, depending on whose mail is requested.
fn called(asked: &str) -> String {
    let Ok(request) = serde_json::from_str::<Value>(asked) else { return "no JSON".to_owned() };
    let unread = if request["params"]["unread_for_agent"].is_string() { ", `unread_for_agent`" } else { "" };
    format!("{}{unread}", request["method"].as_str().unwrap())
}

/// Records which of our ids corresponds to which of theirs.
fn learn(theirs: &Value, ours: &Value, names: &mut Vec<(String, String)>) {
    for key in ["session_id", "message_id", "thread_id"] {
        if let (Some(theirs), Some(ours)) = (theirs[key].as_str(), ours[key].as_str())
            && !names.iter().any(|(known, _)| known == theirs)
        {
            names.push((theirs.to_owned(), ours.to_owned()));
        }
    }
}

#[test]
fn recorded_calls_get_gos_answers_except_for_documented_differences() {
    let expected: BTreeSet<_> = DIFFERENCES.iter().flat_map(Difference::each).collect();
    let found = replay();
    let list = |set: BTreeSet<&(String, String, String)>| {
        set.into_iter().map(|row| format!("\n  {row:?}")).collect::<String>()
    };
    let (unexplained, stale) = (found.difference(&expected).collect(), expected.difference(&found).collect());
    assert!(found == expected, "without a reason:{}\nno longer so:{}", list(unexplained), list(stale));
}
