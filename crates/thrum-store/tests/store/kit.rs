//! A store in a temporary directory, with a clock and randomness controlled by the test.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use thrum_core::{
    Ambient, DaemonKey, Draft, Event, Payload, Timestamp,
    event::{Candidate, admit},
    exchange::{Applied, Batch},
    payload::EventType,
};
use thrum_store::{
    OpenOptions, Store, StoreFingerprint,
    ops::{Register, Send, Sent},
    query::{Filter, Mailbox},
};

/// 2026-03-28T17:05:13Z
pub const START: i64 = 1_774_717_513_000_000_000;

/// A clock that the test advances, and random numbers that repeat in every run; clones share both.
#[derive(Clone)]
pub struct World {
    now: Arc<AtomicI64>,
    seed: Arc<AtomicU64>,
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self { now: Arc::new(AtomicI64::new(START)), seed: Arc::new(AtomicU64::new(seed)) }
    }

    pub fn pass(&self, time: Duration) {
        self.now.fetch_add(i64::try_from(time.as_nanos()).expect("a short time"), Ordering::Relaxed);
    }

    pub fn set(&self, nanos: i64) {
        self.now.store(nanos, Ordering::Relaxed);
    }
}

impl Ambient for World {
    fn now(&mut self) -> Timestamp {
        Timestamp::from_nanos(self.now.load(Ordering::Relaxed))
    }

    fn fill(&mut self, buffer: &mut [u8]) {
        for byte in buffer {
            // A linear congruential generator, Knuth's MMIX constants.
            let seed = self
                .seed
                .load(Ordering::Relaxed)
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            self.seed.store(seed, Ordering::Relaxed);
            *byte = seed.to_be_bytes()[0];
        }
    }
}

pub struct Node {
    pub store: Store,
    pub world: World,
    pub key: DaemonKey,
    pub dir: TempDir,
}

impl Node {
    pub fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        let key = DaemonKey::generate(&mut world);
        Self::of(key, world)
    }

    /// Creates the daemon with this key.
    pub fn of(key: DaemonKey, world: World) -> Self {
        // In memory if possible: other tests cover the behaviour of disks.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
        let store =
            Store::open(&dir.path().join("messages.db"), OpenOptions::new(key.clone(), None), Box::new(world.clone()))
                .expect("opens");
        Self { store, world, key, dir }
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("messages.db")
    }

    pub fn home(&self) -> String {
        self.key.id().to_string()
    }

    pub fn options(&self, fingerprint: Option<StoreFingerprint>) -> OpenOptions {
        OpenOptions::new(self.key.clone(), fingerprint)
    }

    /// Closes and reopens the store, with the given fingerprint beside the database.
    pub fn reopen(self, fingerprint: Option<StoreFingerprint>) -> Self {
        let Self { store, world, key, dir } = self;
        drop(store);
        let store = Store::open(
            &dir.path().join("messages.db"),
            OpenOptions::new(key.clone(), fingerprint),
            Box::new(world.clone()),
        )
        .expect("opens");
        Self { store, world, key, dir }
    }

    pub fn register(&mut self, name: &str, role: &str) {
        let register =
            Register { name: name.into(), role: role.into(), module: format!("of-{name}"), ..Register::default() };
        self.store.write(|tx| tx.register(register)).expect("registers");
    }

    pub fn send(&mut self, from: &str, to: &[&str], content: &str) -> Sent {
        let mentions = to.iter().map(|name| (*name).to_owned()).collect();
        let send = Send { from: from.into(), mentions, content: content.into(), ..Send::default() };
        self.store.write(|tx| tx.send(send)).expect("sends")
    }

    pub fn mailbox(&self, agent: &str) -> Mailbox {
        Mailbox { agent_id: agent.into(), home: self.home() }
    }

    /// The mailbox of an agent of this daemon: content and whether it is read, oldest first.
    pub fn inbox(&self, agent: &str) -> Vec<(String, bool)> {
        let filter = Filter {
            mailbox: Some(self.mailbox(agent)),
            order: thrum_store::query::Order::OldestFirst,
            limit: 1000,
            ..Filter::default()
        };
        let listing = self.store.reader().list(&filter).expect("lists");
        assert_eq!(listing.total, listing.messages.len() as u64, "the total is exact");
        listing.messages.into_iter().map(|message| (message.body.content, message.is_read)).collect()
    }

    /// The ids of all events in the log, sorted.
    pub fn ids(&self) -> Vec<String> {
        let rows = self.store.reader().page(0, 100_000, usize::MAX).expect("a page").rows;
        let mut ids: Vec<String> = rows.into_iter().map(|row| row.id).collect();
        ids.sort_unstable();
        ids
    }

    /// Applies everything that the other daemon has above a sequence, as a pull would; returns the end of its log.
    pub fn pull(&mut self, other: &Self, after: u64) -> (Applied, u64) {
        let page = other.store.reader().page(after, 100_000, usize::MAX).expect("a page");
        let events = page.rows.iter().map(|row| event(&serde_json::from_str(&row.body).expect("json"))).collect();
        let end = page.rows.last().map_or(after, |row| row.sequence);
        let log = other.store.fingerprint().log_id;
        (
            self.apply_batch(&Batch {
                peer: other.home(),
                log,
                checkpoint: end,
                checkpoint_event: String::new(),
                events,
                rejected: vec![],
            }),
            end,
        )
    }

    pub fn apply(&mut self, events: &[Event]) -> Applied {
        self.apply_batch(&served(events))
    }

    /// Applies a batch without the work that it defers to later transactions.
    pub fn apply_once(&mut self, events: &[Event]) -> Applied {
        self.store.transact(|tx| tx.apply(&served(events))).expect("applies")
    }

    pub fn apply_batch(&mut self, batch: &Batch) -> Applied {
        self.store.write(|tx| tx.apply(batch)).expect("applies")
    }

    /// Checks that all redundant and derived data is consistent.
    pub fn check(&mut self) {
        assert_eq!(self.miscounted(), 0, "kept counts are the mailboxes'");
        let digests = |store: &Store| (store.projection().expect("a digest"), store.mailboxes().expect("a digest"));
        let (heads, folded) = (self.store.heads().expect("heads"), digests(&self.store));
        assert_eq!(heads, self.store.recounted_heads().expect("heads"), "kept heads are the log's");
        assert_eq!(self.out_of_order(), 0, "what is about a message stands behind it");
        self.store.rebuild().expect("rebuilds");
        assert_eq!(folded, digests(&self.store), "a rebuilt projection is the same (I1)");
        assert_eq!(self.miscounted(), 0, "kept counts are the mailboxes' after a rebuild, too");
    }

    /// Events that wait for their message, but precede every creation of it in the log.
    fn out_of_order(&self) -> u64 {
        let connection = rusqlite::Connection::open(self.path()).expect("opens");
        let sql = "SELECT count(*) FROM messages m JOIN events e ON e.target = m.message_id
                   WHERE e.type = ?1 AND e.sequence <
                         (SELECT min(c.sequence) FROM events c WHERE c.target = m.message_id AND c.type = 'message.create')";
        let mut statement = connection.prepare(sql).expect("prepares");
        let waiting = Payload::TYPES.iter().filter(|known| known.waits_for_message);
        waiting
            .map(|EventType { kind, .. }| statement.query_row([kind], |row| row.get::<_, u64>(0)).expect("counts"))
            .sum()
    }

    /// Mailboxes, audiences and totals whose stored counts differ from their rows, and mail of agents that are gone.
    fn miscounted(&self) -> u64 {
        let sql = "SELECT count(*) FROM (SELECT owner FROM mailbox UNION SELECT owner FROM mailbox_counts) o
                   LEFT JOIN mailbox_counts c USING (owner)
                   WHERE (SELECT count(*) FROM mailbox b WHERE b.owner = o.owner) IS NOT c.total
                      OR (SELECT count(*) FROM mailbox b WHERE b.owner = o.owner AND b.unread) IS NOT c.unread";
        let connection = rusqlite::Connection::open(self.path()).expect("opens");
        let of = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, u64>(0)).expect("counts");
        let audiences = "SELECT count(*) FROM audience_counts c
                         WHERE (SELECT count(*) FROM audience a WHERE a.kind = c.kind AND a.value = c.value) <> c.total";
        let received = "SELECT count(*) FROM (
                            SELECT peer, origin, events, bytes FROM received
                            EXCEPT SELECT received_from, origin_daemon, count(*), sum(octet_length(body)) FROM events
                                   WHERE received_from <> '' GROUP BY 1, 2)
                        UNION ALL SELECT count(*) FROM (
                            SELECT received_from, origin_daemon FROM events WHERE received_from <> ''
                            EXCEPT SELECT peer, origin FROM received) ORDER BY 1 DESC LIMIT 1";
        of(sql)
            + of("SELECT messages <> (SELECT count(*) FROM messages) FROM state")
            + of(audiences)
            + of(received)
            + of("SELECT count(*) FROM mailbox WHERE owner NOT IN (SELECT owner FROM agents)")
    }
}

pub fn served(events: &[Event]) -> Batch {
    Batch {
        peer: "d_peer".into(),
        log: String::new(),
        checkpoint: 1,
        checkpoint_event: String::new(),
        events: events.to_vec(),
        rejected: vec![],
    }
}

/// An event as served by a peer, admitted.
pub fn event(fields: &Value) -> Event {
    let candidate = Candidate::new(fields.as_object().expect("an object")).expect("well-formed");
    let (mut events, rejected) = admit(vec![candidate]);
    assert_eq!(rejected, []);
    events.remove(0)
}

/// The key of another daemon; the same number gives the same key.
pub fn key(number: u64) -> DaemonKey {
    DaemonKey::generate(&mut World::new(1000 + number))
}

/// An event of a daemon that signs, `seconds` after the start.
pub fn signed(id: &str, number: u64, seq: u64, seconds: i64, payload: &Payload) -> Event {
    let at = Timestamp::from_nanos(START + seconds * 1_000_000_000);
    Draft { id: id.into(), at, payload }.seal(&key(number), "log", seq).expect("seals")
}

/// An event of another daemon: the envelope around a payload, `seconds` after the start.
pub fn foreign(id: &str, origin: &str, seconds: i64, kind: &str, payload: Value) -> Event {
    let mut fields = json!({
        "event_id": id, "type": kind, "origin_daemon": origin, "v": 1,
        "timestamp": Timestamp::from_nanos(START + seconds * 1_000_000_000).to_string(),
    });
    let object = fields.as_object_mut().expect("an object");
    object.extend(payload.as_object().expect("an object").clone());
    event(&fields)
}
