//! Throttling a peer that wastes resources.

use super::*;

/// Runs the machine, whose first pull is in flight, for a minute of virtual time. Returns the number of its requests.
/// The peer replies at once, and its events are stored with the result `applied`.
fn asked_within_a_minute(case: &mut Case, reply: impl FnMut(&Pull) -> Input, applied: Applied) -> usize {
    let first =
        Pull { after: 5, max_batch: limits::MAX_BATCH_EVENTS, log: Some("log".into()), stored: None, references: None };
    asked_from(case, first, reply, applied)
}

fn asked_from(case: &mut Case, first: Pull, mut reply: impl FnMut(&Pull) -> Input, applied: Applied) -> usize {
    let end = case.tick + seconds(60);
    let (mut asked, mut actions) = (1, case.step(reply(&first)));
    loop {
        let mut next = None;
        for action in actions {
            match action {
                Action::Send { call: Call::Pull(pull), .. } => {
                    asked += 1;
                    next = Some(reply(&pull));
                }
                Action::Send { call, .. } => panic!("{call:?}"),
                Action::Apply { .. } => next = Some(Input::Applied(applied)),
                _ => {}
            }
        }
        assert!(asked < 100_000, "without end");
        actions = match next {
            Some(input) => {
                // A fast network, with a round trip of a tenth of a millisecond.
                case.tick += Duration::from_micros(50);
                case.step(input)
            }
            None if case.machine.wait_until() >= end => return asked,
            None => case.wake(),
        };
    }
}

fn one_more(pull: &Pull) -> Input {
    let next = i64::try_from(pull.after + 1).unwrap();
    pulled("log", &[next], next, true)
}

/// C20: endless progress by one event at a time remains possible, but slow.
#[test]
fn a_peer_that_serves_tiny_batches_is_throttled() {
    let (mut case, _) = Case::met(Some(("log", 5)), "log", 8);
    let asked = asked_within_a_minute(&mut case, one_more, Applied { applied: 1, ..Applied::default() });
    assert!((600..=700).contains(&asked), "{asked}");
    assert_eq!(case.error(), "it sends much smaller batches than it could");
}

/// With a smaller maximum of events per pull, full batches of small events are no waste.
#[test]
fn full_batches_are_never_small_whatever_their_maximum_is() {
    const MOST: usize = 100;
    let mut case = Case::new(Some(("log", 5)));
    case.machine = case.machine.with_most_per_pull(MOST);
    case.step(Input::Timer);
    case.step(Input::Connected);
    let mut calls = case.calls(info(Some("log"), 100_000));
    for _ in 0..2 * limits::SMALL_BATCHES_IN_A_ROW {
        let [Call::Pull(pull)] = &calls[..] else { panic!("{calls:?}") };
        assert_eq!(pull.max_batch, MOST);
        case.step(full(pull));
        calls = case.calls(stored(MOST));
    }
    // The end of the log does not raise the maximum.
    assert_eq!(case.calls(nothing("log")), []);
    let calls = case.calls(Input::Notified { latest: 200_000, pushed: None });
    let [Call::Pull(pull)] = &calls[..] else { panic!("{calls:?}") };
    case.step(full(pull));
    let calls = case.calls(stored(MOST));
    assert!(matches!(&calls[..], [Call::Pull(Pull { max_batch: MOST, .. })]), "{calls:?}");
    assert_eq!(case.error(), "");
}

/// C21: a peer's rejected events are read at most once per second.
#[test]
fn a_peer_that_serves_nothing_but_forged_events_is_read_once_a_second() {
    let (mut case, _) = Case::met(Some(("log", 5)), "log", 8);
    let asked = asked_within_a_minute(&mut case, one_more, Applied { rejected: 1, ..Applied::default() });
    assert!((55..=61).contains(&asked), "{asked}");
    assert_eq!(case.error(), "most of what it sends must be rejected");
}

/// C21: one good event among a thousand changes nothing, and neither does one that is held with different content.
#[test]
fn a_good_event_among_the_forged_ones_does_not_make_them_cheap() {
    for bad in
        [Applied { rejected: 999, ..Applied::default() }, Applied { skipped: 999, collided: 999, ..Applied::default() }]
    {
        let (mut case, _) = Case::met(Some(("log", 5)), "log", 8);
        let asked = asked_within_a_minute(&mut case, full, Applied { applied: 1, ..bad });
        assert!((55..=61).contains(&asked), "{asked}");
        assert_eq!(case.error(), "most of what it sends must be rejected");
    }
}

/// Returns a full batch of events.
fn full(pull: &Pull) -> Input {
    let first = i64::try_from(pull.after + 1).unwrap();
    let sequences: Vec<i64> = (first..first + i64::try_from(pull.max_batch).unwrap()).collect();
    pulled(pull.log.as_deref().unwrap_or_default(), &sequences, sequences[sequences.len() - 1], true)
}

/// C20: a log that is read anew is not throttled; one that repeats forever is.
#[test]
fn a_peer_that_repeats_known_events_is_throttled() {
    let (mut case, _) = Case::met(Some(("log", 5)), "log", 8);
    let again = Applied { skipped: 1000, ..Applied::default() };
    let asked = asked_within_a_minute(&mut case, full, again);
    assert!((2_000..=2_070).contains(&asked), "{asked}");
    assert_eq!(case.error(), "it sends again and again what is here already");
    // A single new event among them changes nothing.
    let end = pull_after(&case);
    let asked = asked_from(&mut case, end, full, Applied { applied: 1, skipped: 999, ..Applied::default() });
    assert!((55..=70).contains(&asked), "{asked}");
}

fn pull_after(case: &Case) -> Pull {
    let (log, after) = case.machine.status().checkpoint.clone().unwrap();
    Pull { after, max_batch: limits::MAX_BATCH_EVENTS, log: Some(log), stored: None, references: None }
}

/// C20: a peer whose replies are too long gets smaller requests, but not more of them.
#[test]
fn oversized_answers_do_not_reset_the_throttle() {
    let (mut case, _) = Case::met(Some(("log", 5)), "log", 8);
    let mut first = None;
    for _ in 0..9 {
        case.step(Input::TooLong);
        case.step(Input::Connected);
        let calls = case.calls(info(Some("log"), 8));
        let [Call::Pull(pull)] = &calls[..] else { panic!("{calls:?}") };
        first = Some(pull.clone());
    }
    let first = first.unwrap();
    assert_eq!(first.max_batch, 1);
    let asked = asked_from(&mut case, first, one_more, Applied { applied: 1, ..Applied::default() });
    assert!((600..=700).contains(&asked), "{asked}");
}

/// C20, C25: a legacy peer is not read faster.
#[test]
fn a_legacy_peer_that_serves_tiny_batches_is_throttled() {
    let mut case = Case::new(None);
    case.step(Input::Timer);
    case.step(Input::Connected);
    let calls = case.calls(info(None, 0));
    let [Call::Pull(first)] = &calls[..] else { panic!("{calls:?}") };
    let next = |pull: &Pull| old(&[i64::try_from(pull.after + 1).unwrap()], true);
    let asked = asked_from(&mut case, first.clone(), next, Applied { applied: 1, ..Applied::default() });
    assert!((600..=700).contains(&asked), "{asked}");
}

/// C30: a peer must not cause scans of the whole log all the time. A first reading of a log with many purges is not
/// throttled.
#[test]
fn a_peer_that_purges_without_end_is_read_slowly_after_some() {
    let (mut case, _) = Case::met(Some(("log", 5)), "log", 8);
    let purge = Applied { applied: 1, purged: true, ..Applied::default() };
    let asked = asked_within_a_minute(&mut case, one_more, purge);
    assert!((20..=22).contains(&asked), "{asked}");
    assert!(case.error().starts_with("it sends one purge after the other"), "{}", case.error());
}

/// C23: a thousand notifies per second without new events.
#[test]
fn a_peer_that_announces_nothing_without_end_is_asked_slowly() {
    let mut case = Case::quiet();
    let (mut asked, end) = (0, case.tick + seconds(10));
    while case.tick < end {
        case.tick += Duration::from_millis(1);
        let mut calls = case.calls(Input::Notified { latest: 1_000_000, pushed: None });
        calls.extend(case.calls(Input::Timer));
        for call in calls {
            assert!(matches!(call, Call::Pull(_)), "{call:?}");
            asked += 1;
            assert_eq!(case.calls(nothing("log")), []);
        }
    }
    assert!((100..=130).contains(&asked), "{asked}");
    assert_eq!(case.error(), "it announces again and again what it does not have");
}

/// Announced events that exist are fetched at once, however frequent.
#[test]
fn honest_announcements_are_never_slowed() {
    let mut case = Case::quiet();
    for n in 6..200 {
        case.tick += Duration::from_millis(1);
        assert_eq!(case.calls(Input::Notified { latest: n, pushed: None }), [pull(n - 1, "log")]);
        let at = i64::try_from(n).unwrap();
        case.step(pulled("log", &[at], at, false));
        assert_eq!(case.calls(stored(1)), [pull(n, "log")], "the acknowledgement");
        assert_eq!(case.calls(nothing("log")), []);
    }
}

/// A legacy peer announces each event that it has just read from us. While it catches up, that is not a fault.
#[test]
fn an_old_peer_that_announces_what_it_has_from_us_is_asked_slowly_without_a_complaint() {
    let mut case = Case::new(None);
    case.step(Input::Timer);
    case.step(Input::Connected);
    case.calls(info(None, 0));
    case.step(old(&[], false));
    let (mut asked, end) = (0, case.tick + seconds(10));
    while case.tick < end {
        case.tick += Duration::from_millis(1);
        let mut calls = case.calls(Input::Notified { latest: 1_000_000, pushed: None });
        calls.extend(case.calls(Input::Timer));
        for call in calls {
            assert!(matches!(call, Call::Pull(_)), "{call:?}");
            asked += 1;
            assert_eq!(case.calls(old(&[], false)), []);
        }
        assert_eq!(case.error(), "");
    }
    assert!((100..=130).contains(&asked), "{asked}");
}
