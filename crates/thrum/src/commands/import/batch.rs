//! Sends events to the daemon in batches, and adds up its answers.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind, limits};
use thrum_daemon::preview::Preview;
use thrum_store::GoEvent;

use crate::{client::Client, progress::Progress};

/// Time limit for one batch: folding a thousand events into a large log on a slow disk.
pub(super) const BATCH: Duration = limits::LOCAL_CALL.saturating_mul(6);

/// Maximum number of different reasons that are counted separately. An import has a handful; a hostile source could
/// make the daemon name many.
const MOST_REASONS: usize = 32;

/// The receiver of the calls: the daemon or, for a dry run while no daemon runs, a preview based on its files.
pub(super) enum Target {
    Running(Client),
    AtRest(Preview),
}

impl Target {
    pub(super) fn call<T: DeserializeOwned>(
        &mut self,
        within: Duration,
        method: &str,
        params: Value,
    ) -> Result<T, Error> {
        match self {
            Self::Running(client) => client.call_within(within, method, params),
            Self::AtRest(preview) => serde_json::from_value(preview.call(method, &params)?)
                .map_err(|error| Error::new(ErrorKind::Failed, format!("the preview cannot be read: {error}"))),
        }
    }
}

/// The answer to `import.events`, or the sum of several.
#[derive(Default, Deserialize)]
pub(super) struct ImportedBatch {
    pub(super) applied: u64,
    pub(super) skipped: u64,
    pub(super) rejected: Vec<RejectedEvent>,
    /// In a sum: number of rejected events, of which `rejected` lists only the first.
    #[serde(default)]
    pub(super) rejected_count: u64,
    /// In a sum: number of rejected events for each reason, without the details after its first colon.
    #[serde(default)]
    pub(super) reasons: BTreeMap<String, u64>,
}

/// An event that was not imported.
#[derive(Deserialize)]
pub(super) struct RejectedEvent {
    /// The id of the event; empty if it has none.
    pub(super) event_id: String,
    pub(super) reason: String,
    /// Where the event was found, if it was read from a file: the path and the number of the line.
    #[serde(skip)]
    pub(super) place: Option<String>,
}

impl ImportedBatch {
    /// Counts a rejected event, and lists it unless the list is full. Its texts are cut: a reason may quote the event.
    pub(super) fn reject(&mut self, mut refused: RejectedEvent) {
        self.rejected_count += 1;
        for (text, most) in
            [(&mut refused.event_id, limits::MAX_FOREIGN_ID_BYTES), (&mut refused.reason, limits::MAX_REASON_BYTES)]
        {
            text.truncate(text.floor_char_boundary(most));
            text.shrink_to_fit();
        }
        let reason = refused.reason.split(": ").next().unwrap_or_default();
        let is_counted = self.reasons.contains_key(reason) || self.reasons.len() < MOST_REASONS;
        *self.reasons.entry(if is_counted { reason } else { "other reasons" }.to_owned()).or_default() += 1;
        if self.rejected.len() < limits::MAX_BATCH_EVENTS {
            self.rejected.push(refused);
        }
    }

    /// Number of all events: the new ones, those that were here already, and the rejected ones.
    pub(super) fn events(&self) -> u64 {
        self.applied + self.skipped + self.rejected_count
    }
}

/// Collects events and sends them in batches. After an error, the earlier batches and perhaps a part of the last one
/// are stored; a repeated import skips these events.
pub(super) struct Intake<'a> {
    target: &'a mut Target,
    dry_run: bool,
    progress: Progress,
    rows: Vec<Value>,
    /// Length of the events in `rows`.
    bytes: usize,
    pub(super) taken: ImportedBatch,
}

impl<'a> Intake<'a> {
    pub(super) fn new(target: &'a mut Target, dry_run: bool, progress: Progress) -> Self {
        Self { target, dry_run, progress, rows: Vec::new(), bytes: 0, taken: ImportedBatch::default() }
    }

    /// Adds an event, and sends the batch first if the event does not fit into it.
    pub(super) fn push(&mut self, event: &GoEvent) -> Result<(), Error> {
        let length = event.event_json.len();
        let row = match row(event) {
            Ok(row) => row,
            Err(refused) => {
                self.taken.reject(refused);
                return Ok(());
            }
        };
        if self.rows.len() == limits::MAX_BATCH_EVENTS || self.bytes.saturating_add(length) > limits::MAX_BATCH_BYTES {
            self.send()?;
        }
        self.rows.push(row);
        self.bytes += length;
        Ok(())
    }

    /// Sends the last batch. Returns the sum of all answers.
    pub(super) fn finish(mut self) -> Result<ImportedBatch, Error> {
        self.send()?;
        Ok(self.taken)
    }

    fn send(&mut self) -> Result<(), Error> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let params = json!({"events": std::mem::take(&mut self.rows), "dry_run": self.dry_run});
        self.bytes = 0;
        let one: ImportedBatch = self.target.call(BATCH, "import.events", params)?;
        self.taken.applied += one.applied;
        self.taken.skipped += one.skipped;
        one.rejected.into_iter().for_each(|refused| self.taken.reject(refused));
        self.progress.at(self.taken.events());
        Ok(())
    }
}

/// Converts a row into the daemon's form. Rejects an event that is too large for the log or for a line to the daemon.
fn row(event: &GoEvent) -> Result<Value, RejectedEvent> {
    let [event_id, kind, timestamp, origin] = &event.envelope;
    if event.event_json.len() > limits::MAX_EVENT_BYTES
        || Value::from(event.event_json.as_str()).to_string().len() > limits::MAX_LINE_BYTES / 2
    {
        let reason = format!("{} bytes, more than an event may have", event.event_json.len());
        return Err(RejectedEvent { event_id: event_id.clone().unwrap_or_default(), reason, place: None });
    }
    Ok(json!({
        "sequence": event.sequence, "event_id": event_id, "type": kind, "timestamp": timestamp, "origin_daemon": origin,
        "event_json": event.event_json,
    }))
}
