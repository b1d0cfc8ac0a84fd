//! How fast a peer is read that costs more than it brings.
//!
//! One request is in flight per peer, so whatever a peer does costs it a round trip each time; on a fast line that is still
//! thousands a second. What honest peers do is not slowed to speak of: they send full batches, hardly anything that is rejected, and
//! announce what they have. They purge now and then, and many times at once only to who reads their log for the first time; and
//! they serve what is here already many times at once only to who reads their log anew.

use std::time::Duration;

use thrum_core::{exchange::Applied, limits};

use crate::{clock::go_duration, wire::Served};

/// What a peer did lately, for nothing.
#[derive(Debug)]
pub(super) struct Pace {
    /// Purges that it may still have at once, and up to when what has come back was counted.
    purges: u32,
    counted: Duration,
    /// Events that were here already, but for those that are forgotten, and up to when these were counted.
    repeated: u64,
    forgotten: Duration,
    /// Batches in a row that were much smaller than they may be, with more to come.
    crumbs: u32,
    /// Announcements in a row behind which there was nothing.
    empty: u32,
}

/// Not before when it is asked again, and why, in words for people; without, if an honest peer may come to it, too.
pub(super) type Pause = (Duration, Option<String>);

impl Pace {
    pub(super) fn new(tick: Duration) -> Self {
        Self { purges: limits::PURGES_AT_ONCE, counted: tick, repeated: 0, forgotten: tick, crumbs: 0, empty: 0 }
    }

    /// A reply came. That little was asked for, because the peer's answers were too long or too slow, is no reason to ask more often.
    pub(super) fn served(&mut self, events: &[Served], more: bool) {
        let bytes: usize = events.iter().map(|event| event.event_json.len()).sum();
        let is_crumb = more && events.len() < limits::MAX_BATCH_EVENTS && bytes < limits::MAX_BATCH_BYTES / 2;
        self.crumbs = if is_crumb { self.crumbs.saturating_add(1) } else { 0 };
    }

    /// What it sent is stored, and it has `more`.
    pub(super) fn stored(&mut self, applied: &Applied, more: bool, tick: Duration) -> Option<Pause> {
        let repeats = self.repeats_too_much(applied, tick);
        if applied.purged && self.spends_the_last_purge(tick) {
            let every = go_duration(limits::PURGE_PAUSE);
            let why = format!("it sends one purge after the other: it is read every {every}");
            return Some((self.counted + limits::PURGE_PAUSE, Some(why)));
        }
        // An old peer shows its newest events in every round, among them the one that was rejected long ago.
        let why = |words: &str| Some(words.to_owned()).filter(|_| more);
        if applied.rejected + applied.collided > applied.applied {
            return Some((tick + limits::REJECTED_PAUSE, why("most of what it sends must be rejected")));
        }
        if repeats {
            return Some((tick + limits::REJECTED_PAUSE, why("it sends again and again what is here already")));
        }
        (self.crumbs >= limits::CRUMBS).then(|| (tick + limits::CRUMB_PAUSE, why("it sends much smaller batches than it could")))
    }

    /// It was read to the end after it had announced something. An old peer (`is_old`) announces each event that it has just read
    /// from us, so that empty announcements are no fault of it.
    pub(super) fn announced(&mut self, applied: &Applied, is_old: bool, tick: Duration) -> Option<Pause> {
        self.empty = if applied.applied == 0 { self.empty.saturating_add(1) } else { 0 };
        let too_often = self.empty >= limits::EMPTY_NOTIFIES;
        // What there is came by another way.
        let why =
            || Some("it announces again and again what it does not have".to_owned()).filter(|_| !is_old && *applied == Applied::default());
        too_often.then(|| (tick + limits::CRUMB_PAUSE, why()))
    }

    fn repeats_too_much(&mut self, applied: &Applied, tick: Duration) -> bool {
        let passed = u64::try_from(tick.saturating_sub(self.forgotten).as_millis()).unwrap_or(u64::MAX);
        let forgotten = passed.saturating_mul(limits::REPEATED_PER_SECOND) / 1000;
        self.forgotten = tick;
        self.repeated = self.repeated.saturating_sub(forgotten).saturating_add(applied.skipped as u64);
        self.repeated > limits::REPEATED_AT_ONCE
    }

    fn spends_the_last_purge(&mut self, tick: Duration) -> bool {
        let back = tick.saturating_sub(self.counted).as_nanos() / limits::PURGE_PAUSE.as_nanos();
        let back = u32::try_from(back).unwrap_or(u32::MAX);
        self.counted += limits::PURGE_PAUSE.saturating_mul(back);
        self.purges = self.purges.saturating_add(back).min(limits::PURGES_AT_ONCE).saturating_sub(1);
        self.purges == 0
    }
}
