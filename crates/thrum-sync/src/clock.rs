//! Time as input for the state machines: one reading for waiting, one for display. Also the type of its source.

use std::{sync::Arc, time::Duration};

use thrum_core::{Ambient, Timestamp};

/// Creates a source of time and randomness for each task that needs one.
pub type Ambients = Arc<dyn Fn() -> Box<dyn Ambient> + Send + Sync>;

/// One reading of both clocks.
///
/// `tick` never goes back; most deadlines compare it. `at` may go back; it is displayed and stored, and decides where
/// time must also count while the machine sleeps or the daemon is stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time since a fixed moment.
    pub tick: Duration,
    /// Wall-clock time.
    pub at: Timestamp,
}

impl Now {
    /// Returns the wall-clock time at which the monotonic clock will reach `tick`.
    pub fn wall(self, tick: Duration) -> Timestamp {
        self.at.plus(tick.saturating_sub(self.tick))
    }
}

/// How far a peer's clock is ahead of ours, in milliseconds, if it showed `theirs` between our times `sent` and `now`.
pub(crate) fn offset_ms(theirs: Timestamp, sent: Timestamp, now: Timestamp) -> i64 {
    (theirs.nanos() - i64::midpoint(sent.nanos(), now.nanos())) / 1_000_000
}

/// Formats a duration without fractions as Go does: `5m0s`, `1h0m0s`, `15s`. Go Thrum's log lines and messages use this
/// format.
pub fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_prints_them() {
        for (seconds, text) in [(0, "0s"), (15, "15s"), (300, "5m0s"), (7205, "2h0m5s")] {
            assert_eq!(go_duration(Duration::from_secs(seconds)), text);
        }
    }
}
