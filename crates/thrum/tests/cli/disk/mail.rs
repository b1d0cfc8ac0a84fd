//! Faults while mail is stored, from the first start on.

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};

use super::{
    DATABASE, explains, files,
    strace::{Traced, each_fault, possible},
    texts,
};
use crate::common::TestRepo;

/// C26, P2: faults while the daemon starts, stores four messages and ends.
#[test]
fn c26_mail_that_was_acknowledged_survives_faults_at_every_system_call() {
    if !possible() {
        return;
    }
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["daemon", "stop"]).ok();
    let mut acknowledged = 0;
    let mut round = 0;
    each_fault("sending", &repo, 40, |fault| {
        let at = format!("{fault:?}");
        round += 1;
        let daemon = Traced::start(&repo, &["daemon", "run"], &files(&repo, &DATABASE), fault);
        let serves = daemon.serves();
        let mut sent = BTreeSet::new();
        if serves && let Ok(mut rpc) = repo.try_connect() {
            for n in 0..4 {
                let content = format!("round {round} message {n} {}", "x".repeat(n * 3000));
                let answer = rpc.answer(
                    "message.send",
                    &json!({"content": content, "mentions": ["@ann"], "caller_agent_id": "ann"}),
                );
                let Some(answer) = answer else { break };
                if answer["error"].is_null() {
                    sent.insert(content);
                } else {
                    assert!(
                        answer["error"]["data"]["hint"].is_string() || answer["error"]["data"]["retryable"] == true,
                        "{at}: {answer}"
                    );
                }
            }
        }
        repo.kill_daemon();
        let (ended, injected) = daemon.end();
        if !serves {
            explains(&ended, &at);
        }
        repo.thrum(&["daemon", "start"]).ok();
        let found = texts(&repo, "ann");
        let lost: Vec<_> = sent.difference(&found).collect();
        assert!(lost.is_empty(), "{at}: acknowledged and lost: {lost:?}");
        if fault.is_some() {
            acknowledged += sent.len();
        }
        repo.thrum(&["daemon", "stop"]).ok();
        injected
    });
    // The number depends on which faults are picked; zero means that nothing was tested.
    assert!(acknowledged > 0, "no message was acknowledged in a run with a fault");
}

/// C26: the first start creates the directory, the lock, the pid file, the log and the database.
#[test]
fn c26_a_first_start_that_fails_anywhere_is_followed_by_one_that_succeeds() {
    let mut names = DATABASE.to_vec();
    names.extend(["", "thrum.pid", "thrum.pid.tmp", "thrum.lock", "daemon.log", "peers.json", "peers.json.tmp"]);
    first_starts("the first start", &names, 30);
}

/// C26: the key is created once, and its file is either complete or missing. Tries a fault at every step of the
/// creation.
#[test]
fn c26_a_key_whose_creation_fails_at_any_point_is_complete_or_absent() {
    first_starts("the key", &["daemon.json", "daemon.json.tmp"], usize::MAX);
}

fn first_starts(name: &str, names: &[&str], some: usize) {
    if !possible() {
        return;
    }
    let repo = TestRepo::git("repo");
    repo.thrum(&["init", "--no-start"]).ok();
    let var = repo.path(".thrum/var");
    each_fault(name, &repo, some, |fault| {
        let at = format!("{fault:?}");
        let _ = fs::remove_dir_all(&var);
        let daemon = Traced::start(&repo, &["daemon", "run"], &files(&repo, names), fault);
        let serves = daemon.serves();
        // A client that has seen the daemon's id finds the daemon under the same id later.
        let named = repo
            .try_connect()
            .ok()
            .and_then(|mut rpc| rpc.attempt("health", &json!({})))
            .map(|health| health["daemon_id"].clone());
        repo.kill_daemon();
        let (ended, injected) = daemon.end();
        if !serves {
            explains(&ended, &at);
        }
        if let Ok(text) = fs::read(var.join("daemon.json")) {
            assert!(
                serde_json::from_slice::<Value>(&text).is_ok_and(|record| record["key"].is_string()),
                "{at}: half a daemon.json"
            );
        }
        repo.thrum(&["daemon", "start"]).ok();
        let now = repo.connect().call("health", &json!({}))["daemon_id"].clone();
        assert!(named.is_none_or(|named| named == now), "{at}: it has another key now");
        repo.agent("ann", "coder");
        assert!(texts(&repo, "ann").is_empty());
        repo.thrum(&["daemon", "stop"]).ok();
        injected
    });
}

/// C26: a log that cannot be written or rotated does not prevent sending mail.
#[test]
fn c26_a_log_that_cannot_be_rotated_stops_nothing() {
    if !possible() {
        return;
    }
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["daemon", "stop"]).ok();
    let log = repo.path(".thrum/var/daemon.log");
    let names = ["daemon.log", "daemon.log.1", "daemon.log.2", "daemon.log.3"];
    let mut round = 0;
    each_fault("rotating the log", &repo, 12, |fault| {
        let at = format!("{fault:?}");
        let file = fs::OpenOptions::new().write(true).open(&log).unwrap();
        // Almost as large as the log may become. The file is sparse, so it takes no space.
        file.set_len((10 << 20) - 100).unwrap();
        let daemon = Traced::start(&repo, &["daemon", "run"], &files(&repo, &names), fault);
        let serves = daemon.serves();
        round += 1;
        let content = format!("round {round}");
        let sent = serves
            && repo
                .try_connect()
                .ok()
                .and_then(|mut rpc| {
                    rpc.answer(
                        "message.send",
                        &json!({"content": content, "mentions": ["@ann"], "caller_agent_id": "ann"}),
                    )
                })
                .is_some_and(|answer| answer["error"].is_null());
        repo.kill_daemon();
        let (ended, injected) = daemon.end();
        if !serves {
            explains(&ended, &at);
        }
        repo.thrum(&["daemon", "start"]).ok();
        assert!(!sent || texts(&repo, "ann").contains(&content), "{at}");
        assert!(sent || ended.code != 0, "{at}: a log that fails kept mail from being sent: {ended:?}");
        repo.thrum(&["daemon", "stop"]).ok();
        assert!(log.exists());
        injected
    });
}

/// C26, P5: a purge is all or nothing, and complete once it was acknowledged.
#[test]
fn c26_a_purge_that_fails_at_any_point_is_complete_or_absent() {
    if !possible() {
        return;
    }
    let repo = TestRepo::with_agent("repo", "ann");
    each_fault("purging", &repo, 25, |fault| {
        let at = format!("{fault:?}");
        repo.thrum(&["daemon", "start"]).ok();
        let old: BTreeSet<String> = (0..3).map(|n| format!("an old secret {n} {}", "s".repeat(n * 5000))).collect();
        for content in &old {
            repo.connect()
                .call("message.send", &json!({"content": content, "mentions": ["@ann"], "caller_agent_id": "ann"}));
        }
        repo.thrum(&["daemon", "stop"]).ok();
        let daemon = Traced::start(&repo, &["daemon", "run"], &files(&repo, &DATABASE), fault);
        let serves = daemon.serves();
        let answer = serves.then(|| repo.thrum(&["purge", "--all", "--confirm", "--no-start"]));
        repo.kill_daemon();
        let (ended, injected) = daemon.end();
        if !serves {
            explains(&ended, &at);
        }
        repo.thrum(&["daemon", "start"]).ok();
        let found = texts(&repo, "ann");
        assert!(found.is_empty() || found == old, "{at}: half purged: {}", found.len());
        if answer.is_some_and(|ran| ran.code == 0) {
            assert!(found.is_empty(), "{at}: acknowledged and not done");
        }
        repo.thrum(&["purge", "--all", "--confirm"]).ok();
        assert!(texts(&repo, "ann").is_empty(), "{at}");
        repo.thrum(&["daemon", "stop"]).ok();
        injected
    });
}
