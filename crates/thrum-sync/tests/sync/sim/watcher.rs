//! Reads a daemon's log by cursor at every commit, as `events.watch` does. Also checks each changed message as it is
//! shown at that moment.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use thrum_core::{Timestamp, exchange::Row, ids};
use thrum_sync::Log;

use crate::kit::StoreLog;

/// State of the reader.
#[derive(Default)]
pub struct Watcher {
    cursor: u64,
    /// All rows, by sequence.
    rows: BTreeMap<u64, Seen>,
    /// All events, with the data that decides whether a purge may remove them.
    pub events: BTreeMap<String, Seen>,
    /// The event of each `origin_seq`, in each log of each origin. In a log that was restored and continued before this
    /// was noticed, one origin sequence has two events.
    origins: BTreeMap<(String, String), BTreeMap<u64, String>>,
    forked: BTreeSet<(String, String)>,
    messages: BTreeMap<String, Shown>,
    /// By event: the peer that sent it; empty for local events.
    sources: BTreeMap<String, String>,
    /// All purges known here.
    pub purged: Purges,
    /// Message creations that were seen.
    created: BTreeSet<String>,
}

/// The effect of purges: everything before an instant, and the messages that they name.
#[derive(Clone, Debug, Default)]
pub struct Purges {
    pub before: Timestamp,
    named: BTreeSet<String>,
}

impl Purges {
    pub fn add(&mut self, other: &Self) {
        self.before = self.before.max(other.before);
        self.named.extend(other.named.iter().cloned());
    }

    /// Returns `true` if the message with this id is purged.
    pub fn takes(&self, message_id: &str) -> bool {
        self.named.contains(message_id)
            || ids::ulid_time(message_id).is_some_and(|made| made.millis() < self.before.millis())
    }
}

/// Data of an event that is needed after the event is gone.
#[derive(Clone, Debug)]
pub struct Seen {
    pub id: String,
    pub kind: String,
    pub at: Timestamp,
    pub target: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Shown {
    Here { edited: Option<Timestamp>, deleted: Option<Timestamp> },
    Gone,
}

impl Seen {
    pub(super) fn read(row: &Row) -> Self {
        Self::of(row, &serde_json::from_str(&row.body).unwrap())
    }

    fn of(row: &Row, event: &Value) -> Self {
        Self { id: row.id.clone(), kind: row.kind.clone(), ..Self::of_event(event) }
    }

    /// Reads an event from its canonical form.
    pub(super) fn of_event(event: &Value) -> Self {
        let text = |key: &str| event[key].as_str().map(str::to_owned);
        let (id, kind) = (text("event_id").unwrap_or_default(), text("type").unwrap_or_default());
        let target = match kind.as_str() {
            "message.create" | "message.edit" | "message.delete" | "message.receipt" => text("message_id"),
            "agent.session.start" | "agent.session.end" => text("session_id"),
            _ => None,
        };
        let at = text("timestamp").and_then(|at| Timestamp::parse(&at)).unwrap_or(Timestamp::ZERO);
        Self { id, kind, at, target }
    }

    /// Returns `true` if purges remove the event. Implemented independently of the store.
    pub fn is_purged_by(&self, purges: &Purges) -> bool {
        let cutoff = purges.before;
        let by_id = |id: &String| ids::ulid_time(id).map(|_| purges.takes(id));
        match self.kind.as_str() {
            "message.create"
            | "message.edit"
            | "message.receipt"
            | "agent.woken"
            | "agent.session.start"
            | "agent.session.end" => {
                self.target.as_ref().and_then(by_id).unwrap_or(self.at < cutoff || purges.named.contains(&self.id))
            }
            "agent.update" | "agent.presence" => self.at < cutoff || purges.named.contains(&self.id),
            _ => false,
        }
    }

    /// Returns `true` if the event is about a message that another event created.
    fn is_dependent(&self) -> bool {
        ["message.edit", "message.delete", "message.receipt"].contains(&self.kind.as_str())
    }
}

impl Watcher {
    /// Reads new rows, which must be consistent with the earlier ones (P4, P5). `source` sent the new ones. Returns the
    /// senders of the rows, including moved ones.
    ///
    /// Events of one log come in their order if `in_order`, except those that anybody has purged: a peer passes on what
    /// follows them, and another one, which has not heard of the purge yet, passes on the events themselves.
    pub fn poll(
        &mut self,
        log: &StoreLog,
        name: &str,
        source: &str,
        in_order: bool,
        purged: &Purges,
    ) -> BTreeSet<String> {
        let mut sources = BTreeSet::new();
        loop {
            let page = log.page(self.cursor, 1000, 1 << 30).unwrap();
            let mut touched = BTreeSet::new();
            for row in &page.rows {
                let event: Value = serde_json::from_str(&row.body).unwrap();
                let seen = Seen::of(row, &event);
                sources.insert(self.sources.entry(row.id.clone()).or_insert_with(|| source.to_owned()).clone());
                let in_order = in_order && !seen.is_purged_by(purged);
                self.take(row.sequence, &seen, &event, name, in_order);
                match seen.target {
                    Some(target) if seen.kind.starts_with("message.") => drop(touched.insert(target)),
                    _ if seen.kind == "purge.executed" => touched.extend(self.messages.keys().cloned()),
                    _ => {}
                }
            }
            touched.iter().for_each(|message| self.look(log, message, name));
            if !page.more {
                return sources;
            }
        }
    }

    fn take(&mut self, sequence: u64, seen: &Seen, event: &Value, name: &str, in_order: bool) {
        assert!(sequence > self.cursor, "P4: {name} serves {sequence} after {}", self.cursor);
        self.cursor = sequence;
        self.rows.insert(sequence, seen.clone());
        let known = self.events.insert(seen.id.clone(), seen.clone());
        if let Some(known) = known {
            assert!(known.is_dependent(), "P4: {name} shows {known:?} a second time, at {sequence}");
            assert!(
                seen.target.as_ref().is_some_and(|target| self.created.contains(target)),
                "P4: {name} moved {seen:?} behind nothing"
            );
            return;
        }
        if let Some(cutoff) =
            event["cutoff"].as_str().and_then(Timestamp::parse).filter(|_| seen.kind == "purge.executed")
        {
            let named = event["ahead"].as_array().into_iter().flatten().filter_map(|id| id.as_str().map(str::to_owned));
            self.purged.add(&Purges { before: cutoff.min(seen.at), named: named.collect() });
        }
        if seen.kind == "message.create" {
            self.created.extend(seen.target.clone());
        }
        let (Some(origin), Some(log), Some(number)) =
            (event["origin_daemon"].as_str(), event["origin_log"].as_str(), event["origin_seq"].as_u64())
        else {
            return;
        };
        let of = (origin.to_owned(), log.to_owned());
        let known = self.origins.entry(of.clone()).or_default();
        let last = known.last_key_value().map_or(0, |(last, _)| *last);
        if known.insert(number, seen.id.clone()).is_some() {
            self.forked.insert(of.clone());
        }
        // A row that was moved behind its message also comes late to our readers.
        let may_be_late = !in_order || seen.is_dependent() || self.forked.contains(&of);
        assert!(
            number > last || may_be_late,
            "P4: {name} shows event {number} of {origin} in {log} after {last}: {seen:?}"
        );
    }

    /// Checks a message as shown now against its earlier state.
    fn look(&mut self, log: &StoreLog, message: &str, name: &str) {
        let now = match log.message(message) {
            Some(shown) => Shown::Here { edited: shown.edit_claimed_at, deleted: shown.deleted_at },
            None if self.messages.contains_key(message) => Shown::Gone,
            // The event is about a message that is not here.
            None => return,
        };
        let before = self.messages.insert(message.to_owned(), now.clone());
        match (before, &now) {
            (Some(Shown::Gone), Shown::Here { .. }) => panic!("P5: {message} was purged at {name} and is back"),
            (Some(Shown::Here { edited, deleted }), Shown::Here { edited: edited_now, deleted: deleted_now }) => {
                assert!(
                    *edited_now >= edited,
                    "P5: {message} at {name} goes back from its edit of {edited:?} to that of {edited_now:?}"
                );
                assert!(deleted.is_none() || deleted_now.is_some(), "P5: {message} was deleted at {name} and is back");
            }
            _ => {}
        }
    }

    /// Asserts that no row was inserted below the cursor, and that seen rows vanished only by a purge or a move to a
    /// later position (P4, P2).
    pub fn look_back(&self, log: &StoreLog, name: &str, purged: &Purges) {
        let rows = log.page(0, 1_000_000, 1 << 40).unwrap().rows;
        let mut held = BTreeSet::new();
        for row in rows.iter().filter(|row| row.sequence <= self.cursor) {
            let seen = self.rows.get(&row.sequence);
            assert!(
                seen.is_some_and(|seen| seen.id == row.id),
                "P4: {name} put {} at {} below a seen sequence, over {seen:?}",
                row.id,
                row.sequence
            );
            held.insert(&row.id);
        }
        for (id, seen) in &self.events {
            assert!(held.contains(id) || seen.is_purged_by(purged), "P2: {name} showed {seen:?} and has it no more");
        }
        for (message, shown) in &self.messages {
            if *shown == Shown::Gone {
                assert!(log.message(message).is_none(), "P5: {message} was purged at {name} and is back");
            }
        }
    }
}
