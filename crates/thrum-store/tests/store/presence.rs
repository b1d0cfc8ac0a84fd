//! Liveness of agents, work contexts of sessions, and abandoned agents.

use std::time::Duration;

use thrum_core::{
    Error, ErrorKind, Timestamp, limits,
    payload::Tag,
    work::{FileChange, Work},
};
use thrum_store::{
    StoreError,
    ops::{self, Heartbeat},
    query::{Liveness, SessionFilter},
};

use crate::kit::{Node, START};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

fn refusal<T: std::fmt::Debug>(outcome: Result<T, StoreError>) -> Error {
    outcome.expect_err("is refused").into()
}

fn events(node: &Node) -> u64 {
    node.store.reader().totals().expect("reads").events
}

fn start(node: &mut Node, agent: &str, beat: Heartbeat) -> String {
    node.store.write(|tx| tx.start_session(agent, beat)).expect("starts").0
}

fn now(node: &Node) -> Timestamp {
    use thrum_core::Ambient;
    node.world.clone().now()
}

fn liveness(node: &Node, session: &str) -> Liveness {
    let session = node.store.reader().session(session).expect("reads").expect("is here");
    session.liveness(now(node), &node.home())
}

#[test]
fn a_heartbeat_writes_an_event_only_if_something_changed() {
    let mut node = Node::new(1);
    node.register("ann", "coder");
    let session = start(&mut node, "ann", Heartbeat::default());
    let beat = |node: &mut Node, beat: Heartbeat| node.store.write(|tx| tx.heartbeat(&session, beat)).expect("beats");
    let before = events(&node);
    node.world.pass(HOUR);
    beat(&mut node, Heartbeat::default());
    assert_eq!(events(&node), before);
    assert_eq!(node.store.reader().session(&session).expect("reads").expect("is here").last_seen_at, now(&node));

    let change = FileChange {
        path: "a b.rs".into(),
        additions: 3,
        deletions: 1,
        status: "modified".into(),
        last_modified: None,
    };
    let work = Work {
        branch: Some("x".into()),
        uncommitted_files: vec!["a b.rs".into()],
        file_changes: vec![change],
        ..Work::default()
    };
    let said =
        Heartbeat { work: Some(work.clone()), add_scopes: vec![Tag::new("module", "auth")], ..Heartbeat::default() };
    beat(&mut node, said.clone());
    assert_eq!(events(&node), before + 1);
    beat(&mut node, said);
    assert_eq!(events(&node), before + 1, "the same again is no news");
    beat(&mut node, Heartbeat { remove_scopes: vec![Tag::new("module", "auth")], ..Heartbeat::default() });
    let context = node.store.reader().session(&session).expect("reads").expect("is here").context;
    assert_eq!(
        (context.branch.as_deref(), context.scopes.as_slice()),
        (Some("x"), [].as_slice()),
        "what was not said again stays"
    );
    assert_eq!(context.file_changes[0]["path"], "a b.rs");
    node.check();
}

#[test]
fn the_context_given_at_the_start_of_a_session_reaches_peers() {
    let (mut node, mut far) = (Node::new(1), Node::new(2));
    node.register("ann", "coder");
    let work = Work { branch: Some("x".into()), changed_files: vec!["src/a.rs".into()], ..Work::default() };
    let session =
        start(&mut node, "ann", Heartbeat { work: Some(work), intent: Some("parse".into()), ..Heartbeat::default() });
    far.pull(&node, 0);
    let there = far.store.reader().session(&session).expect("reads").expect("is here").context;
    assert_eq!((there.intent.as_deref(), there.changed_files), (Some("parse"), vec!["src/a.rs".to_owned()]));
    node.store.write(|tx| tx.end_session(&session, None)).expect("ends");
    assert_eq!(refusal(node.store.write(|tx| tx.heartbeat(&session, Heartbeat::default()))).kind, ErrorKind::Refused);
}

#[test]
fn a_work_context_is_bounded() {
    let mut node = Node::new(1);
    node.register("ann", "coder");
    let session = start(&mut node, "ann", Heartbeat::default());
    let many = |count: usize| (0..count).map(|n| format!("f{n}")).collect::<Vec<_>>();
    let long = "x".repeat(limits::MAX_TEXT_BYTES + 1);
    for work in [
        Work { uncommitted_files: many(limits::MAX_CONTEXT_FILES + 1), ..Work::default() },
        Work { changed_files: vec![long.clone()], ..Work::default() },
        Work { branch: Some(long.clone()), ..Work::default() },
    ] {
        let beat = Heartbeat { work: Some(work), ..Heartbeat::default() };
        assert_eq!(refusal(node.store.write(|tx| tx.heartbeat(&session, beat))).kind, ErrorKind::Invalid);
    }
    let empty = Heartbeat { add_refs: vec![Tag::new("", "x")], ..Heartbeat::default() };
    assert_eq!(refusal(node.store.write(|tx| tx.heartbeat(&session, empty))).kind, ErrorKind::Invalid);
    let fits = Work { uncommitted_files: many(limits::MAX_CONTEXT_FILES), ..Work::default() };
    node.store
        .write(|tx| tx.heartbeat(&session, Heartbeat { work: Some(fits), ..Heartbeat::default() }))
        .expect("fits");
}

#[test]
fn a_silent_session_becomes_inactive_and_any_sign_of_life_reactivates_it() {
    let (mut node, mut far) = (Node::new(1), Node::new(2));
    node.register("ann", "coder");
    let session = start(&mut node, "ann", Heartbeat::default());
    far.pull(&node, 0);
    node.world.pass(limits::AGENT_SILENT);
    assert_eq!(liveness(&node, &session), Liveness::Active);
    node.world.pass(Duration::from_secs(1));
    assert_eq!(liveness(&node, &session), Liveness::Silent);
    let at = now(&node);
    node.store.write(|tx| tx.seen("ann", at)).expect("writes");
    node.store.write(|tx| tx.seen("ann", Timestamp::from_nanos(START))).expect("writes");
    assert_eq!(liveness(&node, &session), Liveness::Active, "a late note takes nothing away");
    // A peer sees neither calls nor waits, so it waits longer before it reports an agent as silent.
    far.world.pass(DAY);
    assert_eq!(liveness(&far, &session), Liveness::Active);
    far.world.pass(Duration::from_secs(1));
    assert_eq!(liveness(&far, &session), Liveness::Silent);
    node.store.write(|tx| tx.seen("nobody", at)).expect("writes nothing");
    assert_eq!(node.store.reader().sessions(&SessionFilter::default()).expect("reads").len(), 1);
}

#[test]
fn only_long_silent_agents_of_this_daemon_are_proposed_for_clean_up() {
    let (mut node, mut far) = (Node::new(1), Node::new(2));
    for name in ["old", "crashed", "busy", "called"] {
        node.register(name, "coder");
    }
    far.register("far", "coder");
    node.pull(&far, 0);
    start(&mut node, "crashed", Heartbeat::default());
    node.world.pass(40 * DAY);
    start(&mut node, "busy", Heartbeat::default());
    let at = now(&node);
    node.store.write(|tx| tx.seen("called", at)).expect("writes");
    let names = |node: &Node, days: u32| {
        let found = ops::abandoned(&node.store.reader(), now(node), days * DAY).expect("reads");
        let mut names: Vec<_> = found.into_iter().map(|agent| agent.agent_id).collect();
        names.sort();
        names
    };
    assert_eq!(names(&node, 30), ["crashed", "old"], "a session that nobody ended protects nobody for ever");
    assert_eq!(names(&node, 41), [] as [&str; 0]);

    let asked: Vec<String> = ["old", "busy", "far", "ghost"].map(str::to_owned).into();
    let gone = node.store.write(|tx| tx.delete_abandoned(&asked, 30 * DAY)).expect("deletes");
    assert_eq!(gone, ["old"], "an agent that came back meanwhile stays");
    assert!(node.store.reader().agent_here("busy").expect("reads").is_some());
    node.check();
    let refused = refusal(node.store.write(|tx| tx.start_session("old", Heartbeat::default())));
    let (_, at) = refused.message.split_once("it was deleted at ").unwrap();
    assert!(at.starts_with("2026-05-07T") && at.len() == "2026-05-07T00:00:00Z".len(), "to the second: {refused}");
}

#[test]
fn the_state_of_a_worktree_is_published_only_if_it_changed() {
    let mut node = Node::new(1);
    node.register("ann", "coder");
    let session = node.store.write(|tx| tx.start_session("ann", Heartbeat::default())).expect("starts").0;
    let work = |files: &[&str]| Work {
        branch: Some("main".into()),
        uncommitted_files: files.iter().map(|&file| file.to_owned()).collect(),
        ..Work::default()
    };
    let note = |node: &mut Node, files: &[&str]| {
        node.world.pass(Duration::from_secs(60));
        let news = node.store.reader().is_news(&session, &work(files)).expect("reads");
        let (id, beat) = (session.clone(), Heartbeat { work: Some(work(files)), ..Heartbeat::default() });
        let before = node.ids().len();
        node.store.write(move |tx| tx.record_work(&id, beat)).expect("notes");
        assert_eq!(node.ids().len() > before, news, "an event is written where it is news");
        news
    };
    assert_eq!(
        [&["a.rs"][..], &["a.rs"], &["b.rs"], &[]].map(|files| note(&mut node, files)),
        [true, false, true, true]
    );
    node.store.write(move |tx| tx.end_session(&session, None)).expect("ends");
    node.check();
}
