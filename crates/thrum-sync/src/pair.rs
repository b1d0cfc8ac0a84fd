//! Pairing as the user experiences it: display a code and wait, or find a waiting daemon and join it with the code.
//!
//! Owns the notification that the pairing session has changed. Dials to probe and to join. The exchange of the joining
//! side is in `pair/join.rs`, which also stores the new peer; the caller must then start the peer's driver. The
//! exchange of the displaying side is in [`protocol`](crate::protocol). The PAKE and the limit on guesses are in
//! [`pairing`](crate::pairing).

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

    /// Wakes the tasks that wait for a change of the pairing session.
    pub(crate) fn moved(&self) {
        self.moved.notify_waiters();
    }
}
