//! Checks over all daemons for the smaller tests.

use std::{
    collections::BTreeSet,
    hash::{Hash, Hasher},
};

use thrum_core::limits;
use thrum_sync::{Log, legacy::serving::Skipped};

use super::{Daemon, Sim, Tally};
use crate::kit::StoreLog;

impl Sim {
    /// Returns the events that any daemon skips for legacy peers.
    pub fn skipped(&self) -> Vec<Skipped> {
        let by = |daemon: &Daemon| {
            self.gos.iter().flat_map(|go| daemon.askers.lock().unwrap().skipped(&go.id)).collect::<Vec<_>>()
        };
        self.daemons.iter().flat_map(by).collect()
    }

    /// Returns the counts and a hash of all actions and their result, which is the same in every run of a seed.
    pub fn sum_up(mut self) -> (Tally, u64) {
        let toll = self.network.toll();
        let count = |n: u64| usize::try_from(n).unwrap();
        (self.tally.sent, self.tally.lost, self.tally.doubled) =
            (count(toll.sent), count(toll.lost), count(toll.doubled));
        self.tally.old_peers = self.gos.len();
        let ends: Vec<_> =
            self.healthy().iter().map(|daemon| (daemon.log.event_ids(), daemon.log.projection().unwrap())).collect();
        ends.hash(&mut self.trace);
        (self.tally, self.trace.finish())
    }

    /// Returns the daemons that run and answer.
    pub fn healthy(&self) -> Vec<&Daemon> {
        self.daemons.iter().filter(|daemon| daemon.up && !daemon.hangs).collect()
    }

    /// Asserts that all daemons hold the same events with the same projection, and that their digests match their rows.
    pub fn assert_agreement(&self) {
        let healthy = self.healthy();
        let first = &healthy[0].log;
        let sorted = |log: &StoreLog| log.event_ids().into_iter().collect::<BTreeSet<_>>();
        let all = sorted(first);
        for daemon in &healthy[1..] {
            let (name, here) = (&daemon.auth.me.name, sorted(&daemon.log));
            let (lacks, has): (Vec<_>, Vec<_>) = (all.difference(&here).collect(), here.difference(&all).collect());
            let of = &healthy[0].auth.me.name;
            assert!(
                lacks.is_empty() && has.is_empty(),
                "P1: {name} lacks {lacks:?} and has {has:?}, compared with {of}"
            );
            let differences = first.heads().unwrap().differences(&daemon.log.heads().unwrap());
            assert!(
                differences.is_empty(),
                "P1: the heads of {name} say that it lacks or has more than {of}: {differences:?}"
            );
            assert_eq!(
                first.projection().unwrap(),
                daemon.log.projection().unwrap(),
                "P1: {name} makes something else of it than {of}"
            );
        }
    }

    /// Asserts that only periodic pulls are sent: at most one empty pull per peer and sync interval.
    pub fn assert_quiet(&mut self, rounds: u32) {
        self.traffic.clear();
        self.run_for(limits::SYNC_INTERVAL * rounds);
        for (route, traffic) in self.traffic.iter().filter(|((from, to), _)| self.answers(*from) && self.answers(*to)) {
            let pulls = traffic.pulls <= usize::try_from(rounds).unwrap() + 1;
            let quiet = traffic.notifies == 0 && traffic.infos == 0 && traffic.events == 0;
            assert!(pulls && quiet, "P6: {route:?}: {traffic:?} in {rounds} rounds");
        }
    }

    /// Returns `true` if the daemon at a place runs and answers.
    pub(super) fn answers(&self, place: usize) -> bool {
        self.daemons.get(place).is_none_or(|daemon| daemon.up && !daemon.hangs)
    }
}
