//! The state of a message at each of its recipients, and lists that include it.

use thrum_core::payload::Tag;
use thrum_store::{
    ops::{self, Send},
    query::{Filter, Listing, Message, Recipient},
};

use serde_json::json;

use crate::{
    acts::{refusal, send, team},
    kit::{self, Node},
};

fn message(node: &Node, id: &str) -> Message {
    node.store.reader().message(id, None).expect("reads").expect("is here")
}

/// The recipients with their homes, and whether they have read the message.
fn reached(node: &Node, id: &str) -> Vec<(String, Option<String>, bool)> {
    let of = |it: Recipient| (it.agent_id, it.home, it.read_at.is_some());
    message(node, id).recipients.into_iter().map(of).collect()
}

fn list(node: &Node, filter: Filter) -> Listing {
    node.store.reader().list(&Filter { limit: 10, ..filter }).expect("lists")
}

fn texts(listing: &Listing) -> Vec<&str> {
    listing.messages.iter().map(|message| message.body.content.as_str()).collect()
}

#[test]
fn agents_of_the_same_name_are_distinguished_and_have_their_own_receipts() {
    let (mut here, mut there) = (team(), Node::new(2));
    there.register("ben", "tester");
    here.pull(&there, 0);
    let id = here.send("ann", &["everyone"], "both of you").message_id;
    there.pull(&here, 0);
    there.store.write(|tx| tx.mark_read("ben", std::slice::from_ref(&id))).expect("reads");
    here.pull(&there, 0);
    let (at_home, elsewhere) = (Some(here.home()), Some(there.home()));
    let bens = |node: &Node| reached(node, &id).into_iter().filter(|(name, ..)| name == "ben").collect::<Vec<_>>();
    assert_eq!(
        bens(&here),
        [("ben".into(), at_home.clone(), false), ("ben".into(), elsewhere.clone(), true)],
        "this one first"
    );
    here.store.write(|tx| tx.mark_read("ben", std::slice::from_ref(&id))).expect("reads");
    assert_eq!(bens(&here), [("ben".into(), at_home, true), ("ben".into(), elsewhere, true)]);
}

#[test]
fn a_deleted_recipient_is_listed_at_its_home_and_keeps_its_receipt() {
    let mut node = team();
    let id = node.send("ann", &["ben", "cy"], "x").message_id;
    node.store.write(|tx| tx.mark_read("ben", std::slice::from_ref(&id))).expect("reads");
    for gone in ["ben", "cy"] {
        node.store.write(|tx| tx.delete_agent(gone, None)).expect("deletes");
    }
    let home = Some(node.home());
    assert_eq!(
        reached(&node, &id),
        [("ben".into(), home.clone(), true), ("cy".into(), home, false)],
        "where they lived is known"
    );
    // The home of the recipient is unknown if the message names none.
    let unhomed = json!({"message_id": "msg_bare", "agent_id": "dee", "recipients": ["ben"]});
    node.apply(&[kit::foreign("evt_bare", "d_go", 9, "message.create", unhomed)]);
    assert_eq!(reached(&node, "msg_bare"), [("ben".into(), None, false)]);
}

#[test]
fn messages_that_a_recipient_has_not_read_are_found_at_any_age() {
    let mut node = team();
    let unread = |node: &Node| {
        let filter = Filter {
            author: Some("ann".into()),
            author_home: Some(node.home()),
            unread_by_somebody: true,
            ..Filter::default()
        };
        list(node, filter)
    };
    let first = node.send("ann", &["ben", "cy"], "first").message_id;
    let mut others = Vec::new();
    for n in 0..1500 {
        others.push(node.send("ann", &["cy"], &n.to_string()).message_id);
    }
    node.send("ann", &["ann"], "note to self");
    node.send("ben", &["cy"], "not ann's");
    assert_eq!(unread(&node).total, 1501);
    node.store.write(|tx| tx.mark_read("cy", &others)).expect("reads");
    node.store.write(|tx| tx.mark_read("cy", std::slice::from_ref(&first))).expect("reads");
    assert_eq!((unread(&node).total, texts(&unread(&node))), (1, vec!["first"]), "ben has not");
    node.store.write(|tx| tx.mark_read("ben", &[first])).expect("reads");
    assert_eq!(unread(&node), Listing::default());
    node.check();
}

#[test]
fn the_filters_for_recipients_and_for_mentions_differ() {
    let mut node = team();
    node.send("ann", &["@everyone"], "to all");
    node.send("ann", &["tester"], "to testers");
    node.send("ann", &["ben"], "to ben");
    node.send("ann", &["cy"], "to cy");
    let went = list(&node, Filter { to: Some("ben".into()), ..Filter::default() });
    assert_eq!(texts(&went), ["to ben", "to testers", "to all"]);
    let mentioning = |names: &[&str]| {
        let mentions = names.iter().map(|name| (*name).to_owned()).collect();
        list(&node, Filter { mailbox: Some(node.mailbox("ben")), mentions, ..Filter::default() })
    };
    assert_eq!(texts(&mentioning(&["ben", "tester"])), ["to ben", "to testers"]);
    assert_eq!((texts(&mentioning(&["ben"])), mentioning(&["ben"]).unread), (vec!["to ben"], 1));
}

#[test]
fn recipients_are_read_only_on_request() {
    let mut node = team();
    node.send("ann", &["ben"], "x");
    assert_eq!(list(&node, Filter::default()).messages[0].recipients, []);
    assert_eq!(list(&node, Filter { recipients: true, ..Filter::default() }).messages[0].recipients.len(), 1);
}

#[test]
fn every_filter_counts_what_it_lists() {
    let mut node = team();
    let parent = node.send("ann", &["ben"], "one").message_id;
    let tagged = Send {
        scopes: vec![Tag::new("module", "auth")],
        refs: vec![Tag::new("issue", "17")],
        reply_to: Some(parent),
        ..send("cy", &["ben"], "two")
    };
    let thread_id = node.store.write(|tx| tx.send(tagged)).expect("sends").thread_id;
    node.send("ben", &["ben"], "three");
    let ben = Some(node.mailbox("ben"));
    for (filter, expected) in [
        (Filter::default(), vec!["three", "two", "one"]),
        (Filter { author: Some("ann".into()), ..Filter::default() }, vec!["one"]),
        (Filter { author: Some("ann".into()), author_home: Some("d_elsewhere".into()), ..Filter::default() }, vec![]),
        (Filter { exclude_author: ben.clone(), ..Filter::default() }, vec!["two", "one"]),
        (Filter { scope: Some(Tag::new("module", "auth")), ..Filter::default() }, vec!["two"]),
        (
            Filter { reference: Some(Tag::new("issue", "17")), author: Some("cy".into()), ..Filter::default() },
            vec!["two"],
        ),
        (Filter { thread_id, ..Filter::default() }, vec!["two", "one"]),
    ] {
        for mailbox in [None, ben.clone()] {
            let found = list(&node, Filter { mailbox, ..filter.clone() });
            assert_eq!((texts(&found), found.total), (expected.clone(), expected.len() as u64), "{filter:?}");
        }
    }
}

#[test]
fn an_outbox_holds_only_the_messages_of_its_own_agent() {
    let mut node = team();
    let id = node.send("ann", &["ben"], "x").message_id;
    let reader = node.store.reader();
    assert_eq!(ops::sent_by(&reader, "ann", &id).expect("is a message of ann").message_id, id);
    let refused = refusal(ops::sent_by(&reader, "ben", &id));
    assert_eq!(
        (refused.kind, refused.message.as_str()),
        (thrum_core::ErrorKind::Refused, format!("{id} was sent by @ann").as_str())
    );
    assert_eq!(refusal(ops::sent_by(&reader, "ben", "msg_none")).kind, thrum_core::ErrorKind::NotFound);
}

#[test]
fn all_unread_mail_is_marked_as_read_in_bounded_steps() {
    let mut node = team();
    let most = usize::try_from(thrum_core::limits::MAX_READ_AT_ONCE).expect("small");
    for n in 0..most + 3 {
        node.send("ann", &["ben"], &n.to_string());
    }
    node.send("ann", &["cy"], "not ben's");
    assert_eq!(node.store.write(|tx| tx.mark_all_read("ben")).expect("reads"), (most, 3));
    assert_eq!(node.store.write(|tx| tx.mark_all_read("ben")).expect("reads"), (3, 0));
    assert_eq!(node.store.write(|tx| tx.mark_all_read("ben")).expect("reads"), (0, 0));
    assert!(node.store.reader().has_unread(&node.mailbox("cy")).expect("reads"));
}

#[test]
fn a_receipt_of_a_former_home_counts_for_the_agent() {
    // The mailbox of the fold and the reported state of the recipient must agree.
    let mut node = team();
    let id = node.send("ann", &["ben"], "x").message_id;
    let receipt = serde_json::json!({"message_id": id, "agent_id": "ben", "receipt_type": "read"});
    node.apply(&[kit::foreign("evt_read", "d_go", 5, "message.receipt", receipt)]);
    let read = |node: &Node| reached(node, &id).iter().map(|(_, _, read)| *read).collect::<Vec<_>>();
    assert_eq!(read(&node), [false], "a stranger's word");
    rusqlite::Connection::open(node.path())
        .expect("opens")
        .execute("INSERT INTO former_homes VALUES ('ben', 'd_go', ?1, ?2)", (node.home(), i64::MAX))
        .expect("moves");
    assert_eq!(read(&node), [true]);
}
