//! Clock and randomness, passed in everywhere so that a simulation can replay them from a seed.

use crate::Stamp;

/// The clock and the randomness of whoever runs the code: the operating system's in the daemon, a seed's in a simulation.
pub trait Ambient: Send {
    /// The time now. May go backwards, as clocks do; who needs monotony adds it.
    fn now(&mut self) -> Stamp;

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
