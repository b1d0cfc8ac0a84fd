//! Time as the state machines take it: one reading for waiting, one for people.

use std::time::Duration;

use thrum_core::Stamp;

/// One reading of both clocks.
///
/// Deadlines compare `tick`, which never goes back; what is shown or stored is `at`, which may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Time since some fixed moment, monotonic.
    pub tick: Duration,
    /// The wall clock.
    pub at: Stamp,
}

impl Now {
    /// The wall-clock time at which the monotonic clock will show `tick`.
    pub fn wall(self, tick: Duration) -> Stamp {
        self.at.plus(tick.saturating_sub(self.tick))
    }
}

/// A duration as Go prints it: `5m0s`, `1h0m0s`, `15s`, without fractions. Go Thrum's log lines and messages have it.
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
