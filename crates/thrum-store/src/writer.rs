//! The thread that writes, and group commit.
//!
//! Durable means one `fsync` per COMMIT, and an `fsync` costs as much as the work of fifty messages. So whoever wants to
//! write queues a job; the thread takes all that wait (at most `MAX_GROUP_COMMIT`), runs each in a savepoint of its own and
//! commits once for all. While the disk works, the next group gathers: no timer, no added latency when nobody else writes,
//! and more writers make it faster. A job that fails is undone alone. If the COMMIT itself fails, nobody is told "stored".
//!
//! The queue is bounded: when it is full, [`Writer::submit`] blocks, which is the back-pressure.

use std::{
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use thrum_core::{exchange::Commit, limits};

use crate::{Store, StoreError, Tx, store::Job};

/// How often events that wait for their time are looked at.
const DUE_CHECK: Duration = Duration::from_secs(1);

/// A handle to the writing thread. Dropping it ends the thread after the jobs that were accepted.
pub struct Writer {
    queue: Mutex<Option<SyncSender<Box<dyn Job + Send>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread. `announce` is called there after every COMMIT, before those who waited for it are answered; it
    /// must not block.
    ///
    /// # Errors
    /// The operating system's, if it gives no thread.
    pub fn start(store: Store, announce: impl Fn(&Commit) + Send + 'static) -> std::io::Result<Self> {
        let (sender, receiver) = mpsc::sync_channel(limits::WRITER_QUEUE);
        let thread = std::thread::Builder::new().name("thrum-writer".to_owned()).spawn(move || drive(store, &receiver, &announce))?;
        Ok(Self { queue: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)) })
    }

    /// Queues `job`; `done` hears, on the writing thread, what became of it: after COMMIT, or why not. `done` must not block.
    pub fn submit<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
        done: impl FnOnce(Result<T, StoreError>) + Send + 'static,
    ) {
        let sender = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let queued: Box<dyn Job + Send> = Box::new(Queued { job: Some(job), done, value: None });
        let refused = match sender {
            Some(sender) => sender.send(queued).err().map(|unsent| unsent.0),
            None => Some(queued),
        };
        if let Some(job) = refused {
            job.done(Err(StoreError::Closed));
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

    /// Ends the thread after the jobs that were accepted; later ones are refused with [`StoreError::Closed`].
    pub fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
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

fn drive(mut store: Store, queue: &Receiver<Box<dyn Job + Send>>, announce: &dyn Fn(&Commit)) {
    let mut due_check = Instant::now() + DUE_CHECK;
    loop {
        match queue.recv_timeout(due_check.saturating_duration_since(Instant::now())) {
            Ok(first) => {
                let mut group = vec![first];
                group.extend(queue.try_iter().take(limits::MAX_GROUP_COMMIT - 1));
                store.write_group(group, announce);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        // Also while there is always something to write.
        if Instant::now() >= due_check {
            match store.fold_due() {
                Ok(0) => {}
                Ok(_) => announce(store.commit()),
                Err(error) => tracing::warn!("events that are due were not folded: {error}"),
            }
            store.scrub();
            due_check = Instant::now() + DUE_CHECK;
        }
    }
}

struct Queued<T, J, D> {
    job: Option<J>,
    done: D,
    value: Option<T>,
}

impl<T, J, D> Job for Queued<T, J, D>
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
