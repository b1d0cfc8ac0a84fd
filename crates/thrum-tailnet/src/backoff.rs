//! How long to wait before a `tailscaled` is tried again.

use std::time::Duration;

use thrum_core::{
    Ambient,
    limits::{TAILNET_RETRY_FIRST, TAILNET_RETRY_LAST},
};

/// Doubles from [`TAILNET_RETRY_FIRST`] to [`TAILNET_RETRY_LAST`]; half of each wait is random, so that the daemons of a
/// machine do not return in step.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Another failure: how long to wait now.
    pub(crate) fn next(&mut self, ambient: &mut dyn Ambient) -> Duration {
        let full = TAILNET_RETRY_FIRST.saturating_mul(1 << self.failures.min(16)).min(TAILNET_RETRY_LAST);
        self.failures = self.failures.saturating_add(1);
        let half = full / 2;
        let span = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_nanos(ambient.random_u64() % span)
    }

    /// It worked.
    pub(crate) const fn reset(&mut self) {
        self.failures = 0;
    }
}
