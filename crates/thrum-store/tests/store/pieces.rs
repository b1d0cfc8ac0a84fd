//! A peer's events are stored in pieces: other jobs write in between, an interrupted run resumes, and no caller waits
//! for the whole batch.

use std::sync::{Arc, Mutex, OnceLock, mpsc};

use serde_json::json;
use thrum_core::{
    Event, Payload,
    exchange::{Batch, Commit},
    payload,
};
use thrum_store::{OpenOptions, Store, StoreError, Tx, Writer, ops::Register};

use crate::kit::{self, Node, foreign};

const EVENTS: usize = 1000;

fn mail(n: usize) -> Event {
    foreign(
        &format!("evt_{n:05}"),
        "d_go",
        1,
        "message.create",
        json!({"message_id": format!("msg_{n}"), "agent_id": "cy", "scopes": []}),
    )
}

fn receipt(n: usize) -> Event {
    let body = json!({"message_id": "msg_late", "agent_id": format!("reader{n}"), "receipt_type": "read"});
    foreign(&format!("evt_r{n:05}"), "d_go", 5, "message.receipt", body)
}

fn late() -> Event {
    foreign("evt_late", "d_go", 1, "message.create", json!({"message_id": "msg_late", "agent_id": "cy", "scopes": []}))
}

fn batch(events: Vec<Event>) -> Batch {
    Batch {
        peer: "d_peer".into(),
        log: "log".into(),
        checkpoint: 7,
        checkpoint_event: String::new(),
        events,
        rejected: vec![],
    }
}

fn register(name: &str) -> Register {
    Register { name: name.into(), role: "coder".into(), module: "m".into(), ..Register::default() }
}

/// A writer that calls `first` on its own thread after the first COMMIT.
fn writer(store: Store, first: impl FnOnce(&Commit) + Send + 'static) -> Writer {
    let first = Mutex::new(Some(first));
    Writer::start(store, move |commit| {
        if let Some(first) = first.lock().expect("not poisoned").take() {
            first(commit);
        }
    })
    .expect("starts")
}

/// P7
#[test]
fn other_jobs_write_between_two_pieces_of_a_batch() {
    let Node { store, dir, .. } = Node::new(1);
    let own: Arc<OnceLock<Arc<Writer>>> = Arc::default();
    let (sender, committed) = mpsc::channel();
    let queued = Arc::clone(&own);
    let started = writer(store, move |_| {
        let job = |tx: &mut Tx<'_>| tx.register(register("ann"));
        queued.get().expect("is set").submit(job, move |outcome| sender.send(outcome.is_ok()).expect("is heard"));
    });
    let writer = own.get_or_init(|| Arc::new(started));
    assert_eq!(writer.apply(batch((0..EVENTS).map(mail).collect())).expect("applies").applied, EVENTS);
    assert!(committed.try_recv().expect("it was answered before the batch was stored"));
    let conn = rusqlite::Connection::open(dir.path().join("messages.db")).expect("opens");
    let sequence: usize = conn
        .query_row("SELECT sequence FROM events WHERE type = 'agent.register'", [], |row| row.get(0))
        .expect("is here");
    let first: usize = conn.query_row("SELECT min(sequence) FROM events", [], |row| row.get(0)).expect("is here");
    assert!((1..=100).contains(&(sequence - first)), "behind one piece, not {} events", sequence - first);
}

#[test]
fn the_writer_reports_the_peer_and_the_progress_of_the_batch_that_it_stores() {
    let own: Arc<OnceLock<Arc<Writer>>> = Arc::default();
    let asked = Arc::clone(&own);
    let (sender, receiver) = mpsc::channel();
    let Node { store, dir: _dir, .. } = Node::new(1);
    let started = writer(store, move |_| sender.send(asked.get().expect("is set").busy()).expect("is heard"));
    let writer = own.get_or_init(|| Arc::new(started));
    writer.apply(batch((0..EVENTS).map(mail).collect())).expect("applies");
    let busy = receiver.recv().expect("a piece was stored");
    assert_eq!(
        busy.iter().map(|one| (one.peer.as_deref(), one.events)).collect::<Vec<_>>(),
        [(Some("d_peer"), EVENTS)]
    );
    assert!(busy[0].done < EVENTS);
    assert_eq!(writer.busy(), [], "then it is not");
}

/// P7, I4
#[test]
fn an_interrupted_batch_moves_no_checkpoint_and_its_stored_events_are_skipped_later() {
    let Node { store, world, key, dir } = Node::new(1);
    let own: Arc<OnceLock<Arc<Writer>>> = Arc::default();
    let stopped = Arc::clone(&own);
    let started = writer(store, move |_| stopped.get().expect("is set").wind_down());
    let writer = own.get_or_init(|| Arc::new(started));
    let served: Vec<Event> = (0..EVENTS).map(mail).collect();
    assert!(matches!(writer.apply(batch(served.clone())), Err(StoreError::Closed)));
    writer.close();
    let open =
        || Store::open(&dir.path().join("messages.db"), OpenOptions::new(key.clone(), None), Box::new(world.clone()));
    let mut store = open().expect("opens");
    assert_eq!(store.reader().checkpoint("d_peer").expect("reads"), None);
    let kept = store.reader().totals().expect("counts").events;
    assert!((1..=100).contains(&kept), "one piece was stored, not {kept} events");
    let applied = store.apply(batch(served)).expect("applies");
    assert_eq!((applied.skipped as u64, applied.applied as u64), (kept, EVENTS as u64 - kept));
    assert_eq!(store.reader().checkpoint("d_peer").expect("reads").expect("is here").sequence, 7);
}

#[test]
fn pending_work_resumes_after_a_restart() {
    let mut node = Node::new(1);
    node.apply(&(0..EVENTS).map(receipt).collect::<Vec<_>>());
    assert_eq!(node.store.reader().totals().expect("counts").parked, EVENTS as u64);
    let Node { store, world, key, dir } = node;
    let own: Arc<OnceLock<Arc<Writer>>> = Arc::default();
    let stopped = Arc::clone(&own);
    let started = writer(store, move |_| stopped.get().expect("is set").wind_down());
    let writer = own.get_or_init(|| Arc::new(started));
    assert_eq!(writer.apply(batch(vec![late()])).expect("applies").applied, 1);
    writer.close();

    let path = dir.path().join("messages.db");
    let parked = |store: &Store| store.reader().totals().expect("counts").parked;
    let mut store = Store::open(&path, OpenOptions::new(key.clone(), None), Box::new(world.clone())).expect("opens");
    let left = parked(&store);
    assert!(left > 0 && left < EVENTS as u64, "a piece was done, and {left} were left");
    let before = store.projection().expect("a digest");
    assert!(store.work_off().expect("works"), "more is left");
    let then = parked(&store);
    assert!(then < left && left - then <= 100, "a piece of it: {left}, then {then}");
    while store.work_off().expect("works") {}
    assert_eq!(
        (parked(&store), store.projection().expect("a digest")),
        (0, before),
        "what daemons compare was there at once"
    );
    let mut node = Node { store, world, key, dir };
    node.check();
}

/// Mail to everyone and to `dan`, half of it read by an agent elsewhere, with sessions and contexts. A third of the
/// message ids contain their time.
fn history() -> Vec<Event> {
    let message = |n: usize| if n.is_multiple_of(3) { format!("msg_01KMTPH8JR{n:016}") } else { format!("msg_{n}") };
    let mut events = Vec::new();
    for n in 0..400 {
        let (id, session) = (message(n), format!("ses_{}", n / 10));
        let to = if n.is_multiple_of(2) { json!(["dan"]) } else { json!([]) };
        let made = json!({"message_id": id, "agent_id": "cy", "recipients": to, "body": {"content": "old"}});
        let read = json!({"message_id": id, "agent_id": "dan", "receipt_type": "read"});
        let context = json!({"agent_id": "cy", "work_contexts": [{"session_id": session, "intent": format!("i{n}")}]});
        events.push(foreign(&format!("evt_m{n:04}"), "d_go", 10, "message.create", made));
        events.push(foreign(&format!("evt_c{n:04}"), "d_go", 30, "agent.update", context));
        if n.is_multiple_of(4) {
            // Some edits and receipts are later than the cutoff, and stay if the id contains no time.
            let when = if n.is_multiple_of(8) { 20 } else { 2000 };
            let edit = json!({"message_id": id, "body": {"content": "edited"}});
            events.push(foreign(&format!("evt_r{n:04}"), "d_go2", when, "message.receipt", read));
            events.push(foreign(&format!("evt_e{n:04}"), "d_go", when, "message.edit", edit));
        }
        if n.is_multiple_of(10) {
            let start = json!({"session_id": session, "agent_id": "cy"});
            events.push(foreign(&format!("evt_s{n:04}"), "d_go", 10, "agent.session.start", start));
            events.push(foreign(
                &format!("evt_d{n:04}"),
                "d_go",
                2000,
                "agent.session.end",
                json!({"session_id": session}),
            ));
        }
    }
    events
}

/// A daemon with that history, one hour after the start.
fn with_history() -> Node {
    let mut node = Node::new(1);
    node.register("ann", "coder");
    node.world.set(kit::START + 3_600_000_000_000);
    node.apply(&history());
    node
}

/// Performs an action, kills the daemon after the transaction, restarts it, and kills it again after each piece of the
/// remaining work. `looked` observes the state after each piece. Returns the number of pieces, too.
fn interrupted(
    node: Node,
    act: impl FnOnce(&mut Tx<'_>) -> Result<(), StoreError>,
    looked: impl Fn(&Node),
) -> (Node, usize) {
    let Node { mut store, world, key, dir } = node;
    store.transact(act).expect("is done");
    let (path, mut pieces) = (dir.path().join("messages.db"), 0);
    let mut node = Node { store, world, key, dir };
    loop {
        looked(&node);
        let fingerprint = node.store.fingerprint();
        drop(node.store);
        let store =
            Store::open(&path, OpenOptions::new(node.key.clone(), Some(fingerprint)), Box::new(node.world.clone()))
                .expect("opens");
        node.store = store;
        let goes_on = node.store.work_off().expect("works");
        pieces += 1;
        if !goes_on {
            return (node, pieces);
        }
    }
}

fn digests(node: &Node) -> [thrum_core::SetDigest; 2] {
    [node.store.projection().expect("a digest"), node.store.mailboxes().expect("a digest")]
}

fn purge_all(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    tx.purge(thrum_core::Timestamp::from_nanos(kit::START + 1_000_000_000_000))
}

/// P5, I6
#[test]
fn a_purge_interrupted_after_every_piece_has_the_same_result_and_shows_no_purged_message_again() {
    let mut whole = with_history();
    let before = whole.inbox("ann");
    whole.store.write(purge_all).expect("purges");
    let (mut pieced, pieces) = interrupted(with_history(), purge_all, |node| {
        let reader = node.store.reader();
        assert!(reader.purge_waits().expect("reads"), "it is not compared with others meanwhile");
        // An edited message never shows its earlier text again in a later observation.
        for (content, _) in node.inbox("ann") {
            assert!(before.iter().any(|(shown, _)| *shown == content), "{content}");
        }
        let filter = thrum_store::query::SessionFilter { open_only: true, ..Default::default() };
        assert_eq!(reader.sessions(&filter).expect("reads"), [], "all sessions had ended");
    });
    assert!(pieces > 8, "{pieces} pieces");
    assert_eq!((digests(&pieced), pieced.ids()), (digests(&whole), whole.ids()));
    assert!(!pieced.store.reader().purge_waits().expect("reads"));
    for node in [&mut whole, &mut pieced] {
        node.check();
    }
}

/// P5: an agent that registers during a purge does not get mail that is about to be removed.
#[test]
fn a_mailbox_filled_during_a_purge_gets_no_purged_message() {
    let mut node = with_history();
    node.store.transact(purge_all).expect("purges");
    assert!(node.store.reader().purge_goes_on().expect("reads"));
    node.store.transact(|tx| tx.register(register("dan"))).expect("registers");
    let took = |node: &Node| node.inbox("dan").len();
    assert_eq!(took(&node), 0);
    while node.store.work_off().expect("works") {
        assert_eq!(took(&node), 0);
    }
    node.check();
}

/// P5: nor does it get such mail when the author of the mail moves during the purge.
#[test]
fn a_message_whose_author_moves_during_a_purge_enters_no_mailbox_again() {
    let mut node = with_history();
    // Edits by the new home of the author, which count only after the move.
    let edit = |n: u64| {
        let message_id = format!("msg_{n}");
        let edit = Payload::MessageEdit(payload::MessageEdit { message_id, body: payload::Body::default() });
        kit::signed(&format!("evt_x{n}"), 1, n, 20, &edit)
    };
    node.apply(&(200..400).step_by(2).filter(|n| n % 3 != 0).map(edit).collect::<Vec<_>>());
    node.store.transact(purge_all).expect("purges");
    node.store.transact(|tx| tx.register(register("dan"))).expect("registers");
    let moved = Payload::AgentRegister(payload::AgentRegister {
        agent_id: "cy".into(),
        kind: "agent".into(),
        role: "coder".into(),
        module: "m".into(),
        former_homes: vec!["d_go".into()],
        ..payload::AgentRegister::default()
    });
    node.apply_once(&[kit::signed("evt_moved", 1, 400, 3600, &moved)]);
    assert!(node.store.reader().purge_goes_on().expect("reads"));
    assert_eq!(node.inbox("dan"), []);
    while node.store.work_off().expect("works") {
        assert_eq!(node.inbox("dan"), []);
    }
    node.check();
}

/// Work of every kind has its turn during a purge, also after the purge has removed events whose targets it has to
/// fold again at its end.
#[test]
fn a_mailbox_is_filled_before_a_long_purge_ends() {
    let mut node = with_history();
    let recent = |n: usize| {
        let body = json!({"message_id": format!("msg_new{n}"), "agent_id": "cy", "recipients": ["dan"]});
        foreign(&format!("evt_n{n:04}"), "d_go", 3000, "message.create", body)
    };
    node.apply(&(0..40).map(recent).collect::<Vec<_>>());
    node.store.set_piece(10);
    node.store.transact(purge_all).expect("purges");
    // The purge removes some events of sessions and of messages that others stay about.
    for _ in 0..5 {
        assert!(node.store.work_off().expect("works"));
    }
    node.store.transact(|tx| tx.register(register("dan"))).expect("registers");
    while node.store.reader().mailbox_fills().expect("reads") {
        assert!(node.store.reader().purge_goes_on().expect("reads"), "the mailbox waits for the end of the purge");
        node.store.work_off().expect("works");
    }
    assert_eq!(node.inbox("dan").len(), 40);
    while node.store.work_off().expect("works") {}
    node.check();
}

/// I6
#[test]
fn a_mailbox_whose_first_fill_is_interrupted_has_its_newest_mail_at_once_and_all_mail_in_the_end() {
    let mail = |n: usize| {
        let body = json!({"message_id": format!("msg_{n}"), "agent_id": "cy", "recipients": if n.is_multiple_of(2) { json!(["dan"]) } else { json!([]) },
                          "body": {"content": n.to_string()}});
        foreign(&format!("evt_m{n:04}"), "d_go", 3601 + i64::try_from(n).expect("small"), "message.create", body)
    };
    // Registered before its mail, so that it also gets the mail to everyone.
    let with_mail = || {
        let mut node = Node::new(1);
        node.world.set(kit::START + 3_600_000_000_000);
        node.register("dan", "coder");
        node.world.set(kit::START + 7_200_000_000_000);
        node.store.write(|tx| tx.delete_agent("dan", None)).expect("deletes");
        node.world.set(kit::START + 9_000_000_000_000);
        node.apply(&(0..1000).map(mail).collect::<Vec<_>>());
        node
    };
    let again = |tx: &mut Tx<'_>| tx.register(register("dan")).map(drop);
    let mut whole = with_mail();
    whole.store.write(again).expect("registers");
    let all = whole.inbox("dan");
    assert_eq!(all.len(), 500);
    let (mut pieced, pieces) = interrupted(with_mail(), again, |node| {
        let here = node.inbox("dan");
        assert!(here.len() >= 100 && all.ends_with(&here), "the newest {} of them", here.len());
    });
    assert!(pieces >= 4, "{pieces} pieces");
    assert_eq!((digests(&pieced), pieced.inbox("dan")), (digests(&whole), all));
    pieced.check();
}

/// Mail that belongs in a mailbox is never missing while the mailbox is recomputed.
#[test]
fn a_mailbox_that_is_refilled_lacks_no_message_in_between() {
    let mut node = Node::new(1);
    node.register("dan", "coder");
    node.world.set(kit::START + 3_600_000_000_000);
    let mail = |n: usize, to: &str| {
        let scopes = json!([{"type": "group", "value": to}]);
        let body =
            json!({"message_id": format!("msg_{to}{n}"), "agent_id": "cy", "scopes": scopes, "body": {"content": to}});
        foreign(&format!("evt_{to}{n:04}"), "d_go", 5, "message.create", body)
    };
    node.apply(&(0..250).flat_map(|n| ["everyone", "coder", "tester"].map(|to| mail(n, to))).collect::<Vec<_>>());
    let count = |node: &Node, what: &str| node.inbox("dan").iter().filter(|(content, _)| content == what).count();
    let tester = Register { role: "tester".into(), ..register("dan") };
    let (mut node, _) = interrupted(
        node,
        |tx| tx.register(tester).map(drop),
        |node| {
            assert_eq!(count(node, "everyone"), 250);
            assert!(count(node, "coder") == 250 || count(node, "tester") == 250, "what goes, goes last");
        },
    );
    assert_eq!(["everyone", "coder", "tester"].map(|what| count(&node, what)), [250, 0, 250]);
    node.check();
}

/// The mail of a deleted agent is removed piece by piece, and a newly registered agent never sees it.
#[test]
fn the_mailbox_of_a_deleted_agent_is_never_given_to_another_agent() {
    let mut node = Node::new(1);
    node.register("dan", "coder");
    node.apply(
        &(0..300)
            .map(|n| {
                let body = json!({"message_id": format!("msg_{n}"), "agent_id": "cy", "recipients": ["dan"]});
                foreign(&format!("evt_{n:04}"), "d_go", 1, "message.create", body)
            })
            .collect::<Vec<_>>(),
    );
    assert_eq!(node.inbox("dan").len(), 300);
    node.world.pass(std::time::Duration::from_secs(60));
    node.store.transact(|tx| tx.delete_agent("dan", None)).expect("deletes");
    node.store.transact(|tx| tx.register(register("eve"))).expect("registers");
    assert_eq!(node.inbox("eve"), []);
    while node.store.work_off().expect("works") {}
    assert_eq!(node.inbox("eve"), []);
    node.check();
}
