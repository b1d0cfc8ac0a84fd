//! What happens to daemons: they die, come back, lose their disk, are copied, hang, have a wrong clock.

use std::sync::Arc;

use serde_json::json;
use thrum_core::{Ambient, Stamp};
use thrum_sync::{intake, transport::memory::Weather, wire::Served};

use super::{Copied, Message, Sim};

/// How a start ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Well,
    /// The database has counted the opening, `daemon.json` does not know of it.
    DiesBetween,
}

impl Sim {
    /// The daemon's process is gone, as by `kill -9` with the power: what was not synced may be lost.
    pub fn crash(&mut self, at: usize) {
        if self.daemons[at].up && !self.daemons[at].hangs {
            self.tally.kills += 1;
            self.tell(format_args!("daemon{at} is killed"));
            self.daemons[at].crash();
        }
    }

    /// The daemon ends as it is asked to. `false` if it does not run, or its disk dies meanwhile.
    pub fn stop(&mut self, at: usize) -> bool {
        if self.daemons[at].up && !self.daemons[at].hangs {
            self.tally.stops += 1;
            self.tell(format_args!("daemon{at} stops"));
            self.daemons[at].stop();
            return !self.died(at);
        }
        false
    }

    /// The daemon will die in the middle of what it writes next, or after that.
    pub fn plan_crash(&mut self, at: usize, steps: usize, torn: bool) {
        if self.daemons[at].up {
            self.tell(format_args!("daemon{at} will die after {steps} steps of its disk (torn: {torn})"));
            self.daemons[at].plan_crash(steps as u64, torn);
        }
    }

    /// Whether the daemon has just died of its disk; then it is down.
    pub(super) fn died(&mut self, at: usize) -> bool {
        let died = self.daemons[at].has_died();
        if died {
            self.tally.crashes_within_a_write += 1;
            self.tell(format_args!("daemon{at} dies in a write"));
            self.daemons[at].crash();
        }
        died
    }

    /// The daemon starts again from what is on disk.
    pub fn start(&mut self, at: usize) {
        self.start_so(at, Start::Well);
    }

    pub fn start_so(&mut self, at: usize, how: Start) {
        if self.daemons[at].up || self.daemons[at].gone {
            return;
        }
        self.now(at);
        let opened = self.daemons[at].open();
        if self.died(at) {
            return;
        }
        let store = opened.unwrap();
        if how == Start::DiesBetween {
            self.tally.crashes_between_database_and_daemon_json += 1;
            self.tell(format_args!("daemon{at} dies before it writes daemon.json"));
            self.daemons[at].disk.crash();
            drop(store);
            return self.daemons[at].crash();
        }
        self.daemons[at].written_down(store);
        self.tally.starts += 1;
        self.tell(format_args!("daemon{at} starts"));
        self.committed(at);
        self.p2_what_was_acknowledged_here_is_here(at);
        let peers: Vec<String> = self.daemons[at].desk.registry.peers().iter().map(|peer| peer.daemon_id.clone()).collect();
        for peer in peers {
            self.drive(at, &peer);
        }
    }

    /// A copy of everything a daemon has, while it is down or between two of its writes.
    pub fn copy(&self, at: usize) -> Copied {
        self.daemons[at].copy()
    }

    /// Puts the database back to an earlier copy, while the daemon is down; `daemon.json` stays.
    pub fn restore(&mut self, at: usize, copied: &Copied) {
        self.tally.restored_databases += 1;
        self.tell(format_args!("the database of daemon{at} is restored"));
        self.replace(at, copied);
    }

    /// Deletes the database of a daemon that is down.
    pub fn delete_database(&mut self, at: usize) {
        self.tally.deleted_databases += 1;
        self.tell(format_args!("the database of daemon{at} is deleted"));
        self.replace(at, &Copied::default());
    }

    /// The same with all that belongs to it: nothing beside the database tells that it is older.
    pub fn restore_directory(&mut self, at: usize, copied: &Copied) {
        self.replace(at, copied);
        self.daemons[at].left.clone_from(&copied.left);
    }

    /// The repository goes to another place.
    pub fn move_repository(&mut self, at: usize) {
        self.tally.moved_repositories += 1;
        self.tell(format_args!("the repository of daemon{at} moves"));
        self.daemons[at].moved = true;
    }

    /// A daemon that has never run becomes a copy of another one, with an identity of its own.
    pub fn copy_repository(&mut self, from: usize, to: usize) {
        self.tally.copied_repositories += 1;
        self.tell(format_args!("the repository of daemon{from} is copied to daemon{to}"));
        let copied = self.copy(from);
        let tick = self.tick;
        self.daemons[to].gone = false;
        self.daemons[to].become_copy(&copied, tick);
        self.start(to);
    }

    /// A machine is cloned with its daemon in it, path and all: nothing there tells the two apart.
    pub fn clone_machine(&mut self, from: usize, to: usize) {
        let tick = self.tick;
        let (one, other) = self.daemons.split_at_mut(to);
        other[0].become_twin(&one[from], tick);
        other[0].gone = false;
        self.start(to);
    }

    /// From now on this one answers where the name of both leads to.
    pub fn answers_for_both(&mut self, at: usize) {
        self.routes.insert(self.daemons[at].id.clone(), at);
    }

    fn replace(&mut self, at: usize, copied: &Copied) {
        assert!(!self.daemons[at].up, "files are replaced while nobody has them open");
        let tick = self.tick;
        self.daemons[at].put(copied, tick);
        self.believed.retain(|(of, by, _), _| *of != at && *by != at);
        self.forget_what_only_was_here(at, copied);
    }

    /// A daemon that is not there, until it becomes a copy of another one.
    pub fn reserve(&mut self, at: usize) {
        self.daemons[at].crash();
        self.daemons[at].gone = true;
        self.daemons[at].agents.clear();
    }

    /// The daemon takes connections and lines from now on and answers nothing any more.
    pub fn hang(&mut self, at: usize) {
        self.tally.hanging_peers += 1;
        self.tell(format_args!("daemon{at} hangs"));
        self.forget_what_only_was_here(at, &Copied::default());
        self.daemons[at].hangs = true;
        self.daemons[at].machines.clear();
    }

    /// Whether the others still reach each other if this one hangs, and nobody hangs yet. With an old peer nobody does: what
    /// that one has only from whoever hangs is nobody's to judge.
    pub fn can_hang(&self, at: usize) -> bool {
        let there = |n: &usize| *n != at && !self.daemons[*n].gone;
        let others: Vec<usize> = (0..self.daemons.len()).filter(there).collect();
        if others.len() < 2 || !self.gos.is_empty() || !self.daemons[at].up || self.daemons.iter().any(|daemon| daemon.hangs) {
            return false;
        }
        let mut reached = vec![others[0]];
        let mut next = 0;
        while let Some(from) = reached.get(next).copied() {
            next += 1;
            let peers = self.daemons[from].desk.registry.peers().iter().map(|peer| self.index(&peer.daemon_id));
            let fresh: Vec<usize> = peers.filter(|to| *to != at && !reached.contains(to)).collect();
            reached.extend(fresh);
        }
        reached.len() == others.len()
    }

    /// An event of a daemon that is not here reaches this one: of good form, and nothing that anybody could fold.
    pub fn poison(&mut self, at: usize) {
        let (kind, mut event) = match self.random(6) {
            0 => ("message.pinned", json!({"message_id": "msg_x"})),
            1 => ("message.create", json!({"message_id": 5, "agent_id": ["nobody"], "body": "text"})),
            2 => ("message.create", json!({"message_id": "m".repeat(5000), "agent_id": "stranger", "body": {"content": "long id"}})),
            3 => ("message.edit", json!({"message_id": "msg_nobody_wrote", "body": {"content": "?"}})),
            4 => ("purge.executed", json!({"cutoff": "the day before yesterday"})),
            _ => ("agent.update", json!({"agent_id": "stranger", "work_contexts": {"not": "a list"}})),
        };
        // Never twice: one id with two contents is another matter, and each daemon keeps the one it saw first.
        let id = format!("evt_poison{:016x}", self.world.random_u64());
        event["v"] = json!(1);
        let envelope = [Some(id.clone()), Some(kind.to_owned()), Some(self.wall().to_string()), Some("d_stranger".to_owned())];
        let served = vec![Served { sequence: 1, envelope, event_json: event.to_string() }];
        let log = Arc::clone(&self.daemons[at].log);
        let batch = intake::batch("d_stranger", "", 0, served, &*log).unwrap();
        if self.act(at, |tx| tx.apply(&batch)).is_some() {
            self.tally.poisoned_events += 1;
            self.poison.push(id);
        }
    }

    /// Somebody throws away what is older.
    pub fn purge(&mut self, at: usize, before: Stamp) {
        self.act(at, |tx| tx.purge(before));
    }

    /// How many daemons there are, old ones included.
    pub fn places(&self) -> usize {
        self.daemons.len() + self.gos.len()
    }

    /// Sets a daemon's clock wrong.
    pub fn skew(&mut self, at: usize, seconds: i64) {
        self.tally.clock_jumps += 1;
        self.tell(format_args!("the clock of daemon{at} is off by {seconds} s"));
        self.daemons[at].skew = seconds * 1_000_000_000;
        self.furthest = self.furthest.max(self.daemons[at].skew);
    }

    /// Closes a connection of a daemon in the middle of whatever goes on there; at one end only, the other one hears nothing.
    pub fn close_connection(&mut self, at: usize, n: usize, at_one_end: bool) {
        let all = self.daemons[at].connections(|peer| self.index(peer));
        let Some((conn, other)) = all.iter().nth(n % all.len().max(1)).copied() else { return };
        self.tally.closed_connections += 1;
        self.deliver(other, at, Message::Closed(conn));
        if !at_one_end {
            self.deliver(at, other, Message::Closed(conn));
        }
    }

    /// Says what happens, where one seed is replayed.
    #[expect(clippy::print_stderr, reason = "for whoever replays a seed")]
    pub fn tell(&self, what: std::fmt::Arguments<'_>) {
        if crate::simulation::seeds::only_seed().is_some() {
            eprintln!("{:>9.3} s: {what}", self.tick.as_secs_f64());
        }
    }

    /// Everybody is up, the weather is calm, every way is open, and every clock shows the time.
    pub fn heal(&mut self) {
        self.network.heal();
        self.network.weather = Weather::CALM;
        self.slowest_disk = 0;
        for at in 0..self.daemons.len() {
            self.daemons[at].disk.mend();
            // The clock that was furthest ahead was right, then: what lay in the future of others does so no more.
            self.daemons[at].skew = self.furthest;
            self.start(at);
        }
        let tick = self.tick;
        self.gos.iter_mut().filter(|go| !go.up).for_each(|go| go.start(tick));
    }
}
