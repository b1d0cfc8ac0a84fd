//! Outbound connections: one driver per peer dials it, replicates from it, and announces new events.
//!
//! Owns the drivers, and the lent and borrowed connections. Other parts send [`Signals`] to a driver by its peer's id,
//! and watch the driver's [`ReplicatorStatus`]. The [`replicator`](crate::replicator), a state machine without I/O,
//! makes the decisions; this module turns events into its inputs and its actions into I/O. Pings and comparisons go
//! through a [`Channel`].

mod channel;
mod connection;
mod driver;
mod link;
mod loans;
mod path;
mod ping;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use thrum_core::{Error, limits};
use tokio::{sync::watch, task::JoinSet, time::timeout};

use crate::{
    addresses::Addresses,
    answers::Forced,
    environment::{Environment, lock},
    inbound::Inbound,
    protocol::wire::Call,
    registry::Peer,
    replicator::ReplicatorStatus,
    transport::{Kind, Node, Path},
};
pub(crate) use channel::Channel;
use connection::Connection;
use driver::Driver;
pub(crate) use driver::{First, Signals, reached};
use loans::Loans;

/// The drivers of all peers, and their connections.
pub(crate) struct Outbound {
    env: Arc<Environment>,
    addresses: Arc<Addresses>,
    /// Serves the connections that we lend to peers.
    inbound: Arc<Inbound>,
    drivers: Mutex<BTreeMap<String, Driver>>,
    loans: Loans,
    tickets: AtomicU64,
}

/// A peer and the handles to its driver.
pub(crate) struct Driven {
    pub(crate) peer: Peer,
    pub(crate) signals: Arc<Signals>,
    pub(crate) status: watch::Receiver<ReplicatorStatus>,
}

/// The state of a peer's driver and its connections.
pub(crate) struct DriverStatus {
    pub(crate) replicator: ReplicatorStatus,
    /// The last measured route to the peer; `None` while disconnected, on loopback, or if unknown.
    pub(crate) path: Option<Path>,
    /// Whether we send requests over a connection that the peer has lent to us.
    pub(crate) borrows: bool,
    /// Whether the peer sends requests over a connection that we have lent to it.
    pub(crate) lends: bool,
}

impl Outbound {
    pub(crate) fn new(env: Arc<Environment>, addresses: Arc<Addresses>, inbound: Arc<Inbound>) -> Self {
        Self { env, addresses, inbound, drivers: Mutex::default(), loans: Loans::default(), tickets: AtomicU64::new(0) }
    }

    /// Starts the driver of a peer, replacing an earlier one with the same id. Returns its status, or `None` if the
    /// peer was removed meanwhile. A removal deletes the entry before the driver, so either this function finds no
    /// entry or the removal finds the new driver.
    pub(crate) fn start(self: &Arc<Self>, peer: Peer, first: First) -> Option<watch::Receiver<ReplicatorStatus>> {
        let mut drivers = lock(&self.drivers);
        self.env.peer(&peer.daemon_id)?;
        let id = peer.daemon_id.clone();
        let driver = Driver::start(self, peer, first);
        let status = driver.status();
        if let Some(earlier) = drivers.insert(id, driver) {
            earlier.abandon();
        }
        Some(status)
    }

    /// Stops the driver of a removed peer. Returns when the driver has ended and no batch is being stored any more.
    pub(crate) async fn remove(&self, peer: &str) {
        let driver = lock(&self.drivers).remove(peer);
        self.loans.forget(peer);
        if let Some(driver) = driver {
            driver.end().await;
        }
    }

    /// Returns the signals of a peer's driver; `None` if there is no driver.
    pub(crate) fn signals(&self, peer: &str) -> Option<Arc<Signals>> {
        lock(&self.drivers).get(peer).map(Driver::signals)
    }

    /// Subscribes to the status of a peer's driver.
    pub(crate) fn status(&self, peer: &str) -> Option<watch::Receiver<ReplicatorStatus>> {
        lock(&self.drivers).get(peer).map(Driver::status)
    }

    /// Returns the state of a peer's driver and its connections.
    pub(crate) fn driver_status(&self, peer: &str) -> Option<DriverStatus> {
        let drivers = lock(&self.drivers);
        let driver = drivers.get(peer)?;
        let replicator = driver.status().borrow().clone();
        Some(DriverStatus {
            replicator,
            path: driver.path(),
            borrows: self.loans.borrows_from(peer),
            lends: self.loans.lends_to(peer),
        })
    }

    /// Returns all peers that have a driver, in the order of pairing.
    pub(crate) fn driven(&self) -> Vec<Driven> {
        let peers = self.env.auth().registry.peers().to_vec();
        let drivers = lock(&self.drivers);
        let driven = |peer: Peer| {
            let driver = drivers.get(&peer.daemon_id)?;
            Some(Driven { signals: driver.signals(), status: driver.status(), peer })
        };
        peers.into_iter().filter_map(driven).collect()
    }

    /// Draws a ticket, which a driver reports when it has done the requested work.
    pub(crate) fn ticket(&self) -> u64 {
        self.tickets.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Pulls now from one peer (id or name) or from all, regardless of backoff. Waits at most [`limits::FORCE`].
    ///
    /// # Errors
    /// `NotFound`. A peer that cannot be pulled has its own error in the result.
    pub(crate) async fn force(&self, from: Option<&str>) -> Result<Vec<Forced>, Error> {
        let only = match from {
            Some(wanted) => Some(self.env.auth().registry.find(wanted)?.daemon_id.clone()),
            None => None,
        };
        let ticket = self.ticket();
        let mut pulls = JoinSet::new();
        for mut driven in
            self.driven().into_iter().filter(|driven| only.as_ref().is_none_or(|id| *id == driven.peer.daemon_id))
        {
            let before = driven.status.borrow().clone();
            driven.signals.force(ticket);
            pulls.spawn(async move {
                let ended = reached(&mut driven.status, limits::FORCE, |status| status.forced >= ticket).await;
                let now = driven.status.borrow();
                let error = if ended && now.failures == before.failures {
                    None
                } else if ended {
                    now.exchange.last_error.clone()
                } else {
                    Some(now.exchange.last_error.clone().unwrap_or_else(|| "it is still being read".into()))
                };
                Forced {
                    peer: driven.peer.daemon_id,
                    name: driven.peer.name,
                    applied: now.applied - before.applied,
                    skipped: now.skipped - before.skipped,
                    error,
                }
            });
        }
        let mut results = pulls.join_all().await;
        results.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(results)
    }

    /// Reports misuse of a peer's token to that peer, over a new connection, so that its user looks for the copy. Sent
    /// once, without waiting; if the peer is away, the next misuse is reported again.
    pub(crate) fn warn(self: &Arc<Self>, peer: String, node: Node) {
        let outbound = Arc::clone(self);
        self.within_notify(async move {
            let peer = outbound.env.peer(&peer)?;
            let _ = Connection::open(&outbound, &peer).await.ok()?.warn(&node).await;
            Some(())
        });
    }

    /// Reports our new listening port to all non-legacy peers on this kind of transport, once, over a new connection
    /// each. A peer that is away learns it from the first request on the next connection.
    pub(crate) fn tell_port(self: &Arc<Self>, kind: Kind) {
        let peers: Vec<Peer> = self
            .env
            .auth()
            .registry
            .peers()
            .iter()
            .filter(|peer| peer.has_key() && peer.kind() == Some(kind))
            .cloned()
            .collect();
        for peer in peers {
            let outbound = Arc::clone(self);
            self.within_notify(async move {
                let _ = Connection::open(&outbound, &peer).await.ok()?.ask(1, Call::PeerInfo { digest: false }).await;
                Some(())
            });
        }
    }

    /// Runs a short task in the background, for at most [`limits::NOTIFY`].
    fn within_notify(&self, short: impl Future<Output = Option<()>> + Send + 'static) {
        let stop = self.env.stop.clone();
        self.env.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                _ = timeout(limits::NOTIFY, short) => {}
            }
        });
    }
}
