//! Who was heard of when.
//!
//! Any call that names an agent as its caller is a sign of its life, and so is a wait that lasts: nobody has to send
//! heartbeats to be seen. Go Thrum v0.6.3 counts heartbeats alone and nothing there sends them, so its agents look offline.
//! A sign of life is no event, nor worth an fsync of its own: it is kept in memory and written beside the log at most once
//! per [`limits::PRESENCE_KEPT`] and agent. Other daemons are not told; they see what the agent writes.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use thrum_core::{Stamp, limits};

/// The last signs of life.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    agents: Mutex<HashMap<String, Known>>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    seen: Stamp,
    /// The one that was last handed out to be written down.
    kept: Stamp,
}

impl Presence {
    /// Notes a sign of life. Returns whether it should be written down now.
    pub(crate) fn seen(&self, agent: &str, now: Stamp) -> bool {
        let mut agents = self.agents();
        if let Some(known) = agents.get_mut(agent) {
            // A clock that went far back was ahead before, so times that it showed then are not when an agent was seen.
            let was_ahead = known.seen > now.plus(limits::CLOCK_OFF);
            known.seen = if was_ahead { now } else { known.seen.max(now) };
            let keep = was_ahead || now.since(known.kept) >= limits::PRESENCE_KEPT;
            if keep {
                known.kept = now;
            }
            return keep;
        }
        // A caller may claim any name, so there may be many: what goes was written down a minute ago at most.
        if agents.len() >= limits::MAX_PRESENT {
            agents.clear();
        }
        agents.insert(agent.to_owned(), Known { seen: now, kept: now });
        true
    }

    /// The last sign of life since the daemon started, unless it lies ahead of the clock.
    pub(crate) fn last(&self, agent: &str, now: Stamp) -> Option<Stamp> {
        self.agents().get(agent).map(|known| known.seen).filter(|seen| *seen <= now.plus(limits::CLOCK_OFF))
    }

    fn agents(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        // Every change is one call on the map.
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_sign_counts_and_one_a_minute_is_written_down() {
        let presence = Presence::default();
        let at = |seconds: u64| Stamp::ZERO.plus(Duration::from_secs(seconds));
        let written: Vec<bool> = [0, 1, 59, 60, 61, 119, 121].into_iter().map(|seconds| presence.seen("ann", at(seconds))).collect();
        assert_eq!(written, [true, false, false, true, false, false, true]);
        let last = |agent: &str| presence.last(agent, at(121));
        assert_eq!(last("ann"), Some(at(121)));
        presence.seen("ann", at(30));
        assert_eq!(last("ann"), Some(at(121)), "a clock that goes back takes nothing away");
        assert_eq!(last("bob"), None);
    }

    #[test]
    fn nobody_is_there_because_the_clock_was_years_ahead() {
        let presence = Presence::default();
        let now = Stamp::PLAUSIBLE;
        presence.seen("ann", now.plus(1000 * limits::REMOTE_AGENT_SILENT));
        assert_eq!(presence.last("ann", now), None);
        assert!(presence.seen("ann", now), "what is on disk lies ahead, too");
        assert_eq!(presence.last("ann", now), Some(now));
    }

    #[test]
    fn names_that_callers_invent_do_not_fill_the_memory() {
        let presence = Presence::default();
        for number in 0..2 * limits::MAX_PRESENT {
            presence.seen(&format!("agent-{number}"), Stamp::ZERO);
        }
        assert!(presence.agents().len() <= limits::MAX_PRESENT);
    }
}
