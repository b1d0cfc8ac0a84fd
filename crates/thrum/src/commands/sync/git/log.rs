//! The output of `thrum sync git log`.

use serde::Deserialize;
use serde_json::Value;
use thrum_core::{Timestamp, name::printable};

use crate::{
    answers::Answer,
    render::{Page, Render},
    text::{count, quote},
    time,
};

/// The answer to `git.log`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct GitLog {
    entries: Vec<Entry>,
    /// `true` if there are earlier ones.
    more: bool,
}

/// One entry. `what` says which of the other fields it has.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    at: Timestamp,
    what: String,
    remote: String,
    encrypted: bool,
    stored: u64,
    published: u64,
    bytes: u64,
    purged: bool,
    reason: String,
    count: u64,
    last_at: Timestamp,
    failed_at: Timestamp,
    name: String,
    fingerprint: String,
    by_person: bool,
    #[serde(rename = "ref")]
    reference: String,
}

impl Render for Answer<GitLog> {
    fn human(&self, page: &mut Page) {
        let GitLog { entries, more } = &self.read;
        if entries.is_empty() {
            return page.line("Nothing has happened yet");
        }
        if *more {
            page.line("Earlier entries are not shown (--limit)");
        }
        let rows = entries.iter().map(|entry| vec![page.time(entry.at), describe(entry, page)]).collect();
        page.table(&["WHEN", "WHAT"], rows);
    }

    fn json(&self) -> Value {
        self.raw.clone()
    }
}

/// Describes an entry in one line.
fn describe(entry: &Entry, page: &Page) -> String {
    let daemon = || format!("{} ({})", quote(&entry.name), printable(&entry.fingerprint));
    match entry.what.as_str() {
        "on" => {
            let encrypted = if entry.encrypted { ", encrypted" } else { "" };
            format!("switched on through {}{encrypted}", quote(&entry.remote))
        }
        "off" => "switched off".to_owned(),
        "exchanged" => {
            let mut parts = Vec::new();
            if entry.stored > 0 {
                parts.push(format!("stored {}", count(entry.stored, "event")));
            }
            if entry.published > 0 || entry.bytes > 0 {
                parts.push(format!("published {} ({})", count(entry.published, "event"), size(entry.bytes)));
            }
            if entry.purged {
                parts.push("published a purge".to_owned());
            }
            parts.join(", ")
        }
        "failed" => {
            let last = page.time(entry.last_at);
            let times = if entry.count > 1 { format!(" {} times, last {last}", entry.count) } else { String::new() };
            format!("failed{times}: {}", printable(&entry.reason))
        }
        "recovered" => format!("works again, after {}", time::brief(entry.at.since(entry.failed_at))),
        "seen" => format!("saw {} for the first time", daemon()),
        "more_seen" => format!("saw {} for the first time", count(entry.count, "more daemon")),
        "trusted" if entry.by_person => format!("trusted {}", daemon()),
        "trusted" => format!("trusted {}: it is a peer, or trusted by a trusted daemon", daemon()),
        "distrusted" => format!("distrusted {}", daemon()),
        "gone" => format!("{} is no longer on the remote", daemon()),
        "returned" => format!("{} is on the remote again", daemon()),
        "removed" => format!("removed {} from {}", printable(&entry.reference), quote(&entry.remote)),
        other => quote(other),
    }
}

/// Formats a number of bytes.
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => count(bytes, "byte"),
        1024..0x10_0000 => format!("{:.1} KB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MB", bytes as f64 / f64::from(1 << 20)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_entry_is_a_line_and_nothing_in_it_controls_the_terminal() {
        let at = |second: u32| format!("2026-03-28T10:05:{second:02}Z");
        let daemon = json!({"name": "de\u{1b}sk\n", "daemon_id": "d_k", "fingerprint": "aaaa-bbbb-cccc-dddd"});
        let of_daemon = |what: &str| {
            let mut entry = daemon.clone();
            (entry["at"], entry["what"]) = (at(1).into(), what.into());
            entry
        };
        let entries = json!([
            {"at": at(0), "what": "on", "remote": "origin", "encrypted": true},
            of_daemon("seen"),
            of_daemon("trusted"),
            {"at": at(2), "what": "failed", "reason": "no\u{1b}[2J route", "count": 3, "last_at": at(8)},
            {"at": at(9), "what": "recovered", "failed_at": at(2)},
            {"at": at(9), "what": "exchanged", "stored": 1, "published": 2, "bytes": 1536, "purged": true},
            {"at": at(10), "what": "more_seen", "count": 7},
            of_daemon("distrusted"),
            of_daemon("gone"),
            of_daemon("returned"),
            {"at": at(10), "what": "removed", "remote": "old", "ref": "refs/thrum/d_k"},
            {"at": at(11), "what": "a later kind"},
            {"at": at(12), "what": "off"},
        ]);
        let answer: Answer<GitLog> = serde_json::from_value(json!({"entries": entries, "more": true})).unwrap();
        let mut page = Page::new(None, Timestamp::ZERO);
        answer.human(&mut page);
        let shown = page.plain();
        assert!(!shown.contains('\u{1b}') && shown.lines().count() == 15, "{shown}");
        for line in [
            "Earlier entries are not shown (--limit)",
            "switched on through origin, encrypted",
            "failed 3 times, last 2026-03-28T10:05:08Z: no\\u{1b}[2J route",
            "works again, after 7s",
            "stored 1 event, published 2 events (1.5 KB), published a purge",
            "saw 7 more daemons for the first time",
            "(aaaa-bbbb-cccc-dddd) is no longer on the remote",
            "(aaaa-bbbb-cccc-dddd): it is a peer, or trusted by a trusted daemon",
            "removed refs/thrum/d_k from old",
            "switched off",
        ] {
            assert!(shown.lines().any(|shown| shown.ends_with(line)), "no '{line}' in: {shown}");
        }
    }
}
