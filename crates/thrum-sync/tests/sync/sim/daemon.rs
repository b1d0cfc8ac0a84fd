//! One daemon: its data on disk, and its state in memory while it is up.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use faulty_disk::{Disk, Failure, Image};
use thrum_core::{Ambient, DaemonKey};
use thrum_store::{OpenOptions, Store, StoreError, StoreFingerprint};
use thrum_sync::{
    Log,
    legacy::serving::Askers,
    pairing::Pairing,
    protocol::wire::{Call, Served},
    protocol::{AuthState, Me},
    registry::Registry,
    replicator::{Replicator, ReplicatorStatus},
};

use super::{git::Git, watcher::Watcher};
use crate::kit::{StoreLog, World, directory};

const DATABASE: &str = "messages.db";

/// A daemon, running or not.
pub struct Daemon {
    pub id: String,
    pub log: Arc<StoreLog>,
    /// Agents registered here, if the registration was acknowledged.
    pub agents: Vec<String>,
    /// Reads the growing log, and checks each message that changes.
    pub watcher: Watcher,
    pub up: bool,
    /// Whether it accepts connections and lines but never answers.
    pub hangs: bool,
    /// Whether it does not exist: not yet, or no longer.
    pub gone: bool,
    /// When its database was last replaced.
    pub(super) replaced: Option<Duration>,
    pub(super) key: DaemonKey,
    /// Contains `peers.json` and `pairing.json`, which are written atomically and durably.
    pub(super) directory: tempfile::TempDir,
    /// Contains the database.
    pub(super) disk: Disk,
    /// Number of disk failures seen.
    failed: u64,
    /// The store fingerprint in `daemon.json`.
    pub(super) left: Option<StoreFingerprint>,
    /// Whether the repository was moved since `daemon.json` was written.
    pub(super) moved: bool,
    /// When a log that began while the daemon was running will be recorded in `daemon.json`.
    pub(super) follows: Option<Duration>,
    pub(super) world: World,
    /// Deviation of its clock, in nanoseconds.
    pub(super) skew: i64,
    pub(super) auth: AuthState,
    pub(super) machines: BTreeMap<String, Machine>,
    /// In memory, while it is up.
    pub(super) askers: Mutex<Askers>,
    /// Its exchange through git, if that is on.
    pub(super) git: Option<Git>,
    /// Connections opened by others, and by whom.
    pub(super) visitors: BTreeMap<u64, usize>,
}

/// The database part of a copy of a whole `.thrum`.
#[derive(Clone, Default)]
pub struct Copied {
    pub(super) image: Image,
    /// The events in it.
    pub(super) events: BTreeSet<String>,
    pub(super) left: Option<StoreFingerprint>,
}

/// A replicator and its connection.
pub(super) struct Machine {
    pub(super) replicator: Replicator,
    pub(super) conn: Option<u64>,
    pub(super) asked: Option<(u64, Call)>,
    /// When the connection is given up if no byte of the reply has arrived.
    pub(super) silent: Duration,
    /// The batches to store, oldest first.
    pub(super) storing: VecDeque<Storing>,
    pub(super) is_storing: bool,
}

/// A batch to be stored.
pub(super) struct Storing {
    pub(super) log: String,
    pub(super) checkpoint: u64,
    pub(super) checkpoint_event: String,
    pub(super) events: Vec<Served>,
    /// When it will be durable.
    pub(super) due: Duration,
    /// Until when events that it refers to are awaited.
    pub(super) until: Duration,
}

impl Machine {
    pub(super) fn new(replicator: Replicator) -> Self {
        Self { replicator, conn: None, asked: None, silent: Duration::MAX, storing: VecDeque::new(), is_storing: false }
    }

    fn wait_until(&self) -> Duration {
        let storing = self.storing.front().map(|batch| batch.due);
        let silent = self.asked.as_ref().map(|_| self.silent);
        storing.into_iter().chain(silent).chain([self.replicator.wait_until()]).min().unwrap_or(Duration::MAX)
    }
}

impl Daemon {
    pub(super) fn new(n: usize, world: &mut World) -> Self {
        let directory = directory();
        // Each daemon has its own clock.
        let mut world = World::new(world.random_u64());
        let key = DaemonKey::generate(&mut world);
        let disk = Disk::new(world.random_u64());
        let id = key.id().to_string();
        let me =
            Me { daemon_id: id.clone(), name: format!("daemon{n}"), version: "0.1.0".into(), instance: "1".into() };
        let auth = auth(&directory, me);
        let mut daemon = Self {
            id,
            log: StoreLog::closed(),
            agents: vec![format!("agent{n}")],
            watcher: Watcher::default(),
            up: true,
            hangs: false,
            gone: false,
            replaced: None,
            key,
            directory,
            disk,
            failed: 0,
            left: None,
            moved: false,
            follows: None,
            world,
            skew: 0,
            auth,
            machines: BTreeMap::new(),
            askers: Mutex::default(),
            git: None,
            visitors: BTreeMap::new(),
        };
        let store = daemon.open().unwrap();
        daemon.written_down(store);
        daemon.log.register(&format!("agent{n}"));
        daemon
    }

    /// Opens the database, which counts the opening. `daemon.json` does not reflect it yet.
    pub(super) fn open(&mut self) -> Result<Store, StoreError> {
        let mut options = OpenOptions::new(self.key.clone(), self.left.clone());
        options.new_log = self.moved;
        Store::open(&self.disk.path(DATABASE), options, Box::new(self.world.fork()))
    }

    /// Updates `daemon.json` and starts the daemon.
    pub(super) fn written_down(&mut self, store: Store) {
        (self.left, self.moved) = (Some(store.fingerprint()), false);
        self.log = StoreLog::new(store);
        self.auth = auth(&self.directory, self.auth.me.clone());
        self.up = true;
    }

    /// Stops regularly: records the end of the log, and closes the database.
    pub(super) fn stop(&mut self) {
        self.note_end();
        self.log.close();
        self.end();
    }

    /// Records the end of the log beside the database.
    pub(super) fn note_end(&mut self) {
        let (log_id, sequence) = (self.log.id().to_string(), self.log.latest());
        self.left = self.left.take().map(|left| StoreFingerprint { log_id, sequence, ..left });
        self.follows = None;
    }

    /// Kills the process, and loses a part of its unsynced writes.
    pub(super) fn crash(&mut self) {
        self.disk.crash();
        self.failed = self.disk.failed();
        self.log.close();
        self.end();
    }

    fn end(&mut self) {
        self.up = false;
        self.machines.clear();
        self.askers = Mutex::default();
        self.visitors.clear();
        self.follows = None;
        if let Some(git) = &mut self.git {
            git.end();
        }
    }

    /// Returns when actions are due.
    pub(super) fn timers(&self) -> impl Iterator<Item = Duration> {
        let git = self.git.as_ref().filter(|_| self.up && !self.hangs).map(Git::due);
        self.machines.values().map(Machine::wait_until).chain(self.follows).chain(git)
    }

    /// Returns `true` if an exchange through git is due.
    pub(super) fn is_exchange_due(&self, tick: Duration) -> bool {
        self.up && !self.hangs && self.git.as_ref().is_some_and(|git| git.due() <= tick)
    }

    /// Returns the peers for which an action is due.
    pub(super) fn due(&self, tick: Duration) -> Vec<String> {
        let due = self.machines.iter().filter(|(_, machine)| machine.wait_until() <= tick);
        due.map(|(peer, _)| peer.clone()).collect()
    }

    /// Records the current log id.
    pub(super) fn follow(&mut self, tick: Duration) {
        if self.follows.is_some_and(|due| due <= tick) {
            self.note_end();
        }
    }

    /// Makes the disk fail after this many writes and syncs.
    pub(super) fn plan_crash(&self, steps: u64, torn: bool) {
        let failure = if torn { Failure::TornWrite } else { Failure::Crash };
        self.disk.fail_at(self.disk.steps() + 1 + steps, failure);
    }

    /// Returns `true` if the disk has failed, and the daemon with it.
    pub(super) fn has_died(&self) -> bool {
        self.disk.failed() > self.failed
    }

    /// Copies the whole `.thrum` while no one writes.
    pub(super) fn copy(&self) -> Copied {
        let events = self.watcher.events.keys().cloned().collect();
        Copied { image: self.disk.image(), events, left: self.left.clone() }
    }

    /// Replaces the database while the daemon is down.
    pub(super) fn put(&mut self, copied: &Copied, tick: Duration) {
        self.replaced = Some(tick);
        self.disk.restore(&copied.image);
        self.watcher = Watcher::default();
    }

    /// Becomes a copy of another daemon's repository, with its own identity and without peers.
    pub(super) fn become_copy(&mut self, copied: &Copied, tick: Duration) {
        self.put(copied, tick);
        (self.left, self.moved) = (None, true);
    }

    /// Becomes the twin of another daemon: the same key, log and peers on another machine.
    pub(super) fn become_twin(&mut self, of: &Self, tick: Duration) {
        self.put(&of.copy(), tick);
        (self.key, self.id, self.left) = (of.key.clone(), of.id.clone(), of.left.clone());
        self.auth.me.daemon_id.clone_from(&of.id);
        for file in ["peers.json", "pairing.json"] {
            if let Ok(content) = std::fs::read(of.directory.path().join(file)) {
                std::fs::write(self.directory.path().join(file), content).unwrap();
            }
        }
    }

    pub fn name(&self) -> &str {
        &self.auth.me.name
    }

    /// Returns the status of each replicator, by peer.
    pub fn statuses(&self) -> impl Iterator<Item = (&str, &ReplicatorStatus)> {
        self.machines.iter().map(|(peer, machine)| (peer.as_str(), machine.replicator.status()))
    }

    /// Returns all its connections, and their other ends.
    pub(super) fn connections(&self, place: impl Fn(&str) -> usize) -> BTreeSet<(u64, usize)> {
        let opened = self.machines.iter().filter_map(|(peer, machine)| machine.conn.map(|conn| (conn, place(peer))));
        opened.chain(self.visitors.iter().map(|(conn, from)| (*conn, *from))).collect()
    }
}

fn auth(directory: &tempfile::TempDir, me: Me) -> AuthState {
    let registry = Registry::open(directory.path().join("peers.json"), &me.daemon_id).unwrap();
    let pairing = Pairing::open(directory.path().join("pairing.json")).unwrap();
    AuthState { me, registry, pairing }
}
