//! The seven properties (P1–P7), checked for all daemons after any schedule, and those that must hold at all times.

use std::{collections::BTreeSet, time::Duration};

use thrum_core::limits;
use thrum_store::{
    ops::Send,
    query::{AgentFilter, Filter, Mailbox},
};
use thrum_sync::{Log, replicator::State};

use super::{Copied, Daemon, Sim, watcher::Seen};

impl Sim {
    /// P1: all connected daemons have the same set of events, and the same projection.
    pub fn p1_all_have_the_same(&self) {
        self.assert_agreement();
    }

    /// P2: all daemons have all acknowledged events, except purged ones.
    pub fn p2_what_was_acknowledged_is_there(&self) {
        for daemon in self.healthy() {
            let held: BTreeSet<String> = daemon.log.event_ids().into_iter().collect();
            for (id, (author, seen)) in &self.acknowledged {
                let is_old = seen.is_purged_by(&self.purged);
                let (name, what) =
                    (daemon.name(), if is_old { "still has what was purged" } else { "lacks what was acknowledged" });
                assert!(held.contains(id) != is_old, "P2: {name} {what}: {seen:?} by daemon{author}");
            }
            daemon.watcher.look_back(&daemon.log, daemon.name(), &self.purged);
        }
    }

    /// P2, after a crash and before any peer is heard: all events that this daemon has shown are there.
    pub(super) fn p2_what_was_acknowledged_here_is_here(&self, at: usize) {
        let daemon = &self.daemons[at];
        daemon.watcher.look_back(&daemon.log, daemon.name(), &self.purged);
    }

    /// P2: a peer that claims to have our log up to a sequence has it durably.
    pub(super) fn believe(&mut self, at: usize, peer: usize, log: &str, upto: u64) {
        let Some(claims) = self.daemons.get(peer) else { return };
        // The claim may be older than a fault of the peer's disk.
        if claims.replaced.is_some_and(|when| self.tick < when + Duration::from_secs(120)) {
            return;
        }
        let known = self.believed.entry((at, peer, log.to_owned())).or_default();
        for row in self.daemons[at]
            .log
            .page(*known, 100_000, 1 << 40)
            .unwrap()
            .rows
            .iter()
            .take_while(|row| row.sequence <= upto)
        {
            let has = claims.watcher.events.contains_key(&row.id);
            let purged =
                || self.daemons[at].watcher.events.get(&row.id).is_none_or(|seen| seen.is_purged_by(&self.purged));
            assert!(has || purged(), "P2: daemon{peer} acknowledges daemon{at} up to {upto} and lacks {}", row.id);
        }
        *known = upto.max(*known);
    }

    /// P3: nothing was applied twice: no event, no digest, nothing that is displayed.
    pub fn p3_nothing_was_applied_twice(&self) {
        for daemon in self.healthy() {
            let (name, ids) = (daemon.name(), daemon.log.event_ids());
            assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len(), "P3: {name} stored an event twice");
            let (kept, counted) = daemon.log.read(|store| Ok((store.heads()?, store.recounted_heads()?))).unwrap();
            assert_eq!(kept.differences(&counted), [], "P3: {name} counts what it does not hold");
            for agent in daemon.log.read(|store| store.reader().agents(&AgentFilter::default())).unwrap() {
                let mailbox = Mailbox { agent_id: agent.agent_id, home: agent.home };
                let filter = Filter { mailbox: Some(mailbox.clone()), limit: 100_000, ..Filter::default() };
                let (listing, (total, unread)) = daemon
                    .log
                    .read(|store| Ok((store.reader().list(&filter)?, store.reader().mail_count(&mailbox)?)))
                    .unwrap();
                let ids: BTreeSet<_> = listing.messages.iter().map(|message| &message.message_id).collect();
                let open = listing.messages.iter().filter(|message| !message.is_read).count();
                let counted = (listing.messages.len(), ids.len(), open);
                let kept = (
                    usize::try_from(total).unwrap(),
                    usize::try_from(total).unwrap(),
                    usize::try_from(unread).unwrap(),
                );
                assert_eq!(counted, kept, "P3: {name} counts the mail of {mailbox:?} otherwise than it lists it");
            }
        }
        let some = self.healthy()[self.acknowledged.len() % self.healthy().len()];
        let digests = || some.log.read(|store| Ok((store.projection()?, store.mailboxes()?))).unwrap();
        let before = digests();
        some.log.rebuild().unwrap();
        assert_eq!(digests(), before, "P3: {} folded anew is something else", some.name());
    }

    /// P4: a reader with a cursor has seen all events, each once, and those of each origin in order. The watchers
    /// assert the last two at every commit.
    pub fn p4_cursors_skip_nothing(&self) {
        for daemon in self.healthy() {
            let shown: BTreeSet<&String> = daemon.watcher.events.keys().collect();
            let held = daemon.log.event_ids();
            let missed: Vec<_> = held.iter().filter(|id| !shown.contains(id)).collect();
            assert!(missed.is_empty(), "P4: who reads {} by cursor never saw {missed:?}", daemon.name());
            daemon.watcher.look_back(&daemon.log, daemon.name(), &self.purged);
        }
    }

    /// P5: the last edit is shown, deleted messages are deleted, purged ones are gone. The watchers assert that none of
    /// this reverts, even briefly.
    pub fn p5_edits_and_purges_hold(&self) {
        for daemon in self.healthy() {
            super::oracle::assert_shown(&daemon.log, daemon.name(), &self.purged);
        }
    }

    /// P6: a write costs each peer a few messages, no notify is answered by a notify, and then there is quiet.
    pub fn p6_work_is_bounded_and_ends(&mut self) {
        let rounds = self.tick.as_secs() / limits::SYNC_INTERVAL.as_secs() + 1;
        let limit = |traffic: &super::Traffic, back: &super::Traffic| {
            2 * (back.events + back.referred + back.notifies + traffic.dials) + usize::try_from(rounds).unwrap() + 2
        };
        let zero = super::Traffic::default();
        for (route, traffic) in self.traffic.iter().filter(|((from, to), _)| self.is_ours(*from) && self.is_ours(*to)) {
            let back = self.traffic.get(&(route.1, route.0)).unwrap_or(&zero);
            assert!(
                traffic.notifies <= traffic.news + traffic.dials,
                "P6: {route:?} announces more than it has: {traffic:?}"
            );
            assert!(
                traffic.pulls <= limit(traffic, back),
                "P6: {route:?} pulls more than there is: {traffic:?}, of {back:?}"
            );
        }
        self.burst();
        // A legacy peer's log is read again as long as it may still show earlier rows.
        self.run_for(
            Duration::from_secs(60) + if self.gos.is_empty() { Duration::ZERO } else { limits::LEGACY_LOOK_BACK },
        );
        self.assert_quiet(10);
    }

    /// All daemons write at once, on a network without faults: each event crosses each connection once,
    /// and again only if an event that was referred to came too late by another way.
    fn burst(&mut self) {
        self.run_for(Duration::from_secs(1));
        self.traffic.clear();
        let mut written = 0;
        for at in 0..self.daemons.len() {
            let Some(agent) =
                self.daemons[at].agents.first().cloned().filter(|_| self.daemons[at].up && !self.daemons[at].hangs)
            else {
                continue;
            };
            for _ in 0..2 {
                let send = Send { from: agent.clone(), content: "all at once".into(), ..Send::default() };
                written += usize::from(self.act(at, |tx| tx.send(send)).is_some());
            }
        }
        self.run_for(Duration::from_secs(5));
        self.settle_git();
        self.assert_prompt();
        self.run_for(limits::SYNC_INTERVAL);
        for (route, traffic) in self.traffic.iter().filter(|((from, to), _)| self.is_ours(*from) && self.is_ours(*to)) {
            let (notified, read) =
                self.traffic.get(&(route.1, route.0)).map_or((0, 0), |back| (back.notifies, back.events));
            assert!(traffic.notifies <= traffic.news, "P6: {route:?} answers notifies by notifies: {traffic:?}");
            assert!(
                traffic.pulls <= 2 * notified + 4 + read / self.most_per_pull,
                "P6: {route:?} pulls too often for {notified} notifies: {traffic:?}"
            );
            assert!(
                traffic.events <= written * (1 + traffic.lacked) || !self.gos.is_empty(),
                "P6: {route:?} serves {written} events more than once: {traffic:?}"
            );
        }
    }

    /// Asserts that no daemon had to wait for a periodic pull: events that arrived during a pull were requested by
    /// another one, and everything is acknowledged.
    fn assert_prompt(&self) {
        if !self.gos.is_empty() {
            return;
        }
        self.assert_agreement();
        for daemon in self.healthy() {
            for (peer, status) in daemon.statuses().filter(|(peer, _)| self.is_ours(self.index(peer))) {
                // Events that the peer itself sent are not announced to it.
                let (name, latest) = (daemon.name(), daemon.log.commit().latest_not_from(peer));
                assert!(
                    status.exchange.read_by_them >= Some(latest),
                    "P6: {peer} has not acknowledged {latest} of {name} without a round"
                );
            }
        }
    }

    fn is_ours(&self, place: usize) -> bool {
        self.daemons.get(place).is_some_and(|daemon| daemon.up && !daemon.hangs)
    }

    /// P7: a peer that hangs and an event that cannot be folded are reported, and delay no one else.
    pub fn p7_one_invalid_event_blocks_no_other(&self) {
        for daemon in self.healthy() {
            let name = daemon.name();
            for (id, (_, seen)) in self.poison.iter().filter_map(|id| self.acknowledged.get_key_value(id)) {
                let is_there = daemon.watcher.events.contains_key(id) || seen.is_purged_by(&self.purged);
                assert!(is_there, "P7: {name} never had the event {id} that cannot be folded");
            }
            for (peer, status) in daemon.statuses() {
                let place = self.index(peer);
                let Some(other) = self.daemons.get(place) else { continue };
                if other.up && !other.hangs {
                    assert_eq!(
                        (status.state, &status.exchange.last_error),
                        (State::Connected, &None),
                        "P7: {name} and {}",
                        other.name()
                    );
                    // The last sequence may have no row, if the log began anew or its end was purged.
                    let (log, read) = status.checkpoint.clone().unwrap_or_default();
                    let left = other.log.page(read, 1, 1).unwrap().rows.len();
                    assert_eq!(
                        (log, left),
                        (other.log.id().to_string(), 0),
                        "P7: {name} has not read {} to its end: {status:?}",
                        other.name()
                    );
                } else {
                    assert_eq!(
                        status.state,
                        State::Unreachable,
                        "P7: {name} does not show that {} hangs",
                        other.name()
                    );
                    assert!(
                        status.exchange.last_error.is_some(),
                        "P7: {name} does not say why {} cannot be reached",
                        other.name()
                    );
                }
            }
        }
    }

    /// Asserts all properties.
    pub fn assert_properties(&mut self) {
        // A purge that existed only on a lost disk does not count.
        self.purged = self.healthy()[0].watcher.purged.clone();
        self.p1_all_have_the_same();
        self.p2_what_was_acknowledged_is_there();
        self.p3_nothing_was_applied_twice();
        self.p4_cursors_skip_nothing();
        self.p5_edits_and_purges_hold();
        self.p7_one_invalid_event_blocks_no_other();
        self.settle_git();
        self.assert_git_settled();
        self.p6_work_is_bounded_and_ends();
        self.p1_all_have_the_same();
    }

    /// Forgets acknowledged events that existed only on a lost disk.
    pub(super) fn forget_what_only_was_here(&mut self, at: usize, kept: &Copied) {
        let elsewhere = |id: &String| {
            let others =
                self.daemons.iter().enumerate().filter(|(other, daemon)| *other != at && !daemon.hangs && !daemon.gone);
            others.map(|(_, daemon)| daemon).any(|daemon: &Daemon| {
                daemon.watcher.events.get(id).is_some_and(|seen| !seen.is_purged_by(&daemon.watcher.purged))
            })
        };
        let kept: Vec<(String, (usize, Seen))> = self
            .acknowledged
            .iter()
            .filter(|(id, _)| kept.events.contains(*id) || elsewhere(id))
            .map(|(id, event)| (id.clone(), event.clone()))
            .collect();
        self.acknowledged = kept.into_iter().collect();
    }
}
