//! The clock and the random source, injected everywhere so that a simulation can replay a run from a seed.

use crate::Timestamp;

/// The clock and the random source of the running environment: the operating system's in the daemon, a seeded one in a
/// simulation.
pub trait Ambient: Send {
    /// The current time. May go backwards, as clocks do; callers that need monotonic time must ensure it themselves.
    fn now(&mut self) -> Timestamp;

    /// Fills `buffer` with random bytes. In the daemon they come from the operating system's cryptographic source.
    fn fill(&mut self, buffer: &mut [u8]);

    /// A random 128-bit number, for ULIDs.
    fn random_u128(&mut self) -> u128 {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        u128::from_le_bytes(bytes)
    }

    /// A random 64-bit number.
    fn random_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}
