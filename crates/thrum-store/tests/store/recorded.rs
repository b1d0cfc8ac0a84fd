//! Events written by Go Thrum v0.6.3 are parsed, folded and serialised unchanged.

use std::time::Duration;

use serde_json::Value;
use thrum_core::Payload;

use crate::kit::{self, Node};

fn recorded() -> Vec<Value> {
    include_str!("data/events-go-wrote.jsonl")
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).expect("json"))
        .collect()
}

#[test]
fn recorded_events_are_served_unchanged() {
    let mut node = Node::new(1);
    node.world.set(1_800_000_000_000_000_000);
    let lines = recorded();
    let events: Vec<_> = lines.iter().map(|line| kit::event(&line["event_json"])).collect();
    for event in &events {
        let payload = Payload::read(&event.kind, &event.body).expect("reads");
        assert_ne!(payload, Payload::Unknown, "{}", event.kind);
    }
    assert_eq!(node.apply(&events).applied, 18);
    assert_eq!(node.store.reader().totals().expect("reads").parked, 0);
    let rows = node.store.reader().page(0, 100, usize::MAX).expect("a page").rows;
    for (row, line) in rows.iter().zip(&lines) {
        let mut served: Value = serde_json::from_str(&row.body).expect("json");
        served["sequence"] = row.sequence.into();
        assert_eq!(served, line["event_json"]);
        assert_eq!(
            (row.id.as_str(), row.kind.as_str(), row.origin.as_str()),
            (
                line["event_id"].as_str().expect("text"),
                line["type"].as_str().expect("text"),
                line["origin_daemon"].as_str().expect("text"),
            )
        );
    }
    node.check();
}

#[test]
fn recorded_events_fold_to_the_state_that_go_showed() {
    let mut node = Node::new(1);
    node.world.set(1_800_000_000_000_000_000);
    let events: Vec<_> = recorded().iter().rev().map(|line| kit::event(&line["event_json"])).collect();
    node.apply(&events);
    node.world.pass(Duration::from_secs(1));
    let reader = node.store.reader();
    let edited = reader.message("msg_01M83E134V122W5NSHZGN40QAD", None).expect("reads").expect("is here");
    assert_eq!((edited.body.content.as_str(), edited.edits, edited.deleted_at.is_some()), ("got it (edited)", 1, true));
    let remote = reader.message("msg_01M83CAPTURE00000000000001", None).expect("reads").expect("is here");
    let read: Vec<_> =
        remote.recipients.iter().map(|r| (r.agent_id.as_str(), r.read_at.map(|at| at.to_string()))).collect();
    assert_eq!(read, [("a1", Some("2026-11-23T05:29:36.570854306Z".to_owned()))]);
    let mut agents: Vec<_> =
        reader.agents(&Default::default()).expect("reads").into_iter().map(|a| (a.agent_id, a.role)).collect();
    agents.sort();
    assert_eq!(agents, [("a1".to_owned(), "implementer".to_owned()), ("remote1".to_owned(), "reviewer".to_owned())]);
    let open: Vec<_> = reader
        .sessions(&thrum_store::query::SessionFilter { open_only: true, ..Default::default() })
        .expect("reads")
        .into_iter()
        .map(|s| s.agent_id)
        .collect();
    assert_eq!(open, ["remote1", "a1"]);
    assert_eq!(
        reader.session("ses_01M83E0TASQMXYGX0KY1Z2P4QC").expect("reads").and_then(|s| s.context.intent).as_deref(),
        Some("write tests")
    );
}
