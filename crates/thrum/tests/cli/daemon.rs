use std::fs;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::common::{TestRepo, instead_of_daemon, plain::until};

#[test]
fn it_starts_and_stops_and_doing_either_twice_is_fine() {
    let repo = TestRepo::git("repo");
    repo.thrum(&["init", "--no-start"]).ok();
    repo.thrum(&["daemon", "status"]).fails(69, "thrum daemon start");
    let first = repo.json(&["daemon", "start"]);
    let second = repo.json(&["daemon", "start"]);
    assert_eq!((&first["status"], &second["status"]), (&"started".into(), &"already_running".into()));
    assert_eq!(first["pid"], second["pid"]);
    assert_eq!(repo.json(&["daemon", "status"])["running"], true);

    let restarted = repo.json(&["daemon", "restart"]);
    assert_ne!(restarted["pid"], first["pid"]);
    assert_eq!(restarted["daemon_id"], first["daemon_id"], "the same daemon in another process");

    assert_eq!(repo.json(&["daemon", "stop"])["status"], "stopped");
    let lock = fs::File::open(repo.path(".thrum/var/thrum.lock")).unwrap();
    lock.try_lock().expect("when stop returns, the daemon is gone");
    drop(lock);
    assert_eq!(repo.json(&["daemon", "stop"])["status"], "not_running");
    let status = repo.thrum(&["daemon", "status", "--json"]);
    assert_eq!((status.code, status.json()["running"].as_bool()), (69, Some(false)));
}

#[test]
fn a_command_starts_the_daemon_unless_told_not_to() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["daemon", "stop"]).ok();
    repo.thrum(&["inbox", "--no-start"]).fails(69, "is not running").says("thrum daemon start");
    assert_eq!(repo.daemon_pid(), None);
    repo.thrum(&["inbox"]).ok().says("Starting the daemon");
    let quiet = repo.thrum(&["inbox"]).ok();
    assert_eq!(quiet.stderr, "");
}

#[test]
fn c28_of_two_daemons_at_once_one_lives_and_all_commands_find_it() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["daemon", "stop"]).ok();
    let all: Vec<_> = (0..8).map(|_| repo.begin(&["daemon", "start", "--json"])).collect();
    let pids: Vec<_> = all.into_iter().map(|one| one.end().ok().json()["pid"].clone()).collect();
    assert!(pids.iter().all(|pid| *pid == pids[0]), "{pids:?}");
    repo.thrum(&["daemon", "run"]).fails(4, "already running");
    assert_eq!(repo.json(&["daemon", "status"])["health"]["pid"], pids[0], "the first one was not disturbed");
}

#[test]
fn leftover_files_of_a_killed_daemon_do_no_harm() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.kill_daemon();
    repo.thrum(&["send", "hello", "--to", "@ann"]).ok();
    repo.kill_daemon();
    // The process id of a living process that is not a daemon.
    fs::write(repo.path(".thrum/var/thrum.pid"), std::process::id().to_string()).unwrap();
    assert_eq!(repo.json(&["daemon", "stop"])["status"], "not_running", "and that process still lives");
    repo.thrum(&["daemon", "start"]).ok();
}

#[test]
fn only_the_listening_process_is_ended_whatever_the_pid_file_contains() {
    let repo = TestRepo::with_agent("repo", "ann");
    fs::write(repo.path(".thrum/var/thrum.pid"), std::process::id().to_string()).unwrap();
    let running = repo.json(&["daemon", "status"])["health"]["pid"].clone();
    assert_eq!(repo.json(&["daemon", "stop"])["pid"], running, "and this process still lives");
    // Like a daemon that is starting: it holds the lock, and the pid file is left over from a crashed daemon.
    let lock = fs::File::options().write(true).open(repo.path(".thrum/var/thrum.lock")).unwrap();
    lock.lock().unwrap();
    fs::write(repo.path(".thrum/var/thrum.pid"), std::process::id().to_string()).unwrap();
    repo.thrum(&["daemon", "stop"]).fails(75, "does not listen");
}

/// A shell with a low limit, as on macOS, must not decide how many clients the daemon serves.
#[cfg(target_os = "linux")]
#[test]
fn the_daemon_may_open_more_files_than_the_shell_that_started_it() {
    let repo = TestRepo::git("repo");
    let mut shell = std::process::Command::new("sh");
    repo.in_surroundings(&mut shell).args(["-c", "ulimit -S -n 200 && exec \"$0\" init", env!("CARGO_BIN_EXE_thrum")]);
    assert!(shell.output().unwrap().status.success());
    let limits = fs::read_to_string(format!("/proc/{}/limits", repo.daemon_pid().unwrap())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let mut both = line.split_whitespace().map(|number| number.parse::<u64>().unwrap_or(u64::MAX));
    let (soft, hard) = (both.next().unwrap(), both.next().unwrap());
    assert_eq!(soft, hard.min(thrum_core::limits::OPEN_FILES));
}

/// An open session of an agent starts a new daemon at the moment the old one has ended.
#[cfg(target_os = "linux")]
#[test]
fn stop_waits_for_its_own_process_even_if_another_daemon_has_the_lock_by_then() {
    let about = |pid: u32, line: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        status.lines().find_map(|it| it.strip_prefix(line)).map(|rest| rest.trim().to_owned()).unwrap()
    };
    let is_stopped = |pid: u32| about(pid, "State:").starts_with('T');
    let repo = TestRepo::with_agent("repo", "ann");
    let old = repo.daemon_pid().unwrap();
    let signal = |pid: u32, signal| kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();

    signal(old, Signal::STOP);
    until(|| is_stopped(old));
    let stopping = repo.begin(&["daemon", "stop"]);
    let told = 1_u64 << (Signal::TERM.as_raw() - 1);
    until(|| u64::from_str_radix(&about(old, "ShdPnd:"), 16).unwrap() & told != 0);
    signal(stopping.pid(), Signal::STOP);
    until(|| is_stopped(stopping.pid()));
    signal(old, Signal::CONT);
    let lock = fs::File::open(repo.path(".thrum/var/thrum.lock")).unwrap();
    lock.lock_shared().expect("the old daemon ends");
    drop(lock);
    let new = repo.json(&["daemon", "start"])["pid"].clone();
    signal(stopping.pid(), Signal::CONT);

    let stopped = stopping.end().ok().says(&format!("started the daemon again (pid {new})"));
    assert_eq!(stopped.stdout, format!("The daemon has stopped (pid {old})\n"));
    assert_eq!(repo.json(&["daemon", "status"])["health"]["pid"], new, "it was left running");
}

/// A start that finds the daemon of another process answering leaves no process that may become a daemon later.
#[cfg(target_os = "linux")]
#[test]
fn a_start_ends_its_own_process_if_another_daemon_answers() {
    let repo = TestRepo::with_agent("repo", "ann");
    let health = repo.connect().call("health", &json!({}));
    let mut asked = 0;
    // Does not answer at first, so that a daemon is started; that process waits for the lock, which this test holds.
    let served = instead_of_daemon(&repo, 2, move |request| {
        asked += 1;
        (asked > 1).then(|| json!({"jsonrpc": "2.0", "id": request["id"], "result": health}))
    });
    let lock = fs::File::options().write(true).open(repo.path(".thrum/var/thrum.lock")).unwrap();
    lock.lock().unwrap();
    repo.thrum(&["daemon", "start"]).ok();
    served.join().unwrap();
    let root = repo.root().to_str().unwrap().to_owned();
    let daemons = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let command = fs::read_to_string(entry.ok()?.path().join("cmdline")).ok()?;
        (command.contains("daemon\0run\0") && command.contains(&root)).then_some(command)
    });
    assert_eq!(daemons.collect::<Vec<_>>(), Vec::<String>::new());
}

/// C28: a start that finds another daemon starting or stopping waits for the result.
#[test]
fn c28_a_start_that_finds_the_lock_taken_waits_and_then_starts_a_daemon() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["daemon", "stop"]).ok();
    // Like a daemon that is about to end.
    let lock = fs::File::options().write(true).open(repo.path(".thrum/var/thrum.lock")).unwrap();
    lock.lock().unwrap();
    let mut starting = repo.begin(&["daemon", "start"]);
    let said = starting.talk();
    assert!(said.contains("waiting for it"), "it found the lock taken: {said}");
    drop(lock);
    starting.end().ok();
    repo.thrum(&["daemon", "status"]).ok();
}

#[test]
fn a_daemon_that_cannot_start_reports_the_reason() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["daemon", "stop"]).ok();
    fs::write(repo.path(".thrum/var/messages.db"), vec![b'x'; 8192]).unwrap();
    let failed = repo.thrum(&["daemon", "start"]);
    assert!(failed.code != 0 && failed.stderr.contains("the daemon did not start: "), "{failed:?}");
    assert!(failed.stderr.contains("thrum doctor --fix"), "{failed:?}");
}

#[test]
fn the_log_can_be_read_and_followed() {
    let repo = TestRepo::with_agent("repo", "ann");
    let log = repo.thrum(&["daemon", "logs", "-n", "1000"]).ok().stdout;
    assert!(!log.is_empty());
    assert_eq!(repo.thrum(&["daemon", "logs", "-n", "1"]).ok().stdout.lines().count(), 1);

    let mut following = repo.begin(&["daemon", "logs", "-f", "-n", "1"]);
    // Once it has printed the last line, it has reached the end of the log.
    assert_eq!(following.line(), log.lines().last().unwrap());
    repo.thrum(&["daemon", "stop"]).ok();
    assert!(following.line().contains("stopping"));
}

#[test]
fn with_thrum_log_json_each_line_of_the_log_is_an_object() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["daemon", "stop"]).ok();
    fs::write(repo.path(".thrum/.env"), "THRUM_LOG=json\n").unwrap();
    repo.thrum(&["daemon", "start"]).ok();
    repo.thrum(&["daemon", "stop"]).ok();
    let log = repo.thrum(&["daemon", "logs"]).ok().stdout;
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let started = lines.iter().find(|line| line["message"].as_str().is_some_and(|text| text.contains("started")));
    let started = started.unwrap_or_else(|| panic!("{log}"));
    assert_eq!((&started["level"], &started["target"]), (&json!("info"), &json!("thrum_daemon::run")));
    assert!(started["at"].as_str().unwrap().ends_with('Z') && started["repo"].is_string(), "{started}");
    assert_eq!(lines.last().unwrap()["message"], "stopped");
}

#[test]
fn a_path_too_long_for_a_socket_works_all_the_same() {
    let repo = TestRepo::git("repo");
    let deep = repo.path(&"deep-directory/".repeat(12));
    fs::create_dir_all(&deep).unwrap();
    let flag = deep.to_str().unwrap();
    // A separate repository below the first one.
    fs::create_dir(deep.join(".git")).unwrap();
    repo.thrum(&["quickstart", "--name", "ann", "--role", "r", "--module", "m", "--repo", flag]).ok();
    repo.thrum(&["send", "hello", "--to", "@ann", "--repo", flag]).ok();
    repo.thrum(&["daemon", "stop", "--repo", flag]).ok();
}

#[test]
fn a_daemon_of_another_version_is_noticed() {
    let repo = TestRepo::with_agent("repo", "ann");
    let heard = instead_of_daemon(&repo, 1, |request| {
        Some(
            json!({"jsonrpc": "2.0", "id": request["id"], "result": {"status": "ok", "version": "0.0.9", "pid": 1, "daemon_id": "d_x"}}),
        )
    });
    repo.thrum(&["daemon", "start"]).ok().says("version 0.0.9").says("thrum daemon restart");
    heard.join().unwrap();
}

#[test]
fn a_list_is_empty_only_if_the_daemon_does_not_know_its_method() {
    let from = |error: Value| {
        let repo = TestRepo::with_agent("repo", "ann");
        instead_of_daemon(&repo, 9, move |request| {
            let id = &request["id"];
            Some(match request["method"].as_str().unwrap() {
                "collision.list" => json!({"jsonrpc": "2.0", "id": id, "error": error}),
                _ => json!({"jsonrpc": "2.0", "id": id, "result": {"status": "ok", "daemon_id": "d_x", "members": []}}),
            })
        });
        repo.thrum(&["team", "--json"])
    };
    let earlier = from(json!({"code": -32601, "message": "Method not found"})).ok().json();
    assert_eq!(earlier, json!({"status": "ok", "daemon_id": "d_x", "members": [], "collisions": []}));
    from(json!({"code": -32000, "message": "no such file", "data": {"kind": "not_found"}})).fails(3, "no such file");
}

/// Replies as Go Thrum's daemon: our methods are unknown to it, and its `health` has no id.
fn go_daemon(request: &Value) -> Option<Value> {
    let result = match request["method"].as_str().unwrap() {
        "health" => {
            json!({"status": "ok", "uptime_ms": 5, "version": "0.6.3", "repo_id": "r_1", "sync_state": "synced"})
        }
        "sync.status" => json!({"running": true, "sync_state": "synced", "local_only": false}),
        "team.list" => json!({"members": []}),
        "message.list" => {
            json!({"messages": [], "total": 0, "unread": 0, "page": 1, "page_size": 10, "total_pages": 0})
        }
        method => {
            let error = json!({"code": -32601, "message": "Method not found", "data": format!("method '{method}' is not registered")});
            return Some(json!({"jsonrpc": "2.0", "id": request["id"], "error": error}));
        }
    };
    Some(json!({"jsonrpc": "2.0", "id": request["id"], "result": result}))
}

/// A mere restart would leave the user without a daemon: ours cannot start on Go Thrum's database.
#[test]
fn a_running_daemon_of_go_thrum_is_recognised_and_left_running() {
    const CHANGE_OVER: &str = "thrum daemon stop && mv .thrum .thrum-go && thrum init && thrum import .thrum-go";
    for (command, code) in [
        (["daemon", "restart"].as_slice(), 4),
        (&["daemon", "start"], 0),
        (&["daemon", "status"], 0),
        (&["status"], 0),
        (&["peer", "ping", "desk"], 1),
        (&["wait", "--timeout", "1s"], 75),
    ] {
        let repo = TestRepo::with_agent("repo", "ann");
        instead_of_daemon(&repo, 9, go_daemon);
        let ran = repo.thrum(command);
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(ran.stderr.contains("one of Go Thrum") && ran.stderr.contains(CHANGE_OVER), "{command:?}: {ran:?}");
        assert!(!ran.stderr.contains("daemon restart") && !ran.stdout.contains("pid 0"), "{command:?}: {ran:?}");
    }
    let repo = TestRepo::with_agent("repo", "ann");
    instead_of_daemon(&repo, 9, go_daemon);
    let doctor = repo.thrum(&["doctor"]);
    assert!(doctor.stdout.contains("the running daemon is one of Go Thrum (version 0.6.3)"), "{doctor:?}");
    assert!(doctor.stdout.contains(&format!("To change over: {CHANGE_OVER}")), "{doctor:?}");
}
