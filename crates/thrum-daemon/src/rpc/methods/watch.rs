//! `events.watch`: streams the log as it grows, on a connection that then carries nothing else. An event that waited
//! for its message is sent a second time, under a higher sequence, when it takes effect.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thrum_core::{Error, exchange::Row, limits};
use tokio::sync::mpsc;

use crate::{
    daemon::Daemon,
    rpc::{connection::Reply, envelope},
    shutdown::Shutdown,
    storage::Storage,
};

/// Number of lines prepared ahead of a slow client. The log is not read further until the client has caught up. Each
/// line may be as long as an event.
const AHEAD: usize = 2;

#[derive(Deserialize)]
pub(super) struct Watch {
    /// The sequence after which to start; by default only future events are sent.
    #[serde(default)]
    after_sequence: Option<u64>,
}

#[derive(Serialize)]
struct Watching<'a> {
    status: &'static str,
    sequence: u64,
    log_id: &'a str,
}

/// An event with the same fields as in a reply to a peer.
#[derive(Serialize)]
struct Committed<'a> {
    sequence: u64,
    event_id: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    timestamp: &'a str,
    origin_daemon: &'a str,
    event_json: &'a RawValue,
}

pub(super) fn watch(daemon: &Daemon, params: Watch) -> Result<Reply, Error> {
    let commit = daemon.storage.commits().borrow().clone();
    let after = params.after_sequence.unwrap_or(commit.latest);
    let answer = envelope::result(&Watching { status: "watching", sequence: after, log_id: &commit.log })?;
    let (sender, receiver) = mpsc::channel(AHEAD);
    daemon.shutdown.spawn(follow(Arc::clone(&daemon.storage), after, sender, daemon.shutdown.clone()));
    Ok(Reply::Stream(answer, receiver))
}

/// Streams events until the connection or the daemon ends, or the log cannot be read.
async fn follow(storage: Arc<Storage>, mut after: u64, lines: mpsc::Sender<String>, shutdown: Shutdown) {
    let mut commits = storage.commits();
    loop {
        commits.mark_unchanged();
        let page = match storage
            .read(move |reader| reader.page(after, limits::MAX_BATCH_EVENTS, limits::MAX_BATCH_BYTES))
            .await
        {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(%error, "cannot serve events.watch");
                return;
            }
        };
        for row in &page.rows {
            after = row.sequence;
            if lines.send(line(row)).await.is_err() {
                return;
            }
        }
        if page.more {
            continue;
        }
        tokio::select! {
            changed = commits.changed() => if changed.is_err() { return },
            () = lines.closed() => return,
            () = shutdown.stopping() => return,
        }
    }
}

fn line(row: &Row) -> String {
    #[derive(Default, Deserialize)]
    struct When {
        #[serde(default)]
        timestamp: String,
    }
    // The timestamp of a foreign event may be invalid.
    let When { timestamp } = serde_json::from_str(&row.body).unwrap_or_default();
    // The body is canonical JSON; otherwise it would not be in the log.
    let event_json: &RawValue = serde_json::from_str(&row.body).unwrap_or(RawValue::NULL);
    envelope::notification(
        "events.committed",
        &Committed {
            sequence: row.sequence,
            event_id: &row.id,
            kind: &row.kind,
            timestamp: &timestamp,
            origin_daemon: &row.origin,
            event_json,
        },
    )
}
