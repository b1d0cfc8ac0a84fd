//! How long to wait after the n-th failure in a row.

use std::time::Duration;

use thrum_core::{
    Ambient,
    limits::{BACKOFF_FIRST, BACKOFF_LAST},
};

/// Doubles from [`BACKOFF_FIRST`] to [`BACKOFF_LAST`]; half of each wait is random, so that peers do not return in step.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Failures in a row.
    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    /// Another failure: how long to wait now.
    pub(super) fn next(&mut self, ambient: &mut dyn Ambient) -> Duration {
        let full = BACKOFF_FIRST.saturating_mul(1 << self.failures.min(20)).min(BACKOFF_LAST);
        self.failures = self.failures.saturating_add(1);
        let half = full / 2;
        let span = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_nanos(ambient.random_u64() % span)
    }

    /// It worked.
    pub(super) const fn reset(&mut self) {
        self.failures = 0;
    }
}
