//! Whole daemons in one thread: real log, real registry, pairing, server and replicator, with a virtual clock and the memory
//! network. Everything that happens follows from the seed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use thrum_core::{
    Ambient, DaemonKey, Stamp,
    exchange::{Applied, Batch},
    limits,
};
use thrum_store::{OpenOptions, Store};
use thrum_sync::{
    Log, Now, intake,
    legacy::serving::{Askers, Skipped},
    pairing::{
        Here, Pairing, Protocol,
        pake::{self, Parties},
    },
    registry::{Registry, Stranger},
    replicator::{Action, Input, Replicator},
    server::{self, Desk, Effect, Me, Next},
    transport::{
        Caller, Kind,
        memory::{Network, Weather},
    },
    wire::{self, Begin, Call, Pair},
};

use crate::{
    go::Go,
    kit::{StoreLog, World, directory},
};

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
    pub events: usize,
}

/// One daemon, running or not.
pub struct Daemon {
    pub id: String,
    pub log: Arc<StoreLog>,
    key: DaemonKey,
    directory: tempfile::TempDir,
    left: thrum_store::Left,
    world: World,
    /// By how many nanoseconds its clock is off.
    skew: i64,
    desk: Desk,
    machines: BTreeMap<String, Machine>,
    /// In memory, as long as it is up.
    askers: Mutex<Askers>,
    /// Connections that others opened.
    visitors: BTreeSet<u64>,
    pub up: bool,
}

struct Machine {
    replicator: Replicator,
    conn: Option<u64>,
    asked: Option<(u64, Call)>,
}

/// The daemons, their network and their time.
pub struct Sim {
    pub daemons: Vec<Daemon>,
    /// Daemons of Go Thrum, at the places behind ours.
    pub gos: Vec<Go>,
    pub network: Network<Message>,
    pub tick: Duration,
    pub traffic: BTreeMap<(usize, usize), Traffic>,
    world: World,
    conns: u64,
    steps: u64,
}

impl Sim {
    /// `count` daemons with an agent each, unpaired, in calm weather.
    pub fn new(seed: u64, count: usize) -> Self {
        let mut world = World::new(seed);
        let daemons = (0..count).map(|n| Daemon::new(n, &mut world)).collect();
        let network = Network::new(seed, Weather::CALM);
        Self { daemons, gos: Vec::new(), network, tick: Duration::ZERO, traffic: BTreeMap::new(), world, conns: 0, steps: 0 }
    }

    pub fn random(&mut self, below: usize) -> usize {
        usize::try_from(self.world.random_u64() % (below as u64)).unwrap()
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

    /// What is skipped for old peers, by anybody.
    pub fn skipped(&self) -> Vec<Skipped> {
        let by = |daemon: &Daemon| self.gos.iter().flat_map(|go| daemon.askers.lock().unwrap().skipped(&go.id)).collect::<Vec<_>>();
        self.daemons.iter().flat_map(by).collect()
    }

    /// Sets a daemon's clock wrong.
    pub fn skew(&mut self, at: usize, seconds: i64) {
        self.daemons[at].skew = seconds * 1_000_000_000;
    }

    /// Pairs two daemons with a code, as `peer add` here and `peer join` there do, on a quiet line.
    pub fn pair(&mut self, here: usize, there: usize) {
        let now = self.now(here);
        let (joiner, name) = (self.daemons[there].id.clone(), self.daemons[there].desk.me.name.clone());
        let daemon = &mut self.daemons[here];
        let at = Here { kind: Kind::Local, node: None, port: u16::try_from(9100 + here).unwrap() };
        let opened = daemon.desk.pairing.start(at, limits::PAIRING_SESSION, now, &mut daemon.world).unwrap();
        let parties = Parties {
            version: pake::VERSION.into(),
            joiner,
            joiner_name: name,
            joiner_address: format!("127.0.0.1:{}", 9100 + there),
            joiner_node: "local".into(),
            listener: daemon.id.clone(),
            listener_node: "local".into(),
            listener_port: u16::try_from(9100 + here).unwrap(),
        };
        let (joining, message) = pake::join(&opened.code, parties.clone(), &mut daemon.world);
        let Parties { version, joiner, joiner_name: name, joiner_address: address, listener, .. } = parties;
        let begin = Begin { version, daemon_id: joiner, name, address, message };
        let mut visit = Caller { address: "127.0.0.1:1".into(), kind: Kind::Local, node: None }.into();
        let mut ask = |line: String| {
            let received = server::receive(&mut daemon.desk, line.as_bytes(), &mut visit, now, &mut daemon.world);
            let Next::Reply(reply) = received.next else { panic!("pairing does not ask the log") };
            reply
        };
        let (confirming, confirmation) = joining.confirm(&wire::read_begun(ask(begin.line(1)).as_bytes(), 1).unwrap()).unwrap();
        let confirmed = wire::read_confirmed(ask(wire::confirm_request(2, &confirmation)).as_bytes(), 2).unwrap();
        let token = confirming.open(&confirmed.confirmation, &confirmed.sealed, &confirmed.name).unwrap();
        let stranger = Stranger {
            daemon_id: listener.clone(),
            name: confirmed.name,
            address: format!("127.0.0.1:{}", 9100 + here),
            kind: Kind::Local,
            node: None,
            calls_from: None,
            protocol: Protocol::Pake,
        };
        let at = self.now(there).at;
        self.daemons[there].desk.registry.pair(stranger, token, at).unwrap();
        let joiner = self.daemons[there].id.clone();
        self.drive(here, &joiner);
        self.drive(there, &listener);
    }

    /// A daemon of Go Thrum, which joins ours.
    pub fn add_go(&mut self) -> usize {
        let place = self.daemons.len() + self.gos.len();
        self.gos.push(Go::new(place, World::new(self.world.random_u64())));
        self.gos.len() - 1
    }

    pub fn pair_go(&mut self, here: usize, go: usize) {
        let now = self.now(here);
        let (joiner, place) = (self.gos[go].id.clone(), self.gos[go].place);
        let daemon = &mut self.daemons[here];
        let opened = daemon
            .desk
            .pairing
            .start(Here { kind: Kind::Local, node: None, port: 9100 }, limits::PAIRING_SESSION, now, &mut daemon.world)
            .unwrap();
        let address = format!("127.0.0.1:{}", 9100 + place);
        let request = Pair { code: opened.code.reveal().into(), daemon_id: joiner.clone(), name: "go".into(), address };
        let caller = Caller { address: "127.0.0.1:1".into(), kind: Kind::Local, node: None };
        let received = server::receive(&mut daemon.desk, request.line(1).as_bytes(), &mut caller.into(), now, &mut daemon.world);
        let Next::Reply(reply) = received.next else { panic!("pairing does not ask the log") };
        let paired = wire::read_paired(reply.as_bytes(), 1).unwrap();
        self.gos[go].pair(&paired.daemon_id, here, paired.token);
        self.drive(here, &joiner);
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

    fn drive(&mut self, at: usize, peer: &str) {
        let now = self.now(at);
        let daemon = &mut self.daemons[at];
        let checkpoint = daemon.log.checkpoint(peer).unwrap();
        let machine = Machine { replicator: Replicator::new(peer, checkpoint, now), conn: None, asked: None };
        daemon.machines.insert(peer.to_owned(), machine);
        let latest = daemon.log.commit().latest_not_from(peer);
        self.step(at, peer, Input::Commit(latest));
    }

    /// The daemon's process is gone, as by `kill -9`.
    pub fn crash(&mut self, at: usize) {
        let daemon = &mut self.daemons[at];
        daemon.up = false;
        daemon.machines.clear();
        daemon.askers = Mutex::default();
        daemon.visitors.clear();
    }

    /// The daemon starts again from what is on disk.
    pub fn start(&mut self, at: usize) {
        if self.daemons[at].up {
            return;
        }
        self.now(at);
        self.daemons[at].reopen();
        let peers: Vec<String> = self.daemons[at].desk.registry.peers().iter().map(|peer| peer.daemon_id.clone()).collect();
        for peer in peers {
            self.drive(at, &peer);
        }
    }

    /// Puts the log back to an earlier copy of its files, while the daemon is down; `None` takes the copy.
    pub fn copy_of_log(&mut self, at: usize) -> BTreeMap<String, Vec<u8>> {
        self.daemons[at].log_files().into_iter().map(|(name, path)| (name, std::fs::read(path).unwrap())).collect()
    }

    pub fn restore_log(&mut self, at: usize, copy: &BTreeMap<String, Vec<u8>>) {
        // The connection must be gone before its files are.
        let placeholder = StoreLog::open(&directory(), &mut World::new(0)).0;
        drop(std::mem::replace(&mut self.daemons[at].log, placeholder));
        for path in self.daemons[at].log_files().values() {
            std::fs::remove_file(path).unwrap();
        }
        for (name, bytes) in copy {
            std::fs::write(self.daemons[at].directory.path().join(name), bytes).unwrap();
        }
    }

    /// Something written by an agent that lives there; whoever replicates hears of it.
    pub fn write<T>(&mut self, at: usize, job: impl FnOnce(&StoreLog) -> T) -> T {
        self.now(at);
        let result = job(&self.daemons[at].log);
        self.committed(at);
        result
    }

    /// An instant that no daemon's clock takes for the future, some seconds ago.
    pub fn some_time_ago(&mut self) -> Stamp {
        let seconds = self.random(40) as u64;
        let slowest = (0..self.daemons.len()).map(|at| self.now(at).at).min().unwrap();
        slowest.minus(Duration::from_secs(seconds))
    }

    pub fn say(&mut self, at: usize, text: &str) -> String {
        self.write(at, |log| log.say(&format!("agent{at}"), text))
    }

    fn committed(&mut self, at: usize) {
        let commit = self.daemons[at].log.commit();
        let peers: Vec<String> = self.daemons[at].machines.keys().cloned().collect();
        for peer in peers {
            let latest = commit.latest_not_from(&peer);
            self.step(at, &peer, Input::Commit(latest));
        }
    }

    /// Lets everything happen until `until`.
    pub fn run_until(&mut self, until: Duration) {
        loop {
            let timers = self.daemons.iter().flat_map(|daemon| daemon.machines.values()).map(|machine| machine.replicator.wait_until());
            let of_gos = self.gos.iter().map(Go::next_at);
            let Some(next) = timers.chain(self.network.next_at()).chain(of_gos).min().filter(|next| *next <= until) else {
                self.tick = until;
                return;
            };
            self.steps += 1;
            assert!(self.steps < 1_000_000, "it never comes to rest");
            self.tick = self.tick.max(next);
            while let Some(delivery) = self.network.next(self.tick) {
                self.deliver(delivery.from, delivery.to, delivery.message);
            }
            for at in 0..self.daemons.len() {
                let due: Vec<String> = self.daemons[at]
                    .machines
                    .iter()
                    .filter(|(_, machine)| machine.replicator.wait_until() <= self.tick)
                    .map(|(peer, _)| peer.clone())
                    .collect();
                due.iter().for_each(|peer| self.step(at, peer, Input::Timer));
            }
            for go in 0..self.gos.len() {
                if self.gos[go].next_at() <= self.tick {
                    let out = self.gos[go].wake(self.tick, &mut self.conns);
                    self.send_all(self.gos[go].place, out);
                }
            }
        }
    }

    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.tick + time);
    }

    fn index(&self, id: &str) -> usize {
        let go = || self.gos.iter().find(|go| go.id == id).map(|go| go.place);
        self.daemons.iter().position(|daemon| daemon.id == id).or_else(go).unwrap()
    }

    fn send_all(&mut self, from: usize, messages: Vec<(usize, Message)>) {
        messages.into_iter().for_each(|(to, message)| self.send(from, to, message));
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        self.network.send(self.tick, from, to, message);
    }

    fn step(&mut self, at: usize, peer: &str, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let now = self.now(at);
            let to = self.index(peer);
            let daemon = &mut self.daemons[at];
            let Some(machine) = daemon.machines.get_mut(peer) else { return };
            for action in machine.replicator.step(input, now, &mut daemon.world) {
                match action {
                    Action::Dial => {
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
                        let applied = daemon.log.apply(Batch { checkpoint_event, ..batch }).unwrap();
                        assert_eq!(applied.rejected, 0, "nobody here sends what has no form");
                        inputs.push(Input::Applied(applied));
                    }
                    Action::NoteWelcome => daemon.desk.registry.token_worked(peer).unwrap(),
                    Action::NoteRemoved => panic!("nobody was removed"),
                }
            }
            if inputs.iter().any(|input| matches!(input, Input::Applied(Applied { applied: 1.., .. }))) {
                let done = inputs.pop().unwrap();
                self.step(at, peer, done);
                self.committed(at);
            }
        }
    }

    fn deliver(&mut self, from: usize, to: usize, message: Message) {
        if let Some(go) = to.checked_sub(self.daemons.len()) {
            let out = self.gos[go].deliver(from, message, self.tick, &mut self.conns);
            return self.send_all(to, out);
        }
        if !self.daemons[to].up {
            if let Message::Connect(conn) = message {
                self.send(to, from, Message::Refused(conn));
            }
            return;
        }
        let peer = self.id_of(from).to_owned();
        let ours = |daemon: &Daemon, conn| daemon.machines.get(&peer).is_some_and(|machine| machine.conn == Some(conn));
        match message {
            Message::Connect(conn) => {
                self.daemons[to].visitors.insert(conn);
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
            Message::Line { conn, text } if self.daemons[to].visitors.contains(&conn) => self.answer(from, to, conn, &text),
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
            let input = match effect {
                Effect::Authenticated => Input::Authenticated,
                Effect::Notified { latest } => Input::Notified { latest },
                Effect::Acknowledged { upto, .. } => Input::Acknowledged(upto),
                Effect::Paired(_) | Effect::PairingMoved | Effect::Strayed { .. } => continue,
            };
            self.step(to, &peer, input);
        }
    }

    /// Everybody is up, the weather is calm, every way is open.
    pub fn heal(&mut self) {
        self.network.heal();
        self.network.weather = Weather::CALM;
        (0..self.daemons.len()).for_each(|at| self.start(at));
        let tick = self.tick;
        self.gos.iter_mut().filter(|go| !go.up).for_each(|go| go.start(tick));
    }

    /// Every daemon holds the same events and makes the same of them; its digests are those of its rows.
    pub fn assert_agreement(&self) {
        let first = &self.daemons[0].log;
        for daemon in &self.daemons[1..] {
            let differences = first.heads().unwrap().differences(&daemon.log.heads().unwrap());
            assert!(differences.is_empty(), "{} lacks or has more: {differences:?}", daemon.desk.me.name);
            let sorted = |log: &StoreLog| log.event_ids().into_iter().collect::<BTreeSet<_>>();
            assert_eq!(sorted(first), sorted(&daemon.log));
            assert_eq!(first.projection().unwrap(), daemon.log.projection().unwrap(), "{}", daemon.desk.me.name);
        }
        for daemon in &self.daemons {
            let ids = daemon.log.event_ids();
            assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len(), "an event was stored twice");
        }
    }

    /// Nothing but the safety net is sent: at most one empty pull per peer and round.
    pub fn assert_quiet(&mut self, rounds: u32) {
        self.traffic.clear();
        self.run_for(limits::ROUND * rounds);
        for (route, traffic) in &self.traffic {
            let pulls = traffic.pulls <= usize::try_from(rounds).unwrap() + 1;
            let quiet = traffic.notifies == 0 && traffic.infos == 0 && traffic.events == 0;
            assert!(pulls && quiet, "{route:?}: {traffic:?} in {rounds} rounds");
        }
    }
}

impl Daemon {
    fn new(n: usize, world: &mut World) -> Self {
        let directory = directory();
        // Each has a clock of its own.
        let mut world = World::new(world.random_u64());
        let key = DaemonKey::generate(&mut world);
        let options = OpenOptions::new(key.clone(), None);
        let store = Store::open(&directory.path().join("messages.db"), options, Box::new(world.fork())).unwrap();
        let left = store.left();
        let log = StoreLog::new(store);
        log.register(&format!("agent{n}"));
        let id = key.id().to_string();
        let me = Me { daemon_id: id.clone(), name: format!("daemon{n}"), version: "0.1.0".into() };
        let desk = desk(&directory, me);
        let (machines, visitors) = (BTreeMap::new(), BTreeSet::new());
        Self { id, log, key, directory, left, world, skew: 0, desk, machines, askers: Mutex::default(), visitors, up: true }
    }

    /// From what is on disk, as after a crash.
    fn reopen(&mut self) {
        let placeholder = StoreLog::open(&directory(), &mut World::new(0)).0;
        drop(std::mem::replace(&mut self.log, placeholder));
        let options = OpenOptions::new(self.key.clone(), Some(self.left.clone()));
        let store = Store::open(&self.directory.path().join("messages.db"), options, Box::new(self.world.fork())).unwrap();
        self.left = store.left();
        self.log = StoreLog::new(store);
        self.desk = desk(&self.directory, self.desk.me.clone());
        self.up = true;
    }

    fn log_files(&self) -> BTreeMap<String, std::path::PathBuf> {
        let entries = std::fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap());
        let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path()));
        named.filter(|(name, _)| name.starts_with("messages.db")).collect()
    }
}

fn desk(directory: &tempfile::TempDir, me: Me) -> Desk {
    let registry = Registry::open(directory.path().join("peers.json"), &me.daemon_id).unwrap();
    let pairing = Pairing::open(directory.path().join("pairing.json")).unwrap();
    Desk { me, registry, pairing }
}
