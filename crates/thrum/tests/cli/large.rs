//! Large messages and contexts, local and from a peer. Every list still works and shortens texts that do not fit; a
//! command shows each text in full.

use serde_json::json;

use crate::common::{
    TestRepo, contents,
    plain::{PlainPeer, until},
};

const MIB: usize = 1 << 20;

/// Most bytes that a command prints of one message unless the whole text is requested.
const PRINTED: usize = 32 << 10;

#[test]
fn messages_of_control_characters_leave_every_list_working() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    let text = "\u{1}".repeat(MIB);
    for _ in 0..3 {
        repo.thrum_with_input(text.as_bytes(), &["send", "-", "--to", "bob", "--as", "ann"]).ok();
    }
    let waited = repo.json(&["wait", "--as", "bob", "--timeout", "20s"]);
    let listed = repo.json(&["inbox", "--as", "bob", "--unread"]);
    let sent = repo.json(&["sent", "--as", "ann"]);
    for listing in [&waited, &listed, &sent] {
        assert_eq!(contents(listing).len(), 3);
        for message in listing["messages"].as_array().unwrap() {
            assert_eq!(message["body"]["content"].as_str().unwrap().len(), PRINTED);
            assert_eq!((&message["truncated"], &message["content_bytes"]), (&json!(true), &json!(MIB)));
        }
    }
    let id = listed["messages"][0]["message_id"].as_str().unwrap();
    let shown = repo.thrum(&["inbox", "--as", "bob", "--unread"]).ok().stdout;
    assert!(shown.contains(&format!("… 32768 of 1048576 bytes; all: thrum message get {id}")), "it names the command");
    for full in [&["inbox", "--as", "bob", "--unread", "--full"][..], &["wait", "--as", "bob", "--full"]] {
        let whole = repo.json(full);
        assert!(contents(&whole).iter().all(|content| *content == text), "{full:?}");
        assert!(whole["messages"][0].get("truncated").is_none());
    }
    assert_eq!(repo.json(&["message", "get", id, "--as", "bob"])["message"]["body"]["content"], text);
    // A client without special parameters gets as much as one reply can hold.
    let plain = repo.connect().call("message.list", &json!({"for_agent": "bob", "caller_agent_id": "bob"}));
    assert_eq!(contents(&plain).len(), 3);
    assert!(plain.to_string().len() < 5 * MIB && contents(&plain)[0].len() > 300_000);
    repo.thrum(&["prime", "--as", "bob"]).ok();
    repo.thrum(&["status", "--as", "bob"]).ok();
}

#[test]
fn ordinary_messages_are_whole_in_every_list() {
    let repo = TestRepo::with_agent("repo", "ann");
    let text = "x".repeat(PRINTED);
    repo.thrum_with_input(text.as_bytes(), &["send", "-", "--to", "ann"]).ok();
    let message = &repo.json(&["inbox"])["messages"][0];
    assert_eq!(message["body"]["content"], text);
    assert!(message.get("truncated").is_none() && message.get("content_bytes").is_none());
}

#[test]
fn work_contexts_and_texts_of_megabytes_leave_every_view_of_the_team_small() {
    let repo = TestRepo::with_agent("repo", "ann");
    let peer = PlainPeer::join(&repo, "hoarder");
    let files: Vec<String> = (0..3_000).map(|n| format!("src/{n:04}/{}", "x".repeat(1_000))).collect();
    let long = "y".repeat(MIB);
    for n in 0..30 {
        let (agent, session) = (format!("agent{n}"), format!("ses_{n}"));
        peer.serve([
            (
                "agent.register",
                json!({"agent_id": agent, "kind": "agent", "role": "coder", "module": format!("m{n}"), "display": long,
                "hostname": long, "worktree": long}),
            ),
            ("agent.session.start", json!({"session_id": session, "agent_id": agent})),
            (
                "agent.update",
                json!({"agent_id": agent, "work_contexts": [{"session_id": session, "branch": "b", "changed_files": files,
                "intent": "work"}]}),
            ),
        ]);
    }
    let all = ["team", "--all", "--json"];
    until(|| repo.thrum(&["agent", "list", "--json"]).ok().json()["agents"].as_array().unwrap().len() == 31);
    let holders = || repo.thrum(&["who-has", "src/0001", "--json"]);
    until(|| holders().json()["agents"].as_array().is_some_and(|holders| holders.len() == 30));
    // Four commands at the same time.
    let at_once: Vec<_> = (0..4).map(|_| repo.begin(&all)).collect();
    for team in at_once {
        let team = team.end().ok().json();
        assert_eq!(team["members"].as_array().unwrap().len(), 31);
        assert!(team.to_string().len() < 5 * MIB);
    }
    for args in [
        &["team", "--all"][..],
        &["status"],
        &["agent", "list"],
        &["agent", "list", "--context"],
        &["session", "list"],
        &["prime"],
    ] {
        repo.thrum(args).ok();
    }
    let peak = repo.daemon_peak_kb().unwrap();
    assert!(peak < 200_000, "{peak} kB");
    assert_eq!(repo.json(&["status"])["health"]["parked"].as_u64().unwrap_or(0), 0);
}
