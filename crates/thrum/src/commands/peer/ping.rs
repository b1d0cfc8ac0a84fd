//! `thrum peer ping`: contacts one peer now, and reports path, round-trip time, clock offset, versions and backlog.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use thrum_core::Error;
use thrum_sync::{peers::Route, transport::Node};

use crate::{
    answers::{self, Answer, millis},
    context::Context,
    render::{Page, Render, style::BOLD},
    text::{count, quote},
    time,
};

/// Contact a peer, and show its network path, round-trip time, clock offset and backlog
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exits with 75 and the reason if the peer does not answer within 10 seconds.

Examples:
  thrum peer ping desk
  thrum peer ping desk --json")]
pub(crate) struct Args {
    /// The name or daemon ID of the peer
    #[arg(value_name = "NAME")]
    name: String,
}

/// The answer to `peer.ping`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Pinged {
    name: String,
    address: String,
    node: Option<Node>,
    path: Option<Route>,
    asked_over_its_connection: bool,
    round_trip_us: u64,
    clock_offset_ms: Option<i64>,
    version: Option<String>,
    our_version: String,
    backlog_from_them: Option<u64>,
    backlog_to_them: Option<u64>,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<Pong, Error> {
    let progress = cx.output.progress("Asking", None);
    let answer = cx.daemon()?.call_within(thrum_core::limits::PEER_PING, "peer.ping", json!({"name": args.name}));
    drop(progress);
    answer.map(Pong)
}

/// The peer's answer.
pub(crate) struct Pong(Answer<Pinged>);

impl Render for Pong {
    fn human(&self, page: &mut Page) {
        let pinged = &self.0.read;
        let node = pinged.node.as_ref().map(|node| format!(" on {}", answers::node(node))).unwrap_or_default();
        let at = if pinged.asked_over_its_connection {
            "over a connection that it opened".to_owned()
        } else {
            format!("at {}", quote(&pinged.address))
        };
        page.line(format!(
            "{BOLD}{}{BOLD:#} answers in {}, {at}{node}",
            quote(&pinged.name),
            millis(pinged.round_trip_us)
        ));
        if let Some(path) = &pinged.path {
            page.line(format!("    Path: {}", answers::route(path)));
        }
        let clock = match pinged.clock_offset_ms {
            None => "unknown".to_owned(),
            Some(offset) if offset.unsigned_abs() < SAME_CLOCK_MS => "the same".to_owned(),
            Some(offset) => {
                let direction = if offset > 0 { "ahead" } else { "behind" };
                format!("{} {direction}", time::length(Duration::from_millis(offset.unsigned_abs())))
            }
        };
        let theirs = pinged.version.as_deref().map_or_else(|| "of Go Thrum".to_owned(), quote);
        page.line(format!("    Version: {theirs} there, {} here; its clock: {clock}", quote(&pinged.our_version)));
        let waiting = |backlog: Option<u64>| match backlog {
            Some(0) => "nothing".to_owned(),
            Some(events) => count(events, "event"),
            None => "unknown".to_owned(),
        };
        page.line(format!(
            "    Waiting: {} for us, {} for it",
            waiting(pinged.backlog_from_them),
            waiting(pinged.backlog_to_them)
        ));
    }

    fn json(&self) -> Value {
        self.0.raw.clone()
    }
}

/// The clock offset, in milliseconds, below which two clocks count as the same: an offset that is measured over a
/// network may be wrong by that much.
const SAME_CLOCK_MS: u64 = 100;

#[cfg(test)]
mod tests {
    use thrum_core::Timestamp;

    use super::*;

    fn shown(value: Value) -> String {
        let mut page = Page::new(Some(100), Timestamp::parse("2026-11-23T10:05:00Z").unwrap());
        Pong(serde_json::from_value(value).unwrap()).human(&mut page);
        page.plain()
    }

    #[test]
    fn a_ping_shows_path_round_trip_clock_versions_and_what_waits() {
        let text = shown(json!({
            "name": "desk", "address": "100.64.0.2:9100", "node": {"id": "n1", "name": "tower", "user": "ann@example.com"},
            "path": {"relay": "fra", "round_trip_us": 48_200}, "round_trip_us": 730, "clock_offset_ms": -1500, "version": "0.1.0",
            "our_version": "0.2.0", "backlog_from_them": 0, "backlog_to_them": 12,
        }));
        assert_eq!(
            text,
            "\
desk answers in 0.7 ms, at 100.64.0.2:9100 on tower (ann@example.com)
    Path: via relay fra, 48 ms
    Version: 0.1.0 there, 0.2.0 here; its clock: 1.5s behind
    Waiting: nothing for us, 12 events for it
"
        );
    }

    #[test]
    fn a_peer_that_cannot_be_dialled_answers_over_a_connection_that_it_opened() {
        let text = shown(
            json!({"name": "desk", "address": "127.0.0.1:9100", "asked_over_its_connection": true, "round_trip_us": 1000}),
        );
        assert!(text.starts_with("desk answers in 1.0 ms, over a connection that it opened\n"), "{text}");
    }

    #[test]
    fn a_ping_of_a_legacy_peer_shows_no_invented_values() {
        let text = shown(
            json!({"name": "go\u{1b}[2J", "address": "127.0.0.1:9100", "round_trip_us": 12, "our_version": "0.2.0"}),
        );
        assert_eq!(
            text,
            "\
\"go\\u{1b}[2J\" answers in 0.0 ms, at 127.0.0.1:9100
    Version: of Go Thrum there, 0.2.0 here; its clock: unknown
    Waiting: unknown for us, unknown for it
"
        );
    }
}
