//! A database of an earlier format, opened by this version.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::Connection;
use serde_json::json;
use thrum_core::{
    Payload, Timestamp,
    ids::{IdKind, IdSource},
    payload::PurgeExecuted,
};
use thrum_store::Store;

use crate::kit::{self, Node};

/// The last format without signers.
const BEFORE_SIGNERS: usize = 10;
const MESSAGES: usize = 300;

/// The columns of `events` that were columns of a table in former formats.
const COLUMNS: &str =
    "sequence, event_id, type, at, origin_daemon, origin_log, origin_seq, received_from, target, body";

fn formats(upto: usize) -> String {
    let files = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/migrations")).expect("a directory");
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    files.sort();
    files[..upto].iter().map(|file| std::fs::read_to_string(file).expect("reads")).collect()
}

/// The node's log in a database of the format before signers, with rejected rows of two peers, one of which has been
/// read since.
fn opened_from_before_signers(node: Node) -> Node {
    let (path, fingerprint) = (node.path(), node.store.fingerprint());
    let Node { store, world, key, dir } = node;
    drop(store);
    let old = path.with_extension("old");
    let conn = Connection::open(&old).expect("opens");
    conn.execute_batch("PRAGMA journal_mode = WAL").expect("sets");
    conn.execute_batch(&formats(BEFORE_SIGNERS)).expect("makes the tables");
    conn.execute("ATTACH ?1 AS now", [path.to_string_lossy()]).expect("attaches");
    conn.execute_batch(&format!(
        "INSERT INTO events SELECT {COLUMNS} FROM now.events;
         INSERT INTO heads SELECT * FROM now.heads;
         INSERT INTO state (one, log_id, next_sequence, next_origin_seq, last_at, open_counter, fold_version)
         SELECT one, log_id, next_sequence, next_origin_seq, last_at, open_counter, fold_version FROM now.state;
         INSERT INTO checkpoints (peer, log, sequence, at, event_id) VALUES ('d_read', '', 7, 0, '');
         INSERT INTO rejected (at, peer, event_id, reason, sample) VALUES (1, 'd_read', 'evt_1', 'r', ''), (1, 'd_removed', 'evt_1', 'r', '');
         DETACH now;"
    ))
    .expect("copies the log");
    conn.pragma_update(None, "application_id", 0x5468_726d).expect("sets");
    conn.pragma_update(None, "user_version", BEFORE_SIGNERS).expect("sets");
    conn.close().expect("closes");
    std::fs::rename(&old, &path).expect("renames");
    let options = thrum_store::OpenOptions::new(key.clone(), Some(fingerprint));
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
fn c30_a_migrated_database_has_one_copy_of_each_text() {
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
fn rejected_events_of_a_removed_peer_are_not_counted_when_it_is_paired_again() {
    let node = opened_from_before_signers(written());
    let rejected = |peer| node.store.reader().troubles(peer).expect("reads").rejected;
    assert_eq!((rejected("d_read"), rejected("d_removed")), (1, 0));
}

/// Stores the log as in formats 11 to 26, without its indexes: with the ids of daemons and logs in each row. Removes
/// what later formats added.
pub const IDS_IN_PLACE_OF_NUMBERS: &str = "
    ALTER TABLE state DROP COLUMN messages;
    CREATE TABLE was (
        sequence INTEGER PRIMARY KEY, event_id TEXT NOT NULL, type TEXT NOT NULL, at INTEGER NOT NULL, origin_daemon TEXT NOT NULL,
        origin_log TEXT NOT NULL, origin_seq INTEGER NOT NULL, received_from TEXT NOT NULL, target TEXT, body TEXT NOT NULL,
        signer TEXT NOT NULL GENERATED ALWAYS AS (CASE WHEN length(origin_daemon) = 55 THEN origin_daemon ELSE '' END) VIRTUAL
    ) STRICT;
    INSERT INTO was SELECT sequence, event_id, type, at, origin_daemon, origin_log, origin_seq, received_from, target, body FROM events;
    DROP VIEW events; DROP TABLE event_rows; DROP TABLE logs; DROP TABLE daemons;
    ALTER TABLE was RENAME TO events;
    VACUUM;";

/// The last format that distinguished parked events by the text of their reason.
const BEFORE_PARKED_KINDS: usize = 24;

/// Opens the node's database in that format: without the column that the next migration adds.
fn opened_from_before_parked_kinds(node: Node) -> Node {
    let fingerprint = node.store.fingerprint();
    let Node { store, world, key, dir } = node;
    drop(store);
    let path = dir.path().join("messages.db");
    let conn = Connection::open(&path).expect("opens");
    conn.execute_batch("ALTER TABLE parked DROP COLUMN kind").expect("removes the column");
    conn.execute_batch(IDS_IN_PLACE_OF_NUMBERS).expect("stores ids in place of numbers");
    // That format counted received events with two triggers.
    let counts = "INSERT INTO received (peer, origin, events, bytes) VALUES ('', '', 0, 0) ON CONFLICT DO NOTHING";
    for (trigger, when) in [("event_received", "INSERT"), ("event_gone", "DELETE")] {
        conn.execute_batch(&format!("CREATE TRIGGER {trigger} AFTER {when} ON events BEGIN {counts}; END"))
            .expect("creates the trigger");
    }
    conn.pragma_update(None, "user_version", BEFORE_PARKED_KINDS).expect("sets");
    conn.close().expect("closes");
    let options = thrum_store::OpenOptions::new(key.clone(), Some(fingerprint));
    let store = Store::open(&path, options, Box::new(world.clone())).expect("opens");
    Node { store, world, key, dir }
}

#[test]
fn parked_events_of_a_former_format_are_counted_and_listed_as_before() {
    let mut node = Node::new(1);
    let made_early = IdSource::bound_to(kit::key(0).id()).next(IdKind::Message, &mut node.world.clone());
    node.world.pass(Duration::from_secs(1000));
    let at = |seconds: i64| Timestamp::from_nanos(kit::START + seconds * 1_000_000_000).to_string();
    let edit = |id: &str, origin: &str, message: &str| {
        let body = json!({"message_id": message, "body": {"content": "changed"}});
        kit::foreign(id, origin, 600, "message.edit", body)
    };
    let purge = |id: &str, number, seconds| {
        let payload = Payload::PurgeExecuted(PurgeExecuted { cutoff: at(seconds), ahead: Vec::new() });
        kit::signed(id, number, 1, seconds, &payload)
    };
    node.apply(&[
        kit::foreign("evt_1", "d_go", 500, "purge.executed", json!({"cutoff": at(500)})),
        kit::foreign("evt_2", "d_a", 600, "message.create", json!({"message_id": "msg_1", "agent_id": "ann"})),
        edit("evt_3", "d_b", "msg_1"),
        kit::foreign("evt_4", "d_b", 600, "message.delete", json!({"message_id": "msg_1"})),
        edit("evt_5", "d_b", "msg_missing"),
        edit("evt_6", "d_b", &made_early),
        kit::foreign("evt_7", "d_b", 600, "of.a.later.version", json!({})),
        kit::foreign("evt_8", "d_b", 600, "file.claim", json!({"agent_id": "ann", "expires_at": "soon"})),
        purge("evt_9", 8, 2000),
        purge("evt_10", 9, 1_000_000),
    ]);
    let state = |node: &Node| {
        let conn = Connection::open(node.path()).expect("opens");
        let sql = "SELECT event_id, p.kind FROM parked p JOIN events e USING (event_id, signer) ORDER BY e.sequence";
        let mut statement = conn.prepare(sql).expect("prepares");
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("reads");
        rows.map(|row| row.expect("a row")).collect::<Vec<(String, i64)>>()
    };
    let reports = |node: &Node| {
        let reader = node.store.reader();
        let troubles = reader.troubles("d_peer").expect("reads");
        let purges: Vec<_> =
            reader.purges().expect("reads").into_iter().map(|purge| (purge.waits, purge.far_ahead)).collect();
        let counts = (troubles.parked, troubles.without_effect, reader.totals().expect("reads").parked);
        (
            counts,
            troubles.last_without_effect,
            reader.parked().expect("reads"),
            purges,
            reader.purge_waits().expect("reads"),
        )
    };
    let before = (state(&node), reports(&node));
    let kinds = [
        ("evt_3", 3),
        ("evt_4", 3),
        ("evt_5", 1),
        ("evt_6", 2),
        ("evt_7", 0),
        ("evt_8", 0),
        ("evt_9", 4),
        ("evt_10", 5),
    ];
    assert_eq!(before.0, kinds.map(|(id, kind)| (id.to_owned(), kind)));
    let (counts, _, (groups, _), purges, purge_waits) = &before.1;
    assert_eq!(*counts, (5, 2, 5), "waiting, without effect, all that wait");
    assert_eq!(groups.iter().filter(|group| group.waits).map(|group| group.events).sum::<u64>(), 5);
    assert_eq!((purges.as_slice(), *purge_waits), ([(true, true), (true, false), (false, false)].as_slice(), true));
    let mut node = opened_from_before_parked_kinds(node);
    assert_eq!((state(&node), reports(&node)), before);
    node.check();
    assert_eq!((state(&node), reports(&node)), before);
}

#[test]
fn events_of_a_type_that_an_earlier_version_did_not_know_get_their_target() {
    let mut node = Node::new(1);
    node.register("ann", "coder");
    node.register("ben", "coder");
    let sent = node.send("ann", &["@ben"], "one").message_id;
    node.store.write(|tx| tx.mark_read("ben", std::slice::from_ref(&sent))).expect("marks");
    let target = |node: &Node| -> Option<String> {
        let conn = Connection::open(node.path()).expect("opens");
        let sql = "SELECT target FROM event_rows WHERE type = 'message.receipt'";
        conn.query_row(sql, [], |row| row.get(0)).expect("one receipt")
    };
    assert_eq!(target(&node).as_ref(), Some(&sent));
    let conn = Connection::open(node.path()).expect("opens");
    conn.execute_batch(
        "UPDATE event_rows SET target = NULL WHERE type = 'message.receipt'; UPDATE state SET fold_version = 0;",
    )
    .expect("stores it as such a version did");
    conn.close().expect("closes");
    let fingerprint = node.store.fingerprint();
    let mut node = node.reopen(Some(fingerprint));
    assert_eq!(target(&node).as_ref(), Some(&sent));
    node.check();
}

/// A clock that does not move, and constant randomness.
struct Still;

impl thrum_core::Ambient for Still {
    fn now(&mut self) -> Timestamp {
        Timestamp::from_nanos(kit::START)
    }

    fn fill(&mut self, buffer: &mut [u8]) {
        buffer.fill(7);
    }
}

/// C22: a machine without a battery-backed clock begins every run at the same time; its ids still differ.
#[test]
fn c22_ids_of_two_runs_differ_although_the_clock_stands_still() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("messages.db");
    let mut fingerprint = None;
    for run in 0..3 {
        let options = thrum_store::OpenOptions::new(kit::key(1), fingerprint);
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
        fingerprint = Some(store.fingerprint());
    }
}
