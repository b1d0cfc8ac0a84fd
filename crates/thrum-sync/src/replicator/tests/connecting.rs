//! Dials, deadlines and backoff.

use super::*;

#[test]
fn an_unreachable_peer_is_probed_with_backoff_one_dial_at_a_time() {
    let mut case = Case::new(None);
    let attempts = case.attempts(seconds(3600));
    let waits: Vec<_> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(waits[..3], [limits::BACKOFF_FIRST / 2, limits::BACKOFF_FIRST, limits::BACKOFF_FIRST * 2]);
    assert_eq!(waits.last(), Some(&(limits::BACKOFF_LAST / 2)));
    assert!(attempts.len() < 40, "{}", attempts.len());
    assert_eq!(case.machine.status().state, State::Unreachable);
}

#[test]
fn a_call_from_a_peer_overrides_the_backoff() {
    let mut case = Case::new(None);
    case.attempts(seconds(600));
    let last = case.tick;
    case.tick += Duration::from_millis(10);
    assert_eq!(case.step(Input::Authenticated), []);
    assert_eq!(case.machine.wait_until(), last.max(case.machine.attempted.unwrap()) + limits::BACKOFF_FIRST);
    case.tick += seconds(20);
    assert_eq!(case.step(Input::Authenticated), [Action::Dial]);
}

#[test]
fn a_goodbye_is_shown_while_the_peer_is_away_and_changes_no_attempt() {
    let mut case = Case::quiet();
    assert_eq!(case.step(Input::Stopping), []);
    let said = Timestamp::ZERO.plus(case.tick);
    assert_eq!(case.machine.status().shown(), (State::Connected, Timestamp::ZERO), "as long as it answers");
    case.step(disconnected());
    assert_eq!(case.machine.status().shown(), (State::Stopped, said));
    let next = case.machine.wait_until();
    case.tick += Duration::from_millis(10);
    assert_eq!((case.step(Input::Stopping), case.machine.wait_until()), (vec![], next));
    assert!(case.wake().contains(&Action::Dial));
    case.step(Input::ConnectFailed(unreachable("nobody listens")));
    assert_eq!(case.machine.status().shown(), (State::Stopped, said), "the first goodbye counts");
    assert_eq!((case.machine.status().state, case.machine.is_reached()), (State::Unreachable, Some(false)));
    case.step(Input::Authenticated);
    assert_eq!(case.machine.status().shown().0, State::Unreachable, "a call takes it back");
    case.step(Input::Stopping);
    while !case.wake().contains(&Action::Dial) {}
    case.step(Input::Connected);
    case.step(info(Some("log"), 5));
    assert_eq!((case.machine.status().shown().0, case.machine.status().stopped), (State::Connected, None));
}

#[test]
fn only_a_peer_of_ours_that_announces_it_takes_a_goodbye_and_only_while_connected() {
    for (log, protocols, takes) in
        [(Some("log"), vec![GOODBYE], true), (Some("log"), vec![AHEAD], false), (None, vec![GOODBYE], false)]
    {
        let mut case = Case::new(None);
        case.step(Input::Timer);
        case.step(Input::Connected);
        assert!(!case.machine.takes_goodbye());
        let info = Info {
            daemon_id: "d_peer".into(),
            log: log.map(str::to_owned),
            protocols: protocols.into_iter().map(str::to_owned).collect(),
            ..Info::default()
        };
        case.step(Input::Replied(Ok(Reply::Info(Box::new(info)))));
        assert_eq!(case.machine.takes_goodbye(), takes);
        case.step(disconnected());
        assert!(!case.machine.takes_goodbye());
    }
}

#[test]
fn a_network_that_comes_up_is_worth_one_attempt_at_once_and_backoff_goes_on() {
    let mut case = Case::new(None);
    assert_eq!(case.step(Input::Timer), [Action::Dial]);
    for _ in 0..8 {
        case.step(Input::ConnectFailed(unreachable("the tailnet is off")));
        case.tick = case.machine.wait_until();
        case.step(Input::Timer);
    }
    case.step(Input::ConnectFailed(unreachable("the tailnet is off")));
    let far = case.machine.wait_until() - case.tick;
    assert!(far >= seconds(60), "{far:?}");
    assert_eq!(case.step(Input::NetworkUp), [Action::Dial]);
    assert_eq!(case.step(Input::NetworkUp), [], "one at a time");
    case.step(Input::ConnectFailed(unreachable("not yet")));
    assert!(case.machine.wait_until() - case.tick >= far, "as before");
}

#[test]
fn a_new_peer_calls_first_or_is_dialled_after_one_second() {
    let mut case = Case::new(None);
    case.machine.wait_for_call(Now::default());
    assert_eq!(case.step(Input::Commit(3)), []);
    assert_eq!(case.step(Input::Authenticated), [Action::Dial]);
    let mut case = Case::new(None);
    case.machine.wait_for_call(Now::default());
    assert_eq!((case.wake(), case.tick), (vec![Action::Dial], limits::BACKOFF_FIRST));
}

#[test]
fn success_resets_backoff_and_the_error() {
    let mut case = Case::new(None);
    case.attempts(seconds(600));
    while !case.wake().contains(&Action::Dial) {}
    case.step(Input::Connected);
    case.step(info(Some("log"), 0));
    assert_ne!(case.error(), "", "connecting alone is not success");
    case.step(nothing("log"));
    assert_eq!((case.error(), case.machine.status().state), ("", State::Connected));
    case.step(Input::Disconnected(PeerError::Lost(NoLine::Closed)));
    assert!(case.machine.wait_until() - case.tick <= limits::BACKOFF_FIRST);
    assert_eq!(case.machine.status().state, State::Connecting);
}

#[test]
fn a_peer_that_removed_us_is_asked_once_per_five_minutes() {
    let mut case = Case::new(None);
    case.step(Input::Timer);
    case.step(Input::Connected);
    let refused = || Input::Replied(Err(BadReply::Error(RpcError::unauthorized())));
    assert_eq!(case.step(refused()), [Action::NoteRemoved, Action::Close]);
    assert_eq!(case.machine.status().state, State::RemovedUs);
    assert_eq!(case.machine.wait_until(), limits::BACKOFF_LAST);
    case.wake();
    case.step(Input::Connected);
    case.step(refused());
    assert_eq!(case.machine.wait_until(), limits::BACKOFF_LAST * 2);
}

#[test]
fn every_request_and_dial_has_its_deadline() {
    let mut case = Case::new(Some(("log", 5)));
    case.step(Input::Timer);
    assert_eq!(case.wake(), [Action::Close]);
    assert_eq!((case.tick, case.error()), (limits::MEET, "no connection within 15s"));
    case.wake();
    case.step(Input::Connected);
    let start = case.tick;
    assert_eq!(case.wake(), [Action::Close]);
    assert_eq!((case.tick - start, case.error()), (limits::PEER_INFO, "no answer within 10s"));
    let (mut case, _) = Case::met(None, "log", 5);
    assert_eq!(case.wake(), [Action::Close]);
    assert_eq!((case.tick, case.error()), (limits::PULL, "no answer within 30s"));
    let mut case = Case::quiet();
    case.step(Input::Commit(1));
    assert_eq!(case.wake(), [Action::Close]);
    assert_eq!(case.tick, limits::NOTIFY);
}

#[test]
fn news_of_a_connection_that_was_given_up_changes_nothing() {
    let (mut case, _) = Case::met(None, "log", 5);
    case.wake();
    let before = case.machine.status().clone();
    let late = [
        Input::Connected,
        Input::Disconnected(PeerError::Closed),
        Input::ConnectFailed(unreachable("late")),
        nothing("log"),
        stored(1),
    ];
    for input in late {
        assert_eq!(case.step(input), []);
    }
    assert_eq!(*case.machine.status(), before);
}
