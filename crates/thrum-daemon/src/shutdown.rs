//! Stopping the daemon: on a signal, in order, within a time bound.

use std::{future::Future, time::Duration};

use thrum_core::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Owns the tasks of the daemon except those of [`Peers`](thrum_sync::Peers) and of the tailnet, tells all of them to
/// stop, and waits for them within a time bound.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shutdown {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// Spawns a task that the shutdown waits for. The task must watch [`stopping`](Self::stopping) itself.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.tasks.spawn(task));
    }

    /// Resolves as soon as the daemon has to stop, and ever after.
    pub(crate) async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Tells all tasks to stop and waits for them. Returns how many still ran after `within`.
    pub(crate) async fn drain(&self, within: Duration) -> usize {
        self.stop.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(within, self.tasks.wait()).await;
        self.tasks.len()
    }
}

/// Receives the signals that ask the process to end.
pub(crate) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Signals {
    /// Catches the signals, which no longer kill the process from here on.
    pub(crate) fn catch() -> Result<Self, Error> {
        let catch = |kind| {
            signal(kind)
                .map_err(|error| Error::new(thrum_core::ErrorKind::Failed, format!("cannot handle signals: {error}")))
        };
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
            hang_up: catch(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal and returns its name.
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
    async fn all_tasks_are_cancelled_and_awaited_and_a_hanging_one_is_counted() {
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
