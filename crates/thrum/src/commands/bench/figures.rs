//! The measured figures, as a table and as JSON.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    ours::{CaughtUp, Cost},
    work::Beside,
};
use crate::{
    commands::demo::{latency::Times, ms},
    render::{Page, Render},
    time,
};

/// Bytes of English text or JSON per token, a rule of thumb of model vendors. Real token counts differ.
const BYTES_OF_TOKEN: usize = 4;

/// One line of the table.
struct Figure {
    what: String,
    value: Value,
    text: String,
}

/// A number in the data of a line that can be compared between two runs.
pub(super) struct Number {
    /// The number's key in the line's JSON.
    pub(super) key: &'static str,
    /// The words for the number that are appended to the line's name; empty if the name says enough.
    pub(super) says: &'static str,
    pub(super) unit: &'static str,
}

const NUMBERS: &[Number] = &[
    Number { key: "p50_ms", says: ", p50", unit: "ms" },
    Number { key: "p99_ms", says: ", p99", unit: "ms" },
    Number { key: "per_second", says: "", unit: "per second" },
    Number { key: "daemon_cpu_ms", says: ", daemon's processor time for each", unit: "ms" },
    Number { key: "bytes", says: "", unit: "bytes" },
];

/// One number, measured with two builds: one value of each build for each round.
#[derive(Default)]
pub(super) struct Measured {
    pub(super) this: Vec<f64>,
    pub(super) other: Vec<f64>,
}

/// How the reading of a peer's log ended.
pub(super) struct Ended {
    /// Number of events that were taken.
    pub(super) taken: u64,
    /// `true` if the quota stopped the reading.
    pub(super) is_over_quota: bool,
    /// Time until the end; `None` if the measurement ended first.
    pub(super) after: Option<Duration>,
}

/// All figures.
#[derive(Default)]
pub(crate) struct Figures(Vec<Figure>);

impl Figures {
    fn add(&mut self, what: &str, value: Value, text: String) {
        self.0.push(Figure { what: what.to_owned(), value, text });
    }

    /// Adds how long each run took.
    pub(super) fn times(&mut self, what: &str, times: &Times) {
        let (half, most) = (times.percentile(50), times.percentile(99));
        let worst = times.percentile(100);
        let value = json!({"p50_ms": ms(half), "p99_ms": ms(most), "max_ms": ms(worst), "runs": times.len()});
        self.add(
            what,
            value,
            format!("p50 {}  p99 {}  max {}", time::millis(half), time::millis(most), time::millis(worst)),
        );
    }

    /// Adds the message rate, the p99 of the send times, and the daemon's processor time for each message.
    pub(super) fn rate(&mut self, what: &str, cost: &Cost) {
        let (rate, most) = (per_second(&cost.beside), cost.beside.times.percentile(99));
        let value = json!({
            "per_second": rate.round(), "p99_ms": ms(most), "runs": cost.beside.times.len(), "daemon_cpu_ms": cost.each.map(ms),
        });
        let cpu = cost.each.map(|each| format!("  daemon {} of a core each", time::millis(each))).unwrap_or_default();
        self.add(what, value, format!("{rate:.0} messages/s  p99 {}{cpu}", time::millis(most)));
    }

    /// Adds a number of items per second.
    pub(super) fn per_second(&mut self, what: &str, number: u64, took: Duration) {
        let rate = number as f64 / took.as_secs_f64();
        self.add(what, json!({"per_second": rate.round(), "number": number}), format!("{rate:.0} /s"));
    }

    pub(super) fn catch_up(&mut self, what: &str, caught_up: &CaughtUp) {
        let CaughtUp { events, took } = caught_up;
        let rate = *events as f64 / took.as_secs_f64();
        let value = json!({"events": events, "seconds": took.as_secs_f64(), "per_second": rate.round()});
        let text = format!("{rate:.0} events/s  ({events} in {:.2} s, pairing included)", took.as_secs_f64());
        self.add(what, value, text);
    }

    /// Adds how far a peer's log of `events` events was read.
    pub(super) fn read(&mut self, what: &str, ended: &Ended, events: usize) {
        let Ended { taken, is_over_quota, after } = ended;
        let value = json!({"taken": taken, "events": events, "over_quota": is_over_quota, "seconds": after.map(|after| after.as_secs_f64())});
        let how = if *is_over_quota {
            format!("over quota with {taken} of {events} events")
        } else {
            format!("{taken} of {events} events")
        };
        let when = after.map_or("the rest not in time".to_owned(), |after| format!("in {:.1} s", after.as_secs_f64()));
        self.add(what, value, format!("{how}, {when}"));
    }

    /// Adds how many cores the daemon and this command used, and how many bytes per second the daemon wrote.
    pub(super) fn load(&mut self, what: &str, daemon: f64, here: f64, written: u64) {
        let value = json!({"daemon_cores": daemon, "own_cores": here, "written_per_second": written});
        self.add(
            what,
            value,
            format!(
                "the daemon used {daemon:.1} cores, this command {here:.1}; {:.1} MB/s written",
                written as f64 / 1e6
            ),
        );
    }

    /// Adds a memory size; adds nothing if the system does not report it.
    pub(super) fn memory(&mut self, what: &str, bytes: Option<u64>) {
        if let Some(bytes) = bytes {
            self.size(what, bytes);
        }
    }

    /// Adds what a text costs a model: its bytes, and an estimate of its tokens.
    pub(super) fn cost(&mut self, what: &str, bytes: usize) {
        let tokens = bytes.div_ceil(BYTES_OF_TOKEN);
        self.add(
            what,
            json!({"bytes": bytes, "tokens_estimated": tokens}),
            format!("{bytes} bytes, some {tokens} tokens"),
        );
    }

    /// Adds the processor time that a process used while idle; adds nothing if the system does not report it.
    pub(super) fn idle(&mut self, what: &str, used: Option<Duration>, within: Duration) {
        if let Some(used) = used {
            let value = json!({"cpu_ms": ms(used), "seconds": within.as_secs_f64()});
            self.add(what, value, format!("{} of a core in {:.1} s", time::millis(used), within.as_secs_f64()));
        }
    }

    /// Adds a size in bytes.
    pub(super) fn size(&mut self, what: &str, bytes: u64) {
        self.add(what, json!({"bytes": bytes}), format!("{:.1} MB", bytes as f64 / 1e6));
    }

    /// Adds the bytes for each of `messages`.
    pub(super) fn each_message(&mut self, what: &str, messages: usize, bytes: u64) {
        let each = bytes / messages.max(1) as u64;
        self.add(what, json!({"bytes": each, "messages": messages}), format!("{each} bytes each"));
    }

    /// Adds the processor time for each of `runs`; adds nothing if the system does not report it.
    pub(super) fn each_time(&mut self, what: &str, used: Option<Duration>, runs: usize) {
        if let Some(used) = used {
            let each = used.div_f64(runs.max(1) as f64);
            self.add(what, json!({"cpu_ms": ms(each), "runs": runs}), format!("{} of a core", time::millis(each)));
        }
    }

    pub(super) fn disk(&mut self, messages: u64, bytes: u64) {
        let each = bytes / messages.max(1);
        self.add("on disk, per message", json!({"bytes": each, "messages": messages}), format!("{each} bytes"));
    }

    /// Adds the bytes that two daemons exchanged for each of `messages`, which went one way.
    pub(super) fn wire(&mut self, what: &str, messages: usize, there: u64, back: u64) {
        let each = |bytes: u64| (bytes as f64 / messages.max(1) as f64).round();
        let (bytes, there, back) = (each(there + back), each(there), each(back));
        let value = json!({"bytes": bytes, "bytes_there": there, "bytes_back": back, "messages": messages});
        self.add(what, value, format!("{bytes} bytes  ({there} there, {back} back; {messages} messages)"));
    }

    /// Adds the ratios of one measurement of two builds, lowest, median and highest of all rounds.
    pub(super) fn ratios(&mut self, what: &str, measured: &Measured, unit: &str) {
        let mut ratios: Vec<f64> =
            measured.this.iter().zip(&measured.other).map(|(this, other)| this / other).collect();
        ratios.sort_by(f64::total_cmp);
        let (low, half, high) = (ratios[0], median(&ratios), ratios[ratios.len() - 1]);
        let (this, other) = (median(&measured.this), median(&measured.other));
        let value = json!({
            "unit": unit, "this": measured.this, "other": measured.other,
            "ratio": half, "lowest_ratio": low, "highest_ratio": high,
        });
        let text = format!("{} against {} {unit}: ratio {half:.2} ({low:.2}–{high:.2})", short(this), short(other));
        self.add(what, value, text);
    }

    /// The numbers of each line that can be compared between two runs: the line's name, the number's key and unit, and
    /// the number.
    pub(super) fn numbers(&self) -> impl Iterator<Item = (&str, &'static Number, f64)> {
        self.0.iter().flat_map(|figure| {
            NUMBERS.iter().filter_map(|number| Some((figure.what.as_str(), number, figure.value[number.key].as_f64()?)))
        })
    }

    /// Adds how long a run took on our daemons and on the others.
    pub(super) fn times_against(&mut self, what: &str, ours: &Times, others: &Times) {
        let (here, there) = (ours.percentile(50), others.percentile(50));
        let ratio = there.as_secs_f64() / here.as_secs_f64();
        let value = json!({
            "p50_ms": ms(here), "p99_ms": ms(ours.percentile(99)), "other_p50_ms": ms(there), "other_p99_ms": ms(others.percentile(99)),
            "ratio": ratio,
        });
        let text = format!("p50 {} against {}: {ratio:.1} times as fast", time::millis(here), time::millis(there));
        self.add(&format!("compared: {what}"), value, text);
    }

    /// Adds the message rates of our daemons and of the others.
    pub(super) fn rate_against(&mut self, what: &str, ours: &Beside, others: &Beside) {
        let (here, there) = (per_second(ours), per_second(others));
        let value = json!({"per_second": here.round(), "other_per_second": there.round(), "ratio": here / there});
        self.add(
            &format!("compared: {what}"),
            value,
            format!("{here:.0} against {there:.0} messages/s: {:.1} times as many", here / there),
        );
    }
}

/// The median; of an even number of values, the lower of the two in the middle.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) / 2]
}

/// A number rounded for reading: to two decimals below 10, to one below 100, and to none above.
fn short(number: f64) -> String {
    match number.abs() {
        size if size >= 100.0 => format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

fn per_second(beside: &Beside) -> f64 {
    beside.times.len() as f64 / beside.took.as_secs_f64()
}

impl Render for Figures {
    fn human(&self, page: &mut Page) {
        page.table(
            &["WHAT", "MEASURED"],
            self.0.iter().map(|figure| vec![figure.what.clone(), figure.text.clone()]).collect(),
        );
    }

    fn json(&self) -> Value {
        let lines = self.0.iter().map(|figure| {
            let mut value = figure.value.clone();
            value["what"] = figure.what.as_str().into();
            value
        });
        Value::Array(lines.collect())
    }
}
