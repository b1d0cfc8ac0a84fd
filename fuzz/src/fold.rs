//! Target: folding events of any content into a store.

use std::{cell::RefCell, fs, path::PathBuf};

use thrum_core::{
    DaemonKey, Event,
    event::{Candidate, admit},
    exchange::Batch,
};
use thrum_store::{OpenOptions, Store};

use crate::world::{World, directory};

/// Maximum number of lines that are parsed. More take longer without finding more.
const MOST: usize = 24;

/// Parses one event per line. Every well-formed event is stored (I5), both orders lead to the same projection (I6), and
/// folding the log again reproduces it (I1).
pub fn fold(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let candidates = text.lines().take(MOST).filter_map(|line| Candidate::read(line, &[]).ok()).collect();
    let (mut events, _) = admit(candidates);
    // Of unsigned events with one id and different contents, a store keeps the one that comes first, so the order would
    // matter.
    let mut seen = std::collections::BTreeSet::new();
    events.retain(|event| seen.insert(event.id.clone()));
    if events.is_empty() {
        return;
    }
    let purges = events.iter().any(|event| event.kind == "purge.executed");
    let (heads, projection) = folded(&events, 1, purges);
    events.reverse();
    let backwards = folded(&events, events.len(), purges);
    assert_eq!(projection, backwards.1, "the order of events does not matter");
    // The heads count an event that a purge covers only if the event was stored before the purge.
    assert!(purges || heads == backwards.0, "the same events are held");
}

/// Stores the events in batches of `share` events, and returns the version vector as JSON and the digest of the
/// projection.
fn folded(events: &[Event], share: usize, purges: bool) -> (String, String) {
    thread_local! {
        static EMPTY: RefCell<Option<(tempfile::TempDir, Vec<u8>)>> = const { RefCell::new(None) };
    }
    EMPTY.with_borrow_mut(|empty| {
        // Copies a new database instead of creating one, which would take longer than everything else.
        let (directory, bytes) = empty.get_or_insert_with(|| {
            let directory = directory();
            drop(open(directory.path().join("empty.db")));
            let bytes = fs::read(directory.path().join("empty.db")).expect("reads");
            (directory, bytes)
        });
        let path = directory.path().join("messages.db");
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(directory.path().join(format!("messages.db{suffix}")));
        }
        fs::write(&path, bytes).expect("writes");
        let mut store = open(path);
        for events in events.chunks(share) {
            let batch = Batch {
                peer: "d_peer".into(),
                log: String::new(),
                checkpoint: 1,
                checkpoint_event: String::new(),
                events: events.to_vec(),
                rejected: Vec::new(),
            };
            let applied = store.write(|tx| tx.apply(&batch)).expect("an event of any content is stored");
            assert_eq!((applied.applied + applied.skipped, applied.rejected), (events.len(), 0));
            assert!(purges || applied.skipped == 0, "what was not here is new");
        }
        let (heads, projection) = (store.heads().expect("heads"), store.projection().expect("a digest"));
        assert_eq!(heads, store.recounted_heads().expect("heads"), "kept heads are the log's");
        store.rebuild().expect("rebuilds");
        assert_eq!(projection, store.projection().expect("a digest"), "a rebuilt projection is the same");
        (serde_json::to_string(&heads).expect("heads are JSON"), projection.to_string())
    })
}

fn open(path: PathBuf) -> Store {
    let mut world = World::new(1);
    let key = DaemonKey::generate(&mut world);
    Store::open(&path, OpenOptions::new(key, None), Box::new(world)).expect("opens")
}
