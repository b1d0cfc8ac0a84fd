//! Presence of agents' programs, as their hooks report it: at once on this machine, and soon on others.

use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::{
    common::{TestRepo, paired, plain::until},
    hook::{beside, ended, waiter},
};

/// Returns bob's presence and wakeability as `team` shows them; the other lists must show the same.
fn bob(repo: &TestRepo) -> (String, bool) {
    let team = repo.json(&["team", "--all"]);
    let member = team["members"].as_array().unwrap().iter().find(|member| member["agent_id"] == "bob").unwrap().clone();
    (member["presence"].as_str().unwrap_or_default().to_owned(), member["wakeable"] == true)
}

fn until_bob(repo: &TestRepo, state: &str, wakeable: bool) {
    until(|| bob(repo) == (state.to_owned(), wakeable));
}

/// Number of events of a type that this machine holds.
fn events(repo: &TestRepo, kind: &str) -> usize {
    let exported = repo.thrum(&["export", "--jsonl"]).ok().stdout;
    exported.lines().filter(|line| line.contains(&format!("\"type\":\"{kind}\""))).count()
}

/// Starts a program that does nothing until it is told to end.
fn program() -> Child {
    Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

#[test]
fn the_state_of_a_session_is_shown_locally_at_once_and_remotely_soon() {
    let (left, right) = paired();
    let me = std::process::id();
    let hook = |event: &str, more: Value| {
        let mut payload = json!({"session_id": "s1"});
        payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        beside(&right, me, event, &payload);
    };
    assert_eq!(bob(&right), (String::new(), false), "nothing tells yet");
    hook("start", json!({}));
    assert_eq!(bob(&right), ("idle".to_owned(), false));
    hook("prompt", json!({"prompt": "work"}));
    assert_eq!(bob(&right), ("working".to_owned(), false));
    until_bob(&left, "working", false);
    hook("notify", json!({"notification_type": "idle_prompt"}));
    assert_eq!(bob(&right).0, "working", "that is no question");
    hook("notify", json!({"notification_type": "permission_prompt"}));
    assert_eq!(bob(&right).0, "needs_you");
    hook("stop", json!({}));
    let waiting = waiter(&right, me, "s1");
    until_bob(&right, "idle", true);
    until_bob(&left, "idle", true);
    // The other lists show the same, for people and for programs.
    let listed = left.json(&["agent", "list"]);
    let in_list = listed["agents"].as_array().unwrap().iter().find(|agent| agent["agent_id"] == "bob").unwrap();
    assert_eq!((&in_list["presence"], &in_list["wakeable"]), (&"idle".into(), &true.into()));
    for list in [["team", "--all"].as_slice(), &["agent", "list"]] {
        assert!(left.thrum(list).ok().stdout.contains("idle, mail wakes it"), "{list:?}");
    }
    left.thrum(&["send", "wake up", "--to", "@bob"]).ok();
    assert_eq!(ended(waiting).code, 2);
    hook("end", json!({"reason": "prompt_input_exit"}));
    assert_eq!(bob(&right), ("gone".to_owned(), false));
    until_bob(&left, "gone", false);
    let there = left.thrum(&["team"]).ok().stdout;
    assert!(there.lines().all(|line| !line.starts_with("● @bob")), "{there}");
}

#[test]
fn a_killed_program_is_gone_even_if_the_daemon_was_down_meanwhile() {
    let repo = TestRepo::with_reader_and_writer();
    let mut first = program();
    beside(&repo, first.id(), "start", &json!({"session_id": "s1"}));
    beside(&repo, first.id(), "prompt", &json!({"session_id": "s1", "prompt": "work"}));
    assert_eq!(bob(&repo).0, "working");
    // The next daemon learns of the session from the stored event.
    until(|| events(&repo, "agent.presence") == 1);
    repo.thrum(&["daemon", "restart"]).ok();
    assert_eq!(bob(&repo).0, "working");
    first.kill().unwrap();
    first.wait().unwrap();
    until_bob(&repo, "gone", false);
    let mut second = program();
    beside(&repo, second.id(), "start", &json!({"session_id": "s2"}));
    assert_eq!(bob(&repo).0, "idle");
    repo.thrum(&["daemon", "stop"]).ok();
    second.kill().unwrap();
    second.wait().unwrap();
    repo.thrum(&["daemon", "start"]).ok();
    assert_eq!(bob(&repo).0, "gone");
}

#[test]
fn a_session_that_two_hooks_serve_counts_once_and_two_sessions_count_twice() {
    let repo = TestRepo::with_reader_and_writer();
    let me = std::process::id();
    let hook =
        |event: &str, session: &str| drop(beside(&repo, me, event, &json!({"session_id": session, "prompt": "x"})));
    for _ in 0..2 {
        hook("start", "s1");
        hook("prompt", "s1");
    }
    hook("stop", "s1");
    assert_eq!(bob(&repo).0, "idle", "the second hook left nothing behind");
    hook("start", "s2");
    hook("prompt", "s2");
    hook("stop", "s1");
    assert_eq!(bob(&repo).0, "working", "the other session still works");
    hook("end", "s2");
    assert_eq!(bob(&repo).0, "idle");
    hook("end", "s1");
    assert_eq!(bob(&repo).0, "gone");
}

#[test]
fn turns_that_follow_each_other_quickly_are_few_events() {
    let repo = TestRepo::with_reader_and_writer();
    let me = std::process::id();
    let hook = |event: &str| drop(beside(&repo, me, event, &json!({"session_id": "s1", "prompt": "x"})));
    hook("start");
    until(|| events(&repo, "agent.presence") == 1);
    for _ in 0..10 {
        hook("prompt");
        hook("stop");
    }
    hook("prompt");
    // The daemon publishes the last state once enough time has passed.
    until(|| {
        let exported = repo.thrum(&["export", "--jsonl"]).ok().stdout;
        exported.lines().any(|line| line.contains("\"type\":\"agent.presence\"") && line.contains("\"working\""))
    });
    assert!(events(&repo, "agent.presence") <= 4, "{}", events(&repo, "agent.presence"));
}
