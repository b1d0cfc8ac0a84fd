use thrum_core::Timestamp;

use super::*;
use crate::transport::Node;

struct Counter(u64);

impl Ambient for Counter {
    fn now(&mut self) -> Timestamp {
        Timestamp::ZERO
    }
    fn fill(&mut self, buffer: &mut [u8]) {
        for byte in buffer {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = self.0.to_be_bytes()[0];
        }
    }
}

fn at(seconds: u64) -> Now {
    Now {
        tick: Duration::from_secs(seconds),
        at: Timestamp::from_nanos(1_774_717_513_000_000_000).plus(Duration::from_secs(seconds)),
    }
}

fn here(kind: Kind) -> Here {
    Here { kind, node: None, address: "127.0.0.1:9100".into() }
}

fn local() -> Caller {
    Caller { address: "127.0.0.1:5000".into(), kind: Kind::Local, node: None }
}

struct Case {
    directory: tempfile::TempDir,
    pairing: Pairing,
    ambient: Counter,
}

impl Case {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let pairing = Pairing::open(directory.path().join("pairing.json")).unwrap();
        Self { directory, pairing, ambient: Counter(7) }
    }

    fn restart(&mut self) {
        self.pairing = Pairing::open(self.directory.path().join("pairing.json")).unwrap();
    }

    fn start(&mut self, seconds: u64) -> Result<Opened, Error> {
        self.pairing.start(here(Kind::Local), limits::PAIRING_SESSION, at(seconds), &mut self.ambient)
    }

    fn guess(&mut self, code: &str, seconds: u64) -> String {
        self.pairing.try_code(code, &local(), at(seconds)).map_or_else(|error| error.message, |()| "right".into())
    }

    /// Sends the first message of a loopback joiner that types this code. Returns the exchange and the joiner's
    /// confirmation.
    fn begin(&mut self, code: &str, seconds: u64) -> Result<(Exchange, String), String> {
        let parties = pake::Parties {
            version: pake::VERSION.into(),
            joiner: "d_joiner".into(),
            joiner_name: "laptop".into(),
            joiner_address: "127.0.0.1:9101".into(),
            joiner_node: "local".into(),
            listener: "d_me".into(),
            listener_node: "local".into(),
            listener_address: "127.0.0.1:9100".into(),
        };
        let (joining, message) = pake::join(&Code::parse(code).unwrap(), parties.clone(), &mut self.ambient);
        let begin = Begin {
            version: parties.version,
            daemon_id: parties.joiner,
            name: parties.joiner_name,
            address: parties.joiner_address,
            message,
        };
        let begun = self.pairing.begin(&begin, "d_me", &local(), at(seconds), &mut self.ambient);
        let (exchange, message) = begun.map_err(|error| error.message)?;
        Ok((exchange, joining.confirm(&message).expect("a message").1))
    }

    fn confirm(&mut self, (exchange, confirmation): (Exchange, String), seconds: u64) -> String {
        self.pairing
            .confirm(exchange, &confirmation, at(seconds))
            .map_or_else(|error| error.message, |_| "right".into())
    }

    /// Uses up the three guesses of one session, started at `seconds`.
    fn burn(&mut self, seconds: u64) {
        let opened = self.start(seconds).expect("not locked");
        let wrong = wrong(&opened.code);
        for _ in 0..3 {
            self.guess(&wrong, seconds);
        }
    }
}

fn wrong(code: &Code) -> String {
    format!("{:04}", (code.reveal().parse::<u32>().unwrap() + 1) % 10_000)
}

#[test]
fn three_tries_the_third_may_be_right() {
    let mut case = Case::new();
    let opened = case.start(0).unwrap();
    let wrong = wrong(&opened.code);
    assert_eq!(case.guess(&wrong, 1), "invalid pairing code (2 attempts remaining)");
    assert_eq!(case.guess(&wrong, 2), "invalid pairing code (1 attempt remaining)");
    assert_eq!(case.guess(opened.code.reveal(), 3), "right");
    assert_eq!(case.guess(opened.code.reveal(), 4), "no active pairing session", "C3: a code works once");
}

/// C2: in Go Thrum, the command that displays the code keeps waiting after the lock.
#[test]
fn after_three_wrong_codes_the_operator_knows_at_once_and_the_right_code_fails() {
    let mut case = Case::new();
    let opened = case.start(0).unwrap();
    let wrong = wrong(&opened.code);
    for _ in 0..3 {
        case.guess(&wrong, 1);
    }
    let SessionState::Ended(Err(error)) = case.pairing.collect(at(1)) else { panic!("the waiter still waits") };
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(error.message.contains("127.0.0.1:5000"), "who tried: {error}");
    assert_eq!(case.guess(opened.code.reveal(), 2), "too many failed attempts");
    assert!(case.start(3).is_ok(), "`peer add` again");
}

/// The right code after its time (C3 in docs/security.md).
#[test]
fn the_right_code_fails_after_the_five_minutes_by_either_clock() {
    let mut case = Case::new();
    let opened = case.start(0).unwrap();
    assert_eq!(case.guess(opened.code.reveal(), 300), "pairing timed out");
    let SessionState::Ended(Err(error)) = case.pairing.collect(at(300)) else { panic!("no outcome") };
    assert_eq!(error.message, "pairing timed out");
    let opened = case.start(400).unwrap();
    let slept = Now { tick: at(401).tick, at: at(800).at };
    let answer = case.pairing.try_code(opened.code.reveal(), &local(), slept).unwrap_err();
    assert_eq!(answer.message, "pairing timed out", "the machine slept");
}

/// Guesses over many sessions and restarts (C1 in docs/security.md).
#[test]
fn ten_wrong_codes_lock_the_hour_across_sessions_and_restarts() {
    let mut case = Case::new();
    for n in 0..3 {
        case.burn(n * 10);
        case.restart();
    }
    let opened = case.start(40).unwrap();
    assert_eq!(case.guess(&wrong(&opened.code), 41), "invalid pairing code (2 attempts remaining)", "the tenth");
    let until = at(3600).at.in_seconds();
    let refused = format!("too many failed attempts; pairing from there is possible again at {until}");
    assert_eq!(case.guess(opened.code.reveal(), 42), refused, "the lock is looked at first");
    assert!(
        matches!(case.pairing.collect(at(42)), SessionState::Ended(Err(error)) if error.kind == ErrorKind::Refused)
    );
    case.restart();
    let refused = case.start(43).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Refused);
    assert!(refused.message.contains("locked until"), "{refused}");
    assert!(case.start(3600).is_ok(), "the first three are an hour old");
}

#[test]
fn thirty_wrong_codes_lock_the_day() {
    let mut case = Case::new();
    for n in 0..10 {
        case.burn(n * 1300);
    }
    assert!(
        case.start(9 * 1300 + 4000).unwrap_err().message.contains("locked until"),
        "the hour is over, the day is not"
    );
    assert!(case.start(24 * 3600).is_ok());
}

#[test]
fn after_a_clock_that_was_years_ahead_a_guess_ages_like_any_other() {
    let (mut case, years) = (Case::new(), 10 * 365 * 24 * 3600);
    for n in 0..4 {
        if case.start(years + n).is_ok() {
            (0..3).for_each(|_| drop(case.guess("no", years + n)));
        }
    }
    assert!(case.start(0).unwrap_err().message.starts_with("pairing is locked"), "now it counts as made now");
    case.restart();
    assert!(case.start(3590).is_err());
    case.start(3601).expect("an hour later it is forgotten");
}

#[test]
fn a_clock_set_back_does_not_end_the_lock() {
    let mut case = Case::new();
    for n in 0..3 {
        case.burn(100_000 + n);
    }
    let opened = case.start(100_010).unwrap();
    case.guess(&wrong(&opened.code), 100_010);
    assert!(case.start(5).unwrap_err().message.contains("locked until"));
}

#[test]
fn a_node_that_guesses_is_locked_and_does_not_lock_the_others() {
    let mut case = Case::new();
    let caller = |node: &str| Caller {
        address: format!("{node}:1"),
        kind: Kind::Tailnet,
        node: Some(Node { id: node.into(), name: node.into(), user: String::new() }),
    };
    let mut open = |pairing: &mut Pairing, seconds| {
        pairing.start(here(Kind::Tailnet), limits::PAIRING_SESSION, at(seconds), &mut case.ambient).unwrap()
    };
    for n in 0..2 {
        let opened = open(&mut case.pairing, n);
        for _ in 0..3 {
            case.pairing.try_code(&wrong(&opened.code), &caller("mallory"), at(n)).unwrap_err();
        }
        // C2: in the same session as well.
        let answer = case.pairing.try_code(opened.code.reveal(), &caller("mallory"), at(n)).unwrap_err();
        assert!(answer.message.starts_with(TOO_MANY), "{answer}");
        assert!(matches!(case.pairing.collect(at(n)), SessionState::Waiting(_)), "others may join");
        assert!(case.pairing.waits_for(&caller("alice"), at(n)) && case.pairing.waits_for(&caller("mallory"), at(n)));
        case.pairing.cancel(opened.id);
    }
    let opened = open(&mut case.pairing, 10);
    // Both sides learn when the caller may try again: the caller from the reply, the operator from the session.
    let until = at(3600).at;
    for _ in 0..2 {
        let answer = case.pairing.try_code(opened.code.reveal(), &caller("mallory"), at(11)).unwrap_err();
        assert_eq!(
            answer.message,
            format!("{TOO_MANY}; pairing from there is possible again at {}", until.in_seconds())
        );
    }
    let shown: Vec<_> =
        case.pairing.attempts().iter().map(|attempt| (attempt.who(), attempt.left, attempt.locked_until)).collect();
    assert_eq!(shown, [("mallory".to_owned(), 0, Some(until))], "once, however often it tries");
    assert_eq!(case.pairing.try_code(opened.code.reveal(), &caller("alice"), at(12)), Ok(()));
}

/// C2: any program on this machine may call on loopback; it must not lock out other machines.
#[test]
fn guesses_on_loopback_lock_loopback_and_not_the_tailnet() {
    let mut case = Case::new();
    for n in 0..3 {
        case.burn(n);
    }
    let opened = case.start(3).unwrap();
    case.guess(&wrong(&opened.code), 3);
    assert!(case.start(4).unwrap_err().message.contains("locked until"));
    case.restart();
    let opened = case.pairing.start(here(Kind::Tailnet), limits::PAIRING_SESSION, at(5), &mut case.ambient).unwrap();
    let node = Some(Node { id: "alice".into(), name: "alice".into(), user: String::new() });
    let alice = Caller { address: "100.64.0.2:1".into(), kind: Kind::Tailnet, node };
    assert_eq!(case.pairing.try_code(opened.code.reveal(), &alice, at(6)), Ok(()));
}

#[test]
fn a_code_shown_on_one_transport_is_not_taken_on_another() {
    let mut case = Case::new();
    let opened = case.start(0).unwrap();
    let elsewhere = Caller { kind: Kind::Tailnet, ..local() };
    let answer = case.pairing.try_code(opened.code.reveal(), &elsewhere, at(1)).unwrap_err();
    assert_eq!(answer.message, "no active pairing session");
    assert_eq!(case.guess(opened.code.reveal(), 2), "right");
}

/// Go Thrum answers `no active pairing session` if the command asks for the outcome a moment too late.
#[test]
fn the_outcome_waits_until_it_is_collected() {
    let mut case = Case::new();
    assert_eq!(case.pairing.collect(at(0)), SessionState::Nothing);
    let opened = case.start(0).unwrap();
    assert_eq!(case.pairing.collect(at(1)), SessionState::Waiting(Duration::from_secs(300)));
    assert_eq!(case.guess(opened.code.reveal(), 2), "right");
    case.pairing.settle(Ok("d_x".into()));
    assert_eq!(case.pairing.collect(at(4000)), SessionState::Ended(Ok("d_x".into())));
    assert_eq!(case.pairing.collect(at(4000)), SessionState::Nothing);
}

#[test]
fn only_the_initiator_of_a_session_can_cancel_it() {
    let mut case = Case::new();
    let first = case.start(0).unwrap();
    let second = case.start(1).unwrap_err();
    assert_eq!(second.message, "pairing already in progress (code generated 1s ago)");
    case.pairing.cancel(SessionId(99));
    assert!(matches!(case.pairing.collect(at(1)), SessionState::Waiting(_)));
    case.pairing.cancel(first.id);
    assert!(
        matches!(case.pairing.collect(at(2)), SessionState::Ended(Err(error)) if error.message == "pairing canceled")
    );
    assert_eq!(case.guess(first.code.reveal(), 3), "no active pairing session");
    assert!(case.start(4).is_ok());
}

/// Leading zeros, other digits and spaces (C5 in docs/security.md).
#[test]
fn codes_keep_their_zeros_and_nothing_else_is_a_code() {
    assert_eq!(Code::parse("0042").unwrap().reveal(), "0042");
    for text in ["42", "４２４２", " 0042", "0042 ", "0042\n", "00042", "", "12a4", "+123", "٤٢٤٢"] {
        let error = Code::parse(text).expect_err(text);
        assert_eq!((error.kind, error.hint.is_some()), (ErrorKind::Invalid, true), "{text}");
    }
    let mut ambient = Counter(1);
    let codes: Vec<_> = (0..20_000).map(|_| Code::generate(&mut ambient)).collect();
    assert!(codes.iter().all(|code| Code::parse(code.reveal()).is_ok()));
    assert!(codes.iter().any(|code| code.reveal().starts_with("00")), "leading zeros occur");
}

/// No secret in a debug print or in `pairing.json` (C4 in docs/security.md).
#[test]
fn neither_code_nor_guess_is_printed() {
    let mut case = Case::new();
    let opened = case.start(0).unwrap();
    let printed = format!("{opened:?} {:?} {:?}", case.pairing, opened.code);
    assert!(!printed.contains(opened.code.reveal()), "{printed}");
    let wrong = wrong(&opened.code);
    case.guess(&wrong, 1);
    let stored = std::fs::read_to_string(case.directory.path().join("pairing.json")).unwrap();
    assert!(!stored.contains(&format!("\"{wrong}\"")), "{stored}");
}

#[test]
fn a_guess_that_cannot_be_counted_is_not_answered_and_a_damaged_count_is_an_error() {
    let mut case = Case::new();
    let opened = case.start(0).unwrap();
    std::fs::create_dir(case.directory.path().join("pairing.json")).unwrap();
    let answer = case.pairing.try_code(&wrong(&opened.code), &local(), at(1)).unwrap_err();
    assert!(answer.data.is_some() && !answer.message.contains("attempts remaining"), "{answer}");
    let path = case.directory.path().join("broken.json");
    std::fs::write(&path, r#"{"attempts":[{"at""#).unwrap();
    assert!(Pairing::open(path).unwrap_err().hint.is_some());
}

#[test]
fn an_exchange_proves_the_code_and_the_third_may_be_right() {
    let mut case = Case::new();
    let opened = case.start(0).unwrap();
    for left in [2, 1] {
        let begun = case.begin(&wrong(&opened.code), 1).unwrap();
        assert_eq!(
            case.confirm(begun, 1),
            format!("invalid pairing code ({left} attempt{} remaining)", if left == 1 { "" } else { "s" })
        );
    }
    let begun = case.begin(opened.code.reveal(), 2).unwrap();
    assert_eq!(case.confirm(begun, 2), "right");
    case.pairing.settle(Ok("d_joiner".into()));
    assert_eq!(case.begin(opened.code.reveal(), 3).unwrap_err(), "no active pairing session", "C3: a code works once");
    let count = |case: &Case| {
        let text = std::fs::read_to_string(case.directory.path().join("pairing.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["attempts"].as_array().unwrap().len()
    };
    assert_eq!(count(&case), 2, "who knew it has not guessed");
}

/// C1: exchanges count when they begin, not when they are confirmed, and on disk, so that a crash does not lose the
/// count.
#[test]
fn an_exchange_counts_from_its_first_message_on_however_many_are_begun_at_once() {
    let mut case = Case::new();
    let opened = case.start(0).unwrap();
    let begun: Vec<_> = (0..3).map(|_| case.begin(opened.code.reveal(), 1).unwrap()).collect();
    assert_eq!(case.begin(opened.code.reveal(), 1).unwrap_err(), "too many failed attempts");
    assert_eq!(case.guess(opened.code.reveal(), 1), "too many failed attempts", "the plain way has the same budget");
    assert!(case.pairing.attempts().is_empty(), "none of them has failed yet");
    drop(begun);
    case.restart();
    for n in 0..2 {
        case.burn(10 + n);
    }
    let last = case.start(20).unwrap();
    let begun = case.begin(last.code.reveal(), 21).unwrap();
    let refused = case.begin(last.code.reveal(), 21).unwrap_err();
    assert!(
        refused.starts_with("too many failed attempts; pairing from there is possible again at "),
        "the tenth locks the hour: {refused}"
    );
    assert_eq!(case.confirm(begun, 22), "right", "and was begun before");
}

#[test]
fn an_exchange_that_is_not_ended_is_a_wrong_code_and_the_last_one_ends_the_session() {
    let mut case = Case::new();
    let opened = case.start(0).unwrap();
    let mut begun: Vec<_> = (0..3).map(|_| case.begin(opened.code.reveal(), 1).unwrap().0).collect();
    for n in 0..2 {
        case.pairing.abandon(&begun.remove(0), at(2));
        assert_eq!(case.pairing.attempts().len(), n + 1);
        assert!(matches!(case.pairing.collect(at(2)), SessionState::Waiting(_)), "the last one may still be right");
    }
    case.pairing.abandon(&begun.remove(0), at(3));
    let SessionState::Ended(Err(error)) = case.pairing.collect(at(3)) else { panic!("C2: the operator waits") };
    assert!(error.message.starts_with("too many failed attempts"), "{error}");
}

/// Two joiners at once, and codes of a session that is over (C3 in docs/security.md).
#[test]
fn of_two_joiners_with_the_right_code_the_first_to_confirm_is_in() {
    let mut case = Case::new();
    let opened = case.start(0).unwrap();
    let (one, two) = (case.begin(opened.code.reveal(), 1).unwrap(), case.begin(opened.code.reveal(), 1).unwrap());
    assert_eq!(case.confirm(two, 2), "right");
    case.pairing.settle(Ok("d_two".into()));
    assert_eq!(case.confirm(one, 2), "no active pairing session");
    assert_eq!(case.pairing.collect(at(2)), SessionState::Ended(Ok("d_two".into())));

    let opened = case.start(10).unwrap();
    let late = case.begin(opened.code.reveal(), 11).unwrap();
    assert_eq!(case.confirm(late, 310), "pairing timed out");
    let opened = case.start(400).unwrap();
    let of_before = case.begin(opened.code.reveal(), 401).unwrap();
    case.pairing.cancel(opened.id);
    case.start(402).unwrap();
    assert_eq!(case.confirm(of_before, 403), "no active pairing session", "another session");
}

#[test]
fn an_exchange_that_cannot_be_counted_is_not_answered() {
    let mut case = Case::new();
    let opened = case.start(0).unwrap();
    std::fs::create_dir(case.directory.path().join("pairing.json")).unwrap();
    let error = case.begin(opened.code.reveal(), 1).unwrap_err();
    assert!(error.contains("cannot write"), "{error}");
}

/// C1: a guess that is not counted on disk must not be answered, or a restart would restore it.
#[test]
fn while_the_disk_fails_the_right_code_and_a_wrong_one_get_the_same_answer() {
    let mut case = Case::new();
    let opened = case.start(0).unwrap();
    let file = case.directory.path().join("pairing.json");
    // The file is not written through a link.
    std::os::unix::fs::symlink("elsewhere", &file).unwrap();
    let answer = case.guess(&wrong(&opened.code), 1);
    assert!(answer.contains("cannot write"), "{answer}");
    assert_eq!(case.guess(opened.code.reveal(), 2), answer);
    assert_eq!(case.begin(opened.code.reveal(), 3).err(), Some(answer));
    std::fs::remove_file(&file).unwrap();
    assert_eq!(case.guess(opened.code.reveal(), 4), "right", "the session goes on");
}
