//! Purges: the data that they remove, the data that stays, and that no peer brings purged data back.

use std::time::Duration;

use serde_json::json;
use thrum_core::{Error, ErrorKind, Event, Payload, Timestamp, payload};
use thrum_store::{
    Purged, StoreError,
    ops::{Heartbeat, Send},
};

use crate::kit::{self, Node, START, foreign};

fn now(node: &Node) -> Timestamp {
    let mut world = node.world.clone();
    thrum_core::Ambient::now(&mut world)
}

/// A node with an agent, one hour after the start.
fn node() -> Node {
    let mut node = Node::new(1);
    node.register("ann", "coder");
    node.register("bob", "tester");
    node.world.pass(Duration::from_secs(3600));
    node
}

fn purge(node: &mut Node, before: Timestamp) -> Purged {
    node.store.purge(before).expect("purges")
}

/// Whether a file of the database contains these bytes.
fn is_in_a_file(node: &Node, text: &str) -> bool {
    let entries = std::fs::read_dir(node.dir.path()).expect("a directory");
    entries
        .map(|entry| std::fs::read(entry.expect("an entry").path()).expect("reads"))
        .any(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
}

#[test]
fn purged_text_is_removed_from_the_files_and_other_text_stays() {
    let mut node = node();
    let mut sent = Vec::new();
    for n in 0..60 {
        // Texts on the first page, on split pages, and on overflow pages.
        let content = format!("the old secret {n} {}", "x".repeat(n * n * 8));
        sent.push(node.send("ann", &["bob"], &content).message_id);
        node.world.pass(Duration::from_secs(1));
    }
    node.store
        .write(|tx| {
            tx.start_session("ann", Heartbeat::default()).and_then(|(id, _)| tx.set_intent(&id, "the old secret plan"))
        })
        .expect("an intent");
    node.world.pass(Duration::from_secs(1));
    let cutoff = now(&node);
    // So much data that the tree of pages keeps its shape, with copies of old contents in its root.
    for n in 0..40 {
        node.send("ann", &["bob"], &format!("what is new {n} {}", "y".repeat(1000)));
    }
    node.store.write(|tx| tx.edit("ann", &sent[3], Some("the old secret, edited".into()), None)).expect("edits");
    node.store.write(|tx| tx.mark_read("bob", &sent[..20])).expect("reads");
    assert!(is_in_a_file(&node, "the old secret"));

    let preview = node.store.reader().purge_preview(cutoff).expect("looks");
    assert_eq!(node.inbox("bob").len(), 100, "looking takes nothing away");
    let purged = purge(&mut node, cutoff);
    assert_eq!(purged, Purged { messages: 60, sessions: 1, events: 60 + 2 + 1 + 20 });
    assert_eq!(preview, purged);
    assert!(!is_in_a_file(&node, "the old secret"), "it can still be read");
    assert!(is_in_a_file(&node, "what is new"));
    let left = node.inbox("bob");
    assert!(left.len() == 40 && left.iter().all(|(content, is_read)| content.starts_with("what is new") && !is_read));
    assert_eq!(node.store.reader().totals().expect("counts").parked, 0, "nothing waits for what is gone");
    assert_eq!(purge(&mut node, cutoff), Purged::default());
    node.check();
}

#[test]
fn a_second_purge_soon_after_the_first_leaves_no_text_either() {
    let mut node = node();
    for text in ["the first secret", "the second secret"] {
        node.send("ann", &["bob"], text);
        node.world.pass(Duration::from_secs(1));
        let cutoff = now(&node);
        purge(&mut node, cutoff);
        assert!(!is_in_a_file(&node, text), "{text}");
    }
}

#[test]
fn events_about_a_purged_message_are_purged_at_any_time_of_writing_and_arrival() {
    let mut node = node();
    let old = node.send("ann", &["bob"], "old").message_id;
    let mut peer = Node::new(2);
    peer.world.pass(Duration::from_secs(7200));
    peer.pull(&node, 0);
    node.world.pass(Duration::from_secs(60));
    let cutoff = now(&node);
    node.world.pass(Duration::from_secs(60));
    let before = node.store.commit().latest;
    node.store.write(|tx| tx.edit("ann", &old, Some("edited".into()), None)).expect("edits");
    node.store.write(|tx| tx.mark_read("bob", std::slice::from_ref(&old))).expect("reads");
    let mut late = Node::new(3);
    late.world.pass(Duration::from_secs(7200));
    late.pull(&node, before);
    assert_eq!(late.store.reader().totals().expect("counts").parked, 2);
    node.store.write(|tx| tx.delete("ann", &old, None)).expect("deletes");
    purge(&mut node, cutoff);
    late.pull(&node, 0);
    peer.pull(&node, 0);
    assert_eq!((node.ids(), late.ids()), (peer.ids(), peer.ids()));
    assert_eq!(peer.ids().len(), 2 + 1 + 1, "two registrations, the deletion and the purge");
    for node in [&mut node, &mut peer, &mut late] {
        assert_eq!(node.store.reader().totals().expect("counts").parked, 0);
        node.check();
    }
}

#[test]
fn a_purge_with_a_cutoff_in_the_future_is_refused() {
    let mut node = node();
    node.send("ann", &["bob"], "just now");
    let hour_ahead = now(&node).plus(Duration::from_secs(3600));
    let Err(StoreError::Refused(Error { kind, message, hint, .. })) = node.store.write(|tx| tx.purge(hour_ahead))
    else {
        panic!("it was taken")
    };
    assert_eq!(kind, ErrorKind::Refused);
    assert!(message.contains("future") && hint.is_some(), "{message}");
    assert_eq!(node.inbox("bob").len(), 1);
}

#[test]
fn mail_written_after_a_purge_stays_although_the_clock_is_set_back() {
    let mut node = node();
    // An event by a peer, so that no own event is as late.
    let cutoff = now(&node).to_string();
    node.apply(&[foreign("evt_1", "d_other", 3600, "purge.executed", json!({"cutoff": cutoff}))]);
    node.world.set(START);
    // A restart does not lose the cutoff.
    let fingerprint = node.store.fingerprint();
    let mut node = node.reopen(Some(fingerprint));
    node.send("ann", &["bob"], "after the purge");
    let session = node.store.write(|tx| tx.start_session("ann", Heartbeat::default())).expect("a session").0;
    node.store.write(|tx| tx.set_intent(&session, "an intent")).expect("sets");
    assert_eq!(node.inbox("bob").len(), 1);
    let session = node.store.reader().session(&session).expect("reads").expect("is here");
    assert_eq!(session.context.intent.as_deref(), Some("an intent"));
    let mut peer = Node::new(2);
    peer.world.pass(Duration::from_secs(7200));
    peer.pull(&node, 0);
    assert_eq!(peer.ids(), node.ids());
    node.check();
}

#[test]
fn mail_written_after_a_purge_arrived_stays_although_the_local_clock_is_behind() {
    let mut ahead = node();
    ahead.world.pass(Duration::from_secs(5));
    let mut behind = Node::new(2);
    behind.world.pass(Duration::from_secs(3600));
    behind.register("cy", "tester");
    let cutoff = now(&ahead);
    purge(&mut ahead, cutoff);
    behind.pull(&ahead, 0);
    assert!(behind.store.reader().purge_waits().expect("reads"), "it is not due here yet");
    behind.send("cy", &["bob"], "after the purge");
    ahead.pull(&behind, 0);
    assert_eq!(ahead.inbox("bob"), [("after the purge".to_owned(), false)]);
    behind.world.pass(Duration::from_secs(10));
    assert_eq!(behind.store.fold_due().expect("folds"), 1);
    assert_eq!(behind.ids(), ahead.ids());
    behind.check();
}

#[test]
fn a_purge_far_ahead_does_not_advance_our_clock() {
    let mut node = node();
    let far = Timestamp::from_nanos(START).plus(Duration::from_secs(30 * 24 * 3600));
    node.apply(&[foreign("evt_1", "d_other", 30 * 24 * 3600, "purge.executed", json!({"cutoff": far.to_string()}))]);
    node.send("ann", &["bob"], "now");
    let sent = node.store.reader().list(&thrum_store::query::Filter { limit: 1, ..Default::default() }).expect("lists");
    assert_eq!(sent.messages[0].created_at, now(&node));
}

#[test]
fn a_message_and_a_session_of_one_id_are_both_folded_again() {
    let mut node = node();
    node.apply(&[
        foreign("evt_1", "d_go", 1, "agent.session.start", json!({"session_id": "both", "agent_id": "cy"})),
        foreign(
            "evt_2",
            "d_go",
            2,
            "message.create",
            json!({"message_id": "both", "agent_id": "cy", "recipients": ["bob"]}),
        ),
    ]);
    let cutoff = now(&node);
    assert_eq!(purge(&mut node, cutoff), Purged { messages: 1, sessions: 1, events: 2 });
    node.check();
}

#[test]
fn a_repeated_request_for_a_purged_message_is_refused() {
    let mut node = node();
    let send = Send {
        from: "ann".into(),
        mentions: vec!["bob".into()],
        content: "once".into(),
        idempotency_key: Some("key".into()),
        ..Send::default()
    };
    node.store.write(|tx| tx.send(send.clone())).expect("sends");
    node.world.pass(Duration::from_secs(1));
    let cutoff = now(&node);
    purge(&mut node, cutoff);
    let again = node.store.write(|tx| tx.send(send)).map(drop).map_err(Error::from).expect_err("is refused");
    assert!(again.kind == ErrorKind::Refused && again.message.contains("purged"), "{again}");
    assert_eq!(node.inbox("bob"), []);
}

#[test]
fn purged_mail_of_ours_that_a_peer_serves_does_not_begin_a_new_log() {
    let mut node = node();
    node.send("ann", &["bob"], "old");
    let mut peer = Node::new(2);
    peer.world.pass(Duration::from_secs(7200));
    peer.pull(&node, 0);
    node.world.pass(Duration::from_secs(1));
    let (log, cutoff) = (node.store.fingerprint().log_id, now(&node));
    purge(&mut node, cutoff);
    let (outcome, _) = node.pull(&peer, 0);
    assert_eq!((outcome.applied, outcome.skipped), (0, 3));
    assert_eq!((node.store.fingerprint().log_id, node.inbox("bob").len()), (log, 0));
    // The peer does not have the purge. Only the purge itself is missing from its log.
    let differences = node.store.heads().expect("heads").differences(&peer.store.heads().expect("heads"));
    let counted: Vec<_> =
        differences.iter().map(|one| (one.here, one.purged_here, one.there, one.purged_there)).collect();
    assert_eq!(counted, [(3, 1, 3, 0)]);
}

#[test]
fn a_rebuild_and_a_new_fold_version_keep_earlier_purges() {
    let mut node = node();
    let cutoff = Timestamp::from_nanos(START + 10_000_000_000).to_string();
    node.apply(&[
        foreign("evt_1", "d_go", 20, "purge.executed", json!({"cutoff": cutoff})),
        foreign(
            "evt_2",
            "d_go",
            30,
            "message.create",
            json!({"message_id": "msg_2", "agent_id": "cy", "recipients": ["bob"]}),
        ),
    ]);
    let (projection, fingerprint, path) =
        (node.store.projection().expect("digest"), node.store.fingerprint(), node.path());
    let Node { store, world, key, dir } = node;
    drop(store);
    // Rows as an older version left them, which only hid purged rows.
    let old = foreign(
        "evt_0",
        "d_go",
        1,
        "message.create",
        json!({"message_id": "msg_0", "agent_id": "cy", "body": {"content": "hidden"}}),
    );
    let conn = rusqlite::Connection::open(&path).expect("opens");
    conn.execute_batch(
        "INSERT OR IGNORE INTO daemons (id) VALUES ('d_go'), ('d_peer');
         INSERT OR IGNORE INTO logs (origin, log) SELECT number, '' FROM daemons WHERE id = 'd_go'",
    )
    .expect("inserts");
    assert_eq!(old.origin, "d_go");
    conn.execute(
        "INSERT INTO event_rows SELECT (SELECT next_sequence FROM state), ?1, 0, ?2, ?3, l.number, 0, p.number, 'msg_0', ?4
         FROM daemons d JOIN logs l ON l.origin = d.number AND l.log = '' JOIN daemons p ON p.id = 'd_peer' WHERE d.id = 'd_go'",
        (&old.id, &old.kind, old.at.nanos(), &old.body),
    )
    .expect("inserts");
    conn.execute_batch("UPDATE state SET fold_version = 1, next_sequence = next_sequence + 1").expect("ages");
    drop(conn);
    let options = thrum_store::OpenOptions::new(key.clone(), Some(fingerprint));
    let store = thrum_store::Store::open(&path, options, Box::new(world.clone())).expect("opens");
    let node = Node { store, world, key, dir };
    assert_eq!(node.store.projection().expect("digest"), projection);
    assert!(!node.ids().contains(&"evt_0".to_owned()));
    assert!(!is_in_a_file(&node, "hidden"));
}

/// C30: a purge dated far ahead delays nothing until it is near, whenever a daemon receives it, and is shown with its
/// author.
#[test]
fn a_purge_far_ahead_blocks_no_comparison_until_it_is_near() {
    let mut node = node();
    let days = 24 * 3600;
    let far = |days: i64| Timestamp::from_nanos(START + days * 24 * 3600 * 1_000_000_000);
    node.apply(&[
        signed_purge("evt_1", 7, 1, 3000 * days, far(3000)),
        signed_purge("evt_2", 7, 2, 30 * days, far(30)),
        // A purge written far in the future with a past cutoff takes effect at once.
        signed_purge("evt_3", 8, 1, 40 * days, Timestamp::from_nanos(START)),
    ]);
    let shown = |node: &Node| {
        let purges = node.store.reader().purges().expect("reads");
        purges.into_iter().map(|said| (said.by, said.cutoff, said.waits, said.far_ahead)).collect::<Vec<_>>()
    };
    assert!(!node.store.reader().purge_waits().expect("reads"), "nothing is held up");
    assert_eq!(node.store.reader().purged_before().expect("reads"), Timestamp::from_nanos(START));
    let [third, one, other] = &shown(&node)[..] else { panic!("three") };
    let by = |number| kit::key(number).id().to_string();
    assert_eq!(third, &(by(8), Timestamp::from_nanos(START), false, false));
    assert_eq!((one, other), (&(by(7), far(30), true, true), &(by(7), far(3000), true, true)));

    node.world.set(far(29).nanos() + 1);
    assert_eq!(node.store.fold_due().expect("folds"), 1);
    assert!(node.store.reader().purge_waits().expect("reads"), "peers may fold it before or after us");
    assert_eq!(shown(&node)[1], (by(7), far(30), true, false));
    node.send("ann", &["bob"], "before it");
    node.world.set(far(30).nanos() + 1);
    assert_eq!(node.store.fold_due().expect("folds"), 1);
    assert!(!node.store.reader().purge_waits().expect("reads"));
    assert_eq!(node.inbox("bob"), []);
    assert_eq!(node.store.reader().purged_before().expect("reads"), far(30));
    node.check();
}

/// A purge signed by one of the daemons with keys.
fn signed_purge(id: &str, number: u64, seq: u64, seconds: i64, cutoff: Timestamp) -> Event {
    let said = payload::PurgeExecuted { cutoff: cutoff.to_string(), ..payload::PurgeExecuted::default() };
    kit::signed(id, number, seq, seconds, &Payload::PurgeExecuted(said))
}

/// Any peer can serve an unsigned purge in the name of a daemon that signs nothing. It removes that daemon's events and
/// no others.
#[test]
fn an_unsigned_purge_removes_only_events_of_its_origin() {
    let mut node = node();
    let text = |id: &str, content: &str| json!({"message_id": id, "agent_id": "x", "recipients": ["bob"], "body": {"content": content}});
    let cutoff = Timestamp::from_nanos(START + 50_000_000_000);
    let unsigned = foreign("evt_purge", "d_go", 60, "purge.executed", json!({"cutoff": cutoff.to_string()}));
    node.apply(&[
        foreign("evt_1", "d_go", 10, "message.create", text("msg_1", "of the one that purges")),
        foreign("evt_2", "d_other", 11, "message.create", text("msg_2", "of another that signs nothing")),
        kit::signed(
            "evt_3",
            9,
            1,
            12,
            &Payload::read("message.create", &text("msg_3", "of one that signs").to_string()).expect("reads"),
        ),
        // The purging daemon may not remove another daemon's read receipt.
        foreign(
            "evt_4",
            "d_other",
            13,
            "message.receipt",
            json!({"message_id": "msg_1", "agent_id": "eve", "receipt_type": "read"}),
        ),
        unsigned,
    ]);
    let left = |node: &Node| {
        ["evt_1", "evt_2", "evt_3", "evt_4"]
            .into_iter()
            .filter(|id| node.ids().contains(&(*id).to_owned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(left(&node), ["evt_2", "evt_3", "evt_4"]);
    assert_eq!(node.store.reader().message("msg_1", None).expect("reads"), None);
    assert_eq!(
        node.store.reader().purged_before().expect("reads"),
        Timestamp::ZERO,
        "nothing is purged of everybody's"
    );
    let said = &node.store.reader().purges().expect("reads")[0];
    assert_eq!((said.by.as_str(), said.signed), ("d_go", false));
    // The purged events do not come back.
    node.apply(&[foreign("evt_1", "d_go", 10, "message.create", text("msg_1", "of the one that purges"))]);
    assert_eq!(left(&node), ["evt_2", "evt_3", "evt_4"]);
    node.apply(&[signed_purge("evt_all", 9, 2, 60, cutoff)]);
    assert_eq!(left(&node), Vec::<&str>::new(), "one that is signed takes all");
    node.check();
}

/// Events of other daemons about a message that an unsigned purge removed stay, because they are not that daemon's to
/// remove. But they wait for nothing.
#[test]
fn events_about_a_message_removed_by_an_unsigned_purge_are_not_counted_as_waiting() {
    let message = "msg_01KMTPH8JR0000000000000007";
    let cutoff = Timestamp::from_nanos(START + 50_000_000_000).to_string();
    let made = |id: &str, origin: &str| {
        foreign(
            id,
            origin,
            30,
            "message.create",
            json!({"message_id": message, "agent_id": "x", "body": {"content": origin}}),
        )
    };
    let receipt = |agent: &str| json!({"message_id": message, "agent_id": agent, "receipt_type": "read"});
    let events = [
        made("evt_1", "d_go"),
        foreign("evt_2", "d_other", 40, "message.receipt", receipt("eve")),
        foreign("evt_3", "d_other", 70, "message.edit", json!({"message_id": message, "body": {"content": "edited"}})),
        foreign("evt_4", "d_go", 60, "purge.executed", json!({"cutoff": cutoff})),
        foreign("evt_5", "d_other", 80, "message.receipt", receipt("bob")),
    ];
    let mut digests = Vec::new();
    for order in [[0, 1, 2, 3, 4], [3, 0, 1, 2, 4], [1, 2, 3, 4, 0], [4, 3, 2, 1, 0]] {
        let mut node = node();
        for which in order {
            node.apply(&[events[which].clone()]);
        }
        let counted = |node: &Node| {
            let reader = node.store.reader();
            (reader.totals().expect("counts").parked, reader.troubles("d_peer").expect("reads").parked)
        };
        assert_eq!(counted(&node), (0, 0), "{order:?}");
        // An event that waits for a message that is not purged is counted.
        let young = foreign(
            "evt_6",
            "d_other",
            90,
            "message.receipt",
            json!({"message_id": "msg_young", "agent_id": "eve", "receipt_type": "read"}),
        );
        node.apply(&[young]);
        assert_eq!(counted(&node), (1, 1), "{order:?}");
        // A message of this id by another daemon is accepted, with the events about it.
        node.apply(&[made("evt_7", "d_other")]);
        let shown = node.store.reader().message(message, None).expect("reads").expect("is here");
        assert_eq!((shown.body.content.as_str(), counted(&node)), ("edited", (1, 1)), "{order:?}");
        digests.push(node.store.projection().expect("digest"));
        node.check();
    }
    digests.dedup();
    assert_eq!(digests.len(), 1);
}
