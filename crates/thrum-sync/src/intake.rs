//! From served events to a batch: the envelope laid over the event, form and signature checked. Off the writer's thread.

use thrum_core::{
    event::{self, Candidate, Malformed},
    exchange::{Batch, Rejected},
    json,
};

use crate::wire::Served;

/// Judges each event by itself: a bad one lands in `rejected` and stops nothing (I5).
pub fn batch(peer: &str, log: &str, checkpoint: u64, served: Vec<Served>) -> Batch {
    let mut candidates = Vec::with_capacity(served.len());
    let mut rejected: Vec<Rejected> = Vec::new();
    for one in served {
        match candidate(&one) {
            Ok(candidate) => candidates.push(candidate),
            Err(why) => rejected.push(event::reject(one.envelope[0].as_deref().unwrap_or_default(), &why, &one.event_json)),
        }
    }
    let (events, unsigned) = event::admit(candidates);
    rejected.extend(unsigned);
    Batch { peer: peer.to_owned(), log: log.to_owned(), checkpoint, events, rejected }
}

/// Go lays the envelope's four texts over the event, so that is what an event is. An empty one says nothing: laid over an
/// event without that text it would give two daemons two canonical forms of one event.
fn candidate(served: &Served) -> Result<Candidate, Malformed> {
    let mut fields = json::parse_object(&served.event_json).map_err(|error| Malformed::Json(error.to_string()))?;
    for (name, text) in Served::ENVELOPE.into_iter().zip(&served.envelope) {
        if let Some(text) = text {
            fields.insert(name.to_owned(), text.as_str().into());
        }
    }
    Candidate::new(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(sequence: i64, id: Option<&str>, event_json: &str) -> Served {
        Served { sequence, envelope: [id.map(str::to_owned), None, None, None], event_json: event_json.to_owned() }
    }

    #[test]
    fn events_of_wrong_shape_are_rejected_and_stop_nothing() {
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
        let batch = batch("d_peer", "log", 9, events);
        assert_eq!(batch.events.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(), ["evt_good"]);
        let rejected: Vec<_> = batch.rejected.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(rejected, ["evt_text", "evt_null", "evt_array", "evt_twice", "evt_huge", "evt_surrogate", "evt_deep", ""]);
        assert_eq!((batch.peer.as_str(), batch.log.as_str(), batch.checkpoint), ("d_peer", "log", 9));
    }

    #[test]
    fn the_envelope_wins_over_the_event_as_in_go() {
        let one = Served {
            sequence: 1,
            envelope: [Some("evt_a".into()), Some("t".into()), Some("2026-01-01T00:00:00Z".into()), Some("d_x".into())],
            event_json: r#"{"event_id":"evt_b","type":7,"sequence":12,"v":1}"#.into(),
        };
        let made = batch("d_peer", "", 1, vec![one]);
        assert_eq!(
            made.events[0].body,
            r#"{"event_id":"evt_a","origin_daemon":"d_x","timestamp":"2026-01-01T00:00:00Z","type":"t","v":1}"#
        );
    }

    #[test]
    fn a_forged_origin_of_ours_is_rejected() {
        let key = thrum_core::DaemonKey::generate(&mut Zeros);
        let forged = format!(r#"{{"event_id":"evt_f","type":"agent.cleanup","origin_daemon":"{}"}}"#, key.id());
        let made = batch("d_peer", "", 1, vec![served(1, None, &forged)]);
        assert_eq!((made.events.len(), made.rejected.len()), (0, 1), "C21");
    }

    struct Zeros;

    impl thrum_core::Ambient for Zeros {
        fn now(&mut self) -> thrum_core::Stamp {
            thrum_core::Stamp::ZERO
        }
        fn fill(&mut self, buffer: &mut [u8]) {
            buffer.fill(0);
        }
    }
}
