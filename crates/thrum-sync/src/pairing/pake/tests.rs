use proptest::prelude::*;
use thrum_core::Timestamp;

use super::*;

struct Seed(u64);

impl Ambient for Seed {
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

fn code(text: &str) -> Code {
    Code::parse(text).unwrap()
}

fn parties() -> Parties {
    Parties {
        version: VERSION.into(),
        joiner: "d_joiner".into(),
        joiner_name: "laptop".into(),
        joiner_address: "100.64.0.2:9100".into(),
        joiner_node: "n2".into(),
        listener: "d_listener".into(),
        listener_node: "n1".into(),
        listener_address: "127.0.0.1:9100".into(),
    }
}

fn token() -> Token {
    Token::generate(&mut Seed(99))
}

/// Daemons with different transcripts never pair.
#[test]
fn the_transcript_belongs_to_the_version() {
    let pinned = ("spake2-1", "1d1742433c4551bf17903200022e60d5ddd1d5f2f688c1746908d41496213110");
    assert_eq!((VERSION, hex(&parties().digest()).as_str()), pinned, "a change needs a new VERSION");
}

/// Runs an exchange with each side's code and view of the parties. Returns the joiner's token if they pair.
fn pairs(joiner: (&str, Parties), listener: (&str, Parties)) -> Option<Token> {
    let (joining, message) = join(&code(joiner.0), joiner.1, &mut Seed(1));
    let (answered, message) = answer(&code(listener.0), &listener.1, &message, &mut Seed(2));
    let (confirming, confirmation) = joining.confirm(&message).unwrap();
    let (confirmation, sealed) = answered.check(&confirmation)?.seal(&token(), "desk");
    confirming.open(&confirmation, &sealed, "desk")
}

#[test]
fn only_a_joiner_with_the_code_and_the_same_view_gets_the_token() {
    assert!(pairs(("0042", parties()), ("0042", parties())).unwrap().matches(token().reveal()));
    assert!(pairs(("0042", parties()), ("0043", parties())).is_none());
    assert!(pairs(("0042", parties()), ("4200", parties())).is_none());
}

/// C6: a different node, port, id, name, address or version on either side acts like a wrong code.
#[test]
fn parties_with_different_views_do_not_pair() {
    type Change = fn(&mut Parties);
    let changes: [Change; 9] = [
        |parties| parties.version = "spake2-0".into(),
        |parties| parties.joiner = "d_mallory".into(),
        |parties| parties.joiner_name = "laptop-2".into(),
        |parties| parties.joiner_address = "100.64.0.66:9100".into(),
        |parties| parties.joiner_node = "n66".into(),
        |parties| parties.listener = "d_mallory".into(),
        |parties| parties.listener_node = "n66".into(),
        |parties| parties.listener_address = "127.0.0.1:9101".into(),
        |parties| parties.listener_address = "127.0.0.2:9100".into(),
    ];
    for change in changes {
        let mut other = parties();
        change(&mut other);
        assert!(pairs(("0042", parties()), ("0042", other.clone())).is_none(), "{other:?}");
        assert!(pairs(("0042", other.clone()), ("0042", parties())).is_none(), "{other:?}");
    }
    // Text cannot be moved from one part to the next.
    let (mut one, mut two) = (parties(), parties());
    (one.joiner_name, one.joiner_address) = ("ab".into(), "c".into());
    (two.joiner_name, two.joiner_address) = ("a".into(), "bc".into());
    assert!(pairs(("0042", one), ("0042", two)).is_none());
}

/// C6: a side's own message, reflected, is no valid reply.
#[test]
fn reflected_messages_and_confirmations_do_not_pair() {
    let same = Parties { listener: "d_joiner".into(), listener_node: "n2".into(), ..parties() };
    let (joining, message) = join(&code("0042"), same.clone(), &mut Seed(1));
    assert!(joining.confirm(&message).is_none(), "its own role");
    let (joining, message) = join(&code("0042"), same.clone(), &mut Seed(1));
    let other_role = format!("42{}", &message[2..]);
    let (confirming, confirmation) = joining.confirm(&other_role).unwrap();
    assert!(confirming.open(&confirmation, "", "desk").is_none());

    let (_, message) = answer(&code("0042"), &same, &message, &mut Seed(2));
    for reflected in [message.clone(), format!("41{}", &message[2..])] {
        let (answered, _) = answer(&code("0042"), &same, &reflected, &mut Seed(2));
        assert!(answered.check(&message).is_none());
    }
    let (joining, message) = join(&code("0042"), same.clone(), &mut Seed(1));
    let (answered, message) = answer(&code("0042"), &same, &message, &mut Seed(2));
    let (_, confirmation) = joining.confirm(&message).unwrap();
    let (listeners, _) = answered.check(&confirmation).unwrap().seal(&token(), "desk");
    assert_ne!(confirmation, listeners);
}

/// C3: replays the same lines in a session with the same code.
#[test]
fn a_recorded_exchange_is_worth_nothing_in_another() {
    let (joining, first) = join(&code("0042"), parties(), &mut Seed(1));
    let (_, answered) = answer(&code("0042"), &parties(), &first, &mut Seed(2));
    let (_, confirmation) = joining.confirm(&answered).unwrap();
    let (again, other) = answer(&code("0042"), &parties(), &first, &mut Seed(3));
    assert_ne!(answered, other);
    assert!(again.check(&confirmation).is_none());
}

/// Neither the token nor the name beside it can be altered in transit.
#[test]
fn a_changed_answer_is_not_opened() {
    let opens = |change: &dyn Fn(&mut String, &mut String, &mut String)| {
        let (joining, message) = join(&code("0042"), parties(), &mut Seed(1));
        let (answered, message) = answer(&code("0042"), &parties(), &message, &mut Seed(2));
        let (confirming, confirmation) = joining.confirm(&message).unwrap();
        let (mut confirmation, mut sealed) = answered.check(&confirmation).unwrap().seal(&token(), "desk");
        let mut name = "desk".to_owned();
        change(&mut confirmation, &mut sealed, &mut name);
        confirming.open(&confirmation, &sealed, &name).is_some()
    };
    assert!(opens(&|_, _, _| ()));
    assert!(!opens(&|confirmation, _, _| confirmation.replace_range(..2, "zz")));
    assert!(!opens(&|confirmation, _, _| confirmation.clear()));
    assert!(!opens(&|_, sealed, _| sealed.truncate(sealed.len() - 2)));
    assert!(!opens(&|_, sealed, _| *sealed = hex(token().reveal().as_bytes())));
    assert!(!opens(&|_, _, name| name.push('2')));
}

/// No secret in a debug print (C4 in docs/security.md).
#[test]
fn nothing_of_an_exchange_is_printed() {
    let (joining, message) = join(&code("0042"), parties(), &mut Seed(1));
    let (answered, message) = answer(&code("0042"), &parties(), &message, &mut Seed(2));
    let mut printed = format!("{joining:?} {answered:?}");
    let (confirming, confirmation) = joining.confirm(&message).unwrap();
    let proven = answered.check(&confirmation).unwrap();
    printed.push_str(&format!(" {confirming:?} {proven:?}"));
    assert_eq!(printed, "Joining([redacted]) Answered([redacted]) Confirming([redacted]) Proven([redacted])");
}

/// Input as a stranger may send it: empty, too long, not hex, and similar to a message.
fn said() -> impl Strategy<Value = String> {
    let bytes = prop::collection::vec(any::<u8>(), 0..80).prop_map(|bytes| hex(&bytes));
    let point = any::<[u8; 32]>()
        .prop_flat_map(|bytes| prop::sample::select(vec![0x41, 0x42, 0x53]).prop_map(move |side| (side, bytes)));
    // Includes the points of small order, which must not yield a key.
    let small = prop::sample::select(vec![
        "00".repeat(32),
        format!("01{}", "00".repeat(31)),
        format!("ec{}7f", "ff".repeat(30)),
    ]);
    prop_oneof![
        any::<String>(),
        bytes,
        point.prop_map(|(side, bytes)| hex(&[[side].as_slice(), &bytes].concat())),
        (prop::sample::select(vec!["41", "42"]), small).prop_map(|(side, point)| format!("{side}{point}")),
        any::<[u8; 32]>().prop_map(|bytes| hex(&bytes)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_messages_neither_panic_nor_pair(message in said(), confirmation in said(), sealed in said()) {
        let (answered, _) = answer(&code("0042"), &parties(), &message, &mut Seed(2));
        prop_assert!(answered.check(&confirmation).is_none());
        let (joining, _) = join(&code("0042"), parties(), &mut Seed(1));
        if let Some((confirming, _)) = joining.confirm(&message) {
            prop_assert!(confirming.open(&confirmation, &sealed, "desk").is_none());
        }
    }
}
