//! The thread that writes, and group commit.
//!
//! Durable means one `fsync` per COMMIT, and an `fsync` costs as much as the work of fifty messages. So whoever wants to
//! write queues a job; the thread takes all that wait (at most `MAX_GROUP_COMMIT`), runs each in a savepoint of its own and
//! commits once for all. While the disk works, the next group gathers: no timer, no added latency when nobody else writes,
//! and more writers make it faster. A job that fails is undone alone. If the COMMIT itself fails, nobody is told "stored".
//!
//! What peers bring waits in a second queue, as pieces of batches ([`Writer::apply`]), and so does work that earlier transactions left
//! (`fold/pending.rs`). Between two groups of jobs the thread does one piece, in a transaction of its own: a job never waits for more than
//! one, and peers get their turn however much is written here. A piece has no savepoint: SQLite looks through the memory of a
//! savepoint from its start at the end of every statement, so that thousands of statements in one cost the square of their number.
//!
//! Both queues are bounded: when one is full, [`Writer::submit`] and [`Writer::apply`] block, which is the back-pressure.

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
    pieces::{pieces, sum},
    store::Job,
};

/// How often events that wait for their time are looked at.
const DUE_CHECK: Duration = Duration::from_secs(1);

/// A handle to the writing thread. Dropping it ends the thread after the jobs that were accepted.
pub struct Writer {
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A batch that is being stored, or work that earlier events left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busy {
    /// The peer that served the batch; `None` for work that was left.
    pub peer: Option<String>,
    /// How long it has been so.
    pub lasts: Duration,
    /// Events of the batch that were looked at.
    pub done: usize,
    /// Events of the batch.
    pub events: usize,
}

type Queued = Box<dyn Job + Send>;

/// What waits for the thread.
#[derive(Default)]
struct Queue {
    lanes: Mutex<Lanes>,
    /// Rings when something waits, or nothing will any more.
    filled: Condvar,
    /// Rings when there is room again.
    taken: Condvar,
}

#[derive(Default)]
struct Lanes {
    jobs: VecDeque<Queued>,
    pieces: VecDeque<Queued>,
    closed: bool,
    /// Batches that are being stored, oldest first, by a number of their own.
    batches: Vec<(u64, Stored)>,
    next_batch: u64,
    /// Since when there is work that earlier events left.
    left_since: Option<Instant>,
}

struct Stored {
    peer: String,
    since: Instant,
    done: usize,
    events: usize,
}

/// What the thread does next.
#[derive(Default)]
struct Turn {
    group: Vec<Queued>,
    piece: Option<Queued>,
    closed: bool,
}

impl Queue {
    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, job: Queued, lane: fn(&mut Lanes) -> &mut VecDeque<Queued>) -> Result<(), Queued> {
        let mut lanes = self.lanes();
        while !lanes.closed && lane(&mut lanes).len() >= limits::WRITER_QUEUE {
            lanes = self.taken.wait(lanes).unwrap_or_else(PoisonError::into_inner);
        }
        if lanes.closed {
            return Err(job);
        }
        lane(&mut lanes).push_back(job);
        self.filled.notify_one();
        Ok(())
    }

    /// Waits until there is something to do, or until `until`; with `more`, something is left to be done besides. A piece is handed
    /// over only if `with_piece`.
    fn next(&self, until: Instant, more: bool, with_piece: bool) -> Turn {
        let mut lanes = self.lanes();
        lanes.left_since = if more { lanes.left_since.or_else(|| Some(Instant::now())) } else { None };
        while lanes.jobs.is_empty() && lanes.pieces.is_empty() && !lanes.closed && !more {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            lanes = self.filled.wait_timeout(lanes, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let jobs = lanes.jobs.len().min(limits::MAX_GROUP_COMMIT);
        let group = lanes.jobs.drain(..jobs).collect();
        let piece = if with_piece { lanes.pieces.pop_front() } else { None };
        let turn = Turn { group, piece, closed: lanes.closed };
        self.taken.notify_all();
        turn
    }

    /// Accepts nothing more and lets go of the pieces that wait: peers serve them again.
    fn close(&self) {
        let mut lanes = self.lanes();
        lanes.closed = true;
        let pieces = std::mem::take(&mut lanes.pieces);
        drop(lanes);
        self.filled.notify_all();
        self.taken.notify_all();
        for piece in pieces {
            piece.done(Err(StoreError::Closed));
        }
    }
}

impl Writer {
    /// Starts the thread. `announce` is called there after every COMMIT, before those who waited for it are answered; it
    /// must not block.
    ///
    /// # Errors
    /// The operating system's, if it gives no thread.
    pub fn start(store: Store, announce: impl Fn(&Commit) + Send + 'static) -> std::io::Result<Self> {
        let queue = Arc::<Queue>::default();
        let thread = {
            let queue = Arc::clone(&queue);
            std::thread::Builder::new().name("thrum-writer".to_owned()).spawn(move || {
                // Also when it panics: nobody must wait for what will not be done.
                let closes = Closes(&queue);
                drive(store, &queue, &announce);
                drop(closes);
            })?
        };
        Ok(Self { queue, thread: Mutex::new(Some(thread)) })
    }

    /// Queues `job`; `done` hears, on the writing thread, what became of it: after COMMIT, or why not. `done` must not block.
    pub fn submit<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
        done: impl FnOnce(Result<T, StoreError>) + Send + 'static,
    ) {
        if let Err(refused) = self.queue.put(Box::new(Waiting { job: Some(job), done, value: None }), |lanes| &mut lanes.jobs) {
            refused.done(Err(StoreError::Closed));
        }
    }

    /// The same, waiting for the outcome.
    ///
    /// # Errors
    /// The job's, or why the commit failed.
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

    /// Stores what a pull brought, in pieces between which others write; returns when all of it is durable (I4).
    ///
    /// # Errors
    /// Those of the disk, and [`StoreError::Closed`]. The checkpoint is then where it was, and some of the events may be here: the
    /// same pull may be repeated.
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
        for piece in pieces(batch) {
            let (sender, receiver) = mpsc::sync_channel(1);
            let events = piece.events.len();
            let job = Waiting {
                job: Some(move |tx: &mut Tx<'_>| tx.apply(&piece)),
                done: move |outcome| {
                    // The receiver waits below.
                    let _ = sender.send(outcome);
                },
                value: None,
            };
            if let Err(refused) = self.queue.put(Box::new(job), |lanes| &mut lanes.pieces) {
                refused.done(Err(StoreError::Closed));
            }
            applied = sum(applied, receiver.recv().unwrap_or(Err(StoreError::Closed))?);
            if let Some((_, stored)) = self.queue.lanes().batches.iter_mut().find(|(other, _)| *other == number) {
                stored.done += events;
            }
        }
        Ok(applied)
    }

    /// The batches that are being stored, and what earlier ones left to be done.
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

    /// Accepts nothing more: later jobs, and what is left of batches, are refused with [`StoreError::Closed`].
    pub fn refuse(&self) {
        self.queue.close();
    }

    /// The same, and ends the thread after the jobs that were accepted and the piece that it is at.
    pub fn close(&self) {
        self.refuse();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A panic of the thread has closed the queue already; there is nobody left to tell.
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
    // Whose turn it is: what a peer left behind must not keep it, or another one, from being read, nor the other way round.
    let mut left_first = false;
    loop {
        let Turn { group, piece, closed } = queue.next(due_check, more, !(more && left_first));
        if closed && group.is_empty() {
            break;
        }
        if !group.is_empty() {
            store.write_group(group, announce);
            more |= store.has_pending();
        }
        if closed {
            continue;
        }
        if let Some(piece) = piece {
            store.write_alone(piece, announce);
            more |= store.has_pending();
            left_first = true;
        } else if more {
            more = work_off(&mut store, announce);
            left_first = false;
        }
        // Also while there is always something to write.
        if Instant::now() >= due_check {
            match store.fold_due() {
                Ok(0) => {}
                Ok(_) => announce(store.commit()),
                Err(error) => tracing::warn!("events that are due were not folded: {error}"),
            }
            store.scrub();
            more |= store.has_pending();
            due_check = Instant::now() + DUE_CHECK;
        }
    }
}

/// Does one piece of what is left. Whether to go on at once: what failed is tried again when the disk may be better.
fn work_off(store: &mut Store, announce: &dyn Fn(&Commit)) -> bool {
    match store.work_off() {
        Ok(more) => {
            announce(store.commit());
            more
        }
        Err(error) => {
            tracing::warn!("work that was left by earlier events is not done yet: {error}");
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
