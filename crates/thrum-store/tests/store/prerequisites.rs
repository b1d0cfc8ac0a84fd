//! Causal prerequisites of rows, for peers that apply rows one by one in the order served.

use serde_json::{Value, json};
use thrum_core::exchange::{Prerequisites, Row};

use crate::kit::{Node, foreign};

fn create(id: &str, origin: &str, seconds: i64, message: &str, agent: &str) -> thrum_core::Event {
    foreign(id, origin, seconds, "message.create", json!({"message_id": message, "agent_id": agent}))
}

fn receipt(id: &str, origin: &str, seconds: i64, message: &str) -> thrum_core::Event {
    let body = json!({"message_id": message, "agent_id": "cy", "receipt_type": "read"});
    foreign(id, origin, seconds, "message.receipt", body)
}

fn cleanup(id: &str, origin: &str, seconds: i64, agent: &str) -> thrum_core::Event {
    foreign(id, origin, seconds, "agent.cleanup", json!({"agent_id": agent}))
}

fn rows(node: &Node) -> Vec<Row> {
    node.store.reader().page(0, 1000, usize::MAX).expect("a page").rows
}

fn order(node: &Node) -> Vec<String> {
    rows(node).into_iter().map(|row| row.id).collect()
}

/// By event id: whether it is hidden, and whether a creation of its message precedes it.
fn hidden_and_preceded(node: &Node, id: &str) -> (bool, bool) {
    let rows = rows(node);
    let at = rows.iter().position(|row| row.id == id).expect("in the log");
    let Prerequisites { hidden, message_missing, .. } = prerequisites(node, &rows).swap_remove(at);
    (hidden, !message_missing)
}

fn prerequisites(node: &Node, rows: &[Row]) -> Vec<Prerequisites> {
    node.store.reader().prerequisites(rows, &|_| true).expect("reads")
}

#[test]
fn events_that_wait_for_a_message_move_behind_it_when_it_arrives() {
    let mut node = Node::new(1);
    let edit =
        foreign("evt_1", "d_go", 2, "message.edit", json!({"message_id": "msg_1", "body": {"content": "later"}}));
    node.apply(&[edit, receipt("evt_2", "d_go", 3, "msg_1")]);
    node.apply(&[cleanup("evt_3", "d_go", 4, "nobody")]);
    assert_eq!(hidden_and_preceded(&node, "evt_1"), (false, false));
    node.apply(&[create("evt_4", "d_go", 1, "msg_1", "ann"), create("evt_5", "d_go", 5, "msg_2", "ann")]);
    assert_eq!(order(&node), ["evt_3", "evt_4", "evt_1", "evt_2", "evt_5"]);
    assert_eq!(rows(&node).last().map(|row| row.sequence), Some(node.store.commit().latest));
    assert_eq!(hidden_and_preceded(&node, "evt_1"), (false, true));
    let message = node.store.reader().message("msg_1", None).expect("reads").expect("is here");
    assert_eq!(message.body.content, "later");
    node.check();
}

#[test]
fn a_moved_event_is_announced_to_all_peers_but_the_one_that_served_it() {
    let mut node = Node::new(1);
    node.apply(&[receipt("evt_1", "d_go", 3, "msg_1")]);
    let batch = thrum_core::exchange::Batch {
        peer: "d_other".into(),
        log: "l".into(),
        checkpoint: 1,
        checkpoint_event: String::new(),
        events: vec![create("evt_2", "d_go", 1, "msg_1", "ann")],
        rejected: vec![],
    };
    node.apply_batch(&batch);
    let commit = node.store.commit();
    assert_eq!((commit.latest, commit.latest_not_from("d_other"), commit.latest_not_from("d_peer")), (3, 3, 2));
}

#[test]
fn a_message_is_served_before_the_events_about_it_or_not_at_all() {
    let mut node = Node::new(1);
    node.apply(&[
        create("evt_1", "d_go", 1, "msg_1", "ann"),
        receipt("evt_2", "d_go", 2, "msg_1"),
        receipt("evt_3", "d_go", 2, "msg_2"),
    ]);
    let unreadable = foreign("evt_4", "d_go", 1, "message.create", json!({"message_id": "msg_2", "agent_id": 7}));
    node.apply(&[unreadable, receipt("evt_5", "d_go", 2, "msg_2")]);
    assert_eq!(["evt_2", "evt_3", "evt_5"].map(|id| hidden_and_preceded(&node, id).1), [true, false, false]);
}

#[test]
fn a_creation_that_the_peer_cannot_apply_is_no_prerequisite_but_another_creation_is() {
    let mut node = Node::new(1);
    node.apply(&[create("evt_1", "d_go", 1, "msg_1", "a/b"), receipt("evt_2", "d_go", 2, "msg_1")]);
    node.apply(&[create("evt_3", "d_go", 3, "msg_1", "ann"), receipt("evt_4", "d_go", 4, "msg_1")]);
    let rows = rows(&node);
    let fits = |row: &Row| !row.body.contains("a/b");
    let lacking: Vec<bool> = node
        .store
        .reader()
        .prerequisites(&rows, &fits)
        .expect("reads")
        .iter()
        .map(|prerequisites| prerequisites.message_missing)
        .collect();
    assert_eq!(rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["evt_1", "evt_2", "evt_3", "evt_4"]);
    assert_eq!(lacking, [false, true, false, false]);
}

#[test]
fn events_before_a_clean_up_are_hidden_and_their_messages_are_no_prerequisites() {
    let mut node = Node::new(1);
    let of = |agent: &str| -> Value {
        json!({"agent_id": agent, "session_id": format!("ses_{agent}"), "role": "coder", "module": "m"})
    };
    node.apply(&[
        foreign("evt_01", "d_go", 1, "agent.register", of("ann")),
        foreign("evt_02", "d_go", 1, "agent.session.start", of("ann")),
        create("evt_03", "d_go", 2, "msg_1", "ann"),
        receipt("evt_04", "d_two", 3, "msg_1"),
        create("evt_05", "d_two", 2, "msg_2", "ann"),
        receipt("evt_06", "d_two", 3, "msg_2"),
        cleanup("evt_07", "d_go", 4, "ann"),
        receipt("evt_08", "d_two", 5, "msg_2"),
        foreign("evt_09", "d_go", 6, "agent.register", of("ann")),
        create("evt_10", "d_go", 7, "msg_3", "ann"),
        receipt("evt_11", "d_two", 8, "msg_3"),
    ]);
    let hidden: Vec<String> = order(&node).into_iter().filter(|id| hidden_and_preceded(&node, id).0).collect();
    assert_eq!(hidden, ["evt_01", "evt_02", "evt_03"], "those of the daemon that cleaned up, from before");
    assert!(!hidden_and_preceded(&node, "evt_04").1);
    assert!(!hidden_and_preceded(&node, "evt_08").1, "Go deletes everything before a clean-up of any daemon");
    assert!(hidden_and_preceded(&node, "evt_11").1);
}

#[test]
fn messages_older_than_a_purge_are_hidden_even_if_their_rows_are_kept() {
    let mut node = Node::new(1);
    let at = |seconds: i64| thrum_core::Timestamp::from_nanos(crate::kit::START + seconds * 1_000_000_000);
    // By its id it is one millisecond too young to be removed.
    let message = "msg_01KMTPH8JR0000000000000000";
    let made = thrum_core::ids::ulid_time(message).expect("a time");
    let seconds = (made.nanos() - crate::kit::START) / 1_000_000_000;
    node.world.set(at(seconds + 100).nanos());
    let cutoff = made.plus(std::time::Duration::from_micros(500));
    node.apply(&[
        create("evt_1", "d_go", seconds, message, "ann"),
        receipt("evt_2", "d_go", seconds + 1, message),
        foreign("evt_3", "d_go", seconds + 2, "purge.executed", json!({"cutoff": cutoff.to_string()})),
    ]);
    assert_eq!(order(&node), ["evt_1", "evt_2", "evt_3"]);
    assert_eq!((hidden_and_preceded(&node, "evt_1").0, hidden_and_preceded(&node, "evt_2").1), (true, false));
}

#[test]
fn an_update_lacks_a_session_that_was_not_started_before_it_or_is_hidden() {
    let mut node = Node::new(1);
    let update = |id: &str, seconds: i64, session: &str| {
        foreign(
            id,
            "d_go",
            seconds,
            "agent.update",
            json!({"agent_id": "ann", "work_contexts": [{"session_id": session}]}),
        )
    };
    let start = |id: &str, seconds: i64, session: &str| {
        foreign(id, "d_go", seconds, "agent.session.start", json!({"agent_id": "ann", "session_id": session}))
    };
    node.apply(&[
        update("evt_1", 2, "ses_1"),
        start("evt_2", 1, "ses_1"),
        update("evt_3", 3, "ses_1"),
        cleanup("evt_4", "d_go", 4, "ann"),
        update("evt_5", 5, "ses_1"),
        start("evt_6", 6, "ses_2"),
        update("evt_7", 7, "ses_2"),
        foreign("evt_8", "d_go", 8, "agent.update", json!({"agent_id": "ann", "work_contexts": []})),
    ]);
    let rows = rows(&node);
    let prerequisites = prerequisites(&node, &rows);
    let lacking: Vec<&str> = rows
        .iter()
        .zip(&prerequisites)
        .filter(|(_, prerequisites)| prerequisites.session_missing)
        .map(|(row, _)| row.id.as_str())
        .collect();
    assert_eq!(lacking, ["evt_1", "evt_3", "evt_5"]);
}
