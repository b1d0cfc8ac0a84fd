//! `thrum doctor`: each fault is produced once and must be found, and repaired where that is possible.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use thrum_daemon::{config::Key, env::VARIABLES};

use crate::common::{Ran, TestRepo, docs, go::GoThrum, instead_of_daemon, paired};

const NAMES: [&str; 17] = [
    "daemon",
    "lock",
    "socket",
    "database",
    "heads",
    "projection",
    "clock",
    "tailnet",
    "listening",
    "peers",
    "git",
    "environment",
    "identity",
    "disk",
    "permissions",
    "gitignore",
    "mailboxes",
];

/// Returns the check with this name.
#[track_caller]
fn of<'a>(findings: &'a Value, name: &str) -> &'a Value {
    findings["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["name"] == name)
        .unwrap_or_else(|| panic!("no {name} in {findings}"))
}

#[track_caller]
fn doctor(repo: &TestRepo, code: i32, more: &[&str]) -> Value {
    let ran = repo.thrum(&[&["doctor", "--json"], more].concat());
    assert_eq!(ran.code, code, "{}{}", ran.stdout, ran.stderr);
    ran.json()
}

/// Asserts that the check `name` has this verdict and evidence, and that no other check reports a problem. Returns the
/// proposed fix.
#[track_caller]
fn sees(repo: &TestRepo, name: &str, verdict: &str, words: &str) -> String {
    let findings = doctor(repo, i32::from(verdict == "problem"), &[]);
    let check = of(&findings, name);
    assert_eq!(check["verdict"], verdict, "{check}");
    assert!(check["evidence"].as_str().unwrap().contains(words), "no '{words}' in {check}");
    let mut others = findings["checks"].as_array().unwrap().iter().filter(|other| other["name"] != name);
    let other = others.find(|other| other["verdict"] == "problem");
    assert!(other.is_none(), "{other:?} beside {check}");
    check["fix"].as_str().unwrap_or_default().to_owned()
}

/// Asserts that `doctor --fix` repairs the fault `name`, and that the check passes afterwards.
#[track_caller]
fn repairs(repo: &TestRepo, name: &str, words: &str) {
    let findings = doctor(repo, 0, &["--fix"]);
    let check = of(&findings, name);
    assert_eq!(check["verdict"], "ok", "{check}");
    assert!(check["fixed"].as_str().unwrap_or_default().contains(words), "no '{words}' in {check}");
    assert_eq!(of(&doctor(repo, 0, &[]), name)["verdict"], "ok");
}

fn database(repo: &TestRepo) -> rusqlite::Connection {
    repo.thrum(&["daemon", "stop"]).ok();
    rusqlite::Connection::open(repo.path(".thrum/var/messages.db")).unwrap()
}

/// Creates a repository with two agents and some mail.
fn in_use() -> TestRepo {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    fs::remove_file(repo.path(".thrum/identities/bob.json")).unwrap();
    repo.thrum(&["send", "Ready?", "--to", "@bob"]).ok();
    repo
}

#[test]
fn a_healthy_repository_passes_with_and_without_a_daemon() {
    let repo = in_use();
    for running in [true, false] {
        let findings = doctor(&repo, 0, &[]);
        let names: Vec<_> =
            findings["checks"].as_array().unwrap().iter().map(|check| check["name"].as_str().unwrap()).collect();
        assert_eq!(names, NAMES);
        for check in findings["checks"].as_array().unwrap() {
            let skipped = !running
                && ["socket", "tailnet", "listening", "peers", "git"].contains(&check["name"].as_str().unwrap());
            let expected = if skipped { "skipped" } else { "ok" };
            assert!(check["verdict"] == expected || check["name"] == "disk", "{check}");
        }
        assert!(repo.thrum(&["doctor"]).ok().stdout.contains("projection   folded again, it has the same digest"));
        let left: Vec<_> =
            fs::read_dir(repo.path(".thrum/var")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("doctor-")), "{left:?}");
        repo.thrum(&["daemon", "stop"]).ok();
    }
    assert!(repo.daemon_pid().is_none(), "it starts none");
}

#[test]
fn a_repository_that_was_never_started_has_no_problems() {
    let repo = TestRepo::git("repo");
    repo.thrum(&["doctor"]).fails(3, "thrum init");
    repo.thrum(&["init", "--no-start"]).ok();
    let findings = doctor(&repo, 0, &[]);
    assert_eq!(of(&findings, "database")["verdict"], "skipped");
    // Before the first start there is no `var` directory whose file system could be checked.
    assert_ne!(of(&findings, "disk")["verdict"], "skipped");
    assert_eq!(of(&findings, "peers")["evidence"], "only a running daemon knows");
}

#[test]
fn leftovers_of_a_crash_are_removed() {
    let repo = in_use();
    repo.kill_daemon();
    // The system releases the lock once the process has ended.
    File::open(repo.path(".thrum/var/thrum.lock")).unwrap().lock_shared().unwrap();
    assert_eq!(sees(&repo, "lock", "warning", "left behind by a crash"), "thrum doctor --fix");
    sees(&repo, "socket", "warning", "left behind by a crash");
    let findings = doctor(&repo, 0, &["--fix"]);
    assert!(of(&findings, "lock")["fixed"].as_str().unwrap().contains("thrum.pid"));
    assert!(of(&findings, "socket")["fixed"].as_str().unwrap().contains("thrum.sock"));
    assert!(!repo.path(".thrum/var/thrum.pid").exists() && !repo.path(".thrum/var/thrum.sock").exists());
}

#[test]
fn a_projection_that_differs_from_the_log_is_rebuilt() {
    let repo = in_use();
    database(&repo).execute("UPDATE mailbox SET unread = 0", []).unwrap();
    sees(&repo, "projection", "problem", "another digest");
    repo.thrum(&["daemon", "start"]).ok();
    assert_eq!(sees(&repo, "projection", "problem", "another digest"), "thrum daemon stop && thrum doctor --fix");
    doctor(&repo, 1, &["--fix"]);
    repo.thrum(&["daemon", "stop"]).ok();
    repairs(&repo, "projection", "rebuilt from the log");
    assert_eq!(repo.json(&["inbox", "--unread", "--as", "bob"])["unread"], 1);
}

#[test]
fn heads_that_differ_from_the_log_are_counted_again() {
    let repo = in_use();
    database(&repo).execute("UPDATE heads SET count = count + 1", []).unwrap();
    sees(&repo, "heads", "problem", "not what the log has, of d_k");
    repairs(&repo, "heads", "rebuilt from the log");
}

#[test]
fn a_damaged_database_and_one_of_another_program_are_problems() {
    let repo = in_use();
    drop(database(&repo));
    let path = repo.path(".thrum/var/messages.db");
    let whole = fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    let root: usize = database(&repo)
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'event_rows'", [], |row| row.get(0))
        .unwrap();
    damaged[(root - 1) * 4096..root * 4096].fill(0x5a);
    fs::write(&path, damaged).unwrap();
    let ran = repo.thrum(&["doctor", "--json"]);
    let found = ran.json();
    let (check, text) =
        (of(&found, "database"), |key: &str| of(&found, "database")[key].as_str().unwrap_or_default().to_owned());
    assert_eq!((ran.code, &check["verdict"]), (1, &"problem".into()), "{check}");
    assert!(
        text("evidence").starts_with("the database is damaged: ") && !text("evidence").contains(['\n', '*']),
        "{check}"
    );
    assert_eq!(text("fix"), "thrum doctor --fix");
    assert!(!repo.path(".thrum/var/messages.db.damaged").exists(), "without --fix nothing changes");
    fs::remove_file(&path).unwrap();
    drop(GoThrum::recorded(&repo.path(".thrum")));
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let found = doctor(&repo, 1, &[]);
    assert!(of(&found, "database")["fix"].as_str().unwrap().contains("thrum import"), "{found}");
}

#[test]
fn a_clock_that_was_set_back_is_noticed() {
    let repo = in_use();
    database(&repo).execute("UPDATE state SET last_at = last_at + 7200000000000", []).unwrap();
    // The clock itself never reached that time.
    sees(&repo, "clock", "warning", "after one of another machine that it answers");
    database(&repo).execute("UPDATE state SET clock_at = last_at", []).unwrap();
    sees(&repo, "clock", "warning", "ahead of the clock, which was set back");
}

#[test]
fn a_held_lock_without_an_answering_daemon_is_a_problem() {
    let repo = in_use();
    repo.thrum(&["daemon", "stop"]).ok();
    let lock = File::options().write(true).open(repo.path(".thrum/var/thrum.lock")).unwrap();
    lock.try_lock().unwrap();
    assert_eq!(sees(&repo, "daemon", "problem", "does not answer on its socket"), "thrum daemon restart");
}

#[test]
fn a_daemon_of_another_version_or_without_an_answer_is_reported() {
    let repo = in_use();
    let old = instead_of_daemon(&repo, 2, |request| {
        let result = if request["method"] == "health" {
            json!({"version": "9.9.9", "daemon_id": "d_x", "pid": 1})
        } else {
            json!([])
        };
        Some(json!({"jsonrpc": "2.0", "id": request["id"], "result": result}))
    });
    fs::set_permissions(repo.path(".thrum/var/thrum.sock"), Permissions::from_mode(0o600)).unwrap();
    assert_eq!(sees(&repo, "daemon", "warning", "it runs version 9.9.9"), "thrum daemon restart");
    old.join().unwrap();
    fs::remove_file(repo.path(".thrum/var/thrum.sock")).unwrap();
    let mute = instead_of_daemon(&repo, 1, |_| None);
    fs::set_permissions(repo.path(".thrum/var/thrum.sock"), Permissions::from_mode(0o600)).unwrap();
    sees(&repo, "daemon", "problem", "closed the connection");
    mute.join().unwrap();
}

#[test]
fn files_readable_by_others_are_made_private() {
    let repo = in_use();
    fs::write(repo.path(".thrum/.env"), "THRUM_TS_AUTHKEY=tskey-secret\n").unwrap();
    let backup = repo.json(&["backup"])["file"].as_str().unwrap().to_owned();
    for (name, mode) in [
        (".thrum/var", 0o755),
        (".thrum/var/messages.db", 0o644),
        (".thrum/var/daemon.json", 0o640),
        (".thrum/.env", 0o644),
        (".thrum/backup", 0o755),
        (&backup, 0o644),
    ] {
        fs::set_permissions(repo.path(name), Permissions::from_mode(mode)).unwrap();
    }
    sees(&repo, "permissions", "problem", "6 files can be used by others");
    repairs(&repo, "permissions", "protected 6 files");
    assert_eq!(fs::metadata(repo.path(".thrum/var")).unwrap().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(repo.path(".thrum/.env")).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(repo.path(&backup)).unwrap().mode() & 0o777, 0o600);
    let shown = repo.thrum(&["doctor"]);
    assert!(!shown.stdout.contains("tskey"), "{}", shown.stdout);
    // A file without a secret, as `echo` creates it, is no problem unless others can write to it.
    fs::write(repo.path(".thrum/.env"), "THRUM_TS_ENABLED=true\n").unwrap();
    fs::set_permissions(repo.path(".thrum/.env"), Permissions::from_mode(0o644)).unwrap();
    sees(&repo, "permissions", "ok", "only you can read keys");
    sees(&repo, "environment", "ok", "");
    fs::set_permissions(repo.path(".thrum/.env"), Permissions::from_mode(0o664)).unwrap();
    sees(&repo, "permissions", "problem", ".thrum/.env");
}

#[test]
fn a_copy_of_the_mail_that_an_interrupted_examination_left_is_removed() {
    let repo = in_use();
    for (name, age) in [("doctor-old", 7200), ("doctor-new", 0)] {
        let dir = repo.path(&format!(".thrum/var/{name}"));
        fs::DirBuilder::new().mode(0o700).create(&dir).unwrap();
        File::open(&dir).unwrap().set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    }
    doctor(&repo, 0, &[]);
    // Another `doctor` may be using the newer directory.
    assert_eq!(
        (repo.path(".thrum/var/doctor-old").exists(), repo.path(".thrum/var/doctor-new").exists()),
        (false, true)
    );
}

#[test]
fn git_is_kept_from_adding_the_mailbox() {
    let repo = in_use();
    fs::write(repo.path(".gitignore"), "target\n").unwrap();
    sees(&repo, "gitignore", "problem", "git would take");
    repairs(&repo, "gitignore", "added .thrum/ to");
    assert_eq!(fs::read_to_string(repo.path(".gitignore")).unwrap(), "target\n.thrum/\n");
    fs::write(repo.path(".env"), "X=1\n").unwrap();
    sees(&repo, "gitignore", "warning", ".env along");
    let plain = TestRepo::plain("plain");
    plain.thrum(&["init"]).ok();
    sees(&plain, "gitignore", "skipped", "no git repository");
}

#[test]
fn implausible_settings_are_reported() {
    let repo = in_use();
    let with = |name: &str, value: &str| {
        Ran::from(repo.command(&["doctor", "--json"]).env(name, value).output().unwrap()).ok().json()
    };
    let found = with("THRUM_NAME", "gone");
    assert_eq!(
        (&of(&found, "identity")["verdict"], &of(&found, "identity")["fix"]),
        (&"warning".into(), &"unset THRUM_NAME".into())
    );
    for (name, value, words) in [
        ("THRUM_TS_PORT", "many", "THRUM_TS_PORT is not a port"),
        ("THRUM_SOKCET", "x", "THRUM_SOKCET means nothing here"),
    ] {
        let found = with(name, value);
        let check = of(&found, "environment");
        assert!(check["verdict"] == "warning" && check["evidence"].as_str().unwrap().contains(words), "{check}");
    }
    let found = with("THRUM_SYNC_INTERVAL", "x");
    let check = of(&found, "environment");
    assert!(check["evidence"].as_str().unwrap().contains("THRUM_SYNC_INTERVAL is not"), "{check}");
    assert_eq!((&check["verdict"], &check["fix"]), (&"warning".into(), &"unset THRUM_SYNC_INTERVAL".into()));
    let config = repo.path(".thrum/config.json");
    let usual = fs::read(&config).unwrap_or_default();
    for (text, words, fix) in [
        (
            r#"{"daemon":{"sync_interval":"nope"}}"#,
            "daemon.sync_interval in config.json is not",
            "thrum config set daemon.sync_interval default",
        ),
        (
            r#"{"daemon":{"local_only":"yes"}}"#,
            "daemon.local_only in config.json is not",
            "thrum config set daemon.local_only default",
        ),
        ("{", "config.json cannot be used", "mv "),
    ] {
        fs::write(&config, text).unwrap();
        assert!(sees(&repo, "environment", "warning", words).contains(fix), "{text}");
    }
    fs::write(&config, usual).unwrap();
    sees(&repo, "environment", "ok", "all settings can be read");
    fs::copy(repo.path(".thrum/identities/ann.json"), repo.path(".thrum/identities/eve.json")).unwrap();
    sees(&repo, "identity", "problem", "names another agent");
    fs::remove_file(repo.path(".thrum/identities/eve.json")).unwrap();
    repo.agent("eve", "tester");
    sees(&repo, "identity", "warning", "ann, eve share this worktree");
}

#[test]
fn a_peer_that_does_not_answer_or_has_removed_us_is_reported() {
    let (left, right) = paired();
    sees(&left, "peers", "ok", "1 peer, all reachable");
    right.thrum(&["peer", "remove", "left"]).ok();
    left.thrum(&["sync", "force"]);
    assert_eq!(sees(&left, "peers", "problem", "right has removed this daemon"), "thrum peer remove right");
}

#[test]
fn a_path_too_long_for_a_socket_is_no_error() {
    let repo = TestRepo::git(&"x".repeat(110));
    repo.thrum(&["init"]).ok();
    sees(&repo, "socket", "ok", "because its usual path has more than");
}

#[test]
fn docs_compatibility_md_lists_every_variable_and_each_is_read_or_ignored_as_documented() {
    let page = fs::read_to_string(docs::path("compatibility.md")).unwrap();
    let (_, section) = page.split_once("## Environment").unwrap();
    let (section, _) = section.split_once("## Files").unwrap();
    let (read, not_read) = section.split_once("Not read:").unwrap();
    let names = |text: &str| {
        text.split('`')
            .filter(|word| word.len() > 6 && word.starts_with("THRUM_"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (read, not_read) = (names(read), names(not_read));
    let of_the_daemon = VARIABLES.iter().map(|variable| variable.name).chain(Key::ALL.map(Key::variable));
    let missing: Vec<_> = of_the_daemon.filter(|name| !read.iter().any(|listed| listed == name)).collect();
    assert!(missing.is_empty(), "the page does not list {missing:?}");
    let repo = TestRepo::with_agent("repo", "ann");
    let value = |name: &str| match name {
        "THRUM_HOME" => repo.root().display().to_string(),
        "THRUM_NAME" | "THRUM_AGENT_ID" => "ann".to_owned(),
        _ => "1".to_owned(),
    };
    let set = read.iter().chain(&not_read).map(|name| (name, value(name)));
    let ran: Ran = repo.command(&["doctor", "--json"]).envs(set).output().unwrap().into();
    let said = of(&ran.json(), "environment")["evidence"].as_str().unwrap().to_owned();
    let nothing = |name: &String| said.contains(&format!("{name} means nothing here"));
    let stray: Vec<_> = read.iter().filter(|name| nothing(name)).collect();
    let taken: Vec<_> = not_read.iter().filter(|name| !nothing(name)).collect();
    assert!(
        read.len() > 10 && not_read.len() > 5 && stray.is_empty() && taken.is_empty(),
        "{stray:?} {taken:?}: {said}"
    );
}
