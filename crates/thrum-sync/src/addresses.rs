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
    /// The refusal of peers on other machines; `None` if they are allowed.
    kept_here: Option<Error>,
    pub(crate) reachability: Reachability,
}

impl Addresses {
    pub(crate) fn new(env: Arc<Environment>, transports: Vec<Arc<dyn Transport>>, kept_here: Option<Error>) -> Self {
        Self { env, transports, kept_here, reachability: Reachability::default() }
    }

    /// Returns the transport of this kind, unless the user's configuration forbids it.
    pub(crate) fn transport(&self, kind: Kind) -> Option<Arc<dyn Transport>> {
        self.transports.iter().find(|transport| transport.kind() == kind && self.refusal(kind).is_none()).cloned()
    }

    /// Returns the transport of this kind, for work that is impossible without it.
    ///
    /// # Errors
    /// `Unavailable` if there is none, or the user's configuration forbids it.
    pub(crate) fn required_transport(&self, kind: Kind) -> Result<Arc<dyn Transport>, Error> {
        let missing = || Error::new(ErrorKind::Unavailable, format!("the {kind} transport is not available"));
        self.transport(kind).ok_or_else(missing)
    }

    /// Returns the refusal of peers of this kind if the user's configuration forbids them, because they are on other
    /// machines.
    fn refusal(&self, kind: Kind) -> Option<&Error> {
        self.kept_here.as_ref().filter(|_| kind != Kind::Local)
    }

    /// Checks that a transport of this kind may be used.
    ///
    /// # Errors
    /// `Refused` if there is a transport of this kind, but the user's configuration forbids it.
    pub(crate) fn may_use(&self, kind: Kind) -> Result<(), Error> {
        if let Some(refusal) = self.refusal(kind)
            && self.transports.iter().any(|transport| transport.kind() == kind)
        {
            return Err(refusal.clone());
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
