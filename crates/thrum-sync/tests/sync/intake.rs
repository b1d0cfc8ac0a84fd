//! Turns good and bad events into a batch, as served by peers.

use thrum_core::{
    Draft, Payload,
    exchange::{Checkpoint, short_digest},
    ids::IdSource,
    payload::SessionEnd,
};
use thrum_sync::{Log, intake, protocol::wire::Served};

use crate::kit::{StoreLog, World, directory};

fn served(sequence: i64, id: Option<&str>, event_json: &str) -> Served {
    Served {
        sequence,
        envelope: [id.map(str::to_owned), None, None, None],
        event_json: event_json.to_owned(),
        reference: None,
    }
}

#[test]
fn events_of_wrong_shape_are_rejected_and_stop_nothing() {
    let directory = directory();
    let (log, _) = StoreLog::open(&directory, &mut World::new(1));
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let events = vec![
        served(1, Some("evt_text"), r#""a text""#),
        served(2, Some("evt_null"), "null"),
        served(3, Some("evt_array"), "[]"),
        served(4, Some("evt_twice"), r#"{"a":1,"a":2}"#),
        served(5, Some("evt_huge"), r#"{"a":1e400}"#),
        served(6, Some("evt_surrogate"), r#"{"a":"\ud800"}"#),
        served(7, Some("evt_deep"), &deep),
        served(8, None, r#"{"type":"x"}"#),
        served(9, Some("evt_good"), r#"{"type":"future.thing","kept":[1]}"#),
    ];
    let batch = intake::batch("d_peer", "log", 9, &events, &*log).unwrap();
    assert_eq!(batch.events.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(), ["evt_good"]);
    let rejected: Vec<_> = batch.rejected.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(
        rejected,
        ["evt_text", "evt_null", "evt_array", "evt_twice", "evt_huge", "evt_surrogate", "evt_deep", ""]
    );
    assert_eq!((batch.peer.as_str(), batch.log.as_str(), batch.checkpoint), ("d_peer", "log", 9));
    let applied = log.apply(batch).unwrap();
    assert_eq!(
        (applied.applied, applied.rejected, log.checkpoint("d_peer").unwrap()),
        (1, 8, Some(Checkpoint { log: "log".into(), sequence: 9, event: String::new() }))
    );
}

#[test]
fn references_are_taken_only_if_all_their_events_are_held() {
    let directory = directory();
    let (log, _) = StoreLog::open(&directory, &mut World::new(1));
    let body = r#"{"type":"future.thing","origin_daemon":"d_x"}"#;
    let reference = |sequence, id, digest: &str| Served {
        event_json: String::new(),
        reference: Some(digest.into()),
        ..served(sequence, id, "")
    };
    let take = |events: Vec<Served>| intake::take("d_peer", "log", 9, &events, &*log).unwrap();

    let first = take(vec![served(1, Some("evt_1"), body)]).expect("no references");
    assert_eq!((first.referred, first.repeated.len()), (0, 0));
    let digest = short_digest(&first.batch.events[0].body);
    log.apply(first.batch).unwrap();

    let taken =
        take(vec![reference(2, Some("evt_1"), &digest), served(3, Some("evt_2"), body)]).expect("both are known");
    assert_eq!((taken.referred, taken.repeated.len(), taken.batch.events.len()), (1, 0, 1));
    let taken = take(vec![served(2, Some("evt_1"), body)]).expect("no references");
    assert_eq!(taken.repeated, ["d_x".to_owned()].into());
    for missing in [("evt_2", &*digest), ("evt_1", "0123456789abcdef")] {
        let missing = reference(2, Some(missing.0), missing.1);
        assert!(take(vec![reference(1, Some("evt_1"), &digest), missing]).is_none());
    }
    assert!(take(vec![reference(1, None, &digest)]).is_none());
}

#[test]
fn the_envelope_wins_over_the_event_as_in_go() {
    let directory = directory();
    let (log, _) = StoreLog::open(&directory, &mut World::new(1));
    let one = Served {
        sequence: 1,
        envelope: [Some("evt_a".into()), Some("t".into()), Some("2026-01-01T00:00:00Z".into()), Some("d_x".into())],
        event_json: r#"{"event_id":"evt_b","type":7,"sequence":12,"v":1}"#.into(),
        reference: None,
    };
    let made = intake::batch("d_peer", "", 1, &[one], &*log).unwrap();
    assert_eq!(
        made.events[0].body,
        r#"{"event_id":"evt_a","origin_daemon":"d_x","timestamp":"2026-01-01T00:00:00Z","type":"t","v":1}"#
    );
}

/// C21: in a small batch and in one split among threads, with and without events that are already held.
#[test]
fn a_forged_event_is_the_only_one_refused_and_the_order_is_the_peers() {
    let directory = directory();
    let mut world = World::new(1);
    let (log, _) = StoreLog::open(&directory, &mut world);
    let key = thrum_core::DaemonKey::generate(&mut world);
    let mut ids = IdSource::default();
    let bodies: Vec<String> = (1..=900)
        .map(|n| {
            let payload = Payload::SessionEnd(SessionEnd { session_id: format!("ses_{n}"), reason: None });
            let id = ids.next(thrum_core::ids::IdKind::Event, &mut world);
            Draft { id, at: thrum_core::Timestamp::from_nanos(n), payload: &payload }
                .seal(&key, "log", n.unsigned_abs())
                .unwrap()
                .body
        })
        .collect();
    for held in [false, true] {
        let mut events: Vec<Served> = bodies.iter().zip(1..).map(|(body, n)| served(n, None, body)).collect();
        events[700].event_json = events[700].event_json.replace("ses_701", "ses_666");
        let made = intake::batch("d_peer", "log", 900, &events, &*log).unwrap();
        assert_eq!((made.events.len(), made.rejected.len()), (899, 1), "held: {held}");
        assert!(held || made.events.iter().map(|event| event.seq).is_sorted());
        let applied = log.apply(made).unwrap();
        assert_eq!((applied.applied, applied.skipped), if held { (0, 899) } else { (899, 0) });
    }
}
