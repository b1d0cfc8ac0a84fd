//! Repeated `kill -9`: every acknowledged message is there afterwards, exactly once.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use serde_json::json;

use crate::common::{TestRepo, paired};

const WRITERS: usize = 4;

/// Number of acknowledgements after which the daemon is killed.
const ACKNOWLEDGED: usize = 60;

#[test]
fn p2_every_acknowledged_message_survives_kill_9_and_is_there_once() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    let mut acknowledged = BTreeSet::new();
    for round in 0..5 {
        repo.thrum(&["daemon", "start"]).ok();
        let count = AtomicUsize::new(0);
        let ids: Vec<String> = thread::scope(|scope| {
            let write = |writer: usize| {
                let (repo, count) = (&repo, &count);
                move || {
                    let mut rpc = repo.connect();
                    let mut ids = Vec::new();
                    for n in 0.. {
                        let content = format!("round {round} writer {writer} message {n}");
                        let params = json!({"content": content, "mentions": ["@bob"], "caller_agent_id": "ann"});
                        let Some(sent) = rpc.attempt("message.send", &params) else { break };
                        ids.push(sent["message_id"].as_str().unwrap().to_owned());
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    ids
                }
            };
            let handles: Vec<_> = (0..WRITERS).map(|writer| scope.spawn(write(writer))).collect();
            while count.load(Ordering::Relaxed) < ACKNOWLEDGED {
                thread::yield_now();
            }
            repo.kill_daemon();
            handles.into_iter().flat_map(|handle| handle.join().unwrap()).collect()
        });
        acknowledged.extend(ids);
    }
    repo.thrum(&["daemon", "start"]).ok();
    let mut present = Vec::new();
    let mut rpc = repo.connect();
    for page in 1.. {
        let params =
            json!({"for_agent": "bob", "caller_agent_id": "bob", "page_size": 100, "page": page, "sort_order": "asc"});
        let listing = rpc.call("message.list", &params);
        let messages = listing["messages"].as_array().unwrap();
        present.extend(messages.iter().map(|message| message["message_id"].as_str().unwrap().to_owned()));
        if messages.len() < 100 {
            break;
        }
    }
    let once: BTreeSet<_> = present.iter().cloned().collect();
    assert_eq!(present.len(), once.len(), "none twice");
    let lost: Vec<_> = acknowledged.difference(&once).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), acknowledged.len());
}

#[test]
fn p2_a_catch_up_that_is_killed_again_and_again_ends_equal() {
    let (left, right) = paired();
    right.thrum(&["daemon", "stop"]).ok();
    thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                let mut rpc = left.connect();
                for n in 0..1000 {
                    rpc.call(
                        "message.send",
                        &json!({"content": format!("message {n}"), "mentions": ["@bob"], "caller_agent_id": "ann"}),
                    );
                }
            });
        }
    });
    let all = left.connect().call("health", &json!({}))["events"].as_u64().unwrap();
    let mut held = 0;
    for _ in 0..7 {
        right.thrum(&["daemon", "start"]).ok();
        // The daemon is killed as soon as it has more events than before.
        while let Some(health) = right.connect().attempt("health", &json!({})) {
            let now = health["events"].as_u64().unwrap();
            assert!(now >= held, "what was stored is gone: {now} < {held}");
            if now > held {
                held = now;
                right.kill_daemon();
                break;
            }
            if now == all {
                break;
            }
        }
    }
    // Verifying on one side suffices, because the check compares both. The other side cannot reach this one if another
    // test's daemon has taken the port meanwhile.
    right.thrum(&["sync", "verify"]).ok();
    assert_eq!(right.json(&["inbox", "--unread", "--limit", "1"])["unread"], 4000);
}
