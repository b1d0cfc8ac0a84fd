//! The recipients of an answer, and other ways to address a message.

use serde_json::json;
use thrum_core::{ErrorKind, limits, payload::Tag};
use thrum_store::ops::Send;

use crate::{
    acts::{refusal, send, team},
    kit::{Node, foreign},
};

fn answer(from: &str, parent: &str) -> Send {
    Send { reply_to: Some(parent.into()), to_parent_audience: true, ..send(from, &[], "answer") }
}

/// The recipients of `from`'s answer to a message by ann.
fn answered(node: &mut Node, from: &str, parent: &[&str]) -> Vec<String> {
    let parent = node.send("ann", parent, "question").message_id;
    node.store.write(|tx| tx.send(answer(from, &parent))).expect("sends").recipients
}

#[test]
fn an_answer_goes_to_the_author_and_the_other_addressees() {
    let mut node = team();
    node.register("dee", "writer");
    assert_eq!(answered(&mut node, "ben", &["ben", "dee", "tester"]), ["ann", "dee", "cy"]);
}

#[test]
fn an_answer_to_everyone_goes_to_the_author_only() {
    let mut node = team();
    assert_eq!(answered(&mut node, "ben", &[]), ["ann"]);
    assert_eq!(answered(&mut node, "ben", &["@everyone"]), ["ann"]);
}

#[test]
fn an_answer_to_oneself_does_not_become_a_broadcast() {
    let mut node = team();
    assert_eq!(answered(&mut node, "ann", &["everyone"]), ["ann"]);
    assert_eq!(answered(&mut node, "ann", &["ben"]), ["ben"]);
    assert_eq!(answered(&mut node, "ann", &["ann"]), ["ann"]);
}

#[test]
fn an_answer_and_the_receipt_of_its_parent_are_stored_together_or_not_at_all() {
    let mut node = team();
    let parent = node.send("ann", &["ben"], "question").message_id;
    let too_long = Send { content: "x".repeat(limits::MAX_CONTENT_BYTES + 1), ..answer("ben", &parent) };
    assert_eq!(refusal(node.store.write(|tx| tx.send(too_long))).kind, ErrorKind::Invalid);
    assert!(
        node.store.reader().has_unread(&node.mailbox("ben")).expect("reads"),
        "nothing was sent, and nothing is read"
    );
    node.store.write(|tx| tx.send(answer("ben", &parent))).expect("sends");
    assert!(!node.store.reader().has_unread(&node.mailbox("ben")).expect("reads"));
    let tag = || vec![Tag::new("module", "auth")];
    for beyond in [
        Send { mentions: vec!["cy".into()], ..answer("ben", &parent) },
        Send { scopes: tag(), ..answer("ben", &parent) },
        Send { refs: tag(), ..answer("ben", &parent) },
    ] {
        assert_eq!(refusal(node.store.write(|tx| tx.send(beyond))).kind, ErrorKind::Invalid);
    }
}

#[test]
fn a_repeated_answer_returns_the_number_of_its_addressees_again() {
    let mut node = team();
    node.register("dee", "writer");
    let parent = node.send("ann", &["ben", "dee", "tester"], "question").message_id;
    let answer = Send { idempotency_key: Some("key".into()), ..answer("ben", &parent) };
    let first = node.store.write(|tx| tx.send(answer.clone())).expect("sends");
    let again = node.store.write(|tx| tx.send(answer)).expect("sends");
    assert!(!first.is_repeated && again.is_repeated);
    assert_eq!((first.resolved_to, again.resolved_to), (3, 3), "ann, dee and the role");
    assert_eq!(again.audiences, first.audiences);
}

#[test]
fn an_answer_omits_deleted_recipients_and_fails_if_none_remains() {
    let mut node = team();
    let parent = node.send("ann", &["ben", "cy"], "question").message_id;
    node.store.write(|tx| tx.delete_agent("cy", None)).expect("deletes");
    let sent = node.store.write(|tx| tx.send(answer("ben", &parent))).expect("sends");
    assert_eq!((sent.recipients, sent.warnings.len()), (vec!["ann".to_owned()], 1));
    node.store.write(|tx| tx.delete_agent("ann", None)).expect("deletes");
    let refused = refusal(node.store.write(|tx| tx.send(answer("ben", &parent))));
    assert_eq!(refused.kind, ErrorKind::NotFound);
    assert!(refused.message.starts_with("unknown recipients: @ann, @cy"), "{refused}");
}

#[test]
fn an_answer_to_a_namesake_elsewhere_reaches_it() {
    let (mut here, mut there) = (team(), Node::new(2));
    there.register("ann", "coder");
    there.register("ben", "tester");
    let parent = there.send("ann", &["ann", "ben"], "which of us?").message_id;
    here.pull(&there, 0);
    let sent = here.store.write(|tx| tx.send(answer("ann", &parent))).expect("sends");
    assert_eq!(sent.recipients, ["ann", "ben"]);
    there.pull(&here, 0);
    assert_eq!(there.inbox("ann").last(), Some(&("answer".to_owned(), false)));
}

#[test]
fn a_group_scope_addresses_the_group_and_other_scopes_are_stored_unchanged() {
    let mut node = team();
    let tagged = |kind: &str, value: &str| Send { scopes: vec![Tag::new(kind, value)], ..send("ann", &["cy"], "x") };
    let sent = node.store.write(|tx| tx.send(tagged("group", "tester"))).expect("sends");
    assert_eq!(sent.recipients, ["cy", "ben"], "as Go Thrum's reply to a role says it");
    for (kind, value) in [("module", "auth"), ("group", "no-such-role")] {
        let sent = node.store.write(|tx| tx.send(tagged(kind, value))).expect("sends");
        assert_eq!(sent.recipients, ["cy"], "{kind}");
        let message = node.store.reader().message(&sent.message_id, None).expect("reads").expect("is here");
        assert!(message.scopes.contains(&Tag::new(kind, value)), "{:?}", message.scopes);
    }
    for (kind, value) in [("", "auth"), ("module", "")] {
        assert_eq!(refusal(node.store.write(|tx| tx.send(tagged(kind, value)))).kind, ErrorKind::Invalid);
    }
}

/// Go Thrum keeps groups of its own, and lists their members in each message.
#[test]
fn an_answer_to_a_group_of_go_thrum_goes_to_the_recipients_listed_in_the_message() {
    let mut node = team();
    let go = foreign(
        "evt_1",
        "d_go",
        1,
        "agent.register",
        json!({"agent_id": "gia", "kind": "agent", "role": "r", "module": "m"}),
    );
    let group = |value: &str| json!([{"type": "group", "value": value}]);
    let message = |id: &str, recipients: serde_json::Value| {
        json!({"message_id": id, "agent_id": "gia", "body": {"format": "markdown", "content": "who?"},
            "recipients": recipients, "scopes": group("devs"), "refs": group("devs")})
    };
    let some = foreign("evt_2", "d_go", 1, "message.create", message("msg_some", json!(["ann", "ben", "gone"])));
    let none = foreign("evt_3", "d_go", 1, "message.create", message("msg_none", json!(["ben"])));
    node.apply(&[go, some, none]);

    let sent = node.store.write(|tx| tx.send(answer("ben", "msg_some"))).expect("sends");
    assert_eq!(sent.recipients, ["gia", "ann"]);
    assert_eq!(sent.warnings, ["@devs is a group of Go Thrum; of those who got the message, @ann get the answer, too"]);
    assert!(
        sent.audiences.contains(&Tag::new("group", "devs")),
        "Go's own members find it by the group: {:?}",
        sent.audiences
    );
    assert_eq!(node.inbox("ann"), [("who?".to_owned(), false), ("answer".to_owned(), false)]);
    let sent = node.store.write(|tx| tx.send(answer("ben", "msg_none"))).expect("sends");
    assert_eq!(sent.recipients, ["gia"]);
    assert_eq!(
        sent.warnings,
        ["@devs is a group of Go Thrum; of those who got the message, nobody else gets the answer"]
    );
}

/// The group's events are in the log, in any order of arrival.
#[test]
fn a_message_to_a_group_of_go_thrum_goes_to_its_members() {
    let mut node = team();
    let agent = |name: &str| json!({"agent_id": name, "kind": "agent", "role": "r", "module": "m"});
    let member = |kind: &str, value: &str| json!({"group_id": "grp_1", "member_type": kind, "member_value": value, "added_by": "gia"});
    node.apply(&[
        foreign("evt_7", "d_go", 7, "group.member.remove", member("agent", "gil")),
        foreign("evt_3", "d_go", 3, "group.create", json!({"group_id": "grp_1", "name": "devs", "created_by": "gia"})),
        foreign("evt_4", "d_go", 4, "group.member.add", member("agent", "gia")),
        foreign("evt_5", "d_go", 5, "group.member.add", member("agent", "gil")),
        foreign("evt_6", "d_go", 6, "group.member.add", member("role", "tester")),
        foreign("evt_8", "d_go", 8, "group.create", json!({"group_id": "grp_2", "name": "ops", "created_by": "gia"})),
        foreign("evt_9", "d_go", 9, "group.delete", json!({"group_id": "grp_2", "deleted_by": "gia"})),
        foreign("evt_1", "d_go", 1, "agent.register", agent("gia")),
        foreign("evt_2", "d_go", 1, "agent.register", agent("gil")),
    ]);
    let sent = node.send("ann", &["devs"], "to the group");
    assert_eq!(sent.recipients, ["ben", "cy", "gia"]);
    let warning = &sent.warnings[0];
    assert!(warning.starts_with("@devs is a group of Go Thrum; it goes to @ben, @cy, @gia@"), "{warning}");
    assert!(
        sent.audiences.contains(&Tag::new("group", "devs")),
        "Go's own members find it by the group: {:?}",
        sent.audiences
    );
    assert_eq!(node.inbox("cy"), [("to the group".to_owned(), false)]);
    let unknown = refusal(node.store.write(|tx| tx.send(send("ann", &["ops"], "to nobody"))));
    assert_eq!(unknown.kind, ErrorKind::NotFound, "{unknown}");
}

/// An answer by Go repeats the mentions of its parent, which usually include its author.
#[test]
fn an_answer_of_go_thrum_that_mentions_its_author_is_not_delivered_to_the_author() {
    let mut node = team();
    let mention = |name: &str| json!({"type": "mention", "value": name});
    let message = |id: &str, recipients: serde_json::Value| {
        json!({"message_id": id, "agent_id": "ann", "body": {"format": "markdown", "content": id}, "recipients": recipients,
            "refs": [mention("ann"), mention("cy")]})
    };
    node.apply(&[
        foreign(
            "evt_1",
            "d_go",
            1,
            "agent.register",
            json!({"agent_id": "ann", "kind": "agent", "role": "r", "module": "m"}),
        ),
        foreign("evt_2", "d_go", 2, "message.create", message("msg_answer", json!(["cy"]))),
        foreign("evt_3", "d_go", 3, "message.create", message("msg_note", json!(["cy", "ann"]))),
    ]);
    let texts = |name: &str| node.inbox(name).into_iter().map(|(text, _)| text).collect::<Vec<_>>();
    assert_eq!(
        (texts("ann"), texts("cy")),
        (vec!["msg_note".to_owned()], vec!["msg_answer".to_owned(), "msg_note".to_owned()])
    );
}
