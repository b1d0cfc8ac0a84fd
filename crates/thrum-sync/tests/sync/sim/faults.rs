//! Faults of daemons: they die, return, lose their disk, are copied, hang, have a wrong clock.

use std::sync::Arc;

use serde_json::json;
use thrum_core::{Ambient, Timestamp};
use thrum_sync::{intake, protocol::wire::Served, transport::memory::Weather};

use super::{Copied, Message, Sim};

/// How a start ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Well,
    /// The database has counted the opening, but `daemon.json` was not written.
    DiesBetween,
}

impl Sim {
    /// Kills the daemon's process, as by `kill -9` with a power failure: unsynced writes may be lost.
    pub fn crash(&mut self, at: usize) {
        if self.daemons[at].up && !self.daemons[at].hangs {
            self.tally.kills += 1;
            self.tell(format_args!("daemon{at} is killed"));
            self.daemons[at].crash();
        }
    }

    /// Stops the daemon regularly. Returns `false` if it is not running, or if its disk fails meanwhile.
    pub fn stop(&mut self, at: usize) -> bool {
        if self.daemons[at].up && !self.daemons[at].hangs {
            self.tally.stops += 1;
            self.tell(format_args!("daemon{at} stops"));
            self.daemons[at].stop();
            return !self.died(at);
        }
        false
    }

    /// Lets the daemon die during or after one of its next writes.
    pub fn plan_crash(&mut self, at: usize, steps: usize, torn: bool) {
        if self.daemons[at].up {
            self.tell(format_args!("daemon{at} will die after {steps} steps of its disk (torn: {torn})"));
            self.daemons[at].plan_crash(steps as u64, torn);
        }
    }

    /// Returns `true` if the daemon has just died with its disk; it is down then.
    pub(super) fn died(&mut self, at: usize) -> bool {
        let died = self.daemons[at].has_died();
        if died {
            self.tally.crashes_within_a_write += 1;
            self.tell(format_args!("daemon{at} dies in a write"));
            self.daemons[at].crash();
        }
        died
    }

    /// Starts the daemon again from its disk.
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
        let peers: Vec<String> =
            self.daemons[at].auth.registry.peers().iter().map(|peer| peer.daemon_id.clone()).collect();
        for peer in peers {
            self.drive(at, &peer);
        }
    }

    /// Copies everything that a daemon has, while it is down or between two writes.
    pub fn copy(&self, at: usize) -> Copied {
        self.daemons[at].copy()
    }

    /// Restores the database from an earlier copy while the daemon is down. `daemon.json` stays.
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

    /// Restores everything: nothing beside the database shows that it is older.
    pub fn restore_directory(&mut self, at: usize, copied: &Copied) {
        self.replace(at, copied);
        self.daemons[at].left.clone_from(&copied.left);
    }

    /// Moves the repository to another place.
    pub fn move_repository(&mut self, at: usize) {
        self.tally.moved_repositories += 1;
        self.tell(format_args!("the repository of daemon{at} moves"));
        self.daemons[at].moved = true;
    }

    /// Turns a daemon that has never run into a copy of another one, with its own identity.
    pub fn copy_repository(&mut self, from: usize, to: usize) {
        self.tally.copied_repositories += 1;
        self.tell(format_args!("the repository of daemon{from} is copied to daemon{to}"));
        let copied = self.copy(from);
        let tick = self.tick;
        self.daemons[to].gone = false;
        self.daemons[to].become_copy(&copied, tick);
        self.start(to);
    }

    /// Clones a machine with its daemon, including its path: nothing distinguishes the two.
    pub fn clone_machine(&mut self, from: usize, to: usize) {
        let tick = self.tick;
        let (one, other) = self.daemons.split_at_mut(to);
        other[0].become_twin(&one[from], tick);
        other[0].gone = false;
        self.start(to);
    }

    /// Makes this daemon the one that is reached by the shared id from now on.
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

    /// Removes a daemon until it becomes a copy of another one.
    pub fn reserve(&mut self, at: usize) {
        self.daemons[at].crash();
        self.daemons[at].gone = true;
        self.daemons[at].agents.clear();
    }

    /// Makes the daemon accept connections and lines, but answer nothing any more.
    pub fn hang(&mut self, at: usize) {
        self.tally.hanging_peers += 1;
        self.tell(format_args!("daemon{at} hangs"));
        self.forget_what_only_was_here(at, &Copied::default());
        self.daemons[at].hangs = true;
        self.daemons[at].machines.clear();
    }

    /// Returns `true` if the others still reach each other when this daemon hangs, and no other hangs. Never with a
    /// legacy peer: events that only it and the hanging daemon hold cannot be decision.
    pub fn can_hang(&self, at: usize) -> bool {
        let there = |n: &usize| *n != at && !self.daemons[*n].gone;
        let others: Vec<usize> = (0..self.daemons.len()).filter(there).collect();
        if others.len() < 2
            || !self.gos.is_empty()
            || !self.daemons[at].up
            || self.daemons.iter().any(|daemon| daemon.hangs)
        {
            return false;
        }
        let mut reached = vec![others[0]];
        let mut next = 0;
        while let Some(from) = reached.get(next).copied() {
            next += 1;
            let peers = self.daemons[from].auth.registry.peers().iter().map(|peer| self.index(&peer.daemon_id));
            let fresh: Vec<usize> = peers.filter(|to| *to != at && !reached.contains(to)).collect();
            reached.extend(fresh);
        }
        reached.len() == others.len()
    }

    /// Stores a well-formed event of a foreign daemon that cannot be folded.
    pub fn poison(&mut self, at: usize) {
        let (kind, mut event) = match self.random(6) {
            0 => ("message.pinned", json!({"message_id": "msg_x"})),
            1 => ("message.create", json!({"message_id": 5, "agent_id": ["nobody"], "body": "text"})),
            2 => (
                "message.create",
                json!({"message_id": "m".repeat(5000), "agent_id": "stranger", "body": {"content": "long id"}}),
            ),
            3 => ("message.edit", json!({"message_id": "msg_nobody_wrote", "body": {"content": "?"}})),
            4 => ("purge.executed", json!({"cutoff": "the day before yesterday"})),
            _ => ("agent.update", json!({"agent_id": "stranger", "work_contexts": {"not": "a list"}})),
        };
        // Unique, because one id with two contents is a different case, in which each daemon keeps the first one it
        // saw.
        let id = format!("evt_poison{:016x}", self.world.random_u64());
        event["v"] = json!(1);
        let envelope =
            [Some(id.clone()), Some(kind.to_owned()), Some(self.wall().to_string()), Some("d_stranger".to_owned())];
        let served = vec![Served { sequence: 1, envelope, event_json: event.to_string(), reference: None }];
        let log = Arc::clone(&self.daemons[at].log);
        let batch = intake::batch("d_stranger", "", 0, &served, &*log).unwrap();
        if self.act(at, |tx| tx.apply(&batch)).is_some() {
            self.tally.poisoned_events += 1;
            self.poison.push(id);
        }
    }

    /// Purges messages older than this.
    pub fn purge(&mut self, at: usize, before: Timestamp) {
        self.act(at, |tx| tx.purge(before));
    }

    /// Returns the number of daemons, including legacy ones.
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

    /// Closes a connection of a daemon at any point. With `at_one_end`, the other end does not notice.
    pub fn close_connection(&mut self, at: usize, n: usize, at_one_end: bool) {
        let all = self.daemons[at].connections(|peer| self.index(peer));
        let Some((conn, other)) = all.iter().nth(n % all.len().max(1)).copied() else { return };
        self.tally.closed_connections += 1;
        self.deliver(other, at, Message::Closed(conn));
        if !at_one_end {
            self.deliver(at, other, Message::Closed(conn));
        }
    }

    /// Prints an event when one seed is replayed.
    #[expect(clippy::print_stderr, reason = "for whoever replays a seed")]
    pub fn tell(&self, what: std::fmt::Arguments<'_>) {
        if crate::simulation::seeds::only_seed().is_some() {
            eprintln!("{:>9.3} s: {what}", self.tick.as_secs_f64());
        }
    }

    /// Repairs all faults: all daemons are up, the network has no faults and no partitions, and all clocks are right.
    pub fn heal(&mut self) {
        self.network.heal();
        self.network.weather = Weather::CALM;
        self.slowest_disk = 0;
        self.heal_git();
        for at in 0..self.daemons.len() {
            self.daemons[at].disk.mend();
            // The clock that was furthest ahead becomes the right time, so that nothing lies in the future any more.
            self.daemons[at].skew = self.furthest;
            self.start(at);
        }
        let tick = self.tick;
        self.gos.iter_mut().filter(|go| !go.up).for_each(|go| go.start(tick));
    }
}
