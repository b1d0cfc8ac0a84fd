//! The daemons of a mesh, their links and their time.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use thrum_core::{
    Ambient, DaemonKey, Payload, Timestamp,
    event::Draft,
    exchange::Applied,
    limits,
    payload::{Body, MessageCreate},
};
use thrum_sync::{
    Log, Now, Token,
    conn::NoLine,
    intake::{self, Taken},
    legacy::serving::Askers,
    pairing::{Pairing, Protocol},
    protocol::wire::{self, Call},
    protocol::{self, AuthState, Effect, Me},
    registry::{Candidate, Registry},
    replicator::{Action, Input, Replicator},
    transport::{
        Caller, Kind,
        memory::{Network, Weather},
    },
};

use super::log::{MemoryLog, Pool};
use crate::kit::{World, completed, directory};

/// The time of each message on its way, in one direction.
pub const DELAY: Duration = Duration::from_millis(20);

/// Bytes of the text of each message.
const TEXT: usize = 200;

struct Daemon {
    id: String,
    key: DaemonKey,
    log: Arc<MemoryLog>,
    auth: AuthState,
    askers: Mutex<Askers>,
    world: World,
    /// The number of events that it made.
    made: u64,
    /// The indices of its lines.
    lines: Vec<usize>,
}

/// One direction of a link: what a daemon sends to one of its peers, and the replicator that reads that peer.
pub struct Line {
    pub from: usize,
    pub to: usize,
    replicator: Replicator,
    asked: Option<(u64, Call)>,
    timer: Duration,
    pub traffic: Traffic,
}

/// What was sent on one line.
#[derive(Default)]
pub struct Traffic {
    /// Requests and replies.
    pub messages: usize,
    /// Bytes of them, with their line ends, before compression and encryption.
    pub bytes: usize,
    pub notifies: usize,
    /// By number of the event: how often its body was sent.
    pub bodies: BTreeMap<usize, usize>,
}

/// How an event arrived at a daemon.
#[derive(Clone, Copy)]
pub struct Arrival {
    pub at: Duration,
    /// The number of links that it crossed.
    pub hops: usize,
}

#[derive(Clone)]
enum Message {
    Connect,
    Accepted,
    Request(String),
    Reply(String),
}

/// How a mesh begins.
pub struct Start {
    /// The time between two periodic pulls.
    pub interval: Duration,
    /// How many daemons have made an event, one each.
    pub events: usize,
}

pub struct Mesh {
    daemons: Vec<Daemon>,
    pub lines: Vec<Line>,
    /// The line from one daemon to another.
    between: BTreeMap<(usize, usize), usize>,
    network: Network<Message>,
    timers: BTreeSet<(Duration, usize)>,
    pub tick: Duration,
    /// By number of the event, by daemon.
    pub arrivals: Vec<Vec<Option<Arrival>>>,
    world: World,
    _directory: tempfile::TempDir,
}

impl Mesh {
    /// Creates `count` daemons in a ring, each paired with one more across it, so that nearly all have three peers.
    /// They dial within the first sync interval.
    pub fn new(seed: u64, count: usize, start: &Start) -> Self {
        let mut world = World::new(seed);
        let directory = directory();
        let pool = Arc::new(Pool::default());
        let daemons: Vec<Daemon> = (0..count)
            .map(|n| {
                let mut world = World::new(world.random_u64());
                let key = DaemonKey::generate(&mut world);
                let id = key.id().to_string();
                let (name, instance) = (format!("daemon{n}"), "1".into());
                let me = Me { daemon_id: id.clone(), name, version: "0.1.0".into(), instance };
                let registry = Registry::open(directory.path().join(format!("peers{n}.json")), &id).unwrap();
                let pairing = Pairing::open(directory.path().join(format!("pairing{n}.json"))).unwrap();
                let log = Arc::new(MemoryLog::new(&format!("log{n:023}"), &pool));
                let auth = AuthState { me, registry, pairing };
                Daemon { id, key, log, auth, askers: Mutex::default(), world, made: 0, lines: Vec::new() }
            })
            .collect();
        let mut mesh = Self {
            daemons,
            lines: Vec::new(),
            between: BTreeMap::new(),
            network: Network::new(seed, Weather { latency: (DELAY, DELAY), ..Weather::CALM }),
            timers: BTreeSet::new(),
            tick: Duration::ZERO,
            arrivals: Vec::new(),
            world,
            _directory: directory,
        };
        for at in 0..start.events {
            mesh.write(at);
        }
        for (one, other) in mesh.sparse_pairs() {
            mesh.pair(one, other, start.interval);
        }
        mesh
    }

    fn sparse_pairs(&mut self) -> BTreeSet<(usize, usize)> {
        let count = self.daemons.len();
        let pair = |one: usize, other: usize| (one.min(other), one.max(other));
        let mut pairs: BTreeSet<_> = (0..count).map(|n| pair(n, (n + 1) % count)).collect();
        let mut left: Vec<usize> = (0..count).collect();
        while left.len() > 1 {
            let at = self.random(left.len());
            let one = left.swap_remove(at);
            let at = self.random(left.len());
            // Neighbours in the ring that draw each other have two peers only.
            pairs.insert(pair(one, left.swap_remove(at)));
        }
        pairs
    }

    fn pair(&mut self, one: usize, other: usize, interval: Duration) {
        let token = Token::generate(&mut self.world);
        for (from, to) in [(one, other), (other, one)] {
            let candidate = Candidate {
                daemon_id: self.daemons[to].id.clone(),
                name: self.daemons[to].auth.me.name.clone(),
                address: format!("127.0.0.1:{}", 9100 + to),
                kind: Kind::Local,
                node: None,
                calls_from: None,
                protocol: Protocol::Pake,
            };
            let at = self.now(from).at;
            self.daemons[from].auth.registry.pair(candidate, token.clone(), at).unwrap();
            let spread = usize::try_from(limits::SYNC_INTERVAL.as_millis()).unwrap();
            let begin = Duration::from_millis(self.random(spread) as u64);
            let now = Now { tick: begin, at: at.plus(begin) };
            let mut replicator = Replicator::new(&self.daemons[to].id, None, now).with_sync_interval(interval, now);
            let latest = self.daemons[from].log.commit().latest_not_from(&self.daemons[to].id);
            let actions = replicator.step(Input::Commit(latest), Now { tick: Duration::ZERO, at }, &mut self.world);
            assert_eq!(actions, [], "it dials later");
            let index = self.lines.len();
            let timer = replicator.wait_until();
            self.timers.insert((timer, index));
            self.between.insert((from, to), index);
            self.daemons[from].lines.push(index);
            self.lines.push(Line { from, to, replicator, asked: None, timer, traffic: Traffic::default() });
        }
    }

    pub fn count(&self) -> usize {
        self.daemons.len()
    }

    pub fn random(&mut self, below: usize) -> usize {
        usize::try_from(self.world.random_u64() % (below as u64)).unwrap()
    }

    fn now(&self, at: usize) -> Now {
        let now = Now { tick: self.tick, at: Timestamp::from_nanos(1_774_717_513_000_000_000).plus(self.tick) };
        self.daemons[at].world.nanos.store(now.at.nanos(), Ordering::Relaxed);
        now
    }

    /// Makes an event at a daemon, and tells its peers. Returns the number of the event.
    pub fn write(&mut self, at: usize) -> usize {
        let now = self.now(at);
        let number = self.arrivals.len();
        let daemon = &mut self.daemons[at];
        daemon.made += 1;
        let payload = Payload::MessageCreate(MessageCreate {
            message_id: format!("msg_{number:026}"),
            agent_id: format!("agent{at}"),
            body: Body { content: "x".repeat(TEXT), format: "markdown".into(), ..Body::default() },
            ..MessageCreate::default()
        });
        let draft = Draft { id: format!("evt_{number:026}"), at: now.at, payload: &payload };
        let event = draft.seal(&daemon.key, &daemon.log.id(), daemon.made).unwrap();
        assert_eq!(daemon.log.append(event), number);
        self.arrivals.push(vec![None; self.daemons.len()]);
        self.arrivals[number][at] = Some(Arrival { at: self.tick, hops: 0 });
        self.committed(at);
        number
    }

    fn committed(&mut self, at: usize) {
        let commit = self.daemons[at].log.commit();
        for line in self.daemons[at].lines.clone() {
            let latest = commit.latest_not_from(&self.daemons[self.lines[line].to].id);
            self.step(line, Input::Commit(latest));
        }
    }

    pub fn run_for(&mut self, time: Duration) {
        let until = self.tick + time;
        loop {
            let timer = self.timers.first().map(|(due, _)| *due);
            let Some(next) = self.network.next_at().into_iter().chain(timer).min().filter(|next| *next <= until) else {
                self.tick = until;
                return;
            };
            self.tick = self.tick.max(next);
            while let Some(delivery) = self.network.next(self.tick) {
                self.deliver(delivery.from, delivery.to, delivery.message);
            }
            while let Some((_, line)) = self.timers.first().copied().filter(|(due, _)| *due <= self.tick) {
                self.step(line, Input::Timer);
            }
        }
    }

    /// Ends the connections between the daemons of a line.
    pub fn disconnect(&mut self, line: usize) {
        for line in [line, self.back(line)] {
            // A reply that is still under way is ignored when it arrives.
            self.lines[line].asked = None;
            self.step(line, Input::Disconnected(NoLine::Closed.into()));
        }
    }

    /// Returns the other direction of a line.
    fn back(&self, line: usize) -> usize {
        self.between[&(self.lines[line].to, self.lines[line].from)]
    }

    /// Returns the two lines of each link.
    pub fn links(&self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.lines.len()).map(|line| (line, self.back(line))).filter(|(line, back)| line < back)
    }

    fn send(&mut self, line: usize, message: Message) {
        let Line { from, to, traffic, .. } = &mut self.lines[line];
        if let Message::Request(text) | Message::Reply(text) = &message {
            traffic.messages += 1;
            traffic.bytes += text.len() + 1;
        }
        self.network.send(self.tick, *from, *to, message);
    }

    /// Counts the events that a daemon has put into the message that it sends now.
    fn count_bodies(&mut self, line: usize) {
        let served = self.daemons[self.lines[line].from].log.take_served();
        served.into_iter().for_each(|number| *self.lines[line].traffic.bodies.entry(number).or_default() += 1);
    }

    fn step(&mut self, line: usize, input: Input) {
        let (from, to) = (self.lines[line].from, self.lines[line].to);
        let now = self.now(from);
        let peer = self.daemons[to].id.clone();
        let actions = self.lines[line].replicator.step(input, now, &mut self.daemons[from].world);
        let due = self.lines[line].replicator.wait_until();
        self.timers.remove(&(self.lines[line].timer, line));
        self.timers.insert((due, line));
        self.lines[line].timer = due;
        let mut batches = Vec::new();
        for action in actions {
            match action {
                Action::Dial => self.send(line, Message::Connect),
                Action::Close => self.lines[line].asked = None,
                Action::Send { id, call } => {
                    let daemon = &self.daemons[from];
                    let token = daemon.auth.registry.get(&peer).and_then(|peer| peer.token.clone()).unwrap();
                    let pushed = match call {
                        Call::Notify { after: Some(after), ref references, .. } => {
                            protocol::push(&*daemon.log, &peer, after, references.as_deref()).unwrap()
                        }
                        _ => None,
                    };
                    let text = call.line_with(id, &daemon.id, &token, pushed.as_ref());
                    if pushed.is_none() {
                        daemon.log.take_served();
                    }
                    self.count_bodies(line);
                    if matches!(call, Call::Notify { .. }) {
                        self.lines[line].traffic.notifies += 1;
                    }
                    self.lines[line].asked = Some((id, call));
                    self.send(line, Message::Request(text));
                }
                Action::Apply { log, checkpoint, events, .. } => {
                    batches.push(intake::take(&peer, &log, checkpoint, &events, &*self.daemons[from].log).unwrap());
                }
                Action::NoteWelcome => self.daemons[from].auth.registry.token_worked(&peer).unwrap(),
                Action::NoteRemoved => panic!("nobody was removed"),
            }
        }
        for taken in batches {
            let Some(Taken { batch, referred, repeated }) = taken else {
                self.step(line, Input::Lacks);
                continue;
            };
            let (applied, fresh) = self.daemons[from].log.store(batch);
            for number in &fresh {
                let hops = self.arrivals[*number][to].expect("the peer has what it serves").hops + 1;
                self.arrivals[*number][from] = Some(Arrival { at: self.tick, hops });
            }
            if applied.skipped > 0 {
                self.step(line, Input::Repeated(repeated));
            }
            self.step(line, Input::Applied(Applied { referred, skipped: applied.skipped + referred, ..applied }));
            if !fresh.is_empty() {
                self.committed(from);
            }
        }
    }

    fn deliver(&mut self, from: usize, to: usize, message: Message) {
        let back = self.between[&(to, from)];
        match message {
            Message::Connect => self.send(back, Message::Accepted),
            Message::Accepted => self.step(back, Input::Connected),
            Message::Reply(text) => {
                if let Some((id, call)) = self.lines[back].asked.take() {
                    self.step(back, Input::Replied(call.read(text.as_bytes(), id)));
                }
            }
            Message::Request(text) => self.answer(from, to, back, &text),
        }
    }

    fn answer(&mut self, from: usize, to: usize, back: usize, text: &str) {
        let now = self.now(to);
        let daemon = &mut self.daemons[to];
        let caller = Caller { address: format!("127.0.0.1:{}", 9100 + from), kind: Kind::Local, node: None };
        let received = protocol::receive(&mut daemon.auth, text.as_bytes(), &mut caller.into(), now, &mut daemon.world);
        let (reply, effects) = completed(received, &daemon.auth.me, &*daemon.log, &daemon.askers, now);
        self.count_bodies(back);
        self.send(back, Message::Reply(reply));
        for effect in effects {
            let input = match effect {
                Effect::Authenticated => Input::Authenticated,
                Effect::Lacks => Input::PeerLacks,
                Effect::Acknowledged { upto, .. } => Input::Acknowledged(upto),
                Effect::Notified { latest, pushed } => {
                    let read = |line: &str| wire::read_pulled(line.as_bytes(), 0).unwrap();
                    Input::Notified { latest, pushed: pushed.map(|pushed| (pushed.after, read(&pushed.line))) }
                }
                other => panic!("nobody does {other:?} here"),
            };
            self.step(back, input);
        }
    }

    /// Returns the number of links from one daemon to each.
    pub fn distances(&self, from: usize) -> Vec<usize> {
        let mut distances = vec![usize::MAX; self.daemons.len()];
        distances[from] = 0;
        let mut next = VecDeque::from([from]);
        while let Some(at) = next.pop_front() {
            for line in &self.daemons[at].lines {
                let to = self.lines[*line].to;
                if distances[to] == usize::MAX {
                    distances[to] = distances[at] + 1;
                    next.push_back(to);
                }
            }
        }
        distances
    }

    pub fn diameter(&self) -> usize {
        (0..self.daemons.len()).flat_map(|at| self.distances(at)).max().unwrap()
    }

    /// Asserts that all daemons hold all events, and that their version vectors say so.
    pub fn assert_agreement(&self) {
        let heads = self.daemons[0].log.counted().unwrap();
        assert_eq!(heads.total(), self.arrivals.len() as u64, "daemon0 lacks events");
        for (n, daemon) in self.daemons.iter().enumerate() {
            assert_eq!(daemon.log.counted().unwrap(), heads, "daemon{n} holds other events");
            assert_eq!(daemon.log.heads().unwrap(), heads, "daemon{n} shows other heads than it has");
        }
    }
}
