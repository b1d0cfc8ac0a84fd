//! The store: the only connection that writes to the database.

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicI64},
    time::Instant,
};

use rusqlite::{Connection, OpenFlags};
use thrum_core::{
    Ambient, DaemonId, DaemonKey, Heads, SetDigest,
    exchange::{Applied, Batch, Commit},
    ids::IdSource,
    limits,
};

use crate::{
    Effort, StoreError, Tx, connection, digest, fold, migrate,
    origin::{self, Counters, StoreFingerprint},
    pieces::{pieces, sum},
    progress::Progress,
    transaction_room,
};

/// Options for opening a database.
pub struct OpenOptions {
    /// The daemon's key; signs every event made here.
    pub key: DaemonKey,
    /// Store fingerprint that was saved beside the database when it was last open; `None` if there is none. A database
    /// that exists without one begins a new log.
    pub fingerprint: Option<StoreFingerprint>,
    /// Forces a new log, for example because the directory was moved or copied, or the daemon got a new identity.
    pub new_log: bool,
    /// Maximum number of pages in the file, for testing a full disk; `None` is SQLite's own limit.
    pub max_pages: Option<u32>,
}

impl OpenOptions {
    /// Options for a new database, or for the one that `fingerprint` identifies.
    pub fn new(key: DaemonKey, fingerprint: Option<StoreFingerprint>) -> Self {
        Self { key, fingerprint, new_log: false, max_pages: None }
    }
}

/// The event log and its projection, with the only connection that writes.
pub struct Store {
    pub(crate) conn: Connection,
    key: DaemonKey,
    id: DaemonId,
    ambient: Box<dyn Ambient>,
    ids: IdSource,
    progress: Progress,
    commit: Commit,
    /// Whether the file must still be rewritten: it may contain purged text, or free space left by a removed peer's
    /// events.
    scrub: bool,
    /// When [`scrub`](Self::scrub) last tried to rewrite the file; `None` if it has not since the store was opened.
    rewritten: Option<Instant>,
    /// Length of the write-ahead log after the last COMMIT, in pages; `i64::MAX` if it is not counted.
    pub(crate) log_pages: Arc<AtomicI64>,
    /// Counts the work of the database, if [`count_effort`](Self::count_effort) was called.
    effort: Option<Effort>,
}

/// A queued piece of work. It runs in its own savepoint of a group commit, or alone in a transaction, and is notified
/// of its outcome.
pub(crate) trait Job {
    /// Does the work; an error undoes only this job, unless SQLite has rolled back the whole transaction.
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError>;
    /// Called once: after COMMIT, after a failure, or if the job is dropped without running. `Err` carries the reason
    /// why the job was not stored, or may not have been.
    fn done(self: Box<Self>, outcome: Result<(), StoreError>);
}

/// Jobs of a group, each with its own outcome; `Ok` for a job that did not run.
type Finished = Vec<(Box<dyn Job + Send>, Result<(), StoreError>)>;

impl Store {
    /// Opens the database at `path`, or creates it. Before it uses the store, the caller must write the store's
    /// [`fingerprint`](Self::fingerprint) beside the database.
    ///
    /// # Errors
    /// [`StoreError::Newer`], [`StoreError::Gos`], [`StoreError::Foreign`]: the file is unchanged.
    /// [`StoreError::Damaged`], [`StoreError::ReadOnly`], [`StoreError::Full`], those of a failed COMMIT, SQLite's: the
    /// log has lost no event, except some that purges remove.
    pub fn open(path: &Path, options: OpenOptions, ambient: Box<dyn Ambient>) -> Result<Self, StoreError> {
        Self::open_as(path, options.key.id(), options, ambient)
    }

    /// Opens the database on behalf of the daemon `id`. The checkup of a copy uses this function, because a checkup
    /// does not have the daemon's key.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub(crate) fn open_as(
        path: &Path,
        id: DaemonId,
        options: OpenOptions,
        mut ambient: Box<dyn Ambient>,
    ) -> Result<Self, StoreError> {
        let mut conn = connection::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        // EXTRA equals FULL once there is a write-ahead log. Writes before that use a rollback journal. Unless its
        // deletion is synced too, the journal may reappear after a crash and undo later writes.
        conn.pragma_update(None, "synchronous", "EXTRA")?;
        // Migrate before the file is changed in any other way, because the migration refuses files that must stay
        // unchanged.
        migrate::migrate(&mut conn)?;
        conn.pragma_update(None, "journal_mode", "WAL")?;
        conn.pragma_update(None, "journal_size_limit", 64 << 20)?;
        if let Some(pages) = options.max_pages {
            conn.pragma_update(None, "max_page_count", pages)?;
        }
        let counters =
            origin::open(&mut conn, options.fingerprint.as_ref(), options.new_log, fold::VERSION, ambient.as_mut())?;
        let mut store = Self {
            ids: IdSource::bound_to(id.clone()).after(counters.last_at),
            id,
            key: options.key,
            conn,
            ambient,
            commit: Commit::default(),
            progress: Progress::new(counters),
            scrub: false,
            rewritten: None,
            log_pages: Arc::new(AtomicI64::new(i64::MAX)),
            effort: None,
        };
        store.publish();
        // Check the clock before the log is refolded, because the check decides the times at which events are shown.
        store.transact(|tx| tx.heed_clock())?;
        let sql = "SELECT fold_version, mailboxes_of, scrub FROM state";
        let (fold_version, mailboxes_of): (i64, String);
        (fold_version, mailboxes_of, store.scrub) =
            store.conn.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        if fold_version == fold::VERSION && mailboxes_of == store.id.as_str() {
            store.fold_due_piece()?;
        } else {
            store.rebuild()?;
        }
        Ok(store)
    }

    /// Closes the database. Afterwards its file alone contains everything, unless a reader still uses older pages.
    ///
    /// # Errors
    /// SQLite's; committed data may then still be in the write-ahead log beside the file.
    pub fn close(self) -> Result<(), StoreError> {
        connection::empty_log(&self.conn)?;
        Ok(self.conn.close().map_err(|(_, error)| error)?)
    }

    /// The store fingerprint to be saved beside the database.
    pub fn fingerprint(&self) -> StoreFingerprint {
        let Counters { log_id, open_counter, next_sequence, .. } = &self.progress.counters;
        StoreFingerprint { log_id: log_id.to_string(), counter: *open_counter, sequence: next_sequence - 1 }
    }

    /// The daemon that owns this store.
    pub fn daemon_id(&self) -> &DaemonId {
        &self.id
    }

    /// The state of the log that is durable now.
    pub fn commit(&self) -> &Commit {
        &self.commit
    }

    /// Runs one job in its own transaction. Then does, in further transactions, all pending work, including what the
    /// job left.
    ///
    /// # Errors
    /// The job's error, or the reason why the commit failed. The error may also be that of pending work, and the job is
    /// then stored.
    pub fn write<T>(&mut self, job: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let value = self.transact(job)?;
        while self.work_off()? {}
        Ok(value)
    }

    /// Runs one job in its own transaction, without the pending work that it leaves (see [`work_off`](Self::work_off)).
    ///
    /// # Errors
    /// The job's error, or the reason why the commit failed.
    pub fn transact<T>(&mut self, job: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let rows = self.conn.total_changes();
        self.begin_transaction()?;
        let mut progress = self.progress.clone();
        let mut tx = Tx::new(&self.conn, &self.key, &self.id, self.ambient.as_mut(), &mut self.ids, &mut progress);
        let outcome = job(&mut tx).and_then(|value| progress.flush(&self.conn).map(|()| value));
        match outcome {
            Ok(value) => {
                self.commit_transaction().map_err(|error| {
                    let _ = self.conn.execute_batch("ROLLBACK");
                    StoreError::of_commit(error)
                })?;
                self.progress = progress;
                if let Some(effort) = &self.effort {
                    effort.count_transaction(self.conn.total_changes() - rows);
                }
                self.publish();
                self.scrub();
                Ok(value)
            }
            Err(error) => {
                self.roll_back();
                Err(error)
            }
        }
    }

    /// Stores a peer's batch in pieces, each in its own transaction (`pieces.rs`).
    ///
    /// # Errors
    /// Those of [`write`](Self::write). Some of the events may then be stored; the checkpoint moves only with the last
    /// piece.
    pub fn apply(&mut self, batch: Batch) -> Result<Applied, StoreError> {
        let mut applied = Applied::default();
        for piece in pieces(batch) {
            applied = sum(applied, self.write(|tx| tx.apply(&piece))?);
        }
        Ok(applied)
    }

    /// Runs one job in its own transaction. Uses no savepoint, because many statements in one savepoint are slow
    /// (`writer.rs`).
    pub(crate) fn write_alone(&mut self, mut job: Box<dyn Job + Send>, announce: &dyn Fn(&Commit)) {
        let outcome = self.transact(|tx| job.run(tx));
        if outcome.is_ok() {
            announce(&self.commit);
        }
        job.done(outcome);
    }

    /// Runs all jobs in one transaction, each in its own savepoint, and notifies each of its outcome.
    pub(crate) fn write_group(&mut self, jobs: Vec<Box<dyn Job + Send>>, announce: &dyn Fn(&Commit)) {
        match self.try_group(jobs) {
            Ok(finished) => {
                self.publish();
                announce(&self.commit);
                self.scrub();
                for (job, outcome) in finished {
                    job.done(outcome);
                }
            }
            Err((jobs, error)) => {
                self.roll_back();
                for (job, own) in jobs {
                    // A job that failed on its own keeps its own error.
                    job.done(Err(own.err().unwrap_or_else(|| error.repeated())));
                }
            }
        }
    }

    /// Returns the jobs with their outcomes; on error, also the reason why no job of the group is known to be stored.
    fn try_group(&mut self, jobs: Vec<Box<dyn Job + Send>>) -> Result<Finished, (Finished, StoreError)> {
        let mut finished = Vec::with_capacity(jobs.len());
        let mut waiting = jobs.into_iter();
        let mut progress = self.progress.clone();
        let mut failure = self.begin_transaction().err().map(StoreError::from);
        while failure.is_none()
            && let Some(mut job) = waiting.next()
        {
            let before = progress.clone();
            let outcome = match self.in_savepoint(&mut progress, job.as_mut()) {
                Ok(outcome) => outcome,
                // The savepoint could not be begun, undone or released, so it is unknown whether this job was applied.
                // Fail the whole group.
                Err(error) => {
                    failure = Some(StoreError::Unknown(error.to_string()));
                    Err(error)
                }
            };
            if outcome.is_err() {
                progress = before;
            }
            // SQLite rolls back the whole transaction on its own when the disk is full or fails.
            if failure.is_none() && self.conn.is_autocommit() {
                failure = Some(match &outcome {
                    Err(StoreError::Full) => StoreError::Full,
                    Err(error) => StoreError::Unknown(error.to_string()),
                    Ok(()) => StoreError::Unknown("the transaction ended early".to_owned()),
                });
            }
            finished.push((job, outcome));
        }
        let failure = failure.or_else(|| progress.flush(&self.conn).err());
        let failure = failure.or_else(|| self.commit_transaction().err().map(StoreError::of_commit));
        match failure {
            None => {
                self.progress = progress;
                Ok(finished)
            }
            Some(error) => {
                finished.extend(waiting.map(|job| (job, Ok(()))));
                Err((finished, error))
            }
        }
    }

    fn begin_transaction(&self) -> rusqlite::Result<()> {
        self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([]).map(drop)
    }

    fn commit_transaction(&self) -> rusqlite::Result<()> {
        self.conn.prepare_cached("COMMIT")?.execute([]).map(drop)
    }

    /// Runs a job in a savepoint and returns its outcome. The outer error means that the savepoint could not be begun,
    /// undone or released.
    fn in_savepoint(
        &mut self,
        progress: &mut Progress,
        job: &mut dyn Job,
    ) -> Result<Result<(), StoreError>, StoreError> {
        self.conn.prepare_cached("SAVEPOINT job")?.execute([])?;
        let outcome =
            job.run(&mut Tx::new(&self.conn, &self.key, &self.id, self.ambient.as_mut(), &mut self.ids, progress));
        if self.conn.is_autocommit() {
            return Ok(outcome);
        }
        if outcome.is_err() {
            self.conn.prepare_cached("ROLLBACK TO job")?.execute([])?;
        }
        self.conn.prepare_cached("RELEASE job")?.execute([])?;
        Ok(outcome)
    }

    fn roll_back(&mut self) {
        if !self.conn.is_autocommit() {
            // The caller reports the error that led here. If this ROLLBACK fails, SQLite rolls back when the connection
            // closes.
            let _ = self.conn.execute_batch("ROLLBACK");
        }
    }

    fn publish(&mut self) {
        let Progress { counters, by_source, .. } = &self.progress;
        self.commit = Commit {
            log: counters.log_id.clone(),
            latest: counters.next_sequence - 1,
            by_source: Arc::new(by_source.clone()),
        };
    }

    /// Removes the last copies of purged text from the file, and shrinks the file after a peer's events were removed.
    /// The answer to a purge waits for this, up to [`limits::PURGE_ANSWERED`].
    ///
    /// The purged rows were overwritten in place, but SQLite leaves copies where it once moved rows to another page,
    /// and the write-ahead log still contains the old pages. Therefore the file is rewritten (`VACUUM`) and the log is
    /// truncated. This takes as long as writing the remaining data and blocks all other writes. So a file with more
    /// data than [`limits::MAX_REWRITTEN_BYTES`] is not rewritten, and rewrites are at least [`limits::REWRITE_PAUSE`]
    /// apart, however many purges peers send. [`Writer`](crate::Writer) calls this regularly, so a rewrite that had to
    /// wait or failed is done later. Does nothing while purged rows are still being removed.
    pub(crate) fn scrub(&mut self) {
        if (self.scrub || self.progress.scrub) && fold::is_sweeping(&self.conn).unwrap_or(false) {
            return;
        }
        let purged_now = std::mem::take(&mut self.progress.scrub);
        self.scrub |= purged_now;
        let rewrites = self.rewritten.is_none_or(|at| at.elapsed() >= limits::REWRITE_PAUSE);
        if !self.scrub || !(purged_now || rewrites) {
            return;
        }
        match self.try_scrub(rewrites) {
            Ok(done) => self.scrub = !done,
            Err(error) => tracing::warn!(%error, "purged text may still be in the database file; trying again later"),
        }
        if rewrites {
            self.rewritten = Some(Instant::now());
        }
    }

    /// Returns `true` if nothing is left to do: the file was rewritten, or is too large for that, and the write-ahead
    /// log is empty.
    fn try_scrub(&self, rewrites: bool) -> Result<bool, StoreError> {
        // `VACUUM` does not write free pages.
        let sql = "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
        let bytes: u64 = self.conn.query_row(sql, [], |row| row.get(0))?;
        let is_large = bytes > limits::MAX_REWRITTEN_BYTES;
        if rewrites && !is_large {
            // Builds the new file on disk, not in memory, because it may be as large as the old one.
            self.conn.pragma_update(None, "temp_store", "FILE")?;
            let rewritten = self.conn.execute_batch("VACUUM");
            self.conn.pragma_update(None, "temp_store", "MEMORY")?;
            rewritten?;
        }
        // A reader that still uses old pages keeps them in the write-ahead log.
        let done = connection::empty_log(&self.conn)? && (rewrites || is_large);
        if done {
            self.conn.execute("UPDATE state SET scrub = 0", [])?;
        }
        Ok(done)
    }

    /// Does one piece of the pending work in its own transaction. Returns `true` if more is left.
    ///
    /// # Errors
    /// Those of [`write`](Self::write).
    pub fn work_off(&mut self) -> Result<bool, StoreError> {
        if !self.has_pending() {
            return Ok(false);
        }
        self.transact(fold::work)?;
        Ok(self.has_pending())
    }

    /// Sets the size of the pieces of pending work, in rows, until the store is closed. For tests, which have few rows.
    pub fn set_piece(&mut self, rows: usize) {
        self.progress.piece = rows;
    }

    /// Returns `true` if there is pending work. Returns `false` if the database cannot be read; the next write reports
    /// that error.
    pub(crate) fn has_pending(&self) -> bool {
        fold::is_pending(&self.conn).unwrap_or(false)
    }

    /// Folds all parked events that have become due, and does the pending work. Returns the number of parked events
    /// that were due; a purge far ahead may be parked again.
    ///
    /// # Errors
    /// Those of [`write`](Self::write).
    pub fn fold_due(&mut self) -> Result<usize, StoreError> {
        let mut all = 0;
        loop {
            let folded = self.fold_due_piece()?;
            all += folded;
            if folded < transaction_room::PIECE {
                break;
            }
        }
        while self.work_off()? {}
        Ok(all)
    }

    /// Folds the parked events that have become due, at most [`transaction_room::PIECE`], and returns their number. Also corrects
    /// the effects of a clock that went back. Call it regularly; it is cheap when no event is due.
    ///
    /// # Errors
    /// Those of [`write`](Self::write).
    pub(crate) fn fold_due_piece(&mut self) -> Result<usize, StoreError> {
        let now = self.ambient.now();
        if now.plus(limits::CLOCK_OFF) < self.progress.counters.clock_at {
            self.transact(|tx| tx.heed_clock())?;
        }
        let due: Option<i64> = self
            .conn
            .query_row("SELECT min(due) FROM parked WHERE due IS NOT NULL", [], |row| row.get(0))
            .map_err(StoreError::from)?;
        if due.is_none_or(|due| due > now.nanos()) {
            return Ok(0);
        }
        self.transact(fold::due)
    }

    /// Discards the projection and folds the log again. The result has the same digest (I1).
    ///
    /// # Errors
    /// Those of [`write`](Self::write); the projection is then unchanged, unless COMMIT failed.
    pub fn rebuild(&mut self) -> Result<(), StoreError> {
        self.write(fold::rebuild)
    }

    /// Computes the digest of the projection, without the mailboxes. All daemons with the same events have the same
    /// digest. Reads the whole projection.
    ///
    /// # Errors
    /// SQLite's.
    pub fn projection(&self) -> Result<SetDigest, StoreError> {
        digest::projection(&self.conn)
    }

    /// Computes the digest of the mailboxes of the agents whose home is this daemon. Reads all of them.
    ///
    /// # Errors
    /// SQLite's.
    pub fn mailboxes(&self) -> Result<SetDigest, StoreError> {
        digest::mailboxes(&self.conn)
    }

    /// The version vector: for each log, the number and the digest of the events that were stored, and of those purged
    /// since.
    ///
    /// # Errors
    /// SQLite's.
    pub fn heads(&self) -> Result<Heads, StoreError> {
        digest::heads(&self.conn)
    }

    /// Recomputes the version vector from the log, for comparison with the stored one.
    ///
    /// # Errors
    /// SQLite's.
    pub fn recounted_heads(&self) -> Result<Heads, StoreError> {
        digest::recount(&self.conn)
    }

    /// Starts to count the work that the database does for this store. For tests only, because it costs a few percent
    /// of run time.
    ///
    /// # Errors
    /// SQLite's.
    pub fn count_effort(&mut self) -> Result<Effort, StoreError> {
        let effort = Effort::of(&mut self.conn)?;
        self.effort = Some(effort.clone());
        Ok(effort)
    }

    /// Number of rows changed since the store was opened, including changes by triggers.
    pub fn rows_changed(&self) -> u64 {
        self.conn.total_changes()
    }

    /// A reader on the writing connection, for simulations and tests that have no other connection.
    pub fn reader(&self) -> crate::Reader<'_> {
        crate::Reader::new(&self.conn, self.id.as_str())
    }
}
