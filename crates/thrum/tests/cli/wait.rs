use std::fs;

use crate::common::{TestRepo, paired};

#[test]
fn mail_wakes_a_waiter_and_stays_unread() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    let mut waiting = repo.begin(&["wait", "--timeout", "60s", "--as", "bob"]);
    assert!(waiting.talk().contains("@bob"));
    repo.thrum(&["send", "wake up", "--to", "@bob", "--as", "ann"]).ok();
    let woken = waiting.end().ok();
    assert!(woken.stdout.contains("@ann") && woken.stdout.contains("  │ wake up\n"), "{}", woken.stdout);
    let again = repo.json(&["wait", "--timeout", "60s", "--as", "bob"]);
    assert_eq!(
        (&again["status"], &again["messages"][0]["body"]["content"]),
        (&"received".into(), &"wake up".into()),
        "unread mail returns at once"
    );
}

#[test]
fn no_mail_is_exit_code_one_and_every_other_failure_is_not() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    let timed_out = repo.thrum(&["wait", "--timeout", "50ms", "--as", "ann", "--json"]);
    assert_eq!((timed_out.code, timed_out.json()["status"].as_str()), (1, Some("timeout")));
    repo.thrum(&["send", "not for ann", "--to", "bob", "--as", "ann"]).ok();
    repo.thrum(&["wait", "--timeout", "50ms", "--as", "ann"]).fails(1, "No message");
    repo.thrum(&["wait", "--timeout", "soon", "--as", "ann"]).fails(2, "20s");
    repo.thrum(&["wait", "--timeout", "50ms"]).fails(2, "several agents");
    repo.thrum(&["daemon", "stop"]).ok();
    repo.thrum(&["wait", "--timeout", "50ms", "--as", "ann", "--no-start"]).fails(69, "not running");
}

#[test]
fn after_selects_by_time_and_not_by_read_state() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    repo.thrum(&["send", "old", "--to", "bob", "--as", "ann"]).ok();
    repo.thrum(&["inbox", "--as", "bob"]).ok();
    let wait = |after: &str| repo.thrum(&["wait", "--timeout", "50ms", "--as", "bob", "--after", after]);
    assert!(wait("-1h").ok().stdout.contains("old"), "read, but after that time");
    wait("2200-01-01T00:00:00Z").fails(1, "No message");
    wait("yesterday").fails(2, "-15s");
    wait("2h").fails(2, "write -2h");
    wait("+2h").fails(1, "No message");
    repo.thrum(&["wait", "--timeout", "-5s", "--as", "bob"]).fails(2, "must not be negative");
}

#[test]
fn a_wait_continues_with_a_replaced_daemon() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    let mut waiting = repo.begin(&["wait", "--timeout", "60s", "--as", "bob"]);
    waiting.talk();
    repo.thrum(&["daemon", "restart"]).ok();
    repo.thrum(&["send", "after all", "--to", "bob", "--as", "ann"]).ok();
    assert!(waiting.end().ok().stdout.contains("after all"));
}

#[test]
fn a_waiter_restarts_a_crashed_daemon() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    let mut waiting = repo.begin(&["wait", "--timeout", "60s", "--as", "bob"]);
    waiting.talk();
    repo.kill_daemon();
    assert!(waiting.talk().contains("Starting the daemon"));
    repo.thrum(&["send", "after the crash", "--to", "bob", "--as", "ann"]).ok();
    assert!(waiting.end().ok().stdout.contains("after the crash"));
}

#[test]
fn a_waiter_does_not_restart_a_stopped_daemon() {
    let repo = TestRepo::with_agent("repo", "ann");
    let mut waiting = repo.begin(&["wait", "--timeout", "2s"]);
    waiting.talk();
    repo.thrum(&["daemon", "stop"]).ok();
    waiting.end().fails(69, "not running");
    assert_eq!(repo.daemon_pid(), None);
}

#[test]
fn a_wait_can_be_limited_to_mentions_or_a_scope() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    repo.thrum(&["send", "to all", "--broadcast", "--as", "ann"]).ok();
    repo.thrum(&["wait", "--timeout", "50ms", "--mention", "@reviewer", "--as", "bob"]).fails(1, "No message");
    repo.thrum(&["wait", "--timeout", "50ms", "--scope", "module:auth", "--as", "bob"]).fails(1, "No message");
    repo.thrum(&["wait", "--timeout", "50ms", "--scope", "auth", "--as", "bob"]).fails(2, "TYPE:VALUE");
    let mut waiting =
        repo.begin(&["wait", "--timeout", "60s", "--mention", "@reviewer", "--scope", "module:auth", "--as", "bob"]);
    waiting.talk();
    repo.thrum(&["send", "to reviewers", "--to", "@reviewer", "--scope", "module:auth", "--as", "ann"]).ok();
    let woken = waiting.end().ok().stdout;
    assert!(woken.contains("to reviewers") && !woken.contains("to all"), "{woken}");
}

#[test]
fn an_unknown_or_remote_agent_cannot_wait() {
    let repo = TestRepo::with_agent("repo", "ann");
    let identity = repo.path(".thrum/identities/ann.json");
    fs::copy(&identity, repo.path(".thrum/identities/zoe.json")).unwrap();
    let text = fs::read_to_string(&identity).unwrap().replace("\"ann\"", "\"zoe\"");
    fs::write(repo.path(".thrum/identities/zoe.json"), text).unwrap();
    repo.thrum(&["wait", "--timeout", "60s", "--as", "zoe"])
        .fails(3, "no agent zoe is registered here")
        .says("thrum quickstart");
}

#[test]
fn a_result_that_cannot_be_printed_is_not_exit_code_one() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    repo.thrum(&["send", "hello", "--to", "bob", "--as", "ann"]).ok();
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut received = repo.command(&["wait", "--timeout", "60s", "--as", "bob"]);
    assert_eq!(received.stdout(full()).output().unwrap().status.code(), Some(75));
    // A reader that has closed the pipe does not make a timeout look like mail, either.
    let mut timed_out = repo.command(&["wait", "--timeout", "1ms", "--as", "ann", "--json"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(timed_out.stdout(writer).output().unwrap().status.code(), Some(1));
}

#[test]
fn a_failing_wait_reports_the_reason_and_pauses() {
    let repo = TestRepo::git("repo");
    let nobody = TestRepo::git("nobody");
    nobody.thrum(&["init", "--no-start"]).ok();
    for (repo, args, code) in [
        (&repo, &["wait"][..], 3),
        (&nobody, &["wait", "--no-start", "--as", "ann"], 69),
        (&nobody, &["wait", "--json"], 3),
        (&nobody, &["wait", "--timout", "30s"], 2),
        (&nobody, &["wait", "--timout", "30s", "--json"], 2),
    ] {
        let begun = std::time::Instant::now();
        repo.thrum(args).fails(code, "");
        assert!(begun.elapsed() >= std::time::Duration::from_secs(2), "{args:?} ended at once");
    }
    assert!(repo.thrum(&["wait", "--help"]).ok().stdout.contains("exits two seconds"));
}

#[test]
fn a_wait_for_a_file_ends_when_its_remote_editor_releases_it() {
    let (left, right) = paired();
    right.thrum(&["claim", "src/login.rs"]).ok();
    left.thrum(&["claim", "src"]);
    right.thrum(&["sync", "verify"]).ok();
    let held = left.thrum(&["wait", "--file", "src", "--timeout", "50ms", "--json"]);
    assert_eq!(held.code, 1, "{held:?}");
    let held = held.json();
    let agent = &held["agents"][0];
    assert_eq!(
        (&held["status"], &agent["address"], &agent["why"]),
        (&"timeout".into(), &"@bob@right".into(), &"claimed".into()),
        "{held}"
    );
    let shown = left.thrum(&["wait", "--file", "src", "--timeout", "50ms"]);
    assert!(shown.code == 1 && shown.stdout.contains("@bob@right has claimed src/login.rs"), "{shown:?}");
    let mut waiting = left.begin(&["wait", "--file", "src", "--timeout", "60s"]);
    waiting.talk();
    right.thrum(&["release"]).ok();
    assert_eq!(waiting.end().ok().stdout, "No other agent has src\n");

    // Uncommitted changes keep a file occupied, too.
    fs::write(right.path("new.rs"), "x\n").unwrap();
    right.thrum(&["session", "heartbeat"]).ok();
    right.thrum(&["sync", "verify"]).ok();
    let mut waiting = left.begin(&["wait", "--file", "new.rs", "--timeout", "60s"]);
    waiting.talk();
    right.git_done(&["add", "."]);
    right.git_done(&["commit", "-q", "-m", "Done"]);
    right.thrum(&["session", "heartbeat"]).ok();
    assert_eq!(
        waiting.end().ok().stdout,
        "No other agent has new.rs
"
    );
    assert_eq!(left.json(&["wait", "--file", "new.rs"]), serde_json::json!({"status": "free", "agents": []}));
}

#[test]
fn a_claim_that_expires_ends_the_wait_without_an_event() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "tester");
    repo.thrum(&["claim", "a.rs", "--for", "1s", "--as", "bob"]).ok();
    repo.thrum(&["wait", "--file", "a.rs", "--timeout", "60s", "--as", "ann"]).ok();
    repo.thrum(&["wait", "--file", "a.rs", "--timeout", "0s", "--as", "bob"]).ok();
}

#[test]
fn a_wait_ends_with_a_task_or_with_an_agents_turn() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "tester");
    repo.thrum(&["session", "set-task", "AUTH-17", "--as", "bob"]).ok();
    repo.thrum(&["wait", "--task", "AUTH-17", "--timeout", "0s", "--as", "bob"]).ok();
    let mut waiting = repo.begin(&["wait", "--task", "AUTH-17", "--timeout", "60s", "--as", "ann"]);
    waiting.talk();
    repo.thrum(&["session", "set-task", "AUTH-18", "--as", "bob"]).ok();
    assert_eq!(waiting.end().ok().stdout, "No other agent works on AUTH-17\n");

    let hook = |event: &str| {
        let payload = serde_json::json!({"session_id": "s1", "cwd": repo.root(), "prompt": "go on"});
        repo.thrum_with_input(payload.to_string().as_bytes(), &["hook", event, "--host", "claude", "--as", "bob"]).ok();
    };
    hook("start");
    hook("prompt");
    let busy = repo.thrum(&["wait", "--idle", "@bob", "--timeout", "0s", "--as", "ann"]);
    assert!(busy.code == 1 && busy.stdout.contains("@bob is working"), "{busy:?}");
    let mut waiting = repo.begin(&["wait", "--idle", "@bob", "--timeout", "60s", "--as", "ann"]);
    waiting.talk();
    hook("stop");
    assert_eq!(waiting.end().ok().stdout, "@bob works no more\n");
    repo.thrum(&["wait", "--idle", "@nobody", "--timeout", "0s", "--as", "ann"]).fails(3, "nobody");
    repo.thrum(&["wait", "--idle", "@bob", "--file", "x", "--timeout", "0s"]).fails(2, "cannot be used with");
}
