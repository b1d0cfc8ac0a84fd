//! C26, C27: damaged databases. Every readable event is salvaged, altered events are not, and a peer brings back the
//! rest.

#![expect(clippy::unwrap_used, reason = "clippy knows tests by their attribute, and not what they share")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;
use thrum_core::{Ambient, SetDigest, compare::LogOf};
use thrum_store::{Checkup, Condition, OpenOptions, Salvaged, Store, StoreError, reindex, salvage};

use crate::kit::{Node, World, foreign};

const PAGE: usize = 4096;

/// Number of pages that are damaged one at a time, unless this variable requests all.
const SOME: usize = 12;
const ALL: &str = "THRUM_DAMAGE_ALL";

/// A database with mail of several kinds, as a file, and a peer that has all of it.
struct Original {
    node: Node,
    peer: Node,
    bytes: Vec<u8>,
    ids: BTreeSet<String>,
}

impl Original {
    fn new(messages: usize) -> Self {
        let mut node = Node::new(1);
        for name in ["ann", "ben"] {
            node.register(name, "coder");
        }
        for n in 0..messages {
            // Some texts are longer than a page, so they use overflow pages.
            let text = if n % 50 == 7 { "long ".repeat(4000) } else { format!("{n} {}", "x".repeat(n % 300)) };
            node.send("ann", &["ben"], &text);
        }
        let go: Vec<_> = (0..messages / 4)
            .map(|n| foreign(&format!("evt_go_{n}"), "d_go", 1, "future.thing", json!({"n": n})))
            .collect();
        node.apply(&go);
        let mut peer = Node::new(2);
        peer.pull(&node, 0);
        let ids = node.ids().into_iter().collect();
        let copy = node.dir.path().join("whole.db");
        rusqlite::Connection::open(node.path()).unwrap().execute("VACUUM INTO ?1", [copy.to_str()]).unwrap();
        let bytes = fs::read(copy).unwrap();
        Self { node, peer, bytes, ids }
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.node.dir.path().join(name)
    }

    /// Salvages a file. The new database holds only original events, is intact, and is complete with the peer's help.
    #[track_caller]
    fn salvages(&self, damaged: &Path) -> Salvaged {
        let (to, world) = (self.path_of("salvaged.db"), World::new(9));
        let before = fs::read(damaged).unwrap();
        let salvaged = salvage(damaged, &to, self.node.options(None), Box::new(world.clone())).unwrap();
        assert!(fs::read(damaged).unwrap() == before, "the damaged file is as it was");
        assert!(!self.path_of("salvaged.db-wal").exists(), "the file alone is all of it");
        let store = Store::open(&to, self.node.options(None), Box::new(world.clone())).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut node = Node { store, world, key: self.node.key.clone(), dir };
        let held: BTreeSet<String> = node.ids().into_iter().collect();
        assert_eq!(held.len() as u64, salvaged.events);
        assert!(held.is_subset(&self.ids), "{:?}", held.difference(&self.ids).next());
        assert_ne!(
            node.store.fingerprint().log_id,
            self.node.store.fingerprint().log_id,
            "no number is given out twice"
        );
        let pulled = node.pull(&self.peer, 0).0;
        assert_eq!(pulled.applied + held.len(), self.ids.len());
        assert_eq!(node.store.projection().unwrap(), self.peer.store.projection().unwrap());
        assert_eq!(node.store.heads().unwrap().differences(&self.peer.store.heads().unwrap()), []);
        assert_eq!(node.store.heads().unwrap(), node.store.recounted_heads().unwrap());
        drop(node);
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(self.path_of(&format!("salvaged.db{suffix}")));
        }
        salvaged
    }

    /// Salvages the file with some bytes changed.
    #[track_caller]
    fn survives(&self, damage: impl FnOnce(&mut Vec<u8>)) -> Salvaged {
        let (mut bytes, path) = (self.bytes.clone(), self.path_of("damaged.db"));
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        self.salvages(&path)
    }

    fn total(&self) -> u64 {
        self.ids.len() as u64
    }
}

/// One page after another, of any table or index; the others are unaffected.
#[test]
fn a_damaged_page_loses_only_its_own_rows() {
    let original = Original::new(600);
    let pages = original.bytes.len() / PAGE;
    let stride = if std::env::var_os(ALL).is_some() { 1 } else { pages / SOME };
    let mut lossless = 0;
    for page in (0..pages).step_by(stride) {
        let salvaged = original.survives(|bytes| bytes[page * PAGE..(page + 1) * PAGE].fill(0xa5));
        let lost = original.total() - salvaged.events;
        assert!(lost <= 20, "page {page}: {lost} events gone");
        lossless += usize::from(lost == 0);
    }
    assert!(lossless > 0, "indexes and the projection hold no event");
}

#[test]
fn a_file_without_header_or_end_is_salvaged_as_far_as_possible() {
    let original = Original::new(200);
    let total = original.total();
    assert_eq!(
        original.survives(|_| {}),
        Salvaged { events: total, ..Salvaged::default() },
        "nothing is wrong with it"
    );
    assert_eq!(original.survives(|bytes| bytes[..100].fill(0)).events, total, "the head of the file");
    assert_eq!(original.survives(|bytes| bytes[..PAGE].fill(0x5a)).events, total, "the page with the schema");
    // A header with a wrong page size.
    assert_eq!(original.survives(|bytes| bytes[16..18].copy_from_slice(&[0x03, 0x21])).events, total);
    // A header with another wrong but valid page size, and one that reserves bytes at each page's end.
    assert_eq!(original.survives(|bytes| bytes[16..18].copy_from_slice(&[0x20, 0])).events, total);
    assert_eq!(original.survives(|bytes| bytes[20] ^= 0x40).events, total);
    // The rows of the log are in the second half.
    let cut = original.survives(|bytes| bytes.truncate(bytes.len() * 3 / 4 + 77));
    assert!(cut.events > 0 && cut.events < total, "{cut:?}");
    assert_eq!(original.survives(Vec::clear).events, 0);
    assert_eq!(original.survives(|bytes| bytes.fill(0xff)).events, 0);
}

/// The index that is left shows which events are lost.
#[test]
fn lost_events_are_listed_by_origin_sequence() {
    let original = Original::new(200);
    // The page that contains the last message's row.
    let needle = b"\"msg_";
    let at = original.bytes.windows(needle.len()).rposition(|window| window == needle).unwrap() / PAGE;
    let pages: BTreeSet<usize> = (0..original.bytes.len() / PAGE)
        .filter(|page| original.bytes[page * PAGE] == 0x0d && page.abs_diff(at) < 40)
        .collect();
    let salvaged = original.survives(|bytes| pages.iter().for_each(|page| bytes[page * PAGE] = 0x77));
    let ours = LogOf { origin: original.node.home(), log: original.node.store.fingerprint().log_id };
    let missing = salvaged.missing.get(&ours).map_or(0, thrum_core::RangeSet::count);
    assert!(missing > 0 && missing <= salvaged.lost, "{salvaged:?}");
}

/// Purged events are not lost, and are not requested again.
#[test]
fn salvaged_databases_keep_the_ranges_of_purged_events() {
    let mut node = Node::new(1);
    for name in ["ann", "ben"] {
        node.register(name, "coder");
    }
    let send = |node: &mut Node, n| {
        node.send("ann", &["ben"], &format!("{n}"));
        node.world.pass(std::time::Duration::from_secs(1));
    };
    (0..40).for_each(|n| send(&mut node, n));
    let cutoff = node.world.clone().now();
    (0..10).for_each(|n| send(&mut node, n));
    let purged = node.store.purge(cutoff).unwrap();
    assert_eq!(purged.events, 40);
    let ours = LogOf { origin: node.home(), log: node.store.fingerprint().log_id };
    let before = node.store.reader().numbers(&ours, 0, usize::MAX).unwrap();
    let (from, to) = (node.dir.path().join("broken.db"), node.dir.path().join("to.db"));
    rusqlite::Connection::open(node.path()).unwrap().execute("VACUUM INTO ?1", [from.to_str()]).unwrap();
    let mut bytes = fs::read(&from).unwrap();
    bytes[..100].fill(0);
    fs::write(&from, bytes).unwrap();
    let salvaged = salvage(&from, &to, node.options(None), Box::new(node.world.clone())).unwrap();
    assert_eq!((salvaged.lost, salvaged.missing), (0, std::collections::BTreeMap::new()));
    let store = Store::open(&to, node.options(None), Box::new(node.world.clone())).unwrap();
    assert_eq!(store.reader().numbers(&ours, 0, usize::MAX).unwrap(), before);
    assert_eq!(store.projection().unwrap(), node.store.projection().unwrap());
}

/// I9: a row is accepted for its signature, not for its presence.
#[test]
fn an_altered_row_is_not_salvaged_and_peers_serve_the_genuine_event() {
    let original = Original::new(50);
    let path = original.path_of("altered.db");
    fs::write(&path, &original.bytes).unwrap();
    let connection = rusqlite::Connection::open(&path).unwrap();
    let altered = connection.execute(
        "UPDATE event_rows SET body = replace(body, '\"content\":\"8 ', '\"content\":\"9 ') WHERE type = 'message.create'",
        [],
    );
    assert!(altered.unwrap() > 0);
    connection.execute("UPDATE event_rows SET event_id = 'evt_other' WHERE event_id = 'evt_go_3'", []).unwrap();
    connection
        .execute("UPDATE event_rows SET body = replace(body, '{', '{ ') WHERE event_id = 'evt_go_4'", [])
        .unwrap();
    drop(connection);
    let scratch = tempfile::tempdir().unwrap();
    let found = Checkup::examine(&path, scratch.path(), Box::new(World::new(3))).unwrap().unwrap();
    assert_eq!(found.damage.len(), 1, "doctor sees it: {found:?}");
    let salvaged = original.salvages(&path);
    assert_eq!((salvaged.altered, salvaged.lost), (3, 3));
    assert_eq!(salvaged.events, original.total() - 3);
}

/// The last commits are only in the write-ahead log.
#[test]
fn the_valid_part_of_the_write_ahead_log_is_salvaged() {
    let original = Original::new(100);
    let store = |name: &str| {
        let key = original.node.options(None);
        let mut store = Store::open(&original.path_of(name), key, Box::new(World::new(4))).unwrap();
        store
            .write(|tx| {
                tx.register(thrum_store::ops::Register {
                    name: "ann".into(),
                    role: "r".into(),
                    module: "m".into(),
                    ..Default::default()
                })
            })
            .unwrap();
        for n in 0..20 {
            let send = thrum_store::ops::Send { from: "ann".into(), content: format!("{n}"), ..Default::default() };
            store.write(|tx| tx.send(send)).unwrap();
        }
        store
    };
    // The state after a kill: not closed.
    let alive = store("alive.db");
    let (file, log) =
        (fs::read(original.path_of("alive.db")).unwrap(), fs::read(original.path_of("alive.db-wal")).unwrap());
    let ids = alive.reader().totals().unwrap().events;
    drop(alive);
    let saved = |log: &[u8]| {
        let (from, to) = (original.path_of("killed.db"), original.path_of("saved.db"));
        fs::write(&from, &file).unwrap();
        fs::write(original.path_of("killed.db-wal"), log).unwrap();
        let salvaged = salvage(&from, &to, original.node.options(None), Box::new(World::new(5))).unwrap();
        fs::remove_file(to).unwrap();
        salvaged.events
    };
    assert_eq!(saved(&log), ids, "all of it is in the log");
    let mut torn = log.clone();
    let middle = torn.len() / 2;
    torn[middle] ^= 1;
    assert!((1..ids).contains(&saved(&torn)), "what was committed before the tear");
    assert_eq!(saved(&vec![0x5a; 100_000]), saved(&[]), "garbage");
}

/// C18: no input causes a panic, an out-of-bounds read, or endless work.
#[test]
fn garbage_of_any_kind_causes_no_panic() {
    let original = Original::new(60);
    let mut world = World::new(77);
    let mut random = move |below: usize| usize::try_from(world.random_u64() % below as u64).unwrap();
    for round in 0..60 {
        let mut bytes = original.bytes.clone();
        for _ in 0..1 + random(400) {
            let at = random(bytes.len());
            // Half of the changes hit the beginning of a page, which holds its structure.
            let at = if round % 2 == 0 { at / PAGE * PAGE + random(64) } else { at };
            bytes[at] = u8::try_from(random(256)).unwrap();
        }
        let (from, to) = (original.path_of("garbage.db"), original.path_of("garbage-saved.db"));
        fs::write(&from, &bytes).unwrap();
        fs::write(original.path_of("garbage.db-wal"), &bytes[..bytes.len() / 2]).unwrap();
        let salvaged = salvage(&from, &to, original.node.options(None), Box::new(World::new(6))).unwrap();
        let held = Store::open(&to, original.node.options(None), Box::new(World::new(6))).unwrap();
        let rows = held.reader().page(0, 10_000, usize::MAX).unwrap().rows;
        let genuine: std::collections::BTreeMap<_, _> = original
            .node
            .store
            .reader()
            .page(0, 10_000, usize::MAX)
            .unwrap()
            .rows
            .into_iter()
            .map(|row| (row.id, SetDigest::of(row.body.as_bytes())))
            .collect();
        let signed = |row: &&thrum_core::exchange::Row| row.origin == original.node.home();
        assert!(
            rows.iter().filter(signed).all(|row| genuine.get(&row.id) == Some(&SetDigest::of(row.body.as_bytes()))),
            "round {round}"
        );
        assert_eq!(rows.len() as u64, salvaged.events);
        drop(held);
        fs::remove_file(to).unwrap();
    }
}

#[test]
fn a_missing_file_is_an_error() {
    let node = Node::new(1);
    let outcome = salvage(
        &node.dir.path().join("none.db"),
        &node.dir.path().join("to.db"),
        OpenOptions::new(node.key.clone(), None),
        Box::new(World::new(2)),
    );
    assert!(matches!(outcome, Err(StoreError::ReadOnly(_))), "{outcome:?}");
}

/// A newer version's database is recognised by its header; its schema may be unreadable for us.
#[test]
fn a_newer_database_is_not_treated_as_damaged() {
    let node = Node::new(1);
    let path = node.dir.path().join("newer.db");
    rusqlite::Connection::open(node.path()).unwrap().execute("VACUUM INTO ?1", [path.to_str()]).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[60..64].copy_from_slice(&99_u32.to_be_bytes());
    let created: Vec<usize> = (0..bytes.len() - 12).filter(|at| bytes[*at..].starts_with(b"CREATE TABLE")).collect();
    created.into_iter().for_each(|at| bytes[at..at + 12].copy_from_slice(b"CREATE NOVEL"));
    fs::write(&path, bytes).unwrap();
    let found = Checkup::examine(&path, node.dir.path(), Box::new(World::new(3)));
    assert!(matches!(found, Err(StoreError::Newer { found: 99, .. })), "{found:?}");
}

/// If all rows are present, no peer is needed; if one is missing, an index entry is a trace of it.
#[test]
fn only_the_indexes_are_rebuilt_if_no_row_is_lost() {
    let original = Original::new(50);
    let path = original.path_of("indexed.db");
    fs::write(&path, &original.bytes).unwrap();
    assert_eq!(Condition::of(&path).unwrap(), Condition::Whole);
    let conn = rusqlite::Connection::open(&path).unwrap();
    let sql = "UPDATE sqlite_schema SET sql = replace(sql, '(target, type)', '(type, target)') WHERE name = 'events_by_target'";
    conn.execute_batch(&format!("PRAGMA writable_schema = ON; {sql};")).unwrap();
    drop(conn);
    assert_eq!(Condition::of(&path).unwrap(), Condition::Indexes);
    let short = original.path_of("short.db");
    fs::copy(&path, &short).unwrap();
    assert!(reindex(&path).unwrap());
    assert_eq!(Condition::of(&path).unwrap(), Condition::Whole);

    rusqlite::Connection::open(&short).unwrap().execute("UPDATE heads SET count = count + 1", []).unwrap();
    assert_eq!(Condition::of(&short).unwrap(), Condition::Damaged);
}

/// The pages of the database that belong to these tables and indexes.
fn pages_of(bytes: &[u8], names: &[&str]) -> Vec<usize> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let conn = rusqlite::Connection::open(file.path()).unwrap();
    let mut root = conn.prepare("SELECT rootpage - 1 FROM sqlite_schema WHERE name = ?1").unwrap();
    names.iter().map(|name| root.query_row([name], |row| row.get(0)).unwrap()).collect()
}

/// The rows of the log have only the numbers of these ids.
#[test]
fn events_survive_the_loss_of_the_ids_of_daemons_and_logs() {
    let original = Original::new(200);
    for lost in [&["daemons", "sqlite_autoindex_daemons_1"][..], &["logs", "sqlite_autoindex_logs_1"]] {
        let pages = pages_of(&original.bytes, lost);
        let salvaged =
            original.survives(|bytes| pages.iter().for_each(|page| bytes[page * PAGE..(page + 1) * PAGE].fill(0)));
        assert_eq!(salvaged, Salvaged { events: original.total(), ..Salvaged::default() }, "{lost:?}");
    }
}

/// C27: a database that was damaged before this version opened it.
#[test]
fn a_database_of_the_format_before_numbers_is_salvaged() {
    let mut original = Original::new(200);
    let old = original.path_of("old.db");
    fs::write(&old, &original.bytes).unwrap();
    let conn = rusqlite::Connection::open(&old).unwrap();
    conn.execute_batch(crate::migrated::IDS_IN_PLACE_OF_NUMBERS).unwrap();
    conn.execute_batch("CREATE INDEX events_by_origin ON events (origin_daemon, origin_log, origin_seq)").unwrap();
    drop(conn);
    original.bytes = fs::read(&old).unwrap();
    assert_eq!(original.survives(|_| {}), Salvaged { events: original.total(), ..Salvaged::default() });
    // The last page of rows.
    let last = original.bytes.chunks(PAGE).rposition(|page| page[0] == 0x0d && page.windows(5).any(|w| w == b"\"msg_"));
    let last = last.unwrap();
    let salvaged = original.survives(|bytes| bytes[last * PAGE..(last + 1) * PAGE].fill(0xa5));
    let ours = LogOf { origin: original.node.home(), log: original.node.store.fingerprint().log_id };
    // Events of Go Thrum have no origin sequence, by which they would be missed.
    assert!(salvaged.events + salvaged.lost < original.total(), "{salvaged:?}");
    assert_eq!(salvaged.missing.get(&ours).map_or(0, thrum_core::RangeSet::count), salvaged.lost, "{salvaged:?}");
    assert!(salvaged.lost > 0);
}
