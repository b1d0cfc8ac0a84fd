//! The agent of a call: sessions and sub-agents of the client.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use serde_json::json;

use super::{Client, contents, two};
use crate::common::TestRepo;

/// Records that a session belongs to this agent, as the session's start hook does.
fn session_is(repo: &TestRepo, session: &str, agent: &str) {
    let payload = json!({"session_id": session, "hook_event_name": "SessionStart"}).to_string();
    repo.thrum_with_input(payload.as_bytes(), &["hook", "start", "--host", "codex", "--as", agent]).ok();
}

#[test]
fn a_call_acts_as_the_agent_of_its_session_regardless_of_the_servers_environment() {
    let repo = two();
    session_is(&repo, "s1", "bob");
    // Codex passes the environment of its first terminal to every server.
    let mut server = Client::named_by_variable(&repo, "ann").in_codex("s1", "s1");
    assert_eq!(server.done("brief", json!({}))["you"]["name"], "bob");
    repo.thrum(&["send", "for bob", "--to", "@bob", "--as", "ann"]).ok();
    repo.thrum(&["send", "for ann", "--to", "@ann", "--as", "bob"]).ok();
    assert_eq!(contents(&server.done("check_messages", json!({}))["messages"]), ["for bob"]);
    let sent = server.done("send_message", json!({"to": "@ann", "content": "who wrote this?"}));
    let wrote = repo.json(&["message", "get", sent["message_id"].as_str().unwrap(), "--as", "ann"]);
    assert_eq!(wrote["message"]["author"]["agent_id"], "bob");
    // One process may serve several sessions. A session that is not known yet acts as the agent that the environment
    // names.
    let mut server = server.in_codex("s2", "s2");
    assert_eq!(server.done("brief", json!({}))["you"]["name"], "ann");
    session_is(&repo, "s2", "bob");
    assert_eq!(server.done("brief", json!({}))["you"]["name"], "bob");
}

#[test]
fn a_sub_agent_leaves_the_mail_to_the_session_that_it_works_for() {
    let repo = two();
    session_is(&repo, "s1", "bob");
    let mut sub_agent = Client::named_by_variable(&repo, "ann").in_codex("s1", "t2");
    assert_eq!(sub_agent.done("brief", json!({}))["you"]["name"], "bob", "it speaks for the session");
    repo.thrum(&["send", "one", "--to", "@bob", "--as", "ann"]).ok();
    let seen = sub_agent.done("check_messages", json!({}));
    assert_eq!(
        (contents(&seen["messages"]), seen["note"].as_str().unwrap().contains("stays unread")),
        (vec!["one"], true)
    );
    assert_eq!(contents(&sub_agent.done("check_messages", json!({}))["messages"]), ["one"]);
    // A waiting sub-agent gets only mail that arrives from now on. Otherwise the same unread mail would end every wait.
    assert_eq!(sub_agent.done("wait_for_message", json!({"timeout": 0}))["status"], "timeout");
    let waiting = sub_agent.send("tools/call", json!({"name": "wait_for_message", "arguments": {"timeout": 50}}));
    // The call may not wait yet when the first message is sent, but it does when one of the later messages is.
    let is_woken = AtomicBool::new(false);
    let (woken, sent) = thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let (mut ann, mut sent) = (Client::of(&repo, "ann"), 0);
            while !is_woken.load(Ordering::Relaxed) {
                ann.done("send_message", json!({"to": "@bob", "content": "two"}));
                sent += 1;
            }
            sent
        });
        let woken = sub_agent.answer(waiting);
        is_woken.store(true, Ordering::Relaxed);
        (woken, sending.join().unwrap())
    });
    assert_eq!(woken["result"]["structuredContent"]["message"]["content"], "two");
    let mut session = Client::named_by_variable(&repo, "ann").in_codex("s1", "s1");
    let mut ann = Client::of(&repo, "ann");
    let mut left = 0;
    while left < 1 + sent {
        let page = session.done("check_messages", json!({"limit": 50}));
        assert_eq!(page["status"], "messages", "all of it is the session's: {left} of {sent} and one");
        left += page["messages"].as_array().unwrap().len();
    }
    // This call starts only after the messages returned above have been marked as read.
    assert_eq!(session.done("check_messages", json!({}))["status"], "empty");
    // Unless the call asks for mail to be marked as read.
    ann.done("send_message", json!({"to": "@bob", "content": "three"}));
    assert_eq!(contents(&sub_agent.done("check_messages", json!({"peek": false}))["messages"]), ["three"]);
    // This call starts only after the message returned above has been marked as read.
    assert_eq!(sub_agent.done("check_messages", json!({}))["status"], "empty");
    assert_eq!(session.done("check_messages", json!({}))["status"], "empty");
}
