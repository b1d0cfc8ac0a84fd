//! Sync through a git remote as one more way among daemons: real exchanges with a remote in memory, whose fetches may be
//! stale and whose pushes may be lost.

use std::{collections::BTreeSet, hash::Hash, sync::Arc, time::Duration};

use thrum_git::{
    Exchange, GitError, Me, Report, Schedule, SeenState, Trust,
    limits::{INTERVAL, LAST_BACKOFF},
    memory::{Fault, MemoryMirror},
};
use thrum_sync::Log;

use super::{Sim, watcher::Seen};

/// The source of events that came through the remote.
pub(super) const THROUGH_GIT: &str = "git";

/// The most exchanges of all daemons until nothing is published any more.
const ROUNDS: usize = 12;

/// The part of a daemon that exchanges events with the remote.
pub(super) struct Git {
    /// Stays on disk.
    mirror: MemoryMirror,
    /// Stays on disk.
    trust: Trust,
    /// In memory, while the daemon is up and its last exchange succeeded.
    exchange: Option<Exchange>,
    schedule: Schedule,
    last: Option<Report>,
}

impl Git {
    /// When the next exchange is due.
    pub(super) fn due(&self) -> Duration {
        self.schedule.due()
    }

    /// The process ends.
    pub(super) fn end(&mut self) {
        (self.exchange, self.last, self.schedule) = (None, None, Schedule::new(INTERVAL));
    }

    /// An event that is to be published was written.
    pub(super) fn wrote(&mut self, tick: Duration) {
        self.schedule.wrote(tick);
    }
}

/// What came of an exchange, in one line.
fn shown(result: &Result<Report, GitError>) -> String {
    match result {
        Ok(report) => format!(
            "{} new, published {:?}, purge goes on: {}, states {:?}",
            report.applied.applied,
            report.published,
            report.purge_goes_on,
            report.daemons.values().map(|seen| &seen.state).collect::<Vec<_>>()
        ),
        Err(error) => error.to_string(),
    }
}

impl Sim {
    /// Lets a daemon exchange events through the remote. It trusts nobody yet but its peers.
    pub fn switch_git_on(&mut self, at: usize, encrypts: bool) {
        let (mirror, trust) = (self.remote.mirror(), Trust { encrypts, ..Trust::default() });
        let schedule = Schedule::new(INTERVAL);
        self.daemons[at].git = Some(Git { mirror, trust, exchange: None, schedule, last: None });
    }

    pub fn is_on_git(&self, at: usize) -> bool {
        self.daemons[at].git.is_some()
    }

    /// Lets a daemon trust another one, or no longer.
    pub fn trust(&mut self, at: usize, other: usize, trusts: bool) {
        self.tell(format_args!("daemon{at} trusts daemon{other}: {trusts}"));
        let (id, name) = (self.daemons[other].id.clone(), self.daemons[other].name().to_owned());
        let Some(git) = &mut self.daemons[at].git else { return };
        git.trust.distrusted.remove(&id);
        git.trust.trusted.remove(&id);
        if trusts {
            git.trust.trusted.insert(id, name);
        } else {
            git.trust.distrusted.insert(id);
        }
        git.schedule.request();
    }

    /// Removes a daemon's ref from the remote, as a `push --mirror` of some clone does.
    pub fn delete_ref(&mut self, at: usize) {
        self.tally.deleted_refs += 1;
        self.tell(format_args!("the ref of daemon{at} is deleted"));
        self.remote.delete(&self.daemons[at].id);
    }

    /// Makes the exchange of a daemon, with a fault in some of them.
    pub(super) fn exchange(&mut self, at: usize) {
        self.now(at);
        let fault = match self.random(100) {
            dice if dice >= self.git_faults => Fault::None,
            _ => match self.random(4) {
                0 => Fault::Unreachable,
                1 => Fault::Stale(self.random(6)),
                2 => Fault::PushLost,
                _ => Fault::AnswerLost,
            },
        };
        let tick = self.tick;
        let daemon = &mut self.daemons[at];
        let Some(git) = daemon.git.as_mut().filter(|_| daemon.up && !daemon.hangs) else { return };
        if fault != Fault::None {
            self.tally.git_faults += 1;
            git.mirror.fail(fault);
        }
        let mut trust = git.trust.clone();
        let peers = daemon.auth.registry.peers().iter().map(|peer| (peer.daemon_id.clone(), peer.name.clone()));
        trust.trusted.extend(peers.filter(|(id, _)| !trust.distrusted.contains(id)).collect::<Vec<_>>());
        let (key, name) = (daemon.key.clone(), daemon.auth.me.name.clone());
        let (log, mut world) = (Arc::clone(&daemon.log), daemon.world.fork());
        let exchange = git.exchange.get_or_insert_with(|| {
            let me = Me {
                daemon_id: key.id().to_string(),
                name,
                exchange_secret: key.exchange_secret(),
                sign: Arc::new(move |text| key.sign_manifest(text)),
            };
            Exchange::new(Box::new(git.mirror.clone()), log as Arc<dyn Log>, me, Box::new(world.fork()))
        });
        git.schedule.begin();
        let result = exchange.run(&trust);
        git.mirror.fail(Fault::None);
        git.schedule.end(result.is_ok(), tick);
        (at, result.is_ok()).hash(&mut self.trace);
        self.tally.git_exchanges += 1;
        self.tell(format_args!("daemon{at} exchanges through git ({fault:?}): {}", shown(&result)));
        let Some(git) = &mut self.daemons[at].git else { return };
        match result {
            Ok(report) => {
                for (id, seen) in &report.daemons {
                    let number = git.trust.numbers.entry(id.clone()).or_default();
                    *number = seen.number.max(*number);
                }
                git.trust.vouched.extend(report.vouched.clone());
                if report.purge_goes_on {
                    git.schedule.wrote(tick);
                }
                git.last = Some(report);
            }
            Err(_) => git.exchange = None,
        }
        if !self.died(at) {
            self.committed_from(at, THROUGH_GIT);
        }
    }

    /// Lets all daemons exchange at once until nothing more is published.
    pub fn settle_git(&mut self) {
        if self.daemons.iter().all(|daemon| daemon.git.is_none()) {
            return;
        }
        for _ in 0..ROUNDS {
            let mut news = 0;
            for at in 0..self.daemons.len() {
                self.exchange(at);
                let daemon = Some(&self.daemons[at]).filter(|daemon| daemon.up && !daemon.hangs);
                let report = daemon.and_then(|daemon| daemon.git.as_ref()?.last.as_ref());
                news += report.map_or(0, |report| report.applied.applied + usize::from(report.published.is_some()));
                self.run_for(Duration::from_secs(1));
            }
            if news == 0 {
                return;
            }
        }
        panic!("P6: daemons on the remote publish without end");
    }

    /// Ends all faults of the remote, and lets everybody trust whom somebody distrusted.
    pub(super) fn heal_git(&mut self) {
        self.git_faults = 0;
        for daemon in &mut self.daemons {
            if let Some(git) = &mut daemon.git {
                let again = std::mem::take(&mut git.trust.distrusted);
                git.trust.trusted.extend(again.into_iter().map(|id| (id.clone(), id)));
            }
        }
    }

    /// The time until a failed exchange has been repeated, and its news have reached everybody.
    pub fn rest_of_git(&self) -> Duration {
        if self.daemons.iter().any(|daemon| daemon.git.is_some()) {
            LAST_BACKOFF + 4 * INTERVAL
        } else {
            Duration::ZERO
        }
    }

    /// Asserts that nothing purged is left on the remote, that all daemons there can be read, and that an exchange
    /// publishes nothing more.
    pub(super) fn assert_git_settled(&mut self) {
        // Who is trusted through a daemon that hangs may wait, and what that one publishes stays as it was.
        let one_hangs = self.daemons.iter().any(|daemon| daemon.hangs);
        if !one_hangs {
            self.assert_purged_on_remote();
        }
        let on_remote: BTreeSet<String> =
            self.daemons.iter().filter(|daemon| daemon.git.is_some()).map(|daemon| daemon.id.clone()).collect();
        for daemon in self.healthy() {
            let Some(git) = &daemon.git else { continue };
            let (name, report) = (daemon.name(), git.last.as_ref().expect("an exchange"));
            for (id, seen) in &report.daemons {
                // A daemon may be reached through peers, and be a stranger on the remote.
                let is_usable = matches!(seen.state, SeenState::Trusted | SeenState::Waiting) && seen.purged == 0;
                assert!(seen.bad_segments.is_none() && (is_usable || one_hangs), "P7: {name} sees {seen:?}");
                assert!(on_remote.contains(id));
            }
            assert_eq!(report.published, None, "P6: {name} publishes without end");
        }
    }

    fn assert_purged_on_remote(&self) {
        let is_purged = |line: &&str| {
            let event = serde_json::from_str::<serde_json::Value>(line).ok();
            event.is_some_and(|event| Seen::of_event(&event).is_purged_by(&self.purged))
        };
        for blob in self.remote.blobs() {
            // What is encrypted cannot be read, and manifests hold no events.
            let text = zstd::stream::decode_all(&blob[..]).ok().and_then(|text| String::from_utf8(text).ok());
            let old: Vec<&str> = text.iter().flat_map(|text| text.lines()).filter(is_purged).collect();
            assert_eq!(old, Vec::<&str>::new(), "P5: purged events are on the remote");
        }
    }
}
