//! The presence of agents' programs, and the state of a message at each recipient, on both sides.

use std::time::Duration;

use thrum_core::{Timestamp, payload::PresenceState};
use thrum_store::query::{Filter, Mailbox, Presence};

use crate::kit::{Node, START};

fn events(node: &Node) -> u64 {
    node.store.reader().totals().expect("reads").events
}

/// Whether the recipient of the only message was woken, has seen it and has read it.
fn state(node: &Node) -> (bool, bool, bool) {
    let filter = Filter { recipients: true, limit: 1, ..Filter::default() };
    let recipient = node.store.reader().list(&filter).expect("lists").messages.remove(0).recipients.remove(0);
    (recipient.woken_at.is_some(), recipient.seen_at.is_some(), recipient.read_at.is_some())
}

/// Two daemons: ann's home is the first, ben's the second, and both know both agents.
fn two() -> (Node, Node) {
    let (mut left, mut right) = (Node::new(1), Node::new(2));
    left.register("ann", "coder");
    right.register("ben", "coder");
    left.pull(&right, 0);
    right.pull(&left, 0);
    (left, right)
}

#[test]
fn the_latest_presence_counts_everywhere_and_is_published_once() {
    let (mut left, mut right) = two();
    let ben = right.mailbox("ben");
    let say = |node: &mut Node, state, wakeable| {
        let since = Timestamp::from_nanos(START - 7_200_000_000_000);
        node.store.write(|tx| tx.say_presence("ben", state, wakeable, (since, Timestamp::ZERO))).expect("says")
    };
    let before = events(&right);
    assert!(!say(&mut right, None, false), "nothing was known");
    assert!(say(&mut right, Some(PresenceState::Working), false));
    assert!(!say(&mut right, Some(PresenceState::Working), false));
    // The daemon's clock goes back.
    right.world.set(START - 3_600_000_000_000);
    assert!(say(&mut right, Some(PresenceState::Idle), true));
    assert_eq!(events(&right), before + 2);
    left.pull(&right, 0);
    let idle = Presence {
        state: Some(PresenceState::Idle),
        wakeable: true,
        since: Timestamp::from_nanos(START - 7_200_000_000_000),
        person_at: Timestamp::ZERO,
    };
    for node in [&mut left, &mut right] {
        assert_eq!(node.store.reader().presence(&ben).expect("reads"), Some(idle));
        assert_eq!(node.store.reader().presences().expect("reads"), [(ben.clone(), idle)].into());
        node.check();
    }
    assert!(
        left.store.write(|tx| tx.say_presence("ben", None, false, (Timestamp::ZERO, Timestamp::ZERO))).is_err(),
        "it does not live there"
    );
    right.store.write(|tx| tx.delete_agent("ben", None)).expect("deletes");
    left.pull(&right, 0);
    assert_eq!(left.store.reader().presence(&ben).expect("reads"), None);
    left.check();
}

#[test]
fn wake_ups_and_receipts_are_published_once_and_visible_to_the_sender() {
    let (mut left, mut right) = two();
    let sent = left.send("ann", &["ben"], "hello");
    right.pull(&left, 0);
    right.world.pass(Duration::from_secs(1));
    let id = [sent.message_id.clone(), "msg_unknown".to_owned()];
    let before = events(&right);
    for _ in 0..2 {
        right.store.write(|tx| tx.woken("ben", &id)).expect("notes");
    }
    assert_eq!(events(&right), before + 1);
    left.pull(&right, 0);
    assert_eq!([state(&left), state(&right)], [(true, false, false); 2]);
    for _ in 0..2 {
        right.store.write(|tx| tx.mark_shown("ben", &id)).expect("notes");
    }
    assert_eq!(events(&right), before + 2);
    left.pull(&right, 0);
    assert_eq!([state(&left), state(&right)], [(true, true, false); 2]);
    assert_eq!(right.inbox("ben"), [("hello".to_owned(), false)], "what was shown in part is unread");
    right.store.write(|tx| tx.mark_read("ben", &id[..1])).expect("marks");
    right.store.write(|tx| tx.mark_shown("ben", &id)).expect("notes");
    assert_eq!(events(&right), before + 3);
    left.pull(&right, 0);
    assert_eq!([state(&left), state(&right)], [(true, true, true); 2]);
    left.check();
    right.check();
}

#[test]
fn messages_between_two_agents_are_counted_from_the_last_prompt_to_either() {
    let (mut left, mut right) = two();
    left.register("cy", "tester");
    let (ann, ben) = (left.mailbox("ann"), right.mailbox("ben"));
    let count = |node: &Node, stirred_at: Timestamp, most: u64| {
        let reader = node.store.reader();
        let stirred = |agent: &Mailbox| reader.stirred(agent).expect("reads");
        let since = stirred(&ann).max(stirred(&ben)).max(stirred_at);
        let exchange = reader.exchange(&ann, &ben, since, most).expect("reads");
        (exchange.messages, exchange.since)
    };
    for number in 0..3 {
        left.send("ann", &["ben"], &number.to_string());
        left.send("ann", &["cy"], "to somebody else");
        left.send("ann", &["everyone"], "to all");
    }
    right.pull(&left, 0);
    right.send("ben", &["ann"], "an answer");
    left.pull(&right, 0);
    assert_eq!(
        [count(&left, Timestamp::ZERO, 10), count(&right, Timestamp::ZERO, 10)],
        [(7, Timestamp::ZERO); 2],
        "with what went to all"
    );
    assert_eq!(count(&left, Timestamp::ZERO, 2).0, 2);
    right.world.pass(Duration::from_secs(1));
    let person_at = Timestamp::from_nanos(START + 1_000_000_000);
    right
        .store
        .write(|tx| tx.say_presence("ben", Some(PresenceState::Working), false, (person_at, person_at)))
        .expect("says");
    left.pull(&right, 0);
    assert_eq!([count(&left, Timestamp::ZERO, 10), count(&right, Timestamp::ZERO, 10)], [(0, person_at); 2]);
    left.world.pass(Duration::from_secs(2));
    left.send("ann", &["ben"], "and again");
    assert_eq!(count(&left, Timestamp::ZERO, 10), (1, person_at));
    let later = Timestamp::from_nanos(START + 3_000_000_000);
    assert_eq!(count(&left, later, 10), (0, later), "a prompt that is not written down yet");
    // Published once more without it, it is still the last value.
    right
        .store
        .write(|tx| tx.say_presence("ben", Some(PresenceState::Idle), false, (person_at, Timestamp::ZERO)))
        .expect("says");
    left.pull(&right, 0);
    assert_eq!(count(&left, Timestamp::ZERO, 10), (1, person_at));
    left.check();
}
