//! Anti-entropy: finds the events that normal sync has missed, and fetches exactly those.
//!
//! Owns a schedule for each peer, and a turn, which allows one reconciliation with the peer at a time. Other parts
//! start and stop the schedule of a peer, hint that events may be missing, and request a comparison with all peers
//! ([`verify`](Reconcile::verify)). Sends requests to peers over an [`outbound`](crate::outbound) channel or through
//! the peer's driver, and serves none.

mod difference;
mod fetch;
mod missing;
mod schedule;
mod verify;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use thrum_core::Error;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    answers::Repaired,
    blocking::blocking,
    environment::{Environment, lock},
    outbound::Outbound,
    replicator::ReplicatorStatus,
};
use difference::Turn;

/// Comparisons with all peers.
pub(crate) struct Reconcile {
    env: Arc<Environment>,
    outbound: Arc<Outbound>,
    schedules: Mutex<BTreeMap<String, Schedule>>,
    /// By peer: its turn, once a reconciliation has begun.
    turns: Mutex<BTreeMap<String, Arc<Turn>>>,
}

/// The task that compares with one peer periodically.
struct Schedule {
    hinted: Arc<Notify>,
    repaired: watch::Receiver<Option<Repaired>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Reconcile {
    pub(crate) fn new(env: Arc<Environment>, outbound: Arc<Outbound>) -> Self {
        Self { env, outbound, schedules: Mutex::default(), turns: Mutex::default() }
    }

    /// Starts to compare with a peer periodically, replacing an earlier schedule with the same id. Does nothing if the
    /// peer was removed meanwhile.
    pub(crate) fn start(self: &Arc<Self>, peer: &str, status: watch::Receiver<ReplicatorStatus>) {
        let mut schedules = lock(&self.schedules);
        if self.env.peer(peer).is_none() {
            return;
        }
        let (hinted, stop) = (Arc::<Notify>::default(), self.env.stop.child_token());
        let (tell, repaired) = watch::channel(None);
        let following =
            schedule::follow(Arc::clone(self), peer.to_owned(), status, Arc::clone(&hinted), tell, stop.clone());
        let task = self.env.tasks.spawn(following);
        if let Some(earlier) = schedules.insert(peer.to_owned(), Schedule { hinted, repaired, stop, task }) {
            earlier.stop.cancel();
        }
    }

    /// Wakes a peer's schedule for an early comparison, because the peer reports that events which it holds are missing
    /// here.
    pub(crate) fn hint(&self, peer: &str) {
        if let Some(schedule) = lock(&self.schedules).get(peer) {
            schedule.hinted.notify_one();
        }
    }

    /// Returns what automatic reconciliation with the peer last had to report; `None` if nothing, or only problems that
    /// are resolved.
    pub(crate) fn repaired(&self, peer: &str) -> Option<Repaired> {
        lock(&self.schedules).get(peer).and_then(|schedule| schedule.repaired.borrow().clone())
    }

    /// Stops the schedule of a removed peer. Returns when no event that the peer served is being stored any more.
    ///
    /// # Errors
    /// A task failed.
    pub(crate) async fn remove(&self, peer: &str) -> Result<(), Error> {
        let schedule = lock(&self.schedules).remove(peer);
        if let Some(schedule) = schedule {
            schedule.stop.cancel();
            let _ = schedule.task.await;
        }
        let turn = lock(&self.turns).remove(peer);
        blocking(move || {
            // A reconciliation checks that the peer still exists before it stores events. Wait for a store that passed
            // this check before.
            if let Some(turn) = turn {
                turn.settle();
            }
            Ok(())
        })
        .await
    }
}
