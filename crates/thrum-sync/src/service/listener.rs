//! Accepts peers and answers their lines.

use std::{io, sync::Arc};

use thrum_core::{ErrorKind, Fault, limits};
use tokio::{
    io::{ReadHalf, WriteHalf},
    sync::{OwnedSemaphorePermit, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Inner, blocking, driver::First, lock, ways::Halves};
use crate::{
    conn::{self, Lines, NoLine},
    registry::Peer,
    server::{self, Effect, Next, Visit},
    transport::{Caller, Condition, Conn, Kind, Listener, Transport},
    wire::{self, RpcError},
};

/// A listener that is open, or should be.
pub(super) struct Listening {
    pub(super) kind: Kind,
    pub(super) address: Result<String, Fault>,
    accepting: Option<Accepting>,
}

/// The task that owns an open listener.
struct Accepting {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// A reply, and whether it goes to a peer.
type Answer = Result<Answered, Fault>;

struct Answered {
    line: String,
    is_peer: bool,
    /// Held until the line is written: what a peer does not read stays in memory, and so it may have no more of that than turns.
    turn: Option<OwnedSemaphorePermit>,
    /// The peer that lends us this connection from now on.
    lent_by: Option<String>,
}

/// Waits until a transport's condition changes. Loopback's never does.
pub(super) async fn changed(condition: &mut watch::Receiver<Condition>) {
    if condition.changed().await.is_err() {
        std::future::pending().await
    }
}

impl Listening {
    pub(super) fn is_open(&self) -> bool {
        self.accepting.as_ref().is_some_and(|accepting| !accepting.task.is_finished())
    }
}

impl Inner {
    /// Listens on this kind of transport from now on, and after every start; does nothing if it does already. Waits at most
    /// [`limits::TAILNET_UP`] for a transport that is starting.
    ///
    /// # Errors
    /// The user keeps the daemon from it; there is no such transport, or it cannot listen (shown from then on by `listen_error`).
    pub(super) async fn listen(self: &Arc<Self>, kind: Kind) -> Result<String, Fault> {
        self.may_use(kind)?;
        self.wait_until_up(kind).await?;
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
                self.ways.listens(kind, Some(listener.port()));
                if has_moved {
                    self.tell_port(kind);
                }
                let (inner, stop) = (Arc::clone(self), self.stop.child_token());
                let task = self.tasks.spawn({
                    let stop = stop.clone();
                    async move { inner.accept(listener, &stop).await }
                });
                listeners.push(Listening { kind, address: Ok(address.clone()), accepting: Some(Accepting { stop, task }) });
                Ok(address)
            }
            Err(fault) => {
                listeners.push(Listening { kind, address: Err(fault.clone()), accepting: None });
                Err(fault)
            }
        }
    }

    /// Waits for a transport that is on its way, at most [`limits::TAILNET_UP`].
    ///
    /// # Errors
    /// Why it cannot be used, in its own words.
    pub(super) async fn wait_until_up(&self, kind: Kind) -> Result<(), Fault> {
        let Some(transport) = self.transport(kind) else { return Ok(()) };
        let mut condition = transport.condition();
        let _ = timeout(limits::TAILNET_UP, condition.wait_for(|condition| !matches!(condition, Condition::Starting(_)))).await;
        let fault = condition.borrow().fault();
        fault.map_or(Ok(()), Err)
    }

    /// Opens a listener on the port that is kept, and on another one if that is taken and every peer of this kind follows. Says whether
    /// peers know another port.
    async fn open(self: &Arc<Self>, kind: Kind) -> Result<(Box<dyn Listener>, bool), Fault> {
        let transport =
            self.transport(kind).ok_or_else(|| Fault::new(ErrorKind::Unavailable, format!("the {kind} transport is not available")))?;
        let (kept, all_follow) = {
            let desk = self.desk();
            let mut of_kind = desk.registry.peers().iter().filter(|peer| peer.kind() == Some(kind));
            (desk.registry.port(kind), of_kind.all(Peer::has_key))
        };
        let listener = match transport.listen(kept).await {
            // A Go Thrum dials the port that it knows: with one among the peers, this waits until that is free.
            Err(fault) if kept.is_some() && all_follow => {
                let listener = transport.listen(None).await.map_err(|_| fault.clone())?;
                tracing::warn!("{fault}; listening at {} instead, as peers are told", listener.address());
                listener
            }
            opened => opened?,
        };
        let (inner, port) = (Arc::clone(self), listener.port());
        blocking(move || inner.desk().registry.keep_port(kind, port)).await?;
        Ok((listener, kept.is_some_and(|kept| kept != port)))
    }

    /// Closes what listens on this kind of transport.
    async fn close(&self, kind: Kind) {
        let mut listeners = self.listeners.lock().await;
        for one in listeners.iter_mut().filter(|one| one.kind == kind) {
            if let Some(Accepting { stop, task }) = one.accepting.take() {
                stop.cancel();
                // Its port is free only when it is gone. It waits for nothing but the token.
                let _ = task.await;
            }
        }
        listeners.retain(|one| one.kind != kind);
        self.ways.listens(kind, None);
    }

    /// Listens on a transport whenever it is up: from the start, after each change, and when a listener ended by itself.
    pub(super) async fn attend(self: Arc<Self>, transport: Arc<dyn Transport>) {
        let kind = transport.kind();
        let mut condition = transport.condition();
        let mut was_up = false;
        let mut said = String::new();
        'anew: loop {
            let is_up = *condition.borrow_and_update() == Condition::Up;
            // What was opened before a change may be at an address that is gone.
            if was_up || !is_up {
                self.close(kind).await;
            }
            was_up = is_up;
            loop {
                let opened = if is_up { Some(self.listen(kind).await) } else { None };
                let (outcome, failed) = match opened {
                    Some(Ok(address)) => (format!("listening for peers at {address}"), false),
                    Some(Err(fault)) => (fault.message, true),
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
                // The port may become free.
                let again = async { if failed { sleep(limits::ROUND).await } else { std::future::pending().await } };
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    () = changed(&mut condition) => continue 'anew,
                    () = self.listener_ended.notified() => continue 'anew,
                    () = again => {}
                }
            }
        }
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

    async fn accept(self: Arc<Self>, mut listener: Box<dyn Listener>, stop: &CancellationToken) {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                // Nobody of the tailnet: a process of this machine, on a port that is the tailnet's.
                Ok((_, caller)) if caller.kind == Kind::Tailnet && caller.node.is_none() => {
                    tracing::debug!("refused {}: the tailnet does not know it", caller.address);
                }
                Ok((conn, caller)) => match self.visitors.enter(caller.node.as_ref().map(|node| node.id.as_str()), &self.stop) {
                    Some((id, stop)) => {
                        let inner = Arc::clone(&self);
                        self.tasks.spawn(async move {
                            let address = caller.address.clone();
                            let (lines, writer) = conn::halves(conn);
                            let why = inner.visit(lines, writer, caller, id, &stop).await;
                            inner.visitors.leave(id);
                            tracing::debug!("connection from {address} ended: {why}");
                        });
                    }
                    None => tracing::warn!("refused {}: {} peers are connected", caller.address, limits::MAX_PEER_CONNECTIONS),
                },
                Err(error) => {
                    let ended = error.kind() == io::ErrorKind::NotConnected;
                    if !ended {
                        tracing::warn!("cannot accept a peer: {error}");
                    }
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = sleep(limits::ACCEPT_PAUSE) => {}
                    }
                    if ended {
                        tracing::info!("the listener at {} has ended", listener.address());
                        drop(listener);
                        self.listener_ended.notify_one();
                        return;
                    }
                }
            }
        }
    }

    /// Answers line by line; returns why it ended.
    pub(super) async fn visit(
        self: &Arc<Self>,
        lines: Lines<ReadHalf<Conn>>,
        writer: WriteHalf<Conn>,
        caller: Caller,
        id: u64,
        stop: &CancellationToken,
    ) -> NoLine {
        let mut visit = Some(Visit::from(caller).proving(Arc::clone(&self.prover)));
        let why = self.converse((lines, writer), &mut visit, id, stop).await;
        let effects = visit.map(|visit| server::leave(&mut self.desk(), visit, self.clock.now()));
        for effect in effects.unwrap_or_default() {
            self.tell("", effect);
        }
        why
    }

    async fn converse(
        self: &Arc<Self>,
        (mut lines, mut writer): Halves,
        visit: &mut Option<Visit>,
        id: u64,
        stop: &CancellationToken,
    ) -> NoLine {
        let introduced_by = Instant::now() + limits::UNAUTHENTICATED_DEADLINE;
        let mut known = false;
        let caller = visit.as_ref().map(|visit| visit.caller.clone());
        loop {
            let left = introduced_by.saturating_duration_since(Instant::now());
            let (idle, whole) = if known { (limits::PEER_IDLE, limits::PEER_LINE) } else { (left, left) };
            let line = tokio::select! {
                () = stop.cancelled() => return NoLine::Closed,
                line = lines.next(limits::MAX_PEER_REQUEST_BYTES, idle, whole) => line,
            };
            let (mut held, mut lent_by) = (None, None);
            let reply = match line {
                // A page in a browser of this machine can post lines to this port, as the text of a form. It must not get so far as to
                // guess at a code; no peer ever sends such a line first.
                Ok(line) if !known && wire::is_http(&line) => {
                    if self.turn_newer_go_away(&line, &mut lines, &mut writer, left).await {
                        self.note_newer_go(caller.as_ref());
                        return NoLine::Io(io::Error::new(io::ErrorKind::InvalidData, "it is Go Thrum v0.7 or later"));
                    }
                    // Whoever does not read it is closed all the same.
                    let _ = conn::write_line(&mut writer, wire::NOT_HTTP, limits::PEER_WRITE).await;
                    return NoLine::Io(io::Error::new(io::ErrorKind::InvalidData, "it spoke HTTP"));
                }
                Ok(line) => {
                    let Some(before) = visit.take() else { return NoLine::Closed };
                    let (answer, after) = match self.answer(line, before, id, stop).await {
                        Ok(answer) => answer,
                        Err(fault) => return io::Error::other(fault.message).into(),
                    };
                    *visit = Some(after);
                    match answer {
                        Ok(Answered { line, is_peer, turn, lent_by: lender }) => {
                            known |= is_peer;
                            (held, lent_by) = (turn, lender);
                            line
                        }
                        Err(fault) => wire::error_line(&None, &fault.into()),
                    }
                }
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
            drop(held);
            if let Some(peer) = lent_by {
                self.ways.keep(&peer, (lines, writer));
                if let Some(signals) = lock(&self.drivers).get(&peer).map(super::driver::Driver::signals) {
                    signals.reachable();
                }
                return NoLine::Closed;
            }
        }
    }

    /// The reply to one line, and whether it showed a good token. Without the visit, which an internal failure lost, the
    /// connection is of no use.
    async fn answer(
        self: &Arc<Self>,
        line: Vec<u8>,
        mut visit: Visit,
        visitor: u64,
        stop: &CancellationToken,
    ) -> Result<(Answer, Visit), Fault> {
        let inner = Arc::clone(self);
        // Wiped: a request carries a token or a code.
        let line = zeroize::Zeroizing::new(line);
        let (received, now, visit) = blocking(move || {
            let (now, mut ambient) = (inner.clock.now(), (inner.ambients)());
            let received = server::receive(&mut inner.desk(), &line, &mut visit, now, &mut *ambient);
            Ok((received, now, visit))
        })
        .await?;
        let known = received.peer.is_some();
        if let Some(peer) = &received.peer {
            self.visitors.known(visitor, peer);
            if self.ways.calls_from(peer, &visit.caller)
                && let Some(signals) = lock(&self.drivers).get(peer).map(super::driver::Driver::signals)
            {
                tracing::info!("[pairing] {} calls from {} now", thrum_core::name::printable(peer), visit.caller.address);
                signals.moved();
            }
        }
        let peer = received.peer.unwrap_or_default();
        let lent_by = received.effects.iter().any(|effect| matches!(effect, Effect::Lent)).then(|| peer.clone());
        for effect in received.effects {
            self.tell(&peer, effect);
        }
        let needs_loan = self.ways.needs_loan(&peer);
        let marked = move |line: String| if needs_loan { wire::add_unreached(&line) } else { line };
        let job = match received.next {
            Next::Reply(line) => return Ok((Ok(Answered { line: marked(line), is_peer: known, turn: None, lent_by }), visit)),
            Next::Serve(job) => job,
        };
        let turn = tokio::select! {
            () = stop.cancelled() => None,
            turn = self.visitors.turn(&peer) => turn,
        };
        let Some(turn) = turn else { return Err(Fault::new(ErrorKind::Refused, "closed before the answer")) };
        let inner = Arc::clone(self);
        let served = blocking(move || Ok((server::serve(job, &inner.me, &*inner.log, &inner.askers, now), turn))).await;
        let answer = served.map(|((line, effect), turn)| {
            if let Some(effect) = effect {
                self.tell(&peer, effect);
            }
            Answered { line: marked(line), is_peer: known, turn: Some(turn), lent_by: None }
        });
        Ok((answer, visit))
    }

    fn tell(self: &Arc<Self>, peer: &str, effect: Effect) {
        let signals = || lock(&self.drivers).get(peer).map(super::driver::Driver::signals);
        match effect {
            Effect::Paired(peer) => self.drive(*peer, First::WaitForCall),
            Effect::Strayed { peer, node } => self.warn(peer, node),
            Effect::Differs => {
                if let Some(signals) = signals() {
                    signals.differs();
                }
            }
            // The connection is handed over once the answer is written.
            Effect::Lent => {}
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
