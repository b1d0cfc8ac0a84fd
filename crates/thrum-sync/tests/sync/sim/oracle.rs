//! Derives the projection from the log without the store, so that an error in the store is found even if all daemons
//! share it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use thrum_core::{Timestamp, limits};
use thrum_sync::Log;

use super::watcher::Purges;
use crate::kit::StoreLog;

/// Order of changes: by time, then by event id.
type Rank = (Timestamp, String);

#[derive(Default)]
struct Message {
    created: Option<(Rank, Value)>,
    edits: BTreeMap<Rank, Value>,
    deletions: BTreeMap<Rank, Value>,
    reads: BTreeSet<(String, String)>,
}

/// Asserts that a daemon shows each message as its log defines it.
pub(super) fn assert_shown(log: &StoreLog, name: &str, purged: &Purges) {
    for (id, message) in read(log) {
        let shown = log.message(&id);
        if purged.takes(&id) {
            assert!(shown.is_none(), "P5: {name} shows {id}, which was purged");
            continue;
        }
        let Some(((at, _), created)) = message.created else {
            assert!(shown.is_none(), "P5: {name} shows {id}, which nobody wrote");
            continue;
        };
        let shown = shown.unwrap_or_else(|| panic!("P5: {name} does not show {id}, which is in its log"));
        let by_author = |events: &BTreeMap<Rank, Value>| -> Vec<(Rank, Value)> {
            let own = events.iter().filter(|(_, event)| event["origin_daemon"] == created["origin_daemon"]);
            own.map(|(rank, event)| (rank.clone(), event.clone())).collect()
        };
        let (edits, deletions) = (by_author(&message.edits), by_author(&message.deletions));
        let body = edits.last().map_or(&created, |(_, event)| event)["body"]["content"].as_str();
        assert_eq!(Some(shown.body.content.as_str()), body, "P5: {name} shows another text of {id} than its last edit");
        assert_eq!(shown.claimed_at, at, "P5: {id} at {name}");
        assert!(shown.created_at <= at, "P5: {name} shows {id} later than it was written");
        assert_eq!(shown.edit_claimed_at, edits.last().map(|((at, _), _)| *at), "P5: the last edit of {id} at {name}");
        assert_eq!(shown.edits, edits.len() as u64, "P3: {name} counts edits of {id} that there are not");
        let deleted_at = deletions.first().map(|((at, _), _)| *at);
        assert_eq!(
            shown.deleted_at.map(|at| Some(at) <= deleted_at),
            deleted_at.map(|_| true),
            "P5: the deletion of {id} at {name}"
        );
        for recipient in &shown.recipients {
            let Some(home) = &recipient.home else { continue };
            let read = message.reads.contains(&(recipient.agent_id.clone(), home.clone()));
            assert_eq!(
                recipient.read_at.is_some(),
                read,
                "P3: what {name} shows of {} having read {id}",
                recipient.agent_id
            );
        }
    }
}

fn read(log: &StoreLog) -> BTreeMap<String, Message> {
    let mut messages: BTreeMap<String, Message> = BTreeMap::new();
    for row in log.page(0, 1_000_000, 1 << 40).unwrap().rows.into_iter().filter(|row| row.kind.starts_with("message."))
    {
        let event: Value = serde_json::from_str(&row.body).unwrap();
        let (Some(id), Some(at)) = (
            event["message_id"].as_str().filter(|id| id.len() <= limits::MAX_FOREIGN_ID_BYTES),
            event["timestamp"].as_str().and_then(Timestamp::parse),
        ) else {
            continue;
        };
        let rank = (at, row.id);
        let message = messages.entry(id.to_owned()).or_default();
        match row.kind.as_str() {
            // Unreadable events are not folded.
            "message.create"
                if event["body"]["content"].is_string()
                    && message.created.as_ref().is_none_or(|(first, _)| rank < *first) =>
            {
                message.created = Some((rank, event));
            }
            "message.edit" => drop(message.edits.insert(rank, event)),
            "message.delete" => drop(message.deletions.insert(rank, event)),
            "message.receipt" if event["receipt_type"] == "read" => {
                let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
                message.reads.insert((text("agent_id"), text("origin_daemon")));
            }
            _ => {}
        }
    }
    messages
}
