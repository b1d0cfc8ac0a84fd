//! Events of other daemons that exceed local bounds: they are stored and relayed whole, and shown cut.

use serde_json::{Value, json};
use thrum_core::{ErrorKind, Event, bounds::MARK, limits};
use thrum_store::{
    StoreError,
    ops::{Heartbeat, Register},
    query::{AgentFilter, SessionFilter},
};

use crate::kit::{Node, foreign};

const MIB: usize = 1 << 20;

fn register(n: usize, bytes: usize) -> Event {
    let long = "é".repeat(bytes / 2);
    let body = json!({"agent_id": format!("ann{n}"), "kind": long, "role": long, "module": long, "display": long, "hostname": long,
        "worktree": long});
    foreign(&format!("evt_r{n}"), "d_go", 1, "agent.register", body)
}

fn begin(n: usize) -> Event {
    let body = json!({"session_id": format!("ses_{n}"), "agent_id": format!("ann{n}")});
    foreign(&format!("evt_s{n}"), "d_go", 2, "agent.session.start", body)
}

/// A work context whose three lists have this many bytes in total.
fn update(n: usize, bytes: usize) -> Event {
    let files: Vec<String> = (0..bytes / 3 / 1000).map(|file| format!("{file:03}/{}", "x".repeat(993))).collect();
    let changes: Vec<Value> = files.iter().map(|path| json!({"path": path})).collect();
    let context = json!({"session_id": format!("ses_{n}"), "branch": "b".repeat(bytes / 10), "intent": "i".repeat(bytes / 10),
        "uncommitted_files": files, "changed_files": files, "file_changes": changes});
    let body = json!({"agent_id": format!("ann{n}"), "work_contexts": [context]});
    foreign(&format!("evt_u{n}"), "d_go", 3, "agent.update", body)
}

#[test]
fn overlong_fields_are_stored_and_relayed_whole_and_shown_cut() {
    let served = [register(0, MIB), begin(0), update(0, 3 * MIB)];
    let mut node = Node::new(1);
    assert_eq!(node.apply(&served).applied, 3);
    let page = node.store.reader().page(0, 10, usize::MAX).expect("a page");
    let relayed: Vec<&str> = page.rows.iter().map(|row| row.body.as_str()).collect();
    assert_eq!(relayed, served.iter().map(|event| event.body.as_str()).collect::<Vec<_>>(), "word for word");
    assert_eq!(node.store.reader().totals().expect("totals").parked, 0);

    let agents = node.store.reader().agents(&AgentFilter::default()).expect("agents");
    let agent = &agents[0];
    for name in [&agent.kind, &agent.role, &agent.module] {
        assert_eq!(name.len(), limits::MAX_NAME_BYTES);
    }
    for text in [&agent.display, &agent.hostname, &agent.worktree] {
        assert!(text.len() <= limits::MAX_TEXT_BYTES && text.ends_with(MARK), "{} bytes", text.len());
    }
    let sessions = node.store.reader().sessions(&SessionFilter::default()).expect("sessions");
    let context = &sessions[0].context;
    assert!(serde_json::to_string(context).expect("json").len() <= limits::MAX_CONTEXT_BYTES);
    assert_eq!(context.intent.as_ref().map(String::len), Some(limits::MAX_TEXT_BYTES));
    assert!(!context.uncommitted_files.is_empty() && !context.file_changes.is_empty());

    // Another order and another route give the same result.
    let mut other = Node::new(2);
    for event in served.iter().rev() {
        other.apply(std::slice::from_ref(event));
    }
    assert_eq!(node.store.projection().expect("a digest"), other.store.projection().expect("a digest"));
    node.check();
}

#[test]
fn a_role_that_was_cut_is_still_addressed_by_its_full_name() {
    let mut node = Node::new(1);
    let role = "r".repeat(200);
    let agent = json!({"agent_id": "ann", "role": role, "module": "m"});
    let mail = json!({"message_id": "msg_1", "agent_id": "cy", "scopes": [{"type": "group", "value": role}], "body": {"content": "hello"}});
    node.apply(&[
        foreign("evt_1", "d_go", 1, "agent.register", agent),
        foreign("evt_2", "d_go", 2, "message.create", mail),
    ]);
    let (_, roles) = node.store.reader().shared_mail().expect("counts");
    let role = &node.store.reader().agents(&AgentFilter::default()).expect("agents")[0].role;
    assert_eq!(roles, [(role.clone(), 1)]);
}

#[test]
fn our_own_events_are_refused_if_they_exceed_the_bounds() {
    let mut node = Node::new(1);
    node.register("ann", "coder");
    let refused = |outcome: Result<(), StoreError>| match outcome {
        Err(StoreError::Refused(error)) => assert_eq!(error.kind, ErrorKind::Invalid, "{error}"),
        other => panic!("{other:?}"),
    };
    let long = "x".repeat(limits::MAX_TEXT_BYTES + 1);
    let register = |display: &str| Register {
        name: "bob".into(),
        role: "tester".into(),
        module: "m".into(),
        display: display.into(),
        ..Register::default()
    };
    refused(node.store.write(|tx| tx.register(register(&long))).map(drop));
    let (session, _) = node.store.write(|tx| tx.start_session("ann", Heartbeat::default())).expect("begins");
    refused(node.store.write(|tx| tx.set_intent(&session, &long)).map(drop));
    refused(node.store.write(|tx| tx.set_task(&session, &long)).map(drop));
    refused(node.store.write(|tx| tx.end_session(&session, Some(long.clone()))).map(drop));
    refused(node.store.write(|tx| tx.delete_agent("ann", Some(long.clone()))).map(drop));
    let sent = node.send("ann", &["ann"], "note");
    refused(node.store.write(|tx| tx.delete("ann", &sent.message_id, Some(long.clone()))).map(drop));
    let work = |files: usize| thrum_core::work::Work {
        uncommitted_files: (0..files).map(|n| format!("{n}/{}", "x".repeat(4000))).collect(),
        ..thrum_core::work::Work::default()
    };
    let beat = |files| Heartbeat { work: Some(work(files)), ..Heartbeat::default() };
    refused(node.store.write(|tx| tx.heartbeat(&session, beat(limits::MAX_CONTEXT_FILES + 1))).map(drop));
    // Each field is within its bounds, but the event as a whole is too large: it is cut.
    node.store.write(|tx| tx.heartbeat(&session, beat(limits::MAX_CONTEXT_FILES))).expect("is fitted");
    let known = node.store.reader().session(&session).expect("reads").expect("is here");
    assert!(serde_json::to_string(&known.context).expect("json").len() <= limits::MAX_CONTEXT_BYTES);
    node.check();
}
