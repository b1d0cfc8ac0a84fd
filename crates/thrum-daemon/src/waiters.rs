//! Named waits: only the newest wait of a name continues.
//!
//! A program may start a waiter after every turn and end none of them. All of them would wake the program for the same
//! mail, and each wake would start another waiter. So a new wait takes its name over from the previous one, which ends
//! at once.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

/// The current waits by name.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    names: Mutex<BTreeMap<String, watch::Sender<()>>>,
}

/// The right to wait under a name, until another wait takes the name over.
#[derive(Debug)]
pub(crate) struct NameLease(watch::Receiver<()>);

impl Waiters {
    /// Takes a name over from the previous wait.
    pub(crate) fn take_over(&self, name: &str) -> NameLease {
        let mut names = self.names();
        names.retain(|_, sender| sender.receiver_count() > 0);
        let (sender, receiver) = watch::channel(());
        // This drops the previous sender, which ends the previous wait.
        names.insert(name.to_owned(), sender);
        NameLease(receiver)
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<String, watch::Sender<()>>> {
        // Every change is a single call on the map.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NameLease {
    /// Resolves when another wait takes the name over; never if there is no lease.
    pub(crate) async fn is_lost(lease: Option<&mut Self>) {
        match lease {
            Some(Self(receiver)) => while receiver.changed().await.is_ok() {},
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_wait_of_a_name_replaces_the_previous_one() {
        let waiters = Waiters::default();
        let mut first = waiters.take_over("a");
        let mut other = waiters.take_over("b");
        let mut second = waiters.take_over("a");
        NameLease::is_lost(Some(&mut first)).await;
        for lease in [&mut second, &mut other] {
            let lost = tokio::time::timeout(std::time::Duration::ZERO, NameLease::is_lost(Some(lease))).await;
            assert!(lost.is_err());
        }
    }
}
