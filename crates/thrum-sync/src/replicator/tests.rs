use thrum_core::{ErrorKind, Heads, Timestamp};

use super::*;
use crate::{conn::NoLine, protocol::wire::RpcError};

/// Returns only zeros, so that each wait is its fixed half.
struct Zeros;

impl Ambient for Zeros {
    fn now(&mut self) -> Timestamp {
        Timestamp::ZERO
    }
    fn fill(&mut self, buffer: &mut [u8]) {
        buffer.fill(0);
    }
}

/// A replicator for `d_peer`, with a clock.
struct Case {
    machine: Replicator,
    tick: Duration,
}

impl Case {
    fn new(checkpoint: Option<(&str, u64)>) -> Self {
        let checkpoint = checkpoint.map(|(log, sequence)| Checkpoint {
            log: log.to_owned(),
            sequence,
            event: format!("evt_{sequence}"),
        });
        Self { machine: Replicator::new("d_peer", checkpoint, Now::default()), tick: Duration::ZERO }
    }

    /// Connects to a non-legacy peer whose log is `log`; the first pull is in flight.
    fn met(checkpoint: Option<(&str, u64)>, log: &str, latest: u64) -> (Self, Pull) {
        let mut case = Self::new(checkpoint);
        assert_eq!(case.step(Input::Timer), [Action::Dial]);
        assert_eq!(case.calls(Input::Connected), [Call::PeerInfo { digest: false }]);
        let calls = case.calls(info(Some(log), latest));
        let [Call::Pull(pull)] = &calls[..] else { panic!("{calls:?}") };
        let pull = pull.clone();
        (case, pull)
    }

    /// Connects to a peer and reads everything.
    fn quiet() -> Self {
        let (mut case, _) = Self::met(Some(("log", 5)), "log", 5);
        assert_eq!(case.calls(nothing("log")), []);
        case
    }

    fn step(&mut self, input: Input) -> Vec<Action> {
        let now = Now { tick: self.tick, at: Timestamp::ZERO.plus(self.tick) };
        self.machine.step(input, now, &mut Zeros)
    }

    fn calls(&mut self, input: Input) -> Vec<Call> {
        let is_call = |action| if let Action::Send { call, .. } = action { Some(call) } else { None };
        self.step(input).into_iter().filter_map(is_call).collect()
    }

    /// Advances the time until the machine must be woken. Returns its actions.
    fn wake(&mut self) -> Vec<Action> {
        self.tick = self.machine.wait_until();
        self.step(Input::Timer)
    }

    fn error(&self) -> &str {
        self.machine.status().exchange.last_error.as_deref().unwrap_or_default()
    }

    /// Returns the times of all dials within `within`, each of which fails at once, as offsets from now.
    fn attempts(&mut self, within: Duration) -> Vec<Duration> {
        let start = self.tick;
        let mut attempts = Vec::new();
        while self.machine.wait_until() <= start + within {
            if self.wake().contains(&Action::Dial) {
                attempts.push(self.tick - start);
                self.step(Input::ConnectFailed(unreachable("nobody listens")));
            }
        }
        attempts
    }
}

fn unreachable(message: &str) -> PeerError {
    PeerError::Unreachable(Error::new(ErrorKind::Unavailable, message))
}

const fn disconnected() -> Input {
    Input::Disconnected(PeerError::Lost(NoLine::Cut))
}

fn info(log: Option<&str>, latest: u64) -> Input {
    let info = Info {
        daemon_id: "d_peer".into(),
        log: log.map(str::to_owned),
        latest: log.map(|_| latest),
        heads: log.map(|_| Heads::default()),
        ..Info::default()
    };
    Input::Replied(Ok(Reply::Info(Box::new(info))))
}

fn pulled(log: &str, sequences: &[i64], next: i64, more: bool) -> Input {
    let served =
        |sequence: &i64| Served { sequence: *sequence, envelope: [const { None }; 4], event_json: "{}".into() };
    let log = Some(log.to_owned()).filter(|log| !log.is_empty());
    Input::Replied(Ok(Reply::Pulled(Pulled { events: sequences.iter().map(served).collect(), next, more, log })))
}

/// Builds events of a legacy peer, each with an id.
fn old(sequences: &[i64], more: bool) -> Input {
    let served = |sequence: &i64| Served {
        sequence: *sequence,
        envelope: [Some(format!("evt_{sequence}")), None, None, None],
        event_json: "{}".into(),
    };
    let next = sequences.last().copied().unwrap_or(0);
    Input::Replied(Ok(Reply::Pulled(Pulled { events: sequences.iter().map(served).collect(), next, more, log: None })))
}

fn nothing(log: &str) -> Input {
    pulled(log, &[], 0, false)
}

fn stored(applied: usize) -> Input {
    Input::Applied(Applied { applied, ..Applied::default() })
}

fn pull(after: u64, log: &str) -> Call {
    Call::Pull(Pull {
        after,
        max_batch: limits::MAX_BATCH_EVENTS,
        log: Some(log.to_owned()).filter(|log| !log.is_empty()),
    })
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

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
    // The log changes between peer_info and the pull; the server rewinds on its own.
    let (mut case, _) = Case::met(Some(("log", 5)), "log", 5);
    let actions = case.step(pulled("other", &[1, 2], 2, false));
    assert!(matches!(&actions[..], [Action::Apply { log, checkpoint: 2, .. }] if log == "other"), "{actions:?}");
    assert_eq!(case.calls(stored(2)), [pull(2, "other")]);
    assert_eq!(case.calls(nothing("other")), []);
}

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
    assert_eq!(pulls, (1..=10).map(|n| limits::ROUND * n).collect::<Vec<_>>());
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
    assert_eq!(case.calls(Input::Notified { latest: 6 }), [pull(5, "log")]);
    case.step(nothing("log"));
    assert_eq!(case.wake(), [], "at 15 s, nine seconds later");
    assert_eq!(case.tick, seconds(15));
    assert_eq!(case.wake().len(), 1, "and asked one sync interval later");
    assert_eq!(case.tick, seconds(30));
}

/// C23
#[test]
fn a_thousand_notifies_during_a_pull_are_one_more_pull() {
    let mut case = Case::quiet();
    assert_eq!(case.calls(Input::Notified { latest: 6 }), [pull(5, "log")]);
    for latest in 0..1000 {
        assert_eq!(case.step(Input::Notified { latest }), []);
    }
    assert_eq!(case.calls(nothing("log")), [pull(5, "log")], "the trailing one");
    assert_eq!(case.calls(nothing("log")), [], "a sequence that never appears is asked for once");
}

#[test]
fn commits_are_announced_one_notify_at_a_time_and_the_next_covers_the_rest() {
    let mut case = Case::quiet();
    assert_eq!(case.calls(Input::Commit(10)), [Call::Notify { latest: 10, count: 1 }]);
    for latest in 11..=20 {
        assert_eq!(case.step(Input::Commit(latest)), []);
    }
    assert_eq!(case.calls(Input::Replied(Ok(Reply::Notified))), [Call::Notify { latest: 20, count: 10 }]);
    assert_eq!(case.calls(Input::Replied(Ok(Reply::Notified))), []);
    assert_eq!(case.calls(Input::Commit(20)), [], "nothing new that did not come from the peer");
}

#[test]
fn a_notify_goes_before_a_pull_and_while_a_batch_is_stored() {
    let mut case = Case::quiet();
    case.step(Input::Notified { latest: 6 });
    case.step(Input::Commit(10));
    case.step(Input::Notified { latest: 7 });
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
    case.step(Input::Notified { latest: 6 });
    case.step(Input::Commit(10));
    case.step(Input::Acknowledged(10));
    assert_eq!(case.calls(nothing("log")), []);
    assert_eq!(case.machine.status().exchange.read_by_them, Some(10));
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
    assert!(matches!(&case.wake()[..], [Action::Send { call: Call::Notify { latest: 3, count: 2 }, .. }]));
    assert_eq!(case.tick, limits::LEGACY_NOTIFY_GAP);
}

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

/// A peer that is not reached lends a connection, which causes an attempt regardless of backoff.
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

#[test]
fn a_checkpoint_never_passes_what_was_served() {
    let (mut case, _) = Case::met(Some(("log", 5)), "log", 9);
    let actions = case.step(pulled("log", &[6, 7], 1_000_000, false));
    assert!(matches!(&actions[..], [Action::Apply { checkpoint: 7, .. }]), "{actions:?}");
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

/// C22
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
    assert_eq!(asked(&case.calls(Input::Notified { latest: 6 })), 500, "a quick end says little about the line");
    case.step(pulled("log", &[2], 2, true));
    assert_eq!(asked(&case.calls(stored(1))), 1000);
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
    case.step(Input::Notified { latest: 6 });
    case.step(Input::Force(4));
    case.step(nothing("log"));
    assert_eq!(case.machine.status().forced, 0, "that pull began before");
    case.step(nothing("log"));
    assert_eq!(case.machine.status().forced, 4);
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

/// Runs the machine, whose first pull is in flight, for a minute of virtual time. Returns the number of its requests.
/// The peer replies at once, and its events are stored with the result `applied`.
fn asked_within_a_minute(case: &mut Case, reply: impl FnMut(&Pull) -> Input, applied: Applied) -> usize {
    let first = Pull { after: 5, max_batch: limits::MAX_BATCH_EVENTS, log: Some("log".into()) };
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
    Pull { after, max_batch: limits::MAX_BATCH_EVENTS, log: Some(log) }
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

/// C29: a legacy peer sends its newest event again in every round. An old rejection of that event is not a current
/// error.
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
        let mut calls = case.calls(Input::Notified { latest: 1_000_000 });
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
        assert_eq!(case.calls(Input::Notified { latest: n }), [pull(n - 1, "log")]);
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
        let mut calls = case.calls(Input::Notified { latest: 1_000_000 });
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

#[test]
fn a_peer_over_its_quota_is_pulled_no_further_and_read_on_from_there_once_it_is_within() {
    use thrum_core::quota::{Measure, OverQuota};
    let over = OverQuota { measure: Measure::Agents, kept: 1001, allowed: 1000 };
    let (mut case, _) = Case::met(Some(("log", 5)), "log", 9);
    assert!(matches!(&case.step(pulled("log", &[6, 7], 7, true))[..], [Action::Apply { .. }]));
    assert_eq!(case.calls(Input::Quota(Some(over))), []);
    assert_eq!(case.calls(stored(2)), [], "the batch is kept, and no other is asked for");
    assert_eq!(
        (case.machine.status().shown_state(), case.error().starts_with("over quota: 1001 agents")),
        (State::OverQuota, true)
    );
    assert_eq!(case.machine.status().checkpoint, Some(("log".to_owned(), 7)));
    for input in [Input::Notified { latest: 12 }, Input::Timer, Input::Authenticated] {
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
    assert_eq!(case.machine.status().shown_state(), State::Connected);
}
