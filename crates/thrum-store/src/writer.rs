//! The writer thread, and group commit.
//!
//! Durability needs one `fsync` per COMMIT, and an `fsync` costs as much as the work of fifty messages. Therefore
//! callers queue their jobs. The thread takes all waiting jobs (at most `MAX_GROUP_COMMIT`), runs each in its own
//! savepoint, unless there is only one, and commits once for all of them. While the disk works, the next group gathers.
//! This needs no timer, adds no latency for a single writer, and throughput grows with the number of writers. A job
//! that fails is undone alone. If the COMMIT itself or a savepoint fails, or SQLite rolls back the transaction, all
//! jobs of the group fail.
//!
//! Events from peers wait in a second queue, as pieces of batches ([`Writer::apply`]). Earlier transactions also leave
//! pending work (`fold/pending.rs`). Between two groups of jobs the thread does one piece of either, in its own
//! transaction. So a job waits for one piece, not for a whole batch, and peers make progress however much is written
//! locally. A piece has no savepoint: at the end of every statement SQLite scans the memory of the savepoint from its
//! start, so thousands of statements in one savepoint would take quadratic time. Checkpoints of the write-ahead log,
//! parked events that become due, and the rewriting of the file after a purge also have their turn between groups.
//!
//! Both queues are bounded. When a queue is full, [`Writer::submit`] and [`Writer::apply`] block, which is the
//! back-pressure.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{self},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use thrum_core::{
    exchange::{Applied, Batch, Commit},
    limits,
};

use crate::{
    Store, StoreError, Tx,
    pieces::{Content, pieces, sum},
    store::Job,
    transaction_room::PIECE,
};

/// Interval between checks for parked events that have become due.
const DUE_CHECK: Duration = Duration::from_secs(1);

/// A handle to the writer thread. Dropping it ends the thread after the accepted jobs are done.
pub struct Writer {
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A batch that is being stored, or pending work that is being done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busy {
    /// The peer that served the batch; empty for an import, `None` for pending work.
    pub peer: Option<String>,
    /// How long the batch or the pending work has been in progress.
    pub lasts: Duration,
    /// Number of events of the batch that were processed; 0 for pending work.
    pub done: usize,
    /// Number of events in the batch; 0 for pending work.
    pub events: usize,
}

type Queued = Box<dyn Job + Send>;

/// The queues of the writer thread.
#[derive(Default)]
struct Queue {
    lanes: Mutex<Lanes>,
    /// Signals that work is waiting, or that the queue was closed.
    filled: Condvar,
    /// Signals that a queue has room again, or was closed.
    taken: Condvar,
}

#[derive(Default)]
struct Lanes {
    jobs: VecDeque<Queued>,
    pieces: VecDeque<Queued>,
    /// Do only jobs; leave pieces of batches and pending work alone.
    only_jobs: bool,
    closed: bool,
    /// Batches that are being stored, oldest first, each with its own number.
    batches: Vec<(u64, Stored)>,
    next_batch: u64,
    /// Since when pending work is being done; `None` if there is none, or if it waits for the next start or for a retry
    /// after an error.
    left_since: Option<Instant>,
    /// Whether the writer thread waits on `filled`. It is signalled only then, because a signal is a system call even
    /// if no thread waits, and under load the writer thread does not wait.
    writer_waits: bool,
    /// Number of callers that wait on `taken`.
    callers_wait: usize,
}

struct Stored {
    peer: String,
    since: Instant,
    done: usize,
    events: usize,
}

/// The next work of the writer thread.
#[derive(Default)]
struct Turn {
    group: Vec<Queued>,
    piece: Option<Queued>,
    /// Whether pending work waits for the next start.
    only_jobs: bool,
    closed: bool,
}

impl Queue {
    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, job: Queued, lane: fn(&mut Lanes) -> &mut VecDeque<Queued>) -> Result<(), Queued> {
        let mut lanes = self.lanes();
        while !lanes.closed && lane(&mut lanes).len() >= limits::WRITER_QUEUE {
            lanes.callers_wait += 1;
            lanes = self.taken.wait(lanes).unwrap_or_else(PoisonError::into_inner);
            lanes.callers_wait -= 1;
        }
        if lanes.closed {
            return Err(job);
        }
        lane(&mut lanes).push_back(job);
        // Signal once per wait: the thread takes all jobs when it wakes.
        if std::mem::take(&mut lanes.writer_waits) {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Waits until there is something to do, or until `until`. If `more` is set, there is pending work, so the call
    /// does not wait, unless [`Lanes::only_jobs`] is set. Takes a piece only if `with_piece` is set.
    fn next(&self, until: Instant, more: bool, with_piece: bool) -> Turn {
        let mut lanes = self.lanes();
        let more = more && !lanes.only_jobs;
        lanes.left_since = if more { lanes.left_since.or_else(|| Some(Instant::now())) } else { None };
        while lanes.jobs.is_empty() && lanes.pieces.is_empty() && !lanes.closed && !more {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            lanes.writer_waits = true;
            lanes = self.filled.wait_timeout(lanes, left).unwrap_or_else(PoisonError::into_inner).0;
            lanes.writer_waits = false;
        }
        let jobs = lanes.jobs.len().min(limits::MAX_GROUP_COMMIT);
        let group = lanes.jobs.drain(..jobs).collect();
        let piece = if with_piece { lanes.pieces.pop_front() } else { None };
        if lanes.callers_wait > 0 {
            self.taken.notify_all();
        }
        Turn { group, piece, only_jobs: lanes.only_jobs, closed: lanes.closed }
    }

    fn has_jobs(&self) -> bool {
        !self.lanes().jobs.is_empty()
    }

    /// Drops the waiting pieces and the rest of their batches; the peers serve them again.
    fn wind_down(&self) {
        let mut lanes = self.lanes();
        lanes.only_jobs = true;
        let pieces = std::mem::take(&mut lanes.pieces);
        drop(lanes);
        self.taken.notify_all();
        for piece in pieces {
            piece.done(Err(StoreError::Closed));
        }
    }

    /// Drops the waiting pieces and accepts no more work.
    fn close(&self) {
        self.lanes().closed = true;
        self.wind_down();
        self.filled.notify_all();
    }
}

impl Writer {
    /// Starts the thread. The thread calls `announce` after every COMMIT of jobs, pieces, pending work or due events,
    /// before the waiting callers get their results. `announce` must not block.
    ///
    /// # Errors
    /// The operating system's, if it cannot create a thread.
    pub fn start(store: Store, announce: impl Fn(&Commit) + Send + 'static) -> std::io::Result<Self> {
        let queue = Arc::<Queue>::default();
        let thread = {
            let queue = Arc::clone(&queue);
            std::thread::Builder::new().name("thrum-writer".to_owned()).spawn(move || {
                // Closes the queue even on panic, so that no caller waits for a job that will never run.
                let closes = Closes(&queue);
                drive(store, &queue, &announce);
                drop(closes);
            })?
        };
        Ok(Self { queue, thread: Mutex::new(Some(thread)) })
    }

    /// Queues `job`; blocks while the queue is full. `done` is called with the result after COMMIT or after a failure,
    /// on the writer thread, or on the calling thread if the queue is closed. `done` must not block.
    pub fn submit<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
        done: impl FnOnce(Result<T, StoreError>) + Send + 'static,
    ) {
        if let Err(refused) =
            self.queue.put(Box::new(Waiting { job: Some(job), done, value: None }), |lanes| &mut lanes.jobs)
        {
            refused.done(Err(StoreError::Closed));
        }
    }

    /// Queues `job` and waits for the result.
    ///
    /// # Errors
    /// The job's error, the reason why the commit failed, or [`StoreError::Closed`].
    pub fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.submit(job, move |outcome| {
            // The receiver waits below.
            let _ = sender.send(outcome);
        });
        receiver.recv().unwrap_or(Err(StoreError::Closed))
    }

    /// Stores a batch in pieces (I4), between which other jobs are done. Returns when the whole batch is durable.
    ///
    /// # Errors
    /// Those of the disk, and [`StoreError::Closed`]. Some of the events may then be stored; the checkpoint moves only
    /// with the last piece. The same batch may be applied again.
    pub fn apply(&self, batch: Batch) -> Result<Applied, StoreError> {
        let (peer, events) = (batch.peer.clone(), batch.events.len());
        let number = {
            let mut lanes = self.queue.lanes();
            lanes.next_batch += 1;
            let number = lanes.next_batch;
            lanes.batches.push((number, Stored { peer, since: Instant::now(), done: 0, events }));
            number
        };
        let outcome = self.apply_pieces(batch, number);
        self.queue.lanes().batches.retain(|(other, _)| *other != number);
        outcome
    }

    fn apply_pieces(&self, batch: Batch, number: u64) -> Result<Applied, StoreError> {
        let mut applied = Applied::default();
        let mut pieces = pieces(batch).into_iter().map(|piece| (Content::all(&piece), piece));
        let mut next = pieces.next();
        while let Some((contents, piece)) = next {
            if self.queue.lanes().only_jobs {
                return Err(StoreError::Closed);
            }
            let (sender, receiver) = mpsc::sync_channel(1);
            let events = piece.events.len();
            let job = Waiting {
                job: Some(move |tx: &mut Tx<'_>| tx.apply_read(&piece, contents)),
                done: move |outcome| {
                    // The receiver waits below.
                    let _ = sender.send(outcome);
                },
                value: None,
            };
            if let Err(refused) = self.queue.put(Box::new(job), |lanes| &mut lanes.pieces) {
                refused.done(Err(StoreError::Closed));
            }
            // Parse the next piece while the thread stores this one.
            next = pieces.next();
            applied = sum(applied, receiver.recv().unwrap_or(Err(StoreError::Closed))?);
            if let Some((_, stored)) = self.queue.lanes().batches.iter_mut().find(|(other, _)| *other == number) {
                stored.done += events;
            }
        }
        Ok(applied)
    }

    /// Returns the batches that are being stored, and an entry without a peer while pending work is being done.
    pub fn busy(&self) -> Vec<Busy> {
        let lanes = self.queue.lanes();
        let batches = lanes.batches.iter().map(|(_, stored)| Busy {
            peer: Some(stored.peer.clone()),
            lasts: stored.since.elapsed(),
            done: stored.done,
            events: stored.events,
        });
        let left = lanes.left_since.map(|since| Busy { peer: None, lasts: since.elapsed(), done: 0, events: 0 });
        batches.chain(left).collect()
    }

    /// From now on, does only jobs. The rest of each batch fails with [`StoreError::Closed`], and pending work waits
    /// for the next start.
    pub fn wind_down(&self) {
        self.queue.wind_down();
    }

    /// Accepts no more work, and ends the thread after the accepted jobs and the current piece.
    pub fn close(&self) {
        self.queue.close();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // If the thread panicked, the queue is already closed and there is no caller left to notify.
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

struct Closes<'q>(&'q Queue);

impl Drop for Closes<'_> {
    fn drop(&mut self) {
        self.0.close();
        let jobs = std::mem::take(&mut self.0.lanes().jobs);
        for job in jobs {
            job.done(Err(StoreError::Closed));
        }
    }
}

fn drive(mut store: Store, queue: &Queue, announce: &dyn Fn(&Commit)) {
    let mut due_check = Instant::now() + DUE_CHECK;
    let mut more = store.has_pending();
    // Whether the next turn is that of pending work, not of a piece: the two alternate, so that neither delays the
    // other.
    let mut left_first = false;
    if let Err(error) = store.checkpoint_between() {
        tracing::warn!(%error, "SQLite checkpoints the write-ahead log by itself");
    }
    loop {
        let Turn { group, piece, only_jobs, closed } = queue.next(due_check, more, !(more && left_first));
        if closed && group.is_empty() {
            break;
        }
        if !group.is_empty() {
            match <[_; 1]>::try_from(group) {
                // A single job needs no savepoint, which would copy each page that the job changes.
                Ok([job]) => store.write_alone(job, announce),
                Err(group) => store.write_group(group, announce),
            }
            more |= store.has_pending();
        }
        if closed {
            continue;
        }
        if let Some(piece) = piece {
            store.write_alone(piece, announce);
            more |= store.has_pending();
            left_first = true;
        } else {
            if more && !only_jobs {
                more = work_off(&mut store, announce);
            }
            left_first = false;
        }
        store.checkpoint_log(queue.has_jobs());
        // Check even if the queues are never empty.
        if Instant::now() >= due_check {
            let mut next = DUE_CHECK;
            match store.fold_due_piece() {
                Ok(0) => {}
                Ok(folded) => {
                    announce(store.commit());
                    if folded == PIECE {
                        next = Duration::ZERO;
                    }
                }
                Err(error) => tracing::warn!(%error, "cannot fold the events that are due"),
            }
            store.scrub();
            if !queue.has_jobs() {
                store.shrink_log();
            }
            more |= store.has_pending();
            due_check = Instant::now() + next;
        }
    }
}

/// Does one piece of pending work. Returns `true` if the next piece should follow at once; `false` if none is left, and
/// after an error, so that the retry comes later.
fn work_off(store: &mut Store, announce: &dyn Fn(&Commit)) -> bool {
    match store.work_off() {
        Ok(more) => {
            announce(store.commit());
            more
        }
        Err(error) => {
            tracing::warn!(%error, "cannot do the pending work of earlier events yet");
            false
        }
    }
}

struct Waiting<T, J, D> {
    job: Option<J>,
    done: D,
    value: Option<T>,
}

impl<T, J, D> Job for Waiting<T, J, D>
where
    J: FnOnce(&mut Tx<'_>) -> Result<T, StoreError>,
    D: FnOnce(Result<T, StoreError>),
{
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        if let Some(job) = self.job.take() {
            self.value = Some(job(tx)?);
        }
        Ok(())
    }

    fn done(self: Box<Self>, outcome: Result<(), StoreError>) {
        let Self { done, value, .. } = *self;
        done(outcome.and_then(|()| value.ok_or(StoreError::Closed)));
    }
}
