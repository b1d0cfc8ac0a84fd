//! The output of `thrum sync verify` for users.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use thrum_core::{ErrorKind, RangeSet, name::printable};

use crate::{
    answers::Answer,
    render::{
        Page, Render,
        style::{GREEN, RED, YELLOW},
    },
    text::{count, quote},
};

/// The answer to `sync.verify`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Verified {
    status: String,
    daemon_id: String,
    events: u64,
    fetched: u64,
    peers: Vec<VerifiedPeer>,
    /// The names of the origins of events that differ, by id.
    names: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct VerifiedPeer {
    name: String,
    daemon_id: String,
    status: String,
    differences: Vec<Difference>,
    missing: Vec<Missing>,
    error: Option<String>,
}

/// How many events of one origin's log each side holds and has purged. Only for logs in which the two sides differ.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Difference {
    origin: String,
    log: String,
    here: u64,
    there: u64,
    purged_here: u64,
    purged_there: u64,
}

/// The exact differences in one origin's log.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Missing {
    origin: String,
    log: String,
    here: MissingEvents,
    there: MissingEvents,
    purged_there: RangeSet,
    purged_here: RangeSet,
    fetched: u64,
    other_content: u64,
    note: Option<String>,
}

/// Events that are missing on one side.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct MissingEvents {
    events: u64,
    numbers: RangeSet,
    ids: Vec<String>,
}

impl Render for Answer<Verified> {
    fn human(&self, page: &mut Page) {
        let Verified { status, daemon_id, events, fetched, peers, names } = &self.read;
        let whose = |origin: &str, log: &str| {
            let name = names.get(origin).map_or(origin, String::as_str);
            let name = if origin == daemon_id { "this daemon".to_owned() } else { quote(name) };
            let log = if log.is_empty() { String::new() } else { format!(" (log {})", quote(log)) };
            format!("of {name}{log}")
        };
        for peer in peers {
            let name = quote(&peer.name);
            match peer.status.as_str() {
                "equal" => {
                    let but = peer.error.as_deref().map(|but| format!(": {}", printable(but))).unwrap_or_default();
                    let now = if peer.missing.is_empty() { "" } else { " now" };
                    page.line(format!("{GREEN}●{GREEN:#} {name}  holds the same{now}{but}"));
                }
                "differs" => {
                    let what = peer.error.as_deref().map(|what| format!(": {}", printable(what))).unwrap_or_default();
                    page.line(format!("{RED}●{RED:#} {name}  differs{what}"));
                }
                state => {
                    let why = peer.error.as_deref().map_or_else(|| state.replace('_', " "), str::to_owned);
                    let what = if state == "waiting" { "differs for now" } else { "not compared" };
                    page.line(format!("{YELLOW}●{YELLOW:#} {name}  {what}: {}", printable(&why)));
                }
            }
            for difference in &peer.differences {
                let side = |held: u64, purged: u64| {
                    if purged > 0 { format!("{held} ({purged} purged)") } else { held.to_string() }
                };
                let (here, there) =
                    (side(difference.here, difference.purged_here), side(difference.there, difference.purged_there));
                page.line(format!("    {}: {here} here, {there} there", whose(&difference.origin, &difference.log)));
            }
            for missing in &peer.missing {
                let what = facts(missing).join("; ");
                page.line(format!("    {}: {what}", whose(&missing.origin, &missing.log)));
            }
        }
        page.line(match status.as_str() {
            "equal" if *fetched > 0 => {
                format!(
                    "Nothing is missing any more: {} fetched, {} on every side",
                    count(*fetched, "event"),
                    count(*events, "event")
                )
            }
            "equal" => format!("Nothing is missing: {} on every side", count(*events, "event")),
            "differs" => "Something is missing".to_owned(),
            "waiting" => "Something has yet to arrive, or a purge has yet to come; compare again later".to_owned(),
            "no_peers" => "There is no peer to compare with".to_owned(),
            _ => "Not every peer could be asked".to_owned(),
        });
    }

    fn json(&self) -> Value {
        self.raw.clone()
    }

    fn code(&self) -> u8 {
        match self.read.status.as_str() {
            "equal" => 0,
            "differs" => ErrorKind::Failed.exit_code(),
            _ => ErrorKind::TryAgain.exit_code(),
        }
    }
}

/// Lists the differences found in one log.
fn facts(missing: &Missing) -> Vec<String> {
    let Missing { here, there, purged_there, purged_here, fetched, other_content, note, .. } = missing;
    let were = |lack: &MissingEvents, past: bool| match (lack.events, past) {
        (1, true) => "was",
        (1, false) => "is",
        (_, true) => "were",
        (_, false) => "are",
    };
    let mut facts = Vec::new();
    if here.events > 0 {
        let is_whole = *fetched >= here.events;
        let came = match *fetched {
            0 => String::new(),
            _ if is_whole => ", and came from it".to_owned(),
            some => format!(", of which {some} came from it"),
        };
        facts.push(format!("{} {} missing here{came}", describe(here), were(here, is_whole)));
    }
    if there.events > 0 {
        facts.push(format!("{} {} missing there", describe(there), were(there, true)));
    }
    let purged = |runs: &RangeSet, side: &str| (!runs.is_empty()).then(|| format!("{runs} purged {side}"));
    facts.extend(purged(purged_there, "there"));
    facts.extend(purged(purged_here, "here"));
    if *other_content > 0 {
        facts.push(format!(
            "{} {} another content there",
            count(*other_content, "event"),
            if *other_content == 1 { "has" } else { "have" }
        ));
    }
    facts.extend(note.as_deref().map(printable));
    facts
}

/// Describes missing events: `4 events (5–7, 12)`. For events missing here, the peer only claims the numbers. The ids
/// may come from anyone, so they are escaped.
fn describe(lack: &MissingEvents) -> String {
    let ids = lack.ids.iter().map(|id| quote(id)).collect::<Vec<_>>().join(", ");
    let names = if lack.numbers.is_empty() { ids } else { lack.numbers.to_string() };
    let shown = if lack.numbers.is_empty() { lack.ids.len() as u64 } else { lack.numbers.count() };
    let more = match lack.events.saturating_sub(shown) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{} ({names}{more})", count(lack.events, "event"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use thrum_core::Timestamp;

    use super::*;

    fn verified(raw: Value) -> (String, u8) {
        let answer: Answer<Verified> = serde_json::from_value(raw).unwrap();
        let mut page = Page::new(None, Timestamp::ZERO);
        answer.human(&mut page);
        (page.plain(), answer.code())
    }

    #[test]
    fn missing_events_are_listed_by_origin_with_exit_code_one() {
        let peers = json!([
            {"name": "desk", "daemon_id": "d_k", "status": "differs",
             "differences": [{"origin": "d_kabc", "log": "77", "here": 4, "there": 3}, {"origin": "d_go", "log": "78", "here": 0, "there": 9}]},
            {"name": "old", "daemon_id": "d_go", "status": "unreachable", "differences": [], "error": "it cannot be compared"},
        ]);
        let text = "\
● desk  differs
    of d_kabc (log 77): 4 here, 3 there
    of old (log 78): 0 here, 9 there
● old  not compared: it cannot be compared
Something is missing
";
        let names = json!({"d_go": "old"});
        let raw = json!({"status": "differs", "daemon_id": "d_kme", "events": 4, "projection": "00", "peers": peers, "names": names});
        assert_eq!(verified(raw), (text.to_owned(), 1));
    }

    #[test]
    fn an_unreachable_peer_is_try_again_and_agreement_is_success() {
        let of = |status: &str| verified(json!({"status": status, "events": 1, "peers": []})).1;
        assert_eq!([of("equal"), of("differs"), of("unreachable"), of("waiting"), of("no_peers")], [0, 1, 75, 75, 75]);
    }

    #[test]
    fn purged_events_are_shown_beside_held_ones() {
        let peer = |status: &str, differences: Value| json!({"name": "desk", "daemon_id": "d_k", "status": status, "differences": differences, "error": "a purge waits there"});
        let difference = json!([{"origin": "d_k", "log": "77", "here": 4, "there": 9, "purged_here": 6}]);
        let raw = json!({"status": "waiting", "events": 4, "peers": [peer("waiting", difference), peer("equal", json!([]))], "names": {"d_k": "desk"}});
        let text = "\
● desk  differs for now: a purge waits there
    of desk (log 77): 4 (6 purged) here, 9 there
● desk  holds the same: a purge waits there
Something has yet to arrive, or a purge has yet to come; compare again later
";
        assert_eq!(verified(raw), (text.to_owned(), 75));
    }

    #[test]
    fn fetched_events_and_unavailable_ones_are_listed() {
        let missing = json!([
            {"origin": "d_kdesk", "log": "77", "here": {"events": 4, "numbers": [[5, 7], [12, 12]]}, "fetched": 4},
            {"origin": "d_kme", "log": "78", "there": {"events": 1, "numbers": [[9, 9]]}, "purged_there": [[1, 3]]},
            {"origin": "d_go", "log": "", "here": {"events": 1200, "ids": ["evt_1", "evt_2"]}, "other_content": 1, "note": "it lies"},
        ]);
        let desk =
            json!({"name": "desk", "daemon_id": "d_kdesk", "status": "equal", "differences": [], "missing": missing});
        let names = json!({"d_kdesk": "desk", "d_kme": "laptop"});
        let raw = json!({"status": "equal", "daemon_id": "d_kme", "events": 40, "fetched": 4, "peers": [desk], "names": names});
        let text = "\
● desk  holds the same now
    of desk (log 77): 4 events (5–7, 12) were missing here, and came from it
    of this daemon (log 78): 1 event (9) was missing there; 1–3 purged there
    of d_go: 1200 events (evt_1, evt_2 and 1198 more) are missing here; 1 event has another content there; it lies
Nothing is missing any more: 4 events fetched, 40 events on every side
";
        assert_eq!(verified(raw), (text.to_owned(), 0));
    }
}
