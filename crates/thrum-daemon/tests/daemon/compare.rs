//! Compares two answers: lists the parts that only one of them has, or that differ.

use std::collections::BTreeSet;

use serde_json::Value;
use thrum_core::Timestamp;

/// Keys whose values depend on the moment or the build.
const OF_A_MOMENT: [&str; 3] = ["uptime_ms", "duration_ms", "version"];

/// Keys that identify elements of lists, in order of preference.
const KEYS: [&str; 9] =
    ["message_id", "session_id", "agent_id", "daemon_id", "group_id", "peer", "member_value", "type", "name"];

/// Places in an answer, with the difference found there.
pub type Differences = BTreeSet<(String, String)>;

/// Records where `ours` differs from `theirs`. Instants count as equal, and so do texts for the last contact with a
/// peer ([`settled`]).
pub fn differences(theirs: &Value, ours: &Value, at: &str, found: &mut Differences) {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            for (key, value) in theirs {
                let place = join(at, key);
                match ours.get(key) {
                    Some(_) if OF_A_MOMENT.contains(&key.as_str()) => {}
                    Some(other) => differences(value, other, &place, found),
                    None => add(found, &place, "missing"),
                }
            }
            for key in ours.keys().filter(|key| !theirs.contains_key(*key)) {
                add(found, &join(at, key), "added");
            }
        }
        (Value::Array(theirs), Value::Array(ours)) => lists(theirs, ours, &format!("{at}[]"), found),
        _ if settled(theirs) == settled(ours) => {}
        _ => add(found, at, &format!("Go `{}`, here `{}`", settled(theirs), settled(ours))),
    }
}

fn lists(theirs: &[Value], ours: &[Value], at: &str, found: &mut Differences) {
    let names = |list: &[Value]| list.iter().map(name).collect::<Vec<_>>();
    let (their_names, our_names) = (names(theirs), names(ours));
    for (name, value) in their_names.iter().zip(theirs) {
        match our_names.iter().position(|other| other == name) {
            Some(index) => differences(value, &ours[index], at, found),
            None => add(found, at, &format!("`{name}` missing")),
        }
    }
    for name in our_names.iter().filter(|name| !their_names.contains(name)) {
        add(found, at, &format!("`{name}` added"));
    }
    let shared = |list: &[String], other: &[String]| {
        list.iter().filter(|name| other.contains(name)).cloned().collect::<Vec<_>>()
    };
    if shared(&their_names, &our_names) != shared(&our_names, &their_names) {
        add(found, at, "other order");
    }
}

fn name(value: &Value) -> String {
    let named = KEYS.iter().find_map(|key| value.get(key)?.as_str());
    named.map_or_else(|| settled(value), str::to_owned)
}

/// Returns a value as text. A string that is an instant, or a time of last contact, becomes a placeholder.
fn settled(value: &Value) -> String {
    match value.as_str() {
        Some(text) if Timestamp::parse(text).is_some() => "TIME".to_owned(),
        // `ago()` writes `5s ago`, and after a day the date: that of `last_sync` in `recorded.rs`.
        Some(text) if text.ends_with(" ago") || text.starts_with("2026-01-") => "AGO".to_owned(),
        Some(text) => text.to_owned(),
        None => value.to_string(),
    }
}

fn add(found: &mut Differences, at: &str, what: &str) {
    found.insert((at.to_owned(), what.to_owned()));
}

fn join(at: &str, key: &str) -> String {
    if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") }
}
