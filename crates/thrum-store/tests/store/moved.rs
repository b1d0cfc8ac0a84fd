//! Agents that came from a daemon that signs nothing keep their mail, here and as seen by every peer.

use std::time::Duration;

use serde_json::{Value, json};
use thrum_core::{
    Error, ErrorKind, Event, Payload, Timestamp,
    payload::{AgentRegister, Body, MessageEdit},
};
use thrum_store::{
    StoreError,
    ops::Adopted,
    query::{AgentFilter, Filter, SessionFilter},
};

use crate::kit::{self, Node};

const GO: &str = "d_47fkcmt93fcz";
const PEER: &str = "d_capturepeer2";

fn go(n: u32, seconds: i64, kind: &str, payload: Value) -> Event {
    kit::foreign(&format!("evt_{n:03}"), GO, seconds, kind, payload)
}

fn peer(n: u32, seconds: i64, kind: &str, payload: Value) -> Event {
    kit::foreign(&format!("evt_{n:03}"), PEER, seconds, kind, payload)
}

fn message(id: &str, from: &str, to: &[&str]) -> Value {
    json!({"message_id": id, "agent_id": from, "session_id": "", "body": {"format": "plain", "content": id}, "recipients": to})
}

fn everyone(id: &str, from: &str) -> Value {
    json!({"message_id": id, "agent_id": from, "session_id": "", "body": {"format": "plain", "content": id},
           "scopes": [{"type": "group", "value": "everyone"}]})
}

fn register(name: &str, role: &str) -> Value {
    json!({"agent_id": name, "kind": "agent", "role": role, "module": format!("of-{name}")})
}

fn read(message: &str, agent: &str) -> Value {
    json!({"message_id": message, "agent_id": agent, "receipt_type": "read"})
}

/// The events of a Go Thrum that `ann` used: mail to and by `ann`, read and unread, by name, to its role and to
/// everyone.
fn past() -> Vec<Event> {
    vec![
        peer(1, 0, "agent.register", register("zoe", "tester")),
        peer(2, 1, "message.create", everyone("msg_before", "zoe")),
        go(3, 2, "agent.register", register("ann", "coder")),
        go(4, 3, "agent.session.start", json!({"session_id": "ses_go", "agent_id": "ann"})),
        peer(5, 4, "message.create", message("msg_read", "zoe", &["ann"])),
        go(6, 5, "message.receipt", read("msg_read", "ann")),
        peer(7, 6, "message.create", message("msg_unread", "zoe", &["ann"])),
        peer(8, 7, "message.create", everyone("msg_all", "zoe")),
        go(9, 8, "message.receipt", read("msg_all", "ann")),
        go(10, 9, "message.create", everyone("msg_hers", "ann")),
        peer(
            11,
            10,
            "message.create",
            json!({"message_id": "msg_role", "agent_id": "zoe", "body": {"content": "msg_role"},
            "scopes": [{"type": "group", "value": "coder"}]}),
        ),
    ]
}

fn adopt(node: &mut Node, former: &[&str]) -> Vec<(String, Adopted)> {
    let former = former.iter().map(|home| (*home).to_owned()).collect();
    let mut now = node.world.clone();
    let now = thrum_core::Ambient::now(&mut now);
    let takeover = node.store.reader().takeover(former, now).expect("reads");
    let agents = takeover.agents.clone();
    agents
        .into_iter()
        .map(|name| (name.clone(), node.store.write(|tx| tx.adopt(&name, &takeover)).expect("adopts")))
        .collect()
}

fn moved_in() -> Node {
    let mut node = Node::new(1);
    node.world.pass(Duration::from_secs(100));
    node.apply(&past());
    assert_eq!(adopt(&mut node, &[GO]), [("ann".to_owned(), Adopted::Taken(1))]);
    node
}

/// An inbox as ids and whether they are read.
fn inbox(node: &Node, agent: &str) -> Vec<(String, bool)> {
    node.inbox(agent)
}

fn owned(list: &[(&str, bool)]) -> Vec<(String, bool)> {
    list.iter().map(|(id, read)| ((*id).to_owned(), *read)).collect()
}

#[test]
fn old_mail_is_in_the_inbox_with_its_receipts_and_old_messages_are_the_agents_own() {
    let mut node = moved_in();
    assert_eq!(
        inbox(&node, "ann"),
        owned(&[("msg_read", true), ("msg_unread", false), ("msg_all", true), ("msg_role", false)])
    );
    assert_eq!(node.store.reader().mail_count(&node.mailbox("ann")).expect("reads"), (4, 2));
    let sent = Filter { author: Some("ann".into()), author_home: Some(node.home()), limit: 10, ..Filter::default() };
    let sent = node.store.reader().list(&sent).expect("lists").messages;
    assert_eq!(sent.iter().map(|m| (m.message_id.as_str(), m.origin.as_str())).collect::<Vec<_>>(), [("msg_hers", GO)]);
    let others = Filter { exclude_author: Some(node.mailbox("ann")), limit: 10, ..Filter::default() };
    assert_eq!(node.store.reader().list(&others).expect("lists").total, 5, "mail by ann is left out");
    assert_eq!(node.store.write(|tx| tx.mark_read("ann", &["msg_unread".into()])).expect("marks"), ["msg_unread"]);
    assert_eq!(node.store.reader().mail_count(&node.mailbox("ann")).expect("reads"), (4, 1));
    node.check();
}

#[test]
fn a_moved_agent_is_one_agent_and_its_old_session_is_ended_once() {
    let mut node = moved_in();
    let agents = node.store.reader().agents(&AgentFilter::default()).expect("reads");
    let homes: Vec<_> =
        agents.iter().map(|agent| (agent.agent_id.as_str(), agent.home.clone(), agent.role.as_str())).collect();
    assert_eq!(homes, [("ann", node.home(), "coder"), ("zoe", PEER.to_owned(), "tester")]);
    let open = SessionFilter { open_only: true, ..SessionFilter::default() };
    assert_eq!(node.store.reader().sessions(&open).expect("reads"), []);
    let latest = node.store.commit().latest;
    assert_eq!(adopt(&mut node, &[GO]), [("ann".to_owned(), Adopted::AlreadyHere)]);
    assert_eq!(node.store.commit().latest, latest, "nothing is written the second time");
}

#[test]
fn only_the_moved_agent_can_edit_and_delete_its_old_messages() {
    let mut node = moved_in();
    node.register("ben", "reviewer");
    let refused: Error =
        node.store.write(|tx| tx.edit("ben", "msg_hers", Some("x".into()), None)).expect_err("is refused").into();
    assert_eq!(refused.kind, ErrorKind::Refused);
    node.store.write(|tx| tx.edit("ann", "msg_hers", Some("better".into()), None)).expect("edits");
    let message = node.store.reader().message("msg_hers", None).expect("reads").expect("is here");
    assert_eq!((message.body.content.as_str(), message.home), ("better", node.home()));
    node.store.write(|tx| tx.delete("ann", "msg_hers", None)).expect("deletes");
    assert!(node.store.reader().message("msg_hers", None).expect("reads").expect("is here").deleted_at.is_some());
    node.check();
}

/// A registration of `ann` that declares its former home.
fn claim(former: &str) -> Payload {
    Payload::AgentRegister(AgentRegister {
        agent_id: "ann".into(),
        kind: "agent".into(),
        role: "coder".into(),
        former_homes: vec![former.to_owned()],
        ..AgentRegister::default()
    })
}

/// The permutation of `count` items with this number.
fn order(mut number: usize, count: usize) -> Vec<usize> {
    let mut left: Vec<usize> = (0..count).collect();
    let take = |places: usize| {
        let n = number % places;
        number /= places;
        left.remove(n)
    };
    (1..=count).rev().map(take).collect()
}

#[test]
fn a_peer_sees_the_same_move_in_any_order_of_events() {
    let claim = claim(GO);
    let edit = Payload::MessageEdit(MessageEdit {
        message_id: "msg_hers".into(),
        body: Body { content: "better".into(), ..Body::default() },
    });
    let set = [
        go(1, 1, "agent.register", register("ann", "coder")),
        peer(2, 2, "message.create", everyone("msg_all", "zoe")),
        go(3, 3, "message.receipt", read("msg_all", "ann")),
        go(4, 4, "message.create", message("msg_hers", "ann", &["ann", "zoe"])),
        kit::signed("evt_5", 0, 1, 50, &claim),
        kit::signed("evt_6", 0, 2, 60, &edit),
    ];
    let mut digests = std::collections::HashSet::new();
    // Every seventeenth of the 720 orders, because each needs its own database.
    for number in (0..720).step_by(17) {
        let order = order(number, set.len());
        let mut node = Node::new(1);
        for n in &order {
            node.apply(std::slice::from_ref(&set[*n]));
        }
        let message = node.store.reader().message("msg_hers", None).expect("reads").expect("is here");
        assert_eq!(message.body.content, "better", "{order:?}");
        digests.insert(node.store.projection().expect("a digest").to_string());
    }
    assert_eq!(digests.len(), 1);
}

#[test]
fn a_receipt_of_the_former_home_still_counts_if_the_agent_registers_there_again() {
    let claim = claim(GO);
    let set = [
        peer(1, 2, "message.create", message("msg_1", "zoe", &["ann"])),
        go(2, 3, "message.receipt", read("msg_1", "ann")),
        kit::signed("evt_3", 0, 1, 50, &claim),
        go(4, 60, "agent.register", register("ann", "coder")),
    ];
    for number in 0..24 {
        let order = order(number, set.len());
        let mut node = Node::of(kit::key(0), kit::World::new(1));
        for n in &order {
            node.apply(std::slice::from_ref(&set[*n]));
        }
        assert_eq!(node.store.reader().mail_count(&node.mailbox("ann")).expect("reads"), (1, 0), "{order:?}");
        node.check();
    }
}

#[test]
fn events_of_the_former_home_after_the_move_count_only_after_another_takeover() {
    let mut node = moved_in();
    let new = node.send("ann", &["ann"], "note");
    let zoes = peer(20, 150, "message.create", message("msg_new", "zoe", &["ann"]));
    node.world.pass(Duration::from_secs(100));
    node.apply(&[zoes]);
    // Backdated or not: a peer that serves unsigned events must not be able to mark new mail as read, or write in its
    // name.
    node.apply(&[
        go(21, 8, "message.receipt", read("msg_new", "ann")),
        go(22, 160, "message.receipt", read("msg_new", "ann")),
    ]);
    node.apply(&[
        go(23, 161, "message.create", message("msg_forged", "ann", &["zoe"])),
        go(24, 162, "message.delete", json!({"message_id": new.message_id})),
    ]);
    let unread =
        |node: &Node| inbox(node, "ann").into_iter().filter(|(_, read)| !read).map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!(unread(&node), ["msg_unread", "msg_role", "msg_new"]);
    let home = |node: &Node| node.store.reader().message("msg_forged", None).expect("reads").expect("is here").home;
    assert_eq!(home(&node), GO);
    node.apply(&[go(25, 163, "agent.cleanup", json!({"agent_id": "ann"}))]);
    assert!(node.store.reader().agent_here("ann").expect("reads").is_some(), "only its home deletes an agent");
    node.check();

    // The user takes the agent over again, including the events that it wrote meanwhile.
    assert_eq!(adopt(&mut node, &[GO]), [("ann".to_owned(), Adopted::Taken(0))]);
    assert_eq!((unread(&node), home(&node)), (vec!["msg_unread".to_owned(), "msg_role".to_owned()], node.home()));
    assert_eq!(adopt(&mut node, &[GO]), [("ann".to_owned(), Adopted::AlreadyHere)]);
    node.check();
}

#[test]
fn the_first_declaration_of_a_move_counts_and_a_daemon_with_a_key_is_never_a_former_home() {
    let mut node = Node::new(1);
    node.world.pass(Duration::from_secs(100));
    node.apply(&past());
    let first = kit::key(0).id().to_string();
    node.apply(&[kit::signed("evt_50", 0, 1, 50, &claim(GO))]);
    assert_eq!(adopt(&mut node, &[GO]), [("ann".to_owned(), Adopted::Elsewhere(first.clone()))]);
    // A key cannot take over the agents of another key.
    node.apply(&[kit::signed("evt_60", 1, 1, 60, &claim(&first))]);
    let mut homes: Vec<_> = node
        .store
        .reader()
        .agents(&AgentFilter::default())
        .expect("reads")
        .into_iter()
        .map(|a| (a.agent_id, a.home))
        .collect();
    homes.sort();
    let mut expected = vec![
        ("ann".to_owned(), first.clone()),
        ("ann".to_owned(), kit::key(1).id().to_string()),
        ("zoe".to_owned(), PEER.to_owned()),
    ];
    expected.sort();
    assert_eq!(homes, expected);
    let refused: Error = node.store.reader().takeover(vec![first], Timestamp::ZERO).expect_err("is refused").into();
    assert_eq!(refused.kind, ErrorKind::Invalid);
    // The earlier declaration wins even if it arrives later: all daemons must reach the same result.
    node.apply(&[kit::signed("evt_40", 1, 2, 40, &claim(GO))]);
    assert_eq!(
        node.store.reader().message("msg_hers", None).expect("reads").expect("is here").home,
        kit::key(1).id().to_string()
    );
    node.check();
}

#[test]
fn a_deleted_agent_is_not_taken_over_again_and_gets_its_old_mail_when_it_registers() {
    let mut node = moved_in();
    node.world.pass(Duration::from_secs(1));
    node.store.write(|tx| tx.delete_agent("ann", None)).expect("deletes");
    assert_eq!(
        node.store
            .reader()
            .agents(&AgentFilter { agent_id: Some("ann".into()), ..AgentFilter::default() })
            .expect("reads"),
        []
    );
    assert_eq!(adopt(&mut node, &[GO]), [("ann".to_owned(), Adopted::Deleted)]);
    node.check();
    node.world.pass(Duration::from_secs(1));
    node.register("ann", "coder");
    assert_eq!(
        inbox(&node, "ann"),
        owned(&[("msg_read", true), ("msg_unread", false)]),
        "mail by name reaches an agent whenever it registers"
    );
    node.check();
}

#[test]
fn an_agent_already_registered_here_keeps_its_properties_and_gets_the_old_mail() {
    let mut node = Node::new(1);
    node.world.pass(Duration::from_secs(100));
    node.register("ann", "reviewer");
    node.apply(&past());
    assert_eq!(adopt(&mut node, &[GO]), [("ann".to_owned(), Adopted::Taken(1))]);
    assert_eq!(
        node.store.reader().agent_here("ann").expect("reads").map(|agent| agent.role).as_deref(),
        Some("reviewer")
    );
    assert_eq!(
        inbox(&node, "ann"),
        owned(&[("msg_read", true), ("msg_unread", false), ("msg_all", true)]),
        "its role is another one now"
    );
    node.check();
}

#[test]
fn an_agent_with_an_invalid_name_is_refused_and_its_mail_stays_unchanged() {
    let mut node = Node::new(1);
    node.world.pass(Duration::from_secs(100));
    node.apply(&[go(1, 1, "agent.register", register("user:leon", "leon"))]);
    let takeover = node.store.reader().takeover(vec![GO.into()], Timestamp::from_nanos(kit::START)).expect("reads");
    let refused = node.store.write(|tx| tx.adopt("user:leon", &takeover)).expect_err("is refused");
    assert!(matches!(refused, StoreError::Refused(error) if error.kind == ErrorKind::Invalid));
}

#[test]
fn messages_read_without_a_receipt_are_marked_and_unknown_ids_are_ignored() {
    let mut node = moved_in();
    let ids = ["msg_role", "msg_read", "msg_nowhere", "msg_hers"].map(str::to_owned);
    assert_eq!(node.store.write(|tx| tx.mark_read_before("ann", &ids)).expect("marks"), 1);
    assert_eq!(node.store.write(|tx| tx.mark_read_before("ann", &ids)).expect("marks"), 0);
    node.check();
}
