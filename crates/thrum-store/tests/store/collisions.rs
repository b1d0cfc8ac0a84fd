//! Files that two agents change at nearly the same time.

use std::time::Duration;

use serde_json::{Value, json};
use thrum_core::{
    Ambient, Timestamp, limits,
    work::{FileChange, Work},
};
use thrum_store::ops::Heartbeat;

use crate::kit::{self, Node, foreign};

/// Registers an agent here, in its own worktree, that changed files at these seconds.
fn works(node: &mut Node, agent: &str, files: &[(&str, u64)], committed: bool) {
    node.register(agent, &format!("role-{agent}"));
    let change = |(path, second): &(&str, u64)| FileChange {
        path: (*path).to_owned(),
        last_modified: Some(Timestamp::from_nanos(kit::START).plus(Duration::from_secs(*second)).to_string()),
        additions: 3,
        status: "modified".into(),
        ..FileChange::default()
    };
    let names = files.iter().map(|(path, _)| (*path).to_owned()).collect();
    let work = Work {
        worktree_path: Some(format!("/src/{agent}")),
        file_changes: files.iter().map(change).collect(),
        uncommitted_files: if committed { Vec::new() } else { names },
        ..Work::default()
    };
    let (agent, beat) = (agent.to_owned(), Heartbeat { work: Some(work), ..Heartbeat::default() });
    node.store.write(move |tx| tx.start_session(&agent, beat)).expect("starts");
}

/// Adds an agent elsewhere that changed files at these seconds.
fn elsewhere(node: &mut Node, files: &[(&str, i64)]) {
    let change = |(path, second): &(&str, i64)| json!({"path": path, "status": "modified", "additions": 1, "last_modified": Timestamp::from_nanos(kit::START + second * 1_000_000_000).to_string()});
    let changes: Vec<Value> = files.iter().map(change).collect();
    let context = json!({"session_id": "ses_cy", "worktree_path": "/src/ann", "file_changes": changes,
        "uncommitted_files": files.iter().map(|(path, _)| path).collect::<Vec<_>>()});
    node.apply(&[
        foreign("evt_1", "d_go", 1, "agent.session.start", json!({"session_id": "ses_cy", "agent_id": "cy"})),
        foreign("evt_2", "d_go", 2, "agent.update", json!({"agent_id": "cy", "work_contexts": [context]})),
    ]);
}

/// Detects and records collisions, and returns the report for each agent, as `agent: other path`.
fn found(node: &mut Node) -> Vec<String> {
    let now = node.world.clone().now();
    let reader = node.store.reader();
    let changed = reader.updated_since(0).expect("reads");
    assert_eq!(changed.reached, None, "all were read");
    let found = reader.collisions_of(&changed.agents, now).expect("reads");
    node.store.write(move |tx| tx.record_collisions(found)).expect("notes");
    told(node, None)
}

fn told(node: &Node, agent: Option<&str>) -> Vec<String> {
    let found = node.store.reader().collisions(node.world.clone().now(), agent).expect("reads");
    let mut told: Vec<String> =
        found.iter().map(|one| format!("{}: {} {}", one.agent_id, one.other, one.path)).collect();
    told.sort();
    told
}

/// Ten minutes later, after all of these changes.
fn later(node: &mut Node) -> Vec<String> {
    node.world.pass(Duration::from_secs(600));
    found(node)
}

#[test]
fn agents_here_are_notified_of_collisions_within_a_minute() {
    let mut node = Node::new(1);
    works(&mut node, "ann", &[("a.rs", 100), ("b.rs", 100), ("c.rs", 100), ("own.rs", 100)], false);
    works(&mut node, "bob", &[("a.rs", 160), ("b.rs", 161)], false);
    elsewhere(&mut node, &[("c.rs", 41), ("b.rs", 500)]);
    assert_eq!(
        later(&mut node),
        ["ann: bob a.rs", "ann: cy c.rs", "bob: ann a.rs"],
        "the one elsewhere is told by its own daemon"
    );
}

#[test]
fn a_pair_of_agents_is_notified_of_a_file_once_an_hour() {
    let mut node = Node::new(1);
    works(&mut node, "ann", &[("a.rs", 500)], false);
    works(&mut node, "bob", &[("a.rs", 520)], false);
    later(&mut node);
    let shown = node.store.reader().collisions(node.world.clone().now(), Some("ann")).expect("reads");
    let upto = shown.iter().map(|one| one.noted_at).max().expect("one is shown");
    let before = Timestamp::from_nanos(upto.nanos() - 1);
    node.store.write(move |tx| tx.collisions_told("ann", before)).expect("notes");
    assert_eq!(told(&node, Some("ann")).len(), 1, "a collision that was recorded later is news");
    node.store.write(move |tx| tx.collisions_told("ann", upto)).expect("notes");
    found(&mut node);
    assert_eq!((told(&node, Some("ann")), told(&node, Some("bob"))), (vec![], vec!["bob: ann a.rs".to_owned()]));
    node.world.pass(limits::COLLISION_AGAIN);
    assert_eq!(found(&mut node), Vec::<String>::new(), "what was changed an hour ago is no news");
    works(&mut node, "ann", &[("a.rs", 4300)], false);
    works(&mut node, "bob", &[("a.rs", 4310)], false);
    later(&mut node);
    assert_eq!(told(&node, Some("ann")), ["ann: bob a.rs"], "told again");
}

#[test]
fn equal_commits_and_shared_worktrees_are_no_collision() {
    let mut node = Node::new(1);
    // Both have committed the same change, one of them by a merge.
    works(&mut node, "ann", &[("a.rs", 100)], true);
    works(&mut node, "bob", &[("a.rs", 110)], true);
    // In one worktree, git sees the same files for both.
    node.register("dan", "dan-role");
    let shared = Work {
        worktree_path: Some("/src/bob".into()),
        uncommitted_files: vec!["a.rs".into()],
        file_changes: vec![FileChange {
            path: "a.rs".into(),
            last_modified: Some(Timestamp::from_nanos(kit::START).plus(Duration::from_secs(110)).to_string()),
            ..FileChange::default()
        }],
        ..Work::default()
    };
    node.store
        .write(move |tx| tx.start_session("dan", Heartbeat { work: Some(shared), ..Heartbeat::default() }))
        .expect("starts");
    assert_eq!(later(&mut node), ["ann: dan a.rs", "dan: ann a.rs"]);
}

#[test]
fn changes_before_a_session_started_are_not_attributed_to_its_agent() {
    let mut node = Node::new(1);
    works(&mut node, "ann", &[("a.rs", 90), ("b.rs", 110)], false);
    node.world.pass(Duration::from_secs(100));
    works(&mut node, "bob", &[("a.rs", 90), ("b.rs", 110)], false);
    assert_eq!(later(&mut node), ["ann: bob b.rs", "bob: ann b.rs"]);
}

#[test]
fn a_change_right_after_a_session_start_counts_despite_an_earlier_file_time() {
    let mut node = Node::new(1);
    works(&mut node, "ann", &[("a.rs", 99), ("b.rs", 100)], false);
    node.world.pass(Duration::from_secs(100) + limits::FILE_TIME_STEP / 2);
    works(&mut node, "bob", &[("a.rs", 99), ("b.rs", 100)], false);
    assert_eq!(later(&mut node), ["ann: bob b.rs", "bob: ann b.rs"]);
}

#[test]
fn the_search_ends_when_enough_collisions_are_found() {
    let mut node = Node::new(1);
    let names: Vec<String> = (0..limits::MAX_COLLISIONS).map(|n| format!("{n}.rs")).collect();
    let files: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 100)).collect();
    works(&mut node, "ann", &files, false);
    works(&mut node, "bob", &files, false);
    node.world.pass(Duration::from_secs(600));
    let (now, home) = (node.world.clone().now(), node.home());
    let search = |changed: &[(String, String)]| node.store.reader().collisions_of(changed, now).expect("reads").len();
    let changed: Vec<(String, String)> = ["bob".to_owned()]
        .into_iter()
        .chain((0..100).map(|n| format!("absent{n}")))
        .chain(["ann".to_owned()])
        .map(|agent| (agent, home.clone()))
        .collect();
    assert_eq!(search(&changed[..1]), 2 * limits::MAX_COLLISIONS, "those of one pair are complete");
    assert_eq!(search(&changed), 2 * limits::MAX_COLLISIONS, "the second agent is not looked at");
}

#[test]
fn more_updates_than_are_read_at_once_are_read_in_parts() {
    let mut node = Node::new(1);
    let updates: Vec<_> = (0..=limits::MAX_BATCH_EVENTS)
        .map(|n| {
            let body = json!({"agent_id": format!("agent{n}"), "work_contexts": []});
            foreign(&format!("evt_{n}"), "d_go", n as i64 + 1, "agent.update", body)
        })
        .collect();
    node.apply(&updates);
    let first = node.store.reader().updated_since(0).expect("reads");
    assert_eq!(first.agents.len(), limits::MAX_BATCH_EVENTS);
    let rest = node.store.reader().updated_since(first.reached.expect("there is one more")).expect("reads");
    let last = (format!("agent{}", limits::MAX_BATCH_EVENTS), "d_go".to_owned());
    assert_eq!((rest.agents, rest.reached), (vec![last], None));
}
