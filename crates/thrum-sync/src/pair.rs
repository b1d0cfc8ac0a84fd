//! Pairing as the user experiences it: display a code and wait, or find a waiting daemon and join it with the code.
//!
//! Owns the notification that the open session has changed. Dials to join and to probe, and stores a new peer in the
//! registry; the caller must then start its driver. The exchange itself and the limit of guesses are implemented in
//! [`pairing`](crate::pairing), and, on the side that displays the code, in [`protocol`](crate::protocol).

mod join;
mod offer;
mod probe;
mod target;

use std::sync::Arc;

use tokio::sync::Notify;

use crate::{addresses::Addresses, environment::Environment, inbound::Inbound, outbound::Outbound};
pub(crate) use target::wants_tailnet;

/// Both sides of pairing.
pub(crate) struct PairingFlow {
    env: Arc<Environment>,
    addresses: Arc<Addresses>,
    inbound: Arc<Inbound>,
    outbound: Arc<Outbound>,
    moved: Notify,
}

impl PairingFlow {
    pub(crate) fn new(
        env: Arc<Environment>,
        addresses: Arc<Addresses>,
        inbound: Arc<Inbound>,
        outbound: Arc<Outbound>,
    ) -> Self {
        Self { env, addresses, inbound, outbound, moved: Notify::new() }
    }

    /// Wakes the tasks that wait for the session, because it has changed.
    pub(crate) fn moved(&self) {
        self.moved.notify_waiters();
    }
}
