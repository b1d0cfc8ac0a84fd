//! How fast a peer is read that costs more than it brings.
//!
//! One request is in flight per peer, so whatever a peer does costs it a round trip each time; on a fast line that is still
//! thousands a second. What honest peers do is never slowed: they send full batches, nothing that is rejected, and announce what
//! they have. They purge now and then, and many times at once only to who reads their log for the first time.

use std::time::Duration;

use thrum_core::{exchange::Applied, limits};

use crate::{clock::go_duration, wire::Served};

/// What a peer did lately, for nothing.
#[derive(Debug)]
pub(super) struct Pace {
    /// Purges that it may still have at once, and up to when what has come back was counted.
    purges: u32,
    counted: Duration,
    /// Batches in a row that were much smaller than asked for, with more to come.
    crumbs: u32,
    /// Announcements in a row behind which there was nothing.
    empty: u32,
}

/// Not before when it is asked again, and why, in words.
pub(super) type Pause = (Duration, String);

impl Pace {
    pub(super) fn new(tick: Duration) -> Self {
        Self { purges: limits::PURGES_AT_ONCE, counted: tick, crumbs: 0, empty: 0 }
    }

    /// A reply came to a question for `asked` events.
    pub(super) fn served(&mut self, asked: usize, events: &[Served], more: bool) {
        let bytes: usize = events.iter().map(|event| event.event_json.len()).sum();
        let is_crumb = more && events.len() < asked && bytes < limits::MAX_BATCH_BYTES / 2;
        self.crumbs = if is_crumb { self.crumbs.saturating_add(1) } else { 0 };
    }

    /// What it sent is stored.
    pub(super) fn stored(&mut self, applied: &Applied, tick: Duration) -> Option<Pause> {
        if applied.purged && self.spends_the_last_purge(tick) {
            let every = go_duration(limits::PURGE_PAUSE);
            return Some((self.counted + limits::PURGE_PAUSE, format!("it sends one purge after the other: it is read every {every}")));
        }
        if applied.applied == 0 && applied.rejected > 0 {
            return Some((tick + limits::REJECTED_PAUSE, "it sends nothing but events that must be rejected".to_owned()));
        }
        if self.crumbs >= limits::CRUMBS {
            return Some((tick + limits::CRUMB_PAUSE, "it sends much smaller batches than it is asked for".to_owned()));
        }
        None
    }

    /// It was read to the end after it had announced something.
    pub(super) fn announced(&mut self, applied: &Applied, tick: Duration) -> Option<Pause> {
        self.empty = if *applied == Applied::default() { self.empty.saturating_add(1) } else { 0 };
        let too_often = self.empty >= limits::EMPTY_NOTIFIES;
        too_often.then(|| (tick + limits::CRUMB_PAUSE, "it announces again and again what it does not have".to_owned()))
    }

    fn spends_the_last_purge(&mut self, tick: Duration) -> bool {
        let back = tick.saturating_sub(self.counted).as_nanos() / limits::PURGE_PAUSE.as_nanos();
        let back = u32::try_from(back).unwrap_or(u32::MAX);
        self.counted += limits::PURGE_PAUSE.saturating_mul(back);
        self.purges = self.purges.saturating_add(back).min(limits::PURGES_AT_ONCE).saturating_sub(1);
        self.purges == 0
    }
}
