//! Faults while a backup is made, and while a mailbox is restored from one.

use std::{collections::BTreeSet, fs};

use serde_json::json;

use super::{
    explains,
    strace::{Fault, Happens, Traced, each_fault, possible},
    texts,
};
use crate::common::TestRepo;

fn send(repo: &TestRepo, content: &str) {
    repo.connect().call("message.send", &json!({"content": content, "mentions": ["@ann"], "caller_agent_id": "ann"}));
}

fn set(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

/// C26: an interrupted restore leaves the former mailbox or the one in the backup, never an empty one, and the next
/// restore succeeds.
#[test]
fn c26_a_restoration_that_fails_anywhere_leaves_one_of_the_two_mailboxes() {
    if !possible() {
        return;
    }
    let repo = TestRepo::with_agent("repo", "ann");
    send(&repo, "in the backup");
    repo.thrum(&["backup", "--to", "mail.backup"]).ok();
    repo.thrum(&["daemon", "stop"]).ok();
    let var = repo.path(".thrum/var");
    let backup = repo.path("mail.backup");
    let name = backup.to_str().unwrap().to_owned();
    let args = ["restore", &name, "--yes", "--no-start"];
    let mut restored = 0;
    each_fault("restoring", &repo, 60, |fault| {
        let at = format!("{fault:?}");
        repo.thrum(&["daemon", "start"]).ok();
        send(&repo, "after the backup");
        // A killed daemon leaves a write-ahead log behind.
        repo.kill_daemon();
        // Faults hit every file, because the program itself makes the copy.
        let (ended, injected) = Traced::start(&repo, &args, &[], fault).end();
        // If every write fails, so does the write of the error message to the terminal.
        if ended.code != 0 && fault.is_none_or(|fault| fault.call != "write") {
            explains(&ended, &at);
        }
        repo.thrum(&["daemon", "start"]).ok();
        let found = texts(&repo, "ann");
        let expected = [set(&["in the backup"]), set(&["in the backup", "after the backup"])];
        assert!(expected.contains(&found), "{at}: {found:?}");
        if ended.code == 0 {
            assert_eq!(found, expected[0], "{at}: acknowledged and not done");
            restored += 1;
        }
        repo.thrum(&["restore", &name, "--yes"]).ok();
        assert_eq!(texts(&repo, "ann"), expected[0], "{at}");
        repo.thrum(&["daemon", "stop"]).ok();
        for entry in fs::read_dir(&var).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(!file.contains(".restoring") && !file.contains(".restored"), "{at}: {file} is left behind");
            if file.contains("before-restore") {
                fs::remove_file(path).unwrap();
            }
        }
        injected
    });
    assert!(restored > 0);
}

/// C26: an incomplete backup never has the name of a backup, and does not block the next one.
#[test]
fn c26_a_backup_that_fails_at_any_point_leaves_no_file() {
    if !possible() {
        return;
    }
    let repo = TestRepo::with_agent("repo", "ann");
    send(&repo, "in the backup");
    repo.thrum(&["daemon", "stop"]).ok();
    let backup = repo.path("mail.backup");
    let name = backup.to_str().unwrap().to_owned();
    each_fault("backing up", &repo, 30, |fault| {
        let at = format!("{fault:?}");
        let (ended, injected) = Traced::start(&repo, &["backup", "--to", &name, "--no-start"], &[], fault).end();
        // If every write fails, so does the write of the error message to the terminal.
        if ended.code != 0 && fault.is_none_or(|fault| fault.call != "write") {
            explains(&ended, &at);
        }
        if ended.code == 0 || backup.exists() {
            repo.thrum(&["restore", &name, "--yes"]).ok();
            repo.thrum(&["daemon", "start"]).ok();
            assert_eq!(texts(&repo, "ann"), set(&["in the backup"]), "{at}");
            repo.thrum(&["daemon", "stop"]).ok();
            fs::remove_file(&backup).unwrap();
        }
        let left: Vec<_> = fs::read_dir(repo.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        let parts = left.iter().filter(|name| name.to_string_lossy().ends_with(".part")).count();
        let may_leave = |fault: &Fault| fault.happens == Happens::Killed || fault.call == "unlink";
        assert!(parts == 0 || fault.is_some_and(may_leave), "{at}: {left:?}");
        for part in left.iter().filter(|name| name.to_string_lossy().contains(".part")) {
            fs::remove_file(repo.path(part.to_str().unwrap())).unwrap();
        }
        injected
    });
}
