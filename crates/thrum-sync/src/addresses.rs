//! The peers' addresses, and the transports over which they can be reached.
//!
//! Owns the transports and the table of known reachability. Other parts hold an `Arc<Addresses>`, and request a
//! connection to a peer ([`connect`](Addresses::connect)) or record what they have observed. Sends nothing to a peer
//! and reads nothing from one.

mod locate;
mod reachability;

use std::sync::Arc;

use thrum_core::{Error, ErrorKind, limits};
use tokio::{sync::watch, time::timeout};

use crate::{
    environment::Environment,
    transport::{Condition, Kind, Transport},
};
pub(crate) use reachability::Reachability;

/// The transports, and the known reachability of peers.
pub(crate) struct Addresses {
    env: Arc<Environment>,
    transports: Vec<Arc<dyn Transport>>,
    /// Restricts sync to peers on this machine, whatever transports there are.
    local_only: bool,
    pub(crate) reachability: Reachability,
}

impl Addresses {
    pub(crate) fn new(env: Arc<Environment>, transports: Vec<Arc<dyn Transport>>, local_only: bool) -> Self {
        Self { env, transports, local_only, reachability: Reachability::default() }
    }

    /// Returns the transport of this kind, unless the user's configuration forbids it.
    pub(crate) fn transport(&self, kind: Kind) -> Option<Arc<dyn Transport>> {
        self.transports.iter().find(|transport| transport.kind() == kind && !self.is_forbidden(kind)).cloned()
    }

    /// Returns the transport of this kind, for work that is impossible without it.
    ///
    /// # Errors
    /// `Unavailable` if there is none, or the user's configuration forbids it.
    pub(crate) fn required_transport(&self, kind: Kind) -> Result<Arc<dyn Transport>, Error> {
        let missing = || Error::new(ErrorKind::Unavailable, format!("the {kind} transport is not available"));
        self.transport(kind).ok_or_else(missing)
    }

    /// Returns `true` if the user's configuration forbids peers of this kind, because they are on other machines.
    fn is_forbidden(&self, kind: Kind) -> bool {
        self.local_only && kind != Kind::Local
    }

    /// Checks that a transport of this kind may be used.
    ///
    /// # Errors
    /// `Refused` if there is a transport of this kind, but the user's configuration forbids it.
    pub(crate) fn may_use(&self, kind: Kind) -> Result<(), Error> {
        if self.is_forbidden(kind) && self.transports.iter().any(|transport| transport.kind() == kind) {
            return Err(Error::new(ErrorKind::Refused, "daemon.local_only keeps this daemon from other machines")
                .hint("thrum config set daemon.local_only false, then thrum daemon restart"));
        }
        Ok(())
    }

    /// Waits for a transport that is starting, at most [`limits::TAILNET_UP`]. Does nothing if there is no transport of
    /// this kind, or the user's configuration forbids it.
    ///
    /// # Errors
    /// The transport's own reason why it cannot be used.
    pub(crate) async fn wait_until_up(&self, kind: Kind) -> Result<(), Error> {
        let Some(transport) = self.transport(kind) else { return Ok(()) };
        let mut condition = transport.condition();
        let _ =
            timeout(limits::TAILNET_UP, condition.wait_for(|condition| !matches!(condition, Condition::Starting(_))))
                .await;
        let error = condition.borrow().error();
        error.map_or(Ok(()), Err)
    }
}

/// Waits until a transport's condition changes. Never returns for loopback.
pub(crate) async fn changed(condition: &mut watch::Receiver<Condition>) {
    if condition.changed().await.is_err() {
        std::future::pending().await
    }
}
