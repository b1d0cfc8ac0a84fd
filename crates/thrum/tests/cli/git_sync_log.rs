//! `thrum sync git log`: what happened in the exchanges through a git remote.

use std::fs;

use serde_json::Value;

use crate::{
    common::TestRepo,
    git_sync::{name_of, share, shows, two_clones},
};

fn entries(repo: &TestRepo) -> Vec<Value> {
    let log = repo.json(&["sync", "git", "log", "--limit", "500"]);
    let entries = log["entries"].as_array().unwrap().clone();
    assert_eq!(log["more"], false);
    entries
}

/// The kinds of the entries, without the exchanges, whose number depends on the moment.
fn kinds(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["what"].as_str().unwrap()).filter(|what| *what != "exchanged").collect()
}

#[test]
fn the_log_has_what_happened_and_is_kept_across_restarts() {
    let (left, right, remote) = two_clones();
    share(&left, &right, &[]);
    let sum = |key: &str| entries(&left).iter().filter_map(|entry| entry[key].as_u64()).sum::<u64>();
    assert!(sum("stored") > 0 && sum("published") > 0 && sum("bytes") > 0, "{:?}", entries(&left));

    let away = remote.with_extension("away");
    fs::rename(&remote, &away).unwrap();
    left.thrum(&["sync", "force"]).fails(75, "");
    left.thrum(&["daemon", "restart"]).ok();
    left.thrum(&["sync", "force"]).fails(75, "");
    let said = shows(&left, 0, &["sync", "git", "log"], " times, last ");
    assert!(said.contains("does not appear to be a git repository"), "{said}");
    fs::rename(&away, &remote).unwrap();
    left.thrum(&["sync", "force"]).ok();

    // Somebody removes the ref of the right, which pushes it again.
    let id = right.json(&["status"])["health"]["daemon_id"].as_str().unwrap().to_owned();
    left.git_done(&["--git-dir", &remote.to_string_lossy(), "update-ref", "-d", &format!("refs/thrum/{id}")]);
    left.thrum(&["sync", "force"]).ok();
    right.thrum(&["sync", "force"]).ok();
    left.thrum(&["sync", "force"]).ok();
    left.thrum(&["sync", "git", "untrust", &name_of(&right)]).ok();
    left.thrum(&["sync", "git", "off"]).ok();
    let all = entries(&left);
    let expected = ["on", "seen", "trusted", "failed", "recovered", "gone", "returned", "distrusted", "off"];
    assert_eq!(kinds(&all), expected, "{all:?}");
    let of = |what: &str| all.iter().find(|entry| entry["what"] == what).unwrap();
    assert!(of("failed")["count"].as_u64() >= Some(2), "{all:?}");
    assert_eq!((&of("trusted")["name"], &of("trusted")["by_person"]), (&name_of(&right).into(), &true.into()));
    assert_eq!(of("recovered")["failed_at"], of("failed")["at"]);

    let newest = shows(&left, 0, &["sync", "git", "log", "--limit", "1"], "Earlier entries are not shown (--limit)\n");
    assert!(newest.trim_end().ends_with(" off"), "{newest}");
    left.thrum(&["sync", "git", "log", "--limit", "0"]).fails(2, "");
}

#[test]
fn quiet_exchanges_leave_no_entry_and_a_purge_leaves_one() {
    let (left, right, _) = two_clones();
    share(&left, &right, &[]);
    left.thrum(&["send", "to be purged", "--to", "@bob"]).ok();
    // Until everything that this causes on both sides has been exchanged.
    let mut before = 0;
    while entries(&left).len() > before {
        before = entries(&left).len();
        for repo in [&left, &right, &left] {
            repo.thrum(&["sync", "force"]).ok();
        }
    }
    left.thrum(&["sync", "force"]).ok();
    assert_eq!(entries(&left).len(), before);
    left.thrum(&["purge", "--all", "--confirm"]).ok();
    left.thrum(&["sync", "force"]).ok();
    let purged = &entries(&left)[before..];
    assert!(purged.iter().any(|entry| entry["purged"] == true), "{purged:?}");
    shows(&left, 0, &["sync", "git", "log"], "published a purge");
}

#[test]
fn a_log_that_cannot_be_read_or_written_fails_nothing_and_is_reported() {
    let (left, right, _) = two_clones();
    share(&left, &right, &[]);
    let file = left.path(".thrum/var/git-log.jsonl");
    let kept = fs::read_to_string(&file).unwrap();
    left.thrum(&["daemon", "stop"]).ok();
    fs::write(&file, format!("no JSON\n{kept}{{\"half\":")).unwrap();
    left.thrum(&["daemon", "start"]).ok();
    assert_eq!(kinds(&entries(&left))[..3], ["on", "seen", "trusted"]);
    let reported = |what: &str| {
        let log = fs::read_to_string(left.path(".thrum/var/daemon.log")).unwrap();
        assert!(log.contains(what), "no '{what}' in {log}");
    };
    reported("passed over lines of the log of sync through git");

    left.thrum(&["daemon", "stop"]).ok();
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    left.thrum(&["daemon", "start"]).ok();
    left.thrum(&["send", "it goes on", "--to", "@bob"]).ok();
    left.thrum(&["sync", "force"]).ok();
    right.thrum(&["sync", "force"]).ok();
    assert_eq!(right.unread("bob"), 1);
    assert!(entries(&left).iter().any(|entry| entry["published"].as_u64() > Some(0)), "{:?}", entries(&left));
    reported("the log of sync through git cannot be written");
}
