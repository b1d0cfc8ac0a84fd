//! How long to wait after the n-th failure in a row.

use std::time::Duration;

use thrum_core::Ambient;

/// Doubles from a first wait to a last one; half of each wait is random, so that those who failed together do not return
/// together.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    last: Duration,
    failures: u32,
}

impl Backoff {
    /// Nothing failed yet.
    pub const fn new(first: Duration, last: Duration) -> Self {
        Self { first, last, failures: 0 }
    }

    /// Failures in a row.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Another failure: how long to wait now, between half of what it has come to and all of it.
    pub fn next(&mut self, ambient: &mut dyn Ambient) -> Duration {
        let full = self.first.saturating_mul(1 << self.failures.min(20)).min(self.last);
        self.failures = self.failures.saturating_add(1);
        let half = full / 2;
        let span = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_nanos(ambient.random_u64() % span)
    }

    /// It worked.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}
