//! `thrum purge`.

use std::fs;

use serde_json::json;

use crate::common::{TestRepo, paired};

/// Returns `true` if a file in the daemon's directory contains this text.
fn is_in_a_file(repo: &TestRepo, text: &str) -> bool {
    let files =
        fs::read_dir(repo.path(".thrum/var")).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    files
        .map(|path| fs::read(path).unwrap())
        .any(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
}

#[test]
fn a_purge_counts_first_and_after_confirmation_purges_here_and_at_the_peer() {
    let (left, right) = paired();
    left.thrum(&["send", "an old secret", "--to", "@bob"]).ok();
    right.thrum(&["wait", "--timeout", "20s"]).ok();
    let all = left.json(&["purge", "--all"]);
    assert_eq!(
        (&all["dry_run"], &all["messages_deleted"], &all["sync_message_files"]),
        (&json!(true), &json!(1), &json!(0)),
        "{all}"
    );
    let preview = left.thrum(&["purge", "--all"]).ok().says("preview").says("--confirm");
    assert!(preview.stdout.starts_with("Would purge 1 message and "), "{}", preview.stdout);
    assert_eq!(right.json(&["inbox"])["total"], 1);

    let purged = left.json(&["purge", "--all", "--confirm"]);
    assert_eq!((&purged["dry_run"], &purged["messages_deleted"]), (&json!(false), &json!(1)), "{purged}");
    assert!(!is_in_a_file(&left, "an old secret"));
    left.thrum(&["send", "what came after", "--to", "@bob"]).ok();
    left.thrum(&["sync", "verify"]).ok();
    let inbox = right.json(&["inbox"]);
    assert_eq!(
        (&inbox["total"], &inbox["messages"][0]["body"]["content"]),
        (&json!(1), &json!("what came after")),
        "{inbox}"
    );
    // The peer cleans its database file right after it has replied.
    right.thrum(&["daemon", "stop"]).ok();
    assert!(!is_in_a_file(&right, "an old secret"));
    right.thrum(&["daemon", "start"]).ok();
    right.thrum(&["sync", "verify"]).ok();
}

#[test]
fn invalid_and_future_times_are_refused_with_the_accepted_forms() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["send", "stays", "--to", "@ann"]).ok();
    repo.thrum(&["purge"]).fails(2, "--all");
    for bad in ["", "soon", "2", "-2d", "2026-13-01", "1mo"] {
        let refused = repo.thrum(&["purge", &format!("--before={bad}")]);
        assert_eq!(refused.code, 2, "{bad}: {refused:?}");
    }
    repo.thrum(&["purge", "--before", "soon"]).fails(2, "30d").says("2026-11-20").says("05:30:00Z");
    repo.thrum(&["purge", "--before", "2262-01-01T00:00:00Z", "--confirm"])
        .fails(4, "2262-01-01T00:00:00Z lies in the future");
    repo.thrum(&["purge", "--before", "2262-01-01"]).fails(4, "future");
    repo.thrum(&["purge"]).fails(2, "--before");
    repo.thrum(&["purge", "--before", "2d", "--all"]).fails(2, "cannot be used with");
    assert_eq!(repo.json(&["purge", "--before", "2d", "--confirm"])["events_deleted"], 0);
    assert_eq!(repo.json(&["inbox", "--all"])["total"], 1);
}
