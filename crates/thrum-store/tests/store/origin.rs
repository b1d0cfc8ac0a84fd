//! A database other than the one that this daemon used last must not reuse its sequences.

use crate::kit::Node;
use thrum_store::{OpenOptions, Store, StoreFingerprint};

fn used(seed: u64) -> Node {
    let mut node = Node::new(seed);
    node.register("ann", "coder");
    node.send("ann", &["ann"], "one");
    node
}

fn log_of(node: &Node) -> String {
    node.store.fingerprint().log_id
}

#[test]
fn a_database_with_its_fingerprint_continues_its_log() {
    let node = used(1);
    let (log, latest, fingerprint) = (log_of(&node), node.store.commit().latest, node.store.fingerprint());
    let mut node = node.reopen(Some(fingerprint.clone()));
    assert_eq!((log_of(&node), node.store.commit().latest), (log.clone(), latest));
    assert_eq!(node.store.fingerprint().counter, fingerprint.counter + 1);
    node.send("ann", &["ann"], "two");
    assert_eq!(node.store.commit().latest, latest + 1);
    // The database counted the opening, and the machine crashed before the fingerprint beside it was written.
    let node = node.reopen(Some(fingerprint));
    assert_eq!(log_of(&node), log);
}

/// C27: opened as often as the fingerprint says, but shorter.
#[test]
fn a_copy_of_the_file_restored_within_one_run_begins_a_new_log() {
    let mut node = used(1);
    let (log, copied) = (log_of(&node), node.store.fingerprint());
    node.send("ann", &["ann"], "after the copy");
    let end = node.store.fingerprint().sequence;
    assert_eq!((node.store.fingerprint().counter, end), (copied.counter, copied.sequence + 1));
    for (sequence, is_ours) in [(copied.sequence, true), (end, true), (end + 1, false)] {
        let fingerprint = StoreFingerprint { sequence, ..node.store.fingerprint() };
        node = node.reopen(Some(fingerprint));
        assert_eq!(log_of(&node) == log, is_ours, "noted {sequence}, ends at {end}");
    }
}

#[test]
fn a_restored_database_begins_a_new_log_far_above_the_old_one() {
    let node = used(1);
    let backup = std::fs::read(node.path()).expect("reads");
    let wal = std::fs::read(node.path().with_extension("db-wal")).unwrap_or_default();
    let log = log_of(&node);
    let fingerprint = node.store.fingerprint();
    let node = node.reopen(Some(fingerprint));
    let node = {
        let fingerprint = node.store.fingerprint();
        node.reopen(Some(fingerprint))
    };
    let fingerprint = node.store.fingerprint();
    let path = node.path();
    let Node { store, world, key, dir } = node;
    drop(store);
    std::fs::write(&path, backup).expect("restores");
    std::fs::write(path.with_extension("db-wal"), wal).expect("restores");
    let store =
        Store::open(&path, OpenOptions::new(key.clone(), Some(fingerprint)), Box::new(world.clone())).expect("opens");
    let mut node = Node { store, world, key, dir };
    assert_ne!(log_of(&node), log);
    node.send("ann", &["ann"], "after the restore");
    assert!(
        node.store.commit().latest > 1_700_000_000 << 20,
        "old readers' checkpoints lie below: {}",
        node.store.commit().latest
    );
    let heads = node.store.heads().expect("heads");
    assert_eq!(heads.get(&node.home(), &log_of(&node)).map(|head| (head.count, head.highest)), Some((1, 1)));
    assert_eq!(node.inbox("ann").len(), 2, "what was in the backup is there");
    node.check();
}

#[test]
fn a_new_database_after_a_loss_begins_a_new_log_and_gets_its_own_mail_back() {
    let mut peer = Node::new(9);
    let node = used(1);
    let (_, end) = peer.pull(&node, 0);
    assert_eq!(end, 2);
    let (log, fingerprint, path) = (log_of(&node), node.store.fingerprint(), node.path());
    let Node { store, world, key, dir } = node;
    drop(store);
    for name in ["db", "db-wal", "db-shm"] {
        let _ = std::fs::remove_file(path.with_extension(name));
    }
    let store =
        Store::open(&path, OpenOptions::new(key.clone(), Some(fingerprint)), Box::new(world.clone())).expect("opens");
    let mut node = Node { store, world, key, dir };
    assert_ne!(log_of(&node), log);
    node.pull(&peer, 0);
    assert_eq!(node.inbox("ann").len(), 1);
    assert!(node.store.commit().latest > 1_700_000_000 << 20);
    let (outcome, _) = peer.pull(&node, 0);
    assert_eq!((outcome.applied, outcome.skipped), (0, 2));
}

#[test]
fn an_event_of_ours_with_an_unassigned_sequence_begins_a_new_log_before_the_next_write() {
    restored_unnoticed(0);
}

#[test]
fn an_event_of_ours_whose_sequence_was_assigned_again_begins_a_new_log() {
    restored_unnoticed(2);
}

fn restored_unnoticed(writes_before: usize) {
    // The whole state directory was restored, so the fingerprint beside the database does not reveal it.
    let node = used(1);
    let fingerprint = node.store.fingerprint();
    let copy = std::fs::read(node.path()).expect("reads");
    let wal = std::fs::read(node.path().with_extension("db-wal")).unwrap_or_default();
    let mut node = node;
    node.send("ann", &["ann"], "told to a peer, then lost here");
    let mut peer = Node::new(9);
    peer.pull(&node, 0);
    let path = node.path();
    let Node { store, world, key, dir } = node;
    drop(store);
    std::fs::write(&path, copy).expect("restores");
    std::fs::write(path.with_extension("db-wal"), wal).expect("restores");
    world.pass(std::time::Duration::from_secs(1));
    let store = Store::open(&path, OpenOptions::new(key.clone(), Some(fingerprint.clone())), Box::new(world.clone()))
        .expect("opens");
    let mut node = Node { store, world, key, dir };
    assert_eq!(log_of(&node), fingerprint.log_id, "nothing tells yet");
    for n in 0..writes_before {
        node.send("ann", &["ann"], &format!("under a number that was given out before {n}"));
    }
    node.pull(&peer, 0);
    assert_ne!(log_of(&node), fingerprint.log_id);
    node.send("ann", &["ann"], "in the new log");
    peer.pull(&node, 0);
    assert_eq!(node.inbox("ann").len(), 3 + writes_before);
    assert_eq!(node.store.heads().expect("heads"), peer.store.heads().expect("heads"));
    node.check();
}

#[test]
fn a_copied_directory_begins_a_new_log() {
    let node = used(1);
    let (log, fingerprint, path) = (log_of(&node), node.store.fingerprint(), node.path());
    let Node { store, world, key, dir: _dir } = node;
    drop(store);
    let options = OpenOptions { new_log: true, ..OpenOptions::new(key, Some(fingerprint)) };
    let store = Store::open(&path, options, Box::new(world)).expect("opens");
    assert_ne!(store.fingerprint().log_id, log);
}
