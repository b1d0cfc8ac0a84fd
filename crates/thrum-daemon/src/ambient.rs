//! The real world's clock and randomness.

use std::time::SystemTime;

use thrum_core::{Ambient, Stamp};

/// The operating system's clock and its cryptographic random source.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct System;

impl Ambient for System {
    fn now(&mut self) -> Stamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Stamp::ZERO.plus(since)
    }

    fn fill(&mut self, buffer: &mut [u8]) {
        // No key, token or id can be made without; the system call fails only where the system has no such source at all.
        getrandom::fill(buffer).expect("the operating system gives random bytes");
    }
}

/// The name of this machine, without its domain.
pub(crate) fn hostname() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let short = name.split('.').next().unwrap_or_default();
    if short.is_empty() { "localhost".to_owned() } else { short.to_owned() }
}
