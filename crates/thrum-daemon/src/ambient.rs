//! The operating system's clock and randomness.

use std::time::SystemTime;

use thrum_core::{Ambient, Timestamp};

/// Returns the current time of the operating system.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::ZERO.plus(since)
}

/// Provides the operating system's time and its cryptographic randomness.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct System;

impl Ambient for System {
    fn now(&mut self) -> Timestamp {
        now()
    }

    fn fill(&mut self, buffer: &mut [u8]) {
        // Without randomness no key, token or id can be made. The system call fails only if the system has no such
        // source at all.
        getrandom::fill(buffer).expect("the operating system gives random bytes");
    }
}

/// Returns the name of this machine, without its domain.
pub(crate) fn hostname() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let short = name.split('.').next().unwrap_or_default();
    if short.is_empty() { "localhost".to_owned() } else { short.to_owned() }
}
