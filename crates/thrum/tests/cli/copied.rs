//! A repository that was copied or moved with its `.thrum`.

use std::{fs, process::Command};

use crate::common::TestRepo;

#[test]
fn c28_a_copy_does_not_start_until_somebody_says_what_it_is() {
    let original = TestRepo::with_agent("original", "ann");
    original.thrum(&["send", "before the copy", "--to", "@ann"]).ok();
    let id = original.json(&["daemon", "status"])["health"]["daemon_id"].clone();
    original.thrum(&["daemon", "stop"]).ok();
    let copy = TestRepo::plain("copy");
    let copied = Command::new("cp").arg("-a").arg(original.path(".thrum")).arg(copy.root()).status().unwrap();
    assert!(copied.success());

    copy.thrum(&["daemon", "start"]).fails(4, "--new-identity").says("--moved");
    copy.thrum(&["inbox"]).fails(4, "--new-identity");
    assert_eq!(copy.daemon_pid(), None);
    // The original is not disturbed.
    original.thrum(&["daemon", "start"]).ok();
    assert_eq!(original.json(&["daemon", "status"])["health"]["daemon_id"], id);

    copy.thrum(&["daemon", "start", "--moved", "--new-identity"]).fails(2, "");
    copy.thrum(&["daemon", "start", "--new-identity"]).ok();
    assert_ne!(copy.json(&["daemon", "status"])["health"]["daemon_id"], id);
    assert_eq!(copy.json(&["inbox", "--all"])["total"], 1, "what was in it stays");
    copy.thrum(&["daemon", "restart"]).ok();
}

#[test]
fn c28_a_repository_that_moved_stays_itself() {
    let repo = TestRepo::with_agent("old-place", "ann");
    let id = repo.json(&["daemon", "status"])["health"]["daemon_id"].clone();
    repo.thrum(&["daemon", "stop"]).ok();
    let moved = TestRepo::plain("new-place");
    fs::rename(repo.path(".thrum"), moved.path(".thrum")).unwrap();
    let started = moved.thrum(&["daemon", "start"]);
    if started.code != 0 {
        moved.thrum(&["daemon", "start", "--moved"]).ok();
    }
    assert_eq!(moved.json(&["daemon", "status"])["health"]["daemon_id"], id);
}
