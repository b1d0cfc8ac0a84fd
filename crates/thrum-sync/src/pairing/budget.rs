//! The budget for wrong guesses: those of the last day, and the resulting locks.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thrum_core::{Timestamp, limits};

use crate::transport::Kind;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Content of `pairing.json`. Bounded, because each kind of transport is locked after [`limits::PAIRING_TOTAL_DAY`]
/// guesses in a day.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Budget {
    #[serde(default)]
    attempts: Vec<Attempt>,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Attempt {
    at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<String>,
}

impl Attempt {
    /// Returns the kind of transport of the guess. Only a tailnet caller has a node.
    fn kind(&self) -> Kind {
        if self.node.is_some() { Kind::Tailnet } else { Kind::Local }
    }
}

impl Budget {
    /// Counts a guess, and forgets those older than a day.
    pub(super) fn record(&mut self, now: Timestamp, node: Option<&str>) {
        self.attempts.retain(|attempt| age(attempt, now) < DAY);
        self.attempts.push(Attempt { at: now, node: node.map(str::to_owned) });
    }

    /// Sets guesses in the future, made before the clock went back, to the current time, so that they age from now on.
    /// Returns `true` if there were any.
    pub(super) fn come_back(&mut self, now: Timestamp) -> bool {
        let ahead = self.attempts.iter_mut().filter(|attempt| attempt.at > now);
        ahead.map(|attempt| attempt.at = now).count() > 0
    }

    /// Refunds a guess that was right: the one recorded at `at`, or else the node's last, because the recorded time
    /// changes if the clock goes back.
    pub(super) fn forgive(&mut self, at: Timestamp, node: Option<&str>) {
        let its = |attempt: &&Attempt| attempt.node.as_deref() == node;
        let exact = self.attempts.iter().rposition(|attempt| attempt.at == at && its(&attempt));
        if let Some(one) = exact.or_else(|| self.attempts.iter().rposition(|attempt| its(&attempt))) {
            self.attempts.remove(one);
        }
    }

    /// Returns when the lock of this kind of transport ends; `None` if guesses are allowed. Loopback and tailnet are
    /// counted separately, so that a local program cannot keep other machines from pairing.
    pub(super) fn locked_until(&self, kind: Kind, now: Timestamp) -> Option<Timestamp> {
        let windows = [(HOUR, limits::PAIRING_TOTAL_HOUR), (DAY, limits::PAIRING_TOTAL_DAY)];
        windows
            .into_iter()
            .filter_map(|(window, most)| self.free_at(now, window, most, |attempt| attempt.kind() == kind))
            .max()
    }

    /// Returns when the lock of a node that has used up its own hourly budget ends; `None` if it may guess. All
    /// loopback callers count as one node, whose budget is the total.
    pub(super) fn node_locked_until(&self, node: Option<&str>, now: Timestamp) -> Option<Timestamp> {
        let node = node?;
        self.free_at(now, HOUR, limits::PAIRING_NODE_HOUR, |attempt| attempt.node.as_deref() == Some(node))
    }

    /// Returns when fewer than `most` attempts will lie within `window`; `None` if that is already the case.
    fn free_at(
        &self,
        now: Timestamp,
        window: Duration,
        most: usize,
        counts: impl Fn(&Attempt) -> bool,
    ) -> Option<Timestamp> {
        let mut recent: Vec<Duration> = self
            .attempts
            .iter()
            .filter(|one| counts(one))
            .map(|one| age(one, now))
            .filter(|age| *age < window)
            .collect();
        recent.sort_unstable();
        recent.get(most - 1).map(|age| now.plus(window - *age))
    }
}

fn age(attempt: &Attempt, now: Timestamp) -> Duration {
    now.since(attempt.at)
}
