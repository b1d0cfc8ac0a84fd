//! The fold rules, one by one.

use std::time::Duration;

use serde_json::{Value, json};
use thrum_core::{
    Event, Payload,
    payload::{AgentRegister, PurgeExecuted},
};

use crate::kit::{self, Node, foreign};

fn message(id: &str, seconds: i64, message_id: &str, extra: Value) -> Event {
    let mut body = json!({"message_id": message_id, "agent_id": "ann", "body": {"content": "as written"}});
    body.as_object_mut().expect("object").extend(extra.as_object().expect("object").clone());
    foreign(id, "d_go", seconds, "message.create", body)
}

fn edit(id: &str, origin: &str, seconds: i64, content: &str) -> Event {
    foreign(id, origin, seconds, "message.edit", json!({"message_id": "msg_1", "body": {"content": content}}))
}

fn node() -> Node {
    let node = Node::new(1);
    node.world.pass(Duration::from_secs(3600));
    node
}

fn content(node: &Node) -> String {
    node.store.reader().message("msg_1", None).expect("reads").expect("is here").body.content
}

fn parked(node: &Node) -> u64 {
    node.store.reader().totals().expect("reads").parked
}

#[test]
fn an_edit_that_arrives_before_its_message_is_applied_when_the_message_arrives() {
    let mut node = node();
    node.apply(&[edit("evt_2", "d_go", 2, "edited")]);
    assert_eq!(parked(&node), 1);
    node.apply(&[message("evt_1", 1, "msg_1", json!({}))]);
    assert_eq!((content(&node).as_str(), parked(&node)), ("edited", 0));
}

#[test]
fn the_latest_edit_wins_and_equal_times_are_decided_by_event_id() {
    let mut node = node();
    let edits = [
        edit("evt_4", "d_go", 5, "later"),
        edit("evt_3", "d_go", 4, "earlier"),
        edit("evt_5", "d_go", 5, "same instant, higher id"),
    ];
    node.apply(&[message("evt_1", 1, "msg_1", json!({}))]);
    node.apply(&edits);
    assert_eq!(content(&node), "same instant, higher id");
    assert_eq!(node.store.reader().message("msg_1", None).expect("reads").expect("is here").edits, 3);
}

#[test]
fn only_the_origin_of_a_message_can_edit_or_delete_it() {
    let mut node = node();
    let delete = foreign("evt_3", "d_other", 3, "message.delete", json!({"message_id": "msg_1"}));
    node.apply(&[message("evt_1", 1, "msg_1", json!({})), edit("evt_2", "d_other", 2, "forged"), delete]);
    assert_eq!(content(&node), "as written");
    assert_eq!(node.store.reader().message("msg_1", None).expect("reads").expect("is here").deleted_at, None);
    let troubles = node.store.reader().troubles("d_peer").expect("reads");
    assert_eq!((parked(&node), troubles.without_effect), (0, 2), "both are shown");
}

#[test]
fn the_earlier_of_two_creations_counts_even_if_it_arrives_later() {
    let mut node = node();
    node.register("bob", "coder");
    let second = message("evt_1", 5, "msg_1", json!({"recipients": ["bob"]}));
    let first = message("evt_9", 4, "msg_1", json!({"recipients": ["nobody"], "body": {"content": "first"}}));
    node.apply(&[second]);
    assert_eq!(node.inbox("bob").len(), 1);
    node.apply(&[first, edit("evt_6", "d_go", 6, "edited")]);
    assert_eq!(content(&node), "edited");
    assert_eq!(node.inbox("bob"), []);
    node.check();
}

#[test]
fn a_deletion_is_permanent() {
    let mut node = node();
    node.register("bob", "coder");
    let delete = foreign("evt_2", "d_go", 3, "message.delete", json!({"message_id": "msg_1", "reason": "wrong"}));
    node.apply(&[
        delete,
        message("evt_1", 1, "msg_1", json!({"recipients": ["bob"]})),
        edit("evt_3", "d_go", 9, "undeleted?"),
    ]);
    let message = node.store.reader().message("msg_1", None).expect("reads").expect("is here");
    assert!(message.deleted_at.is_some());
    assert_eq!(message.delete_reason.as_deref(), Some("wrong"));
    assert_eq!(node.inbox("bob"), []);
}

#[test]
fn mail_to_everyone_and_to_roles_reaches_the_agents_registered_at_that_time() {
    let mut node = Node::of(kit::key(0), kit::World::new(1));
    let register = |number: u64, seconds, agent: &str| {
        let body = AgentRegister {
            agent_id: agent.into(),
            kind: "agent".into(),
            role: "coder".into(),
            module: "m".into(),
            ..AgentRegister::default()
        };
        kit::signed(&format!("evt_{number}"), 0, number, seconds, &Payload::AgentRegister(body))
    };
    let everyone = message("evt_3", 10, "msg_1", json!({"scopes": [{"type": "group", "value": "everyone"}]}));
    let role = message("evt_4", 11, "msg_2", json!({"scopes": [{"type": "group", "value": "coder"}]}));
    node.apply(&[everyone, register(1, 9, "early"), register(2, 20, "late"), role]);
    let count = |agent: &str| node.store.reader().mail_count(&node.mailbox(agent)).expect("counts");
    assert_eq!((count("early"), count("late")), ((2, 2), (0, 0)));
}

#[test]
fn only_agents_of_this_daemon_have_mailboxes() {
    let register = foreign("evt_1", "d_go", 1, "agent.register", json!({"agent_id": "bob", "role": "coder"}));
    let mail = message("evt_2", 2, "msg_1", json!({"recipients": ["bob"]}));
    let rows = |node: &Node| -> u64 {
        let conn = rusqlite::Connection::open(node.path()).expect("opens");
        conn.query_row("SELECT (SELECT count(*) FROM mailbox) + (SELECT count(*) FROM mailbox_counts)", [], |row| {
            row.get(0)
        })
        .expect("counts")
    };
    for order in [[&register, &mail], [&mail, &register]] {
        let mut node = node();
        node.apply(&order.map(Clone::clone));
        assert_eq!(rows(&node), 0, "bob reads at his own daemon");
        node.register("bob", "coder");
        assert_eq!(rows(&node), 0, "here is another bob, who starts with an empty mailbox");
        node.apply(&[message("evt_3", 3_000_000, "msg_2", json!({}))]);
        assert_eq!(rows(&node), 2, "and gets what is for everyone from then on");
        node.check();
    }
}

#[test]
fn a_database_taken_over_from_another_daemon_gets_the_mailboxes_of_this_daemon() {
    let mut node = node();
    node.register("bob", "coder");
    node.apply(&[message("evt_1", 1, "msg_1", json!({"recipients": ["bob"]}))]);
    let before = node.store.mailboxes().expect("digest");
    let own = std::mem::replace(&mut node.key, kit::key(5));
    let fingerprint = node.store.fingerprint();
    let mut node = node.reopen(Some(fingerprint));
    assert_eq!(node.store.mailboxes().expect("digest"), thrum_core::SetDigest::default(), "nobody lives here yet");
    node.key = own;
    let fingerprint = node.store.fingerprint();
    assert_eq!(node.reopen(Some(fingerprint)).store.mailboxes().expect("digest"), before);
}

#[test]
fn a_receipt_marks_only_the_copy_of_its_reader_and_adds_no_recipient() {
    let mut node = node();
    node.register("bob", "coder");
    let receipt = |id: &str, agent: &str, origin: &str| {
        foreign(
            id,
            origin,
            3,
            "message.receipt",
            json!({"message_id": "msg_1", "agent_id": agent, "receipt_type": "read"}),
        )
    };
    node.apply(&[
        message("evt_1", 1, "msg_1", json!({"recipients": ["bob"]})),
        receipt("evt_2", "bob", "d_elsewhere"),
        receipt("evt_3", "eve", "d_go"),
    ]);
    assert_eq!(node.inbox("bob"), [("as written".to_owned(), false)], "bob elsewhere is another mailbox");
    let recipients = node.store.reader().message("msg_1", None).expect("reads").expect("is here").recipients;
    assert_eq!(recipients.iter().map(|r| r.agent_id.as_str()).collect::<Vec<_>>(), ["bob"]);
    node.store.write(|tx| tx.mark_read("bob", &["msg_1".to_owned()])).expect("reads");
    assert_eq!(node.inbox("bob"), [("as written".to_owned(), true)]);
    node.check();
}

#[test]
fn a_clean_up_hides_earlier_registrations_but_no_message() {
    let mut node = node();
    let register =
        |id: &str, seconds| foreign(id, "d_go", seconds, "agent.register", json!({"agent_id": "ann", "role": "coder"}));
    let start = foreign("evt_2", "d_go", 2, "agent.session.start", json!({"session_id": "ses_1", "agent_id": "ann"}));
    let cleanup = foreign("evt_5", "d_go", 5, "agent.cleanup", json!({"agent_id": "ann"}));
    let elsewhere = foreign("evt_6", "d_other", 1, "agent.register", json!({"agent_id": "ann", "role": "coder"}));
    node.apply(&[cleanup, register("evt_1", 1), start, message("evt_3", 3, "msg_1", json!({})), elsewhere]);
    let homes = |node: &Node| -> Vec<String> {
        node.store.reader().agents(&Default::default()).expect("reads").into_iter().map(|agent| agent.home).collect()
    };
    assert_eq!(homes(&node), ["d_other"], "a daemon cleans up only its own agents");
    assert_eq!(node.store.reader().sessions(&Default::default()).expect("reads"), []);
    assert_eq!(content(&node), "as written");
    node.apply(&[register("evt_7", 7)]);
    assert_eq!(homes(&node), ["d_go", "d_other"], "and may register them again");
    node.check();
}

#[test]
fn events_older_than_a_purge_are_not_accepted_again() {
    let mut node = node();
    node.register("bob", "coder");
    let cutoff = thrum_core::Timestamp::from_nanos(kit::START + 10_000_000_000).to_string();
    let purge =
        kit::signed("evt_9", 7, 1, 60, &Payload::PurgeExecuted(PurgeExecuted { cutoff, ..PurgeExecuted::default() }));
    let old = message("evt_1", 1, "msg_1", json!({"recipients": ["bob"]}));
    let new = message("evt_2", 20, "msg_2", json!({"recipients": ["bob"]}));
    node.apply(&[old.clone(), new, purge]);
    assert_eq!(node.inbox("bob").len(), 1);
    let mut late = Node::new(2);
    late.world.pass(Duration::from_secs(3600));
    late.register("bob", "coder");
    late.pull(&node, 0);
    late.apply(&[old]);
    assert_eq!(late.store.reader().message("msg_1", None).expect("reads"), None);
    let (heads, heads_late) = (node.store.heads().expect("heads"), late.store.heads().expect("heads"));
    let of_go = |heads: &thrum_core::Heads| heads.get("d_go", "").map(|head| (head.count, head.purged, head.held()));
    assert_eq!(
        (of_go(&heads), of_go(&heads_late)),
        (Some((2, 1, 1)), Some((1, 0, 1))),
        "the heads still count what was here"
    );
    let missing: Vec<_> = heads.differences(&heads_late).into_iter().map(|difference| difference.origin).collect();
    assert!(!missing.contains(&"d_go".to_owned()), "and nobody lacks it: {missing:?}");
    node.check();
}

#[test]
fn events_that_cannot_be_folded_are_parked_and_block_no_others() {
    let mut node = node();
    let long = "x".repeat(300);
    let bad = [
        foreign("evt_1", "d_go", 1, "future.thing", json!({"x": 1})),
        foreign("evt_2", "d_go", 1, "message.create", json!({"message_id": {"not": "text"}})),
        foreign("evt_3", "d_go", 1, "message.create", json!({"message_id": long})),
        foreign(
            "evt_4",
            "d_go",
            1,
            "message.receipt",
            json!({"message_id": "msg_1", "agent_id": "a", "receipt_type": "smelled"}),
        ),
        foreign("evt_5", "d_go", 1, "purge.executed", json!({"cutoff": "soon"})),
        foreign("evt_6", "d_go", 1, "message.create", json!({"message_id": "msg_x", "recipients": vec!["a"; 5000]})),
        message("evt_7", 2, "msg_1", json!({})),
    ];
    let outcome = node.apply(&bad);
    assert_eq!((outcome.applied, parked(&node)), (7, 5), "a list that is too long is cut");
    assert_eq!(content(&node), "as written");
    assert_eq!(node.store.heads().expect("heads").total(), 7, "all of them are in the log and its digest");
    node.check();
}

#[test]
fn a_session_is_shown_from_its_earliest_start_in_any_order_of_arrival() {
    let begun = |id: &str, seconds: i64| {
        foreign(id, "d_go", seconds, "agent.session.start", json!({"session_id": "ses_1", "agent_id": "ann"}))
    };
    let shown = |order: [usize; 2]| {
        let mut node = Node::new(1);
        let events = [begun("evt_1", 0), begun("evt_2", 1)];
        for n in order {
            node.apply(&events[n..=n]);
        }
        let sessions = node.store.reader().sessions(&Default::default()).expect("reads");
        sessions.iter().map(|session| session.started_at).collect::<Vec<_>>()
    };
    assert_eq!(shown([1, 0]), shown([0, 1]));
}
