//! `purge.execute`: throwing old mail away, everywhere.

use serde::{Deserialize, Serialize};
use thrum_core::{Ambient, ErrorKind, Fault, Stamp};
use thrum_store::{Purged, ops};

use super::required;
use crate::{ambient::System, daemon::Daemon};

#[derive(Deserialize)]
pub(super) struct Execute {
    #[serde(default)]
    before: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Serialize)]
pub(super) struct Executed {
    before: String,
    dry_run: bool,
    messages_deleted: u64,
    sessions_deleted: u64,
    events_deleted: u64,
    /// Go Thrum's words for what it rewrote on its git branch; nothing of ours is there.
    sync_message_files: u64,
    sync_events_filtered: u64,
}

/// Answered when nothing of it can be read in the file any more.
pub(super) async fn execute(daemon: &Daemon, params: Execute) -> Result<Executed, Fault> {
    let before = required("before", params.before)?;
    let cutoff = Stamp::parse(&before)
        .ok_or_else(|| Fault::new(ErrorKind::Invalid, "before must be an RFC 3339 time such as 2026-11-23T05:30:00Z"))?;
    let Purged { messages, sessions, events } = if params.dry_run {
        ops::check_cutoff(cutoff, System.now())?;
        daemon.storage.read(move |reader| reader.purge_preview(cutoff)).await?
    } else {
        daemon.storage.write(move |tx| tx.purge(cutoff)).await?
    };
    Ok(Executed {
        before,
        dry_run: params.dry_run,
        messages_deleted: messages,
        sessions_deleted: sessions,
        events_deleted: events,
        sync_message_files: 0,
        sync_events_filtered: 0,
    })
}
