//! `thrum hook`, run as the programs run it: JSON on standard input, a reply in the program's own format, and never an
//! error.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};

use serde_json::{Value, json};

use crate::common::{Ran, TestRepo, instead_of_daemon, paired};

/// Runs a hook of Claude Code in session `s1`, with additional fields in its payload.
fn claude(repo: &TestRepo, event: &str, more: Value) -> Ran {
    hook(repo, event, &["--host", "claude"], json!({"session_id": "s1", "cwd": repo.root()}), more)
}

fn hook(repo: &TestRepo, event: &str, args: &[&str], mut payload: Value, more: Value) -> Ran {
    payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    repo.thrum_with_input(payload.to_string().as_bytes(), &[&["hook", event], args].concat()).ok()
}

/// Returns the text that a hook gives to the model, or an empty string.
pub(crate) fn injected_text(ran: &Ran) -> String {
    if ran.stdout.is_empty() {
        return String::new();
    }
    let answer: Value = serde_json::from_str(&ran.stdout).unwrap();
    answer["hookSpecificOutput"]["additionalContext"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_session_is_briefed_when_it_begins_and_gets_new_mail_with_the_next_prompt_once() {
    let repo = TestRepo::with_reader_and_writer();
    repo.write_to_bob("before it began");
    let brief = injected_text(&claude(&repo, "start", json!({"hook_event_name": "SessionStart", "source": "startup"})));
    assert!(brief.starts_with("You are @bob (implementer · m-bob).\n1 unread message;"), "{brief}");
    assert!(brief.contains("thrum reply MESSAGE TEXT") && brief.len() < 1600, "{brief}");
    assert_eq!(injected_text(&claude(&repo, "prompt", json!({"prompt": "go on"}))), "", "it was told of that one");
    let id = repo.write_to_bob("while it works");
    let mail = injected_text(&claude(&repo, "prompt", json!({"prompt": "go on"})));
    assert!(mail.contains("@ann") && mail.contains(&id) && mail.contains("  │ while it works\n"), "{mail}");
    assert_eq!(repo.unread("bob"), 2, "nothing shows yet that it was taken");
    assert_eq!(injected_text(&claude(&repo, "prompt", json!({"prompt": "go on"}))), "");
    assert_eq!(repo.unread("bob"), 1, "the session has gone on with it");
}

#[test]
fn unread_mail_keeps_a_turn_from_ending_once() {
    let repo = TestRepo::with_reader_and_writer();
    repo.write_to_bob("before it began");
    claude(&repo, "start", json!({}));
    let stop = |active: bool| {
        injected_text(&claude(&repo, "stop", json!({"hook_event_name": "Stop", "stop_hook_active": active})))
    };
    let kept = stop(false);
    assert!(
        kept.starts_with("Before you end your turn: 1 message") && kept.contains("  │ before it began\n"),
        "{kept}"
    );
    assert_eq!(stop(true), "");
    assert_eq!(repo.unread("bob"), 0);
    // `stop_hook_active` is also true after a turn that a waiter started, so it decides nothing.
    repo.write_to_bob("one more");
    assert!(stop(true).contains("one more"));
    assert_eq!(injected_text(&claude(&repo, "prompt", json!({"prompt": "go on"}))), "", "it was told at the stop");
    let read = repo.write_to_bob("read by itself");
    repo.thrum(&["message", "read", &read, "--as", "bob"]).ok();
    assert_eq!(stop(false), "");
}

#[test]
fn hooks_are_silent_and_succeed_without_a_mailbox() {
    let repo = TestRepo::git("repo");
    let quiet = |args: &[&str], input: &str| {
        let ran = repo.thrum_with_input(input.as_bytes(), &[&["hook"], args].concat()).ok();
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""), "{args:?}");
    };
    let payload = "{\"session_id\":\"s1\"}";
    let events = ["start", "prompt", "stop", "notify", "end", "compact", "wait"];
    for event in events {
        quiet(&[event, "--host", "claude"], payload);
    }
    repo.agent("bob", "implementer");
    for input in ["", "no JSON", "[1, 2", "\"text\"", "{\"session_id\": 7}", "{\"session_id\": \"../../x\"}"] {
        quiet(&["stop", "--host", "claude"], input);
    }
    quiet(&["start", "--host", "claude", "--as", "nobody"], payload);
    repo.thrum(&["daemon", "stop"]).ok();
    for event in ["start", "prompt", "stop", "end", "compact"] {
        quiet(&[event, "--host", "claude"], payload);
    }
    assert!(repo.daemon_pid().is_none(), "no hook starts a daemon");
    // A hook gives up on a daemon that accepts the connection and never replies.
    let silent = UnixListener::bind(repo.path(".thrum/var/thrum.sock")).unwrap();
    quiet(&["prompt", "--host", "claude"], payload);
    drop(silent);
    let antigravity = repo.thrum_with_input(b"{\"conversationId\":\"c1\"}", &["hook", "prompt"]).ok();
    assert_eq!(antigravity.stdout, "{}\n", "it takes JSON only");
}

#[test]
fn every_program_gets_its_own_form_and_no_other_ones_hook_takes_its_mail() {
    let repo = TestRepo::with_reader_and_writer();
    repo.write_to_bob("for one of you");
    // Copilot runs the hooks in Claude Code's settings and discards their output.
    let copilot = json!({"sessionId": "c1", "timestamp": 1});
    assert_eq!(hook(&repo, "stop", &["--host", "claude"], copilot.clone(), json!({})).stdout, "");
    let own: Value =
        serde_json::from_str(&hook(&repo, "stop", &["--host", "copilot"], copilot, json!({})).stdout).unwrap();
    assert_eq!((&own["decision"], own["reason"].as_str().unwrap().contains("for one of you")), (&"block".into(), true));
    let codex =
        hook(&repo, "stop", &[], json!({"session_id": "t1", "turn_id": "1", "hook_event_name": "Stop"}), json!({}));
    let codex: Value = serde_json::from_str(&codex.stdout).unwrap();
    assert_eq!(
        codex.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["decision", "reason"],
        "an unknown key fails the hook"
    );
    // Qwen runs this hook before every request; only the request with `submitted_prompt` comes from the person.
    let qwen =
        |more: Value| hook(&repo, "prompt", &["--host", "qwen"], json!({"session_id": "q1", "prompt": ""}), more);
    assert_eq!(qwen(json!({})).stdout, "");
    assert!(qwen(json!({"prompt": "go", "submitted_prompt": "go"})).stdout.contains("for one of you"));
}

/// Stands in front of the daemon of a repository, and passes all connections on. Returns the requests, in one list for
/// each connection.
fn in_front_of_daemon(repo: &TestRepo) -> mpsc::Receiver<Vec<String>> {
    let (socket, real) = (repo.path(".thrum/var/thrum.sock"), repo.path(".thrum/var/real.sock"));
    fs::rename(&socket, &real).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    let (sender, seen) = mpsc::channel();
    thread::spawn(move || {
        for ours in listener.incoming().map(Result::unwrap) {
            let (sender, theirs) = (sender.clone(), UnixStream::connect(&real).unwrap());
            let (mut answers, mut back) = (theirs.try_clone().unwrap(), ours.try_clone().unwrap());
            thread::spawn(move || io::copy(&mut answers, &mut back));
            thread::spawn(move || {
                let mut requests = Vec::new();
                for line in BufReader::new(ours).lines().map_while(Result::ok) {
                    writeln!(&theirs, "{line}").unwrap();
                    let request: Value = serde_json::from_str(&line).unwrap();
                    requests.push(request["method"].as_str().unwrap().to_owned());
                }
                theirs.shutdown(Shutdown::Both).unwrap();
                sender.send(requests)
            });
        }
    });
    seen
}

#[test]
fn a_hook_uses_one_connection_and_asks_nothing_twice() {
    let repo = TestRepo::with_reader_and_writer();
    let connections = in_front_of_daemon(&repo);
    for event in ["start", "prompt", "stop", "end"] {
        claude(&repo, event, json!({"source": "startup", "prompt": "go on", "reason": "other"}));
        let requests = connections.recv().unwrap();
        let asked = requests.iter().filter(|method| *method == "agent.whoami").count();
        assert!(requests.len() > 1 && asked <= 1, "{event}: {requests:?}");
        assert_eq!(connections.try_recv().ok(), None, "{event}: {requests:?}");
    }
}

#[test]
fn a_sub_agent_takes_no_mail_of_the_session_it_works_for() {
    let repo = TestRepo::with_reader_and_writer();
    claude(&repo, "start", json!({}));
    repo.write_to_bob("for the main one");
    for event in ["start", "prompt", "stop", "end"] {
        assert_eq!(claude(&repo, event, json!({"agent_id": "a1", "agent_type": "Explore"})).stdout, "");
    }
    assert!(injected_text(&claude(&repo, "prompt", json!({"prompt": "go"}))).contains("for the main one"));
}

#[test]
fn a_sub_agents_command_leaves_the_mail_to_the_session_that_it_works_for() {
    let repo = TestRepo::with_reader_and_writer();
    hook(&repo, "start", &["--host", "codex", "--as", "bob"], json!({"session_id": "s1"}), json!({}));
    let id = repo.write_to_bob("for the session");
    let run = |thread: &str, args: &[&str]| -> Ran {
        let mut command = repo.command(args);
        // Codex sets both variables in every shell. They differ only in a sub-agent.
        command
            .envs([("CODEX_SESSION_ID", "s1"), ("CODEX_THREAD_ID", thread), ("THRUM_NAME", "ann")])
            .output()
            .unwrap()
            .into()
    };
    let shown = run("t2", &["inbox"]).ok().says("stays unread for @bob");
    assert!(shown.stdout.contains("for the session") && shown.stdout.contains("1 unread"), "{}", shown.stdout);
    run("t2", &["message", "get", &id]).ok();
    assert_eq!(repo.unread("bob"), 1);
    // The session does not become the agent that its sub-agent registers.
    run("t2", &["quickstart", "--name", "sub", "--role", "tester", "--module", "x"]).ok();
    assert_eq!(run("s1", &["whoami", "--json"]).ok().json()["agent_id"], "bob");
    run("t2", &["inbox", "--as", "bob"]).ok();
    assert_eq!(repo.unread("bob"), 0, "it said whose mail it reads");
    repo.write_to_bob("one more");
    run("s1", &["inbox"]).ok().says_nothing();
    assert_eq!(repo.unread("bob"), 0);
}

#[test]
fn a_session_keeps_its_agent_when_the_environment_changes() {
    let repo = TestRepo::with_reader_and_writer();
    let as_ann = |event: &str| {
        let mut command = repo.command(&["hook", event, "--host", "codex"]);
        let mut child = command.env("THRUM_NAME", "bob").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"{\"session_id\":\"t2\",\"turn_id\":\"1\"}").unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    };
    let started = hook(&repo, "start", &["--host", "codex", "--as", "ann"], json!({"session_id": "t2"}), json!({}));
    assert!(injected_text(&started).starts_with("You are @ann"));
    repo.thrum(&["send", "for ann", "--to", "@ann", "--as", "bob"]).ok();
    repo.write_to_bob("for bob");
    let mail = as_ann("prompt");
    assert!(mail.contains("for ann") && !mail.contains("for bob"), "{mail}");
}

#[test]
fn the_commands_of_a_session_act_as_its_agent() {
    let repo = TestRepo::with_reader_and_writer();
    let started = hook(&repo, "start", &["--host", "claude", "--as", "ann"], json!({"session_id": "s7"}), json!({}));
    assert!(injected_text(&started).starts_with("You are @ann"));
    let who = |args: &[&str]| {
        let mut command = repo.command(&[&["whoami", "--json"], args].concat());
        let ran: Ran = command.env("CLAUDE_CODE_SESSION_ID", "s7").env("THRUM_NAME", "bob").output().unwrap().into();
        let me = ran.ok().json();
        (me["agent_id"].as_str().unwrap().to_owned(), me["source"].as_str().unwrap().to_owned())
    };
    assert_eq!(who(&[]), ("ann".to_owned(), "session".to_owned()));
    assert_eq!(who(&["--as", "bob"]).0, "bob", "what is said now counts");
    // A program that was started from another program's shell inherits the session ids of both.
    hook(&repo, "start", &["--host", "codex", "--as", "bob"], json!({"session_id": "t7"}), json!({}));
    let mut command = repo.command(&["whoami", "--json"]);
    command.envs([("CLAUDE_CODE_SESSION_ID", "s7"), ("CODEX_THREAD_ID", "t7"), ("THRUM_NAME", "bob")]);
    let both: Ran = command.output().unwrap().into();
    assert_eq!(both.ok().json()["source"], "environment", "neither is guessed");
    // Registering an agent in a session makes the session that agent.
    let mut command = repo.command(&["quickstart", "--name", "eve", "--role", "tester", "--module", "x"]);
    Ran::from(command.env("CLAUDE_CODE_SESSION_ID", "s7").output().unwrap()).ok();
    assert_eq!(who(&[]).0, "eve");
    assert_eq!(
        injected_text(&hook(
            &repo,
            "prompt",
            &["--host", "claude"],
            json!({"session_id": "s7", "prompt": "x"}),
            json!({})
        )),
        ""
    );
    repo.thrum(&["send", "for eve", "--to", "@eve", "--as", "ann"]).ok();
    let mail = injected_text(&hook(
        &repo,
        "prompt",
        &["--host", "claude"],
        json!({"session_id": "s7", "prompt": "x"}),
        json!({}),
    ));
    assert!(mail.contains("New mail for @eve"), "{mail}");
}

#[test]
fn a_compaction_that_loses_the_briefing_gets_it_with_the_next_prompt() {
    let repo = TestRepo::with_reader_and_writer();
    let copilot = |event: &str| {
        let ran = hook(&repo, event, &["--host", "copilot"], json!({"sessionId": "c1", "prompt": "go on"}), json!({}));
        serde_json::from_str::<Value>(&ran.stdout)
            .map(|answer| answer["additionalContext"].as_str().unwrap().to_owned())
            .unwrap_or_default()
    };
    assert!(copilot("start").contains("You are @bob"));
    assert_eq!(copilot("prompt"), "");
    copilot("compact");
    assert!(copilot("prompt").contains("You are @bob"));
    assert_eq!(copilot("prompt"), "");
}

#[test]
fn the_end_of_the_program_ends_the_session_and_a_cleared_one_goes_on() {
    let repo = TestRepo::with_reader_and_writer();
    let sessions = |status: &str| {
        let listed = repo.json(&["session", "list"]);
        listed["sessions"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|session| session["agent_id"] == "bob" && session["status"] == status)
            .count()
    };
    claude(&repo, "start", json!({"source": "startup"}));
    claude(&repo, "end", json!({"reason": "clear"}));
    assert_eq!(sessions("active"), 1);
    claude(&repo, "start", json!({"source": "clear", "session_id": "s2"}));
    assert_eq!(sessions("active"), 1, "the same session of the agent");
    claude(&repo, "end", json!({"session_id": "s2", "reason": "prompt_input_exit"}));
    assert_eq!(sessions("active"), 0);
}

/// Starts a waiter of Claude Code, for the program with this process id.
pub(crate) fn waiter(repo: &TestRepo, program: u32, session: &str) -> Child {
    let mut command = repo.command(&["hook", "wait", "--host", "claude"]);
    command.env("CLAUDE_PID", program.to_string()).env("CLAUDE_CODE_SESSION_ATTENDED", "1");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(json!({"session_id": session}).to_string().as_bytes()).unwrap();
    child
}

/// Runs a hook of the program that the waiters belong to.
pub(crate) fn beside(repo: &TestRepo, program: u32, event: &str, payload: &Value) -> Ran {
    let mut command = repo.command(&["hook", event, "--host", "claude"]);
    let mut child =
        command.env("CLAUDE_PID", program.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(payload.to_string().as_bytes()).unwrap();
    child.wait_with_output().unwrap().into()
}

pub(crate) fn ended(child: Child) -> Ran {
    child.wait_with_output().unwrap().into()
}

#[test]
fn an_idle_session_is_woken_once_for_each_message_however_many_wait_beside_it() {
    let repo = TestRepo::with_reader_and_writer();
    let me = std::process::id();
    beside(&repo, me, "start", &json!({"session_id": "s1"}));
    let (sender, ends) = mpsc::channel();
    for _ in 0..2 {
        let (child, sender) = (waiter(&repo, me, "s1"), sender.clone());
        thread::spawn(move || sender.send(ended(child)));
    }
    // The second waiter replaces the first, and only one of them wakes the session.
    let replaced = ends.recv().unwrap();
    assert_eq!((replaced.code, replaced.stdout.as_str(), replaced.stderr.as_str()), (0, "", ""));
    let id = repo.write_to_bob("wake up");
    let woke = ends.recv().unwrap();
    assert_eq!(woke.code, 2);
    let said = &woke.stderr;
    assert!(
        said.starts_with("1 new message for @bob.") && said.contains(&id) && said.contains("  │ wake up\n"),
        "{said}"
    );
    assert_eq!(repo.unread("bob"), 1, "nothing shows yet that it was taken");
    // The next waiter waits for other mail, although the prompt of the turn has not arrived yet.
    let third = waiter(&repo, me, "s1");
    let turn = beside(&repo, me, "prompt", &json!({"session_id": "s1", "prompt": "<task-notification>…"}));
    assert_eq!(injected_text(&turn), "", "it brought the message with it");
    assert_eq!(repo.unread("bob"), 0);
    assert_eq!(injected_text(&beside(&repo, me, "stop", &json!({"session_id": "s1", "stop_hook_active": true}))), "");
    repo.write_to_bob("and again");
    let again = ended(third);
    assert!(again.code == 2 && again.stderr.contains("and again") && !again.stderr.contains("wake up"), "{again:?}");
}

#[test]
fn a_busy_session_gets_its_mail_at_the_end_of_its_turn() {
    let repo = TestRepo::with_reader_and_writer();
    let me = std::process::id();
    let hook = |event: &str, more: &Value| {
        let mut payload = json!({"session_id": "s1"});
        payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        beside(&repo, me, event, &payload)
    };
    hook("start", &json!({}));
    let waiting = waiter(&repo, me, "s1");
    hook("prompt", &json!({"prompt": "work"}));
    repo.write_to_bob("while it works");
    let ran = ended(waiting);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(injected_text(&hook("stop", &json!({}))).contains("while it works"));
    // The mail continues the turn, so the session is still working.
    repo.write_to_bob("and once more");
    assert_eq!(ended(waiter(&repo, me, "s1")).code, 0);
    assert!(injected_text(&hook("stop", &json!({}))).contains("and once more"));
    assert_eq!(injected_text(&hook("stop", &json!({}))), "");
    let waiting = waiter(&repo, me, "s1");
    repo.write_to_bob("now it is idle");
    assert_eq!(ended(waiting).code, 2);
}

#[test]
fn a_turn_that_ends_while_the_daemon_is_away_leaves_the_session_idle_and_loses_no_mail() {
    let repo = TestRepo::with_reader_and_writer();
    let me = std::process::id();
    let hook = |event: &str| beside(&repo, me, event, &json!({"session_id": "s1", "prompt": "work"}));
    hook("start");
    repo.write_to_bob("told with the prompt");
    assert!(injected_text(&hook("prompt")).contains("told with the prompt"));
    repo.thrum(&["daemon", "stop"]).ok();
    assert_eq!(injected_text(&hook("stop")), "");
    repo.thrum(&["daemon", "start"]).ok();
    assert_eq!(repo.unread("bob"), 1, "nobody could note that it was taken");
    let waiting = waiter(&repo, me, "s1");
    repo.write_to_bob("when it is back");
    let ran = ended(waiting);
    assert!(ran.code == 2 && ran.stderr.contains("when it is back") && !ran.stderr.contains("told with"), "{ran:?}");
    hook("stop");
    assert_eq!(repo.unread("bob"), 1, "the first one; of the second there is no proof yet");
}

#[test]
fn a_waiter_wakes_the_current_session_of_its_program() {
    let repo = TestRepo::with_reader_and_writer();
    let me = std::process::id();
    beside(&repo, me, "start", &json!({"session_id": "s1"}));
    let waiting = waiter(&repo, me, "s1");
    beside(&repo, me, "end", &json!({"session_id": "s1", "reason": "clear"}));
    beside(&repo, me, "start", &json!({"session_id": "s2", "source": "clear"}));
    repo.write_to_bob("for the new one");
    assert_eq!(ended(waiting).code, 2);
    assert_eq!(
        injected_text(&beside(&repo, me, "prompt", &json!({"session_id": "s2", "prompt": "<task-notification>"}))),
        ""
    );
    assert_eq!(repo.unread("bob"), 0);
}

#[test]
fn a_waiter_ends_with_its_program_and_does_not_start_without_a_terminal() {
    let repo = TestRepo::with_reader_and_writer();
    let mut program = Command::new("sleep").arg("60").spawn().unwrap();
    let waiting = waiter(&repo, program.id(), "s1");
    program.kill().unwrap();
    program.wait().unwrap();
    let ran = ended(waiting);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    repo.write_to_bob("unread");
    let mut command = repo.command(&["hook", "wait", "--host", "claude"]);
    let ran: Ran = command.env("CLAUDE_CODE_SESSION_ATTENDED", "0").output().unwrap().into();
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
}

#[test]
fn a_waiter_outlives_the_daemon() {
    let repo = TestRepo::with_reader_and_writer();
    let me = std::process::id();
    beside(&repo, me, "start", &json!({"session_id": "s1"}));
    let waiting = waiter(&repo, me, "s1");
    repo.thrum(&["daemon", "restart"]).ok();
    repo.write_to_bob("after all");
    let ran = ended(waiting);
    assert!(ran.code == 2 && ran.stderr.contains("after all"), "{ran:?}");
}

#[test]
fn mail_from_another_machine_wakes_an_idle_session() {
    let (left, right) = paired();
    let waiting = waiter(&right, std::process::id(), "s1");
    left.thrum(&["send", "over there?", "--to", "@bob"]).ok();
    let ran = ended(waiting);
    assert!(ran.code == 2 && ran.stderr.contains("@ann@left"), "{ran:?}");
}

#[test]
fn mail_that_arrives_as_a_turn_ends_is_delivered() {
    let repo = TestRepo::with_reader_and_writer();
    let mut asked = 0;
    let heard = instead_of_daemon(&repo, 4, move |request| {
        asked += 1;
        let message = json!({
            "message_id": "msg_1", "agent_id": "ann", "address": "@ann", "created_at": "2026-03-28T17:05:13Z", "body": {"content": "just now"},
        });
        // The message arrives after the hook has asked for the session's first reader and recorded the empty reply.
        let messages = if asked <= 2 { json!([]) } else { json!([message]) };
        Some(
            json!({"jsonrpc": "2.0", "id": request["id"], "result": {"status": "told", "messages": messages, "cursor": "l:1"}}),
        )
    });
    let told = injected_text(&claude(&repo, "stop", json!({"hook_event_name": "Stop"})));
    assert!(told.contains("just now"), "{told}");
    heard.join().unwrap();
}

#[test]
fn the_requests_of_a_waiter_are_bounded() {
    let repo = TestRepo::with_reader_and_writer();
    let heard = instead_of_daemon(&repo, 1, |request| {
        Some(
            json!({"jsonrpc": "2.0", "id": request["id"], "result": {"status": "replaced", "messages": [], "cursor": "l:1"}}),
        )
    });
    assert_eq!(ended(waiter(&repo, std::process::id(), "s1")).code, 0);
    let asked = heard.join().unwrap().remove(0);
    assert_eq!((&asked["method"], &asked["params"]["keep"]), (&"message.news".into(), &true.into()));
    assert!(
        asked["params"]["max_content_bytes"].as_u64().unwrap() <= 4096
            && asked["params"]["page_size"].as_u64().unwrap() <= 10
    );
}

#[test]
fn a_plugin_hook_and_a_settings_hook_deliver_nothing_twice() {
    let repo = TestRepo::with_reader_and_writer();
    let run = |event: &str, plugin: bool, more: Value| {
        let args: &[&str] = if plugin { &["--host", "claude", "--plugin"] } else { &["--host", "claude"] };
        injected_text(&hook(&repo, event, args, json!({"session_id": "s1", "prompt_id": 1}), more))
    };
    let start = json!({"hook_event_name": "SessionStart", "source": "startup"});
    assert!(run("start", true, start.clone()).starts_with("You are @bob"));
    assert_eq!(run("start", false, start), "", "briefed once");
    repo.write_to_bob("for one of the two");
    let prompt = json!({"prompt": "go on"});
    assert!(run("prompt", false, prompt.clone()).contains("for one of the two"));
    assert_eq!(
        (run("prompt", true, prompt.clone()), repo.unread("bob")),
        (String::new(), 1),
        "the other one proves nothing"
    );
    // The same payload again is a new event, whichever of the two hooks runs first.
    repo.write_to_bob("one more");
    assert_eq!(run("prompt", true, prompt.clone()), "");
    assert!(run("prompt", false, prompt.clone()).contains("one more"));
    repo.write_to_bob("the last one");
    assert!(run("stop", true, json!({"stop_hook_active": false})).contains("the last one"), "a plugin alone serves");
    assert_eq!(run("stop", false, json!({"stop_hook_active": false})), "");
    run("end", false, json!({"reason": "other"}));
    run("end", true, json!({"reason": "other"}));
    let left: Vec<_> =
        fs::read_dir(repo.path(".thrum/var/hooks")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["s1.json"], "only who the session was is left of it");
}

#[test]
fn the_daemon_reads_the_git_state_of_a_session_when_its_hooks_run() {
    let repo = TestRepo::with_reader_and_writer();
    claude(&repo, "start", json!({}));
    let mut watcher = repo.connect();
    watcher.call("events.watch", &json!({}));
    let mut next = || loop {
        let update = watcher.notification();
        if update["type"] == "agent.update" {
            return update["event_json"]["work_contexts"][0].clone();
        }
    };
    fs::write(repo.path("one.rs"), "x\n").unwrap();
    repo.git_done(&["checkout", "-q", "-b", "feature"]);
    claude(&repo, "prompt", json!({"prompt": "go on"}));
    // The daemon may have run the read that the start hook requested between these two changes.
    let has = |context: &Value, file: &str| context["uncommitted_files"].as_array().unwrap().contains(&file.into());
    let context = std::iter::repeat_with(&mut next)
        .find(|context| has(context, "one.rs") && context["branch"] == "feature")
        .unwrap();
    assert_eq!(context["worktree_path"], repo.root().to_str().unwrap());
    assert!(repo.thrum(&["who-has", "one.rs"]).ok().stdout.starts_with("@bob is editing one.rs"));

    // A read that is requested during the pause between two reads happens at its end.
    fs::write(repo.path("two.rs"), "x\n").unwrap();
    claude(&repo, "stop", json!({}));
    while !has(&next(), "two.rs") {}
}
