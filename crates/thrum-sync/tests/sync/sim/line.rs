//! Connects the parts: a replicator's actions become messages and batches to be stored, and messages become inputs and
//! replies.

use std::{hash::Hash, time::Duration};

use thrum_core::{
    Error, ErrorKind,
    exchange::{Applied, Batch},
    limits,
};
use thrum_sync::{
    Log,
    conn::NoLine,
    error::PeerError,
    intake::{self, Taken},
    protocol::wire::{self, Call},
    protocol::{self, Effect},
    replicator::{Action, Input},
    transport::{Caller, Kind},
};

use super::{
    Daemon, Message, Sim,
    daemon::{Machine, Storing},
};

/// Time until it is looked again whether an event that was referred to has arrived.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Sim {
    pub(super) fn send_all(&mut self, from: usize, messages: Vec<(usize, Message)>) {
        messages.into_iter().for_each(|(to, message)| self.send(from, to, message));
    }

    pub(super) fn send(&mut self, from: usize, to: usize, message: Message) {
        self.network.send(self.tick, from, to, message);
    }

    pub(super) fn step(&mut self, at: usize, peer: &str, input: Input) {
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
                            Call::PeerInfo { .. } | Call::About(_) | Call::Differs | Call::Goodbye => {
                                traffic.infos += 1
                            }
                        }
                        let token = daemon.auth.registry.get(peer).and_then(|peer| peer.token.clone()).unwrap();
                        let pushed = match call {
                            Call::Notify { after: Some(after), ref references, .. } => {
                                protocol::push(&*daemon.log, peer, after, references.as_deref()).unwrap()
                            }
                            _ => None,
                        };
                        let text = call.line_with(id, &daemon.id, &token, pushed.as_ref());
                        machine.asked = Some((id, call));
                        machine.silent = self.tick + limits::PULL;
                        let conn = machine.conn.unwrap();
                        self.network.send(self.tick, at, to, Message::Line { conn, text });
                    }
                    Action::Apply { log, checkpoint, checkpoint_event, events } => {
                        let bodies = events.iter().filter(|event| event.reference.is_none()).count();
                        let traffic = self.traffic.entry((to, at)).or_default();
                        traffic.events += bodies;
                        traffic.referred += events.len() - bodies;
                        let (due, until) = (self.tick, self.tick);
                        machine.storing.push_back(Storing { log, checkpoint, checkpoint_event, events, due, until });
                    }
                    Action::NoteWelcome => daemon.auth.registry.token_worked(peer).unwrap(),
                    Action::NoteRemoved => panic!("nobody was removed"),
                }
            }
        }
        self.begin_storing(at, peer);
    }

    /// Closes a silent connection, as its reader does independently of the replicator: even a slow reply at least
    /// begins.
    pub(super) fn end_silence(&mut self, at: usize, peer: &str) {
        let (tick, to) = (self.tick, self.index(peer));
        let Some(machine) = self.daemons[at].machines.get_mut(peer) else { return };
        if machine.silent <= tick && machine.asked.take().is_some() {
            if let Some(conn) = machine.conn.take() {
                self.network.send(tick, at, to, Message::Closed(conn));
            }
            self.step(at, peer, Input::Disconnected(NoLine::Idle(limits::PULL).into()));
        }
    }

    /// Starts to store a batch, which takes as long as the disk. A fast disk stores it at once.
    fn begin_storing(&mut self, at: usize, peer: &str) {
        let slowest = self.slowest_disk;
        let pause = if slowest == 0 { 0 } else { self.random(slowest) };
        let tick = self.tick;
        let machine = self.daemons[at].machines.get_mut(peer);
        let Some(Machine { storing, is_storing, .. }) = machine else { return };
        let Some(batch) = storing.front_mut() else { return };
        if !std::mem::replace(is_storing, true) {
            batch.due = tick + Duration::from_millis(pause as u64);
            batch.until = batch.due + limits::REFERENCE_PATIENCE;
            self.finish_storing(at, peer);
        }
    }

    pub(super) fn finish_storing(&mut self, at: usize, peer: &str) {
        let tick = self.tick;
        self.now(at);
        let Some(machine) = self.daemons[at].machines.get_mut(peer) else { return };
        let Some(mut storing) = machine.storing.pop_front_if(|batch| batch.due <= tick) else { return };
        let Storing { log, checkpoint, checkpoint_event, events, until, .. } = &storing;
        let taken = intake::take(peer, log, *checkpoint, events, &*self.daemons[at].log).unwrap();
        let machine = self.daemons[at].machines.get_mut(peer).unwrap();
        if taken.is_none() && tick < *until {
            storing.due = tick + LOOK_AGAIN;
            machine.storing.push_front(storing);
            return;
        }
        machine.is_storing = false;
        let Some(Taken { batch, referred, repeated }) = taken else {
            // Nothing that follows it is stored.
            let following = std::mem::take(&mut machine.storing).len();
            self.tally.lacked += 1;
            let route = (self.index(peer), at);
            self.traffic.entry(route).or_default().lacked += 1;
            self.step(at, peer, Input::Lacks);
            for _ in 0..following {
                self.step(at, peer, Input::NotApplied);
            }
            return;
        };
        let daemon = &self.daemons[at];
        let result = daemon.log.apply(Batch { checkpoint_event: checkpoint_event.clone(), ..batch });
        if self.died(at) {
            return;
        }
        let stored: Applied = result.unwrap();
        let applied = Applied { referred, skipped: stored.skipped + referred, ..stored };
        self.tally.referred += referred;
        if stored.skipped > 0 {
            self.step(at, peer, Input::Repeated(repeated));
        }
        assert_eq!(applied.rejected, 0, "nobody here sends what has no form");
        (at, applied.applied, applied.skipped).hash(&mut self.trace);
        self.tally.applied += applied.applied;
        self.step(at, peer, Input::Applied(applied));
        // The next batch may have been stored meanwhile, and the daemon died in it.
        let is_up = self.daemons[at].up;
        if is_up && (applied.applied > 0 || applied.skipped > 0) {
            self.committed_from(at, peer);
        }
    }

    pub(super) fn deliver(&mut self, from: usize, to: usize, message: Message) {
        if let Some(go) = to.checked_sub(self.daemons.len()) {
            let out = self.gos[go].deliver(from, message, self.tick, &mut self.conns);
            return self.send_all(to, out);
        }
        let receiver = &self.daemons[to];
        if !receiver.up || receiver.hangs {
            if let Message::Connect(conn) = message {
                // The kernel accepts connections for a hanging process.
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
            Message::Refused(conn) if ours(&self.daemons[to], conn) => self.step(
                to,
                &peer,
                Input::ConnectFailed(PeerError::Unreachable(Error::new(ErrorKind::Unavailable, "refused"))),
            ),
            Message::Closed(conn) if ours(&self.daemons[to], conn) => {
                if let Some(machine) = self.daemons[to].machines.get_mut(&peer) {
                    (machine.conn, machine.asked) = (None, None);
                }
                self.step(to, &peer, Input::Disconnected(NoLine::Closed.into()));
            }
            Message::Closed(conn) => {
                self.daemons[to].visitors.remove(&conn);
            }
            Message::Line { conn, text } if ours(&self.daemons[to], conn) => {
                let asked = self.daemons[to].machines.get_mut(&peer).and_then(|machine| machine.asked.take());
                // A second reply to one request is unsolicited, and ends the connection.
                let input = match asked {
                    Some((id, call)) => Input::Replied(call.read(text.as_bytes(), id)),
                    None => Input::Disconnected(NoLine::Unsolicited.into()),
                };
                self.step(to, &peer, input);
            }
            Message::Line { conn, text } if self.daemons[to].visitors.contains_key(&conn) => {
                self.answer(from, to, conn, &text)
            }
            Message::Line { conn, .. } => self.send(to, from, Message::Closed(conn)),
            Message::Accepted(_) | Message::Refused(_) => {}
        }
    }

    fn answer(&mut self, from: usize, to: usize, conn: u64, line: &str) {
        let now = self.now(to);
        let daemon = &mut self.daemons[to];
        let caller = Caller { address: format!("127.0.0.1:{conn}"), kind: Kind::Local, node: None };
        let received = protocol::receive(&mut daemon.auth, line.as_bytes(), &mut caller.into(), now, &mut daemon.world);
        let peer = received.peer.clone();
        let (reply, effects) = crate::kit::completed(received, &daemon.auth.me, &*daemon.log, &daemon.askers, now);
        self.send(to, from, Message::Line { conn, text: reply });
        let peer = peer.expect("every token is good");
        for effect in effects {
            if let Effect::Acknowledged { log, upto } = &effect {
                self.believe(to, from, log, *upto);
            }
            let input = match effect {
                Effect::Authenticated => Input::Authenticated,
                Effect::Stopping => Input::Stopping,
                Effect::Notified { latest, pushed } => {
                    let pushed =
                        pushed.map(|pushed| (pushed.after, wire::read_pulled(pushed.line.as_bytes(), 0).unwrap()));
                    Input::Notified { latest, pushed }
                }
                Effect::Lacks => Input::PeerLacks,
                Effect::Acknowledged { upto, .. } => Input::Acknowledged(upto),
                Effect::Paired(_)
                | Effect::PairingMoved
                | Effect::TokenMisused { .. }
                | Effect::Differs
                | Effect::Lent => {
                    continue;
                }
            };
            self.step(to, &peer, input);
        }
    }
}
