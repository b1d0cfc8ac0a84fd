//! `thrum export` writes the whole log to standard output and nothing else, with and without a daemon.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt};

use serde_json::Value;

use crate::common::TestRepo;

fn events(jsonl: &str) -> Vec<Value> {
    jsonl.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_whole_log_is_written_in_order_beside_a_daemon_and_without_one() {
    let repo = TestRepo::with_agent("repo", "ann");
    let id =
        repo.json(&["send", "one \u{202e}\u{9b}2J two", "--to", "@ann"])["message_id"].as_str().unwrap().to_owned();
    let beside = repo.thrum(&["export", "--jsonl"]).ok();
    let listed = events(&beside.stdout);
    let kinds: BTreeSet<_> = listed.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert!(
        kinds.is_superset(&BTreeSet::from(["agent.register", "agent.session.start", "message.create"])),
        "{kinds:?}"
    );
    let sequences: Vec<_> = listed.iter().map(|event| event["sequence"].as_u64().unwrap()).collect();
    assert!(sequences.is_sorted_by(|a, b| a < b), "{sequences:?}");
    assert!(listed.iter().all(|event| event["signature"].is_string() && event["event_id"].is_string()));
    let message = listed.iter().find(|event| event["message_id"] == *id).unwrap();
    assert_eq!(message["body"]["content"], "one \u{202e}\u{9b}2J two");

    repo.thrum(&["daemon", "stop"]).ok();
    assert_eq!(repo.thrum(&["export", "--jsonl"]).ok().stdout, beside.stdout);
    assert!(repo.daemon_pid().is_none(), "it starts no daemon");
    // The export includes events that a crash left only in the write-ahead log.
    let later = repo.json(&["send", "later", "--to", "@ann"])["message_id"].as_str().unwrap().to_owned();
    repo.kill_daemon();
    assert!(repo.thrum(&["export", "--jsonl"]).ok().stdout.contains(&later));
}

#[test]
fn an_empty_log_and_a_repository_never_started_export_nothing() {
    let repo = TestRepo::git("repo");
    repo.thrum(&["export", "--jsonl"]).fails(3, "thrum init");
    repo.thrum(&["init", "--no-start"]).ok();
    assert_eq!(repo.thrum(&["export", "--jsonl"]).ok().stdout, "");
    repo.thrum(&["export"]).fails(2, "--jsonl");
}

#[test]
fn the_log_is_whole_although_less_was_counted() {
    let repo = TestRepo::with_agent("repo", "ann");
    fs::write(repo.path("long.md"), "x".repeat(700 << 10)).unwrap();
    // The log is larger than one page of the export.
    for _ in 0..3 {
        repo.thrum(&["send", "--body-file", "long.md", "--to", "@ann"]).ok();
    }
    repo.thrum(&["daemon", "stop"]).ok();
    let whole = repo.thrum(&["export", "--jsonl"]).ok().stdout;
    let conn = rusqlite::Connection::open(repo.path(".thrum/var/messages.db")).unwrap();
    conn.execute("UPDATE heads SET count = 1", []).unwrap();
    assert!(whole.len() > 3 * (700 << 10) && repo.thrum(&["export", "--jsonl"]).ok().stdout == whole);
}

#[test]
fn a_file_appears_when_it_is_complete_is_private_and_replaces_nothing() {
    let repo = TestRepo::with_agent("repo", "ann");
    let file = repo.path("log.jsonl");
    let said = repo.json(&["export", "--jsonl", "--to", "log.jsonl"]);
    let written = fs::read_to_string(&file).unwrap();
    assert_eq!(written, repo.thrum(&["export", "--jsonl"]).ok().stdout);
    assert_eq!(
        (said["events"].as_u64(), said["file"].as_str()),
        (Some(events(&written).len() as u64), Some("log.jsonl"))
    );
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    repo.thrum(&["export", "--jsonl", "--to", "log.jsonl"]).fails(4, "is there already");
    repo.thrum(&["export", "--jsonl", "--to", "no/such/dir.jsonl"])
        .fails(1, "cannot write to no/such/dir.jsonl")
        .says("mkdir -p no/such");
    let left: Vec<_> = fs::read_dir(repo.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".part")), "{left:?}");
}

#[test]
fn a_reader_that_closes_the_pipe_ends_the_export_quietly() {
    let repo = TestRepo::with_agent("repo", "ann");
    let body = "x".repeat(200_000);
    for _ in 0..5 {
        repo.thrum(&["send", &body[..120_000], "--to", "@ann"]).ok();
    }
    let mut exporting = repo.begin(&["export", "--jsonl"]);
    assert!(exporting.line().starts_with(r#"{"sequence":"#));
    exporting.stops_reading().ok().says_nothing();
}

#[test]
fn a_database_that_is_not_ours_or_newer_is_refused_in_a_sentence() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["daemon", "stop"]).ok();
    let database = repo.path(".thrum/var/messages.db");
    let newer = |version: u32| {
        let conn = rusqlite::Connection::open(&database).unwrap();
        conn.pragma_update(None, "user_version", version).unwrap();
    };
    newer(9999);
    repo.thrum(&["export", "--jsonl"]).fails(4, "format 9999");
    fs::write(
        &database,
        "no database at all, but long enough to be looked at as one by SQLite: it reads a hundred bytes first. ",
    )
    .unwrap();
    repo.thrum(&["export", "--jsonl"]).fails(1, "damaged");
}
