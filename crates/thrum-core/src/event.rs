//! Events: the envelope that all types share, and the two ways in which an event enters the log, sealed here
//! ([`Draft`]) or served by a peer ([`Candidate`]).

use std::{borrow::Cow, ops::Range};

use serde_json::{Map, Value};

use crate::{
    DaemonKey, Payload, Timestamp,
    canonical::{self, Canonical, Members},
    ids, json,
    key::{self, Claim},
    limits,
};

/// A well-formed event, as the log stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `event_id`. Together with the [`signer`](Event::signer), it identifies the event on every daemon.
    pub id: String,
    /// `type`.
    pub kind: String,
    /// `timestamp` as an instant. If it cannot be parsed, the time in the ULID of the id; if the id has no ULID, zero.
    pub at: Timestamp,
    /// `origin_daemon`.
    pub origin: String,
    /// `origin_log`; empty if a foreign origin names none.
    pub log: String,
    /// `origin_seq`, contiguous in each log of ours; 0 if the event has none or an invalid one.
    pub seq: u64,
    /// Canonical form without `sequence`.
    pub body: String,
}

impl Event {
    /// The daemon whose signature the event carries; empty if its origin signs nothing. An event is identified by its
    /// id and its signer, because anybody may use an id.
    pub fn signer(&self) -> &str {
        if key::is_signed_origin(&self.origin) { &self.origin } else { "" }
    }
}

/// An event to be made here, without its position in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft<'a> {
    /// `evt_…`
    pub id: String,
    /// The timestamp of the event.
    pub at: Timestamp,
    /// The content of the event.
    pub payload: &'a Payload,
}

/// The reason why a served event stays outside the log. Serving it again does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not an object, or an object without a canonical form.
    #[error("not canonical JSON: {0}")]
    Json(String),
    /// `event_id` missing, not a string, or empty.
    #[error("no event id")]
    NoId,
    /// An id or another envelope field is longer than [`limits::MAX_FOREIGN_ID_BYTES`].
    #[error("an id of more than {} bytes", limits::MAX_FOREIGN_ID_BYTES)]
    LongId,
    /// The answer with the event is longer than [`limits::MAX_LINE_BYTES`]; the event was not read.
    #[error("longer than {} bytes: it was not read", limits::MAX_LINE_BYTES)]
    Unread,
    /// Larger than [`limits::MAX_EVENT_BYTES`].
    #[error("{0} bytes, more than an event may have")]
    TooLarge(usize),
    /// The signature is missing or wrong, although the event's origin signs its events.
    #[error("the signature of its origin is missing or wrong")]
    Signature,
}

impl Draft<'_> {
    /// Adds the envelope and signs the event. The result is the event as it appears in the log and on the wire.
    ///
    /// # Errors
    /// [`Malformed::TooLarge`]. No other error, because an event made here always has a canonical form.
    pub fn seal(self, key: &DaemonKey, log: &str, seq: u64) -> Result<Event, Malformed> {
        let origin = key.id();
        let kind = self.payload.kind();
        let mut fields = self.payload.fields();
        for (name, value) in [
            ("event_id", Value::from(self.id.as_str())),
            ("type", kind.into()),
            ("timestamp", self.at.to_string().into()),
            ("origin_daemon", origin.as_str().into()),
            ("origin_log", log.into()),
            ("origin_seq", seq.into()),
            ("v", 1.into()),
        ] {
            fields.insert(name.to_owned(), value);
        }
        let unsigned = Canonical::new(&fields).map_err(|e| Malformed::Json(e.to_string()))?;
        let signature = key.sign_event(unsigned.signed_part());
        let body = unsigned.signed(&signature).into_whole();
        if body.len() > limits::MAX_EVENT_BYTES {
            return Err(Malformed::TooLarge(body.len()));
        }
        Ok(Event {
            id: self.id,
            kind: kind.to_owned(),
            at: self.at,
            origin: origin.to_string(),
            log: log.to_owned(),
            seq,
            body,
        })
    }
}

/// A served event that is well-formed but whose signature is not verified yet.
#[derive(Clone, Debug)]
pub struct Candidate {
    event: Event,
    /// The bytes of the body that the signature does not cover.
    unsigned: Range<usize>,
    signature: Option<String>,
}

/// The fields of the envelope of a served event; empty, 0 or `None` where one is missing or has the wrong type.
struct Envelope<'a> {
    id: &'a str,
    kind: &'a str,
    origin: &'a str,
    log: &'a str,
    timestamp: &'a str,
    seq: u64,
    signature: Option<&'a str>,
}

impl<'a> Envelope<'a> {
    fn of_fields(fields: &'a Map<String, Value>) -> Self {
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        Self {
            id: text("event_id").unwrap_or_default(),
            kind: text("type").unwrap_or_default(),
            origin: text("origin_daemon").unwrap_or_default(),
            log: text("origin_log").unwrap_or_default(),
            timestamp: text("timestamp").unwrap_or_default(),
            seq: fields.get("origin_seq").map(place_in_log).unwrap_or_default(),
            signature: text("signature"),
        }
    }

    /// Reads the envelope from recognised members; `None` if one of the strings has escapes.
    fn of_members(members: &Members<'a>) -> Option<Self> {
        let text = |name: &str| match members.raw(name) {
            Some(raw) if raw.starts_with('"') => Some(Some(members.text(name)?)),
            _ => Some(None),
        };
        Some(Self {
            id: text("event_id")?.unwrap_or_default(),
            kind: text("type")?.unwrap_or_default(),
            origin: text("origin_daemon")?.unwrap_or_default(),
            log: text("origin_log")?.unwrap_or_default(),
            timestamp: text("timestamp")?.unwrap_or_default(),
            // `Canonical::recognise` accepts only integers of at most 15 digits, which a double holds exactly. A
            // negative number or another type counts as no sequence, as in `place_in_log`.
            seq: members.raw("origin_seq").and_then(|raw| raw.parse().ok()).unwrap_or_default(),
            signature: text("signature")?,
        })
    }
}

impl Candidate {
    /// Reads a served event, a JSON object. `envelope` lists fields that the answer carries beside the event, by name;
    /// they replace the event's members of the same name. Drops `sequence`, which belongs to the serving daemon.
    ///
    /// # Errors
    /// Every [`Malformed`] except `Signature` and `Unread`.
    pub fn read(text: &str, envelope: &[(&str, &str)]) -> Result<Self, Malformed> {
        if let Some((canonical, members)) = Canonical::recognise(&without_sequence(text))
            && envelope.iter().all(|(name, value)| members.text(name) == Some(value))
            && let Some(fields) = Envelope::of_members(&members)
        {
            return Self::check(&fields, || Ok(canonical));
        }
        let mut fields = json::parse_object(text).map_err(|error| Malformed::Json(error.to_string()))?;
        for (name, value) in envelope {
            fields.insert((*name).to_owned(), (*value).into());
        }
        Self::new(&fields)
    }

    /// Takes the fields of an event. Drops `sequence`.
    ///
    /// # Errors
    /// Every [`Malformed`] except `Signature` and `Unread`.
    pub fn new(fields: &Map<String, Value>) -> Result<Self, Malformed> {
        Self::check(&Envelope::of_fields(fields), || {
            Canonical::new(fields).map_err(|error| Malformed::Json(error.to_string()))
        })
    }

    fn check(
        envelope: &Envelope<'_>,
        canonical: impl FnOnce() -> Result<Canonical, Malformed>,
    ) -> Result<Self, Malformed> {
        let &Envelope { id, kind, origin, log, timestamp, seq, signature } = envelope;
        if id.is_empty() {
            return Err(Malformed::NoId);
        }
        // An answer carries most of these fields twice: in the event and beside it. If they were longer, an event that
        // we received might not fit into a line when we serve it.
        if [id, kind, origin, log, timestamp].iter().any(|text| text.len() > limits::MAX_FOREIGN_ID_BYTES) {
            return Err(Malformed::LongId);
        }
        let at = Timestamp::parse(timestamp).or_else(|| ids::ulid_time(id)).unwrap_or_default();
        let (body, unsigned) = canonical()?.into_parts();
        if body.len() > limits::MAX_EVENT_BYTES {
            return Err(Malformed::TooLarge(body.len()));
        }
        let event = Event {
            id: id.to_owned(),
            kind: kind.to_owned(),
            at,
            origin: origin.to_owned(),
            log: log.to_owned(),
            seq,
            body,
        };
        Ok(Self { event, unsigned, signature: signature.map(str::to_owned) })
    }

    /// The event, whether or not its signature is valid.
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// The event without verification, for an event whose exact text the log already holds: its signature was verified
    /// when it first arrived.
    pub fn into_held(self) -> Event {
        self.event
    }
}

/// Removes the `sequence` with which our daemons begin an event that they serve. Any other text is returned unchanged.
fn without_sequence(served: &str) -> Cow<'_, str> {
    let rest = served.strip_prefix("{\"sequence\":").and_then(|rest| rest.split_once(','));
    match rest {
        Some((number, rest))
            if number.starts_with(|c: char| matches!(c, '1'..='9'))
                && number.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            format!("{{{rest}").into()
        }
        _ => served.into(),
    }
}

/// Reads an origin sequence as the canonical form represents it: `7.0` is 7. A number that a double cannot hold exactly
/// would be a different number for a daemon that reads it from us, and counts as no sequence (0). Our own sequences are
/// far smaller.
fn place_in_log(number: &Value) -> u64 {
    const EXACT: f64 = 9_007_199_254_740_991.0;
    let exact = number.as_f64().filter(|number| number.fract() == 0.0 && (0.0..=EXACT).contains(number));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number within the bounds of both"
    )]
    exact.map_or(0, |number| number as u64)
}

/// A served event that did not enter the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// `event_id`, cut to [`limits::MAX_FOREIGN_ID_BYTES`]; empty if unknown.
    pub id: String,
    /// The reason in words, at most [`limits::MAX_REASON_BYTES`].
    pub reason: String,
    /// The beginning of the event's text, at most [`limits::MAX_REJECTED_SAMPLE_BYTES`]: as served if it cannot be read
    /// as an event, otherwise in canonical form.
    pub sample: String,
}

/// Admits events whose signature is valid or whose origin does not sign, and returns the others as rejected. Keeps the
/// order.
pub fn admit(candidates: Vec<Candidate>) -> (Vec<Event>, Vec<Rejected>) {
    let owing: Vec<bool> = candidates.iter().map(|candidate| key::is_signed_origin(&candidate.event.origin)).collect();
    let claims: Vec<Claim<'_>> = candidates
        .iter()
        .zip(&owing)
        .filter(|(_, owes)| **owes)
        .map(|(c, _)| Claim {
            origin: &c.event.origin,
            signed_part: canonical::signed_part(&c.event.body, &c.unsigned),
            signature: c.signature.as_deref(),
        })
        .collect();
    let mut verdicts = key::verify(&claims).into_iter();
    let (mut events, mut rejected) = (Vec::with_capacity(candidates.len()), Vec::new());
    for (candidate, owes) in candidates.into_iter().zip(owing) {
        if !owes || verdicts.next().unwrap_or(false) {
            events.push(candidate.event);
        } else {
            rejected.push(reject(&candidate.event.id, &Malformed::Signature, &candidate.event.body));
        }
    }
    (events, rejected)
}

/// Builds a rejected event with the beginning of its text.
pub fn reject(id: &str, why: &Malformed, text: &str) -> Rejected {
    let cut = |text: &str, most: usize| text[..text.floor_char_boundary(most)].to_owned();
    let reason = cut(&why.to_string(), limits::MAX_REASON_BYTES);
    Rejected { id: cut(id, limits::MAX_FOREIGN_ID_BYTES), reason, sample: cut(text, limits::MAX_REJECTED_SAMPLE_BYTES) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Ambient,
        payload::{MessageCreate, SessionEnd},
    };

    struct Seed(u8);

    impl Ambient for Seed {
        fn now(&mut self) -> Timestamp {
            Timestamp::from_nanos(1_774_717_513_941_790_360)
        }
        fn fill(&mut self, buffer: &mut [u8]) {
            buffer.fill(self.0);
        }
    }

    fn sealed() -> (DaemonKey, Event) {
        let key = DaemonKey::generate(&mut Seed(3));
        let payload = Payload::MessageCreate(MessageCreate {
            message_id: "msg_1".into(),
            agent_id: "alice".into(),
            ..MessageCreate::default()
        });
        let draft = Draft { id: "evt_1".into(), at: Seed(0).now(), payload: &payload };
        let event = draft.seal(&key, "log", 1).expect("an event");
        (key, event)
    }

    fn candidate(text: &str) -> Result<Candidate, Malformed> {
        let read = Candidate::read(text, &[]);
        // `read` need not parse a text that already is canonical. Parsing it must give the same result.
        let parsed = json::parse_object(text).map_err(|e| Malformed::Json(e.to_string()));
        let parsed = parsed.and_then(|fields| Candidate::new(&fields));
        assert_eq!(format!("{read:?}"), format!("{parsed:?}"));
        read
    }

    #[test]
    fn the_first_event_of_a_log_is_signed_and_read_back_unchanged() {
        let (key, event) = sealed();
        assert!(event.body.contains("\"signature\":\""), "{}", event.body);
        let (admitted, rejected) = admit(vec![candidate(&event.body).expect("a candidate")]);
        assert_eq!(rejected, []);
        assert_eq!(admitted, std::slice::from_ref(&event));
        assert_eq!(admitted[0].origin, key.id().as_str());
    }

    #[test]
    fn an_alteration_by_a_relay_is_detected() {
        let (_, event) = sealed();
        let strip = {
            let mut fields = json::parse_object(&event.body).expect("object");
            fields.remove("signature");
            Value::Object(fields).to_string()
        };
        let forgeries = [
            event.body.replace("alice", "mallory"),
            event.body.replacen('{', "{\"added\":1,", 1),
            event.body.replace("\"origin_seq\":1", "\"origin_seq\":2"),
            strip,
        ];
        for forged in forgeries {
            let (admitted, rejected) = admit(vec![candidate(&forged).expect("well-formed")]);
            assert_eq!(admitted, [], "{forged}");
            assert_eq!(rejected[0].reason, Malformed::Signature.to_string());
        }
        let re_sequenced = event.body.replacen('{', "{\"sequence\":99,", 1);
        assert!(Canonical::recognise(&without_sequence(&re_sequenced)).is_some(), "as our daemons serve it");
        assert_eq!(admit(vec![candidate(&re_sequenced).expect("well-formed")]).0, std::slice::from_ref(&event));
        for odd in ["{\"sequence\":,", "{\"sequence\":01,", "{\"sequence\":1,\"sequence\":2,", "{\"sequence\":1"] {
            let odd = event.body.replacen('{', odd, 1);
            assert!(candidate(&odd).is_err(), "{odd}");
        }
        for odd in ["{\"sequence\":-1,", "{\"sequence\":0,", "{\"sequence\":1.5,", "{\"sequence\":\"1,2\","] {
            let odd = event.body.replacen('{', odd, 1);
            assert_eq!(candidate(&odd).expect(&odd).into_held(), event, "{odd}");
        }
    }

    #[test]
    fn the_envelope_of_an_answer_takes_the_place_of_the_fields() {
        let (_, event) = sealed();
        let own = [("event_id", event.id.as_str()), ("origin_daemon", event.origin.as_str())];
        assert_eq!(Candidate::read(&event.body, &own).expect("well-formed").into_held(), event);
        let other = Candidate::read(&event.body, &[("event_id", "evt_2")]).expect("well-formed").into_held();
        assert_eq!((other.id.as_str(), other.body), ("evt_2", event.body.replace("evt_1", "evt_2")));
        let added = Candidate::read(r#"{"event_id":"e"}"#, &[("type", "x")]).expect("well-formed").into_held();
        assert_eq!(added.body, r#"{"event_id":"e","type":"x"}"#);
    }

    #[test]
    fn foreign_events_need_no_signature_and_keep_all_keys() {
        let text = r#"{"v":1,"type":"future.thing","event_id":"evt_01M83E0S5FJJYA5B1VP5F76S9R","origin_daemon":"d_x","timestamp":"nonsense","unknown_key":{"kept":[1,null]}}"#;
        let (admitted, rejected) = admit(vec![candidate(text).expect("well-formed")]);
        assert_eq!(rejected, []);
        assert_eq!(admitted[0].at.millis(), 1_795_411_698_863, "an unreadable time takes the ULID's");
        assert!(admitted[0].body.contains(r#""unknown_key":{"kept":[1,null]}"#));
        assert_eq!(Payload::read(&admitted[0].kind, &admitted[0].body).expect("unknown is fine"), Payload::Unknown);
    }

    /// Hostile input (C18 in docs/security.md): a relay reads the canonical form and must arrive at the same origin
    /// sequence.
    #[test]
    fn the_origin_sequence_is_read_from_the_canonical_form() {
        for (number, seq) in [
            ("7", 7),
            ("7.0", 7),
            ("7e0", 7),
            ("9007199254740991", 9_007_199_254_740_991),
            ("9007199254740993", 0),
            ("1844674473709551615", 0),
            ("18446744073709551615", 0),
            ("1e300", 0),
            ("-1", 0),
            ("-0.0", 0),
            ("0.5", 0),
            ("\"7\"", 0),
            ("null", 0),
        ] {
            let first =
                candidate(&format!(r#"{{"event_id":"e","origin_seq":{number}}}"#)).expect("well-formed").into_held();
            let relayed = candidate(&first.body).expect("well-formed").into_held();
            assert_eq!((first.seq, relayed), (seq, first), "{number}");
        }
    }

    #[test]
    fn events_without_id_or_canonical_form_are_malformed() {
        let long = format!(r#"{{"event_id":"{}"}}"#, "x".repeat(257));
        let endless = format!(r#"{{"event_id":"e","timestamp":"{}"}}"#, "x".repeat(257));
        for (text, expected) in [
            (r#"{"type":"x"}"#, Malformed::NoId),
            (r#"{"event_id":7}"#, Malformed::NoId),
            (r#"{"event_id":""}"#, Malformed::NoId),
            (long.as_str(), Malformed::LongId),
            (endless.as_str(), Malformed::LongId),
        ] {
            assert_eq!(candidate(text).expect_err(text), expected);
        }
        assert!(matches!(candidate(r#"{"event_id":"e","a":1e400}"#), Err(Malformed::Json(_))));
    }

    #[test]
    fn every_known_type_survives_a_round_trip() {
        let fields =
            r#"{"message_id":"m","agent_id":"a","session_id":"s","group_id":"g","receipt_type":"read","cutoff":""}"#;
        for known in Payload::TYPES {
            let payload = Payload::read(known.kind, fields).expect("every required field is there");
            assert_eq!(payload.kind(), known.kind);
            let body = Value::Object(payload.fields()).to_string();
            assert_eq!(Payload::read(known.kind, &body).expect("reads"), payload, "{}", known.kind);
        }
        let payload = Payload::SessionEnd(SessionEnd { session_id: "ses_1".into(), reason: Some("normal".into()) });
        let body = Value::Object(payload.fields()).to_string();
        assert_eq!(Payload::read("agent.session.end", &body).expect("reads"), payload);
        assert!(Payload::read("agent.session.end", r#"{"session_id":7}"#).is_err(), "a wrong type is not guessed at");
        assert!(
            Payload::read("message.receipt", r#"{"message_id":"m","agent_id":"a","receipt_type":"smelled"}"#).is_err()
        );
    }
}
