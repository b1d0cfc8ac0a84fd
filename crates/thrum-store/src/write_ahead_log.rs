//! When SQLite's write-ahead log is checkpointed into the database file, and when its file is emptied.
//!
//! SQLite checkpoints within the COMMIT that makes the log too long, so the caller of that COMMIT waits for both. The
//! writer thread therefore checkpoints between transactions, later while jobs wait, and empties the file once nothing is
//! written. A [`Store`] without a writer thread keeps SQLite's own checkpoints. Nothing here decides what is durable:
//! COMMIT does.
//!
//! Example: 10,000 messages in a row let its file grow to 32 MB, checkpointed a few times. A second after the last one,
//! the file is empty.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rusqlite::hooks::Wal;

use crate::{Store, StoreError, connection};

/// The write-ahead log is checkpointed into the database file once this many of its pages are not yet there: SQLite's
/// default, 4 MB.
const LOG_PAGES: i64 = 1000;

/// Replaces [`LOG_PAGES`] while jobs wait, so that few of them wait for a checkpoint and the file still stays bounded.
const LOG_PAGES_WAITED_FOR: i64 = 8 * LOG_PAGES;

/// Length in bytes up to which the file of the write-ahead log is kept while nothing is written: twice [`LOG_PAGES`], with
/// pages of 4 KiB.
const LOG_BYTES_KEPT: u64 = 2 * LOG_PAGES as u64 * 4096;

impl Store {
    /// Turns off SQLite's automatic checkpoints. The caller must call [`checkpoint_log`](Self::checkpoint_log) between
    /// transactions in their place.
    pub(crate) fn checkpoint_between(&mut self) -> Result<(), StoreError> {
        let log_pages = Arc::clone(&self.log_pages);
        // SQLite makes its automatic checkpoints in this hook, so any other hook replaces them.
        let count = move |_: &mut Wal, pages| {
            log_pages.store(i64::from(pages), Ordering::Relaxed);
            Ok(())
        };
        Ok(self.conn.wal_hook(Some(count))?)
    }

    /// Checkpoints the write-ahead log into the database file if at least [`LOG_PAGES`] of its pages are not yet there,
    /// or [`LOG_PAGES_WAITED_FOR`] if jobs wait (`waited_for`). SQLite's automatic checkpoint would run within the
    /// COMMIT that exceeds the limit, so the caller would wait for both. For a piece of several megabytes, each of the
    /// two takes tens of milliseconds.
    pub(crate) fn checkpoint_log(&self, waited_for: bool) {
        let most = if waited_for { LOG_PAGES_WAITED_FOR } else { LOG_PAGES };
        // The length includes pages that were checkpointed since SQLite last began at the start of the file. To ask
        // SQLite for the others after every COMMIT would take a twentieth of the time of a message.
        if self.log_pages.load(Ordering::Relaxed) < most {
            return;
        }
        let pages = |mode: &str| -> rusqlite::Result<(i64, i64)> {
            let mut statement = self.conn.prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?;
            statement.query_row([], |row| Ok((row.get(1)?, row.get(2)?)))
        };
        let outcome = pages("NOOP")
            .and_then(|(written, folded)| if written - folded >= most { pages("PASSIVE") } else { Ok((0, 0)) });
        if let Err(error) = outcome {
            // No data is lost, and the next call tries again.
            tracing::warn!(%error, "cannot shorten the write-ahead log");
        }
    }

    /// Empties the file of the write-ahead log if it is longer than [`LOG_BYTES_KEPT`], as after many writes in a row.
    /// Does nothing while a reader needs it, so this never waits. To be called while no job waits.
    pub(crate) fn shrink_log(&self) {
        let log = self.conn.path().map(|path| connection::beside(Path::new(path), "-wal"));
        if log.and_then(|log| std::fs::metadata(log).ok()).is_none_or(|log| log.len() <= LOG_BYTES_KEPT) {
            return;
        }
        let shrunk = self.conn.busy_timeout(Duration::ZERO).and_then(|()| connection::empty_log(&self.conn));
        let restored = self.conn.busy_timeout(connection::BUSY);
        if let Err(error) = shrunk.and(restored) {
            tracing::warn!(%error, "cannot empty the write-ahead log");
        }
    }
}
