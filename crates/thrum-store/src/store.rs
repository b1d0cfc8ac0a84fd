//! The one writing connection.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use rusqlite::{Connection, OpenFlags};
use thrum_core::{
    Ambient, DaemonId, DaemonKey, Heads, Sum,
    exchange::{Applied, Batch, Commit},
    ids::IdSource,
    limits,
};

use crate::{
    StoreError, Tx, digest, fold, migrate,
    origin::{self, Counters, Left},
    pieces::{pieces, sum},
    tx::Progress,
};

/// How a database is opened.
pub struct OpenOptions {
    /// The daemon's key; signs every event made here.
    pub key: DaemonKey,
    /// What stood beside the database when it was last open; `None` for a new daemon.
    pub left: Option<Left>,
    /// Whether to begin a new log in any case: the directory was moved, copied, or got a new identity.
    pub new_log: bool,
    /// Most pages the file may have, to try out a full disk; `None` is SQLite's own bound.
    pub max_pages: Option<u32>,
}

impl OpenOptions {
    /// For a database that is new, or the one we left.
    pub fn new(key: DaemonKey, left: Option<Left>) -> Self {
        Self { key, left, new_log: false, max_pages: None }
    }
}

/// The log and its projection, with the only connection that writes.
pub struct Store {
    pub(crate) conn: Connection,
    key: DaemonKey,
    id: DaemonId,
    ambient: Box<dyn Ambient>,
    ids: IdSource,
    progress: Progress,
    commit: Commit,
    /// Whether purged text may still be somewhere in the file.
    scrub: bool,
    /// When the file was last written anew for that.
    rewritten: Option<Instant>,
}

/// One piece of work inside a group commit: it runs in a savepoint of its own, and hears what became of it.
pub(crate) trait Job {
    /// Does the work; an error undoes this job only.
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError>;
    /// Called once, after COMMIT or after its failure; `Err` carries why nothing of this job is known to be stored.
    fn done(self: Box<Self>, outcome: Result<(), StoreError>);
}

/// Jobs that were run, or never came to it, each with its own outcome.
type Finished = Vec<(Box<dyn Job + Send>, Result<(), StoreError>)>;

impl Store {
    /// Opens the database at `path`, making it if there is none. Recognise it again by [`left`](Self::left), to be written
    /// beside it before anything else happens.
    ///
    /// # Errors
    /// [`StoreError::Newer`], [`StoreError::Damaged`], [`StoreError::ReadOnly`], [`StoreError::Full`]; the file is as it was.
    pub fn open(path: &Path, options: OpenOptions, ambient: Box<dyn Ambient>) -> Result<Self, StoreError> {
        Self::open_as(path, options.key.id(), options, ambient)
    }

    /// The same, for the daemon `id`: of a copy that is only looked at, nobody has the key.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub(crate) fn open_as(path: &Path, id: DaemonId, options: OpenOptions, mut ambient: Box<dyn Ambient>) -> Result<Self, StoreError> {
        let mut conn = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        // Like FULL with a write-ahead log. What is written before there is one has a journal, which may come back after a crash
        // and undo what was written since, unless its deletion is synced, too.
        conn.pragma_update(None, "synchronous", "EXTRA")?;
        // First of all, because nothing may be changed in a file that is refused.
        migrate::migrate(&mut conn)?;
        conn.pragma_update(None, "journal_mode", "WAL")?;
        conn.pragma_update(None, "journal_size_limit", 64 << 20)?;
        if let Some(pages) = options.max_pages {
            conn.pragma_update(None, "max_page_count", pages)?;
        }
        let counters = origin::open(&mut conn, options.left.as_ref(), options.new_log, ambient.as_mut())?;
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
        };
        store.publish();
        // Before the log is folded again, which shows events where this says.
        store.transact(|tx| tx.heed_clock())?;
        let sql = "SELECT fold_version, mailboxes_of, scrub FROM state";
        let (fold_version, mailboxes_of): (i64, String);
        (fold_version, mailboxes_of, store.scrub) = store.conn.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        if fold_version == fold::VERSION && mailboxes_of == store.id.as_str() {
            store.fold_due()?;
        } else {
            store.rebuild()?;
        }
        Ok(store)
    }

    /// Closes the database, so that its file alone is all of it.
    ///
    /// # Errors
    /// SQLite's; what was committed is then in the write-ahead log beside it.
    pub fn close(self) -> Result<(), StoreError> {
        self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(self.conn.close().map_err(|(_, error)| error)?)
    }

    /// What to write beside the database.
    pub fn left(&self) -> Left {
        let Counters { log_id, open_counter, next_sequence, .. } = &self.progress.counters;
        Left { log_id: log_id.to_string(), counter: *open_counter, sequence: next_sequence - 1 }
    }

    /// Whose store this is.
    pub fn daemon_id(&self) -> &DaemonId {
        &self.id
    }

    /// What is durable now.
    pub fn commit(&self) -> &Commit {
        &self.commit
    }

    /// One job in a transaction of its own, and then, in others, what it left for later.
    ///
    /// # Errors
    /// The job's, or why the commit failed.
    pub fn write<T>(&mut self, job: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let value = self.transact(job)?;
        while self.work_off()? {}
        Ok(value)
    }

    /// One job in a transaction of its own.
    ///
    /// # Errors
    /// The job's, or why the commit failed.
    pub(crate) fn transact<T>(&mut self, job: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.conn.execute_batch("BEGIN IMMEDIATE")?;
        let mut progress = self.progress.clone();
        let mut tx = Tx::new(&self.conn, &self.key, &self.id, self.ambient.as_mut(), &mut self.ids, &mut progress);
        let outcome = job(&mut tx).and_then(|value| progress.flush(&self.conn).map(|()| value));
        match outcome {
            Ok(value) => {
                self.conn.execute_batch("COMMIT").map_err(|error| {
                    let _ = self.conn.execute_batch("ROLLBACK");
                    StoreError::of_commit(error)
                })?;
                self.progress = progress;
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

    /// Stores what a pull brought, in pieces, each in a transaction of its own (`pieces.rs`).
    ///
    /// # Errors
    /// Those of [`write`](Self::write). Some of the events may be stored then; the checkpoint is where it was.
    pub fn apply(&mut self, batch: Batch) -> Result<Applied, StoreError> {
        let mut applied = Applied::default();
        for piece in pieces(batch) {
            applied = sum(applied, self.write(|tx| tx.apply(&piece))?);
        }
        Ok(applied)
    }

    /// One job in a transaction of its own, without a savepoint: it may run as many statements as it likes.
    pub(crate) fn write_alone(&mut self, mut job: Box<dyn Job + Send>, announce: &dyn Fn(&Commit)) {
        let outcome = self.transact(|tx| job.run(tx));
        if outcome.is_ok() {
            announce(&self.commit);
        }
        job.done(outcome);
    }

    /// All jobs in one transaction, each in its savepoint, each told what became of it.
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
                    // A job that had failed by itself keeps its own reason.
                    job.done(Err(own.err().unwrap_or_else(|| error.told_again())));
                }
            }
        }
    }

    /// The jobs with their own outcomes; with an error, why nothing of the group is known to be stored.
    fn try_group(&mut self, jobs: Vec<Box<dyn Job + Send>>) -> Result<Finished, (Finished, StoreError)> {
        let mut finished = Vec::with_capacity(jobs.len());
        let mut waiting = jobs.into_iter();
        let mut progress = self.progress.clone();
        let mut failure = self.conn.execute_batch("BEGIN IMMEDIATE").err().map(StoreError::from);
        while failure.is_none()
            && let Some(mut job) = waiting.next()
        {
            let before = progress.clone();
            let outcome = match self.in_savepoint(&mut progress, job.as_mut()) {
                Ok(outcome) => outcome,
                // The job is neither in nor out, so nobody is.
                Err(error) => {
                    failure = Some(StoreError::Unknown(error.to_string()));
                    Err(error)
                }
            };
            if outcome.is_err() {
                progress = before;
            }
            // SQLite ends the whole transaction by itself when the disk is full or fails.
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
        let failure = failure.or_else(|| self.conn.execute_batch("COMMIT").err().map(StoreError::of_commit));
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

    /// What became of the job; the outer error means that its savepoint could not be ended.
    fn in_savepoint(&mut self, progress: &mut Progress, job: &mut dyn Job) -> Result<Result<(), StoreError>, StoreError> {
        self.conn.prepare_cached("SAVEPOINT job")?.execute([])?;
        let outcome = job.run(&mut Tx::new(&self.conn, &self.key, &self.id, self.ambient.as_mut(), &mut self.ids, progress));
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
            // Nothing to add to the error that led here; SQLite drops the transaction with the connection at the latest.
            let _ = self.conn.execute_batch("ROLLBACK");
        }
    }

    fn publish(&mut self) {
        let Progress { counters, by_source, .. } = &self.progress;
        self.commit = Commit { log: counters.log_id.clone(), latest: counters.next_sequence - 1, by_source: Arc::new(by_source.clone()) };
    }

    /// After a purge: sees to it that its text is nowhere in the file any more. Whoever asked for the purge waits for it.
    ///
    /// The rows were overwritten where they stood, but SQLite also leaves copies where it once moved them to another page, and
    /// the write-ahead log has the pages as they were. So the file is written anew (`VACUUM`) and the log is emptied. That
    /// takes as long as writing what is left, and nobody else writes meanwhile; therefore not for files above
    /// [`limits::MAX_REWRITTEN_BYTES`], and not more often than every [`limits::REWRITE_PAUSE`], whatever purges peers send. What
    /// could not be done is done later: [`Writer`](crate::Writer) calls this now and then.
    pub(crate) fn scrub(&mut self) {
        let purged_now = std::mem::take(&mut self.progress.scrub);
        self.scrub |= purged_now;
        let rewrites = self.rewritten.is_none_or(|at| at.elapsed() >= limits::REWRITE_PAUSE);
        if !self.scrub || !(purged_now || rewrites) {
            return;
        }
        match self.try_scrub(rewrites) {
            Ok(done) => self.scrub = !done,
            Err(error) => tracing::warn!("purged text may still be in the database file; trying again later: {error}"),
        }
        if rewrites {
            self.rewritten = Some(Instant::now());
        }
    }

    /// Whether nothing is left to be done.
    fn try_scrub(&self, rewrites: bool) -> Result<bool, StoreError> {
        // What is written anew: free pages are not.
        let sql = "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
        let bytes: u64 = self.conn.query_row(sql, [], |row| row.get(0))?;
        let is_large = bytes > limits::MAX_REWRITTEN_BYTES;
        if rewrites && !is_large {
            // The new file is made beside the old one, not in memory: it may be as large.
            self.conn.pragma_update(None, "temp_store", "FILE")?;
            let rewritten = self.conn.execute_batch("VACUUM");
            self.conn.pragma_update(None, "temp_store", "MEMORY")?;
            rewritten?;
        }
        // A reader that is still in the old pages keeps them in the log.
        let busy: bool = self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        let done = !busy && (rewrites || is_large);
        if done {
            self.conn.execute("UPDATE state SET scrub = 0", [])?;
        }
        Ok(done)
    }

    /// Does one piece of the work that transactions left for later, in a transaction of its own. Whether more is left.
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

    /// Whether there is such work. A database that cannot be read says no: whoever writes next hears of that.
    pub(crate) fn has_pending(&self) -> bool {
        fold::is_pending(&self.conn).unwrap_or(false)
    }

    /// Folds what waited for its time. Call it now and then; cheap when nothing is due.
    ///
    /// # Errors
    /// Those of [`write`](Self::write).
    pub fn fold_due(&mut self) -> Result<usize, StoreError> {
        let now = self.ambient.now();
        if now.plus(limits::CLOCK_OFF) < self.progress.counters.clock_at {
            self.write(|tx| tx.heed_clock())?;
        }
        let due: Option<i64> =
            self.conn.query_row("SELECT min(due) FROM parked WHERE due IS NOT NULL", [], |row| row.get(0)).map_err(StoreError::from)?;
        if due.is_none_or(|due| due > now.nanos()) {
            return Ok(0);
        }
        self.write(fold::due)
    }

    /// Throws the projection away and folds the log again. The result has the same digest (I1).
    ///
    /// # Errors
    /// Those of [`write`](Self::write); the projection is then as it was.
    pub fn rebuild(&mut self) -> Result<(), StoreError> {
        self.write(fold::rebuild)
    }

    /// The digest over the projection, the same at all daemons with the same events; reads all of it. Mailboxes are not part of it.
    ///
    /// # Errors
    /// SQLite's.
    pub fn projection(&self) -> Result<Sum, StoreError> {
        digest::projection(&self.conn)
    }

    /// The digest over the mailboxes of the agents that live here; reads all of them.
    ///
    /// # Errors
    /// SQLite's.
    pub fn mailboxes(&self) -> Result<Sum, StoreError> {
        digest::mailboxes(&self.conn)
    }

    /// What is held of every log.
    ///
    /// # Errors
    /// SQLite's.
    pub fn heads(&self) -> Result<Heads, StoreError> {
        digest::heads(&self.conn)
    }

    /// The same heads counted afresh from the log, to compare with the kept ones.
    ///
    /// # Errors
    /// SQLite's.
    pub fn recounted_heads(&self) -> Result<Heads, StoreError> {
        digest::recount(&self.conn)
    }

    /// A reader on the writing connection, for those that have no other: simulations and tests.
    pub fn reader(&self) -> crate::Reader<'_> {
        crate::Reader::new(&self.conn, self.id.as_str())
    }
}

/// The file that SQLite keeps beside a database under this suffix.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Opens a connection as all of ours are.
///
/// # Errors
/// [`StoreError::Damaged`] for a file without pages that has a write-ahead log; SQLite's.
pub(crate) fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    // SQLite deletes the log of a database without pages, even if it may only read. That log may be all that is left of ours.
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |about| about.len());
    if length(path) == 0 && length(&beside(path, "-wal")) > 0 {
        return Err(StoreError::Damaged("the file is gone or empty, and its write-ahead log is not".to_owned()));
    }
    let conn = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // Only a checkpoint can keep us waiting: there is one writer.
    conn.busy_timeout(std::time::Duration::from_secs(5))?;
    conn.set_prepared_statement_cache_capacity(64);
    // A group of jobs in savepoints would keep copies of the pages it changes in a file beside the database.
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(conn)
}
