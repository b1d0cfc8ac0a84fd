//! Accepts peers and answers their lines.

use std::sync::Arc;

use thrum_core::{ErrorKind, Fault, limits};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Inner, blocking, driver::First, lock};
use crate::{
    conn::{self, NoLine},
    server::{self, Effect, Next},
    transport::{Caller, Conn, Kind, Listener},
    wire::{self, RpcError},
};

/// A listener that is open, or should be.
pub(super) struct Listening {
    pub(super) kind: Kind,
    pub(super) address: Result<String, Fault>,
}

impl Inner {
    /// Listens on this kind of transport from now on, and after every start; does nothing if it does already.
    ///
    /// # Errors
    /// The user keeps the daemon from it; there is no such transport, or it cannot listen (shown from then on by `listen_error`).
    pub(super) async fn listen(self: &Arc<Self>, kind: Kind) -> Result<String, Fault> {
        self.may_use(kind)?;
        let mut listeners = self.listeners.lock().await;
        if let Some(Ok(address)) = listeners.iter().find(|one| one.kind == kind).map(|one| &one.address) {
            return Ok(address.clone());
        }
        let result = self.open(kind).await;
        listeners.retain(|one| one.kind != kind);
        match result {
            Ok(listener) => {
                let address = listener.address();
                listeners.push(Listening { kind, address: Ok(address.clone()) });
                let inner = Arc::clone(self);
                self.tasks.spawn(async move { inner.accept(listener).await });
                Ok(address)
            }
            Err(fault) => {
                listeners.push(Listening { kind, address: Err(fault.clone()) });
                Err(fault)
            }
        }
    }

    async fn open(self: &Arc<Self>, kind: Kind) -> Result<Box<dyn Listener>, Fault> {
        let transport =
            self.transport(kind).ok_or_else(|| Fault::new(ErrorKind::Unavailable, format!("the {kind} transport is not available")))?;
        let kept = self.desk().registry.local_port().filter(|_| kind == Kind::Local);
        let listener = transport.listen(kept).await?;
        if kind == Kind::Local {
            let (inner, port) = (Arc::clone(self), listener.port());
            blocking(move || inner.desk().registry.keep_local_port(port)).await?;
        }
        Ok(listener)
    }

    /// Tries until it listens: the port may become free.
    pub(super) fn keep_trying_to_listen(self: &Arc<Self>, kind: Kind) {
        let inner = Arc::clone(self);
        self.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = inner.stop.cancelled() => return,
                    () = sleep(limits::ROUND) => {}
                }
                if let Ok(address) = inner.listen(kind).await {
                    tracing::info!("listening for peers at {address} again");
                    return;
                }
            }
        });
    }

    async fn accept(self: Arc<Self>, mut listener: Box<dyn Listener>) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((conn, caller)) => match self.visitors.enter(&self.stop) {
                    Some((id, stop)) => {
                        let inner = Arc::clone(&self);
                        self.tasks.spawn(async move {
                            let why = inner.visit(conn, &caller, id, &stop).await;
                            inner.visitors.leave(id);
                            tracing::debug!("connection from {} ended: {why}", caller.address);
                        });
                    }
                    None => tracing::warn!("refused {}: {} peers are connected", caller.address, limits::MAX_PEER_CONNECTIONS),
                },
                Err(error) => {
                    tracing::warn!("cannot accept a peer: {error}");
                    sleep(limits::ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Answers line by line; returns why it ended.
    async fn visit(self: &Arc<Self>, conn: Conn, caller: &Caller, id: u64, stop: &CancellationToken) -> NoLine {
        let (mut lines, mut writer) = conn::halves(conn);
        let introduced_by = Instant::now() + limits::UNAUTHENTICATED_DEADLINE;
        let mut known = false;
        loop {
            let left = introduced_by.saturating_duration_since(Instant::now());
            let (idle, whole) = if known { (limits::PEER_IDLE, limits::PEER_LINE) } else { (left, left) };
            let line = tokio::select! {
                () = stop.cancelled() => return NoLine::Closed,
                line = lines.next(limits::MAX_PEER_REQUEST_BYTES, idle, whole) => line,
            };
            let reply = match line {
                Ok(line) => match self.answer(line, caller, id).await {
                    Ok((reply, is_peer)) => {
                        known |= is_peer;
                        reply
                    }
                    Err(fault) => wire::error_line(&None, &fault.into()),
                },
                Err(NoLine::TooLong(limit)) => {
                    let _ = conn::write_line(&mut writer, &wire::error_line(&None, &RpcError::too_long(limit)), limits::PEER_WRITE).await;
                    return NoLine::TooLong(limit);
                }
                Err(other) => return other,
            };
            tokio::select! {
                () = stop.cancelled() => return NoLine::Closed,
                written = conn::write_line(&mut writer, &reply, limits::PEER_WRITE) => if let Err(error) = written {
                    return error.into();
                },
            }
        }
    }

    /// The reply to one line, and whether it showed a good token.
    async fn answer(self: &Arc<Self>, line: Vec<u8>, caller: &Caller, visitor: u64) -> Result<(String, bool), Fault> {
        let (inner, caller) = (Arc::clone(self), caller.clone());
        // Wiped: a request carries a token or a code.
        let line = zeroize::Zeroizing::new(line);
        let (received, now) = blocking(move || {
            let (now, mut ambient) = (inner.clock.now(), (inner.ambients)());
            Ok((server::receive(&mut inner.desk(), &line, &caller, now, &mut *ambient), now))
        })
        .await?;
        let known = received.peer.is_some();
        if let Some(peer) = &received.peer {
            self.visitors.known(visitor, peer);
        }
        let peer = received.peer.unwrap_or_default();
        for effect in received.effects {
            self.tell(&peer, effect);
        }
        match received.next {
            Next::Reply(reply) => Ok((reply, known)),
            Next::Serve(job) => {
                let inner = Arc::clone(self);
                let (reply, effect) = blocking(move || Ok(server::serve(job, &inner.me, &*inner.log, &inner.askers, now))).await?;
                if let Some(effect) = effect {
                    self.tell(&peer, effect);
                }
                Ok((reply, known))
            }
        }
    }

    fn tell(self: &Arc<Self>, peer: &str, effect: Effect) {
        let signals = || lock(&self.drivers).get(peer).map(super::driver::Driver::signals);
        match effect {
            Effect::Paired(peer) => self.drive(*peer, First::WaitForCall),
            Effect::PairingMoved => self.pairing_moved.notify_waiters(),
            Effect::Authenticated => {
                if let Some(signals) = signals() {
                    signals.called();
                }
            }
            Effect::Notified { latest } => {
                if let Some(signals) = signals() {
                    signals.notified(latest);
                }
            }
            Effect::Acknowledged { log, upto } => {
                if *log == *self.log.id() {
                    self.log.acknowledged(peer, upto, self.clock.now().at);
                    if let Some(signals) = signals() {
                        signals.acknowledged(upto);
                    }
                }
            }
        }
    }
}
