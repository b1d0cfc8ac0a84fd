//! Forgetting a removed peer: events that only it brought are gone, the rest is as if they had never existed, and they
//! may come back.

use std::collections::BTreeSet;

use serde_json::json;
use thrum_core::{Event, Payload, exchange::Batch, payload};
use thrum_store::query::AgentFilter;

use crate::kit::{Node, foreign, signed};

/// Events of a daemon that signs: an agent, its session, messages, an edit, a receipt and a clean-up of another agent.
fn numbered(number: u64) -> Vec<Event> {
    let mut seq = 0;
    let mut event = |payload: Payload| {
        seq += 1;
        signed(&format!("evt_{number}_{seq}"), number, seq, i64::try_from(seq).expect("small"), &payload)
    };
    let register = |name: &str| {
        Payload::AgentRegister(payload::AgentRegister {
            agent_id: name.into(),
            role: "coder".into(),
            ..payload::AgentRegister::default()
        })
    };
    let mut events = vec![event(register(&format!("ann{number}"))), event(register("gone"))];
    let session_id = format!("ses_{number}");
    events.push(event(Payload::SessionStart(payload::SessionStart {
        session_id: session_id.clone(),
        agent_id: format!("ann{number}"),
    })));
    let context = payload::WorkContext { session_id, intent: Some("work".into()), ..payload::WorkContext::default() };
    events.push(event(Payload::AgentUpdate(payload::AgentUpdate {
        agent_id: format!("ann{number}"),
        work_contexts: vec![context],
    })));
    let expires_at = thrum_core::Timestamp::from_nanos(crate::kit::START + 3_600_000_000_000).to_string();
    let paths = || vec!["src".to_owned(), "docs".to_owned()];
    let claim = |paths| {
        Payload::FileClaim(payload::FileClaim {
            agent_id: format!("ann{number}"),
            paths,
            expires_at: expires_at.clone(),
        })
    };
    let release = |paths| Payload::FileRelease(payload::FileRelease { agent_id: format!("ann{number}"), paths });
    events.extend(
        [claim(paths()), release(vec!["docs".to_owned()]), release(Vec::new()), claim(paths())].map(&mut event),
    );
    for n in 0..20 {
        let body = payload::Body { content: format!("mail {n}"), ..payload::Body::default() };
        let message_id = format!("msg_{number}_{n}");
        let agent_id = format!("ann{number}");
        events.push(event(Payload::MessageCreate(payload::MessageCreate {
            message_id: message_id.clone(),
            agent_id,
            body: body.clone(),
            ..Default::default()
        })));
        events.push(event(Payload::MessageEdit(payload::MessageEdit { message_id, body })));
    }
    events.push(event(Payload::AgentCleanup(payload::AgentCleanup {
        agent_id: "gone".into(),
        ..payload::AgentCleanup::default()
    })));
    events
}

fn of_go(origin: &str) -> Vec<Event> {
    let message = json!({"message_id": format!("msg_{origin}"), "agent_id": "cy", "body": {"content": "hello"}});
    let receipt = json!({"message_id": "msg_nowhere", "agent_id": "cy", "receipt_type": "read"});
    vec![
        foreign(&format!("evt_{origin}_1"), origin, 1, "message.create", message),
        foreign(&format!("evt_{origin}_2"), origin, 2, "message.receipt", receipt),
        foreign(&format!("evt_{origin}_3"), origin, 3, "future.thing", json!({})),
    ]
}

fn apply(node: &mut Node, peer: &str, events: &[Event]) {
    let batch = Batch {
        peer: peer.into(),
        log: "log".into(),
        checkpoint: 1,
        checkpoint_event: String::new(),
        events: events.to_vec(),
        rejected: vec![],
    };
    node.apply_batch(&batch);
}

/// Forgets in as many pieces as necessary; returns the number of removed events.
fn forget(node: &mut Node, peer: &str, keeps: &[&str]) -> u64 {
    let keeps: BTreeSet<String> = keeps.iter().map(|id| (*id).to_owned()).chain([node.home()]).collect();
    node.store.write(|tx| tx.forget(peer)).expect("forgets the checkpoint");
    node.store.write(|tx| tx.begin_forgetting(peer)).expect("begins");
    let mut events = 0;
    loop {
        let piece = node.store.write(|tx| tx.forget_piece(peer, &keeps)).expect("a piece");
        events += piece.events;
        if piece.is_done {
            return events;
        }
    }
}

fn with_own_mail(seed: u64) -> Node {
    let mut node = Node::new(seed);
    node.register("bob", "tester");
    node.send("bob", &["bob"], "of my own");
    node
}

#[test]
fn events_of_a_removed_peer_leave_no_trace_in_the_projection() {
    let mut node = with_own_mail(1);
    apply(&mut node, "d_other", &of_go("d_kept"));
    let (before, total) =
        (node.store.projection().expect("a digest"), node.store.reader().usage(&["d_other"]).expect("usage"));
    apply(&mut node, "d_bad", &numbered(7));
    apply(&mut node, "d_bad", &of_go("d_bad"));
    // From a peer that stays, brought by the other one.
    apply(&mut node, "d_bad", &of_go("d_stays"));
    assert_eq!(node.store.reader().usage(&["d_bad"]).expect("usage").origins, 3);
    let gone = forget(&mut node, "d_bad", &["d_stays"]);
    assert_eq!(gone, (numbered(7).len() + 3) as u64);
    let kept = node.store.reader().usage(&["d_bad"]).expect("usage");
    assert_eq!((kept.origins, kept.agents), (1, 0), "its space is free");
    assert_eq!(node.store.reader().usage(&["d_other"]).expect("usage"), total);
    assert_eq!(node.store.reader().forgetting().expect("reads"), []);
    assert!(node.store.reader().message("msg_7_3", None).expect("reads").is_none());
    assert_eq!(node.store.reader().agents(&AgentFilter::default()).expect("agents").len(), 1);
    node.check();
    let mut never = with_own_mail(1);
    apply(&mut never, "d_other", &of_go("d_kept"));
    assert_eq!(never.store.projection().expect("a digest"), before);
    apply(&mut never, "d_bad", &of_go("d_stays"));
    assert_eq!(never.store.projection().expect("a digest"), node.store.projection().expect("a digest"));
}

#[test]
fn heads_still_equal_those_of_other_peers_and_a_peer_paired_again_restores_the_events() {
    let (mut node, mut holder) = (with_own_mail(1), Node::new(2));
    apply(&mut node, "d_bad", &numbered(7));
    apply(&mut node, "d_bad", &of_go("d_bad"));
    apply(&mut holder, "d_bad", &numbered(7));
    let (all, projection) = (node.store.heads().expect("heads"), node.store.projection().expect("a digest"));
    forget(&mut node, "d_bad", &[]);
    let origin = crate::kit::key(7).id().to_string();
    let (here, there) = (node.store.heads().expect("heads"), holder.store.heads().expect("heads"));
    assert!(
        !here.differences(&there).iter().any(|difference| difference.origin == origin),
        "nobody brings it back by comparing"
    );
    assert!(here.get("d_bad", "").is_none(), "what has no numbers is not counted any more");
    // Half of the events come, then all.
    apply(&mut node, "d_again", &numbered(7)[..10]);
    node.check();
    apply(&mut node, "d_again", &numbered(7));
    apply(&mut node, "d_again", &of_go("d_bad"));
    assert_eq!(node.store.heads().expect("heads"), all);
    assert_eq!(node.store.projection().expect("a digest"), projection);
    node.check();
}

#[test]
fn events_of_the_same_origin_from_another_peer_stay_and_are_folded_alone() {
    let events = numbered(7);
    let mut node = with_own_mail(1);
    // The clean-up and the edits came from the removed peer, the rest from another one.
    let (of_bad, of_other): (Vec<Event>, Vec<Event>) = events.iter().cloned().partition(|event| {
        matches!(event.kind.as_str(), "agent.cleanup" | "message.edit" | "agent.update" | "file.release")
    });
    apply(&mut node, "d_other", &of_other);
    apply(&mut node, "d_bad", &of_bad);
    forget(&mut node, "d_bad", &[]);
    let names: Vec<String> = node
        .store
        .reader()
        .agents(&AgentFilter::default())
        .expect("agents")
        .into_iter()
        .map(|agent| agent.agent_id)
        .collect();
    assert!(names.contains(&"gone".to_owned()), "what its clean-up hid is shown again: {names:?}");
    assert_eq!(node.store.reader().message("msg_7_3", None).expect("reads").expect("is here").edits, 0);
    node.check();
}

#[test]
fn a_cutoff_outlives_its_forgotten_purge_although_another_purge_is_taken_back() {
    let mut node = with_own_mail(1);
    let right = crate::kit::START + 3_600_000_000_000;
    node.world.set(right);
    let purge = |number: u64, origin: &str, seconds: i64| {
        let at = thrum_core::Timestamp::from_nanos(crate::kit::START + seconds * 1_000_000_000).to_string();
        foreign(&format!("evt_purge{number}"), origin, seconds, "purge.executed", json!({"cutoff": at}))
    };
    apply(&mut node, "d_bad", &[purge(1, "d_gone", 600)]);
    forget(&mut node, "d_bad", &[]);
    // The clock is years ahead when another daemon purges, and is corrected afterwards.
    let years = 3 * 365 * 24 * 3600;
    node.world.set(right + years * 1_000_000_000);
    apply(&mut node, "d_other", &[purge(2, "d_ahead", years)]);
    node.world.set(right + 60_000_000_000);
    apply(&mut node, "d_other", &of_go("d_ahead"));
    apply(&mut node, "d_other", &of_go("d_gone"));
    let is_here = |id: &str| node.store.reader().message(id, None).expect("reads").is_some();
    assert!(is_here("msg_d_ahead"), "the purge that lies ahead was taken back");
    assert!(!is_here("msg_d_gone"), "the forgotten one was not");
    node.check();
}

#[test]
fn forgetting_resumes_after_an_interruption_in_bounded_pieces() {
    let mut node = with_own_mail(1);
    let messages = |from: usize, to: usize| -> Vec<Event> {
        let message = |n: usize| json!({"message_id": format!("msg_{n}"), "agent_id": "cy", "body": {"content": "x"}});
        (from..to).map(|n| foreign(&format!("evt_{n}"), "d_bad", 1, "message.create", message(n))).collect()
    };
    apply(&mut node, "d_bad", &messages(0, 1_200));
    node.store.write(|tx| tx.begin_forgetting("d_bad")).expect("begins");
    let keeps = BTreeSet::from([node.home()]);
    let first = node.store.write(|tx| tx.forget_piece("d_bad", &keeps)).expect("a piece");
    assert!(first.events <= 500 && !first.is_done, "{first:?}");
    node.check();
    let fingerprint = node.store.fingerprint();
    let mut node = node.reopen(Some(fingerprint));
    let forgetting = node.store.reader().forgetting().expect("reads").remove(0);
    assert_eq!((forgetting.peer.as_str(), forgetting.done), ("d_bad", 500), "as far as the first piece looked");
    assert_eq!(forgetting.upto, node.store.commit().latest);
    let mut rest = 0;
    while !node.store.reader().forgetting().expect("reads").is_empty() {
        rest += node.store.write(|tx| tx.forget_piece("d_bad", &keeps)).expect("a piece").events;
    }
    assert_eq!(first.events + rest, 1_200);
    assert_eq!(node.store.reader().totals().expect("totals").messages, 1);
    node.check();
}

#[test]
fn the_database_counts_the_events_received_from_each_peer() {
    let mut node = with_own_mail(1);
    let (ours, go) = (numbered(7), of_go("d_bad"));
    apply(&mut node, "d_bad", &ours);
    apply(&mut node, "d_bad", &go);
    // Served again although they are already stored.
    apply(&mut node, "d_bad", &ours);
    let usage = node.store.reader().usage(&["d_bad"]).expect("usage");
    let bytes: usize = ours.iter().chain(&go).map(|event| event.body.len()).sum();
    assert_eq!((usage.bytes, usage.origins, usage.agents, usage.parked), (bytes as u64, 2, 1, 2));
    assert_eq!(node.store.reader().usage(&["d_nobody"]).expect("usage").bytes, 0);
}

/// The ids for which numbers stand in the rows of the log.
fn known_ids(node: &Node) -> (u64, u64) {
    let conn = rusqlite::Connection::open(node.path()).expect("opens");
    let count =
        |table: &str| conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("counts");
    (count("daemons"), count("logs"))
}

/// C20: a peer may name any number of daemons.
#[test]
fn ids_to_which_no_event_refers_any_more_are_removed() {
    let mut node = with_own_mail(1);
    let before = known_ids(&node);
    let events: Vec<Event> = (0..50).flat_map(|n| of_go(&format!("d_go_{n}"))).collect();
    apply(&mut node, "d_one", &events);
    assert_eq!(known_ids(&node), (before.0 + 51, before.1 + 50));
    forget(&mut node, "d_one", &[]);
    assert_eq!(known_ids(&node), (before.0 + 1, before.1), "the peer's id stays until the next time");
    apply(&mut node, "d_two", &events);
    assert_eq!(known_ids(&node).1, before.1 + 50);
    node.check();
    forget(&mut node, "d_two", &[]);
    assert_eq!(known_ids(&node), (before.0 + 1, before.1));
}
