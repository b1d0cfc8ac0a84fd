//! What was measured, as a table and as data.

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

/// One line of the table.
struct Figure {
    what: String,
    value: Value,
    text: String,
}

/// Everything measured.
#[derive(Default)]
pub(crate) struct Figures(Vec<Figure>);

impl Figures {
    fn add(&mut self, what: &str, value: Value, text: String) {
        self.0.push(Figure { what: what.to_owned(), value, text });
    }

    /// How long each took.
    pub(super) fn times(&mut self, what: &str, times: &Times) {
        let (half, most) = (times.percentile(50), times.percentile(99));
        let value = json!({"p50_ms": ms(half), "p99_ms": ms(most), "runs": times.len()});
        self.add(what, value, format!("p50 {}  p99 {}", time::millis(half), time::millis(most)));
    }

    /// How many a second, how long each took, and what each cost.
    pub(super) fn rate(&mut self, what: &str, cost: &Cost) {
        let (rate, most) = (per_second(&cost.beside), cost.beside.times.percentile(99));
        let value = json!({
            "per_second": rate.round(), "p99_ms": ms(most), "runs": cost.beside.times.len(), "daemon_cpu_ms": cost.each.map(ms),
        });
        let cpu = cost.each.map(|each| format!("  daemon {} of a core each", time::millis(each))).unwrap_or_default();
        self.add(what, value, format!("{rate:.0} messages/s  p99 {}{cpu}", time::millis(most)));
    }

    /// How many of anything a second.
    pub(super) fn per_second(&mut self, what: &str, number: u64, took: Duration) {
        let rate = number as f64 / took.as_secs_f64();
        self.add(what, json!({"per_second": rate.round(), "number": number}), format!("{rate:.0} /s"));
    }

    pub(super) fn catch_up(&mut self, what: &str, caught_up: &CaughtUp) {
        let CaughtUp { events, took } = caught_up;
        let rate = *events as f64 / took.as_secs_f64();
        let value = json!({"events": events, "seconds": took.as_secs_f64(), "per_second": rate.round()});
        let text = format!("{rate:.0} events/s  (in {:.2} s, pairing included)", took.as_secs_f64());
        self.add(&format!("{what} of {events} events"), value, text);
    }

    /// How long something took.
    pub(super) fn took(&mut self, what: &str, took: Duration) {
        self.add(what, json!({"seconds": took.as_secs_f64()}), format!("{:.1} s", took.as_secs_f64()));
    }

    /// Nothing is said where the system does not tell.
    pub(super) fn memory(&mut self, what: &str, bytes: Option<u64>) {
        if let Some(bytes) = bytes {
            self.add(what, json!({"bytes": bytes}), format!("{:.1} MB", bytes as f64 / 1e6));
        }
    }

    pub(super) fn disk(&mut self, messages: u64, bytes: u64) {
        let each = bytes / messages.max(1);
        self.add("on disk, per message", json!({"bytes": each, "messages": messages}), format!("{each} bytes"));
    }

    /// How long each took here and there.
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

    /// How many a second here and there.
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

fn per_second(beside: &Beside) -> f64 {
    beside.times.len() as f64 / beside.took.as_secs_f64()
}

impl Render for Figures {
    fn human(&self, page: &mut Page) {
        page.table(&["WHAT", "MEASURED"], self.0.iter().map(|figure| vec![figure.what.clone(), figure.text.clone()]).collect());
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
