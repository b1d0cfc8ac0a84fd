//! Forged events about other daemons' things: the genuine ones count, whatever arrives first.

use std::time::Duration;

use serde_json::{Value, json};
use thrum_core::{
    Event, Payload,
    ids::{IdKind, IdSource},
    payload::{Body, MessageCreate, SessionEnd, SessionStart},
};
use thrum_store::query::SessionFilter;

use crate::kit::{self, Node, World};

/// The author's daemon and the attacker's, both with keys, and one daemon without.
const AUTHOR: u64 = 1;
const ATTACKER: u64 = 2;
const GO: &str = "d_go";

fn id(kind: IdKind, maker: u64) -> String {
    IdSource::bound_to(kit::key(maker).id()).next(kind, &mut World::new(7))
}

fn said(message_id: &str, agent: &str, content: &str) -> Payload {
    Payload::MessageCreate(MessageCreate {
        message_id: message_id.into(),
        agent_id: agent.into(),
        recipients: vec!["bob".into()],
        body: Body { format: "plain".into(), content: content.into(), structured: None },
        ..MessageCreate::default()
    })
}

/// The same kind of event by a daemon that signs nothing.
fn unsigned(event_id: &str, seconds: i64, kind: &'static str, payload: &Payload) -> Event {
    kit::foreign(event_id, GO, seconds, kind, Value::Object(payload.fields()))
}

/// All orders of some events, each event in its own batch, and all in one batch.
fn in_every_order(events: &[Event], mut check: impl FnMut(&mut Node)) {
    fn orders(rest: &[usize]) -> Vec<Vec<usize>> {
        if rest.is_empty() {
            return vec![Vec::new()];
        }
        let with = |n: &usize| {
            let others: Vec<usize> = rest.iter().copied().filter(|other| other != n).collect();
            orders(&others).into_iter().map(|order| [vec![*n], order].concat()).collect::<Vec<_>>()
        };
        rest.iter().flat_map(with).collect()
    }
    let mut digests = Vec::new();
    for order in orders(&(0..events.len()).collect::<Vec<_>>()) {
        for batch in [1, events.len()] {
            let mut node = Node::new(9);
            node.world.pass(Duration::from_secs(3600));
            node.register("bob", "coder");
            for part in order.chunks(batch) {
                node.apply(&part.iter().map(|n| events[*n].clone()).collect::<Vec<_>>());
            }
            check(&mut node);
            node.check();
            digests.push(node.store.projection().expect("digest"));
        }
    }
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "every order gives the same");
}

/// C21: the signer is part of an event's identity, so an event under another daemon's id is an additional event and
/// displaces none.
#[test]
fn a_genuine_event_is_accepted_before_and_after_forged_ones_with_its_id() {
    let genuine = kit::signed("evt_1", AUTHOR, 1, 5, &said("msg_1", "ann", "genuine"));
    let resigned = kit::signed("evt_1", ATTACKER, 1, 5, &said("msg_2", "eve", "another daemon's"));
    let stripped = unsigned("evt_1", 5, "message.create", &said("msg_3", "eve", "nobody's"));
    in_every_order(&[genuine.clone(), resigned, stripped], |node| {
        let rows = node.store.reader().page(0, 100, usize::MAX).expect("a page").rows;
        assert_eq!(rows.iter().filter(|row| row.id == "evt_1").count(), 3);
        assert!(rows.iter().any(|row| row.body == genuine.body));
        let mut inbox: Vec<String> = node.inbox("bob").into_iter().map(|(content, _)| content).collect();
        inbox.sort_unstable();
        assert_eq!(inbox, ["another daemon's", "genuine", "nobody's"]);
        assert_eq!(node.store.reader().totals().expect("reads").rejected, 0);
    });
}

/// C21: a message cannot be replaced under an id of its author's daemon, whatever time the other event claims.
#[test]
fn a_message_cannot_be_replaced_by_an_earlier_one_with_its_id() {
    let message = id(IdKind::Message, AUTHOR);
    let events = [
        kit::signed("evt_5", AUTHOR, 1, 5, &said(&message, "ann", "genuine")),
        kit::signed("evt_1", ATTACKER, 1, 1, &said(&message, "ann", "backdated and signed")),
        unsigned("evt_2", 0, "message.create", &said(&message, "ann", "backdated, by nobody")),
        unsigned(
            "evt_6",
            6,
            "message.delete",
            &Payload::read("message.delete", &json!({"message_id": message}).to_string()).expect("reads"),
        ),
    ];
    in_every_order(&events, |node| {
        assert_eq!(node.inbox("bob"), [("genuine".to_owned(), false)]);
        let shown = node.store.reader().message(&message, None).expect("reads").expect("is here");
        assert_eq!((shown.origin, shown.deleted_at), (kit::key(AUTHOR).id().to_string(), None));
    });
}

/// C21: for unbound ids, and Go's ids, a signed creation precedes an unsigned one, and then the earlier one counts.
#[test]
fn the_first_signed_creation_of_an_unbound_id_counts() {
    let events = [
        kit::signed("evt_5", AUTHOR, 1, 5, &said("msg_old", "ann", "the first that is signed")),
        kit::signed("evt_6", ATTACKER, 1, 6, &said("msg_old", "ann", "signed later")),
        unsigned("evt_2", 0, "message.create", &said("msg_old", "ann", "backdated, by nobody")),
    ];
    in_every_order(&events, |node| assert_eq!(node.inbox("bob"), [("the first that is signed".to_owned(), false)]));
}

/// C21: a session cannot be replaced either; and it ends only where it started.
#[test]
fn a_session_cannot_be_replaced_or_ended_by_another_daemon() {
    let session = id(IdKind::Session, AUTHOR);
    let start =
        |agent: &str| Payload::SessionStart(SessionStart { session_id: session.clone(), agent_id: agent.into() });
    let end =
        |reason: &str| Payload::SessionEnd(SessionEnd { session_id: session.clone(), reason: Some(reason.into()) });
    let genuine = kit::signed("evt_5", AUTHOR, 1, 5, &start("ann"));
    let forged = [
        kit::signed("evt_1", ATTACKER, 1, 1, &start("eve")),
        kit::signed("evt_2", ATTACKER, 2, 2, &end("forged")),
        unsigned("evt_3", 3, "agent.session.end", &end("by nobody")),
    ];
    let [one, two, three] = forged;
    in_every_order(&[genuine.clone(), one.clone(), two.clone(), three.clone()], |node| {
        let sessions = node.store.reader().sessions(&SessionFilter::default()).expect("reads");
        let shown: Vec<_> = sessions.iter().map(|one| (one.agent_id.as_str(), one.ended_at)).collect();
        assert_eq!(shown, [("ann", None)]);
    });
    let ended = kit::signed("evt_9", AUTHOR, 2, 9, &end("done"));
    in_every_order(&[genuine, two, three, ended], |node| {
        let sessions = node.store.reader().sessions(&SessionFilter::default()).expect("reads");
        assert_eq!(sessions.iter().map(|one| one.end_reason.as_deref()).collect::<Vec<_>>(), [Some("done")]);
    });
}

/// C21: a daemon that signs two events under one own id is at fault itself: the first to arrive is stored, the other
/// one is shown as rejected.
#[test]
fn two_contents_with_one_id_and_signer_are_reported() {
    let mut node = Node::new(9);
    node.world.pass(Duration::from_secs(3600));
    node.register("bob", "coder");
    node.apply(&[kit::signed("evt_1", AUTHOR, 1, 5, &said("msg_1", "ann", "one"))]);
    node.apply(&[kit::signed("evt_1", AUTHOR, 2, 6, &said("msg_2", "ann", "two"))]);
    assert_eq!(node.inbox("bob"), [("one".to_owned(), false)]);
    assert_eq!(node.store.reader().totals().expect("reads").rejected, 1);
}

/// C21: ids made by our daemons are bound to them.
#[test]
fn ids_made_here_are_bound_to_this_daemon() {
    let mut node = Node::new(1);
    node.register("ann", "coder");
    let sent = node.send("ann", &["ann"], "hello");
    let session =
        node.store.write(|tx| tx.start_session("ann", thrum_store::ops::Heartbeat::default())).expect("starts").0;
    let rows = node.store.reader().page(0, 100, usize::MAX).expect("a page").rows;
    for id in rows.iter().map(|row| &row.id).chain([&sent.message_id, &session]) {
        assert!(thrum_core::ids::is_made_by(id, &node.home()), "{id}");
    }
}

/// I6: two ends with the same time and id, by a daemon that signs and one that does not.
#[test]
fn of_two_ends_with_equal_time_and_id_the_same_counts_in_every_order() {
    let start = Payload::SessionStart(SessionStart { session_id: "ses_1".into(), agent_id: "ann".into() });
    let end =
        |reason: &str| Payload::SessionEnd(SessionEnd { session_id: "ses_1".into(), reason: Some(reason.into()) });
    for other in [ATTACKER, AUTHOR] {
        let events = [
            unsigned("evt_1", 1, "agent.session.start", &start),
            unsigned("evt_9", 9, "agent.session.end", &end("its own")),
            kit::signed("evt_9", other, 1, 9, &end("another's")),
        ];
        in_every_order(&events, |node| {
            let sessions = node.store.reader().sessions(&SessionFilter::default()).expect("reads");
            assert_eq!(sessions.iter().map(|one| one.end_reason.as_deref()).collect::<Vec<_>>(), [Some("its own")]);
        });
    }
}
