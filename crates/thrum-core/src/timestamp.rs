//! Timestamps as events carry them: UTC, in nanoseconds, from 1970 to 2262.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An instant in nanoseconds since 1970-01-01T00:00:00Z, never negative.
///
/// Printed as RFC 3339 in UTC with nine digits and `Z`, so that the strings sort like the instants. Go trims trailing
/// zeros, which breaks that order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z, which also stands for "no time". An event has it if neither its timestamp nor its id has a
    /// readable time.
    pub const ZERO: Self = Self(0);

    /// 2026-01-01T00:00:00Z, when this program did not exist yet. A clock that shows an earlier time is not set.
    pub const PLAUSIBLE: Self = Self(1_767_225_600_000_000_000);

    /// From nanoseconds since the epoch; negative values become zero.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(if nanos < 0 { 0 } else { nanos })
    }

    /// From milliseconds since the epoch, the unit of a ULID. `None` beyond the year 2262.
    pub fn from_millis(millis: u64) -> Option<Self> {
        i64::try_from(millis).ok()?.checked_mul(1_000_000).map(Self)
    }

    /// Parses any RFC 3339 text. `None` if it is invalid or outside 1970–2262.
    pub fn parse(text: &str) -> Option<Self> {
        let nanos = text.parse::<jiff::Timestamp>().ok()?.as_nanosecond();
        i64::try_from(nanos).ok().filter(|nanos| *nanos >= 0).map(Self)
    }

    /// Nanoseconds since the epoch.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Whole milliseconds since the epoch.
    pub const fn millis(self) -> u64 {
        (self.0 / 1_000_000).unsigned_abs()
    }

    /// Whole seconds since the epoch.
    pub const fn seconds(self) -> u64 {
        (self.0 / 1_000_000_000).unsigned_abs()
    }

    /// The instant one nanosecond later, at most the last representable one.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Formats the instant for people: in UTC, truncated to the second.
    pub fn to_the_second(self) -> String {
        let text = self.to_string();
        format!("{}Z", text.get(..19).unwrap_or(&text))
    }

    /// The instant `duration` later, at most the last representable one.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// The instant `duration` earlier, at least 1970.
    pub fn minus(self, duration: Duration) -> Self {
        Self::from_nanos(self.0.saturating_sub(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// The time elapsed since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0).max(0).unsigned_abs())
    }
}

impl Timestamp {
    /// The instant as RFC 3339 in whole seconds, rounded up, for people who must wait until then.
    pub fn in_seconds(self) -> String {
        const SECOND: i64 = 1_000_000_000;
        let text = Self(self.0.saturating_add(SECOND - 1) / SECOND * SECOND).to_string();
        text.split_once('.').map_or(text.clone(), |(seconds, _)| format!("{seconds}Z"))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = jiff::Timestamp::from_nanosecond(self.0.into()).map_err(|_| fmt::Error)?;
        write!(f, "{time:.9}")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("not an RFC 3339 time between 1970 and 2262"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_time_is_the_same_timestamp() {
        let expected = Timestamp::from_nanos(1_774_717_513_941_790_360);
        for text in
            ["2026-03-28T17:05:13.94179036Z", "2026-03-28T17:05:13.941790360Z", "2026-03-28T10:05:13.94179036-07:00"]
        {
            assert_eq!(Timestamp::parse(text), Some(expected), "{text}");
        }
        assert_eq!(expected.to_string(), "2026-03-28T17:05:13.941790360Z");
        assert_eq!(Timestamp::ZERO.to_string(), "1970-01-01T00:00:00.000000000Z");
    }

    #[test]
    fn texts_outside_the_range_of_timestamps_are_refused() {
        for text in
            ["", "yesterday", "1969-12-31T23:59:59Z", "2263-01-01T00:00:00Z", "10889-08-02T05:31:50Z", "2026-03-28"]
        {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }
}
