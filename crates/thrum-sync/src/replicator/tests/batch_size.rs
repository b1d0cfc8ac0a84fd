//! The number of events per pull.

use super::*;

#[test]
fn a_reply_longer_than_a_line_is_asked_for_in_halves() {
    let (mut case, first) = Case::met(None, "log", 5);
    let mut asked = vec![first.max_batch];
    for _ in 0..9 {
        assert_eq!(case.step(Input::TooLong), [Action::Close, Action::Dial]);
        case.step(Input::Connected);
        let calls = case.calls(info(Some("log"), 5));
        let [Call::Pull(pull)] = &calls[..] else { panic!("{calls:?}") };
        asked.push(pull.max_batch);
    }
    assert_eq!(asked, [1000, 500, 250, 125, 62, 31, 15, 7, 3, 1]);
    assert_eq!(case.step(Input::TooLong), [Action::Close]);
    assert!(case.error().contains("more than 16777216 bytes"), "{}", case.error());
}

/// Connects again after any wait. Returns the size of the first pull.
fn asks_again(case: &mut Case) -> usize {
    while !case.wake().contains(&Action::Dial) {}
    case.step(Input::Connected);
    asked(&case.calls(info(Some("log"), 99_999)))
}

fn asked(calls: &[Call]) -> usize {
    let [Call::Pull(pull)] = calls else { panic!("{calls:?}") };
    pull.max_batch
}

#[test]
fn a_pull_that_a_line_does_not_carry_in_time_is_asked_for_in_halves_until_it_does() {
    for cut in [true, false] {
        let (mut case, first) = Case::met(None, "log", 99_999);
        let mut sizes = vec![first.max_batch];
        for _ in 0..11 {
            if cut {
                case.tick += limits::PULL / 2;
                case.step(disconnected());
            } else {
                assert_eq!(case.wake(), [Action::Close]);
            }
            sizes.push(asks_again(&mut case));
        }
        assert_eq!(sizes, [1000, 500, 250, 125, 62, 31, 15, 7, 3, 1, 1, 1], "cut: {cut}");
        // C17: no smaller request exists, so a single event may take long; the connection checks its progress.
        assert_eq!(case.machine.wait_until() - case.tick, limits::SLOW_PULL);
    }
}

#[test]
fn batch_size_grows_only_after_quick_replies() {
    let (mut case, _) = Case::met(None, "log", 99_999);
    for _ in 0..4 {
        case.wake();
        asks_again(&mut case);
    }
    let mut sequence = 0;
    let mut goes_on = |case: &mut Case, took: Duration| {
        sequence += 1;
        case.tick += took;
        case.step(pulled("log", &[sequence], sequence, true));
        asked(&case.calls(stored(1)))
    };
    assert_eq!(goes_on(&mut case, limits::PULL / 2), 62, "twice as much would hardly come in time");
    let sizes: Vec<_> = (0..6).map(|_| goes_on(&mut case, seconds(1))).collect();
    assert_eq!(sizes, [124, 248, 496, 992, 1000, 1000]);
}

#[test]
fn a_line_that_breaks_again_and_again_does_not_make_the_waits_grow_while_it_brings_news() {
    let (mut case, _) = Case::met(None, "log", 99_999);
    for sequence in 1..20 {
        case.step(pulled("log", &[sequence], sequence, true));
        case.step(stored(1));
        case.step(disconnected());
        assert!(case.machine.wait_until() - case.tick <= limits::BACKOFF_FIRST, "{sequence}");
        asks_again(&mut case);
    }
}

#[test]
fn an_oversized_batch_size_is_not_requested_again_before_the_end() {
    let (mut case, _) = Case::met(None, "log", 5);
    case.step(Input::TooLong);
    case.step(Input::Connected);
    assert_eq!(asked(&case.calls(info(Some("log"), 5))), 500);
    case.step(pulled("log", &[1], 1, true));
    assert_eq!(asked(&case.calls(stored(1))), 500, "however quickly it came");
    case.step(nothing("log"));
    assert_eq!(
        asked(&case.calls(Input::Notified { latest: 6, pushed: None })),
        500,
        "a quick end says little about the line"
    );
    case.step(pulled("log", &[2], 2, true));
    assert_eq!(asked(&case.calls(stored(1))), 1000);
}
