//! Whole daemons in one thread: real log on a disk in memory, real registry, pairing, server and replicator, with a virtual
//! clock and the memory network. Everything that happens follows from the seed.

mod agree;
mod checks;
mod daemon;
mod faults;
mod oracle;
mod pairing;
mod tally;
mod watcher;

use std::{collections::BTreeMap, hash::Hash, sync::atomic::Ordering, time::Duration};

use thrum_core::{
    Ambient, Stamp,
    exchange::{Applied, Batch},
    limits,
};
use thrum_store::{StoreError, Tx};
use thrum_sync::{
    Log, Now, intake,
    replicator::{Action, Input, Replicator},
    server::{self, Effect, Next},
    transport::{
        Caller, Kind,
        memory::{Network, Weather},
    },
    wire::Call,
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

/// How often a daemon does what is due without anybody asking. The writing thread does so every second.
const CHORES: Duration = Duration::from_secs(10);

/// What travels. A connection is a number that its opener made up.
#[derive(Clone, Debug)]
pub enum Message {
    Connect(u64),
    Accepted(u64),
    Refused(u64),
    Line { conn: u64, text: String },
    Closed(u64),
}

/// What was sent between two daemons, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub pulls: usize,
    pub notifies: usize,
    pub infos: usize,
    /// Served, known or not.
    pub events: usize,
    /// Commits of the sender that did not come from the receiver.
    pub news: usize,
    /// Connections that the sender opened.
    pub dials: usize,
}

/// The daemons, their network and their time.
pub struct Sim {
    pub daemons: Vec<Daemon>,
    /// Daemons of Go Thrum, at the places behind ours.
    pub gos: Vec<Go>,
    pub network: Network<Message>,
    pub tick: Duration,
    pub traffic: BTreeMap<(usize, usize), Traffic>,
    /// What was done and what went wrong, for people.
    pub tally: Tally,
    /// Everything that was sent and stored, in order: two runs of one seed have the same.
    pub trace: std::hash::DefaultHasher,
    /// What was acknowledged to a client, by event, with the daemon it was written at.
    acknowledged: BTreeMap<String, (usize, Seen)>,
    /// Events that nobody can fold.
    poison: Vec<String>,
    /// The highest instant that anybody purged up to.
    pub purged_before: Stamp,
    /// The daemon that answers where a name of two daemons leads to.
    routes: BTreeMap<String, usize>,
    /// How long the slowest disk takes to store a batch, in milliseconds.
    pub slowest_disk: usize,
    /// What was looked at of what peers said to have: of a daemon, by a peer, in a log.
    believed: BTreeMap<(usize, usize, String), u64>,
    /// The clock that was furthest ahead, ever.
    furthest: i64,
    chores: Duration,
    world: World,
    conns: u64,
    steps: u64,
}

impl Sim {
    /// `count` daemons with an agent each, unpaired, in calm weather.
    pub fn new(seed: u64, count: usize) -> Self {
        let mut world = World::new(seed);
        let daemons = (0..count).map(|n| Daemon::new(n, &mut world)).collect();
        Self {
            daemons,
            gos: Vec::new(),
            network: Network::new(seed, Weather::CALM),
            tick: Duration::ZERO,
            traffic: BTreeMap::new(),
            tally: Tally { daemons: count, seeds: 1, ..Tally::default() },
            trace: std::hash::DefaultHasher::new(),
            acknowledged: BTreeMap::new(),
            poison: Vec::new(),
            purged_before: Stamp::ZERO,
            routes: BTreeMap::new(),
            slowest_disk: 0,
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

    /// Whether a thing happens that happens once in so many times.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.random(times) == 0
    }

    fn now(&self, at: usize) -> Now {
        let daemon = &self.daemons[at];
        let base = Stamp::from_nanos(1_774_717_513_000_000_000 + daemon.skew);
        let now = Now { tick: self.tick, at: base.plus(self.tick) };
        daemon.world.nanos.store(now.at.nanos(), Ordering::Relaxed);
        now
    }

    /// The time that everybody's clock shows who is not skewed.
    pub fn wall(&self) -> Stamp {
        Stamp::from_nanos(1_774_717_513_000_000_000).plus(self.tick)
    }

    /// Something that an agent of Go's does now.
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
        let machine = Machine::new(Replicator::new(peer, checkpoint, now));
        daemon.machines.insert(peer.to_owned(), machine);
        let latest = daemon.log.commit().latest_not_from(peer);
        self.news(at, peer, latest);
    }

    /// Something written by an agent that lives there; whoever replicates hears of it.
    pub fn write<T>(&mut self, at: usize, job: impl FnOnce(&StoreLog) -> T) -> T {
        self.now(at);
        let result = job(&self.daemons[at].log);
        self.committed(at);
        result
    }

    /// Something that a client asks for. `None` if it is refused, or if the daemon dies before it answers; if it answers,
    /// what was written counts as acknowledged.
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

    /// An instant that no daemon's clock takes for the future, some seconds ago.
    pub fn some_time_ago(&mut self) -> Stamp {
        let seconds = self.random(40) as u64;
        let slowest = (0..self.daemons.len()).map(|at| self.now(at).at).min().unwrap();
        slowest.minus(Duration::from_secs(seconds))
    }

    /// An instant that one daemon's clock takes for the past.
    pub fn a_moment_ago(&mut self, at: usize) -> Stamp {
        let seconds = self.random(40) as u64;
        self.now(at).at.minus(Duration::from_secs(seconds))
    }

    pub fn say(&mut self, at: usize, text: &str) -> String {
        self.write(at, |log| log.say(&format!("agent{at}"), text))
    }

    fn committed(&mut self, at: usize) {
        let daemon = &mut self.daemons[at];
        let commit = daemon.log.commit();
        (commit.latest, &commit.log).hash(&mut self.trace);
        // The peer that shows N+1 before N shows it to us, too.
        let in_order = self.gos.is_empty();
        daemon.watcher.poll(&daemon.log, &daemon.desk.me.name, in_order);
        self.purged_before = self.purged_before.max(daemon.watcher.purged);
        if daemon.left.as_ref().is_some_and(|left| *left.log_id != *commit.log) && daemon.follows.is_none() {
            self.tally.new_logs += 1;
            let pause = Duration::from_millis(self.random(200) as u64);
            self.daemons[at].follows = Some(self.tick + pause);
        }
        let peers: Vec<String> = self.daemons[at].machines.keys().cloned().collect();
        for peer in peers {
            self.news(at, &peer, commit.latest_not_from(&peer));
        }
    }

    /// Tells a replicator what there is to announce.
    fn news(&mut self, at: usize, peer: &str, latest: u64) {
        let to = self.index(peer);
        if let Some(machine) = self.daemons[at].machines.get_mut(peer)
            && latest > machine.latest
        {
            machine.latest = latest;
            self.traffic.entry((at, to)).or_default().news += 1;
        }
        self.step(at, peer, Input::Commit(latest));
    }

    /// Lets everything happen until `until`.
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
                (delivery.at, delivery.from, delivery.to).hash(&mut self.trace);
                self.deliver(delivery.from, delivery.to, delivery.message);
            }
            for at in 0..self.daemons.len() {
                let due: Vec<String> = self.daemons[at].due(self.tick);
                for peer in &due {
                    self.finish_storing(at, peer);
                    self.step(at, peer, Input::Timer);
                }
                self.daemons[at].follow(self.tick);
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

    fn send_all(&mut self, from: usize, messages: Vec<(usize, Message)>) {
        messages.into_iter().for_each(|(to, message)| self.send(from, to, message));
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        self.network.send(self.tick, from, to, message);
    }

    fn step(&mut self, at: usize, peer: &str, input: Input) {
        {
            let now = self.now(at);
            let to = self.index(peer);
            let daemon = &mut self.daemons[at];
            let Some(machine) = daemon.machines.get_mut(peer) else { return };
            for action in machine.replicator.step(input, now, &mut daemon.world) {
                match action {
                    Action::Dial => {
                        self.traffic.entry((at, to)).or_default().dials += 1;
                        self.conns += 1;
                        machine.conn = Some(self.conns);
                        self.network.send(self.tick, at, to, Message::Connect(self.conns));
                    }
                    Action::Close => {
                        machine.asked = None;
                        if let Some(conn) = machine.conn.take() {
                            self.network.send(self.tick, at, to, Message::Closed(conn));
                        }
                    }
                    Action::Send { id, call } => {
                        let traffic = self.traffic.entry((at, to)).or_default();
                        match call {
                            Call::Pull(_) => traffic.pulls += 1,
                            Call::Notify { .. } => traffic.notifies += 1,
                            Call::PeerInfo { .. } => traffic.infos += 1,
                        }
                        let token = daemon.desk.registry.get(peer).and_then(|peer| peer.token.clone()).unwrap();
                        let text = call.line(id, &daemon.id, &token);
                        machine.asked = Some((id, call));
                        let conn = machine.conn.unwrap();
                        self.network.send(self.tick, at, to, Message::Line { conn, text });
                    }
                    Action::Apply { log, checkpoint, checkpoint_event, events } => {
                        self.traffic.entry((to, at)).or_default().events += events.len();
                        let batch = intake::batch(peer, &log, checkpoint, events, &*daemon.log).unwrap();
                        machine.storing = Some((self.tick, Batch { checkpoint_event, ..batch }));
                    }
                    Action::NoteWelcome => daemon.desk.registry.token_worked(peer).unwrap(),
                    Action::NoteRemoved => panic!("nobody was removed"),
                }
            }
        }
        self.begin_storing(at, peer);
    }

    /// A batch takes as long as the disk does; with a quick one it is stored at once.
    fn begin_storing(&mut self, at: usize, peer: &str) {
        let slowest = self.slowest_disk;
        let pause = if slowest == 0 { 0 } else { self.random(slowest) };
        let tick = self.tick;
        let machine = self.daemons[at].machines.get_mut(peer);
        let Some(Machine { storing: Some((due, _)), is_storing, .. }) = machine else { return };
        if !std::mem::replace(is_storing, true) {
            *due = tick + Duration::from_millis(pause as u64);
            self.finish_storing(at, peer);
        }
    }

    fn finish_storing(&mut self, at: usize, peer: &str) {
        let tick = self.tick;
        self.now(at);
        let Some(machine) = self.daemons[at].machines.get_mut(peer) else { return };
        let Some((_, batch)) = machine.storing.take_if(|(due, _)| *due <= tick) else { return };
        machine.is_storing = false;
        let daemon = &self.daemons[at];
        let result = daemon.log.apply(batch);
        if self.died(at) {
            return;
        }
        let applied: Applied = result.unwrap();
        assert_eq!(applied.rejected, 0, "nobody here sends what has no form");
        (at, applied.applied, applied.skipped).hash(&mut self.trace);
        self.tally.applied += applied.applied;
        self.step(at, peer, Input::Applied(applied));
        if applied.applied > 0 || applied.skipped > 0 {
            self.committed(at);
        }
    }

    fn deliver(&mut self, from: usize, to: usize, message: Message) {
        if let Some(go) = to.checked_sub(self.daemons.len()) {
            let out = self.gos[go].deliver(from, message, self.tick, &mut self.conns);
            return self.send_all(to, out);
        }
        let receiver = &self.daemons[to];
        if !receiver.up || receiver.hangs {
            if let Message::Connect(conn) = message {
                // A process that hangs leaves connecting to its kernel.
                let answer = if receiver.up { Message::Accepted(conn) } else { Message::Refused(conn) };
                self.send(to, from, answer);
            }
            return;
        }
        let peer = self.id_of(from).to_owned();
        let ours = |daemon: &Daemon, conn| daemon.machines.get(&peer).is_some_and(|machine| machine.conn == Some(conn));
        match message {
            Message::Connect(conn) => {
                self.daemons[to].visitors.insert(conn, from);
                self.send(to, from, Message::Accepted(conn));
            }
            Message::Accepted(conn) if ours(&self.daemons[to], conn) => self.step(to, &peer, Input::Connected),
            Message::Refused(conn) if ours(&self.daemons[to], conn) => self.step(to, &peer, Input::ConnectFailed("refused".into())),
            Message::Closed(conn) if ours(&self.daemons[to], conn) => {
                if let Some(machine) = self.daemons[to].machines.get_mut(&peer) {
                    (machine.conn, machine.asked) = (None, None);
                }
                self.step(to, &peer, Input::Disconnected("closed".into()));
            }
            Message::Closed(conn) => {
                self.daemons[to].visitors.remove(&conn);
            }
            Message::Line { conn, text } if ours(&self.daemons[to], conn) => {
                let asked = self.daemons[to].machines.get_mut(&peer).and_then(|machine| machine.asked.take());
                // A second answer to one request is something that nobody asked for, and ends a connection.
                let input = match asked {
                    Some((id, call)) => Input::Replied(call.read(text.as_bytes(), id)),
                    None => Input::Disconnected("it spoke without being asked".into()),
                };
                self.step(to, &peer, input);
            }
            Message::Line { conn, text } if self.daemons[to].visitors.contains_key(&conn) => self.answer(from, to, conn, &text),
            Message::Line { conn, .. } => self.send(to, from, Message::Closed(conn)),
            Message::Accepted(_) | Message::Refused(_) => {}
        }
    }

    fn answer(&mut self, from: usize, to: usize, conn: u64, line: &str) {
        let now = self.now(to);
        let daemon = &mut self.daemons[to];
        let caller = Caller { address: format!("127.0.0.1:{conn}"), kind: Kind::Local, node: None };
        let received = server::receive(&mut daemon.desk, line.as_bytes(), &mut caller.into(), now, &mut daemon.world);
        let mut effects = received.effects;
        let reply = match received.next {
            Next::Reply(reply) => reply,
            Next::Serve(job) => {
                let (reply, effect) = server::serve(job, &daemon.desk.me, &*daemon.log, &daemon.askers, now);
                effects.extend(effect);
                reply
            }
        };
        self.send(to, from, Message::Line { conn, text: reply });
        let peer = received.peer.expect("every token is good");
        for effect in effects {
            if let Effect::Acknowledged { log, upto } = &effect {
                self.believe(to, from, log, *upto);
            }
            let input = match effect {
                Effect::Authenticated => Input::Authenticated,
                Effect::Notified { latest } => Input::Notified { latest },
                Effect::Acknowledged { upto, .. } => Input::Acknowledged(upto),
                Effect::Paired(_) | Effect::PairingMoved | Effect::Strayed { .. } => continue,
            };
            self.step(to, &peer, input);
        }
    }
}
