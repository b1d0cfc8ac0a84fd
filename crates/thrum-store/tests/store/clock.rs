//! Clocks that are ahead, behind or not set: a peer's, and our own.

use std::time::Duration;

use serde_json::json;
use thrum_core::{Ambient, Timestamp, limits};
use thrum_store::{
    ops::Heartbeat,
    query::{Filter, Liveness, Order},
};

use crate::kit::{self, Node, START};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const THREE_YEARS: Duration = Duration::from_secs(3 * 365 * 86_400);

fn now(node: &Node) -> Timestamp {
    node.world.clone().now()
}

/// Checks whether something is stamped with the current time; the clock stands still while a test writes.
fn is_now(node: &Node, at: Timestamp) -> bool {
    at >= now(node) && at.since(now(node)) < Duration::from_millis(1)
}

fn set(node: &Node, at: Timestamp) {
    node.world.set(at.nanos());
}

/// The first page of an inbox, newest first.
fn first_page(node: &Node, agent: &str) -> Vec<String> {
    let filter = Filter { mailbox: Some(node.mailbox(agent)), limit: 10, ..Filter::default() };
    texts(node, &filter)
}

/// The messages that `wait --after` finds.
fn after(node: &Node, agent: &str, after: Timestamp) -> Vec<String> {
    let order = Order::OldestFirst;
    texts(
        node,
        &Filter { mailbox: Some(node.mailbox(agent)), after: Some(after), order, limit: 10, ..Filter::default() },
    )
}

fn texts(node: &Node, filter: &Filter) -> Vec<String> {
    let listing = node.store.reader().list(filter).expect("lists");
    listing.messages.into_iter().map(|message| message.body.content).collect()
}

/// A message from a peer to ann, dated `ahead` of the start.
fn dated(number: i64, ahead: Duration) -> thrum_core::Event {
    let body = json!({"message_id": format!("msg_far{number}"), "agent_id": "far", "recipients": ["ann"], "body": {"content": format!("far {number}")}});
    let seconds = i64::try_from(ahead.as_secs()).expect("fits") + number;
    kit::foreign(&format!("evt_far{number}"), "d_far", seconds, "message.create", body)
}

/// A database that was used with a correct clock, then with a clock three years ahead, and again with the correct one.
fn was_ahead() -> Node {
    let mut node = Node::new(1);
    node.register("ann", "coder");
    node.register("ben", "tester");
    node.send("ben", &["ann"], "before");
    let right = now(&node);
    set(&node, right.plus(THREE_YEARS));
    for number in 0..10 {
        node.send("ben", &["ann"], &format!("ahead {number}"));
        node.world.pass(SECOND);
    }
    node.store.write(|tx| tx.mark_all_read("ann")).expect("reads");
    set(&node, right.plus(DAY));
    let fingerprint = Some(node.store.fingerprint());
    node.reopen(fingerprint)
}

#[test]
fn mail_dated_years_ahead_is_ordered_by_arrival_and_does_not_stay_news() {
    let mut node = Node::new(1);
    node.register("ann", "coder");
    node.register("ben", "tester");
    let all: Vec<_> = (0..10).map(|number| dated(number, 73 * 365 * DAY)).collect();
    node.apply(&all);
    node.world.pass(SECOND);
    node.send("ben", &["ann"], "new");
    let page = first_page(&node, "ann");
    assert_eq!(
        (page[0].as_str(), page[1].as_str(), page.len()),
        ("new", "far 9", 10),
        "in the order in which they came"
    );
    node.world.pass(MINUTE);
    let cursor = now(&node).minus(5 * SECOND);
    assert_eq!(after(&node, "ann", cursor), [] as [&str; 0]);
    node.check();
    assert_eq!(first_page(&node, "ann"), page, "a rebuilt projection shows them at the same place");
    let shown = node.store.reader().message("msg_far0", None).expect("reads").expect("is here");
    assert_eq!(
        (shown.created_at, shown.claimed_at),
        (Timestamp::from_nanos(START), Timestamp::from_nanos(START).plus(73 * 365 * DAY))
    );
}

#[test]
fn the_arrival_changes_the_shown_time_but_not_the_digest() {
    let (mut early, mut late) = (Node::new(1), Node::new(2));
    late.world.pass(THREE_YEARS);
    let edit = kit::foreign(
        "evt_edit",
        "d_far",
        3600,
        "message.edit",
        json!({"message_id": "msg_far1", "body": {"content": "edited"}}),
    );
    for node in [&mut early, &mut late] {
        node.apply(&[dated(1, HOUR), edit.clone()]);
    }
    assert_eq!(early.store.projection().expect("a digest"), late.store.projection().expect("a digest"));
    let shown = |node: &Node| node.store.reader().message("msg_far1", None).expect("reads").expect("is here");
    assert_eq!(shown(&early).created_at, Timestamp::from_nanos(START), "it came an hour before its time");
    assert_eq!(shown(&early).updated_at, Some(Timestamp::from_nanos(START)));
    assert_eq!(shown(&late).created_at, shown(&late).claimed_at, "here it is an old message");
}

/// The allowance for differing clocks also applies to events further ahead; otherwise an answer would stand before the
/// message that it answers.
#[test]
fn an_event_slightly_beyond_the_allowed_clock_difference_is_ordered_behind_one_within_it() {
    let mut node = Node::new(1);
    node.register("ann", "coder");
    let said = |id: &str, millis: u64| {
        let body = json!({"message_id": format!("msg_{id}"), "agent_id": "far", "recipients": ["ann"], "body": {"content": id}});
        let at = Timestamp::from_nanos(START).plus(limits::CLOCK_AHEAD).plus(Duration::from_millis(millis));
        let mut fields = json!({"event_id": format!("evt_{id}"), "type": "message.create", "origin_daemon": "d_far", "v": 1, "timestamp": at.to_string()});
        fields.as_object_mut().expect("an object").extend(body.as_object().expect("an object").clone());
        kit::event(&fields)
    };
    node.apply(&[said("question", 0), said("answer", 1)]);
    let reply = thrum_store::ops::Send {
        from: "ann".into(),
        content: "own answer".into(),
        reply_to: Some("msg_question".into()),
        mentions: vec!["ann".into()],
        ..Default::default()
    };
    let sent = node.store.write(|tx| tx.send(reply)).expect("sends");
    assert_eq!(first_page(&node, "ann"), ["own answer", "answer", "question"]);
    let shown = node.store.reader().message(&sent.message_id, None).expect("reads").expect("is here");
    assert_eq!(sent.created_at, shown.created_at, "the sender hears where it is shown");
    // If a clock is off by more, answers are not stamped by its time, and it gets no allowance.
    node.apply(&[said("far", 11 * 60 * 1000)]);
    let far = node.store.reader().message("msg_far", None).expect("reads").expect("is here");
    assert_eq!(far.created_at, Timestamp::from_nanos(START));
    // `wait --after` the last seen message finds the next one.
    node.world.pass(3 * SECOND);
    node.send("ann", &["ann"], "next");
    assert_eq!(after(&node, "ann", sent.created_at), ["next"]);
    node.check();
}

#[test]
fn a_start_with_the_clock_years_ahead_does_not_affect_later_events() {
    let mut node = was_ahead();
    let sent = node.send("ben", &["ann"], "after");
    assert!(is_now(&node, sent.created_at), "{}", sent.created_at);
    let id_time = thrum_core::ids::ulid_time(&sent.message_id).expect("a time");
    assert_eq!(id_time.millis(), now(&node).millis(), "ids, too: purges go by their time");
    assert_eq!(first_page(&node, "ann")[0], "after");
    let cursor = now(&node).minus(5 * SECOND);
    assert_eq!(after(&node, "ann", cursor), ["after"], "what was read long ago is no news");
    node.check();
    let mut far = Node::new(2);
    far.world.pass(2 * DAY);
    far.pull(&node, 0);
    assert_eq!(far.store.projection().expect("a digest"), node.store.projection().expect("a digest"));
}

#[test]
fn a_database_created_with_the_clock_ahead_is_corrected_by_the_first_write_afterwards() {
    let mut node = Node::new(1);
    let right = now(&node);
    set(&node, right.plus(THREE_YEARS));
    node.register("ann", "coder");
    node.register("ben", "tester");
    node.send("ben", &["ann"], "ahead");
    set(&node, right);
    // Without a restart in between.
    let sent = node.send("ben", &["ann"], "after");
    assert!(is_now(&node, sent.created_at), "{}", sent.created_at);
    assert_eq!(first_page(&node, "ann"), ["after", "ahead"]);
    assert_eq!(after(&node, "ann", right.minus(5 * SECOND)), ["after"]);
    node.check();
}

#[test]
fn ids_are_unique_although_the_clock_shows_the_same_time_twice() {
    let mut node = Node::new(1);
    node.register("ann", "coder");
    let (right, ahead) = (now(&node), now(&node).plus(THREE_YEARS));
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..6 {
        for at in [ahead, right] {
            set(&node, at);
            for _ in 0..200 {
                assert!(ids.insert(node.send("ann", &["ann"], "x").message_id));
            }
        }
    }
    node.check();
}

#[test]
fn a_deleted_agent_leaves_no_claim_that_lies_ahead() {
    let mut node = Node::new(1);
    node.register("ben", "tester");
    let right = now(&node);
    set(&node, right.plus(THREE_YEARS));
    node.store.write(|tx| tx.claim("ben", &["a.rs".to_owned()], DAY)).expect("claims");
    // The claim, which counts as made right before the correction, would not have expired yet.
    set(&node, right.plus(HOUR));
    let claims = |node: &Node| node.store.reader().claims(now(node), |_| true).expect("reads").0.len();
    assert_eq!(claims(&node), 1);
    node.store.write(|tx| tx.delete_agent("ben", None)).expect("deletes");
    assert_eq!(claims(&node), 0);
    node.register("ben", "tester");
    assert_eq!(claims(&node), 0, "the next agent of that name does not inherit it");
    node.check();
}

#[test]
fn an_event_that_replaces_one_that_lies_ahead_takes_effect() {
    let mut node = Node::new(1);
    node.register("ann", "coder");
    let right = now(&node);
    set(&node, right.plus(THREE_YEARS));
    node.register("ben", "tester");
    let message = node.send("ben", &["ann"], "ahead").message_id;
    node.store.write(|tx| tx.edit("ben", &message, Some("edited ahead".into()), None)).expect("edits");
    let beat = |intent: &str| Heartbeat { intent: Some(intent.to_owned()), ..Heartbeat::default() };
    let (session, _) = node.store.write(|tx| tx.start_session("ben", beat("ahead"))).expect("starts");
    set(&node, right.plus(DAY));

    node.store.write(|tx| tx.edit("ben", &message, Some("edited".into()), None)).expect("edits");
    let shown = node.store.reader().message(&message, None).expect("reads").expect("is here");
    assert_eq!((shown.body.content.as_str(), shown.updated_at.map(|at| is_now(&node, at))), ("edited", Some(true)));
    node.store.write(|tx| tx.set_intent(&session, "now")).expect("says");
    assert_eq!(
        node.store.reader().session(&session).expect("reads").expect("is here").context.intent.as_deref(),
        Some("now")
    );
    let (ended, at) = node.store.write(|tx| tx.end_session(&session, None)).expect("ends");
    assert!(is_now(&node, at), "{at}");
    assert!(node.store.reader().session(&ended.session_id).expect("reads").expect("is here").ended_at.is_some());
    let next = node.send("ann", &["ben"], "x").created_at;
    assert!(is_now(&node, next), "none of it carries over to what comes next: {next}");

    // The same name, from now on: it gets mail to everyone from now on, and can be deleted and registered again.
    let moved = |node: &mut Node, module: &str| {
        let register = thrum_store::ops::Register {
            name: "ben".into(),
            role: "tester".into(),
            module: module.into(),
            ..Default::default()
        };
        node.store.write(|tx| tx.register(register)).expect("registers");
    };
    moved(&mut node, "of-ben");
    node.send("ann", &["everyone"], "to all");
    assert!(first_page(&node, "ben").contains(&"to all".to_owned()));
    moved(&mut node, "other");
    assert_eq!(node.store.reader().agent_here("ben").expect("reads").expect("is here").module, "other");
    node.store.write(|tx| tx.delete_agent("ben", None)).expect("deletes");
    assert_eq!(node.store.reader().agent_here("ben").expect("reads"), None);
    moved(&mut node, "again");
    node.world.pass(SECOND);
    node.send("ann", &["everyone"], "to all again");
    assert!(first_page(&node, "ben").contains(&"to all again".to_owned()));
    let (_, at) = node.store.write(|tx| tx.start_session("ben", Heartbeat::default())).expect("starts");
    assert!(is_now(&node, at), "{at}");
    assert!(node.store.reader().open_session("ben").expect("reads").is_some());
    node.check();
}

#[test]
fn a_clock_that_was_ahead_does_not_make_an_absent_agent_present() {
    let (mut node, mut far) = (Node::new(1), Node::new(2));
    far.world.pass(THREE_YEARS);
    far.register("far", "coder");
    let session = far.store.write(|tx| tx.start_session("far", Heartbeat::default())).expect("starts").0;
    node.pull(&far, 0);
    let arrived = now(&node);
    node.world.pass(DAY + SECOND);
    let seen = node.store.reader().session(&session).expect("reads").expect("is here");
    assert_eq!((seen.last_seen_at, seen.liveness(now(&node), &node.home())), (arrived, Liveness::Silent));
    let agents = node.store.reader().agents(&Default::default()).expect("reads");
    assert_eq!((agents[0].last_seen_at, agents[0].registered_at), (Some(arrived), arrived));

    // Our own agent, last seen while our clock was ahead.
    let right = now(&node);
    set(&node, right.plus(THREE_YEARS));
    node.register("ann", "coder");
    let session = node.store.write(|tx| tx.start_session("ann", Heartbeat::default())).expect("starts").0;
    let ahead = now(&node);
    node.store.write(|tx| tx.seen("ann", ahead)).expect("notes");
    set(&node, right.plus(2 * HOUR));
    node.store.fold_due().expect("looks at the clock");
    let seen = node.store.reader().session(&session).expect("reads").expect("is here");
    assert_eq!(seen.liveness(now(&node), &node.home()), Liveness::Silent, "last seen {}", seen.last_seen_at);
    let again = now(&node);
    node.store.write(|tx| tx.seen("ann", again)).expect("notes");
    let seen = node.store.reader().session(&session).expect("reads").expect("is here");
    assert_eq!(seen.liveness(again, &node.home()), Liveness::Active);
}

#[test]
fn origins_whose_events_lie_ahead_are_listed_with_the_difference() {
    let mut node = was_ahead();
    node.apply(&[dated(1, 73 * 365 * DAY), dated(2, MINUTE)]);
    let ahead = node.store.reader().ahead(now(&node)).expect("reads");
    let named: Vec<_> = ahead.iter().map(|ahead| (ahead.origin.clone(), ahead.via.as_str(), ahead.events)).collect();
    assert_eq!(named, [("d_far".to_owned(), "d_peer", 1), (node.home(), "", 21)], "ten messages and eleven receipts");
    assert_eq!(ahead[0].latest, Timestamp::from_nanos(START).plus(73 * 365 * DAY + SECOND));
}

#[test]
fn an_unset_clock_continues_from_the_latest_known_time() {
    let mut node = Node::new(1);
    node.register("ann", "coder");
    node.send("ann", &["ann"], "before");
    let right = now(&node);
    set(&node, Timestamp::from_nanos(20_000_000_000));
    let fingerprint = Some(node.store.fingerprint());
    node = node.reopen(fingerprint);
    node.apply(&[dated(1, HOUR)]);
    let sent = node.send("ann", &["ann"], "not set");
    assert!(sent.created_at > right && sent.created_at.since(right) < SECOND, "{}", sent.created_at);
    set(&node, right.plus(DAY));
    let sent = node.send("ann", &["ann"], "set again");
    assert!(is_now(&node, sent.created_at), "{}", sent.created_at);
    assert_eq!(first_page(&node, "ann")[0], "set again");
    node.check();

    // A database created while the clock is not set.
    let mut young = Node::new(2);
    set(&young, Timestamp::ZERO);
    young.register("ann", "coder");
    young.apply(&[dated(1, 73 * 365 * DAY)]);
    set(&young, right);
    young.send("ann", &["ann"], "set");
    assert_eq!(first_page(&young, "ann"), ["set", "far 1"]);
}

#[test]
fn a_clock_set_back_by_minutes_does_not_change_the_order() {
    let mut node = Node::new(1);
    node.register("ann", "coder");
    node.world.pass(limits::CLOCK_OFF);
    node.send("ann", &["ann"], "first");
    set(&node, Timestamp::from_nanos(START));
    node.send("ann", &["ann"], "second");
    assert_eq!(first_page(&node, "ann"), ["second", "first"]);
    node.check();
}

#[test]
fn a_purge_removes_events_that_arrived_before_its_cutoff_whatever_time_they_claim() {
    let mut node = was_ahead();
    let mut far = Node::new(2);
    far.world.pass(4 * DAY);
    let old: Vec<_> = (0..10).map(|number| dated(number, 73 * 365 * DAY)).collect();
    // One more event that only the other daemon has when the purge is requested: it is not listed, and stays
    // everywhere.
    node.apply(&old[..9]);
    far.apply(&old);
    far.pull(&node, 0);
    node.world.pass(DAY);
    node.send("ben", &["ann"], "after");
    let cutoff = now(&node).minus(HOUR);
    let preview = node.store.reader().purge_preview(cutoff).expect("looks");
    assert_eq!(preview.messages, 1 + 10 + 9);
    let end = node.store.reader().latest().expect("reads");
    let purged = node.store.purge(cutoff).expect("purges");
    assert_eq!((purged.messages, purged.events), (preview.messages, preview.events));
    assert_eq!(first_page(&node, "ann"), ["after"]);

    far.pull(&node, end - 1);
    node.pull(&far, 0);
    node.apply(&old);
    assert_eq!(first_page(&node, "ann").len(), 2, "unlisted events, and events after the cutoff");
    assert_eq!(node.store.projection().expect("a digest"), far.store.projection().expect("a digest"));
    assert_eq!(node.store.purge(cutoff).expect("purges").events, 0, "no event is left to be listed");
    node.check();
    far.check();
}

#[test]
fn a_purge_made_while_the_clock_was_ahead_does_not_discard_later_events() {
    let (mut node, mut far) = (Node::new(1), Node::new(2));
    node.register("ann", "coder");
    let right = now(&node);
    set(&node, right.plus(THREE_YEARS));
    let ahead = now(&node);
    node.store.write(|tx| tx.purge(ahead)).expect("purges");
    set(&node, right.plus(DAY));
    far.world.pass(DAY);
    far.register("far", "coder");
    far.pull(&node, 0);
    far.send("far", &["ann"], "hello");
    node.pull(&far, 0);
    assert_eq!(first_page(&node, "ann"), ["hello"]);
    let sent = node.send("ann", &["ann"], "here, too");
    assert!(is_now(&node, sent.created_at), "{}", sent.created_at);
    node.check();
}
