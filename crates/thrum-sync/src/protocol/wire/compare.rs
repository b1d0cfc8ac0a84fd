//! Messages that compare one log of one origin: `sync.ranges`, `sync.ids` and `sync.fetch`.
//!
//! Go Thrum does not have these methods. A daemon that supports them and `sync.differs` lists [`PROTOCOL`] in
//! `sync.peer_info`.

use std::ops::Bound;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use thrum_core::{
    RangeSet, SetDigest,
    compare::{Listing, LogOf, Numbers, Part, Wanted},
    limits,
};

use super::{
    BadReply, Id, RpcError,
    frame::{decode, result_line},
};

/// Name of these methods in the list of protocols.
pub const PROTOCOL: &str = "ranges-1";

/// A question about one log of one origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The log in question.
    pub of: LogOf,
    /// The question.
    pub asked: Asked,
}

/// The kinds of questions about a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// `sync.ranges`: which origin sequences above this one are held, and which were purged?
    Numbers(u64),
    /// `sync.ids`: which events are held after the first id up to the second id (empty: the end)?
    Listing(String, String),
    /// `sync.fetch`: send these events.
    Events(Wanted),
}

impl About {
    /// Returns the method and its parameters, without the token.
    pub(super) fn request(&self) -> (&'static str, Value) {
        let LogOf { origin, log } = &self.of;
        match &self.asked {
            Asked::Numbers(after) => ("sync.ranges", json!({"after": after, "origin": origin, "origin_log": log})),
            Asked::Listing(after, upto) => {
                ("sync.ids", json!({"after": after, "origin": origin, "origin_log": log, "upto": upto}))
            }
            Asked::Events(Wanted::Numbers(runs)) => {
                ("sync.fetch", json!({"origin": origin, "origin_log": log, "ranges": runs}))
            }
            Asked::Events(Wanted::Ids(ids)) => ("sync.fetch", json!({"ids": ids, "origin": origin, "origin_log": log})),
        }
    }

    /// Reads the parameters of one of these methods. Every field has a bound.
    pub(super) fn read(method: &str, params: &Map<String, Value>) -> Result<Self, RpcError> {
        #[derive(Deserialize)]
        struct Wire {
            #[serde(default)]
            origin: String,
            #[serde(default)]
            origin_log: String,
            #[serde(default)]
            after: Value,
            #[serde(default)]
            upto: String,
            ranges: Option<RangeSet>,
            #[serde(default)]
            ids: Vec<String>,
        }
        let invalid = |why: &str| RpcError::plain(format!("invalid params: {why}"));
        let wire: Wire = Wire::deserialize(params).map_err(|error| invalid(&error.to_string()))?;
        let too_long = |text: &str| text.len() > limits::MAX_FOREIGN_ID_BYTES;
        let after = wire.after.as_str().unwrap_or_default();
        if [wire.origin.as_str(), &wire.origin_log, after, &wire.upto]
            .into_iter()
            .chain(wire.ids.iter().map(String::as_str))
            .any(too_long)
        {
            return Err(invalid("an id that is too long"));
        }
        let asked = match method {
            "sync.ranges" => Asked::Numbers(wire.after.as_u64().unwrap_or(0)),
            "sync.ids" => Asked::Listing(after.to_owned(), wire.upto),
            _ => Asked::Events(match wire.ranges {
                Some(runs) if runs.len() <= limits::MAX_TOLD_RUNS => Wanted::Numbers(runs),
                None if wire.ids.len() <= limits::MAX_TOLD_IDS => Wanted::Ids(wire.ids),
                _ => return Err(invalid("too many events are named at once")),
            }),
        };
        Ok(Self { of: LogOf { origin: wire.origin, log: wire.origin_log }, asked })
    }
}

/// Encodes the reply to `sync.ranges`.
pub fn numbers_line(id: &Id, numbers: &Numbers) -> String {
    result_line(id, &json!({"held": numbers.held, "next": numbers.next, "purged": numbers.purged}))
}

/// Encodes the reply to `sync.ids`.
pub fn listing_line(id: &Id, listing: &Listing) -> String {
    let part = |part: &Part| json!({"count": part.count, "sum": part.sum, "upto": part.upto});
    let result = match listing {
        Listing::Ids(ids) => json!({"ids": ids}),
        Listing::Parts(parts) => json!({"parts": parts.iter().map(part).collect::<Vec<_>>()}),
    };
    result_line(id, &result)
}

/// Reads the reply to `sync.ranges` above `after`.
///
/// # Errors
/// [`BadReply`] unless all origin sequences lie above `after`, each range set has at most
/// [`limits::MAX_TOLD_RUNS`] ranges, and `next` (if not 0) lies above `after` and not below the reported sequences.
pub fn read_numbers(line: &[u8], asked: u64, after: u64) -> Result<Numbers, BadReply> {
    #[derive(Deserialize)]
    struct Wire {
        held: RangeSet,
        #[serde(default)]
        purged: RangeSet,
        #[serde(default)]
        next: u64,
    }
    let Wire { held, purged, next } = decode(line, asked)?;
    let wrong = |why: &str| Err(BadReply::Result(why.to_owned()));
    let told = [&held, &purged];
    if told.iter().filter_map(|runs| runs.lowest()).any(|lowest| lowest <= after) {
        return wrong("numbers that were not asked for");
    }
    if next > 0 && (next <= after || told.iter().filter_map(|runs| runs.highest()).any(|highest| highest > next)) {
        return wrong("numbers that do not go on");
    }
    Ok(Numbers { held, purged, next })
}

/// Reads the reply to `sync.ids` between two ids.
///
/// # Errors
/// [`BadReply`] unless the reply contains at most [`limits::MAX_TOLD_IDS`] ordered ids from the requested interval, or
/// 2 to [`limits::TOLD_PARTS`] parts that together cover the interval, each id with at most
/// [`limits::MAX_FOREIGN_ID_BYTES`].
pub fn read_listing(line: &[u8], asked: u64, after: &str, upto: &str) -> Result<Listing, BadReply> {
    #[derive(Deserialize)]
    struct Wire {
        ids: Option<Vec<(String, SetDigest)>>,
        parts: Option<Vec<WirePart>>,
    }
    #[derive(Deserialize)]
    struct WirePart {
        #[serde(default)]
        upto: String,
        count: u64,
        sum: SetDigest,
    }
    let wrong = |why: &str| Err(BadReply::Result(why.to_owned()));
    let end = if upto.is_empty() { Bound::Unbounded } else { Bound::Included(upto) };
    let in_order = |ids: &[&str]| {
        let inside = |id: &&str| std::ops::RangeBounds::<str>::contains(&(Bound::Excluded(after), end), *id);
        ids.iter().all(inside)
            && ids.is_sorted_by(|a, b| a < b)
            && ids.iter().all(|id| id.len() <= limits::MAX_FOREIGN_ID_BYTES)
    };
    match decode(line, asked)? {
        Wire { ids: Some(ids), parts: None } => {
            if ids.len() > limits::MAX_TOLD_IDS || !in_order(&ids.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>())
            {
                return wrong("ids that were not asked for");
            }
            Ok(Listing::Ids(ids))
        }
        Wire { ids: None, parts: Some(parts) } => {
            let inner: Vec<&str> = parts.iter().rev().skip(1).rev().map(|part| part.upto.as_str()).collect();
            let ends_there = parts.last().is_some_and(|last| last.upto == upto);
            if !(2..=limits::TOLD_PARTS).contains(&(parts.len() as u64))
                || !ends_there
                || !in_order(&inner)
                || inner.contains(&upto)
            {
                return wrong("parts that do not make up the whole");
            }
            Ok(Listing::Parts(
                parts.into_iter().map(|WirePart { upto, count, sum }| Part { upto, count, sum }).collect(),
            ))
        }
        _ => wrong("neither ids nor parts"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(result: &Value) -> Vec<u8> {
        json!({"jsonrpc": "2.0", "result": result, "id": 7}).to_string().into_bytes()
    }

    fn of() -> LogOf {
        LogOf { origin: "d_k".into(), log: "77".into() }
    }

    #[test]
    fn comparison_requests_survive_a_round_trip() {
        let runs: RangeSet = [1, 2, 3, 9].into_iter().collect();
        for asked in [
            Asked::Numbers(12),
            Asked::Listing("evt_1".into(), String::new()),
            Asked::Events(Wanted::Numbers(runs)),
            Asked::Events(Wanted::Ids(vec!["evt_1".into(), "evt_2".into()])),
        ] {
            let about = About { of: of(), asked };
            let (method, params) = about.request();
            assert_eq!(About::read(method, params.as_object().unwrap()).unwrap(), about);
        }
    }

    /// Requests with too many ranges or ids, or ids that are too long (C18 in docs/security.md).
    #[test]
    fn a_question_is_bounded() {
        let many: Vec<[u64; 2]> = (1..=limits::MAX_TOLD_RUNS as u64 + 1).map(|n| [2 * n, 2 * n]).collect();
        let ids: Vec<String> = (0..=limits::MAX_TOLD_IDS).map(|n| n.to_string()).collect();
        for (method, params) in [
            ("sync.fetch", json!({"ranges": many})),
            ("sync.fetch", json!({"ids": ids})),
            ("sync.fetch", json!({"ids": ["x".repeat(257)]})),
            ("sync.fetch", json!({"ranges": [[1, 9_223_372_036_854_775_808_u64]]})),
            ("sync.ranges", json!({"origin": "x".repeat(257)})),
            ("sync.ids", json!({"after": "x".repeat(257)})),
            ("sync.ids", json!({"upto": 7})),
        ] {
            assert!(About::read(method, params.as_object().unwrap()).is_err(), "{method} {params}");
        }
    }

    #[test]
    fn an_answer_is_read_as_it_was_written() {
        let numbers = Numbers { held: [4, 5, 9].into_iter().collect(), purged: [6].into_iter().collect(), next: 9 };
        let id = Some(serde_json::value::RawValue::from_string("7".into()).unwrap());
        assert_eq!(read_numbers(numbers_line(&id, &numbers).as_bytes(), 7, 3).unwrap(), numbers);
        let ids = Listing::Ids(vec![("a".into(), SetDigest::of(b"a")), ("b".into(), SetDigest::of(b"b"))]);
        assert_eq!(read_listing(listing_line(&id, &ids).as_bytes(), 7, "", "").unwrap(), ids);
        let part = |upto: &str| Part { upto: upto.into(), count: 900, sum: SetDigest::of(b"x") };
        let parts = Listing::Parts(vec![part("m"), part("")]);
        assert_eq!(read_listing(listing_line(&id, &parts).as_bytes(), 7, "", "").unwrap(), parts);
    }

    /// C18, C20: replies that would never end, or lead out of the interval.
    #[test]
    fn an_answer_that_makes_no_sense_is_an_error() {
        let many: Vec<[u64; 2]> = (2..=limits::MAX_TOLD_RUNS as u64 + 2).map(|n| [2 * n, 2 * n]).collect();
        for result in [
            json!({"held": [[1, 3]]}),
            json!({"held": [[4, 9]], "next": 8}),
            json!({"held": [], "next": 3}),
            json!({"held": [], "next": -4}),
            json!({"held": [[4, 9_223_372_036_854_775_808_u64]]}),
            json!({"held": many}),
            json!({"held": [], "purged": many}),
            json!({}),
        ] {
            assert!(read_numbers(&says(&result), 7, 3).is_err(), "{result}");
        }
        let sum = SetDigest::default();
        let part = |upto: &str| json!({"upto": upto, "count": 600, "sum": sum});
        for result in [
            json!({"ids": [["a", sum]]}),
            json!({"ids": [["z", sum]]}),
            json!({"ids": [["d", sum], ["d", sum]]}),
            json!({"ids": [["e", sum], ["d", sum]]}),
            json!({"ids": [["d", "00"]]}),
            json!({"parts": [part("d"), part("")]}),
            json!({"parts": [part("m")]}),
            json!({"parts": [part("m"), part("m")]}),
            json!({"parts": [part("b"), part("m")]}),
            json!({"parts": []}),
            json!({"ids": [], "parts": []}),
            json!({}),
        ] {
            assert!(read_listing(&says(&result), 7, "b", "m").is_err(), "{result}");
        }
    }
}
