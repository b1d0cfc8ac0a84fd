//! The log: numbering, pages, checkpoints, duplicates, groups of writers.

use serde_json::json;
use std::sync::{Arc, Mutex, mpsc};
use thrum_core::{
    Error, ErrorKind,
    event::Rejected,
    exchange::{self, Batch, Checkpoint, Holder},
};
use thrum_store::{Readers, StoreError, Writer, ops::Send, query::Filter};

use crate::kit::{Node, foreign, served};

#[test]
fn our_events_are_signed_numbered_without_gaps_and_later_than_earlier_ones() {
    let mut node = Node::new(1);
    node.register("ann", "coder");
    node.world.set(crate::kit::START - 60_000_000_000);
    for n in 0..5 {
        node.send("ann", &["ann"], &format!("{n}"));
    }
    let mut other = Node::new(2);
    let (outcome, _) = other.pull(&node, 0);
    assert_eq!((outcome.applied, outcome.rejected), (6, 0), "every signature holds");
    let rows = node.store.reader().page(0, 100, usize::MAX).expect("a page").rows;
    let fields: Vec<serde_json::Value> =
        rows.iter().map(|row| serde_json::from_str(&row.body).expect("json")).collect();
    let numbers: Vec<u64> = fields.iter().map(|event| event["origin_seq"].as_u64().expect("a number")).collect();
    let times: Vec<&str> = fields.iter().map(|event| event["timestamp"].as_str().expect("text")).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
}

#[test]
fn a_page_respects_both_bounds_but_holds_at_least_one_event() {
    let mut node = Node::new(1);
    node.register("ann", "coder");
    for _ in 0..4 {
        node.send("ann", &["ann"], &"x".repeat(1000));
    }
    let page = |after, events, bytes| {
        let page = node.store.reader().page(after, events, bytes).expect("a page");
        (page.rows.iter().map(|row| row.sequence).collect::<Vec<_>>(), page.more)
    };
    assert_eq!(page(0, 2, usize::MAX), (vec![1, 2], true));
    assert_eq!(page(1, 100, 1), (vec![2], true), "one event is larger than the bound");
    assert_eq!(page(1, 100, 4000), (vec![2, 3], true));
    assert_eq!(page(3, 2, usize::MAX), (vec![4, 5], false), "exactly the rest");
    assert_eq!(page(5, 10, 10), (vec![], false));
    assert_eq!(page(u64::MAX, 10, 10), (vec![], false));
}

#[test]
fn a_page_for_a_peer_leaves_out_the_bodies_of_what_it_is_assumed_to_hold() {
    let mut node = Node::new(1);
    node.register("ann", "coder");
    let apply = |node: &mut Node, peer: &str, id: &str, origin: &str| {
        let event = foreign(id, origin, 1, "future.thing", json!({}));
        node.apply_batch(&Batch { peer: peer.into(), ..served(&[event]) });
    };
    apply(&mut node, "d_peer", "evt_from_the_peer", "d_x");
    apply(&mut node, "d_other", "evt_of_the_peer", "d_peer");
    apply(&mut node, "d_other", "evt_known", "d_known");
    apply(&mut node, "d_other", "evt_unknown", "d_x");
    let left_out = |origins: &[&str]| {
        let origins = origins.iter().map(|&origin| origin.to_owned()).collect();
        let holder = Holder { peer: "d_peer", origins: &origins };
        let page = node.store.reader().page_for(holder, 0, 100, usize::MAX).expect("a page");
        assert_eq!(page.rows.iter().map(|row| row.sequence).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        page.rows.into_iter().filter(|row| row.body.is_empty()).map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(left_out(&[]), ["evt_from_the_peer", "evt_of_the_peer"]);
    // Not our own events, even if somebody else has served them as well.
    assert_eq!(left_out(&["d_known", &node.home()]), ["evt_from_the_peer", "evt_of_the_peer", "evt_known"]);

    let reader = node.store.reader();
    let digest = |id: &str| {
        let rows = node.store.reader().page(0, 100, usize::MAX).expect("a page").rows;
        exchange::short_digest(&rows.iter().find(|row| row.id == id).expect("it is there").body)
    };
    let (known, unknown) = (digest("evt_known"), digest("evt_unknown"));
    let holds = |references: &[(&str, &str)]| reader.holds_references(references).expect("reads");
    assert!(holds(&[("evt_known", &known), ("evt_unknown", &unknown)]));
    assert!(!holds(&[("evt_known", &known), ("evt_missing", &unknown)]));
    assert!(!holds(&[("evt_known", &unknown)]), "another event with this id");
}

#[test]
fn a_batch_its_projection_and_its_checkpoint_commit_together() {
    let mut node = Node::new(1);
    let event = foreign("evt_1", "d_go", 1, "message.create", json!({"message_id": "msg_1"}));
    let batch = Batch {
        peer: "d_p".into(),
        log: "l1".into(),
        checkpoint: 7,
        checkpoint_event: String::new(),
        events: vec![event],
        rejected: vec![],
    };
    let failed = node.store.write(|tx| {
        tx.apply(&batch)?;
        Err::<(), _>(StoreError::from(Error::new(ErrorKind::Failed, "the disk said no")))
    });
    assert!(failed.is_err());
    let reader = node.store.reader();
    assert_eq!((reader.checkpoint("d_p").expect("reads"), reader.totals().expect("reads").events), (None, 0));
    assert_eq!(node.store.commit().latest, 0, "counters move only at COMMIT");
    node.apply_batch(&batch);
    let reader = node.store.reader();
    assert_eq!(
        reader.checkpoint("d_p").expect("reads"),
        Some(Checkpoint { log: "l1".into(), sequence: 7, event: String::new() })
    );
    assert!(reader.message("msg_1", None).expect("reads").is_some());
    node.store.write(|tx| tx.forget("d_p")).expect("forgets");
    assert_eq!(node.store.reader().checkpoint("d_p").expect("reads"), None);
}

#[test]
fn a_known_event_is_skipped_and_other_content_under_its_id_is_rejected() {
    let mut node = Node::new(1);
    let first = foreign("evt_1", "d_go", 1, "future.thing", json!({"x": 1}));
    let second = foreign("evt_1", "d_go", 1, "future.thing", json!({"x": 2}));
    node.apply(std::slice::from_ref(&first));
    let outcome = node.apply(&[first.clone(), second]);
    assert_eq!((outcome.applied, outcome.skipped), (0, 2));
    let totals = node.store.reader().totals().expect("reads");
    assert_eq!((totals.events, totals.rejected), (1, 1));
    assert_eq!(node.store.reader().page(0, 10, usize::MAX).expect("a page").rows[0].body, first.body);
    let troubles = node.store.reader().troubles("d_peer").expect("reads");
    assert_eq!((troubles.parked, troubles.rejected), (1, 1));
    assert_eq!(troubles.last.map(|last| last.event_id).as_deref(), Some("evt_1"));
}

/// Records rejected events from a peer.
fn refuse(node: &mut Node, peer: &str, rejected: Vec<Rejected>) {
    node.apply_batch(&Batch {
        peer: peer.into(),
        log: String::new(),
        checkpoint: 0,
        checkpoint_event: String::new(),
        events: vec![],
        rejected,
    });
}

fn bad(ids: std::ops::Range<usize>) -> Vec<Rejected> {
    ids.map(|n| Rejected { id: format!("evt_{n}"), reason: "the signature is wrong".into(), sample: "{}".into() })
        .collect()
}

/// Ids of the stored rows of a peer's rejected events, in order of arrival.
fn kept(node: &Node, peer: &str) -> Vec<String> {
    let connection = rusqlite::Connection::open(node.path()).expect("opens");
    let mut statement =
        connection.prepare("SELECT event_id FROM rejected WHERE peer = ?1 ORDER BY number").expect("prepares");
    let rows = statement.query_map([peer], |row| row.get(0)).expect("reads");
    rows.collect::<Result<_, _>>().expect("reads")
}

/// C21: the counter has the total, and the first and the last rows stay.
#[test]
fn rejected_events_are_stored_up_to_a_bound_and_all_are_counted() {
    let mut node = Node::new(1);
    refuse(&mut node, "d_p", bad(0..800));
    refuse(&mut node, "d_p", bad(800..1500));
    let troubles = node.store.reader().troubles("d_p").expect("reads");
    assert_eq!((troubles.rejected, node.store.reader().totals().expect("reads").rejected), (1500, 1500));
    assert_eq!(
        troubles.last.map(|last| (last.event_id, last.reason)),
        Some(("evt_1499".into(), "the signature is wrong".into()))
    );
    let kept = kept(&node, "d_p");
    assert_eq!(
        (kept.len(), kept[0].as_str(), kept[49].as_str(), kept[50].as_str()),
        (100, "evt_0", "evt_49", "evt_1450")
    );
    // A repetition counts once.
    refuse(&mut node, "d_p", vec![bad(1499..1500).remove(0); 50]);
    assert_eq!(node.store.reader().troubles("d_p").expect("reads").rejected, 1500);
    node.store.write(|tx| tx.forget("d_p")).expect("forgets");
    assert_eq!(node.store.reader().troubles("d_p").expect("reads").rejected, 0);
    // Paired again, the peer serves the same event again, and it counts as new.
    refuse(&mut node, "d_p", bad(1499..1500));
    assert_eq!(node.store.reader().troubles("d_p").expect("reads").rejected, 1);
}

#[test]
fn the_total_of_rejected_events_is_the_sum_over_the_peers_that_are_left() {
    let mut node = Node::new(1);
    refuse(&mut node, "d_one", bad(0..3));
    refuse(&mut node, "d_two", bad(0..2));
    let total = |node: &Node| node.store.reader().totals().expect("reads").rejected;
    assert_eq!(total(&node), 5);
    node.store.write(|tx| tx.forget("d_one")).expect("forgets");
    assert_eq!(total(&node), 2);
    refuse(&mut node, "d_two", bad(2..3));
    assert_eq!(total(&node), 3);
}

/// C21: other peers cannot displace the rejected events of one peer, however many they serve.
#[test]
fn floods_of_rejected_events_do_not_displace_those_of_other_peers() {
    let mut node = Node::new(1);
    refuse(&mut node, "d_caught", bad(0..5));
    for peer in 0..30 {
        refuse(&mut node, &format!("d_flood{peer}"), bad(0..1000));
    }
    assert_eq!(kept(&node, "d_caught").len(), 5);
    let all: usize = (0..30).map(|peer| kept(&node, &format!("d_flood{peer}")).len()).sum();
    assert_eq!(all + 5, thrum_core::limits::MAX_REJECTED_ROWS);
    assert_eq!(node.store.reader().troubles("d_flood0").expect("reads").rejected, 1000);
}

#[test]
fn a_commit_states_which_peers_need_an_announcement() {
    let mut node = Node::new(1);
    node.register("ann", "coder");
    node.apply(&[foreign("evt_1", "d_go", 1, "future.thing", json!({}))]);
    let commit = node.store.commit();
    assert_eq!(commit.latest, 2);
    assert_eq!(commit.latest_not_from("d_peer"), 1, "what came from a peer is not announced to it");
    assert_eq!(commit.latest_not_from("d_third"), 2);
    assert_eq!(node.store.reader().backlog("d_peer", 0).expect("counts"), 1);
}

#[test]
fn jobs_that_wait_together_are_committed_together_and_fail_alone() {
    let node = Node::new(1);
    let (path, home) = (node.path(), node.home());
    let Node { store, dir: _dir, .. } = node;
    let commits = Arc::new(Mutex::new(Vec::new()));
    let seen = commits.clone();
    let (begin, begun) = mpsc::channel::<()>();
    let writer = Writer::start(store, move |commit| seen.lock().expect("lock").push(commit.latest)).expect("a thread");
    writer
        .call(|tx| {
            tx.register(thrum_store::ops::Register {
                name: "ann".into(),
                role: "coder".into(),
                module: "m".into(),
                ..Default::default()
            })
        })
        .expect("registers");
    // The first job blocks the thread until all others wait.
    let (done, finished) = mpsc::channel();
    writer.submit(move |_| begun.recv().map_err(|_| StoreError::Closed), |_| {});
    for n in 0..20 {
        let done = done.clone();
        let from = if n == 7 { "nobody" } else { "ann" };
        let send = Send { from: from.into(), content: format!("{n}"), mentions: vec!["ann".into()], ..Send::default() };
        writer.submit(move |tx| tx.send(send), move |outcome| done.send((n, outcome.is_ok())).expect("the test waits"));
    }
    begin.send(()).expect("the job waits");
    let mut outcomes: Vec<(i32, bool)> = (0..20).map(|_| finished.recv().expect("an outcome")).collect();
    outcomes.sort_unstable();
    assert!(outcomes.iter().all(|(n, stored)| *stored == (*n != 7)), "{outcomes:?}");
    let commits = commits.lock().expect("lock").clone();
    assert!(commits.len() <= 3, "20 messages took {} commits", commits.len());
    assert_eq!(commits.last(), Some(&20), "registration and 19 messages");
    let readers = Readers::new(&path, &home);
    let listing = readers.with(|reader| reader.list(&Filter { limit: 100, ..Filter::default() })).expect("lists");
    assert_eq!(listing.total, 19);
    writer.close();
    assert!(matches!(writer.call(|_| Ok(())), Err(StoreError::Closed)));
}

/// Go Thrum lets any agent delete a message. Here only its author may, and other deletions wait for nothing.
#[test]
fn a_deletion_by_another_daemon_is_reported_with_its_reason_and_not_counted_as_waiting() {
    let mut node = Node::new(1);
    let create = foreign("evt_1", "d_ann", 1, "message.create", json!({"message_id": "msg_1", "agent_id": "ann"}));
    let delete = |id: &str, message: &str| foreign(id, "d_go", 2, "message.delete", json!({"message_id": message}));
    node.apply(&[create, delete("evt_2", "msg_1"), delete("evt_3", "msg_not_here")]);
    let troubles = node.store.reader().troubles("d_peer").expect("reads");
    assert_eq!((troubles.parked, troubles.without_effect), (1, 1));
    let (id, why) = troubles.last_without_effect.expect("one");
    assert_eq!((id.as_str(), why.as_str()), ("evt_2", "it deletes a message of another daemon (msg_1)"));
    assert_eq!(node.store.reader().totals().expect("reads").parked, 1);
    assert!(node.store.reader().message("msg_1", None).expect("reads").expect("is here").deleted_at.is_none());
}

#[test]
fn long_events_are_found_newest_first_without_a_scan() {
    let mut node = Node::new(1);
    let edit = |id: &str, bytes: usize| {
        foreign(
            id,
            "d_go",
            2,
            "message.edit",
            json!({"message_id": "msg_1", "body": {"format": "plain", "content": "x".repeat(bytes)}}),
        )
    };
    node.apply(&[
        edit("evt_1", 10),
        edit("evt_2", 180_000),
        edit("evt_3", 169_000),
        edit("evt_4", 200_000),
        edit("evt_5", 1 << 20),
    ]);
    let long = |max, is_too_long: fn(&str) -> bool| {
        let long = node.store.reader().long_events(max, is_too_long).expect("reads");
        (long.ids, long.more)
    };
    let (second, fourth, fifth) = ("evt_2".to_owned(), "evt_4".to_owned(), "evt_5".to_owned());
    assert_eq!(long(10, |_| true), (vec![fifth.clone(), fourth.clone(), second], false));
    assert_eq!(long(2, |_| true), (vec![fifth.clone(), fourth.clone()], true));
    assert_eq!(long(10, |body| body.len() > 190_000), (vec![fifth.clone(), fourth], false));
    // Too long in any form that a Go daemon gives it, so it is not read.
    assert_eq!(long(10, |_| false), (vec![fifth], false));
}

#[test]
fn the_write_ahead_log_is_emptied_once_nothing_is_written_and_nobody_reads_it() {
    let mut node = Node::new(1);
    node.register("ann", "coder");
    let (path, log) = (node.path(), node.path().with_file_name("messages.db-wal"));
    let reader = rusqlite::Connection::open(path).expect("opens");
    reader.execute_batch("BEGIN; SELECT count(*) FROM events").expect("reads");
    let Node { store, dir: _dir, .. } = node;
    let writer = Writer::start(store, |_| {}).expect("a thread");
    for _ in 0..20 {
        let send =
            Send { from: "ann".into(), content: "x".repeat(1 << 19), mentions: vec!["ann".into()], ..Send::default() };
        writer.call(|tx| tx.send(send)).expect("sends");
    }
    let length = || std::fs::metadata(&log).expect("the log").len();
    assert!(length() > 8 << 20, "the reader needs it: {}", length());
    reader.execute_batch("COMMIT").expect("ends");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while length() > 0 {
        assert!(std::time::Instant::now() < until, "{} bytes are left", length());
        std::thread::yield_now();
    }
}

#[test]
fn a_question_that_panics_takes_no_connection_away_from_others() {
    let mut node = Node::new(1);
    node.register("ann", "coder");
    let readers = Readers::new(&node.path(), &node.home());
    for _ in 0..10 {
        let question = || readers.with(|_| -> Result<(), StoreError> { panic!("on purpose") });
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(question)).is_err());
    }
    assert_eq!(readers.with(|reader| reader.latest()).expect("reads"), 1);
}

/// The number of a new origin, assigned in a transaction that is rolled back, is not used afterwards.
#[test]
fn an_origin_is_known_only_if_its_events_were_stored() {
    let mut node = Node::new(1);
    let of = |id: &str, origin: &str| foreign(id, origin, 1, "future.thing", json!({"n": 1}));
    let failed = node.store.write(|tx| {
        tx.apply(&served(&[of("evt_1", "d_lost")]))?;
        Err::<(), _>(StoreError::Closed)
    });
    assert!(failed.is_err());
    node.apply(&[of("evt_2", "d_other")]);
    node.apply(&[of("evt_3", "d_lost")]);
    let conn = rusqlite::Connection::open(node.path()).expect("opens");
    let origin = |id: &str| -> String {
        conn.query_row("SELECT origin_daemon FROM events WHERE event_id = ?1", [id], |row| row.get(0)).expect("is here")
    };
    assert_eq!((origin("evt_2").as_str(), origin("evt_3").as_str()), ("d_other", "d_lost"));
}
