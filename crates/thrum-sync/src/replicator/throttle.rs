//! Throttles peers that waste our resources.
//!
//! Only one request per peer is in flight, so each wasteful reply costs the peer a round trip. On a fast network that
//! still allows thousands per second. Honest peers are hardly slowed: they send full batches, almost no events that are
//! rejected, and announce only events that they have. They purge occasionally; many purges at once arrive only when
//! their log is read for the first time. Likewise, many events that we already hold arrive at once only when their log
//! is read anew.

use std::time::Duration;

use thrum_core::{exchange::Applied, limits};

use crate::{error::Waste, protocol::wire::Served};

/// Recent behaviour of a peer, as far as it wastes resources.
#[derive(Debug)]
pub(super) struct Throttle {
    /// Purges left in the allowance.
    purges: u32,
    /// The time up to which the refill of `purges` was counted.
    counted: Duration,
    /// Events that were already held, minus a constant decay.
    repeated: u64,
    /// The time up to which the decay of `repeated` was counted.
    forgotten: Duration,
    /// Consecutive batches that were much smaller than allowed although there was more.
    small_batches: u32,
    /// Consecutive announcements without new events.
    empty: u32,
}

/// The earliest time of the next request, and the reason for display. There is no reason if an honest peer may cause
/// the pause, too.
pub(super) type Pause = (Duration, Option<Waste>);

impl Throttle {
    pub(super) fn new(tick: Duration) -> Self {
        Self { purges: limits::PURGES_AT_ONCE, counted: tick, repeated: 0, forgotten: tick, small_batches: 0, empty: 0 }
    }

    /// Records a reply. `most` is the maximum number of events per pull. A batch is small even if we requested little
    /// because the peer's replies were too long or too slow: that is no reason to ask more often.
    pub(super) fn served(&mut self, events: &[Served], more: bool, most: usize) {
        let bytes: usize = events.iter().map(|event| event.event_json.len()).sum();
        let is_small = more && events.len() < most && bytes < limits::MAX_BATCH_BYTES / 2;
        self.small_batches = if is_small { self.small_batches.saturating_add(1) } else { 0 };
    }

    /// Records a stored batch; `more` is whether the peer has more events.
    pub(super) fn stored(&mut self, applied: &Applied, more: bool, tick: Duration) -> Option<Pause> {
        let repeats = self.repeats_too_much(applied, tick);
        if applied.purged && self.spends_the_last_purge(tick) {
            let waste = Waste::ThrottledPurges(limits::PURGE_PAUSE);
            return Some((self.counted + limits::PURGE_PAUSE, Some(waste)));
        }
        // The newest events of a legacy peer are read repeatedly, also one that was rejected long ago. So show no
        // reason for the last batch of a log.
        let shown = |waste: Waste| Some(waste).filter(|_| more);
        if applied.rejected + applied.collided > applied.applied {
            return Some((tick + limits::REJECTED_PAUSE, shown(Waste::Rejected)));
        }
        if repeats {
            return Some((tick + limits::REJECTED_PAUSE, shown(Waste::Repeated)));
        }
        (self.small_batches >= limits::SMALL_BATCHES_IN_A_ROW)
            .then(|| (tick + limits::THROTTLED_REQUEST_PAUSE, shown(Waste::SmallBatches)))
    }

    /// Records that the peer was read to the end after an announcement. Announced references are events that arrived
    /// from another peer before, and cost little. A legacy peer (`is_old`) also announces each
    /// event that it has just read from us, so empty announcements are not its fault.
    pub(super) fn announced(&mut self, applied: &Applied, is_old: bool, tick: Duration) -> Option<Pause> {
        let is_empty = applied.applied == 0 && applied.referred == 0;
        self.empty = if is_empty { self.empty.saturating_add(1) } else { 0 };
        let too_often = self.empty >= limits::EMPTY_NOTIFIES;
        // If events were skipped, the announced events exist, but arrived from another peer before.
        let shown = Some(Waste::EmptyAnnouncements).filter(|_| !is_old && *applied == Applied::default());
        too_often.then(|| (tick + limits::THROTTLED_REQUEST_PAUSE, shown))
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
