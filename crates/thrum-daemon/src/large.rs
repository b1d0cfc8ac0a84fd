//! Works out answers that may take megabytes: the team with its work contexts, a page of long messages.
//!
//! Reading such an answer and serialising it takes tens of milliseconds of a core, and several copies of it are in
//! memory meanwhile. So each occupies one thread of a small pool until it is done. On Linux these threads get a smaller
//! share of the processor than the daemon's other threads, so that large answers delay senders and woken agents little.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use thrum_core::{Error, ErrorKind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

type Work = Box<dyn FnOnce() + Send>;

/// The threads for large answers, and the queue of work for them.
pub(crate) struct LargeAnswers {
    turns: Arc<Semaphore>,
    queue: mpsc::Sender<Work>,
}

/// The right of one answer to use a thread; held until dropped.
pub(crate) struct Turn {
    _place: OwnedSemaphorePermit,
    queue: mpsc::Sender<Work>,
}

impl LargeAnswers {
    /// Starts this many threads. They end when no sender of work is left.
    ///
    /// # Errors
    /// The operating system's error if it cannot create a thread.
    pub(crate) fn start(threads: usize) -> io::Result<Self> {
        let (queue, works) = mpsc::channel::<Work>();
        let works = Arc::new(Mutex::new(works));
        for _ in 0..threads {
            let works = Arc::clone(&works);
            thread::Builder::new().name("thrum-large".to_owned()).spawn(move || {
                give_way();
                loop {
                    let work = works.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(work) = work else { return };
                    work();
                }
            })?;
        }
        Ok(Self { turns: Arc::new(Semaphore::new(threads)), queue })
    }

    /// Waits until a thread is free for one more answer.
    pub(crate) async fn turn(&self) -> Turn {
        // The semaphore is never closed.
        let place =
            Arc::clone(&self.turns).acquire_owned().await.expect("turns are given as long as there are answers");
        Turn { _place: place, queue: self.queue.clone() }
    }
}

impl Turn {
    /// Runs part of the work on a thread for large answers. The work is done even if the caller drops the future.
    ///
    /// # Errors
    /// The error of the work; `failed` if it panicked.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let failed = || Error::new(ErrorKind::Failed, "an answer could not be worked out; see the daemon's log");
        let (sender, receiver) = oneshot::channel();
        let work = move || {
            // A panic ends only this answer: it is caught here, so the thread goes on, and the caller gets an error
            // because `sender` is dropped unused.
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            if let Ok(outcome) = outcome {
                // The receiver is gone if the caller dropped the future.
                let _ = sender.send(outcome);
            }
        };
        self.queue.send(Box::new(work)).map_err(|_| failed())?;
        receiver.await.map_err(|_| failed())?
    }
}

/// Gives this thread a priority below that of the daemon's other threads, unless the daemon itself was started with one
/// that low. Outside Linux, a priority applies to the whole process, so nothing is changed.
fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, PRIORITY) {
        tracing::debug!(%error, "cannot lower the priority of the threads for large answers");
    }
}

/// Priority as in `nice`: a third of a core beside one thread of normal priority, and a whole core otherwise. The
/// priority is not lower, because other threads wait for what such a thread holds, such as the kernel's lock of the
/// address space.
#[cfg(target_os = "linux")]
const PRIORITY: i32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_thread_builds_one_answer_and_a_panic_ends_only_that_answer() {
        let large = LargeAnswers::start(1).unwrap();
        let first = large.turn().await;
        assert!(large.turns.try_acquire().is_err(), "another one waits");
        let panicked: Result<(), Error> = first.work(|| panic!("in a test")).await;
        assert_eq!(panicked.unwrap_err().kind, ErrorKind::Failed);
        drop(first);
        assert_eq!(large.turn().await.work(|| Ok(7)).await, Ok(7));
    }
}
