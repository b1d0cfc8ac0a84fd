//! A mailbox on a faulty disk, and its invariants.

use std::{collections::BTreeSet, time::Duration};

use faulty_disk::{Disk, Image};
use thrum_core::{Ambient, DaemonKey, Timestamp, exchange::Batch};
use thrum_store::{
    OpenOptions, Store, StoreError, StoreFingerprint,
    ops::{Register, Send},
    query::{Filter, Mailbox, Order},
};

use crate::kit::{Node, World, event};

pub(super) const FILE: &str = "messages.db";

/// The initial state of a mailbox.
pub(super) struct Base {
    pub(super) image: Image,
    pub(super) key: DaemonKey,
    pub(super) fingerprint: Option<StoreFingerprint>,
    /// The mail that ann already has.
    pub(super) mail: BTreeSet<String>,
    /// The batches that a peer has for it.
    pub(super) batches: Vec<Batch>,
    /// All of its mail is older than this.
    pub(super) cutoff: Timestamp,
}

/// One test case.
pub(super) struct Case<'b> {
    base: &'b Base,
    pub(super) disk: Disk,
    pub(super) world: World,
    fingerprint: Option<StoreFingerprint>,
}

/// The requests so far, and their acknowledgements.
#[derive(Default)]
pub(super) struct Seen {
    /// Acknowledged mail.
    pub(super) sent: BTreeSet<String>,
    /// Mail for which the outcome is unknown.
    pub(super) unknown: BTreeSet<String>,
    /// Number of acknowledged batches.
    pub(super) batches: usize,
    /// Whether one more batch may be stored.
    pub(super) batch_unknown: bool,
    /// Whether a purge was requested, and then whether it was acknowledged.
    pub(super) purge: Option<bool>,
}

impl Seen {
    /// Sends a message from bob to ann.
    pub(super) fn send(&mut self, store: &mut Store, content: &str) -> Result<(), StoreError> {
        let send = letter(content);
        let outcome = store.write(|tx| tx.send(send)).map(drop);
        self.hear(content, &outcome);
        outcome
    }

    pub(super) fn hear(&mut self, content: &str, outcome: &Result<(), StoreError>) {
        match outcome {
            Ok(()) => _ = self.sent.insert(content.to_owned()),
            Err(StoreError::Unknown(_) | StoreError::UnknownFull) => _ = self.unknown.insert(content.to_owned()),
            // Any other error means that nothing was stored.
            Err(_) => {}
        }
    }

    /// Applies the peer's next batch.
    pub(super) fn take(&mut self, store: &mut Store, batches: &[Batch]) -> Result<(), StoreError> {
        let outcome = store.write(|tx| tx.apply(&batches[self.batches])).map(drop);
        self.batch_unknown = matches!(outcome, Err(StoreError::Unknown(_) | StoreError::UnknownFull));
        self.batches += usize::from(outcome.is_ok());
        outcome
    }
}

pub(super) fn letter(content: &str) -> Send {
    Send { from: "bob".into(), mentions: vec!["ann".into()], content: content.into(), ..Send::default() }
}

impl Base {
    /// Two agents with some mail, of sizes up to three pages, partly edited, deleted and read.
    pub(super) fn new() -> Self {
        let disk = Disk::new(0);
        let mut world = World::new(1);
        let key = DaemonKey::generate(&mut world);
        let options = OpenOptions::new(key.clone(), None);
        let mut store = Store::open(&disk.path(FILE), options, Box::new(world.clone())).expect("opens");
        for name in ["ann", "bob"] {
            let register =
                Register { name: name.into(), role: "coder".into(), module: name.into(), ..Register::default() };
            store.write(|tx| tx.register(register)).expect("registers");
        }
        let mut ids = Vec::new();
        for n in 0..12 {
            world.pass(Duration::from_secs(1));
            let send = letter(&format!("old {n} {}", "o".repeat(n * n * 100)));
            ids.push(store.write(|tx| tx.send(send)).expect("sends").message_id);
        }
        store.write(|tx| tx.edit("bob", &ids[2], Some("old and edited".into()), None)).expect("edits");
        store.write(|tx| tx.delete("bob", &ids[3], None)).expect("deletes");
        store.write(|tx| tx.mark_read("ann", &ids[..2])).expect("reads");
        world.pass(Duration::from_secs(60));
        let cutoff = world.now();
        let fingerprint = Some(store.fingerprint());
        let mail = inbox(&store, key.id().as_str()).into_iter().collect();
        drop(store);
        Self { image: disk.image(), key, fingerprint, mail, batches: batches(), cutoff }
    }

    /// A mailbox that has never been opened.
    pub(super) fn empty() -> Self {
        Self { image: Image::default(), fingerprint: None, mail: BTreeSet::new(), batches: vec![], ..Self::new() }
    }

    pub(super) fn case(&self, seed: u64) -> Case<'_> {
        let disk = Disk::new(seed);
        disk.restore(&self.image);
        let world = World::new(1_000 + seed);
        world.pass(Duration::from_secs(3600));
        Case { base: self, disk, world, fingerprint: self.fingerprint.clone() }
    }
}

/// The peer's events: an agent writes to everyone, edits and deletes.
fn batches() -> Vec<Batch> {
    let mut peer = Node::new(77);
    // Newer than the purged mail.
    peer.world.pass(Duration::from_secs(600));
    peer.register("zoe", "tester");
    let mut ids = Vec::new();
    for n in 0..12 {
        ids.push(peer.send("zoe", &["everyone"], &format!("from afar {n} {}", "z".repeat(n * 400))).message_id);
    }
    for id in &ids[..6] {
        peer.store.write(|tx| tx.edit("zoe", id, Some("from afar, edited".into()), None)).expect("edits");
    }
    peer.store.write(|tx| tx.delete("zoe", &ids[6], None)).expect("deletes");
    let rows = peer.store.reader().page(0, 1000, usize::MAX).expect("a page").rows;
    let batches = rows.chunks(6).map(|rows| Batch {
        peer: peer.home(),
        log: peer.store.fingerprint().log_id,
        checkpoint: rows[rows.len() - 1].sequence,
        checkpoint_event: String::new(),
        events: rows.iter().map(|row| event(&serde_json::from_str(&row.body).expect("json"))).collect(),
        rejected: vec![],
    });
    batches.collect()
}

fn inbox(store: &Store, home: &str) -> Vec<String> {
    let mailbox = Some(Mailbox { agent_id: "ann".into(), home: home.into() });
    let filter = Filter { mailbox, order: Order::OldestFirst, limit: 1000, ..Filter::default() };
    let messages = store.reader().list(&filter).expect("lists").messages;
    messages
        .into_iter()
        .map(|message| message.body.content)
        .filter(|content| !content.starts_with("from afar"))
        .collect()
}

impl Case<'_> {
    /// Opens the mailbox as the daemon does, and remembers what the daemon writes beside it.
    pub(super) fn open(&mut self) -> Result<Store, StoreError> {
        let options = OpenOptions::new(self.base.key.clone(), self.fingerprint.clone());
        let store = Store::open(&self.disk.path(FILE), options, Box::new(self.world.clone()))?;
        if let Some(fingerprint) = &self.fingerprint {
            assert_eq!(fingerprint.log_id, store.fingerprint().log_id, "it is taken for another database");
        }
        self.fingerprint = Some(store.fingerprint());
        Ok(store)
    }

    /// Checks that everything acknowledged is present, and nothing that was not requested.
    pub(super) fn check(&self, store: &Store, seen: &Seen, at: &str) {
        let home = self.base.key.id();
        let (mail, old): (Vec<_>, Vec<_>) =
            inbox(store, home.as_str()).into_iter().partition(|content| !content.starts_with("old"));
        let found: BTreeSet<_> = mail.iter().cloned().collect();
        assert_eq!(found.len(), mail.len(), "{at}: something is there twice");
        let lost: Vec<_> = seen.sent.difference(&found).collect();
        assert!(lost.is_empty(), "{at}: acknowledged and lost: {lost:?}");
        let invented: Vec<_> =
            found.iter().filter(|content| !seen.sent.contains(*content) && !seen.unknown.contains(*content)).collect();
        assert!(invented.is_empty(), "{at}: refused and stored: {invented:?}");
        let old: BTreeSet<_> = old.into_iter().collect();
        match seen.purge {
            None => assert_eq!(old, self.base.mail, "{at}: old mail changed"),
            Some(false) => assert!(old.is_empty() || old == self.base.mail, "{at}: half purged"),
            Some(true) => assert_eq!(old, BTreeSet::new(), "{at}: purged and still there"),
        }
        self.check_batches(store, seen, at);
        let totals = store.reader().totals().expect("counts");
        assert_eq!((totals.parked, totals.rejected), (0, 0), "{at}: parked or rejected for a fault of the disk");
        assert_eq!(
            store.heads().expect("heads"),
            store.recounted_heads().expect("heads"),
            "{at}: heads are not the log's"
        );
    }

    /// Checks that a batch and its checkpoint are present together, or not at all (I4).
    fn check_batches(&self, store: &Store, seen: &Seen, at: &str) {
        let Some(first) = self.base.batches.first() else { return };
        let checkpoint =
            store.reader().checkpoint(&first.peer).expect("reads").map_or(0, |checkpoint| checkpoint.sequence);
        let taken = self.base.batches.iter().filter(|batch| batch.checkpoint <= checkpoint).count();
        assert!(
            taken == seen.batches || (taken == seen.batches + 1 && seen.batch_unknown),
            "{at}: {taken} batches, not {}",
            seen.batches
        );
        for (n, batch) in self.base.batches.iter().enumerate() {
            let held = batch
                .events
                .iter()
                .filter(|event| store.reader().holds(&event.id, &event.body).expect("looks"))
                .count();
            assert_eq!(held, if n < taken { batch.events.len() } else { 0 }, "{at}: half of batch {n}");
        }
    }

    /// Checks that new mail is stored and read, whatever failed before.
    pub(super) fn go_on(&self, store: &mut Store, seen: &mut Seen, at: &str) {
        let content = format!("going on {}", seen.sent.len());
        if let Err(error) = seen.send(store, &content) {
            panic!("{at}: nothing can be written any more: {error}");
        }
    }

    /// Runs [`check`](Self::check) and SQLite's own checks, and compares the projection with a rebuilt one.
    pub(super) fn examine(&self, store: &mut Store, seen: &Seen, at: &str) {
        let conn = rusqlite::Connection::open(self.disk.path(FILE)).expect("opens");
        let sound: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("checks");
        assert_eq!(sound, "ok", "{at}");
        let projection = store.projection().expect("a digest");
        store.rebuild().expect("rebuilds");
        assert_eq!(
            projection,
            store.projection().expect("a digest"),
            "{at}: the projection is not what the log folds to"
        );
        self.check(store, seen, at);
    }
}
