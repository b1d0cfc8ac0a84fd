//! The work that a peer's batch can cause is bounded: changes that its events overwrite are computed only once (I7).

use serde_json::{Value, json};
use thrum_core::{Event, Payload, payload::AgentRegister};

use crate::kit::{self, Node, foreign};

const EVENTS: usize = 60;

/// Applies a batch, and returns how often a row was written to a table meanwhile.
fn written(node: &mut Node, table: &str, batch: &[Event]) -> usize {
    let conn = rusqlite::Connection::open(node.path()).expect("opens");
    let triggers: String = ["INSERT", "UPDATE"]
        .iter()
        .map(|what| {
            format!("CREATE TRIGGER written_{what} AFTER {what} ON {table} BEGIN INSERT INTO written VALUES (1); END;")
        })
        .collect();
    conn.execute_batch(&format!("CREATE TABLE written (one INTEGER); {triggers}")).expect("watches");
    node.apply(batch);
    let count = conn.query_row("SELECT count(*) FROM written", [], |row| row.get(0)).expect("counts");
    conn.execute_batch("DROP TRIGGER written_INSERT; DROP TRIGGER written_UPDATE; DROP TABLE written").expect("stops");
    node.check();
    count
}

fn at(n: usize, seconds: i64, kind: &str, payload: Value) -> Event {
    foreign(&format!("evt_{kind}_{n}"), "d_go", seconds, kind, payload)
}

fn seconds(n: usize) -> i64 {
    i64::try_from(n).expect("a small number")
}

fn register(n: usize, when: i64) -> Event {
    let role = ["coder", "tester"][n % 2];
    at(n, when, "agent.register", json!({"agent_id": "ann", "kind": "agent", "role": role, "module": "m"}))
}

/// A daemon at which `ann` is registered; its events are made with [`signed`].
fn home() -> Node {
    Node::of(kit::key(1), kit::World::new(1))
}

fn signed(n: usize, when: i64, former: &[&str]) -> Event {
    let body = AgentRegister {
        agent_id: "ann".into(),
        kind: "agent".into(),
        role: ["coder", "tester"][n % 2].into(),
        module: "m".into(),
        former_homes: former.iter().map(|home| (*home).to_owned()).collect(),
        ..AgentRegister::default()
    };
    kit::signed(&format!("evt_signed_{n}"), 1, n as u64 + 1, when, &Payload::AgentRegister(body))
}

fn mail(n: usize) -> Event {
    at(n, 100 + seconds(n), "message.create", json!({"message_id": format!("msg_{n}"), "agent_id": "cy", "scopes": []}))
}

#[test]
fn registrations_in_descending_order_of_time_fill_a_mailbox_once() {
    let mut node = home();
    node.apply(&(0..EVENTS).map(mail).collect::<Vec<_>>());
    let batch: Vec<Event> = (0..EVENTS).map(|n| signed(n, 99 - seconds(n), &[])).collect();
    assert_eq!(written(&mut node, "mailbox", &batch), EVENTS);
}

#[test]
fn clean_ups_in_ascending_order_of_time_fold_the_registrations_once() {
    let mut node = Node::new(1);
    node.apply(&(0..EVENTS).map(|n| register(n, 2 * seconds(n))).collect::<Vec<_>>());
    let mut batch: Vec<Event> = (0..EVENTS)
        .map(|n| at(n, 2 * seconds(n) - 1, "agent.cleanup", json!({"agent_id": "ann", "method": "manual"})))
        .collect();
    batch.extend((0..EVENTS).map(|n| register(EVENTS + n, 200 + seconds(n))));
    assert_eq!(written(&mut node, "agents", &batch), 1);
}

#[test]
fn clean_ups_fold_a_session_with_many_starts_once() {
    let mut node = Node::new(1);
    let start = |n| at(n, 2 * seconds(n), "agent.session.start", json!({"session_id": "ses_1", "agent_id": "ann"}));
    node.apply(&(0..EVENTS).map(start).collect::<Vec<_>>());
    let batch: Vec<Event> = (0..EVENTS)
        .map(|n| at(n, 2 * seconds(n) - 1, "agent.cleanup", json!({"agent_id": "ann", "method": "manual"})))
        .collect();
    assert_eq!(written(&mut node, "sessions", &batch), 1);
}

#[test]
fn creations_of_a_message_in_descending_order_of_time_do_not_touch_its_receipts() {
    let mut node = Node::new(1);
    let create = |n: usize| {
        at(n, 100 - seconds(n), "message.create", json!({"message_id": "msg_0", "agent_id": "cy", "scopes": []}))
    };
    let receipt = |n: usize| {
        at(
            n,
            200,
            "message.receipt",
            json!({"message_id": "msg_0", "agent_id": format!("reader{n}"), "receipt_type": "read"}),
        )
    };
    node.apply(&std::iter::once(create(0)).chain((0..EVENTS).map(receipt)).collect::<Vec<_>>());
    assert_eq!(written(&mut node, "receipts", &(1..EVENTS).map(create).collect::<Vec<_>>()), 0);
}

#[test]
fn declarations_of_a_former_home_in_separate_events_fill_a_mailbox_once() {
    let mut node = home();
    let mut past = vec![register(0, 50), signed(EVENTS, 60, &[])];
    past.extend((0..EVENTS).map(mail));
    node.apply(&past);
    let claim = |n: usize| signed(n, 300 + seconds(n), &["d_go"]);
    assert_eq!(written(&mut node, "mailbox", &(0..EVENTS).map(claim).collect::<Vec<_>>()), EVENTS);
}

/// P6: events about a message move behind it once, and are served once more, however many earlier creations arrive.
#[test]
fn p6_events_about_a_message_do_not_move_for_every_later_creation() {
    let mut node = Node::new(9);
    node.world.set(kit::START + 3_600_000_000_000);
    let creation = |n: i64| {
        let id = format!("evt_create_{n:03}");
        foreign(
            &id,
            "d_go",
            1000 - n,
            "message.create",
            json!({"message_id": "msg_1", "agent_id": "ann", "scopes": []}),
        )
    };
    let receipt = |n: usize| {
        at(
            n,
            2000,
            "message.receipt",
            json!({"message_id": "msg_1", "agent_id": format!("reader{n}"), "receipt_type": "read"}),
        )
    };
    let early: Vec<Event> = (0..EVENTS / 2).map(receipt).collect();
    let late: Vec<Event> = (EVENTS / 2..EVENTS).map(receipt).collect();
    assert_eq!(written(&mut node, "event_rows", &early), early.len());
    assert_eq!(written(&mut node, "event_rows", &[creation(0)]), 1 + early.len(), "they waited for it");
    node.apply(&late);
    for n in 1..5 {
        let latest = node.store.commit().latest;
        assert_eq!(written(&mut node, "event_rows", &[creation(n)]), 1, "nothing else moves");
        assert_eq!(node.store.commit().latest, latest + 1);
    }
    let shown = node.store.reader().message("msg_1", None).expect("reads").expect("is here");
    assert_eq!(shown.created_at, creation(4).at);
}
