//! Measures delivery over a tailnet between two running daemons that are not paired yet. Each has its own node.

use std::{path::PathBuf, time::Duration};

use serde_json::{Value, json};
use thrum_core::Error;

use super::{
    figures::Figures,
    ours,
    work::{Agent, Daemon},
};
use crate::commands::demo::latency::{self, Times};

/// Fills the first daemon and pairs the second with it. Measures the catch-up, single messages in both directions, the
/// round trip of a request to the peer, and the daemons' memory.
pub(super) fn measure(
    daemons: (&PathBuf, &PathBuf),
    events: u64,
    messages: usize,
    step: &dyn Fn(&str),
    figures: &mut Figures,
) -> Result<(), Error> {
    let (one, other) = daemons;
    let (writer, _) = (Agent::visiting(one)?, Agent::visiting(other)?);
    for (which, daemon) in [("the first", one), ("the second", other)] {
        let health = ours::health(daemon)?;
        let node = health.tailnet.mode.unwrap_or_else(|| "no".to_owned());
        figures.memory(&format!("memory of {which} daemon ({node} node), before"), ours::memory(daemon)?);
    }
    step("catch-up");
    figures.catch_up("catch-up over the tailnet", &ours::catch_up((one, &writer), other, events, "tailscale")?);
    step("delivery");
    for (what, from, to) in [("there", one, other), ("back", other, one)] {
        let times = latency::measure(messages, (from.connect()?, "bench"), (to.connect()?, "bench"))?;
        figures.times(&format!("sent on one daemon, readable on the other, {what}"), &times);
    }
    step("round trips");
    let (times, path) = round_trips(one, PINGS)?;
    figures.times(&format!("one request to the peer and its answer, {path}"), &times);
    for (which, daemon) in [("the first", one), ("the second", other)] {
        figures.memory(&format!("memory of {which} daemon, after"), ours::memory(daemon)?);
    }
    Ok(())
}

/// Number of pings to the peer.
const PINGS: usize = 20;

/// Pings the most recently paired peer. Returns the round-trip times and the network path.
fn round_trips(daemon: &PathBuf, number: usize) -> Result<(Times, String), Error> {
    let mut client = daemon.connect()?;
    let peers: Vec<Value> = client.call("peer.list", json!({}))?;
    let name = peers.last().and_then(|peer| peer["name"].as_str()).unwrap_or_default().to_owned();
    let (mut times, mut path) = (Vec::with_capacity(number), String::new());
    for _ in 0..number {
        let ping: Value = client.call("peer.ping", json!({"name": name}))?;
        times.push(Duration::from_micros(ping["round_trip_us"].as_u64().unwrap_or_default()));
        path = ping["path"]["relay"].as_str().map_or_else(|| "direct".to_owned(), |relay| format!("via relay {relay}"));
    }
    Ok((Times::new(times), path))
}
