//! Test fixtures: a log in SQLite, a clock, a daemon's peers on loopback.

use std::{
    sync::{
        Arc, Condvar, Mutex, OnceLock,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use thrum_core::{
    Ambient, DaemonKey, Error, ErrorKind, Event, Heads, SetDigest, Timestamp,
    compare::{Listing, LogOf, Numbers, Wanted},
    exchange::{Applied, Batch, Checkpoint, Commit, Holder, LongEvents, Page, Prerequisites, Row},
    limits,
    quota::{Amounts, OverQuota},
};
use thrum_store::{
    OpenOptions, Store, StoreError, Tx,
    ops::{Register, Send},
    query::Message,
};
use thrum_sync::{
    Log, Now, Peers, PeersConfig,
    encrypted::Identity,
    legacy::serving::Askers,
    peers::{Joined, Verdict},
    protocol::{self, Effect, Me, Next, Received},
    transport::{Kind, Transport, local::Local},
};
use tokio::sync::watch;

/// Longer than any step takes; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Completes a received request, without a thread of its own for what the log must answer. Returns the reply and all
/// effects.
pub fn completed(
    received: Received,
    me: &Me,
    log: &dyn Log,
    askers: &Mutex<Askers>,
    now: Now,
) -> (String, Vec<Effect>) {
    let mut effects = received.effects;
    let reply = match received.next {
        Next::Reply(reply) => reply,
        Next::Serve(job) => {
            let (reply, effect) = protocol::serve(job, me, log, askers, now);
            effects.extend(effect);
            reply
        }
    };
    (reply, effects)
}

/// A clock shared by all clones, and randomness from a seed.
#[derive(Clone)]
pub struct World {
    pub nanos: Arc<AtomicI64>,
    seed: u64,
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self { nanos: Arc::new(AtomicI64::new(1_774_717_513_000_000_000)), seed }
    }

    /// Returns another source of randomness with the same clock.
    pub fn fork(&mut self) -> Self {
        Self { nanos: Arc::clone(&self.nanos), seed: self.random_u64() }
    }
}

impl Ambient for World {
    fn now(&mut self) -> Timestamp {
        Timestamp::from_nanos(self.nanos.load(Ordering::Relaxed))
    }
    fn fill(&mut self, buffer: &mut [u8]) {
        for byte in buffer {
            self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = self.seed.to_be_bytes()[0];
        }
    }
}

/// Creates a directory in memory if possible, because these tests do not exercise disks.
pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Implements the log trait with the real store.
pub struct StoreLog {
    /// `None` once the daemon is gone.
    store: Mutex<Option<Store>>,
    /// The daemon's key, if the log belongs to a complete daemon.
    pub key: OnceLock<DaemonKey>,
    commits: watch::Sender<Commit>,
    /// Acknowledgements by peers, in order.
    pub acknowledged: Mutex<Vec<(String, u64)>>,
    /// How much each peer may store.
    pub quota: Mutex<Amounts>,
    /// Number of the next batches that cannot be stored. Each fails once a later event is being checked, or the batch
    /// is the last one.
    pub failing: AtomicUsize,
    /// The highest id of an event that was checked.
    checked: (Mutex<String>, Condvar),
}

impl StoreLog {
    pub fn new(store: Store) -> Arc<Self> {
        let commits = watch::Sender::new(store.commit().clone());
        Arc::new(Self { store: Mutex::new(Some(store)), ..Self::without_store(commits) })
    }

    /// The log of a daemon that is not running.
    pub fn closed() -> Arc<Self> {
        let commits = watch::Sender::new(Commit::default());
        Arc::new(Self::without_store(commits))
    }

    fn without_store(commits: watch::Sender<Commit>) -> Self {
        Self {
            store: Mutex::new(None),
            key: OnceLock::new(),
            commits,
            acknowledged: Mutex::default(),
            quota: Mutex::new(Amounts { bytes: u64::MAX, agents: u64::MAX, origins: u64::MAX, parked: u64::MAX }),
            failing: AtomicUsize::new(0),
            checked: Default::default(),
        }
    }

    /// Closes the database in its current state.
    pub fn close(&self) {
        drop(self.store.lock().unwrap().take());
    }

    pub fn open(directory: &tempfile::TempDir, world: &mut World) -> (Arc<Self>, DaemonKey) {
        let key = DaemonKey::generate(world);
        let store = Store::open(
            &directory.path().join("messages.db"),
            OpenOptions::new(key.clone(), None),
            Box::new(world.fork()),
        )
        .unwrap();
        let log = Self::new(store);
        log.key.set(key.clone()).unwrap();
        (log, key)
    }

    pub fn commits(&self) -> watch::Receiver<Commit> {
        self.commits.subscribe()
    }

    pub fn commit(&self) -> Commit {
        self.commits.borrow().clone()
    }

    pub fn write<T>(&self, job: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.with(|store| store.write(job))
    }

    /// Runs the periodic work of the writer thread.
    pub fn chores(&self) -> Result<usize, StoreError> {
        self.with(Store::fold_due)
    }

    /// Rebuilds the projection from the start of the log.
    pub fn rebuild(&self) -> Result<(), StoreError> {
        self.with(Store::rebuild)
    }

    fn with<T>(&self, job: impl FnOnce(&mut Store) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut store = self.store.lock().unwrap();
        let store = store.as_mut().ok_or(StoreError::Closed)?;
        let result = job(store);
        self.commits.send_replace(store.commit().clone());
        result
    }

    pub fn read<T>(&self, question: impl FnOnce(&Store) -> Result<T, StoreError>) -> Result<T, Error> {
        question(self.store.lock().unwrap().as_ref().ok_or(StoreError::Closed)?).map_err(Error::from)
    }

    pub fn message(&self, id: &str) -> Option<Message> {
        self.read(|store| store.reader().message(id, None)).unwrap()
    }

    /// Registers a local agent.
    pub fn register(&self, name: &str) {
        let agent = Register {
            name: name.into(),
            role: "coder".into(),
            module: name.into(),
            force: true,
            ..Register::default()
        };
        self.write(|tx| tx.register(agent)).unwrap();
    }

    /// Sends a message to everyone. Returns its message id.
    pub fn say(&self, from: &str, content: &str) -> String {
        let message = Send { from: from.into(), content: content.into(), ..Send::default() };
        self.write(|tx| tx.send(message)).unwrap().message_id
    }

    pub fn has_message(&self, id: &str) -> bool {
        self.message(id).is_some()
    }

    pub fn event_ids(&self) -> Vec<String> {
        let page = self.page(0, 1_000_000, 1 << 40).unwrap();
        page.rows.into_iter().map(|row| row.id).collect()
    }
}

impl Log for StoreLog {
    fn id(&self) -> Arc<str> {
        Arc::clone(&self.commits.borrow().log)
    }
    fn latest(&self) -> u64 {
        self.commits.borrow().latest
    }
    fn page(&self, after: u64, max_events: usize, max_bytes: usize) -> Result<Page, Error> {
        self.read(|store| store.reader().page(after, max_events, max_bytes))
    }
    fn page_for(&self, holder: Holder<'_>, after: u64, max_events: usize, max_bytes: usize) -> Result<Page, Error> {
        self.read(|store| store.reader().page_for(holder, after, max_events, max_bytes))
    }
    fn long_events(&self, max: usize, is_too_long: fn(&str) -> bool) -> Result<LongEvents, Error> {
        self.read(|store| store.reader().long_events(max, is_too_long))
    }

    fn prerequisites(&self, rows: &[Row], fits: &dyn Fn(&Row) -> bool) -> Result<Vec<Prerequisites>, Error> {
        self.read(|store| store.reader().prerequisites(rows, fits))
    }
    fn heads(&self) -> Result<Heads, Error> {
        self.read(Store::heads)
    }
    fn counted(&self) -> Result<Heads, Error> {
        self.read(|store| store.reader().counted())
    }
    fn recount(&self) -> Result<bool, Error> {
        self.write(|tx| tx.repair_losses()).map_err(Error::from)
    }
    fn numbers(&self, of: &LogOf, after: u64, most: usize) -> Result<Numbers, Error> {
        self.read(|store| store.reader().numbers(of, after, most))
    }
    fn listing(&self, of: &LogOf, after: &str, upto: &str, most: usize) -> Result<Listing, Error> {
        self.read(|store| store.reader().listing(of, after, upto, most))
    }
    fn stretch(&self, of: &LogOf, after: &str, upto: &str) -> Result<(u64, SetDigest), Error> {
        self.read(|store| store.reader().stretch(of, after, upto))
    }
    fn requested(&self, of: &LogOf, wanted: &Wanted) -> Result<Page, Error> {
        self.read(|store| store.reader().requested(of, wanted, limits::MAX_BATCH_EVENTS, limits::MAX_BATCH_BYTES))
    }
    fn projection(&self) -> Result<SetDigest, Error> {
        self.read(Store::projection)
    }
    fn purge_goes_on(&self) -> Result<bool, Error> {
        self.read(|store| store.reader().purge_goes_on())
    }
    fn purge_waits(&self) -> Result<bool, Error> {
        self.read(|store| store.reader().purge_waits())
    }
    fn checkpoint(&self, peer: &str) -> Result<Option<Checkpoint>, Error> {
        self.read(|store| store.reader().checkpoint(peer))
    }
    fn holds_references(&self, references: &[(&str, &str)]) -> Result<bool, Error> {
        self.read(|store| store.reader().holds_references(references))
    }
    fn holds(&self, events: &[&Event]) -> Result<Vec<bool>, Error> {
        let last = events.iter().map(|event| &event.id).max().cloned().unwrap_or_default();
        let (checked, changed) = &self.checked;
        let mut checked = checked.lock().unwrap();
        *checked = std::mem::take(&mut *checked).max(last);
        changed.notify_all();
        drop(checked);
        self.read(|store| events.iter().map(|event| store.reader().holds(&event.id, &event.body)).collect())
    }
    fn over_quota(&self, peers: &[&str]) -> Result<Option<OverQuota>, Error> {
        let kept = self.read(|store| store.reader().usage(peers))?;
        Ok(kept.beyond(&self.quota.lock().unwrap()))
    }
    fn apply(&self, batch: Batch) -> Result<Applied, Error> {
        let is_failing = |left: usize| left.checked_sub(1);
        if self.failing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_failing).is_ok() {
            let last = batch.events.iter().map(|event| event.id.clone()).max().unwrap_or_default();
            let (checked, changed) = &self.checked;
            let is_waiting = |checked: &mut String| batch.events.len() == limits::MAX_BATCH_EVENTS && *checked <= last;
            drop(changed.wait_timeout_while(checked.lock().unwrap(), PATIENCE / 4, is_waiting).unwrap());
            return Err(Error::new(ErrorKind::Failed, "the disk is full"));
        }
        self.with(|store| store.apply(batch)).map_err(Error::from)
    }
    fn acknowledged(&self, peer: &str, upto: u64, _: Timestamp) {
        self.acknowledged.lock().unwrap().push((peer.to_owned(), upto));
    }
    fn forget(&self, peer: &str) -> Result<(), Error> {
        self.write(|tx| tx.forget(peer)).map_err(Error::from)
    }
    fn backlog(&self, peer: &str, after: u64) -> Result<u64, Error> {
        self.read(|store| store.reader().backlog(peer, after))
    }
    fn troubles(&self, peer: &str) -> Result<thrum_core::exchange::Troubles, Error> {
        self.read(|store| store.reader().troubles(peer))
    }
}

/// The operating system's clock and randomness.
pub struct System;

impl Ambient for System {
    fn now(&mut self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Timestamp::from_nanos(i64::try_from(since.as_nanos()).unwrap())
    }
    fn fill(&mut self, buffer: &mut [u8]) {
        getrandom::fill(buffer).unwrap();
    }
}

/// A daemon with this key in a handshake that the test plays.
pub fn identity(key: &DaemonKey) -> Identity {
    Identity {
        daemon_id: key.id().to_string(),
        instance: "0e".into(),
        secret: Arc::new(key.exchange_secret()),
        ambients: Arc::new(|| Box::new(System)),
    }
}

/// Returns everything that any test in this process has logged, at all levels.
pub fn logs() -> String {
    String::from_utf8_lossy(&LOGS.lock().unwrap()).into_owned()
}

static LOGS: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fn keep_logs() {
    struct Keep;

    impl std::io::Write for Keep {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            LOGS.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).with_writer(|| Keep).init()
    });
}

/// A daemon's peers with a log, on their own port.
pub struct Daemon {
    pub name: String,
    pub id: String,
    pub log: Arc<StoreLog>,
    pub peers: Peers,
    pub directory: tempfile::TempDir,
}

impl Daemon {
    pub async fn start(name: &str) -> Self {
        Self::start_over(name, vec![Arc::new(Local::on_ports(0..=0))]).await
    }

    /// Starts a daemon with these transports.
    pub async fn start_over(name: &str, transports: Vec<Arc<dyn Transport>>) -> Self {
        keep_logs();
        let directory = directory();
        let mut world = World::new(System.random_u64());
        world.nanos.store(System.now().nanos(), Ordering::Relaxed);
        let (log, key) = StoreLog::open(&directory, &mut world);
        let id = key.id().to_string();
        let peers =
            start_peers_over(transports, limits::SYNC_INTERVAL, false, name, &id, &log, &directory).await.unwrap();
        Self { name: name.into(), id, log, peers, directory }
    }

    /// Restarts the daemon's peers. The log stays open.
    pub async fn restart(&mut self) {
        self.peers.shutdown().await;
        self.peers = start_peers(&self.name, &self.id, &self.log, &self.directory).await.unwrap();
    }

    /// Restarts with this sync interval.
    pub async fn restart_with_sync_interval(&mut self, sync_interval: Duration) {
        self.peers.shutdown().await;
        let transports: Vec<Arc<dyn Transport>> = vec![Arc::new(Local::on_ports(0..=0))];
        self.peers =
            start_peers_over(transports, sync_interval, false, &self.name, &self.id, &self.log, &self.directory)
                .await
                .unwrap();
    }

    /// Restarts with these transports.
    pub async fn restart_over(&mut self, transports: Vec<Arc<dyn Transport>>) {
        self.peers.shutdown().await;
        self.peers = start_peers_over(
            transports,
            limits::SYNC_INTERVAL,
            false,
            &self.name,
            &self.id,
            &self.log,
            &self.directory,
        )
        .await
        .unwrap();
    }

    /// Displays a code with which `other` joins. Returns the results of both sides.
    pub async fn pair(&self, other: &Self) -> (Joined, Joined) {
        self.pair_over(Kind::Local, other).await
    }

    /// Pairs over this kind of transport.
    pub async fn pair_over(&self, kind: Kind, other: &Self) -> (Joined, Joined) {
        let pairing = self.peers.start_pairing(kind, PATIENCE).await.unwrap();
        let (here, there) =
            tokio::join!(self.peers.wait_pairing(), other.peers.join(&pairing.address, pairing.code.reveal()));
        (here.unwrap(), there.unwrap())
    }

    /// Adds a Go Thrum as a peer on this kind of transport while the daemon is stopped. That peer knows its port and
    /// learns no other.
    pub fn knows_a_go_thrum(&self, kind: Kind) {
        let path = self.directory.path().join("peers.json");
        let mut content: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let go = serde_json::json!({
            "name": "go", "address": "127.0.0.1:1", "daemon_id": "d_47fkcmt93fcz", "token": "ab".repeat(32), "transport": kind.as_str(),
        });
        content["peers"].as_array_mut().unwrap().push(go);
        std::fs::write(path, content.to_string()).unwrap();
    }

    /// Waits until a message is here.
    pub async fn hears(&self, id: &str) {
        let mut commits = self.log.commits();
        let heard = async {
            // Not `wait_for`: it holds the channel during its check, while the writer holds the store during its
            // notification.
            while !self.log.has_message(id) {
                commits.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, heard).await.unwrap_or_else(|_| panic!("{} never heard {id}", self.name));
    }

    pub async fn agrees(&self) {
        let verified = self.peers.verify(PATIENCE).await.unwrap();
        assert_eq!(verified.status, Verdict::Equal, "{}: {:?}", self.name, verified.peers);
    }
}

pub async fn start_peers(
    name: &str,
    id: &str,
    log: &Arc<StoreLog>,
    directory: &tempfile::TempDir,
) -> Result<Peers, Error> {
    start_peers_over(vec![Arc::new(Local::on_ports(0..=0))], limits::SYNC_INTERVAL, false, name, id, log, directory)
        .await
}

pub async fn start_peers_over(
    transports: Vec<Arc<dyn Transport>>,
    sync_interval: Duration,
    local_only: bool,
    name: &str,
    id: &str,
    log: &Arc<StoreLog>,
    directory: &tempfile::TempDir,
) -> Result<Peers, Error> {
    let config = PeersConfig {
        var_dir: directory.path().to_owned(),
        daemon_id: id.into(),
        name: name.into(),
        version: "0.1.0".into(),
        sync_interval,
        kept_here: local_only
            .then(|| Error::new(ErrorKind::Refused, "daemon.local_only keeps this daemon from other machines")),
        transports,
        ambients: Arc::new(|| Box::new(System)),
        prover: {
            let log = Arc::clone(log);
            Arc::new(move |challenge, to| log.key.get().unwrap().prove(challenge, to))
        },
        exchange_secret: log.key.get().unwrap().exchange_secret(),
    };
    Peers::start(config, Arc::<StoreLog>::clone(log), log.commits()).await
}
