//! Opens listeners, keeps them open, and accepts connections.

use std::{io, sync::Arc};

use thrum_core::{Error, limits};
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::Inbound;
use crate::{
    addresses::changed,
    blocking::blocking,
    conn,
    registry::Peer,
    transport::{Condition, Kind, Listener, Transport},
};

/// A listener that is open or should be open.
pub(super) struct Listening {
    pub(super) kind: Kind,
    pub(super) address: Result<String, Error>,
    accepting: Option<Accepting>,
}

/// The task that owns an open listener.
struct Accepting {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Listening {
    pub(super) fn is_open(&self) -> bool {
        self.accepting.as_ref().is_some_and(|accepting| !accepting.task.is_finished())
    }
}

impl Inbound {
    /// Listens on this kind of transport from now on, and after every restart. Returns the address. Does nothing else
    /// if it already listens. Waits at most [`limits::TAILNET_UP`] for a transport that is starting.
    ///
    /// # Errors
    /// The user's configuration forbids it, or the transport is not up. From then on also reported by `listen_error`:
    /// there is no such transport, or it cannot listen.
    pub(crate) async fn listen(self: &Arc<Self>, kind: Kind) -> Result<String, Error> {
        self.addresses.may_use(kind)?;
        self.addresses.wait_until_up(kind).await?;
        let mut listeners = self.listeners.lock().await;
        if let Some(open) = listeners.iter().find(|one| one.kind == kind && one.is_open())
            && let Ok(address) = &open.address
        {
            return Ok(address.clone());
        }
        let result = self.open(kind).await;
        listeners.retain(|one| one.kind != kind);
        match result {
            Ok((listener, has_moved)) => {
                let address = listener.address();
                self.addresses.reachability.set_port(kind, Some(listener.port()));
                if has_moved {
                    self.events.port_changed(kind);
                }
                let (inbound, stop) = (Arc::clone(self), self.env.stop.child_token());
                let task = self.env.tasks.spawn({
                    let stop = stop.clone();
                    async move { inbound.accept(listener, &stop).await }
                });
                listeners.push(Listening {
                    kind,
                    address: Ok(address.clone()),
                    accepting: Some(Accepting { stop, task }),
                });
                Ok(address)
            }
            Err(error) => {
                listeners.push(Listening { kind, address: Err(error.clone()), accepting: None });
                Err(error)
            }
        }
    }

    /// Opens a listener on the stored port. If that fails and all peers of this kind can learn a new port, uses and
    /// stores another port. Returns the listener, and whether peers know a different port.
    async fn open(self: &Arc<Self>, kind: Kind) -> Result<(Box<dyn Listener>, bool), Error> {
        let transport = self.addresses.required_transport(kind)?;
        let (kept, all_follow) = {
            let auth = self.env.auth();
            let mut of_kind = auth.registry.peers().iter().filter(|peer| peer.kind() == Some(kind));
            (auth.registry.port(kind), of_kind.all(Peer::has_key))
        };
        let listener = match transport.listen(kept).await {
            // A Go Thrum dials only the port that it knows, so with such a peer the stored port is tried again later.
            Err(error) if kept.is_some() && all_follow => {
                let listener = transport.listen(None).await.map_err(|_| error.clone())?;
                tracing::warn!(%error, address = %listener.address(), "listening at another address; peers follow it");
                listener
            }
            opened => opened?,
        };
        let (env, port) = (Arc::clone(&self.env), listener.port());
        blocking(move || env.auth().registry.keep_port(kind, port)).await?;
        Ok((listener, kept.is_some_and(|kept| kept != port)))
    }

    /// Closes the listener on this kind of transport.
    async fn close(&self, kind: Kind) {
        let mut listeners = self.listeners.lock().await;
        for one in listeners.iter_mut().filter(|one| one.kind == kind) {
            if let Some(Accepting { stop, task }) = one.accepting.take() {
                stop.cancel();
                // The port is free only when the task has ended, which it does as soon as the token is cancelled.
                let _ = task.await;
            }
        }
        listeners.retain(|one| one.kind != kind);
        self.addresses.reachability.set_port(kind, None);
    }

    /// Listens on a transport whenever it is up: from the start, after each change, and after a listener has ended
    /// unexpectedly.
    pub(crate) async fn attend(self: Arc<Self>, transport: Arc<dyn Transport>) {
        let kind = transport.kind();
        let mut condition = transport.condition();
        let mut was_up = false;
        let mut said = String::new();
        'anew: loop {
            let is_up = *condition.borrow_and_update() == Condition::Up;
            // A listener opened before the change may have an address that no longer exists.
            if was_up || !is_up {
                self.close(kind).await;
            }
            was_up = is_up;
            loop {
                let opened = if is_up { Some(self.listen(kind).await) } else { None };
                let (outcome, failed) = match opened {
                    Some(Ok(address)) => (format!("listening for peers at {address}"), false),
                    Some(Err(error)) => (error.message, true),
                    None => (String::new(), false),
                };
                if outcome != said {
                    if failed {
                        tracing::error!("{outcome}");
                    } else if is_up {
                        tracing::info!("{outcome}");
                    }
                    said = outcome;
                }
                // Try again, because the port may become free.
                let again =
                    async { if failed { sleep(limits::SYNC_INTERVAL).await } else { std::future::pending().await } };
                tokio::select! {
                    () = self.env.stop.cancelled() => return,
                    () = changed(&mut condition) => continue 'anew,
                    () = self.listener_ended.notified() => continue 'anew,
                    () = again => {}
                }
            }
        }
    }

    /// Tries to listen every [`limits::SYNC_INTERVAL`] until it succeeds, because the port may become free.
    pub(crate) fn keep_trying_to_listen(self: &Arc<Self>, kind: Kind) {
        let inbound = Arc::clone(self);
        self.env.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = inbound.env.stop.cancelled() => return,
                    () = sleep(limits::SYNC_INTERVAL) => {}
                }
                if let Ok(address) = inbound.listen(kind).await {
                    tracing::info!(%address, "listening for peers again");
                    return;
                }
            }
        });
    }

    async fn accept(self: Arc<Self>, mut listener: Box<dyn Listener>, stop: &CancellationToken) {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                // Not a tailnet node, but a process of this machine that connects to the tailnet's port.
                Ok((_, caller)) if caller.kind == Kind::Tailnet && caller.node.is_none() => {
                    tracing::debug!(address = %caller.address, "refused a caller that the tailnet does not know");
                }
                Ok((conn, caller)) => match self.admission.enter(caller.node_id(), &self.env.stop) {
                    Some((id, stop)) => {
                        let inbound = Arc::clone(&self);
                        let span = tracing::info_span!("session", address = %caller.address);
                        let session = async move {
                            let why = inbound.serve(conn::halves(conn), caller, id, &stop).await;
                            inbound.admission.leave(id);
                            tracing::debug!(reason = %why, "a connection ended");
                        };
                        self.env.tasks.spawn(session.instrument(span));
                    }
                    None => tracing::warn!(
                        address = %caller.address,
                        connections = limits::MAX_PEER_CONNECTIONS,
                        "refused a caller: too many peers are connected"
                    ),
                },
                Err(error) => {
                    let ended = error.kind() == io::ErrorKind::NotConnected;
                    if !ended {
                        tracing::warn!(%error, "cannot accept a peer");
                    }
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = sleep(limits::ACCEPT_PAUSE) => {}
                    }
                    if ended {
                        tracing::info!(address = %listener.address(), "a listener has ended");
                        drop(listener);
                        self.listener_ended.notify_one();
                        return;
                    }
                }
            }
        }
    }
}
