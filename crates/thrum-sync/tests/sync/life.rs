//! One history of several daemons, entirely determined by the seed: pairings, actions of agents, and faults.

mod trouble;

use std::time::Duration;

use serde_json::json;
use thrum_core::limits;
use thrum_store::ops::{Heartbeat, Register, Send};

use crate::sim::{Copied, Sim, Tally};

/// Longer than the longest backoff and a few sync intervals.
pub const REST: Duration = Duration::from_secs(700);

const ROLES: [&str; 3] = ["coder", "reviewer", "tester"];

/// State between the steps of a history.
struct Life {
    sim: Sim,
    /// Number of active daemons. The last one may be reserved for a copy.
    count: usize,
    copy: Option<usize>,
    /// Acknowledged messages: their author's daemon and name, and the message.
    messages: Vec<(usize, String, String)>,
    sessions: Vec<(usize, String)>,
    backups: Vec<(usize, Copied)>,
    names: usize,
}

/// Runs one history to its end, repairs all faults, and asserts all seven properties.
pub fn live(seed: u64) -> (Tally, u64) {
    let mut life = Life::begin(seed);
    let things = 40 + life.sim.random(30);
    for _ in 0..things {
        life.something_happens();
        let longest = if life.sim.one_in(12) { 120_000 } else { 4_000 };
        let pause = Duration::from_millis(life.sim.random(longest) as u64);
        life.sim.run_for(pause);
    }
    life.end()
}

impl Life {
    fn begin(seed: u64) -> Self {
        let mut dice = Sim::new(seed, 0);
        let count = 2 + dice.random(3) + if dice.one_in(4) { dice.random(4) } else { 0 };
        let with_copy = dice.one_in(5);
        let with_old = dice.one_in(6);
        let with_git = !with_old && dice.one_in(3);
        let mut sim = Sim::new(seed.wrapping_mul(31).wrapping_add(7), count + usize::from(with_copy));
        sim.most_per_pull = [2, 10, limits::MAX_BATCH_EVENTS][dice.random(3)];
        let encrypts = with_git && sim.one_in(4);
        for at in (0..count).filter(|_| with_git) {
            // The first two, and others.
            if at < 2 || sim.one_in(2) {
                sim.switch_git_on(at, encrypts);
            }
        }
        for at in 1..count {
            let to = sim.random(at);
            // Daemons on the remote need no other way, and some have both.
            if sim.is_on_git(at) && sim.is_on_git(to) && sim.one_in(2) {
                sim.trust(at, to, true);
                sim.trust(to, at, true);
            } else {
                sim.pair(to, at);
            }
        }
        // Usually there are cycles, too.
        for _ in 0..1 + count / 3 {
            let (one, other) = (sim.random(count), sim.random(count));
            if one != other && !sim.are_paired(one, other) {
                sim.pair(one, other);
            }
        }
        if with_copy {
            sim.reserve(count);
        }
        if with_old {
            sim.add_go();
            let at = sim.random(count);
            sim.pair_go(at, 0);
        }
        // In one of three histories, a clock is up to a day off.
        if !with_old && sim.one_in(3) {
            let (at, seconds) = (sim.random(count), sim.random(2 * 86_400));
            sim.skew(at, i64::try_from(seconds).unwrap() - 86_400);
        }
        sim.slowest_disk = sim.random(3) * 40;
        if with_git {
            sim.git_faults = [0, 10, 40][sim.random(3)];
        }
        let copy = with_copy.then_some(count);
        let mut life = Self { sim, count, copy, messages: vec![], sessions: vec![], backups: vec![], names: 0 };
        (0..count).for_each(|at| life.register(at));
        life
    }

    /// Picks a daemon that runs and answers.
    fn somebody(&mut self) -> Option<usize> {
        let at = self.sim.random(self.sim.daemons.len());
        let daemon = &self.sim.daemons[at];
        (daemon.up && !daemon.hangs && !daemon.agents.is_empty()).then_some(at)
    }

    fn agent_of(&mut self, at: usize) -> String {
        let n = self.sim.random(self.sim.daemons[at].agents.len());
        self.sim.daemons[at].agents[n].clone()
    }

    fn something_happens(&mut self) {
        match self.sim.random(100) {
            0..60 => {
                if let Some(at) = self.somebody() {
                    self.somebody_works(at);
                }
            }
            60..75 => self.a_daemon_ends_or_begins(),
            75..88 => self.the_network_changes(),
            88..92 => self.a_clock_jumps(),
            92..96 => self.a_disk_is_replaced(),
            _ => self.something_rare(),
        }
    }

    fn somebody_works(&mut self, at: usize) {
        let agent = self.agent_of(at);
        match self.sim.random(40) {
            0..18 => self.send(at, agent),
            18..24 => self.edit_or_delete(at),
            24..29 => self.read(at, &agent),
            29..34 => self.session(at, &agent),
            34 | 35 => self.register(at),
            36 => self.delete_agent(at, &agent),
            37 if self.sim.one_in(3) => self.purge(at),
            38 => self.sim.poison(at),
            _ => self.old_peer(),
        }
    }

    fn send(&mut self, at: usize, from: String) {
        let known: Vec<String> = self.sim.daemons.iter().flat_map(|daemon| daemon.agents.iter().cloned()).collect();
        let to = known[self.sim.random(known.len())].clone();
        let mentions = match self.sim.random(6) {
            0 => vec![],
            1 => vec!["everyone".to_owned()],
            2 => vec![ROLES[self.sim.random(3)].to_owned()],
            3 => vec![to, known[self.sim.random(known.len())].clone()],
            _ => vec![to],
        };
        let parent = self.messages.len().checked_sub(1).map(|last| self.messages[self.sim.random(last + 1)].2.clone());
        let reply_to = parent.filter(|_| self.sim.one_in(3));
        let to_parent_audience = reply_to.is_some() && self.sim.one_in(2);
        let mentions = if to_parent_audience { vec![] } else { mentions };
        let content = format!("the {}th thing", self.messages.len());
        let send = Send { from: from.clone(), content, reply_to, mentions, to_parent_audience, ..Send::default() };
        if let Some(sent) = self.sim.act(at, |tx| tx.send(send)) {
            self.messages.push((at, from, sent.message_id));
        }
    }

    fn edit_or_delete(&mut self, at: usize) {
        let own: Vec<(String, String)> = self
            .messages
            .iter()
            .filter(|(author, ..)| *author == at)
            .map(|(_, agent, id)| (agent.clone(), id.clone()))
            .collect();
        if own.is_empty() {
            return;
        }
        let (agent, message) = own[self.sim.random(own.len())].clone();
        if self.sim.one_in(4) {
            self.sim.act(at, |tx| tx.delete(&agent, &message, None));
        } else {
            let text = format!("edited at {:?}", self.sim.tick);
            self.sim.act(at, |tx| tx.edit(&agent, &message, Some(text), None));
        }
    }

    fn read(&mut self, at: usize, agent: &str) {
        if self.messages.is_empty() || self.sim.one_in(3) {
            self.sim.act(at, |tx| tx.mark_all_read(agent));
        } else {
            let message = self.messages[self.sim.random(self.messages.len())].2.clone();
            self.sim.act(at, |tx| tx.mark_read(agent, &[message]));
        }
    }

    fn session(&mut self, at: usize, agent: &str) {
        let open: Vec<String> =
            self.sessions.iter().filter(|(home, _)| *home == at).map(|(_, id)| id.clone()).collect();
        let known = open.len().checked_sub(1).map(|last| open[self.sim.random(last + 1)].clone());
        match (self.sim.random(4), known) {
            (0, Some(session)) => drop(self.sim.act(at, |tx| tx.set_intent(&session, "survive"))),
            (1, Some(session)) => drop(self.sim.act(at, |tx| tx.set_task(&session, "get through"))),
            (2, Some(session)) => drop(self.sim.act(at, |tx| tx.end_session(&session, None))),
            _ => {
                let begun = self.sim.act(at, |tx| tx.start_session(agent, Heartbeat::default()));
                self.sessions.extend(begun.map(|(session, _)| (at, session)));
            }
        }
    }

    /// Registers a new agent, an existing one with another role, or one with a name that another machine uses, too.
    fn register(&mut self, at: usize) {
        let name = match self.sim.random(3) {
            0 if !self.sim.daemons[at].agents.is_empty() => self.agent_of(at),
            1 => "twin".to_owned(),
            _ => {
                self.names += 1;
                format!("helper{}", self.names)
            }
        };
        self.registers(at, name);
    }

    fn registers(&mut self, at: usize, name: String) {
        let role = ROLES[self.sim.random(3)].to_owned();
        let agent = Register { name: name.clone(), role, module: name.clone(), force: true, ..Register::default() };
        if self.sim.act(at, |tx| tx.register(agent)).is_some() && !self.sim.daemons[at].agents.contains(&name) {
            self.sim.daemons[at].agents.push(name);
        }
    }

    fn delete_agent(&mut self, at: usize, agent: &str) {
        if self.sim.daemons[at].agents.len() > 1 && self.sim.act(at, |tx| tx.delete_agent(agent, None)).is_some() {
            self.sim.daemons[at].agents.retain(|known| known != agent);
        }
    }

    fn purge(&mut self, at: usize) {
        // Usually in the past for every clock, sometimes only for the local one.
        let before = if self.sim.one_in(3) { self.sim.a_moment_ago(at) } else { self.sim.some_time_ago() };
        // If the result was not acknowledged, it is unknown whether the purge took effect. Then it counts as effective.
        self.sim.purge(at, before);
    }

    fn old_peer(&mut self) {
        if self.sim.gos.first().is_none_or(|go| !go.up) {
            return;
        }
        match (self.sim.random(4), self.sim.gos[0].any_message()) {
            (0, Some((message, true))) => {
                self.sim.go_writes(
                    0,
                    "message.edit",
                    json!({"message_id": message, "body": {"content": "edited there"}}),
                );
            }
            (1, Some((message, _))) => {
                let receipt = json!({"message_id": message, "agent_id": "goagent", "receipt_type": "read"});
                self.sim.go_writes(0, "message.receipt", receipt);
            }
            _ => drop(crate::legacy::say(&mut self.sim, "from there")),
        }
    }

    fn end(mut self) -> (Tally, u64) {
        self.sim.heal();
        self.sim.run_for(REST + self.sim.rest_of_git());
        self.sim.assert_properties();
        if !self.sim.gos.is_empty() {
            crate::legacy::assert_exchanged(&self.sim, self.sim.purged.before);
        }
        self.sim.sum_up()
    }
}
