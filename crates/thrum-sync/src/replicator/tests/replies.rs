//! Invalid and surprising replies.

use super::*;

/// C20, C19: any invalid reply closes the connection, is reported, moves nothing, and waits.
#[test]
fn invalid_replies_are_reported_and_leave_the_checkpoint() {
    let many: Vec<i64> = (6..2000).collect();
    let nonsense = [
        (pulled("log", &[6, 6], 6, false), "it sent sequence 6 after 6"),
        (pulled("log", &[7, 6], 7, false), "it sent sequence 6 after 7"),
        (pulled("log", &[5], 5, false), "it sent sequence 5 after 5"),
        (pulled("log", &[-1], 9, false), "it sent sequence -1 after 5"),
        (pulled("log", &[6], 4, false), "checkpoint regression: peer sent next_seq=4 but current is 5"),
        (pulled("log", &[6], -3, true), "checkpoint regression: peer sent next_seq=-3 but current is 5"),
        (pulled("log", &[6], 5, true), "it sent events up to 6 and says to go on after 5 again"),
        (pulled("log", &[], 0, true), "it says that there is more and sends nothing"),
        (pulled("log", &many, 1999, false), "it sent 1994 events, and was asked for 1000 at most"),
        (pulled("", &[6], 6, false), "a pull without log_id from a peer that has one"),
        (Input::Replied(Ok(Reply::Notified)), "a reply to another method"),
        (
            Input::Replied(Err(BadReply::WrongId { got: "7".into(), asked: 2 })),
            "it answered request 7 where 2 was asked",
        ),
        (Input::Replied(Err(BadReply::Error(RpcError::plain("store on fire")))), "it answered: store on fire"),
        (disconnected(), "the connection was closed in the middle of a line"),
    ];
    for (input, expected) in nonsense {
        let (mut case, _) = Case::met(Some(("log", 5)), "log", 9);
        assert_eq!(case.step(input), [Action::Close], "{expected}");
        assert_eq!(case.error(), expected);
        let status = case.machine.status();
        assert_eq!(
            (status.state, status.checkpoint.clone()),
            (State::Unreachable, Some(("log".into(), 5))),
            "{expected}"
        );
        assert!(
            status.exchange.next_attempt > Some(Timestamp::ZERO)
                && case.machine.wait_until() >= limits::BACKOFF_FIRST / 2,
            "{expected}"
        );
    }
}

/// A peer that we cannot reach would lend a connection, which causes an attempt regardless of backoff.
#[test]
fn a_peer_that_answers_with_something_invalid_is_reached_and_needs_not_lend_a_connection() {
    for (input, is_reached) in [
        (pulled("log", &[7, 6], 7, false), true),
        (Input::Replied(Ok(Reply::Notified)), true),
        (Input::Replied(Err(BadReply::Error(RpcError::plain("store on fire")))), true),
        (disconnected(), false),
    ] {
        let (mut case, _) = Case::met(Some(("log", 5)), "log", 9);
        assert_eq!(case.machine.is_reached(), Some(true));
        case.step(input);
        assert_eq!((case.machine.status().state, case.machine.is_reached()), (State::Unreachable, Some(is_reached)));
        case.attempts(seconds(60));
        assert_eq!(case.machine.is_reached(), Some(false), "it could not be dialled since");
    }
    let (mut case, _) = Case::met(Some(("log", 5)), "log", 9);
    case.wake();
    assert_eq!((case.machine.is_reached(), case.error()), (Some(false), "no answer within 30s"));
}

/// Backoff must grow even though every connect succeeds.
#[test]
fn repeated_invalid_replies_increase_the_backoff() {
    let (mut case, _) = Case::met(Some(("log", 5)), "log", 9);
    let mut waits = Vec::new();
    for _ in 0..12 {
        case.step(pulled("log", &[], 0, true));
        case.step(Input::Authenticated);
        waits.push(case.machine.wait_until() - case.tick);
        assert_eq!(case.wake(), [Action::Dial]);
        case.step(Input::Connected);
        case.step(info(Some("log"), 9));
    }
    assert!(waits.is_sorted(), "{waits:?}");
    assert_eq!((waits[0], waits[11]), (limits::BACKOFF_FIRST / 2, limits::BACKOFF_LAST / 2));
}

#[test]
fn a_log_that_went_back_without_a_new_id_is_shown() {
    let mut case = Case::new(Some(("log", 500)));
    case.step(Input::Timer);
    case.step(Input::Connected);
    assert_eq!(case.step(info(Some("log"), 499)), [Action::Close]);
    assert!(case.error().starts_with("checkpoint regression: its log ends at 499"), "{}", case.error());
}

/// A clock that is a day off (C22 in docs/security.md).
#[test]
fn a_clock_that_is_off_is_measured_from_the_middle_of_the_request() {
    let mut case = Case::new(None);
    case.step(Input::Timer);
    case.step(Input::Connected);
    case.tick = seconds(2);
    let day_ahead = Timestamp::ZERO.plus(seconds(24 * 3600 + 1));
    let info = Info { daemon_id: "d_peer".into(), log: Some("log".into()), time: Some(day_ahead), ..Info::default() };
    case.step(Input::Replied(Ok(Reply::Info(Box::new(info)))));
    assert_eq!(case.machine.status().exchange.clock_offset_ms, Some(24 * 3600 * 1000));
}

#[test]
fn another_daemon_at_the_address_is_not_read() {
    let mut case = Case::new(None);
    case.step(Input::Timer);
    case.step(Input::Connected);
    let other = Info { daemon_id: "d_other".into(), ..Info::default() };
    assert_eq!(case.step(Input::Replied(Ok(Reply::Info(Box::new(other))))), [Action::Close]);
    assert_eq!(case.error(), "another daemon answers there: d_other");
}

#[test]
fn a_comparison_asks_afresh_with_the_digest() {
    let mut case = Case::quiet();
    assert_eq!(case.calls(Input::Compare(9)), [Call::PeerInfo { digest: true }]);
    case.step(info(Some("log"), 5));
    assert_eq!(case.machine.status().compared, 9);
    assert!(case.machine.status().comparable.is_some());
}

#[test]
fn a_peer_that_fails_to_make_its_digest_is_read_all_the_same() {
    let mut case = Case::quiet();
    case.step(Input::Compare(9));
    assert_eq!(case.wake(), [Action::Close], "no answer in time");
    assert_eq!(case.wake(), [Action::Dial]);
    assert_eq!(case.calls(Input::Connected), [Call::PeerInfo { digest: false }]);
    assert_eq!(case.calls(info(Some("log"), 5)), [pull(5, "log")]);
    assert_eq!(case.machine.status().compared, 0);
}
