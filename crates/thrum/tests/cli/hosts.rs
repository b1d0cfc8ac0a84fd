//! `thrum hook` for programs that differ from Claude Code: opencode, whose plugin runs it, and programs that discard
//! the reply to the start hook.

use std::{
    io::Write,
    process::{Child, Stdio},
};

use serde_json::{Value, json};

use crate::common::{Ran, TestRepo, plain::until};

/// Runs a hook of a program and returns its output.
fn hook(repo: &TestRepo, host: &str, event: &str, more: Value) -> String {
    let mut payload = json!({"session_id": "ses_1"});
    payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    repo.thrum_with_input(payload.to_string().as_bytes(), &["hook", event, "--host", host]).ok().stdout
}

/// Returns the text that opencode's plugin gets, or an empty string.
fn text(answer: &str) -> String {
    if answer.is_empty() {
        return String::new();
    }
    let answer: Value = serde_json::from_str(answer).unwrap();
    answer["text"].as_str().unwrap().to_owned()
}

fn opencode(repo: &TestRepo, event: &str, more: Value) -> String {
    text(&hook(repo, "opencode", event, more))
}

/// Starts a waiter as a child of this process, as opencode does, with variables inherited from another program.
fn waiter(repo: &TestRepo, session: &str) -> Child {
    let mut command = repo.command(&["hook", "wait", "--host", "opencode"]);
    command.env("CLAUDE_PID", "1").env("CLAUDE_CODE_SESSION_ATTENDED", "0");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(json!({"session_id": session}).to_string().as_bytes()).unwrap();
    child
}

fn ended(child: Child) -> Ran {
    let ran: Ran = child.wait_with_output().unwrap().into();
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "the answer is on standard output");
    ran
}

#[test]
fn opencodes_plugin_gets_the_text_of_each_event() {
    let repo = TestRepo::with_reader_and_writer();
    assert!(opencode(&repo, "start", json!({})).starts_with("You are @bob"));
    repo.write_to_bob("with the prompt");
    assert!(opencode(&repo, "prompt", json!({})).contains("  │ with the prompt\n"));
    repo.write_to_bob("at the end of the turn");
    let stop = opencode(&repo, "stop", json!({}));
    assert!(
        stop.starts_with("Before you end your turn: 1 message") && stop.contains("at the end of the turn"),
        "{stop}"
    );
    let kept = opencode(&repo, "compact", json!({}));
    assert!(kept.contains("you are @bob"), "{kept}");
    assert_eq!(opencode(&repo, "stop", json!({})), "");
    assert_eq!(opencode(&repo, "end", json!({})), "");
    assert_eq!(repo.unread("bob"), 0);
}

#[test]
fn an_idle_session_of_opencode_is_woken_by_standard_output_and_the_turn_is_the_proof() {
    let repo = TestRepo::with_reader_and_writer();
    opencode(&repo, "start", json!({}));
    opencode(&repo, "prompt", json!({}));
    assert_eq!(opencode(&repo, "stop", json!({})), "");
    let waiting = waiter(&repo, "ses_1");
    repo.write_to_bob("wake up");
    let woke = text(&ended(waiting).stdout);
    assert!(woke.starts_with("1 new message for @bob.") && woke.contains("  │ wake up\n"), "{woke}");
    assert_eq!(repo.unread("bob"), 1, "nothing shows yet that it was taken");
    assert_eq!(opencode(&repo, "prompt", json!({"is_wake": true})), "", "it was told of that one");
    assert_eq!(repo.unread("bob"), 0);
}

#[test]
fn one_program_may_have_a_waiter_for_each_of_its_sessions() {
    let repo = TestRepo::with_reader_and_writer();
    let first = waiter(&repo, "ses_1");
    let is_waiting = || {
        let team = repo.json(&["team", "--all"]);
        team["members"]
            .as_array()
            .unwrap()
            .iter()
            .any(|member| member["agent_id"] == "bob" && member["wakeable"] == true)
    };
    until(is_waiting);
    let (other, newer) = (waiter(&repo, "ses_2"), waiter(&repo, "ses_1"));
    assert_eq!(ended(first).stdout, "", "the newer one took its place");
    repo.write_to_bob("for both");
    for waiting in [other, newer] {
        assert!(text(&ended(waiting).stdout).contains("for both"));
    }
}

#[test]
fn an_interrupted_turn_is_over_and_its_mail_comes_with_the_next_prompt() {
    let repo = TestRepo::with_reader_and_writer();
    opencode(&repo, "start", json!({}));
    opencode(&repo, "prompt", json!({}));
    repo.write_to_bob("not now");
    assert_eq!(opencode(&repo, "stop", json!({"aborted": true})), "");
    assert!(opencode(&repo, "prompt", json!({})).contains("not now"));
    assert_eq!(opencode(&repo, "stop", json!({"aborted": true})), "");
    // The session is idle, so a new waiter waits for mail and does not end at once.
    let waiting = waiter(&repo, "ses_1");
    repo.write_to_bob("but now");
    assert!(text(&ended(waiting).stdout).contains("but now"));
}

#[test]
fn an_answered_question_of_opencode_no_longer_needs_the_user() {
    let repo = TestRepo::with_reader_and_writer();
    let state = || {
        let team = repo.json(&["team", "--all"]);
        let bob = team["members"].as_array().unwrap().iter().find(|member| member["agent_id"] == "bob").unwrap();
        bob["presence"].as_str().unwrap_or_default().to_owned()
    };
    opencode(&repo, "prompt", json!({}));
    opencode(&repo, "notify", json!({"notification_type": "permission_prompt"}));
    assert_eq!(state(), "needs_you");
    let shown = repo.thrum(&["status"]).ok().stdout;
    assert!(shown.lines().any(|line| line.starts_with("Needs you:") && line.contains("@bob")), "{shown}");
    opencode(&repo, "notify", json!({"notification_type": "answered"}));
    assert_eq!(state(), "working");
    opencode(&repo, "stop", json!({"aborted": true}));
    assert_eq!(state(), "idle");
}

#[test]
fn kimi_is_idle_after_its_stop_hook_which_runs_once_for_a_turn() {
    let repo = TestRepo::with_reader_and_writer();
    let busy = || std::fs::read_to_string(repo.path(".thrum/var/hooks/ses_1.json")).unwrap().contains("\"busy\":true");
    hook(&repo, "kimi", "prompt", json!({}));
    assert!(busy());
    repo.write_to_bob("before it ends");
    let payload = json!({"session_id": "ses_1"}).to_string();
    let stop = repo.thrum_with_input(payload.as_bytes(), &["hook", "stop", "--host", "kimi"]);
    assert!(stop.code == 2 && stop.stderr.contains("before it ends"), "{stop:?}");
    assert!(!busy());
}

#[test]
fn commands_of_an_opencode_session_act_as_its_agent() {
    let repo = TestRepo::with_reader_and_writer();
    let started = repo
        .thrum_with_input(b"{\"session_id\":\"ses_9\"}", &["hook", "start", "--host", "opencode", "--as", "ann"])
        .ok();
    assert!(text(&started.stdout).starts_with("You are @ann"));
    let mut command = repo.command(&["whoami", "--json"]);
    let ran: Ran = command.env("OPENCODE_SESSION_ID", "ses_9").env("THRUM_NAME", "bob").output().unwrap().into();
    assert_eq!(ran.ok().json()["agent_id"], "ann");
}

#[test]
fn the_first_prompt_brings_the_briefing_if_the_start_hook_has_no_reader() {
    let repo = TestRepo::with_reader_and_writer();
    for (host, payload) in
        [("kimi", json!({"client_type": "kimi_code_cli"})), ("antigravity", json!({"conversationId": "c1"}))]
    {
        assert!(!hook(&repo, host, "start", payload.clone()).contains("You are"), "{host}");
        let first = hook(&repo, host, "prompt", payload.clone());
        assert!(first.contains("You are @bob") && first.contains("thrum reply MESSAGE TEXT"), "{host}: {first}");
        assert!(!hook(&repo, host, "prompt", payload.clone()).contains("You are"), "{host}: once");
    }
    // Gemini loses the briefing when it compresses its context, and runs no start hook then.
    hook(&repo, "gemini", "start", json!({}));
    assert_eq!(hook(&repo, "gemini", "prompt", json!({})), "");
    assert_eq!(hook(&repo, "gemini", "compact", json!({})), "", "what it would be told then reaches nobody");
    assert!(hook(&repo, "gemini", "prompt", json!({})).contains("You are @bob"));
}
