//! Wait times after repeated failures.

use std::time::Duration;

use thrum_core::Ambient;

/// Exponential backoff from a first to a last wait. Half of each wait is random, so that peers that failed together do
/// not retry together.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    last: Duration,
    failures: u32,
}

impl Backoff {
    /// Creates a backoff without failures.
    pub const fn new(first: Duration, last: Duration) -> Self {
        Self { first, last, failures: 0 }
    }

    /// Returns the number of consecutive failures.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Records a failure. Returns the time to wait, between half and all of the current interval.
    pub fn next(&mut self, ambient: &mut dyn Ambient) -> Duration {
        let full = self.first.saturating_mul(1 << self.failures.min(20)).min(self.last);
        self.failures = self.failures.saturating_add(1);
        let half = full / 2;
        let span = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_nanos(ambient.random_u64() % span)
    }

    /// Records a success.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}
