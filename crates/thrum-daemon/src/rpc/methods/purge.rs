//! `purge.execute`: removes old mail on all daemons.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use thrum_core::{Ambient, Error, ErrorKind, Timestamp, limits};
use thrum_store::{Purged, ops};
use tokio::time::timeout;

use super::required;
use crate::{ambient::System, daemon::Daemon, storage::Storage};

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
    /// `true` if the purge continues in the background, because it takes too long for one answer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    goes_on: bool,
    /// Go Thrum's count of files on its git branch; always 0, because there is no such branch here.
    sync_message_files: u64,
    /// Go Thrum's count of events on that branch; always 0.
    sync_events_filtered: u64,
}

/// Purges, and answers when the purged data is gone from the database file, or after [`limits::PURGE_ANSWERED`]. With
/// `dry_run`, only counts what would be purged.
pub(super) async fn execute(daemon: &Daemon, params: Execute) -> Result<Executed, Error> {
    let before = required("before", params.before)?;
    let cutoff = Timestamp::parse(&before).ok_or_else(|| {
        Error::new(ErrorKind::Invalid, "before must be an RFC 3339 time such as 2026-11-23T05:30:00Z")
    })?;
    ops::check_cutoff(cutoff, System.now())?;
    let Purged { messages, sessions, events } = daemon.storage.read(move |reader| reader.purge_preview(cutoff)).await?;
    let goes_on = if params.dry_run {
        false
    } else {
        daemon.storage.write(move |tx| tx.purge(cutoff)).await?;
        goes_on_after(&daemon.storage, limits::PURGE_ANSWERED).await?
    };
    Ok(Executed {
        before,
        dry_run: params.dry_run,
        messages_deleted: messages,
        sessions_deleted: sessions,
        events_deleted: events,
        goes_on,
        sync_message_files: 0,
        sync_events_filtered: 0,
    })
}

/// Waits until the purge is complete. Returns `true` if it is still incomplete after `within`.
async fn goes_on_after(storage: &Arc<Storage>, within: Duration) -> Result<bool, Error> {
    match timeout(within, is_done(storage)).await {
        Ok(done) => done.map(|()| false),
        Err(_) => Ok(true),
    }
}

/// Resolves when the purge is complete.
async fn is_done(storage: &Arc<Storage>) -> Result<(), Error> {
    let mut commits = storage.commits();
    while storage.read(|reader| reader.purge_goes_on()).await? {
        commits.changed().await.map_err(|_| {
            Error::new(ErrorKind::TryAgain, "the daemon is stopping; the purge goes on at its next start")
        })?;
    }
    // The writer removes the purged text from the file before any later work, so this write waits for the removal.
    storage.write(|_| Ok(())).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::kit;

    #[tokio::test(start_paused = true)]
    async fn a_purge_that_takes_too_long_continues_after_the_answer_and_a_finished_one_is_forgotten() {
        let (_dir, storage) = kit::with_mail_of_dan(10 * kit::PIECE);
        let held = kit::hold_after_two_pieces(&storage, |tx| tx.purge(System.now()));
        assert!(goes_on_after(&storage, limits::PURGE_ANSWERED).await.unwrap());
        tokio::time::resume();
        drop(held);
        assert!(!goes_on_after(&storage, limits::PURGE_ANSWERED).await.unwrap());
        assert_eq!(storage.read_now(|reader| Ok(reader.totals()?.messages)).unwrap(), 0);
    }
}
