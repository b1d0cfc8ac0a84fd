//! Target: an event as served by a peer, its canonical form and its payload.

use serde_json::Value;
use thrum_core::{
    Event, Payload, Timestamp,
    event::{Candidate, Malformed, admit, reject},
    json, limits,
};

use crate::assert_sayable;

/// Parses one event's JSON. Its canonical form is a fixed point and within the limits, and its payload survives a round
/// trip.
pub fn event(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match candidate(text) {
        Ok(candidate) => {
            let event = candidate.event().clone();
            assert_kept(&event);
            assert_payload(&event);
            let (admitted, rejected) = admit(vec![candidate]);
            assert_eq!(admitted.len() + rejected.len(), 1, "let in or said why");
            assert!(admitted.first().is_none_or(|admitted| *admitted == event), "admitting changes nothing");
            rejected.iter().for_each(assert_rejected);
        }
        Err(why) => {
            let rejected = reject("", &why, text);
            assert_rejected(&rejected);
        }
    }
}

/// Reads an event, and checks that the shortcut for a text in canonical form gives the same as parsing the text.
fn candidate(text: &str) -> Result<Candidate, Malformed> {
    let read = Candidate::read(text, &[]);
    let parsed = json::parse_object(text).map_err(|error| Malformed::Json(error.to_string()));
    let parsed = parsed.and_then(|fields| Candidate::new(&fields));
    assert_eq!(format!("{read:?}"), format!("{parsed:?}"), "parsing gives the same");
    read
}

/// Checks a well-formed event for the properties that the log, the digest and the relay rely on.
pub(crate) fn assert_kept(event: &Event) {
    for (name, text) in
        [("event_id", &event.id), ("type", &event.kind), ("origin_daemon", &event.origin), ("origin_log", &event.log)]
    {
        assert!(text.len() <= limits::MAX_FOREIGN_ID_BYTES, "{name} of {} bytes", text.len());
    }
    assert!(!event.id.is_empty() && event.body.len() <= limits::MAX_EVENT_BYTES && i64::try_from(event.seq).is_ok());
    assert_eq!(Timestamp::parse(&event.at.to_string()), Some(event.at), "an instant that is written reads the same");
    assert!(!event.body.contains('\n'), "a row is a line of the wire");
    let again = candidate(&event.body).expect("a canonical form has form");
    assert_eq!(again.event(), event, "a canonical form is its own");
}

fn assert_payload(event: &Event) {
    let payload = match Payload::read(&event.kind, &event.body) {
        Ok(Payload::Unknown) | Err(_) => return,
        Ok(payload) => payload,
    };
    let written = Value::Object(payload.fields()).to_string();
    let again = Payload::read(&event.kind, &written).unwrap_or_else(|error| panic!("{written}: {error}"));
    assert_eq!(again, payload, "what is written reads the same");
}

/// Checks that a rejected event stores only enough to recognise it.
pub(crate) fn assert_rejected(rejected: &thrum_core::event::Rejected) {
    assert!(
        rejected.id.len() <= limits::MAX_FOREIGN_ID_BYTES && rejected.sample.len() <= limits::MAX_REJECTED_SAMPLE_BYTES
    );
    assert_sayable(&rejected.reason);
}
