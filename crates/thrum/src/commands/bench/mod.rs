//! `thrum bench`: the figures that the project promises, measured on the machine at hand with real daemons.
//!
//! Numbers differ between machines and days, so they are no test. What is measured: `message.send` on the socket, alone
//! and with writers beside each other; the way from one daemon to another; a cold catch-up; whole commands; an idle daemon.

mod measure;

use std::time::Duration;

use serde_json::{Value, json};
use thrum_core::Fault;

use crate::{
    commands::demo::{
        latency::{self, Times},
        ms,
        stage::Stage,
    },
    context::Context,
    render::{Page, Render},
    time,
};

/// Measure speed and memory on this machine, with daemons of its own
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  thrum bench --events 1000 --messages 200
  thrum bench --events 1000 --messages 200 --json")]
pub(crate) struct Args {
    /// Events for the catch-up
    #[arg(long, default_value_t = 20_000, value_name = "N", value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
    events: u64,
    /// Messages for each measurement of sending
    #[arg(long, default_value_t = 8_000, value_name = "N", value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    messages: u32,
}

/// One line of the table.
struct Figure {
    what: String,
    value: Value,
    text: String,
}

/// Everything measured.
pub(crate) struct Figures(Vec<Figure>);

/// Most messages sent one by one, and delivered between daemons.
const ONE_BY_ONE: usize = 1000;

/// Most runs of each command.
const COMMANDS: usize = 40;

pub(crate) fn run(args: &Args, cx: &Context) -> Result<Figures, Fault> {
    let stage = Stage::open("bench")?;
    let messages = args.messages as usize;
    let one_by_one = messages.min(ONE_BY_ONE);
    let (left, right) = (stage.repository("left")?, stage.repository("right")?);
    let mut figures = Figures(Vec::new());
    let step = |what: &str| cx.output.note(&format!("Measuring {what} …"));

    left.run(&["quickstart", "--name", "ann", "--role", "writer", "--module", "bench"])?;
    right.run(&["quickstart", "--name", "bob", "--role", "reader", "--module", "bench"])?;
    step("an idle daemon");
    figures.0.extend(measure::memory(&left)?.map(|bytes| Figure {
        what: "idle daemon, memory".to_owned(),
        value: json!({"bytes": bytes}),
        text: format!("{:.1} MB", bytes as f64 / 1e6),
    }));

    step("messages");
    figures.times("message.send, 1 writer", &measure::send_one_by_one(&left, one_by_one)?);
    for writers in [8, 50] {
        let (times, took) = measure::send_beside(&left, writers, messages / writers)?;
        figures.rate(&format!("message.send, {writers} writers"), &times, took);
    }

    step("catch-up");
    let (events, took) = measure::catch_up(&left, &right, args.events)?;
    let rate = events as f64 / took.as_secs_f64();
    figures.0.push(Figure {
        what: format!("catch-up of {events} events"),
        value: json!({"events": events, "seconds": took.as_secs_f64(), "per_second": rate.round()}),
        text: format!("{rate:.0} events/s  (in {:.2} s, pairing included)", took.as_secs_f64()),
    });

    step("delivery");
    figures.times("sent on one, readable on the other", &latency::measure(one_by_one, (&left, "ann"), (&right, "bob"))?);

    step("commands");
    for command in [&["send", "hello", "--to", "@ann"][..], &["inbox"], &["status"]] {
        figures.times(&format!("thrum {}", command[0]), &measure::commands(&right, command, messages.min(COMMANDS))?);
    }
    Ok(figures)
}

impl Figures {
    fn times(&mut self, what: &str, times: &Times) {
        let (half, most) = (times.percentile(50), times.percentile(99));
        self.0.push(Figure {
            what: what.to_owned(),
            value: json!({"p50_ms": ms(half), "p99_ms": ms(most), "runs": times.len()}),
            text: format!("p50 {}  p99 {}", time::millis(half), time::millis(most)),
        });
    }

    fn rate(&mut self, what: &str, times: &Times, took: Duration) {
        let rate = times.len() as f64 / took.as_secs_f64();
        self.0.push(Figure {
            what: what.to_owned(),
            value: json!({"per_second": rate.round(), "p99_ms": ms(times.percentile(99)), "runs": times.len()}),
            text: format!("{rate:.0} messages/s  p99 {}", time::millis(times.percentile(99))),
        });
    }
}

impl Render for Figures {
    fn human(&self, page: &mut Page) {
        page.table(&["WHAT", "MEASURED"], self.0.iter().map(|figure| vec![figure.what.clone(), figure.text.clone()]).collect());
    }

    fn json(&self) -> Value {
        Value::Array(
            self.0
                .iter()
                .map(|figure| {
                    let mut value = figure.value.clone();
                    value["what"] = figure.what.as_str().into();
                    value
                })
                .collect(),
        )
    }
}
