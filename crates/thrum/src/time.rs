//! Parses and formats times for users.

use std::time::Duration;

use jiff::SignedDuration;
use thrum_core::Timestamp;
pub(crate) use thrum_daemon::now;

/// Longest duration that is accepted: nobody needs a longer wait, and adding it to a clock cannot overflow.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// Parses a duration from the command line: `20s`, `8m`, `1h30m`, `500ms`; a number alone is seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let length = Duration::try_from(parse_signed(text)?).map_err(|_| "must not be negative".to_owned())?;
    if length > LONGEST { Err("is longer than a year".to_owned()) } else { Ok(length) }
}

/// Parses a value of `--after`: an instant, or a distance back from now (`-15s`). A distance into the future needs a
/// sign (`+5s`), because without one it is more likely that the `-` was forgotten.
pub(crate) fn parse_instant(text: &str) -> Result<Timestamp, String> {
    if let Some(stamp) = Timestamp::parse(text) {
        return Ok(stamp);
    }
    let forms = "give a distance such as -15s, or a time such as 2026-11-23T05:30:00Z";
    let distance = parse_signed(text).map_err(|_| forms.to_owned())?;
    if distance.is_positive() && !text.trim_start().starts_with('+') {
        return Err(format!(
            "lies in the future, and no message is from there yet: write -{text} for what came since, or +{text}"
        ));
    }
    Ok(if distance.is_negative() { now().minus(distance.unsigned_abs()) } else { now().plus(distance.unsigned_abs()) })
}

/// Parses a time in the past from the command line: a distance back from now (`2d`, `24h`, `1w`), the beginning of a
/// local day (`2026-11-20`), or an instant.
pub(crate) fn parse_past(text: &str) -> Result<Timestamp, String> {
    if let Some(stamp) = Timestamp::parse(text) {
        return Ok(stamp);
    }
    let forms = || {
        "give a distance such as 30d, 24h or 1h30m, a day such as 2026-11-20, or a time such as 2026-11-23T05:30:00Z"
            .to_owned()
    };
    // A date of ten characters cannot be confused with the other forms. Further forms that jiff accepts (a time without
    // zone) are rejected.
    if text.len() == 10
        && let Ok(date) = text.parse::<jiff::civil::Date>()
    {
        let midnight = date.to_zoned(jiff::tz::TimeZone::system()).map_err(|_| forms())?;
        let nanos = i64::try_from(midnight.timestamp().as_nanosecond()).ok().filter(|nanos| *nanos >= 0);
        return nanos.map(Timestamp::from_nanos).ok_or_else(|| "the day lies outside 1970 to 2262".to_owned());
    }
    let span: jiff::Span = text.parse().map_err(|_| forms())?;
    let length = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| forms())?;
    if length.is_negative() {
        Err("must not be negative: it is a distance back from now".to_owned())
    } else {
        Ok(now().minus(length.unsigned_abs()))
    }
}

fn parse_signed(text: &str) -> Result<SignedDuration, String> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let bare = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = if bare { format!("{text}s") } else { text.to_owned() };
    seconds.parse().map_err(|_| "give a number with a unit: 20s, 8m, 1h30m, 500ms".to_owned())
}

/// Formats a duration in one or two words: `12s`, `5m`, `3h 20m`, `2d`.
pub(crate) fn brief(length: Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..36_000 if seconds % 3_600 >= 60 => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
        3_600..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Formats a duration like [`brief`], but below ten seconds more precisely: `150 ms`, `1.5s`, `12s`, `5m`, `730d`.
pub(crate) fn length(length: Duration) -> String {
    match length.as_millis() {
        ms @ 0..1_000 => format!("{ms} ms"),
        ms @ 1_000..10_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        _ => brief(length),
    }
}

/// Formats how long ago `then` was.
pub(crate) fn ago(now: Timestamp, then: Timestamp) -> String {
    match now.since(then) {
        short if short < Duration::from_secs(2) => "just now".to_owned(),
        length => format!("{} ago", brief(length)),
    }
}

/// Formats an instant to the second, in UTC.
pub(crate) fn exact(then: Timestamp) -> String {
    then.to_the_second()
}

/// Formats milliseconds with a useful number of digits: `0.42 ms`, `3.1 ms`, `120 ms`.
pub(crate) fn millis(length: Duration) -> String {
    let ms = length.as_secs_f64() * 1e3;
    match ms {
        ms if ms < 1.0 => format!("{ms:.2} ms"),
        ms if ms < 100.0 => format!("{ms:.1} ms"),
        ms => format!("{ms:.0} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_seconds_unless_they_have_a_unit_and_have_no_sign() {
        assert_eq!(parse_duration("20s"), Ok(Duration::from_secs(20)));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("30"), Ok(Duration::from_secs(30)));
        for text in ["", "-", "-5s", "-5", "99999999999999999999", "soon", "20 parsecs", "9999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_past_is_a_distance_a_day_or_an_instant() {
        let back = |text: &str| {
            let then = parse_past(text).expect(text);
            now().since(then).as_secs()
        };
        assert_eq!((back("2d") / 60, back("24h") / 60, back("1w") / 60), (2880, 1440, 10_080));
        assert_eq!(parse_past("2026-11-23T05:30:00Z"), Ok(Timestamp::parse("2026-11-23T05:30:00Z").expect("valid")));
        let day = parse_past("2026-11-20").expect("a day");
        assert!(
            Timestamp::parse("2026-11-20T00:00:00Z").expect("valid").since(day).as_secs() < 86_400,
            "midnight of wherever this runs"
        );
        for text in [
            "",
            "2",
            "soon",
            "-2d",
            "2 moons",
            "1mo",
            "2026-13-01",
            "2026-11-20T10:00:00",
            "1066-10-14",
            "2d 2026-11-20",
        ] {
            assert!(parse_past(text).is_err(), "{text}");
        }
    }

    #[test]
    fn after_is_a_distance_from_now_or_an_instant() {
        assert_eq!(parse_instant("2026-11-23T05:30:00Z"), Ok(Timestamp::parse("2026-11-23T05:30:00Z").expect("valid")));
        let before = now();
        let fifteen = parse_instant("-15s").expect("valid");
        assert!(fifteen < before && before.since(fifteen) <= Duration::from_secs(15));
        let ninety = parse_instant("-90").expect("seconds");
        assert_eq!(now().since(ninety).as_secs() / 10, 9);
        assert!(parse_instant("+5s").expect("valid") > before);
        assert!(parse_instant("2h").unwrap_err().contains("write -2h"), "a forgotten sign");
        assert!(parse_instant("yesterday").is_err());
    }

    #[test]
    fn durations_are_shown_with_at_most_two_units() {
        let of = |seconds| brief(Duration::from_secs(seconds));
        assert_eq!([of(5), of(90), of(12_000), of(40_000), of(200_000)], ["5s", "1m", "3h 20m", "11h", "2d"]);
        let exactly = |millis| length(Duration::from_millis(millis));
        assert_eq!(
            [exactly(150), exactly(1_500), exactly(12_000), exactly(63_071_999_999)],
            ["150 ms", "1.5s", "12s", "729d"]
        );
        assert_eq!(exact(Timestamp::parse("2026-11-23T05:30:01.5Z").expect("valid")), "2026-11-23T05:30:01Z");
    }
}
