//! One daemon: what it has on its disks, and what it has in memory as long as it is up.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use faulty_disk::{Disk, Failure, Image};
use thrum_core::{Ambient, DaemonKey, exchange::Batch};
use thrum_store::{Left, OpenOptions, Store, StoreError};
use thrum_sync::{
    Log,
    legacy::serving::Askers,
    pairing::Pairing,
    registry::Registry,
    replicator::{Replicator, Status},
    server::{Desk, Me},
    wire::Call,
};

use super::watcher::Watcher;
use crate::kit::{StoreLog, World, directory};

const DATABASE: &str = "messages.db";

/// One daemon, running or not.
pub struct Daemon {
    pub id: String,
    pub log: Arc<StoreLog>,
    /// The agents that were registered here, as far as that was acknowledged.
    pub agents: Vec<String>,
    /// Who reads its log as it grows, and looks at each message that something happens to.
    pub watcher: Watcher,
    pub up: bool,
    /// Whether it takes connections and lines and never answers.
    pub hangs: bool,
    /// Whether it is not there: not yet, or no more.
    pub gone: bool,
    /// When its database was last replaced.
    pub(super) replaced: Option<Duration>,
    pub(super) key: DaemonKey,
    /// With `peers.json` and `pairing.json`, which are written whole and durable.
    pub(super) directory: tempfile::TempDir,
    /// With the database.
    pub(super) disk: Disk,
    /// Failures of the disk that were seen.
    failed: u64,
    /// What `daemon.json` says of the database.
    pub(super) left: Option<Left>,
    /// Whether the place is another one than `daemon.json` says.
    pub(super) moved: bool,
    /// When the log that began while the daemon ran is written down there.
    pub(super) follows: Option<Duration>,
    pub(super) world: World,
    /// By how many nanoseconds its clock is off.
    pub(super) skew: i64,
    pub(super) desk: Desk,
    pub(super) machines: BTreeMap<String, Machine>,
    /// In memory, as long as it is up.
    pub(super) askers: Mutex<Askers>,
    /// Connections that others opened, and who.
    pub(super) visitors: BTreeMap<u64, usize>,
}

/// What a copy of a whole `.thrum` holds of the database.
#[derive(Clone, Default)]
pub struct Copied {
    pub(super) image: Image,
    /// The events in it.
    pub(super) events: BTreeSet<String>,
    pub(super) left: Option<Left>,
}

/// A replicator and its connection.
pub(super) struct Machine {
    pub(super) replicator: Replicator,
    pub(super) conn: Option<u64>,
    pub(super) asked: Option<(u64, Call)>,
    /// When the connection is given up if not a byte of the answer has come.
    pub(super) silent: Duration,
    /// A batch on its way to the disk, and when it is there.
    pub(super) storing: Option<(Duration, Batch)>,
    pub(super) is_storing: bool,
}

impl Machine {
    pub(super) fn new(replicator: Replicator) -> Self {
        Self { replicator, conn: None, asked: None, silent: Duration::MAX, storing: None, is_storing: false }
    }

    fn wait_until(&self) -> Duration {
        let storing = self.storing.as_ref().map(|(due, _)| *due);
        let silent = self.asked.as_ref().map(|_| self.silent);
        storing.into_iter().chain(silent).chain([self.replicator.wait_until()]).min().unwrap_or(Duration::MAX)
    }
}

impl Daemon {
    pub(super) fn new(n: usize, world: &mut World) -> Self {
        let directory = directory();
        // Each has a clock of its own.
        let mut world = World::new(world.random_u64());
        let key = DaemonKey::generate(&mut world);
        let disk = Disk::new(world.random_u64());
        let id = key.id().to_string();
        let me = Me { daemon_id: id.clone(), name: format!("daemon{n}"), version: "0.1.0".into() };
        let desk = desk(&directory, me);
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
            desk,
            machines: BTreeMap::new(),
            askers: Mutex::default(),
            visitors: BTreeMap::new(),
        };
        let store = daemon.open().unwrap();
        daemon.written_down(store);
        daemon.log.register(&format!("agent{n}"));
        daemon
    }

    /// Opens the database, which counts that; `daemon.json` does not know yet.
    pub(super) fn open(&mut self) -> Result<Store, StoreError> {
        let mut options = OpenOptions::new(self.key.clone(), self.left.clone());
        options.new_log = self.moved;
        Store::open(&self.disk.path(DATABASE), options, Box::new(self.world.fork()))
    }

    /// Now it does, and the daemon runs.
    pub(super) fn written_down(&mut self, store: Store) {
        (self.left, self.moved) = (Some(store.left()), false);
        self.log = StoreLog::new(store);
        self.desk = desk(&self.directory, self.desk.me.clone());
        self.up = true;
    }

    /// Ends as asked: notes how far its log went, and closes the database.
    pub(super) fn stop(&mut self) {
        self.note_end();
        self.log.close();
        self.end();
    }

    /// Writes down beside the database how far its log went.
    pub(super) fn note_end(&mut self) {
        let (log_id, sequence) = (self.log.id().to_string(), self.log.latest());
        self.left = self.left.take().map(|left| Left { log_id, sequence, ..left });
        self.follows = None;
    }

    /// The process is gone, and of what it had not synced a part.
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
    }

    /// When something is due.
    pub(super) fn timers(&self) -> impl Iterator<Item = Duration> {
        self.machines.values().map(Machine::wait_until).chain(self.follows)
    }

    /// The peers for which it is.
    pub(super) fn due(&self, tick: Duration) -> Vec<String> {
        let due = self.machines.iter().filter(|(_, machine)| machine.wait_until() <= tick);
        due.map(|(peer, _)| peer.clone()).collect()
    }

    /// Writes down which log it is by now.
    pub(super) fn follow(&mut self, tick: Duration) {
        if self.follows.is_some_and(|due| due <= tick) {
            self.note_end();
        }
    }

    /// From now on the disk dies after so many of its writes and syncs.
    pub(super) fn plan_crash(&self, steps: u64, torn: bool) {
        let failure = if torn { Failure::TornWrite } else { Failure::Crash };
        self.disk.fail_at(self.disk.steps() + 1 + steps, failure);
    }

    /// Whether the disk has died, and with it the daemon.
    pub(super) fn has_died(&self) -> bool {
        self.disk.failed() > self.failed
    }

    /// A copy of the whole `.thrum`, taken while nobody writes.
    pub(super) fn copy(&self) -> Copied {
        let events = self.watcher.events.keys().cloned().collect();
        Copied { image: self.disk.image(), events, left: self.left.clone() }
    }

    /// Puts another database in the place of its own, while it is down.
    pub(super) fn put(&mut self, copied: &Copied, tick: Duration) {
        self.replaced = Some(tick);
        self.disk.restore(&copied.image);
        self.watcher = Watcher::default();
    }

    /// Becomes a copy of another one's repository, with an identity of its own and no peers.
    pub(super) fn become_copy(&mut self, copied: &Copied, tick: Duration) {
        self.put(copied, tick);
        (self.left, self.moved) = (None, true);
    }

    /// Becomes another one's twin: the same key, the same log, the same peers, another machine.
    pub(super) fn become_twin(&mut self, of: &Self, tick: Duration) {
        self.put(&of.copy(), tick);
        (self.key, self.id, self.left) = (of.key.clone(), of.id.clone(), of.left.clone());
        self.desk.me.daemon_id.clone_from(&of.id);
        for file in ["peers.json", "pairing.json"] {
            if let Ok(content) = std::fs::read(of.directory.path().join(file)) {
                std::fs::write(self.directory.path().join(file), content).unwrap();
            }
        }
    }

    pub fn name(&self) -> &str {
        &self.desk.me.name
    }

    /// The replicators, by peer.
    pub fn statuses(&self) -> impl Iterator<Item = (&str, &Status)> {
        self.machines.iter().map(|(peer, machine)| (peer.as_str(), machine.replicator.status()))
    }

    /// All connections it has, and to whom.
    pub(super) fn connections(&self, place: impl Fn(&str) -> usize) -> BTreeSet<(u64, usize)> {
        let opened = self.machines.iter().filter_map(|(peer, machine)| machine.conn.map(|conn| (conn, place(peer))));
        opened.chain(self.visitors.iter().map(|(conn, from)| (*conn, *from))).collect()
    }
}

fn desk(directory: &tempfile::TempDir, me: Me) -> Desk {
    let registry = Registry::open(directory.path().join("peers.json"), &me.daemon_id).unwrap();
    let pairing = Pairing::open(directory.path().join("pairing.json")).unwrap();
    Desk { me, registry, pairing }
}
