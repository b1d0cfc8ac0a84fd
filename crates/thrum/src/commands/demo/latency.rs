//! Measures how long a message takes from one daemon to another: from the request to the event on the other daemon.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind};

use crate::{answers::Sent, client::Client};

/// How long a delivery may take before it counts as failed.
const LOST: Duration = Duration::from_secs(20);

/// Measured times, sorted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// Returns the time within which `percent` of the runs stayed (nearest rank).
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// One notification of `events.watch`.
#[derive(Debug, Deserialize)]
pub(crate) struct Notice {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    event_json: Value,
}

impl Notice {
    /// Returns a field of the event. Daemons send the event as text or as an object.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let event = match &self.event_json {
            Value::String(text) => serde_json::from_str(text).ok()?,
            event => event.clone(),
        };
        event.get(name)?.as_str().map(str::to_owned)
    }
}

/// Turns a connection to a daemon into a stream of the events committed from now on.
pub(crate) fn watch(mut client: Client) -> Result<Client, Error> {
    client.call::<Value>("events.watch", json!({}))?;
    Ok(client)
}

/// Waits for the first event of type `kind` about the message.
pub(crate) fn arrival(watching: &mut Client, kind: &str, message_id: &str) -> Result<(), Error> {
    let deadline = Instant::now() + LOST;
    while Instant::now() < deadline {
        let notice: Notice = watching.next_notification(deadline.saturating_duration_since(Instant::now()))?;
        if notice.kind == kind && notice.field("message_id").as_deref() == Some(message_id) {
            return Ok(());
        }
    }
    Err(Error::new(ErrorKind::Failed, format!("{message_id} did not arrive within {} s", LOST.as_secs())))
}

/// Sends `number` messages one after the other to one daemon, and measures how long each takes to be readable on the
/// other. Each side is a connection and an agent's name.
pub(crate) fn measure(number: usize, from: (Client, &str), to: (Client, &str)) -> Result<Times, Error> {
    let mut sender = from.0;
    let mut watching = watch(to.0)?;
    let mut times = Vec::with_capacity(number);
    for n in 1..=number {
        let params = json!({"content": format!("message {n} of {number}"), "mentions": [format!("@{}", to.1)], "caller_agent_id": from.1});
        let began = Instant::now();
        let sent: Sent = sender.call("message.send", params)?;
        arrival(&mut watching, "message.create", &sent.message_id)?;
        times.push(began.elapsed());
    }
    Ok(Times::new(times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let times = Times::new((1..=200).rev().map(Duration::from_millis).collect());
        assert_eq!(times.percentile(50), Duration::from_millis(100));
        assert_eq!(times.percentile(99), Duration::from_millis(198));
        assert_eq!(Times::new(vec![Duration::from_millis(7)]).percentile(99), Duration::from_millis(7));
        assert_eq!(Times::default().percentile(50), Duration::ZERO);
    }
}
