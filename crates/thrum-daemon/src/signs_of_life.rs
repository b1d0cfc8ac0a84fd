//! Records the agents' last signs of life.
//!
//! Any successful call that names an agent as its caller is a sign of life, and so is a wait while it lasts, so no
//! heartbeats are needed. Go Thrum v0.6.3 counts only heartbeats, which nothing there sends, so its agents look
//! offline. A sign of life is not an event and does not justify an fsync. It is kept in memory, and written beside the
//! log at most once per [`limits::PRESENCE_KEPT`] and agent. Other daemons do not learn of it; they see what the agent
//! writes.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use thrum_core::{Timestamp, limits};

/// The last signs of life of the agents.
#[derive(Debug, Default)]
pub(crate) struct SignsOfLife {
    agents: Mutex<HashMap<String, LastSeen>>,
}

#[derive(Clone, Copy, Debug)]
struct LastSeen {
    seen: Timestamp,
    /// The last sign of life for which [`SignsOfLife::seen`] requested a write.
    kept: Timestamp,
}

impl SignsOfLife {
    /// Records a sign of life. Returns `true` if it should be written now.
    pub(crate) fn seen(&self, agent: &str, now: Timestamp) -> bool {
        let mut agents = self.agents();
        if let Some(known) = agents.get_mut(agent) {
            // If the clock went back far, it was ahead before, so its earlier times are wrong.
            let was_ahead = known.seen > now.plus(limits::CLOCK_OFF);
            known.seen = if was_ahead { now } else { known.seen.max(now) };
            let keep = was_ahead || now.since(known.kept) >= limits::PRESENCE_KEPT;
            if keep {
                known.kept = now;
            }
            return keep;
        }
        // Callers may claim any name, so the map could grow without bound. Clearing it loses little, because the
        // written times lag behind by at most `PRESENCE_KEPT`.
        if agents.len() >= limits::MAX_PRESENT {
            agents.clear();
        }
        agents.insert(agent.to_owned(), LastSeen { seen: now, kept: now });
        true
    }

    /// Returns the last sign of life since the daemon started, unless it lies ahead of the clock by more than
    /// [`limits::CLOCK_OFF`].
    pub(crate) fn last(&self, agent: &str, now: Timestamp) -> Option<Timestamp> {
        self.agents().get(agent).map(|known| known.seen).filter(|seen| *seen <= now.plus(limits::CLOCK_OFF))
    }

    fn agents(&self) -> MutexGuard<'_, HashMap<String, LastSeen>> {
        // A panic cannot leave a half-made change behind: no step of a change can fail.
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_sign_of_life_counts_and_one_a_minute_is_written() {
        let presence = SignsOfLife::default();
        let at = |seconds: u64| Timestamp::ZERO.plus(Duration::from_secs(seconds));
        let written: Vec<bool> =
            [0, 1, 59, 60, 61, 119, 121].into_iter().map(|seconds| presence.seen("ann", at(seconds))).collect();
        assert_eq!(written, [true, false, false, true, false, false, true]);
        let last = |agent: &str| presence.last(agent, at(121));
        assert_eq!(last("ann"), Some(at(121)));
        presence.seen("ann", at(30));
        assert_eq!(last("ann"), Some(at(121)), "a clock that goes back takes nothing away");
        assert_eq!(last("bob"), None);
    }

    #[test]
    fn a_clock_that_was_years_ahead_does_not_make_an_agent_present() {
        let presence = SignsOfLife::default();
        let now = Timestamp::PLAUSIBLE;
        presence.seen("ann", now.plus(1000 * limits::REMOTE_AGENT_SILENT));
        assert_eq!(presence.last("ann", now), None);
        assert!(presence.seen("ann", now), "what is on disk lies ahead, too");
        assert_eq!(presence.last("ann", now), Some(now));
    }

    #[test]
    fn invented_names_do_not_fill_the_memory() {
        let presence = SignsOfLife::default();
        for number in 0..2 * limits::MAX_PRESENT {
            presence.seen(&format!("agent-{number}"), Timestamp::ZERO);
        }
        assert!(presence.agents().len() <= limits::MAX_PRESENT);
    }
}
