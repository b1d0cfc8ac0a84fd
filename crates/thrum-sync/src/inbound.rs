//! Inbound connections: listens for peers, admits them, and serves their requests.
//!
//! Owns the listeners, the table of open connections, and the requests of legacy peers. Consequences of a request for
//! other parts (new events at a peer, a finished pairing, a lent connection) are passed on through [`Events`]. This
//! module dials nothing, and does not wait for the handling of an event. [`protocol`](crate::protocol) computes the
//! reply to one line without network I/O.

mod admission;
mod listening;
mod newer_go;
mod session;

use std::sync::{Arc, Mutex};

use thrum_core::Error;
use tokio::sync::Notify;

use crate::{
    addresses::Addresses,
    conn::Halves,
    environment::{Environment, lock},
    legacy::serving::Askers,
    protocol::Effect,
    transport::Kind,
};
use admission::Admission;
use listening::Listening;
pub use newer_go::NewerGo;

/// Receives events from inbound connections. Called between two lines of a peer: must not block.
pub(crate) trait Events: Send + Sync + 'static {
    /// Handles a consequence of a request from this peer (empty if the caller is not authenticated).
    fn happened(&self, peer: &str, effect: Effect);

    /// A tailnet peer calls from another host than before.
    fn moved(&self, peer: &str);

    /// A peer that we cannot dial lends us a connection for our requests.
    fn lent(&self, peer: &str, halves: Halves);

    /// We listen on another port than peers know.
    fn port_changed(&self, kind: Kind);
}

/// The listeners, and all inbound connections.
pub(crate) struct Inbound {
    env: Arc<Environment>,
    addresses: Arc<Addresses>,
    events: Box<dyn Events>,
    /// Locked while a listener is opened, so that it is opened only once.
    listeners: tokio::sync::Mutex<Vec<Listening>>,
    /// Notified when a listener has ended unexpectedly.
    listener_ended: Notify,
    admission: Admission,
    /// Legacy peers that read our log.
    askers: Mutex<Askers>,
    /// The last call of a Go daemon that is too new.
    newer_go: Mutex<Option<NewerGo>>,
}

impl Inbound {
    pub(crate) fn new(env: Arc<Environment>, addresses: Arc<Addresses>, events: Box<dyn Events>) -> Self {
        Self {
            env,
            addresses,
            events,
            listeners: tokio::sync::Mutex::default(),
            listener_ended: Notify::new(),
            admission: Admission::default(),
            askers: Mutex::default(),
            newer_go: Mutex::default(),
        }
    }

    /// Returns the address at which peers reach us on this kind of transport; `None` while nothing listens.
    pub(crate) async fn address(&self, kind: Kind) -> Option<String> {
        self.listeners
            .lock()
            .await
            .iter()
            .find(|one| one.kind == kind && one.is_open())
            .and_then(|one| one.address.clone().ok())
    }

    /// Returns the error of a listener that should be open and is not; `None` if there is none.
    pub(crate) async fn listen_error(&self) -> Option<Error> {
        self.listeners.lock().await.iter().find_map(|one| one.address.clone().err())
    }

    /// Closes all connections of a removed peer, and forgets its requests.
    pub(crate) fn remove(&self, peer: &str) {
        self.admission.close(peer);
        lock(&self.askers).forget(peer);
    }

    /// Passes the requests of legacy peers to `look`, for a status.
    pub(crate) fn with_askers<T>(&self, look: impl FnOnce(&Askers) -> T) -> T {
        look(&lock(&self.askers))
    }
}
