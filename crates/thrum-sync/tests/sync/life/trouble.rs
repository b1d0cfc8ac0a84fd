//! Faults in a history: processes, the network, clocks, disks.

use std::time::Duration;

use thrum_sync::transport::memory::Weather;

use super::Life;
use crate::sim::Start;

impl Life {
    pub(super) fn a_daemon_ends_or_begins(&mut self) {
        let at = self.sim.random(self.sim.daemons.len());
        if !self.sim.gos.is_empty() && self.sim.one_in(5) {
            return match self.sim.gos[0].up {
                true => self.sim.gos[0].crash(),
                false => self.sim.gos[0].start(self.sim.tick),
            };
        }
        match self.sim.random(8) {
            0 => {
                self.sim.stop(at);
            }
            1 => self.sim.crash(at),
            2..5 => {
                let (steps, torn) = (self.sim.random(80), self.sim.one_in(2));
                self.sim.plan_crash(at, steps, torn);
            }
            5 => self.sim.start_so(at, Start::DiesBetween),
            _ => self.sim.start(at),
        }
    }

    pub(super) fn the_network_changes(&mut self) {
        let (at, other) = (self.sim.random(self.sim.places()), self.sim.random(self.sim.places()));
        match self.sim.random(5) {
            0 if at != other => {
                self.sim.tally.partitions += 1;
                self.sim.network.cut(at, other, true);
            }
            1 if at != other => {
                self.sim.tally.one_way_partitions += 1;
                self.sim.network.cut_way(at, other, true);
            }
            2 => self.sim.network.heal(),
            3 if at < self.sim.daemons.len() => {
                let (n, at_one_end) = (self.sim.random(100), self.sim.one_in(2));
                self.sim.close_connection(at, n, at_one_end);
            }
            _ => {
                let slowest = if self.sim.one_in(5) { 15_000 } else { 300 };
                let latency = (Duration::from_millis(1), Duration::from_millis(1 + self.sim.random(slowest) as u64));
                let (loss, duplication) = (self.sim.random(25), self.sim.random(15));
                self.sim.network.weather = Weather {
                    latency,
                    loss: u8::try_from(loss).unwrap(),
                    duplication: u8::try_from(duplication).unwrap(),
                };
            }
        }
    }

    pub(super) fn a_clock_jumps(&mut self) {
        // A legacy peer that has read a log from the future would not read the next one until then: a limit of its
        // protocol.
        if self.sim.gos.is_empty() {
            let (at, seconds) = (self.sim.random(self.sim.daemons.len()), self.sim.random(2 * 86_400));
            let seconds = i64::try_from(seconds).unwrap() - 86_400;
            let seconds = if self.sim.one_in(2) { seconds } else { seconds % 120 };
            self.sim.skew(at, seconds);
        }
    }

    pub(super) fn a_disk_is_replaced(&mut self) {
        let at = self.sim.random(self.count);
        if self.sim.daemons[at].hangs {
            return;
        }
        let backup = self.backups.iter().rev().find(|(of, _)| *of == at).map(|(_, copied)| copied.clone());
        match (self.sim.random(6), backup) {
            (0, _) => {
                self.sim.crash(at);
                self.sim.delete_database(at);
            }
            // A copy is normally restored with the daemon stopped. If the daemon is killed instead, and the copy is
            // newer than the last recorded end of the log, the restore is not detected; `sync verify` finds the lost
            // events.
            (1 | 2, Some(backup)) => {
                if self.sim.stop(at) {
                    self.sim.restore(at, &backup);
                }
            }
            (3, _) => {
                self.sim.crash(at);
                self.sim.move_repository(at);
            }
            _ => self.backups.push((at, self.sim.copy(at))),
        }
        self.sim.start(at);
        // Its agents start their next session with a registration.
        for name in self.sim.daemons[at].agents.clone() {
            if self.sim.daemons[at].up {
                self.registers(at, name);
            }
        }
    }

    pub(super) fn something_rare(&mut self) {
        let at = self.sim.random(self.count);
        if self.sim.is_on_git(at) && self.sim.one_in(2) {
            return self.the_remote_changes(at);
        }
        match self.sim.random(4) {
            0 | 1 => self.copy_repository(),
            2 if self.sim.can_hang(at) => self.sim.hang(at),
            _ if !self.sim.gos.is_empty() && self.sim.one_in(3) => self.sim.gos[0].lose_database(),
            _ => {}
        }
    }

    fn the_remote_changes(&mut self, at: usize) {
        let other = self.sim.random(self.count);
        match self.sim.random(4) {
            0 => self.sim.delete_ref(at),
            1 => self.sim.remote.collect_garbage(),
            2 if other != at && self.sim.is_on_git(other) => {
                let trusts = self.sim.one_in(2);
                self.sim.trust(at, other, trusts);
            }
            _ => self.sim.git_faults = [0, 10, 40, 100][self.sim.random(4)],
        }
    }

    /// Clones a machine. The copy is then made a daemon of its own, and paired.
    fn copy_repository(&mut self) {
        let Some(copy) = self.copy else { return };
        let from = self.sim.random(self.count);
        if self.sim.daemons[from].hangs {
            return;
        }
        self.copy = None;
        self.sim.copy_repository(from, copy);
        let to = (0..self.count).find(|at| self.sim.daemons[*at].up && !self.sim.daemons[*at].hangs);
        if let Some(to) = to.filter(|_| self.sim.daemons[copy].up) {
            self.sim.pair(to, copy);
            self.register(copy);
        } else {
            self.sim.reserve(copy);
            self.copy = Some(copy);
        }
    }
}
