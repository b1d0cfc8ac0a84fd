//! Stopping: on a signal, in order, within a bound.

use std::{future::Future, time::Duration};

use thrum_core::Fault;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Owns every task of the daemon, tells them all to stop, and waits until they have or the time is up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shutdown {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// Runs a task that is waited for when the daemon stops; it watches [`stopping`](Self::stopping) itself.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.tasks.spawn(task));
    }

    /// Resolves as soon as the daemon is told to stop, and ever after.
    pub(crate) async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Tells all tasks to stop and waits for them. Returns how many were still running when `within` had passed.
    pub(crate) async fn drain(&self, within: Duration) -> usize {
        self.stop.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(within, self.tasks.wait()).await;
        self.tasks.len()
    }
}

/// Waits for the first signal that asks the process to end, and names it.
pub(crate) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Signals {
    /// From here on these signals no longer kill the process.
    pub(crate) fn catch() -> Result<Self, Fault> {
        let catch =
            |kind| signal(kind).map_err(|error| Fault::new(thrum_core::ErrorKind::Failed, format!("cannot handle signals: {error}")));
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
            hang_up: catch(SignalKind::hangup())?,
        })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hang_up.recv() => "SIGHUP",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_tasks_are_told_and_awaited_and_one_that_hangs_is_counted() {
        let shutdown = Shutdown::default();
        let (done, was_done) = tokio::sync::oneshot::channel();
        let told = shutdown.clone();
        shutdown.spawn(async move {
            told.stopping().await;
            let _ = done.send(());
        });
        assert_eq!(shutdown.drain(Duration::from_secs(60)).await, 0);
        was_done.await.expect("the task came to its end");

        let shutdown = Shutdown::default();
        shutdown.spawn(std::future::pending());
        assert_eq!(shutdown.drain(Duration::from_millis(1)).await, 1);
    }
}
