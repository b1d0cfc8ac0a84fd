//! Announcing commits to the peer.

use super::*;

#[test]
fn commits_are_announced_one_notify_at_a_time_and_the_next_covers_the_rest() {
    let mut case = Case::quiet();
    assert_eq!(case.calls(Input::Commit(10)), [Call::Notify { latest: 10, count: 1, after: None, references: None }]);
    for latest in 11..=20 {
        assert_eq!(case.step(Input::Commit(latest)), []);
    }
    assert_eq!(
        case.calls(Input::Replied(Ok(Reply::Notified))),
        [Call::Notify { latest: 20, count: 10, after: Some(10), references: None }]
    );
    assert_eq!(case.calls(Input::Replied(Ok(Reply::Notified))), []);
    assert_eq!(case.calls(Input::Commit(20)), [], "nothing new that did not come from the peer");
}

#[test]
fn a_notify_goes_before_a_pull_and_while_a_batch_is_stored() {
    let mut case = Case::quiet();
    case.step(Input::Notified { latest: 6, pushed: None });
    case.step(Input::Commit(10));
    case.step(Input::Notified { latest: 7, pushed: None });
    let actions = case.step(pulled("log", &[6], 6, false));
    assert!(
        matches!(&actions[..], [Action::Apply { .. }, Action::Send { call: Call::Notify { latest: 10, .. }, .. }]),
        "{actions:?}"
    );
    assert_eq!(case.step(stored(1)), [], "one request in flight");
    assert_eq!(case.calls(Input::Replied(Ok(Reply::Notified))), [pull(6, "log")]);
}

#[test]
fn events_that_the_peer_has_read_are_not_announced() {
    let mut case = Case::quiet();
    case.step(Input::Notified { latest: 6, pushed: None });
    case.step(Input::Commit(10));
    case.step(Input::Acknowledged(10));
    assert_eq!(case.calls(nothing("log")), []);
    assert_eq!(case.machine.status().exchange.read_by_them, Some(10));
}
