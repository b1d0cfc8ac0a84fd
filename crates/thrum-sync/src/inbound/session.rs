//! One inbound connection: reads a line, replies, reads the next.

use std::sync::Arc;

use thrum_core::{Error, ErrorKind, limits};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tokio_util::sync::CancellationToken;

use super::Inbound;
use crate::{
    blocking::blocking,
    conn::{self, Halves, NoLine},
    encrypted,
    error::Violation,
    protocol::wire::{self, Id, Marks, RpcError, SameKey},
    protocol::{self, Effect, Next, PeerSession},
    transport::Caller,
};

/// The reply to one line; an error is sent to the caller in its place.
type Answer = Result<Answered, Error>;

struct Answered {
    line: String,
    is_peer: bool,
    /// Permit held until the line is written. Replies that a peer does not read stay in memory, so the permits bound
    /// their number.
    turn: Option<OwnedSemaphorePermit>,
    /// The peer that lends us this connection from now on.
    lent_by: Option<String>,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionEnd {
    /// No further line could be read or written.
    #[error(transparent)]
    Line(#[from] NoLine),
    /// This daemon is stopping, or has closed the connection: in favour of others, or because the peer was removed.
    #[error("the connection was closed here")]
    Stopped,
    /// The peer lent the connection to us, and it carries our requests now.
    #[error("the connection was lent")]
    Lent,
    /// The caller is a Go Thrum that speaks WebSocket.
    #[error("it is Go Thrum v0.7 or later")]
    NewerGo,
    /// The caller is a browser or another HTTP client.
    #[error("it spoke HTTP")]
    Http,
    /// The caller does not have the key of the daemon that it claims to be, or meant another daemon.
    #[error("the handshake failed: {0}")]
    Handshake(Violation),
    /// A task of this daemon failed.
    #[error("{0}")]
    Failed(Error),
}

impl Inbound {
    /// Serves a connection until it ends. Returns why it ended.
    pub(super) async fn serve(
        self: &Arc<Self>,
        halves: Halves,
        caller: Caller,
        id: u64,
        stop: &CancellationToken,
    ) -> SessionEnd {
        let mut session = Some(PeerSession::from(caller).proving(Arc::clone(&self.env.prover)));
        let why = self.answer_lines(halves, &mut session, id, stop).await;
        let effects = session.map(|session| protocol::leave(&mut self.env.auth(), session, self.env.clock.now()));
        for effect in effects.unwrap_or_default() {
            self.events.happened("", effect);
        }
        why
    }

    /// Serves a connection that was opened here and lent to a peer, like any other. Calls `handed_over` once the
    /// connection is admitted. Returns `None` if there are too many connections.
    pub(crate) async fn serve_lent(
        self: &Arc<Self>,
        halves: Halves,
        caller: Caller,
        handed_over: impl FnOnce(),
    ) -> Option<SessionEnd> {
        let (id, stop) = self.admission.enter(caller.node_id(), &self.env.stop)?;
        handed_over();
        let why = self.serve(halves, caller, id, &stop).await;
        self.admission.leave(id);
        Some(why)
    }

    async fn answer_lines(
        self: &Arc<Self>,
        (mut lines, mut writer): Halves,
        session: &mut Option<PeerSession>,
        id: u64,
        stop: &CancellationToken,
    ) -> SessionEnd {
        let introduced_by = Instant::now() + limits::UNAUTHENTICATED_DEADLINE;
        let (mut known, mut is_first) = (false, true);
        loop {
            let left = introduced_by.saturating_duration_since(Instant::now());
            let (idle, whole) = if known { (limits::PEER_IDLE, limits::PEER_LINE) } else { (left, left) };
            let line = tokio::select! {
                () = stop.cancelled() => return SessionEnd::Stopped,
                line = lines.next(limits::MAX_PEER_REQUEST_BYTES, idle, whole) => line,
            };
            let asks_to_encrypt = line.as_ref().ok().filter(|_| is_first).and_then(|line| wire::read_encrypt(line));
            is_first = false;
            if let Some((asked, message)) = asks_to_encrypt {
                match self.encrypt(&asked, message, (lines, writer), session, stop).await {
                    Ok(halves) => (lines, writer) = halves,
                    Err(end) => return end,
                }
                continue;
            }
            let (mut held, mut lent_by) = (None, None);
            let reply = match line {
                // A web page in a browser on this machine can post lines to this port as form data. It must not get far
                // enough to guess a code. No peer ever sends such a line first.
                Ok(line) if !known && wire::is_http(&line) => {
                    if self.turn_newer_go_away(&line, &mut lines, &mut writer, left).await {
                        if let Some(session) = &session {
                            self.note_newer_go(&session.caller);
                        }
                        return SessionEnd::NewerGo;
                    }
                    // The connection is closed whether or not the client reads this.
                    let _ = conn::write_line(&mut writer, wire::NOT_HTTP, limits::PEER_WRITE).await;
                    return SessionEnd::Http;
                }
                Ok(line) => {
                    let Some(before) = session.take() else { return SessionEnd::Stopped };
                    let (answer, after) = match self.answer(line, before, id, stop).await {
                        Ok(answer) => answer,
                        Err(error) => return SessionEnd::Failed(error),
                    };
                    *session = Some(after);
                    match answer {
                        Ok(Answered { line, is_peer, turn, lent_by: lender }) => {
                            known |= is_peer;
                            (held, lent_by) = (turn, lender);
                            line
                        }
                        Err(error) => wire::error_line(&None, &error.into()),
                    }
                }
                Err(NoLine::TooLong(limit)) => {
                    let _ = conn::write_line(
                        &mut writer,
                        &wire::error_line(&None, &RpcError::too_long(limit)),
                        limits::PEER_WRITE,
                    )
                    .await;
                    return NoLine::TooLong(limit).into();
                }
                Err(other) => return other.into(),
            };
            tokio::select! {
                () = stop.cancelled() => return SessionEnd::Stopped,
                written = conn::write_line(&mut writer, &reply, limits::PEER_WRITE) => if let Err(error) = written {
                    return NoLine::Io(error).into();
                },
            }
            drop(held);
            if let Some(peer) = lent_by {
                self.events.lent(&peer, (lines, writer));
                return SessionEnd::Lent;
            }
        }
    }

    /// Answers the first line of a connection, which asks to encrypt it, and returns the encrypted connection. A caller
    /// that fails the handshake gets an error, and the connection ends.
    async fn encrypt(
        &self,
        asked: &Id,
        message: String,
        (lines, mut writer): Halves,
        session: &mut Option<PeerSession>,
        stop: &CancellationToken,
    ) -> Result<Halves, SessionEnd> {
        let Some(session) = session else { return Err(SessionEnd::Stopped) };
        let (identity, on) = (self.env.identity.clone(), session.caller.kind);
        let answered = blocking(move || Ok(encrypted::answer(&identity, &message, on))).await;
        let (line, outcome) = match answered.map_err(SessionEnd::Failed)? {
            Ok((message, met, keys)) => (wire::encrypted_line(asked, &message), Ok((met, keys))),
            Err(violation) => {
                let error =
                    Error::new(ErrorKind::Refused, "this connection cannot be encrypted with the key of the caller")
                        .hint("Pair the two daemons again if one of them has a new identity.");
                (wire::error_line(asked, &error.into()), Err(violation))
            }
        };
        tokio::select! {
            () = stop.cancelled() => return Err(SessionEnd::Stopped),
            written = conn::write_line(&mut writer, &line, limits::PEER_WRITE) => written.map_err(NoLine::Io)?,
        }
        let (met, keys) = outcome.map_err(SessionEnd::Handshake)?;
        session.met(met, self.env.clock.now());
        Ok(conn::encrypt((lines, writer), keys)?)
    }

    /// Returns the reply to one line and the state of the session. An inner error is sent to the caller. After an outer
    /// error the state is lost, and the connection is unusable.
    async fn answer(
        self: &Arc<Self>,
        line: Vec<u8>,
        mut session: PeerSession,
        visitor: u64,
        stop: &CancellationToken,
    ) -> Result<(Answer, PeerSession), Error> {
        let env = Arc::clone(&self.env);
        // Zeroized on drop, because a request contains a token or a code.
        let line = zeroize::Zeroizing::new(line);
        let (received, other, now, session) = blocking(move || {
            let (now, mut ambient) = (env.clock.now(), env.ambient());
            let mut auth = env.auth();
            let received = protocol::receive(&mut auth, &line, &mut session, now, &mut *ambient);
            let other =
                received.peer.as_deref().and_then(|peer| auth.registry.other(peer, session.instance(peer)?, now));
            drop(auth);
            Ok((received, other, now, session))
        })
        .await?;
        let known = received.peer.is_some();
        if let Some(peer) = &received.peer {
            self.admission.known(visitor, peer);
            // If two daemons run with one key, each calls from its own host, and neither has moved.
            if self.addresses.reachability.calls_from(peer, &session.caller) && other.is_none() {
                tracing::info!(
                    daemon_id = %peer,
                    address = %session.caller.address,
                    "[pairing] {} calls from {} now",
                    thrum_core::name::printable(peer),
                    session.caller.address
                );
                self.events.moved(peer);
            }
        }
        let peer = received.peer.unwrap_or_default();
        let lent_by = received.effects.iter().any(|effect| matches!(effect, Effect::Lent)).then(|| peer.clone());
        for effect in received.effects {
            self.events.happened(&peer, effect);
        }
        let same_key = other.map(|(seen, ago)| SameKey {
            address: seen.address,
            node: seen.node,
            ago_ms: u64::try_from(ago.as_millis()).unwrap_or(u64::MAX),
        });
        let marks = Marks { unreached: self.addresses.reachability.needs_loan(&peer), same_key };
        let marked = move |line: String| wire::add_marks(line, &marks);
        let job = match received.next {
            Next::Reply(line) => {
                return Ok((Ok(Answered { line: marked(line), is_peer: known, turn: None, lent_by }), session));
            }
            Next::Serve(job) => job,
        };
        let turn = tokio::select! {
            () = stop.cancelled() => None,
            turn = self.admission.turn(&peer) => turn,
        };
        let Some(turn) = turn else { return Err(Error::new(ErrorKind::Refused, "closed before the answer")) };
        let inbound = Arc::clone(self);
        let served = blocking(move || {
            let env = &inbound.env;
            Ok((protocol::serve(job, &env.me, &*env.log, &inbound.askers, now), turn))
        })
        .await;
        let answer = served.map(|((line, effect), turn)| {
            if let Some(effect) = effect {
                self.events.happened(&peer, effect);
            }
            Answered { line: marked(line), is_peer: known, turn: Some(turn), lent_by: None }
        });
        Ok((answer, session))
    }
}
