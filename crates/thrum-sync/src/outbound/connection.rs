//! One outbound connection: dials a peer or takes a connection that the peer lent, makes a peer with a key prove its
//! identity, and sends one request after another with the token.

use std::{sync::Arc, time::Duration};

use thrum_core::{Error, ErrorKind, limits};
use tokio::{
    io::{ReadHalf, WriteHalf},
    time::{Instant, timeout},
};

use super::Outbound;
use crate::{
    Token,
    blocking::blocking,
    conn::{self, Halves, Lines, NoLine},
    encrypted,
    error::{PeerError, Timeout, Unproven, Violation},
    protocol,
    protocol::wire::{self, BadReply, Call, Marks, Reply},
    registry::{Peer, Seen, Sign},
    transport::{Conn, Node, split_address},
};

/// Lines longer than this many bytes are decoded on the blocking pool.
const LARGE_LINE: usize = 64 << 10;

/// The id of `sync.encrypt`, `sync.hello` and `sync.prove`. Other requests are numbered from 1.
const UNNUMBERED: u64 = 0;

/// A connection to a peer that carries requests with the peer's token.
pub(crate) struct Connection {
    lines: Lines<ReadHalf<Conn>>,
    writer: WriteHalf<Conn>,
    outbound: Arc<Outbound>,
    peer: Peer,
    /// The id by which the peer knows us.
    own_id: String,
    token: Token,
    /// The node that was dialled, until the peer has answered there; `None` if that node is already known to be the
    /// peer's.
    unproven: Option<Node>,
    /// The peer's challenge on a connection that it lent, to be answered together with our first request.
    owed: Option<String>,
    /// The id that the answering process drew at its start, if the peer reports it.
    instance: Option<String>,
    /// The address that was dialled; `None` if the peer opened the connection.
    dialled: Option<String>,
    /// When the last reply arrived.
    heard: Instant,
}

impl Connection {
    /// Connects to a peer. With a peer that has a key, the connection is encrypted on return: the peer has proven its
    /// identity, and no secret was sent before. Takes at most [`limits::MEET`].
    ///
    /// # Errors
    /// `Unreachable` with the error of [`Addresses::connect`](crate::addresses::Addresses::connect), `Timeout`, or
    /// `Unproven` if the daemon there does not prove in time that it is the peer.
    pub(super) async fn open(outbound: &Arc<Outbound>, peer: &Peer) -> Result<Self, PeerError> {
        Self::open_over(outbound, peer, None).await
    }

    /// Connects like [`open`](Self::open), but over `lent`, a connection that the peer has lent to us, if given.
    pub(super) async fn open_over(
        outbound: &Arc<Outbound>,
        peer: &Peer,
        lent: Option<Halves>,
    ) -> Result<Self, PeerError> {
        let ((lines, writer), dialled, unproven) = match lent {
            Some(halves) => (halves, None, None),
            None => {
                let reached = timeout(limits::DIAL, outbound.addresses.connect(peer)).await;
                let (conn, address, unproven) =
                    reached.map_err(|_| Timeout::Connect(limits::DIAL))?.map_err(PeerError::Unreachable)?;
                (conn::halves(conn), Some(address), unproven)
            }
        };
        let token = peer
            .token
            .clone()
            .ok_or_else(|| PeerError::Unreachable(Error::new(ErrorKind::Refused, "it has no token")))?;
        let own_id = peer.as_daemon_id.as_ref().unwrap_or(&outbound.env.me.daemon_id).clone();
        let (kept, known) = (Arc::clone(outbound), peer.clone());
        let mut connection = Self {
            lines,
            writer,
            outbound: kept,
            peer: known,
            own_id,
            token,
            unproven,
            owed: None,
            instance: None,
            dialled,
            heard: Instant::now(),
        };
        if peer.has_key() {
            let met = async {
                match connection.dialled {
                    Some(_) => connection.encrypt().await,
                    // The peer encrypted the connection when it opened it. Now both sides prove their keys again, for
                    // the exchanged roles.
                    None => {
                        connection.owed = connection.meet().await?;
                        Ok(connection)
                    }
                }
            };
            let met = timeout(limits::PEER_INFO, met).await.unwrap_or(Err(Timeout::Reply(limits::PEER_INFO).into()));
            return met.map_err(|cause| {
                Unproven {
                    address: thrum_core::name::printable(&peer.address),
                    peer: peer.name.clone(),
                    hint: matches!(&cause, PeerError::Reply(BadReply::Error(error)) if error.is_unknown_method())
                        .then_some("or it runs an older Thrum: update it there"),
                    cause: Box::new(cause),
                }
                .into()
            });
        }
        Ok(connection)
    }

    /// Encrypts a connection that was dialled. On return, the peer has proven its identity; our first request proves
    /// ours.
    async fn encrypt(mut self) -> Result<Self, PeerError> {
        let on = self.peer.kind().ok_or(PeerError::NoNetwork)?;
        let asked = self.outbound.env.clock.now().tick;
        let (identity, peer) = (self.outbound.env.identity.clone(), self.peer.daemon_id.clone());
        let (begun, message) = blocking(move || Ok(encrypted::begin(&identity, &peer, on)))
            .await
            .map_err(PeerError::Internal)?
            .ok_or(Violation::Handshake)?;
        let reply = self.exchange(&wire::encrypt_request(UNNUMBERED, &message)).await?;
        let answer = wire::read_encrypted(&reply, UNNUMBERED)?;
        let (met, keys) = blocking(move || Ok(begun.complete(&answer))).await.map_err(PeerError::Internal)??;
        (self.lines, self.writer) = conn::encrypt((self.lines, self.writer), keys)?;
        self.instance = Some(met.instance).filter(|instance| wire::is_instance(instance));
        self.is_alive(asked);
        Ok(self)
    }

    /// Makes a peer that has lent us a connection prove that it has the key in its id. Returns the peer's challenge to
    /// us, unless the peer knows us by the id of a daemon without a key.
    async fn meet(&mut self) -> Result<Option<String>, PeerError> {
        let challenge = protocol::challenge(&mut *self.outbound.env.ambient());
        let (me, instance) = (self.outbound.env.me.daemon_id.clone(), self.outbound.env.me.instance.clone());
        let asked = self.outbound.env.clock.now().tick;
        let reply = self.exchange(&wire::hello_request(UNNUMBERED, &challenge, &me, &instance)).await?;
        let hello = wire::read_hello(&reply, UNNUMBERED)?;
        if hello.daemon_id != self.peer.daemon_id {
            return Err(Violation::OtherIdentity(hello.daemon_id).into());
        }
        let on = self.peer.kind().ok_or(PeerError::NoNetwork)?;
        if !protocol::proves_to_listen(&hello.signature, &challenge, on, &self.peer.daemon_id, &me) {
            return Err(Violation::Signature.into());
        }
        self.instance = hello.instance;
        self.is_alive(asked);
        Ok(Some(hello.challenge).filter(|_| self.peer.as_daemon_id.is_none()))
    }

    /// Records that the process at the other end has answered a request that was sent at this tick.
    fn is_alive(&self, asked: Duration) {
        let Some(instance) = self.instance.as_deref() else { return };
        let (host, port) = self.dialled.as_deref().and_then(split_address).unzip();
        let sign = Sign { instance, host, port, node: self.peer.node.clone(), after: asked };
        self.outbound.env.auth().registry.alive(&self.peer.daemon_id, &sign, self.outbound.env.clock.now());
    }

    /// Acts on the additional facts in the peer's reply.
    fn heed(&self, marks: Marks) {
        if marks.unreached {
            self.outbound.lend(&self.peer);
        }
        let now = self.outbound.env.clock.now();
        let other = marks.same_key.map(|other| {
            let at = now.at.minus(Duration::from_millis(other.ago_ms));
            Seen { address: other.address, node: other.node, at }
        });
        self.outbound.env.auth().registry.record_other(&self.peer.daemon_id, other, now);
    }

    /// Sends one request. If the peer does not know our node and demands a proof first, proves our identity with our
    /// key, once. Records the node and the name of a peer that has described itself in its reply.
    pub(super) async fn ask(&mut self, id: u64, call: Call) -> Result<Result<Reply, BadReply>, PeerError> {
        let reply = self.ask_and_prove(id, call).await?;
        if let Ok(Reply::Info(info)) = &reply
            && info.daemon_id == self.peer.daemon_id
        {
            if let Some(node) = self.unproven.take() {
                self.outbound.addresses.learn_node(&self.peer, node).await;
            }
            self.outbound.addresses.learn_name(&self.peer, &info.name).await;
        }
        Ok(reply)
    }

    async fn ask_and_prove(&mut self, id: u64, call: Call) -> Result<Result<Reply, BadReply>, PeerError> {
        let reply = self.ask_once(id, &call).await?;
        let Err(BadReply::Error(error)) = &reply else { return Ok(reply) };
        let Some(challenge) = error.challenge() else { return Ok(reply) };
        tracing::info!(
            peer = %self.peer.name,
            daemon_id = %self.peer.daemon_id,
            "[pairing] {} knows us by another node: proving that it is we",
            thrum_core::name::printable(&self.peer.daemon_id)
        );
        let line = self.exchange(&self.proof(challenge)).await?;
        match wire::read_proved(&line, UNNUMBERED) {
            Ok(()) => self.ask_once(id, &call).await,
            Err(bad) => Ok(Err(bad)),
        }
    }

    /// Reports to the peer that its token was misused here and refused.
    pub(super) async fn warn(&mut self, node: &Node) -> Result<(), PeerError> {
        let request = zeroize::Zeroizing::new(wire::refused_request(1, &self.token, node));
        self.exchange(&request).await.map(drop)
    }

    fn proof(&self, challenge: &str) -> zeroize::Zeroizing<String> {
        let signature = (self.outbound.env.prover)(challenge, &self.peer.daemon_id);
        zeroize::Zeroizing::new(wire::prove_request(
            UNNUMBERED,
            &self.outbound.env.me.daemon_id,
            &self.token,
            &signature,
        ))
    }

    async fn ask_once(&mut self, id: u64, call: &Call) -> Result<Result<Reply, BadReply>, PeerError> {
        let request = zeroize::Zeroizing::new(match (call, self.own_port()) {
            (Call::PeerInfo { digest }, Some(port)) => wire::peer_info_request(id, &self.token, *digest, port),
            (Call::Notify { after: Some(after), references, .. }, _) => {
                let (log, after) = (Arc::clone(&self.outbound.env.log), *after);
                let (peer, references) = (self.peer.daemon_id.clone(), references.clone());
                // If the events cannot be read now, the peer pulls them.
                let pushed = blocking(move || protocol::push(&*log, &peer, after, references.as_deref()));
                let pushed = pushed.await.ok().flatten();
                call.line_with(id, &self.own_id, &self.token, pushed.as_ref())
            }
            _ => call.line(id, &self.own_id, &self.token),
        });
        let asked = self.outbound.env.clock.now().tick;
        let line = match self.owed.take() {
            None => {
                self.write(&request).await?;
                self.is_still_there(call).await?;
                if call.is_for_one_of_an_old_peer() {
                    self.next_line_or_its_beginning().await?
                } else {
                    self.next_line().await?
                }
            }
            Some(challenge) => {
                // Send both together, so that the proof costs no round trip of its own.
                let both = zeroize::Zeroizing::new(format!("{}\n{}", *self.proof(&challenge), *request));
                let proved = self.exchange(&both).await?;
                let line = self.next_line().await?;
                if let Err(bad) = wire::read_proved(&proved, UNNUMBERED) {
                    return Ok(Err(bad));
                }
                line
            }
        };
        self.is_alive(asked);
        if line.len() > limits::MAX_LINE_BYTES {
            // A single event of a legacy peer. Skip it, so that the events after it are read.
            let pulled = wire::read_cut(&line).ok_or(PeerError::TooLong)?;
            return Ok(Ok(Reply::Pulled(pulled)));
        }
        if line.len() <= LARGE_LINE {
            if self.peer.has_key()
                && let Some(marks) = wire::marks_of(&line)
            {
                self.heed(marks);
            }
            return Ok(call.read(&line, id));
        }
        let call = call.clone();
        blocking(move || Ok(call.read(&line, id))).await.map_err(PeerError::Internal)
    }

    /// Returns our listening port, for a peer that keeps track of it.
    fn own_port(&self) -> Option<u16> {
        self.peer
            .kind()
            .filter(|_| self.peer.has_key())
            .and_then(|kind| self.outbound.addresses.reachability.port(kind))
    }

    /// Returns when the connection ends or the peer sends unsolicited data. Cancel-safe.
    pub(super) async fn unsolicited(&mut self) -> NoLine {
        self.lines.unsolicited().await
    }

    /// Lends the connection to the peer for its own requests. Returns the connection's halves, and the address and the
    /// node to which it leads.
    ///
    /// # Errors
    /// The peer does not accept it, because it runs an older version or the connection ended.
    pub(super) async fn lend(mut self) -> Result<(Halves, String, Option<Node>), PeerError> {
        let request = zeroize::Zeroizing::new(wire::lend_request(1, &self.token));
        let line = self.exchange(&request).await?;
        wire::read_notified(&line, 1)?;
        // The address and node are those that were dialled; the peer may have moved since.
        let Peer { address, node, .. } = self.peer;
        Ok(((self.lines, self.writer), self.dialled.unwrap_or(address), node.or(self.unproven)))
    }

    /// Waits for the first byte of the reply to a cheap request, if the connection was quiet before. The peer's machine
    /// may be gone without having closed the connection, as when its `tailscaled` is killed. Then it is better to
    /// reconnect early than to wait.
    async fn is_still_there(&mut self, call: &Call) -> Result<(), PeerError> {
        if call.is_cheap() && self.heard.elapsed() >= limits::CONNECTION_QUIET {
            self.lines.begins(limits::ANSWER_AFTER_QUIET).await?;
        }
        Ok(())
    }

    async fn exchange(&mut self, request: &str) -> Result<Vec<u8>, PeerError> {
        self.write(request).await?;
        self.next_line().await
    }

    async fn write(&mut self, request: &str) -> Result<(), PeerError> {
        conn::write_line(&mut self.writer, request, limits::PEER_WRITE).await.map_err(|error| NoLine::Io(error).into())
    }

    async fn next_line(&mut self) -> Result<Vec<u8>, PeerError> {
        let line = self.lines.next_slow(limits::MAX_LINE_BYTES, limits::PULL, limits::PULL, limits::SLOW_BYTES).await?;
        self.heard = Instant::now();
        Ok(line)
    }

    /// Reads a line. Of a line that is too long, keeps only one byte more than the limit, which shows that it was cut.
    async fn next_line_or_its_beginning(&mut self) -> Result<Vec<u8>, PeerError> {
        let (keep, most) = (limits::MAX_LINE_BYTES + 1, limits::MAX_SKIPPED_LINE_BYTES);
        let (line, _) = self.lines.next_cut(keep, most, limits::PULL, limits::PULL, limits::SLOW_BYTES).await?;
        self.heard = Instant::now();
        Ok(line)
    }
}
