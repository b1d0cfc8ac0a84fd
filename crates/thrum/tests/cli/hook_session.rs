//! Sessions of programs as the hooks track them: which agent a session is, when it continues, and when it has ended.

use std::{
    fs,
    io::Write,
    process::{Child, Command, Stdio},
    sync::{Arc, Barrier},
    thread,
};

use serde_json::{Value, json};

use crate::{
    common::{Ran, TestRepo, plain::until},
    hook::{beside, ended, injected_text, waiter},
};

/// Runs a hook of Claude Code with this process as the program.
fn hook(repo: &TestRepo, event: &str, payload: &Value) -> Ran {
    beside(repo, std::process::id(), event, payload)
}

fn sessions(repo: &TestRepo, agent: &str) -> usize {
    let listed = repo.json(&["session", "list"]);
    let is_open = |session: &&Value| session["agent_id"] == agent && session["status"] == "active";
    listed["sessions"].as_array().unwrap().iter().filter(is_open).count()
}

#[test]
fn a_cleared_or_resumed_session_keeps_its_agent() {
    let repo = TestRepo::with_reader_and_writer();
    repo.agent("carol", "tester");
    let name = |session: &str| {
        let mut command = repo.command(&["whoami", "--json"]);
        Ran::from(command.env("CLAUDE_CODE_SESSION_ID", session).output().unwrap()).json()["agent_id"].clone()
    };
    hook(&repo, "start", &json!({"session_id": "s1", "source": "startup"}));
    let mut command = repo.command(&["quickstart", "--name", "carol", "--role", "tester", "--module", "m-carol"]);
    Ran::from(command.env("CLAUDE_CODE_SESSION_ID", "s1").output().unwrap()).ok();
    hook(&repo, "end", &json!({"session_id": "s1", "reason": "clear"}));
    let brief = injected_text(&hook(&repo, "start", &json!({"session_id": "s2", "source": "clear"})));
    assert!(brief.starts_with("You are @carol"), "{brief}");
    assert_eq!(name("s2"), "carol");
    // Another session, of which no record exists, does not become `carol`.
    assert_eq!(
        injected_text(&hook(&repo, "start", &json!({"session_id": "s3", "source": "startup"}))),
        "",
        "which of the two is open"
    );
    hook(&repo, "end", &json!({"session_id": "s2", "reason": "prompt_input_exit"}));
    let brief = injected_text(&hook(&repo, "start", &json!({"session_id": "s2", "source": "resume"})));
    assert!(brief.starts_with("You are @carol"), "{brief}");
}

/// Claude Code runs the hook for `claude mcp get` in a session that never began. Codex runs it long after the user has
/// opened the next session.
#[test]
fn the_agents_session_ends_with_its_last_program() {
    let repo = TestRepo::with_reader_and_writer();
    hook(&repo, "start", &json!({"session_id": "s1"}));
    repo.thrum(&["claim", "d.txt", "--as", "bob"]).ok();
    hook(&repo, "end", &json!({"session_id": "never-began", "reason": "other"}));
    assert_eq!(sessions(&repo, "bob"), 1);
    hook(&repo, "start", &json!({"session_id": "s2"}));
    hook(&repo, "end", &json!({"session_id": "s1", "reason": "other"}));
    assert_eq!(sessions(&repo, "bob"), 1);
    repo.thrum(&["who-has", "d.txt"]).ok();
    hook(&repo, "end", &json!({"session_id": "s2", "reason": "other"}));
    assert_eq!(sessions(&repo, "bob"), 0);
    repo.thrum(&["who-has", "d.txt"]).fails(3, "");
}

#[test]
fn a_session_without_a_process_does_not_keep_the_agents_session_open() {
    let repo = TestRepo::with_reader_and_writer();
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    beside(&repo, gone.id(), "start", &json!({"session_id": "s1"}));
    hook(&repo, "start", &json!({"session_id": "s2"}));
    hook(&repo, "end", &json!({"session_id": "s2", "reason": "other"}));
    assert_eq!(sessions(&repo, "bob"), 0);
}

#[test]
fn a_prompt_begins_a_session_where_none_is_open() {
    let repo = TestRepo::with_reader_and_writer();
    hook(&repo, "start", &json!({"session_id": "s1"}));
    let session = repo.json(&["whoami", "--as", "bob"])["session_id"].clone();
    repo.connect().call("session.end", &json!({"session_id": session}));
    hook(&repo, "prompt", &json!({"session_id": "s1", "prompt": "go on"}));
    assert_eq!(sessions(&repo, "bob"), 1);
}

#[test]
fn a_session_that_began_without_a_daemon_is_briefed_once_the_daemon_runs() {
    let repo = TestRepo::with_reader_and_writer();
    repo.thrum(&["session", "end", "--as", "bob"]);
    repo.thrum(&["daemon", "stop"]).ok();
    assert_eq!(injected_text(&hook(&repo, "start", &json!({"session_id": "s1"}))), "");
    assert_eq!(injected_text(&hook(&repo, "prompt", &json!({"session_id": "s1", "prompt": "hello"}))), "");
    repo.thrum(&["daemon", "start"]).ok();
    let brief = injected_text(&hook(&repo, "prompt", &json!({"session_id": "s1", "prompt": "and now"})));
    assert!(brief.starts_with("You are @bob"), "{brief}");
    assert_eq!(injected_text(&hook(&repo, "prompt", &json!({"session_id": "s1", "prompt": "go on"}))), "", "once");
    assert_eq!(sessions(&repo, "bob"), 1);
}

/// A hook runs several times for one event if it is listed twice in a settings file, or in two files that the program
/// reads.
#[test]
fn concurrent_hooks_for_one_event_deliver_a_message_once() {
    let repo = TestRepo::with_reader_and_writer();
    hook(&repo, "start", &json!({"session_id": "s1"}));
    let side_by_side = |event: &str, payload: &Value| -> usize {
        let all: Vec<Child> = (0..4)
            .map(|_| {
                let mut command = repo.command(&["hook", event, "--host", "claude"]);
                command.env("CLAUDE_PID", std::process::id().to_string());
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        let together = Arc::new(Barrier::new(all.len()));
        let running: Vec<_> = all
            .into_iter()
            .map(|mut child| {
                let (together, text) = (Arc::clone(&together), payload.to_string());
                thread::spawn(move || {
                    let mut input = child.stdin.take().unwrap();
                    together.wait();
                    input.write_all(text.as_bytes()).unwrap();
                    drop(input);
                    ended(child).stdout
                })
            })
            .collect();
        running.into_iter().map(|one| one.join().unwrap()).filter(|said| said.contains("only once")).count()
    };
    for round in 0..5 {
        repo.write_to_bob(&format!("only once, {round}"));
        let event = if round % 2 == 0 { "prompt" } else { "stop" };
        assert_eq!(side_by_side(event, &json!({"session_id": "s1", "prompt": "go on"})), 1, "{event}");
        assert_eq!(
            repo.json(&["inbox", "--unread", "--as", "bob"])["total"],
            1,
            "none of them proves that it was taken"
        );
        hook(&repo, "notify", &json!({"session_id": "s1", "notification_type": "idle_prompt"}));
        assert_eq!(repo.json(&["inbox", "--unread", "--as", "bob"])["total"], 0, "all that was told is noted");
    }
}

/// Claude Code runs no hook when its user interrupts a turn.
#[test]
fn mail_wakes_an_interrupted_session_and_no_wake_is_recorded_during_a_turn() {
    let repo = TestRepo::with_reader_and_writer();
    let transcript = repo.path("transcript.jsonl");
    let entry = |kind: &str, text: &str| json!({"type": kind, "message": {"role": kind, "content": [{"type": "text", "text": text}]}});
    fs::write(&transcript, format!("{}\n", entry("user", "work"))).unwrap();
    let payload = json!({"session_id": "s1", "prompt": "work", "transcript_path": transcript});
    hook(&repo, "start", &payload);
    hook(&repo, "prompt", &payload);
    let message = repo.write_to_bob("when it is over");
    let state = || {
        let sent = repo.json(&["sent", "--as", "ann"]);
        let found =
            sent["messages"].as_array().unwrap().iter().find(|sent| sent["message_id"] == message).cloned().unwrap();
        found["recipients"][0]["state"].clone()
    };
    let given = repo
        .connect()
        .call("message.news", &json!({"caller_agent_id": "bob", "unread": true, "keep": true, "waiter": "hook:1"}));
    assert_eq!(given["messages"][0]["message_id"], *message);
    // If the request above recorded a wake, the record was stored before this message.
    repo.thrum(&["send", "to myself", "--to", "@ann", "--as", "ann"]).ok();
    assert_eq!(state(), "stored", "the turn goes on");
    let waiting = waiter(&repo, std::process::id(), "s1");
    let mut file = fs::File::options().append(true).open(&transcript).unwrap();
    writeln!(file, "{}", entry("user", "[Request interrupted by user]")).unwrap();
    let ran = ended(waiting);
    assert!(ran.code == 2 && ran.stderr.contains("when it is over"), "{ran:?}");
    until(|| state() == "wake_requested");
}

/// A full disk or a pipe whose reader has gone: the agent has seen nothing.
#[cfg(target_os = "linux")]
#[test]
fn mail_that_a_hook_could_not_print_stays_unread_and_comes_at_the_end_of_the_turn() {
    let repo = TestRepo::with_reader_and_writer();
    hook(&repo, "start", &json!({"session_id": "s1"}));
    repo.write_to_bob("into the void");
    let mut command = repo.command(&["hook", "prompt", "--host", "claude"]);
    command.env("CLAUDE_PID", std::process::id().to_string());
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut child = command.stdin(Stdio::piped()).stdout(full).spawn().unwrap();
    child.stdin.take().unwrap().write_all(json!({"session_id": "s1", "prompt": "a"}).to_string().as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "it disturbs nobody");
    hook(&repo, "prompt", &json!({"session_id": "s1", "prompt": "b"}));
    assert_eq!(repo.json(&["inbox", "--unread", "--as", "bob"])["total"], 1);
    assert!(injected_text(&hook(&repo, "stop", &json!({"session_id": "s1"}))).contains("into the void"));
}
