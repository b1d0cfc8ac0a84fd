//! Reading a legacy peer, whose log has no id.

use super::*;

#[test]
fn an_old_peer_is_read_without_log_and_gets_no_acknowledgement() {
    let mut case = Case::new(Some(("", 2)));
    case.step(Input::Timer);
    case.step(Input::Connected);
    assert_eq!(case.calls(info(None, 0)), [pull(1, "")], "with the event at the checkpoint");
    let actions = case.step(old(&[2, 3, 4], true));
    assert!(matches!(&actions[..], [Action::Apply { log, checkpoint: 2, .. }] if log.is_empty()), "{actions:?}");
    assert_eq!(case.calls(stored(2)), [pull(4, "")], "it said that there is more");
    case.step(old(&[5], false));
    assert_eq!(case.calls(stored(1)), []);
    let status = case.machine.status();
    assert_eq!((status.ends, status.legacy, status.checkpoint.clone()), (1, Some(true), Some((String::new(), 5))));
}

#[test]
fn an_old_peer_whose_log_was_rebuilt_is_read_from_its_start() {
    let mut case = Case::new(Some(("", 500)));
    case.step(Input::Timer);
    case.step(Input::Connected);
    assert_eq!(case.calls(info(None, 0)), [pull(499, "")]);
    assert_eq!(case.calls(nothing("")), [pull(0, "")]);
    case.step(old(&[1, 2], false));
    assert_eq!(case.calls(stored(2)), []);
    let status = case.machine.status();
    assert_eq!((status.checkpoint.clone(), status.backlog(), status.ends), (Some((String::new(), 2)), Some(0), 1));
}

#[test]
fn a_quiet_old_peer_costs_one_empty_pull_per_round_once_two_minutes_are_over() {
    let mut case = Case::new(Some(("", 5)));
    case.step(Input::Timer);
    case.step(Input::Connected);
    case.step(info(None, 0));
    case.step(old(&[5, 6], false));
    case.step(stored(1));
    let mut asked = Vec::new();
    while case.tick < seconds(200) {
        for action in case.wake() {
            let Action::Send { call: Call::Pull(pull), .. } = action else { panic!("{action:?}") };
            asked.push(pull.after);
            let answer: &[i64] = if pull.after == 4 { &[5, 6] } else { &[] };
            let kept = case.step(old(answer, false));
            if !kept.is_empty() {
                assert!(matches!(&kept[..], [Action::Apply { checkpoint: 5 | 6, .. }]), "{kept:?}");
                assert_eq!(case.step(stored(0)), []);
            }
        }
    }
    assert_eq!(
        asked,
        [[4; 7].as_slice(), &[6; 7]].concat(),
        "once per sync interval, and the new events for two minutes"
    );
}

#[test]
fn an_old_peer_hears_of_the_first_commit_at_once_and_of_the_rest_of_100_ms_together() {
    let mut case = Case::new(None);
    case.step(Input::Timer);
    case.step(Input::Connected);
    case.step(info(None, 0));
    case.step(nothing(""));
    assert_eq!(case.calls(Input::Commit(1)).len(), 1);
    case.step(Input::Replied(Ok(Reply::Notified)));
    assert_eq!(case.calls(Input::Commit(2)), []);
    assert_eq!(case.calls(Input::Commit(3)), []);
    assert!(matches!(&case.wake()[..], [Action::Send { call: Call::Notify { latest: 3, count: 2, .. }, .. }]));
    assert_eq!(case.tick, limits::LEGACY_NOTIFY_GAP);
}

/// C29: the newest events of a legacy peer are read repeatedly. The rejection of such an event is not a current error.
#[test]
fn an_old_peer_whose_newest_event_is_rejected_is_fully_read_all_the_same() {
    let mut case = Case::new(None);
    case.step(Input::Timer);
    case.step(Input::Connected);
    assert!(matches!(&case.calls(info(None, 0))[..], [Call::Pull(_)]));
    case.step(old(&[1], false));
    assert_eq!(case.step(Input::Applied(Applied { rejected: 1, ..Applied::default() })), []);
    let status = case.machine.status();
    assert_eq!((status.ends, status.exchange.last_error.as_deref()), (1, None));
}
