//! Whole daemons in one thread: real log on a disk in memory, real registry, pairing, server and replicator, with a
//! virtual clock and the memory network. Everything is determined by the seed.

mod agree;
mod checks;
mod daemon;
mod faults;
mod git;
mod line;
mod oracle;
mod pairing;
mod tally;
mod watcher;

use std::{collections::BTreeMap, hash::Hash, sync::atomic::Ordering, time::Duration};

use thrum_core::{Ambient, Timestamp, limits};
use thrum_git::memory::MemoryRemote;
use thrum_store::{StoreError, Tx};
use thrum_sync::{
    Log, Now,
    replicator::{Input, Replicator},
    transport::memory::{Network, Weather},
};

use daemon::Machine;
pub use daemon::{Copied, Daemon};
pub use faults::Start;
pub use tally::Tally;
use watcher::Seen;

use crate::{
    go::Go,
    kit::{StoreLog, World},
};

/// Interval at which a daemon does periodic work. The writer thread does it every second.
const CHORES: Duration = Duration::from_secs(10);

/// A message on the network. Each connection has a number chosen by its opener.
#[derive(Clone, Debug, Hash)]
pub enum Message {
    Connect(u64),
    Accepted(u64),
    Refused(u64),
    Line { conn: u64, text: String },
    Closed(u64),
}

/// Traffic from one daemon to another, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub pulls: usize,
    pub notifies: usize,
    pub infos: usize,
    /// Events served with their bodies, known or not.
    pub events: usize,
    /// Events sent as references.
    pub referred: usize,
    /// Batches that were not stored because they refer to an event which the receiver lacks.
    pub lacked: usize,
    /// Commits of the sender that did not come from the receiver.
    pub news: usize,
    /// Connections opened by the sender.
    pub dials: usize,
}

/// The daemons, their network and their time.
pub struct Sim {
    pub daemons: Vec<Daemon>,
    /// Go daemons, at the places after ours.
    pub gos: Vec<Go>,
    pub network: Network<Message>,
    pub tick: Duration,
    pub traffic: BTreeMap<(usize, usize), Traffic>,
    /// The git remote that some daemons share.
    pub remote: MemoryRemote,
    /// How many of a hundred exchanges through git have a fault.
    pub git_faults: usize,
    /// Counts of actions and faults, for display.
    pub tally: Tally,
    /// Hash of all messages and commits, in order: the same for two runs of one seed.
    pub trace: std::hash::DefaultHasher,
    /// Acknowledged events, each with the daemon that wrote it.
    acknowledged: BTreeMap<String, (usize, Seen)>,
    /// Events that cannot be folded.
    poison: Vec<String>,
    /// The latest instant up to which any daemon purged.
    pub purged: watcher::Purges,
    /// The daemon that is reached by the id of two daemons.
    routes: BTreeMap<String, usize>,
    /// Maximum time to store a batch, in milliseconds.
    pub slowest_disk: usize,
    /// Maximum number of events per pull. With a small one, peers are read ahead also in short logs.
    pub most_per_pull: usize,
    /// How far the acknowledgements of peers were checked, by daemon, peer and log.
    believed: BTreeMap<(usize, usize, String), u64>,
    /// The largest deviation that any clock had ahead.
    furthest: i64,
    chores: Duration,
    world: World,
    conns: u64,
    steps: u64,
}

impl Sim {
    /// Creates `count` unpaired daemons with one agent each, on a network without faults.
    pub fn new(seed: u64, count: usize) -> Self {
        let mut world = World::new(seed);
        let daemons = (0..count).map(|n| Daemon::new(n, &mut world)).collect();
        Self {
            daemons,
            gos: Vec::new(),
            network: Network::new(seed, Weather::CALM),
            remote: MemoryRemote::default(),
            git_faults: 0,
            tick: Duration::ZERO,
            traffic: BTreeMap::new(),
            tally: Tally { daemons: count, seeds: 1, ..Tally::default() },
            trace: std::hash::DefaultHasher::new(),
            acknowledged: BTreeMap::new(),
            poison: Vec::new(),
            purged: watcher::Purges::default(),
            routes: BTreeMap::new(),
            slowest_disk: 0,
            most_per_pull: limits::MAX_BATCH_EVENTS,
            believed: BTreeMap::new(),
            furthest: 0,
            chores: CHORES,
            world,
            conns: 0,
            steps: 0,
        }
    }

    pub fn random(&mut self, below: usize) -> usize {
        usize::try_from(self.world.random_u64() % (below as u64)).unwrap()
    }

    /// Returns `true` with a probability of one in `times`.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.random(times) == 0
    }

    fn now(&self, at: usize) -> Now {
        let daemon = &self.daemons[at];
        let base = Timestamp::from_nanos(1_774_717_513_000_000_000 + daemon.skew);
        let now = Now { tick: self.tick, at: base.plus(self.tick) };
        daemon.world.nanos.store(now.at.nanos(), Ordering::Relaxed);
        now
    }

    /// Returns the time of all clocks that are not skewed.
    pub fn wall(&self) -> Timestamp {
        Timestamp::from_nanos(1_774_717_513_000_000_000).plus(self.tick)
    }

    /// Writes an event of a Go agent now.
    pub fn go_writes(&mut self, go: usize, kind: &str, payload: serde_json::Value) {
        let (tick, at) = (self.tick, self.now(0).at);
        self.gos[go].write(kind, payload, tick, at);
    }

    fn id_of(&self, place: usize) -> &str {
        self.daemons.get(place).map_or_else(|| &self.gos[place - self.daemons.len()].id, |daemon| &daemon.id)
    }

    pub fn are_paired(&self, one: usize, other: usize) -> bool {
        self.daemons[one].machines.contains_key(&self.daemons[other].id)
    }

    pub(super) fn drive(&mut self, at: usize, peer: &str) {
        let now = self.now(at);
        let daemon = &mut self.daemons[at];
        let checkpoint = daemon.log.checkpoint(peer).unwrap();
        let replicator = Replicator::new(peer, checkpoint, now).with_most_per_pull(self.most_per_pull);
        let machine = Machine::new(replicator);
        daemon.machines.insert(peer.to_owned(), machine);
        let latest = daemon.log.commit().latest_not_from(peer);
        self.news(at, peer);
        self.step(at, peer, Input::Commit(latest));
    }

    /// Writes on behalf of a local agent, and informs the replicators.
    pub fn write<T>(&mut self, at: usize, job: impl FnOnce(&StoreLog) -> T) -> T {
        self.now(at);
        let result = job(&self.daemons[at].log);
        self.committed(at);
        result
    }

    /// Runs a client's request. Returns `None` if it is refused, or if the daemon dies before it replies. After a
    /// reply, its events count as acknowledged.
    pub fn act<T>(&mut self, at: usize, job: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError>) -> Option<T> {
        self.now(at);
        let before = self.daemons[at].log.latest();
        let result = self.daemons[at].log.write(job);
        if self.died(at) {
            return None;
        }
        match result {
            Ok(value) => {
                let rows = self.daemons[at].log.page(before, 1000, 1 << 30).unwrap().rows;
                self.tally.written += rows.len();
                self.acknowledged.extend(rows.iter().map(|row| (row.id.clone(), (at, Seen::read(row)))));
                self.committed(at);
                Some(value)
            }
            Err(StoreError::Refused(_)) => None,
            Err(error) => panic!("daemon{at} cannot write: {error}"),
        }
    }

    /// Returns an instant some seconds ago that is not in the future for any daemon's clock.
    pub fn some_time_ago(&mut self) -> Timestamp {
        let seconds = self.random(40) as u64;
        let slowest = (0..self.daemons.len()).map(|at| self.now(at).at).min().unwrap();
        slowest.minus(Duration::from_secs(seconds))
    }

    /// Returns an instant in the past of one daemon's clock.
    pub fn a_moment_ago(&mut self, at: usize) -> Timestamp {
        let seconds = self.random(40) as u64;
        self.now(at).at.minus(Duration::from_secs(seconds))
    }

    pub fn say(&mut self, at: usize, text: &str) -> String {
        self.write(at, |log| log.say(&format!("agent{at}"), text))
    }

    fn committed(&mut self, at: usize) {
        self.committed_from(at, "");
    }

    /// Handles a commit of events from a peer (`source`), or of local events if it is empty.
    fn committed_from(&mut self, at: usize, source: &str) {
        let daemon = &mut self.daemons[at];
        let commit = daemon.log.commit();
        (commit.latest, &commit.log).hash(&mut self.trace);
        if let Some(git) = daemon.git.as_mut().filter(|_| source != git::THROUGH_GIT) {
            git.wrote(self.tick);
        }
        // A peer that shows N+1 before N also passes events to us in that order, and so does a remote on which several
        // daemons publish a log in parts.
        let in_order = self.gos.is_empty() && self.remote.is_empty();
        let sources = daemon.watcher.poll(&daemon.log, &daemon.auth.me.name, source, in_order, &self.purged);
        self.purged.add(&daemon.watcher.purged);
        if daemon.left.as_ref().is_some_and(|left| *left.log_id != *commit.log) && daemon.follows.is_none() {
            self.tally.new_logs += 1;
            let pause = Duration::from_millis(self.random(200) as u64);
            self.daemons[at].follows = Some(self.tick + pause);
        }
        let peers: Vec<String> = self.daemons[at].machines.keys().cloned().collect();
        for peer in peers {
            if sources.iter().any(|source| *source != peer) {
                self.news(at, &peer);
            }
            self.step(at, &peer, Input::Commit(commit.latest_not_from(&peer)));
        }
    }

    /// Counts a commit to announce that this peer did not send.
    fn news(&mut self, at: usize, peer: &str) {
        let to = self.index(peer);
        self.traffic.entry((at, to)).or_default().news += 1;
    }

    /// Runs the simulation until `until`.
    pub fn run_until(&mut self, until: Duration) {
        loop {
            let timers = self.daemons.iter().flat_map(Daemon::timers);
            let of_gos = self.gos.iter().map(Go::next_at);
            let next = timers.chain(self.network.next_at()).chain(of_gos).chain([self.chores]).min();
            let Some(next) = next.filter(|next| *next <= until) else {
                self.tick = until;
                return;
            };
            self.steps += 1;
            assert!(self.steps < 1_000_000, "P6: it never comes to rest");
            self.tick = self.tick.max(next);
            while let Some(delivery) = self.network.next(self.tick) {
                (delivery.at, delivery.from, delivery.to, &delivery.message).hash(&mut self.trace);
                self.deliver(delivery.from, delivery.to, delivery.message);
            }
            for at in 0..self.daemons.len() {
                let due: Vec<String> = self.daemons[at].due(self.tick);
                for peer in &due {
                    self.finish_storing(at, peer);
                    self.step(at, peer, Input::Timer);
                    self.end_silence(at, peer);
                }
                self.daemons[at].follow(self.tick);
                if self.daemons[at].is_exchange_due(self.tick) {
                    self.exchange(at);
                }
            }
            for go in 0..self.gos.len() {
                if self.gos[go].next_at() <= self.tick {
                    let out = self.gos[go].wake(self.tick, &mut self.conns);
                    self.send_all(self.gos[go].place, out);
                }
            }
            if self.chores <= self.tick {
                self.chores += CHORES;
                (0..self.daemons.len()).for_each(|at| self.do_chores(at));
            }
        }
    }

    fn do_chores(&mut self, at: usize) {
        self.now(at);
        if !self.daemons[at].up {
            return;
        }
        if self.tick.as_secs().is_multiple_of(limits::NOTE_LOG_END.as_secs()) {
            self.daemons[at].note_end();
        }
        let folded = self.daemons[at].log.chores();
        if !self.died(at) && folded.unwrap() > 0 {
            self.committed(at);
        }
    }

    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.tick + time);
    }

    pub(super) fn index(&self, id: &str) -> usize {
        let go = || self.gos.iter().find(|go| go.id == id).map(|go| go.place);
        let named = || self.daemons.iter().position(|daemon| daemon.id == id);
        self.routes.get(id).copied().or_else(named).or_else(go).unwrap()
    }
}
