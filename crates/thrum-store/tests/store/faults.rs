//! Damaged databases and faulty disks: a clear error, no data lost, nothing half written.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use thrum_core::Error;
use thrum_store::{OpenOptions, Store, StoreError, ops::Send};

use crate::kit::{Node, World};

fn open(path: &Path, node: &Node) -> Result<Store, StoreError> {
    Store::open(path, node.options(None), Box::new(World::new(5)))
}

#[test]
fn a_database_of_a_newer_version_is_refused_and_unchanged() {
    let node = Node::new(1);
    let path = node.dir.path().join("newer.db");
    drop(open(&path, &node).expect("opens"));
    rusqlite::Connection::open(&path).expect("opens").pragma_update(None, "user_version", 99).expect("sets");
    let before = fs::read(&path).expect("reads");
    let error = open(&path, &node).err().expect("is refused");
    assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");
    let error = Error::from(error);
    assert!(error.message.starts_with("the database is of format 99; this version of thrum reads up to "), "{error}");
    assert!(error.hint.is_some());
    assert!(fs::read(&path).expect("reads") == before, "it was changed");
}

#[test]
fn a_damaged_or_foreign_file_is_refused_and_unchanged() {
    let node = Node::new(1);
    let (noise, strange) = (node.dir.path().join("noise.db"), node.dir.path().join("strange.db"));
    fs::write(&noise, "this is no database, but long enough to have a header ".repeat(50)).expect("writes");
    rusqlite::Connection::open(&strange).expect("opens").execute_batch("CREATE TABLE theirs (x)").expect("creates");
    for (path, is_foreign) in [(noise, false), (strange, true)] {
        let before = fs::read(&path).expect("reads");
        let error = open(&path, &node).err().expect("is refused");
        let is_known =
            if is_foreign { matches!(error, StoreError::Foreign) } else { matches!(error, StoreError::Damaged(_)) };
        assert!(is_known, "{error}");
        assert!(fs::read(&path).expect("reads") == before, "{} was changed", path.display());
    }
}

#[test]
fn a_damaged_page_causes_an_error_instead_of_an_empty_answer() {
    let mut node = Node::new(1);
    node.register("ann", "coder");
    for n in 0..200 {
        node.send("ann", &["ann"], &format!("{n} {}", "x".repeat(2000)));
    }
    let path = node.path();
    let fingerprint = node.store.fingerprint();
    let Node { store, key, world, dir: _dir } = node;
    drop(store);
    let mut bytes = fs::read(&path).expect("reads");
    let end = bytes.len();
    bytes[4096 * 8..end].fill(0xa5);
    fs::write(&path, bytes).expect("damages");
    let outcome = Store::open(&path, OpenOptions::new(key, Some(fingerprint)), Box::new(world))
        .and_then(|store| store.reader().page(0, 10_000, usize::MAX).map(|page| page.rows.len()));
    assert!(matches!(outcome, Err(StoreError::Damaged(_))), "{outcome:?}");
}

#[test]
fn a_full_disk_refuses_new_mail_and_keeps_old_mail() {
    let mut node = Node::new(1);
    node.register("ann", "coder");
    node.send("ann", &["ann"], "stored before");
    let (path, fingerprint) = (node.path(), node.store.fingerprint());
    let Node { store, key, world, dir } = node;
    drop(store);
    let pages = fs::metadata(&path).expect("is there").len() / 4096 + 20;
    let options = OpenOptions {
        max_pages: Some(u32::try_from(pages).expect("few")),
        ..OpenOptions::new(key.clone(), Some(fingerprint))
    };
    let store = Store::open(&path, options, Box::new(world.clone())).expect("opens");
    let mut node = Node { store, key, world, dir };
    let mut stored = 1;
    let error = loop {
        let send =
            Send { from: "ann".into(), content: "x".repeat(10_000), mentions: vec!["ann".into()], ..Send::default() };
        match node.store.write(|tx| tx.send(send)) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 1000, "the disk is never full");
    };
    assert!(matches!(error, StoreError::Full), "{error}");
    assert!(Error::from(error).hint.is_some());
    assert_eq!(node.inbox("ann").len(), stored);
    assert_eq!(
        node.store.heads().expect("heads"),
        node.store.recounted_heads().expect("heads"),
        "nothing half written"
    );
    let fingerprint = node.store.fingerprint();
    let mut node = node.reopen(Some(fingerprint));
    node.send("ann", &["ann"], "there is room again");
    assert_eq!(node.inbox("ann").len(), stored + 1);
    node.check();
}

#[test]
fn a_directory_that_cannot_be_written_is_a_clear_error() {
    let node = Node::new(1);
    let dir = node.dir.path().join("read-only");
    fs::create_dir(&dir).expect("creates");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o555)).expect("sets");
    let outcome = open(&dir.join("messages.db"), &node);
    // Root can write despite the mode; for that case a file takes the place of the directory.
    let outcome = if outcome.is_ok() { open(&node.path().join("messages.db"), &node) } else { outcome };
    let error = outcome.err().expect("is refused");
    assert!(matches!(error, StoreError::ReadOnly(_)), "{error}");
    assert!(Error::from(error).hint.is_some());
}
