//! When the next exchange is due. A state machine without a clock: every time is the time since some fixed instant.

use std::time::Duration;

use crate::limits;

/// The schedule of exchanges.
#[derive(Clone, Debug)]
pub struct Schedule {
    interval: Duration,
    /// When the last exchange ended; `None` before the first.
    ended: Option<Duration>,
    /// When the first and the last event to be published were written since the last exchange began.
    written: Option<(Duration, Duration)>,
    /// The exchanges that failed since the last one that succeeded.
    failures: u32,
    is_requested: bool,
}

impl Schedule {
    /// Begins with an exchange at once, and repeats it at this interval.
    pub fn new(interval: Duration) -> Self {
        Self { interval, ended: None, written: None, failures: 0, is_requested: false }
    }

    /// Sets the interval between two exchanges without news.
    pub fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
    }

    /// An event that is to be published was written.
    pub fn wrote(&mut self, now: Duration) {
        let first = self.written.map_or(now, |(first, _)| first);
        self.written = Some((first, now));
    }

    /// A person wants an exchange now.
    pub fn request(&mut self) {
        self.is_requested = true;
    }

    /// Returns `true` if a person waits for an exchange.
    pub fn is_requested(&self) -> bool {
        self.is_requested
    }

    /// An exchange begins: it covers everything that was written before.
    pub fn begin(&mut self) {
        self.written = None;
        self.is_requested = false;
    }

    /// The exchange has ended.
    pub fn end(&mut self, is_success: bool, now: Duration) {
        self.ended = Some(now);
        self.failures = if is_success { 0 } else { self.failures.saturating_add(1) };
    }

    /// When the next exchange is due.
    pub fn due(&self) -> Duration {
        let Some(ended) = self.ended.filter(|_| !self.is_requested) else { return Duration::ZERO };
        if self.failures > 0 {
            let factor = 2u32.saturating_pow((self.failures - 1).min(10));
            return ended + (limits::FIRST_BACKOFF * factor).min(limits::LAST_BACKOFF);
        }
        let periodic = ended + self.interval;
        let news = self.written.map(|(first, last)| {
            let settled = (last + limits::SETTLE).min(first + limits::SOONEST);
            settled.max(ended + limits::SOONEST)
        });
        news.map_or(periodic, |news| news.min(periodic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A schedule whose first exchange ended at 100 s.
    fn quiet() -> Schedule {
        let mut schedule = Schedule::new(seconds(300));
        assert_eq!(schedule.due(), Duration::ZERO);
        schedule.begin();
        schedule.end(true, seconds(100));
        schedule
    }

    #[test]
    fn without_news_an_exchange_is_made_at_the_interval() {
        assert_eq!(quiet().due(), seconds(400));
    }

    #[test]
    fn news_are_published_together_soon_and_at_most_once_a_minute() {
        let mut schedule = quiet();
        schedule.wrote(seconds(200));
        assert_eq!(schedule.due(), seconds(210));
        schedule.wrote(seconds(205));
        assert_eq!(schedule.due(), seconds(215), "more may follow");
        schedule.wrote(seconds(258));
        assert_eq!(schedule.due(), seconds(260), "the first one has waited for a minute");
        schedule.begin();
        schedule.wrote(seconds(261));
        schedule.end(true, seconds(262));
        assert_eq!(schedule.due(), seconds(322), "a minute after the last exchange");
    }

    #[test]
    fn failures_are_repeated_more_and_more_slowly_and_a_request_at_once() {
        let mut schedule = quiet();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            schedule.begin();
            schedule.end(false, seconds(1000));
            schedule.wrote(seconds(1000));
            pauses.push(schedule.due().as_secs() - 1000);
        }
        assert_eq!(pauses, [15, 30, 60, 120, 240, 480, 960, 1800, 1800]);
        schedule.request();
        assert_eq!(schedule.due(), Duration::ZERO);
        schedule.begin();
        schedule.end(true, seconds(2000));
        assert_eq!(schedule.due(), seconds(2300));
    }
}
