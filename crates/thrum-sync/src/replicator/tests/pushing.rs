//! Events that are sent along with an announcement.

use thrum_core::quota::{Measure, OverQuota};

use super::*;

fn notified(latest: u64, after: u64, sequences: &[i64]) -> Input {
    let next = sequences.last().copied().unwrap_or(0);
    let Input::Replied(Ok(Reply::Pulled(events))) = pulled("log", sequences, next, true) else { unreachable!() };
    Input::Notified { latest, pushed: Some((after, events)) }
}

fn applies(actions: &[Action], upto: u64) -> bool {
    matches!(actions, [Action::Apply { checkpoint, .. }] if *checkpoint == upto)
}

#[test]
fn events_that_follow_the_checkpoint_are_stored_without_a_pull_and_acknowledged_by_one() {
    let mut case = Case::quiet();
    assert!(applies(&case.step(notified(7, 5, &[6, 7])), 7));
    assert_eq!(case.calls(stored(2)), [pull(7, "log")]);
    assert_eq!(case.calls(nothing("log")), []);
    assert_eq!(case.machine.status().checkpoint, Some(("log".to_owned(), 7)));
    assert_eq!(case.machine.status().pulled_at, Some(Timestamp::ZERO));
}

#[test]
fn events_that_do_not_follow_the_checkpoint_are_pulled() {
    for (after, log) in [(4, "log"), (6, "log"), (5, "another")] {
        let mut case = Case::quiet();
        let Input::Notified { pushed: Some((after, events)), .. } = notified(8, after, &[7, 8]) else { unreachable!() };
        let events = Pulled { log: Some(log.to_owned()), ..events };
        let pushed = Some((after, events));
        let calls = case.step(Input::Notified { latest: 8, pushed });
        assert!(matches!(&calls[..], [Action::Send { call, .. }] if *call == pull(5, "log")), "{calls:?}");
    }
}

#[test]
fn events_during_a_pull_are_stored_and_its_reply_is_not_used() {
    let mut case = Case::quiet();
    assert_eq!(case.calls(Input::Notified { latest: 6, pushed: None }), [pull(5, "log")]);
    assert!(applies(&case.step(notified(7, 5, &[6, 7])), 7));
    assert_eq!(case.step(pulled("log", &[6], 6, false)), [], "while the events are stored");
    assert_eq!(case.calls(stored(2)), [pull(7, "log")]);

    // The same with a reply that comes after the events were stored.
    assert!(applies(&case.step(notified(8, 7, &[8])), 8));
    assert_eq!(case.step(stored(1)), []);
    assert_eq!(case.calls(pulled("log", &[8], 8, false)), [pull(8, "log")], "its reply was overtaken");
    assert_eq!(case.machine.status().checkpoint, Some(("log".to_owned(), 8)));
}

#[test]
fn events_are_not_stored_while_others_are_or_while_the_peer_may_not_be_read() {
    let mut case = Case::quiet();
    assert!(applies(&case.step(notified(6, 5, &[6])), 6));
    assert_eq!(case.step(notified(7, 6, &[7])), [], "one batch at a time");
    assert_eq!(case.calls(stored(1)), [pull(6, "log")]);

    let mut case = Case::quiet();
    let over = OverQuota { measure: Measure::Bytes, kept: 2, allowed: 1 };
    case.step(Input::Quota(Some(over)));
    assert_eq!(case.step(notified(6, 5, &[6])), []);

    let mut case = Case::new(Some(("log", 5)));
    case.step(Input::Timer);
    assert_eq!(case.step(notified(6, 5, &[6])), [], "it has not said which daemon it is");
}

#[test]
fn invalid_events_end_the_connection_as_an_invalid_reply_does() {
    for sequences in [&[5][..], &[7, 6], &[-1]] {
        let mut case = Case::quiet();
        assert!(case.step(notified(7, 5, sequences)).contains(&Action::Close), "{sequences:?}");
    }
    let many: Vec<i64> = (6..=6 + limits::MAX_PUSHED_EVENTS as i64).collect();
    assert!(Case::quiet().step(notified(7, 5, &many)).contains(&Action::Close));
}

#[test]
fn events_are_sent_along_from_where_the_peer_has_read_and_never_to_a_legacy_peer() {
    let mut case = Case::quiet();
    assert_eq!(
        case.calls(Input::Commit(10)),
        [Call::Notify { latest: 10, count: 1, after: None, references: None }],
        "not known yet"
    );
    case.step(Input::Replied(Ok(Reply::Notified)));
    assert_eq!(
        case.calls(Input::Commit(11)),
        [Call::Notify { latest: 11, count: 1, after: Some(10), references: None }]
    );
    case.step(Input::Replied(Ok(Reply::Notified)));
    case.step(Input::Acknowledged(14));
    assert_eq!(
        case.calls(Input::Commit(15)),
        [Call::Notify { latest: 15, count: 1, after: Some(14), references: None }]
    );

    let mut case = Case::new(None);
    case.step(Input::Timer);
    case.step(Input::Connected);
    case.step(info(None, 0));
    case.step(old(&[], false));
    case.step(Input::Acknowledged(3));
    let mut calls = case.calls(Input::Commit(4));
    while calls.is_empty() || matches!(calls[..], [Call::Pull(_)]) {
        calls = case.calls(old(&[], false));
        calls.extend(case.wake().into_iter().filter_map(|action| match action {
            Action::Send { call, .. } => Some(call),
            _ => None,
        }));
    }
    assert_eq!(calls, [Call::Notify { latest: 4, count: 1, after: None, references: None }]);
}
