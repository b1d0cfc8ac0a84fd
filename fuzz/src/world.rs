//! A clock that stands still, and random numbers that are the same in every run.

use thrum_core::{Ambient, Timestamp};

/// 2026-03-28T17:05:13Z
pub(crate) const START: i64 = 1_774_717_513_000_000_000;

/// A deterministic environment.
pub(crate) struct World(u64);

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl Ambient for World {
    fn now(&mut self) -> Timestamp {
        Timestamp::from_nanos(START)
    }

    fn fill(&mut self, buffer: &mut [u8]) {
        for byte in buffer {
            // A linear congruential generator, Knuth's MMIX constants.
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = self.0.to_be_bytes()[0];
        }
    }
}

/// Creates a directory for a target's files, in memory if possible.
pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory")
}
