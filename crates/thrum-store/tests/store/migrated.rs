//! A database of an earlier format, opened by this version.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use thrum_store::Store;

use crate::kit::Node;

/// The last format without signers.
const BEFORE_SIGNERS: usize = 10;
const MESSAGES: usize = 300;

fn formats(upto: usize) -> String {
    let files = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/migrations")).expect("a directory");
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    files.sort();
    files[..upto].iter().map(|file| std::fs::read_to_string(file).expect("reads")).collect()
}

/// The node's log in a database of the format before signers, with rejected rows of two peers, one of which has been
/// read since.
fn opened_from_before_signers(node: Node) -> Node {
    let (path, left) = (node.path(), node.store.left());
    let Node { store, world, key, dir } = node;
    drop(store);
    let old = path.with_extension("old");
    let conn = Connection::open(&old).expect("opens");
    conn.execute_batch("PRAGMA journal_mode = WAL").expect("sets");
    conn.execute_batch(&formats(BEFORE_SIGNERS)).expect("makes the tables");
    conn.execute("ATTACH ?1 AS now", [path.to_string_lossy()]).expect("attaches");
    conn.execute_batch(
        "INSERT INTO events SELECT sequence, event_id, type, at, origin_daemon, origin_log, origin_seq, received_from, target, body FROM now.events;
         INSERT INTO heads SELECT * FROM now.heads;
         INSERT INTO state (one, log_id, next_sequence, next_origin_seq, last_at, open_counter, fold_version)
         SELECT one, log_id, next_sequence, next_origin_seq, last_at, open_counter, fold_version FROM now.state;
         INSERT INTO checkpoints (peer, log, sequence, at, event_id) VALUES ('d_read', '', 7, 0, '');
         INSERT INTO rejected (at, peer, event_id, reason, sample) VALUES (1, 'd_read', 'evt_1', 'r', ''), (1, 'd_removed', 'evt_1', 'r', '');
         DETACH now;",
    )
    .expect("copies the log");
    conn.pragma_update(None, "application_id", 0x5468_726d).expect("sets");
    conn.pragma_update(None, "user_version", BEFORE_SIGNERS).expect("sets");
    conn.close().expect("closes");
    std::fs::rename(&old, &path).expect("renames");
    let options = thrum_store::OpenOptions::new(key.clone(), Some(left));
    let store = Store::open(&path, options, Box::new(world.clone())).expect("opens");
    Node { store, world, key, dir }
}

fn old(n: usize) -> String {
    format!("the old text {n:03} {}", "x".repeat(500))
}

fn written() -> Node {
    let mut node = Node::new(1);
    node.register("ann", "coder");
    for n in 0..MESSAGES {
        node.send("ann", &["ann"], &old(n));
    }
    node
}

/// The number of occurrences of one of the texts in the file.
fn copies(path: &Path) -> usize {
    let bytes = std::fs::read(path).expect("reads");
    bytes.windows(13).filter(|window| *window == b"the old text ").count()
}

/// C30: the old contents of a rebuilt table are gone once the database is open.
#[test]
fn c30_an_older_database_that_was_opened_has_one_copy_of_a_text() {
    let mut node = opened_from_before_signers(written());
    let conn = Connection::open(node.path()).expect("opens");
    // SQLite occasionally moves a row to another page and leaves a copy on the first one.
    assert!((MESSAGES..MESSAGES + MESSAGES / 10).contains(&copies(&node.path())));
    assert_eq!(conn.query_row("PRAGMA freelist_count", [], |row| row.get::<_, i64>(0)).expect("counts"), 0);
    assert_eq!(conn.query_row("SELECT scrub FROM state", [], |row| row.get::<_, i64>(0)).expect("reads"), 0);
    drop(conn);
    assert_eq!(node.inbox("ann").len(), MESSAGES);
    node.check();
}

#[test]
fn what_a_removed_peer_served_is_not_counted_when_it_is_paired_again() {
    let node = opened_from_before_signers(written());
    let rejected = |peer| node.store.reader().troubles(peer).expect("reads").rejected;
    assert_eq!((rejected("d_read"), rejected("d_removed")), (1, 0));
}

/// A clock that does not move, and constant randomness.
struct Still;

impl thrum_core::Ambient for Still {
    fn now(&mut self) -> thrum_core::Timestamp {
        thrum_core::Timestamp::from_nanos(crate::kit::START)
    }

    fn fill(&mut self, buffer: &mut [u8]) {
        buffer.fill(7);
    }
}

/// C22: a machine without a battery-backed clock begins every run at the same time; its ids still differ.
#[test]
fn c22_ids_of_two_runs_differ_although_the_clock_stands() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("messages.db");
    let mut left = None;
    for run in 0..3 {
        let options = thrum_store::OpenOptions::new(crate::kit::key(1), left);
        let mut store = Store::open(&path, options, Box::new(Still)).expect("opens");
        for n in 0..5 {
            let register = thrum_store::ops::Register {
                name: format!("ann{run}{n}"),
                role: "coder".into(),
                module: format!("m{run}{n}"),
                ..Default::default()
            };
            store.write(|tx| tx.register(register)).unwrap_or_else(|error| panic!("run {run}: {error}"));
        }
        left = Some(store.left());
    }
}
