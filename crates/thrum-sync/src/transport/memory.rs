//! Simulated networks, for tests.
//!
//! [`Network`] misbehaves according to a seed: latency, loss, duplication, reordering, partition. It carries messages
//! between numbered places and has no connections: a lost message looks like silence, as on a real network whose
//! connection hangs. The caller supplies the time.
//!
//! [`MemoryTailnet`] carries connections between named nodes, as a tailnet does.

mod tailnet;

pub use tailnet::{MemoryNode, MemoryTailnet};

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Parameters of the simulated faults. Probabilities are in percent.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Minimum and maximum latency. If they differ, messages on one route may overtake each other.
    pub latency: (Duration, Duration),
    /// Probability that a message is lost.
    pub loss: u8,
    /// Probability that a message arrives twice.
    pub duplication: u8,
}

impl Weather {
    /// No faults, and a latency of one millisecond.
    pub const CALM: Self =
        Self { latency: (Duration::from_millis(1), Duration::from_millis(1)), loss: 0, duplication: 0 };
}

/// A message that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery<M> {
    /// Time of arrival.
    pub at: Duration,
    /// The sender's place.
    pub from: usize,
    /// The receiver's place.
    pub to: usize,
    /// The content.
    pub message: M,
}

/// A simulated network.
#[derive(Debug)]
pub struct Network<M> {
    /// The current fault parameters.
    pub weather: Weather,
    /// Messages in transit, ordered by arrival time and then by number, so that a seed replays exactly.
    travelling: BTreeMap<(Duration, u64), (usize, usize, M)>,
    /// Blocked directions: from, to.
    cut: BTreeSet<(usize, usize)>,
    sent: u64,
    toll: Toll,
    seed: u64,
}

/// Counters of the messages so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Toll {
    /// Messages sent.
    pub sent: u64,
    /// Messages lost in transit or at a partition.
    pub lost: u64,
    /// Messages that arrived twice.
    pub doubled: u64,
}

impl<M: Clone> Network<M> {
    /// Creates a network whose faults follow from `seed`.
    pub const fn new(seed: u64, weather: Weather) -> Self {
        Self {
            weather,
            travelling: BTreeMap::new(),
            cut: BTreeSet::new(),
            sent: 0,
            toll: Toll { sent: 0, lost: 0, doubled: 0 },
            seed,
        }
    }

    /// Sends a message at `now`.
    pub fn send(&mut self, now: Duration, from: usize, to: usize, message: M) {
        self.toll.sent += 1;
        if self.is_cut(from, to) || self.chance(self.weather.loss) {
            self.toll.lost += 1;
            return;
        }
        if self.chance(self.weather.duplication) {
            self.toll.doubled += 1;
            self.put(now, from, to, message.clone());
        }
        self.put(now, from, to, message);
    }

    /// Returns the counters so far.
    pub const fn toll(&self) -> Toll {
        self.toll
    }

    /// Returns the arrival time of the next message.
    pub fn next_at(&self) -> Option<Duration> {
        self.travelling.keys().next().map(|(at, _)| *at)
    }

    /// Returns the next message that has arrived by `now`. Messages across a partition are lost.
    pub fn next(&mut self, now: Duration) -> Option<Delivery<M>> {
        while let Some(entry) = self.travelling.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((at, _), (from, to, message)) = entry.remove_entry();
            if !self.is_cut(from, to) {
                return Some(Delivery { at, from, to, message });
            }
            self.toll.lost += 1;
        }
        None
    }

    /// Blocks or restores both directions between two places.
    pub fn cut(&mut self, one: usize, other: usize, cut: bool) {
        self.cut_way(one, other, cut);
        self.cut_way(other, one, cut);
    }

    /// Blocks or restores one direction. While it is blocked, the sender does not reach the other side, but still
    /// receives from it.
    pub fn cut_way(&mut self, from: usize, to: usize, cut: bool) {
        if cut {
            self.cut.insert((from, to));
        } else {
            self.cut.remove(&(from, to));
        }
    }

    /// Restores all directions.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut.contains(&(from, to))
    }

    fn put(&mut self, now: Duration, from: usize, to: usize, message: M) {
        let (least, most) = self.weather.latency;
        let spread = u64::try_from((most.saturating_sub(least)).as_nanos()).unwrap_or(u64::MAX - 1);
        let at = now + least + Duration::from_nanos(self.random() % (spread + 1));
        self.sent += 1;
        self.travelling.insert((at, self.sent), (from, to, message));
    }

    fn chance(&mut self, percent: u8) -> bool {
        percent > 0 && self.random() % 100 < u64::from(percent)
    }

    /// SplitMix64: small, and good enough to shuffle messages.
    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays_and_a_partition_lets_nothing_through() {
        let weather = Weather { latency: (Duration::ZERO, Duration::from_millis(50)), loss: 20, duplication: 20 };
        let run = |seed| {
            let mut network = Network::new(seed, weather);
            (0..100).for_each(|n| network.send(Duration::from_millis(n), 0, 1, n));
            std::iter::from_fn(|| network.next(Duration::MAX)).map(|one| one.message).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        assert!(!run(7).is_sorted(), "messages overtake each other");
        let mut network = Network::new(1, Weather::CALM);
        network.send(Duration::ZERO, 0, 1, "on the way");
        network.cut(1, 0, true);
        network.send(Duration::ZERO, 1, 0, "sent later");
        assert_eq!(network.next(Duration::MAX), None);
        network.cut_way(1, 0, false);
        network.send(Duration::ZERO, 1, 0, "this way is open");
        network.send(Duration::ZERO, 0, 1, "that one is not");
        let arrived: Vec<_> = std::iter::from_fn(|| network.next(Duration::MAX)).map(|one| one.message).collect();
        assert_eq!(arrived, ["this way is open"]);
    }
}
