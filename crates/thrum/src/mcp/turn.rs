//! Serializes the calls that return mail.
//!
//! The library runs the calls of a client concurrently. Two of them would find the same unread messages and return each
//! twice. So a call takes the turn before it looks for mail, and an answer with mail keeps the turn until that mail is
//! marked as read.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use thrum_core::limits;

/// Longest wait for the turn. Its holder makes a few calls to the daemon, to find mail and to mark it. If an answer
/// takes longer than this, the library has dropped it, or the client does not read it.
const LONGEST: Duration = limits::LOCAL_CALL.saturating_mul(2);

/// Gives the turn to one call at a time.
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<State>);

#[derive(Default)]
struct State {
    is_taken: Mutex<bool>,
    freed: Condvar,
}

/// The turn of one call, which ends on drop.
pub(super) struct Turn(Arc<State>);

impl Turns {
    /// Waits for the turn and takes it; `None` if it does not become free in time.
    pub(super) fn take(&self) -> Option<Turn> {
        self.take_within(LONGEST)
    }

    /// Takes the turn if it is free.
    pub(super) fn try_take(&self) -> Option<Turn> {
        self.take_within(Duration::ZERO)
    }

    fn take_within(&self, longest: Duration) -> Option<Turn> {
        let waited = self.0.freed.wait_timeout_while(self.0.is_taken(), longest, |is_taken| *is_taken);
        let (mut is_taken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() && *is_taken {
            return None;
        }
        *is_taken = true;
        Some(Turn(Arc::clone(&self.0)))
    }
}

impl State {
    fn is_taken(&self) -> MutexGuard<'_, bool> {
        self.is_taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *self.0.is_taken() = false;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_turn_lasts_until_it_is_dropped() {
        let turns = Turns::default();
        let first = turns.take().unwrap();
        assert!(turns.try_take().is_none());
        thread::scope(|scope| {
            let waiting = scope.spawn(|| turns.take().is_some());
            drop(first);
            assert!(waiting.join().unwrap());
        });
        assert!(turns.try_take().is_some());
    }
}
