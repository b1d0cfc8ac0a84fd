//! What a peer brings is stored in pieces: others write in between, whoever is interrupted goes on, and nobody waits for all of it.

use std::sync::{Arc, Mutex, OnceLock, mpsc};

use serde_json::json;
use thrum_core::{
    Event,
    exchange::{Batch, Commit},
};
use thrum_store::{Store, StoreError, Writer, ops::Register};

use crate::kit::{Node, foreign};

const EVENTS: usize = 1000;

fn mail(n: usize) -> Event {
    foreign(&format!("evt_{n:05}"), "d_go", 1, "message.create", json!({"message_id": format!("msg_{n}"), "agent_id": "cy", "scopes": []}))
}

fn receipt(n: usize) -> Event {
    let body = json!({"message_id": "msg_late", "agent_id": format!("reader{n}"), "receipt_type": "read"});
    foreign(&format!("evt_r{n:05}"), "d_go", 5, "message.receipt", body)
}

fn late() -> Event {
    foreign("evt_late", "d_go", 1, "message.create", json!({"message_id": "msg_late", "agent_id": "cy", "scopes": []}))
}

fn batch(events: Vec<Event>) -> Batch {
    Batch { peer: "d_peer".into(), log: "log".into(), checkpoint: 7, checkpoint_event: String::new(), events, rejected: vec![] }
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
fn others_write_between_two_pieces_of_a_batch() {
    let Node { store, dir, .. } = Node::new(1);
    let own: Arc<OnceLock<Arc<Writer>>> = Arc::default();
    let (sender, committed) = mpsc::channel();
    let queued = Arc::clone(&own);
    let started = writer(store, move |_| {
        let job = |tx: &mut thrum_store::Tx<'_>| tx.register(register("ann"));
        queued.get().expect("is set").submit(job, move |outcome| sender.send(outcome.is_ok()).expect("is heard"));
    });
    let writer = own.get_or_init(|| Arc::new(started));
    assert_eq!(writer.apply(batch((0..EVENTS).map(mail).collect())).expect("applies").applied, EVENTS);
    assert!(committed.try_recv().expect("it was answered before the batch was stored"));
    let conn = rusqlite::Connection::open(dir.path().join("messages.db")).expect("opens");
    let place: usize = conn.query_row("SELECT sequence FROM events WHERE type = 'agent.register'", [], |row| row.get(0)).expect("is here");
    let first: usize = conn.query_row("SELECT min(sequence) FROM events", [], |row| row.get(0)).expect("is here");
    assert!((1..=100).contains(&(place - first)), "behind one piece, not {} events", place - first);
}

#[test]
fn whose_batch_is_being_stored_and_how_much_of_it_is_known() {
    let own: Arc<OnceLock<Arc<Writer>>> = Arc::default();
    let asked = Arc::clone(&own);
    let (sender, receiver) = mpsc::channel();
    let Node { store, dir: _dir, .. } = Node::new(1);
    let started = writer(store, move |_| sender.send(asked.get().expect("is set").busy()).expect("is heard"));
    let writer = own.get_or_init(|| Arc::new(started));
    writer.apply(batch((0..EVENTS).map(mail).collect())).expect("applies");
    let busy = receiver.recv().expect("a piece was stored");
    assert_eq!(busy.iter().map(|one| (one.peer.as_deref(), one.events)).collect::<Vec<_>>(), [(Some("d_peer"), EVENTS)]);
    assert!(busy[0].done < EVENTS);
    assert_eq!(writer.busy(), [], "then it is not");
}

/// P7, I4
#[test]
fn a_batch_that_is_interrupted_moves_no_checkpoint_and_is_not_begun_anew() {
    let Node { store, world, key, dir } = Node::new(1);
    let own: Arc<OnceLock<Arc<Writer>>> = Arc::default();
    let stopped = Arc::clone(&own);
    let started = writer(store, move |_| stopped.get().expect("is set").refuse());
    let writer = own.get_or_init(|| Arc::new(started));
    let served: Vec<Event> = (0..EVENTS).map(mail).collect();
    assert!(matches!(writer.apply(batch(served.clone())), Err(StoreError::Closed)));
    writer.close();
    let open = || Store::open(&dir.path().join("messages.db"), thrum_store::OpenOptions::new(key.clone(), None), Box::new(world.clone()));
    let mut store = open().expect("opens");
    assert_eq!(store.reader().checkpoint("d_peer").expect("reads"), None);
    let kept = store.reader().totals().expect("counts").events;
    assert!((1..=100).contains(&kept), "one piece was stored, not {kept} events");
    let applied = store.apply(batch(served)).expect("applies");
    assert_eq!((applied.skipped as u64, applied.applied as u64), (kept, EVENTS as u64 - kept));
    assert_eq!(store.reader().checkpoint("d_peer").expect("reads").expect("is here").sequence, 7);
}

#[test]
fn what_an_event_left_to_be_done_is_gone_on_with_after_a_restart() {
    let mut node = Node::new(1);
    node.apply(&(0..EVENTS).map(receipt).collect::<Vec<_>>());
    assert_eq!(node.store.reader().totals().expect("counts").parked, EVENTS as u64);
    let Node { store, world, key, dir } = node;
    let own: Arc<OnceLock<Arc<Writer>>> = Arc::default();
    let stopped = Arc::clone(&own);
    let started = writer(store, move |_| stopped.get().expect("is set").refuse());
    let writer = own.get_or_init(|| Arc::new(started));
    assert_eq!(writer.apply(batch(vec![late()])).expect("applies").applied, 1);
    writer.close();

    let path = dir.path().join("messages.db");
    let parked = |store: &Store| store.reader().totals().expect("counts").parked;
    let mut store = Store::open(&path, thrum_store::OpenOptions::new(key.clone(), None), Box::new(world.clone())).expect("opens");
    let left = parked(&store);
    assert!(left > 0 && left < EVENTS as u64, "a piece was done, and {left} were left");
    let before = store.projection().expect("a digest");
    assert!(store.work_off().expect("works"), "more is left");
    let then = parked(&store);
    assert!(then < left && left - then <= 100, "a piece of it: {left}, then {then}");
    while store.work_off().expect("works") {}
    assert_eq!((parked(&store), store.projection().expect("a digest")), (0, before), "what daemons compare was there at once");
    let mut node = Node { store, world, key, dir };
    node.check();
}
