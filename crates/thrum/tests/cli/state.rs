//! The daemon's reaction when its state is deleted, replaced or exposed while it runs.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, test_kill_process};
use serde_json::{Value, json};

use crate::common::{TestRepo, pair};

const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the process has ended.
fn ends(pid: u32) {
    let process = Pid::from_raw(pid.cast_signed()).unwrap();
    let until = Instant::now() + PATIENCE;
    while test_kill_process(process).is_ok() {
        assert!(Instant::now() < until, "daemon {pid} goes on");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Returns every file below a directory, except sockets, with its content.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(contents(&entry.path()));
        } else if kind.is_file() {
            found.push((entry.path(), fs::read(entry.path()).unwrap()));
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap().success());
}

#[test]
fn a_daemon_whose_state_is_deleted_confirms_nothing_more_and_ends() {
    for deleted in [".thrum", ".thrum/var", ".thrum/var/thrum.lock", ".thrum/var/messages.db"] {
        let repo = TestRepo::with_agent("repo", "ann");
        let pid = repo.daemon_pid().unwrap();
        let mut held = repo.connect();
        held.call("health", &json!({}));
        let path = repo.path(deleted);
        if path.is_dir() {
            remove(&path)
        } else {
            fs::remove_file(&path).unwrap()
        }
        // The daemon returns an error, or has already ended.
        let message = json!({"content": "lost", "mentions": ["ann"], "caller_agent_id": "ann"});
        if let Some(answer) = held.answer("message.send", &message) {
            assert_eq!(answer["error"]["data"]["kind"], "try_again", "{deleted}: {answer}");
            assert!(answer["error"]["message"].as_str().unwrap().contains("deleted or replaced"), "{answer}");
        }
        ends(pid);
        assert!(!repo.path(deleted).exists() || deleted == ".thrum/var/thrum.lock", "{deleted}: it made nothing anew");
    }
}

/// Removes a directory, with retries: after its reply the daemon continues in the background and may create a file
/// there.
fn remove(dir: &Path) {
    while let Err(error) = fs::remove_dir_all(dir) {
        assert_eq!(error.kind(), std::io::ErrorKind::DirectoryNotEmpty, "{error}");
    }
}

#[test]
fn a_daemon_whose_state_is_replaced_does_not_change_the_new_state() {
    let repo = TestRepo::with_agent_and_port("repo", "ann");
    repo.thrum(&["send", "before", "--to", "@ann"]).ok();
    repo.thrum(&["daemon", "stop"]).ok();
    let aside = repo.above().join("aside");
    copy(&repo.path(".thrum"), &aside);
    repo.thrum(&["daemon", "start"]).ok();
    repo.thrum(&["send", "after", "--to", "@ann"]).ok();
    let pid = repo.daemon_pid().unwrap();

    remove(&repo.path(".thrum"));
    copy(&aside, &repo.path(".thrum"));
    // A log that belongs to the database in place now, and the pid file and socket of another daemon.
    fs::write(repo.path(".thrum/var/messages.db-wal"), "not of this daemon").unwrap();
    fs::write(repo.path(".thrum/var/thrum.pid"), json!({"pid": 1}).to_string()).unwrap();
    let socket = repo.path(".thrum/var/thrum.sock");
    let _other = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let before = contents(&repo.path(".thrum"));
    ends(pid);
    assert_eq!(contents(&repo.path(".thrum")), before);
    assert!(socket.exists(), "the socket of the other daemon is left alone");
}

#[test]
fn mail_stays_if_only_the_log_of_the_database_is_deleted() {
    let repo = TestRepo::with_agent("repo", "ann");
    let pid = repo.daemon_pid().unwrap();
    repo.thrum(&["send", "before", "--to", "@ann"]).ok();
    for beside in ["messages.db-wal", "messages.db-shm"] {
        fs::remove_file(repo.path(".thrum/var").join(beside)).unwrap();
    }
    ends(pid);
    assert_eq!(repo.json(&["inbox", "--all"])["total"], 1);
}

#[test]
fn mail_comes_back_from_the_log_of_a_database_that_was_deleted() {
    let repo = TestRepo::with_agent("repo", "ann");
    let pid = repo.daemon_pid().unwrap();
    repo.thrum(&["send", "before", "--to", "@ann"]).ok();
    fs::remove_file(repo.path(".thrum/var/messages.db")).unwrap();
    ends(pid);
    repo.thrum(&["inbox"]).fails(1, "").says("thrum doctor --fix");
    repo.thrum(&["doctor", "--fix"]).ok();
    assert_eq!(repo.json(&["inbox", "--all"])["total"], 1);
}

#[test]
fn the_next_command_finds_a_daemon_for_the_current_state() {
    let repo = TestRepo::with_agent("repo", "ann");
    let first = repo.json(&["daemon", "status"])["health"]["daemon_id"].clone();
    fs::rename(repo.path(".thrum"), repo.above().join("moved")).unwrap();
    // The former daemon may still run; commands neither find it nor wait for it.
    repo.agent("ann", "implementer");
    repo.thrum(&["send", "new", "--to", "@ann"]).ok();
    let status = repo.json(&["daemon", "status"]);
    assert_ne!(status["health"]["daemon_id"], first);
    assert_eq!(repo.json(&["inbox", "--all"])["messages"].as_array().unwrap().len(), 1);
}

#[test]
fn a_missing_socket_is_recreated_and_stop_and_restart_work_without_it() {
    let repo = TestRepo::with_agent("repo", "ann");
    let pid = repo.daemon_pid().unwrap();
    let socket = repo.path(".thrum/var/thrum.sock");
    fs::remove_file(&socket).unwrap();
    repo.thrum(&["inbox"]).ok();
    assert_eq!(repo.daemon_pid(), Some(pid), "the same daemon listens again");

    // A daemon that cannot listen is found by its lock.
    fs::remove_file(&socket).unwrap();
    fs::create_dir(&socket).unwrap();
    let doctor = repo.thrum(&["doctor", "--json"]).json();
    let daemon = doctor["checks"].as_array().unwrap().iter().find(|check| check["name"] == "daemon").unwrap().clone();
    assert!(daemon["evidence"].as_str().unwrap().contains(&format!("pid {pid} ")), "{daemon}");
    fs::remove_dir(&socket).unwrap();
    fs::write(repo.path(".thrum/var/thrum.pid"), std::process::id().to_string()).unwrap();
    assert_eq!(repo.json(&["daemon", "stop"])["pid"], pid, "whatever number is in the pid file");
    ends(pid);
}

#[test]
fn doctor_leaves_one_daemon_that_can_be_reached() {
    let repo = TestRepo::with_agent("repo", "ann");
    let pid = repo.daemon_pid().unwrap();
    fs::remove_file(repo.path(".thrum/var/thrum.sock")).unwrap();
    // The daemon is replaced, unless it has recreated its socket before the check.
    repo.thrum(&["doctor", "--fix"]);
    repo.thrum(&["inbox", "--no-start"]).ok();
    let now = repo.json(&["daemon", "status"])["health"]["pid"].clone();
    if now != pid {
        ends(pid);
    }
}

#[test]
fn the_daemon_does_not_inherit_open_files_of_its_caller() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["daemon", "stop"]).ok();
    let lock = repo.above().join("lock");
    let mut shell = repo.there("/bin/sh");
    let program = repo.command(&[]).get_program().to_owned();
    repo.in_surroundings(&mut shell).arg("-c").arg("exec 9>\"$1\"; exec \"$0\" inbox").arg(program).arg(&lock);
    assert!(shell.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    let pid = repo.daemon_pid().unwrap();
    let open: Vec<PathBuf> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .collect();
    assert!(!open.contains(&lock), "{open:?}");
}

#[test]
fn git_adds_neither_key_nor_mail() {
    let repo = TestRepo::git("repo");
    fs::create_dir(repo.path(".thrum")).unwrap();
    repo.thrum(&["quickstart", "--name", "ann", "--role", "implementer", "--module", "auth"])
        .ok()
        .says("Added .thrum/ to .gitignore");
    repo.git_done(&["add", "-A"]);
    assert_eq!(repo.git_says(&["ls-files"]).trim(), ".gitignore");

    // This holds even if the line is removed again.
    fs::write(repo.path(".gitignore"), "").unwrap();
    repo.git_done(&["add", "-A"]);
    let staged = repo.git_says(&["ls-files"]);
    assert!(!staged.contains(".thrum/var"), "{staged}");
    repo.thrum(&["quickstart"]).ok().says("Added .thrum/ to .gitignore");
}

/// Stops the daemon and takes its peer port.
fn take_port(repo: &TestRepo) -> (TcpListener, String) {
    let address = repo.json(&["status"])["health"]["local_address"].as_str().unwrap().to_owned();
    repo.thrum(&["daemon", "stop"]).ok();
    (TcpListener::bind(&address).unwrap(), address)
}

#[test]
fn a_daemon_whose_port_is_taken_still_sends_and_receives() {
    let (ann, bob) = (TestRepo::with_agent_and_port("left", "ann"), TestRepo::with_agent_and_port("right", "bob"));
    pair(&ann, &bob);
    let (_taken, address) = take_port(&ann);
    ann.thrum(&["send", "from another port", "--to", "@bob"]).ok();
    assert!(bob.thrum(&["wait", "--timeout", "60s"]).ok().stdout.contains("from another port"));
    bob.thrum(&["send", "back to it", "--to", "@ann"]).ok();
    assert!(ann.thrum(&["wait", "--timeout", "60s"]).ok().stdout.contains("back to it"));
    let now = ann.json(&["status"])["health"]["local_address"].clone();
    assert_ne!(now, address);
    assert_eq!(bob.json(&["peer", "status"])[0]["address"], now, "it is followed");
    assert_eq!(ann.json(&["doctor"])["problems"], 0);
}

#[test]
fn a_taken_fixed_port_is_a_problem_that_names_the_program() {
    let (ann, bob) = (TestRepo::with_agent_and_port("left", "ann"), TestRepo::with_agent_and_port("right", "bob"));
    pair(&ann, &bob);
    let (_taken, _) = take_port(&ann);
    let file = ann.path(".thrum/var/peers.json");
    let mut content: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let go = json!({"name": "go", "address": "127.0.0.1:1", "daemon_id": "d_47fkcmt93fcz", "token": "ab".repeat(32), "transport": "local"});
    content["peers"].as_array_mut().unwrap().push(go);
    fs::write(&file, content.to_string()).unwrap();
    ann.thrum(&["daemon", "start"]).ok();
    let doctor = ann.thrum(&["doctor", "--json"]);
    let checks = doctor.json()["checks"].clone();
    let listening = checks.as_array().unwrap().iter().find(|check| check["name"] == "listening").unwrap().clone();
    assert_eq!((doctor.code, &listening["verdict"]), (1, &json!("problem")));
    assert!(
        listening["evidence"].as_str().unwrap().contains(&format!("(pid {}) has", std::process::id())),
        "{listening}"
    );
    assert!(ann.thrum(&["status"]).ok().stdout.contains("cannot listen on"));
    // No peer can dial the daemon, but its mail is delivered over the connections that it opens.
    ann.thrum(&["send", "out of a closed door", "--to", "@bob"]).ok();
    assert!(bob.thrum(&["wait", "--timeout", "60s"]).ok().stdout.contains("out of a closed door"));
    assert_eq!(bob.json(&["peer", "status"])[0]["asked_over_its_connection"], true);
}
