//! When a peer is pulled, and what is stored before the next pull.

use super::*;

#[test]
fn pulled_events_are_stored_before_the_next_pull_acknowledges_them() {
    let (mut case, first) = Case::met(Some(("log", 5)), "log", 8);
    assert_eq!(first.after, 5);
    let actions = case.step(pulled("log", &[6, 8], 8, false));
    assert!(
        matches!(&actions[..], [Action::Apply { log, checkpoint: 8, events, .. }] if log == "log" && events.len() == 2),
        "{actions:?}"
    );
    assert_eq!(case.machine.status().checkpoint, Some(("log".into(), 5)), "not before it is durable");
    assert_eq!(case.calls(stored(2)), [pull(8, "log")]);
    assert_eq!(case.calls(nothing("log")), []);
    let status = case.machine.status();
    assert_eq!((status.checkpoint.clone(), status.ends, status.applied), (Some(("log".into(), 8)), 1, 2));
    assert_eq!((status.state, status.backlog()), (State::Connected, Some(0)));
}

#[test]
fn a_new_log_id_is_read_from_the_start() {
    let (_, first) = Case::met(Some(("old", 500)), "new", 3);
    assert_eq!((first.after, first.log.as_deref()), (0, Some("new")));
    // The log changes between peer_info and the pull; the peer serves the new log from its start.
    let (mut case, _) = Case::met(Some(("log", 5)), "log", 5);
    let actions = case.step(pulled("other", &[1, 2], 2, false));
    assert!(matches!(&actions[..], [Action::Apply { log, checkpoint: 2, .. }] if log == "other"), "{actions:?}");
    assert_eq!(case.calls(stored(2)), [pull(2, "other")]);
    assert_eq!(case.calls(nothing("other")), []);
}

#[test]
fn a_quiet_peer_gets_one_empty_pull_per_sync_interval() {
    let mut case = Case::quiet();
    let mut pulls = Vec::new();
    for _ in 0..10 {
        for action in case.wake() {
            assert!(matches!(action, Action::Send { call: Call::Pull(_), .. }), "{action:?}");
            pulls.push(case.tick);
            case.step(nothing("log"));
        }
    }
    assert_eq!(pulls, (1..=10).map(|n| limits::SYNC_INTERVAL * n).collect::<Vec<_>>());
}

#[test]
fn the_configured_sync_interval_is_kept_even_if_short() {
    for (interval, length) in [(seconds(5), seconds(5)), (seconds(600), seconds(600))] {
        let mut case = Case::quiet();
        let start = case.tick;
        case.machine = case.machine.with_sync_interval(interval, Now { tick: start, at: Timestamp::ZERO });
        for n in 1..=4 {
            assert!(matches!(case.wake()[..], [Action::Send { call: Call::Pull(_), .. }]), "pull {n} of {interval:?}");
            assert_eq!(case.tick, start + length * n);
            case.step(nothing("log"));
        }
    }
}

#[test]
fn a_recently_pulled_peer_is_skipped_in_the_periodic_pull() {
    let mut case = Case::quiet();
    case.tick = seconds(6);
    assert_eq!(case.calls(Input::Notified { latest: 6, pushed: None }), [pull(5, "log")]);
    case.step(nothing("log"));
    assert_eq!(case.wake(), [], "at 15 s, nine seconds later");
    assert_eq!(case.tick, seconds(15));
    assert_eq!(case.wake().len(), 1, "and asked one sync interval later");
    assert_eq!(case.tick, seconds(30));
}

/// A thousand announcements at once (C23 in docs/security.md).
#[test]
fn a_thousand_notifies_during_a_pull_are_one_more_pull() {
    let mut case = Case::quiet();
    assert_eq!(case.calls(Input::Notified { latest: 6, pushed: None }), [pull(5, "log")]);
    for latest in 0..1000 {
        assert_eq!(case.step(Input::Notified { latest, pushed: None }), []);
    }
    assert_eq!(case.calls(nothing("log")), [pull(5, "log")], "the trailing one");
    assert_eq!(case.calls(nothing("log")), [], "a sequence that never appears is asked for once");
}

#[test]
fn a_checkpoint_never_passes_what_was_served() {
    let (mut case, _) = Case::met(Some(("log", 5)), "log", 9);
    let actions = case.step(pulled("log", &[6, 7], 1_000_000, false));
    assert!(matches!(&actions[..], [Action::Apply { checkpoint: 7, .. }]), "{actions:?}");
}

#[test]
fn a_disk_that_fails_moves_nothing_and_is_tried_again_on_the_same_connection() {
    let (mut case, _) = Case::met(Some(("log", 5)), "log", 6);
    case.step(pulled("log", &[6], 6, false));
    assert_eq!(case.step(Input::ApplyFailed(Error::new(ErrorKind::Failed, "disk full"))), []);
    let status = case.machine.status();
    assert_eq!((status.checkpoint.clone(), status.state), (Some(("log".into(), 5)), State::Connected));
    assert_eq!(case.error(), "cannot store what it sent: disk full");
    let start = case.tick;
    assert!(matches!(&case.wake()[..], [Action::Send { call, .. }] if *call == pull(5, "log")));
    assert_eq!(case.tick - start, limits::BACKOFF_FIRST / 2);
    case.step(pulled("log", &[6], 6, false));
    case.step(stored(1));
    case.step(nothing("log"));
    assert_eq!(case.error(), "");
}

#[test]
fn force_overrides_backoff_and_ends_with_the_pull_or_the_failure() {
    let mut case = Case::new(None);
    case.attempts(seconds(600));
    assert_eq!(case.step(Input::Force(3)), [Action::Dial]);
    case.step(Input::ConnectFailed(unreachable("nobody listens")));
    assert_eq!(case.machine.status().forced, 3);
    let mut case = Case::quiet();
    case.step(Input::Notified { latest: 6, pushed: None });
    case.step(Input::Force(4));
    case.step(nothing("log"));
    assert_eq!(case.machine.status().forced, 0, "that pull began before");
    case.step(nothing("log"));
    assert_eq!(case.machine.status().forced, 4);
}

#[test]
fn a_peer_over_its_quota_is_pulled_no_further_and_read_on_from_there_once_it_is_within() {
    use thrum_core::quota::{Measure, OverQuota};
    let over = OverQuota { measure: Measure::Agents, kept: 1001, allowed: 1000 };
    let (mut case, _) = Case::met(Some(("log", 5)), "log", 9);
    assert!(matches!(&case.step(pulled("log", &[6, 7], 7, true))[..], [Action::Apply { .. }]));
    assert_eq!(case.calls(Input::Quota(Some(over))), []);
    assert_eq!(case.calls(stored(2)), [], "the batch is kept, and no other is asked for");
    assert_eq!(
        (case.machine.status().shown().0, case.error().starts_with("over quota: 1001 agents")),
        (State::OverQuota, true)
    );
    assert_eq!(case.machine.status().state, State::Connected, "it still reads what we send");
    assert_eq!(case.machine.status().checkpoint, Some(("log".to_owned(), 7)));
    for input in [Input::Notified { latest: 12, pushed: None }, Input::Timer, Input::Authenticated] {
        assert_eq!(case.calls(input), []);
    }
    assert!(case.machine.wait_until() > case.tick, "nothing keeps it awake");
    case.step(Input::Force(3));
    assert_eq!(
        (case.machine.status().forced, case.machine.status().failures),
        (3, 1),
        "who asks for a pull hears at once"
    );
    // Our own commits are still announced.
    assert!(matches!(case.calls(Input::Commit(20))[..], [Call::Notify { latest: 20, .. }]));
    case.step(Input::Replied(Ok(Reply::Notified)));
    assert_eq!(case.calls(Input::Quota(None)), [pull(7, "log")]);
    assert_eq!(case.machine.status().shown().0, State::Connected);
}

/// A pull behind batches that are being stored.
fn pull_ahead(after: u64, stored: u64) -> Call {
    Call::Pull(Pull {
        after,
        max_batch: limits::MAX_BATCH_EVENTS,
        log: Some("log".into()),
        stored: Some(stored),
        references: None,
    })
}

#[test]
fn the_next_batch_is_read_while_one_is_stored_and_only_what_is_stored_is_acknowledged() {
    let mut case = Case::met_with(AHEAD, 12);
    let actions = case.step(pulled("log", &[6, 7], 7, true));
    assert!(
        matches!(&actions[..], [Action::Apply { checkpoint: 7, .. }, Action::Send { call, .. }] if *call == pull_ahead(7, 5)),
        "{actions:?}"
    );
    let actions = case.step(pulled("log", &[8, 9], 9, true));
    assert!(matches!(&actions[..], [Action::Apply { checkpoint: 9, .. }]), "two at most: {actions:?}");
    assert_eq!(case.calls(stored(2)), [pull_ahead(9, 7)]);
    assert_eq!(case.calls(stored(2)), [], "the request is in flight");
    let actions = case.step(pulled("log", &[10, 12], 12, false));
    assert!(matches!(&actions[..], [Action::Apply { checkpoint: 12, .. }]), "nothing follows: {actions:?}");
    assert_eq!(case.machine.status().checkpoint, Some(("log".into(), 9)));
    assert_eq!(case.calls(stored(2)), [pull(12, "log")]);
    assert_eq!(case.calls(nothing("log")), []);
    assert_eq!((case.machine.status().ends, case.machine.status().applied), (1, 6));
}

#[test]
fn what_was_read_ahead_of_a_batch_that_is_not_stored_is_read_again() {
    for is_replied in [false, true] {
        let mut case = Case::met_with(AHEAD, 12);
        case.step(pulled("log", &[6, 7], 7, true));
        if is_replied {
            case.step(pulled("log", &[8, 9], 9, true));
        }
        assert_eq!(case.step(Input::ApplyFailed(Error::new(ErrorKind::Failed, "disk full"))), []);
        if is_replied {
            assert_eq!(case.step(Input::NotApplied), []);
        } else {
            assert_eq!(case.step(pulled("log", &[8, 9], 9, true)), [], "it does not follow what is stored");
        }
        assert_eq!(case.machine.status().checkpoint, Some(("log".into(), 5)));
        assert!(matches!(&case.wake()[..], [Action::Send { call, .. }] if *call == pull(5, "log")), "{is_replied}");
    }
}

#[test]
fn a_peer_that_a_batch_brings_over_its_quota_is_not_read_ahead() {
    use thrum_core::quota::{Measure, OverQuota};
    let over = OverQuota { measure: Measure::Agents, kept: 1001, allowed: 1000 };
    let mut case = Case::met_with(AHEAD, 12);
    case.step(pulled("log", &[6, 7], 7, true));
    assert_eq!(case.step(Input::Quota(Some(over))), []);
    assert_eq!(case.step(stored(2)), []);
    assert_eq!(case.step(pulled("log", &[8, 9], 9, true)), [], "it was requested before");
    assert_eq!(case.calls(Input::Quota(None)), [pull(7, "log")]);
}

#[test]
fn the_end_of_a_log_and_a_new_log_wait_for_the_batch_that_is_stored() {
    for reply in [nothing("log"), pulled("other", &[1, 2], 2, false)] {
        let mut case = Case::met_with(AHEAD, 7);
        case.step(pulled("log", &[6, 7], 7, true));
        assert_eq!(case.step(reply), []);
        assert_eq!(
            (case.machine.status().ends, case.machine.status().checkpoint.clone()),
            (0, Some(("log".into(), 5)))
        );
        assert_eq!(case.calls(stored(2)), [pull(7, "log")]);
    }
}
