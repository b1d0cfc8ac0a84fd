//! One outgoing connection: dials, then sends what it is given and hands back what comes.

use std::sync::Arc;

use thrum_core::limits;
use tokio::{
    io::{ReadHalf, WriteHalf},
    sync::mpsc,
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

use super::{Inner, reach::in_words, ways::Halves};
use crate::{
    Token,
    clock::go_duration,
    conn::{self, Lines, NoLine},
    registry::Peer,
    replicator::Input,
    server,
    transport::{Conn, Node},
    wire::{self, BadReply, Call, Reply},
};

/// Lines longer than this are decoded on the blocking pool.
const LARGE_LINE: usize = 64 << 10;

/// The id of a hello and of a proof. Requests are numbered from 1.
const UNNUMBERED: u64 = 0;

/// A connection to a peer, or the attempt. Dropping it closes both.
pub(super) struct Link {
    requests: mpsc::Sender<(u64, Call)>,
    events: mpsc::Receiver<Input>,
    _task: AbortOnDropHandle<()>,
}

impl Link {
    pub(super) fn open(inner: Arc<Inner>, peer: Peer) -> Self {
        // One request is in flight at a time, and each brings one event after `Connected`.
        let (requests, asked) = mpsc::channel(1);
        let (tell, events) = mpsc::channel(2);
        let task = tokio::spawn(async move {
            let last = run(&inner, &peer, asked, &tell).await;
            if let Some(last) = last {
                let _ = tell.send(last).await;
            }
        });
        Self { requests, events, _task: AbortOnDropHandle::new(task) }
    }

    pub(super) fn send(&self, id: u64, call: Call) {
        // Full or closed means that the link has just ended; its last event says so.
        let _ = self.requests.try_send((id, call));
    }

    /// The next thing that happens. May be cancelled.
    pub(super) async fn event(&mut self) -> Input {
        self.events.recv().await.unwrap_or_else(|| Input::Disconnected("the connection ended".into()))
    }
}

/// Returns the link's last event.
async fn run(inner: &Arc<Inner>, peer: &Peer, mut asked: mpsc::Receiver<(u64, Call)>, tell: &mpsc::Sender<Input>) -> Option<Input> {
    let lent = inner.ways.take(&peer.daemon_id);
    let mut talk = match Talk::begin_over(inner, peer, lent).await {
        Ok(talk) => talk,
        Err(fault) => return Some(Input::ConnectFailed(in_words(&fault))),
    };
    tell.send(Input::Connected).await.ok()?;
    loop {
        let (id, call) = tokio::select! {
            request = asked.recv() => request?,
            gone = talk.lines.unasked() => return Some(Input::Disconnected(gone.to_string())),
        };
        let reply = match talk.ask(id, call).await {
            Ok(reply) => reply,
            Err(Gone::TooLong) => return Some(Input::TooLong),
            Err(Gone::Lost(why)) => return Some(Input::Disconnected(why)),
        };
        tell.send(Input::Replied(reply)).await.ok()?;
    }
}

impl Inner {
    /// Tells a peer, over a connection of its own, that somebody used its token here: on its side somebody should look for
    /// the copy. Once, and without waiting; who is away is told the next time it happens.
    pub(super) fn warn(self: &Arc<Self>, peer: String, node: Node) {
        let inner = Arc::clone(self);
        self.tasks.spawn(async move {
            let Some(peer) = inner.desk().registry.get(&peer).cloned() else { return };
            let tell = async {
                if let Ok(mut talk) = Talk::begin(&inner, &peer).await {
                    let _ = talk.warn(&node).await;
                }
            };
            tokio::select! {
                () = inner.stop.cancelled() => {}
                _ = timeout(limits::NOTIFY, tell) => {}
            }
        });
    }
}

/// Why a connection is of no use any more.
pub(super) enum Gone {
    /// An answer is longer than a line may be.
    TooLong,
    /// Anything else.
    Lost(String),
}

impl From<NoLine> for Gone {
    fn from(why: NoLine) -> Self {
        match why {
            NoLine::TooLong(_) => Self::TooLong,
            other => Self::Lost(other.to_string()),
        }
    }
}

/// A connection to a peer, over which it is asked with its token.
pub(super) struct Talk {
    lines: Lines<ReadHalf<Conn>>,
    writer: WriteHalf<Conn>,
    inner: Arc<Inner>,
    peer: Peer,
    /// Who we are to it.
    own_id: String,
    token: Token,
    /// The node that is asked, until the peer has answered there.
    unproven: Option<Node>,
    /// What the peer wants signed beside our first question.
    owed: Option<String>,
}

impl Talk {
    /// Connects to a peer. One with a key has proven that it is it when this returns, and nothing secret was sent before. Takes at
    /// most [`limits::MEET`].
    ///
    /// # Errors
    /// As [`Inner::reach`]; `Unavailable` if it takes too long; `Refused` if somebody else answers there.
    pub(super) async fn begin(inner: &Arc<Inner>, peer: &Peer) -> Result<Self, thrum_core::Fault> {
        Self::begin_over(inner, peer, None).await
    }

    /// Does what [`begin`](Self::begin) does, over a connection that the peer has lent to us, if it has.
    async fn begin_over(inner: &Arc<Inner>, peer: &Peer, lent: Option<Halves>) -> Result<Self, thrum_core::Fault> {
        let late = |message: String| thrum_core::Fault::new(thrum_core::ErrorKind::Unavailable, message);
        let ((lines, writer), unproven) = match lent {
            Some(halves) => (halves, None),
            None => {
                let reached = timeout(limits::DIAL, inner.reach(peer)).await;
                let (conn, unproven) = reached.map_err(|_| late(format!("no connection within {}", go_duration(limits::DIAL))))??;
                (conn::halves(conn), unproven)
            }
        };
        let token = peer.token.clone().ok_or_else(|| thrum_core::Fault::new(thrum_core::ErrorKind::Refused, "it has no token"))?;
        let own_id = peer.as_daemon_id.as_ref().unwrap_or(&inner.me.daemon_id).clone();
        let mut talk = Self { lines, writer, inner: Arc::clone(inner), peer: peer.clone(), own_id, token, unproven, owed: None };
        if peer.has_key() {
            let address = thrum_core::name::printable(&peer.address);
            let met = timeout(limits::PEER_INFO, talk.meet()).await.map_err(|_| {
                let within = go_duration(limits::PEER_INFO);
                late(format!("who answers at {address} did not prove to be {} within {within}; nothing was sent", peer.name))
            })?;
            talk.owed = met.map_err(|(why, hint)| {
                let message = format!("who answers at {address} does not prove to be {}: {why}; nothing was sent", peer.name);
                let fault = thrum_core::Fault::new(thrum_core::ErrorKind::Refused, message);
                if let Some(hint) = hint { fault.hint(hint) } else { fault }
            })?;
        }
        Ok(talk)
    }

    /// Has a peer prove that it is the daemon whose key its id is. Gives what it wants signed in turn, unless it takes us for a
    /// daemon without a key. An error is what is wrong, and a hint.
    async fn meet(&mut self) -> Result<Option<String>, (String, Option<&'static str>)> {
        let challenge = server::challenge(&mut *(self.inner.ambients)());
        let me = self.inner.me.daemon_id.clone();
        let plain = |why: String| (why, None);
        let reply = self.exchange(&wire::hello_request(UNNUMBERED, &challenge, &me)).await.map_err(|gone| match gone {
            Gone::TooLong => plain("its answer is too long".to_owned()),
            Gone::Lost(why) => plain(why),
        })?;
        let hello = wire::read_hello(&reply, UNNUMBERED).map_err(|bad| {
            let is_older = matches!(&bad, BadReply::Error(error) if error.is_unknown_method());
            (bad.to_string(), is_older.then_some("or it runs an older Thrum: update it there"))
        })?;
        if hello.daemon_id != self.peer.daemon_id {
            return Err(plain(format!("it says that it is {}", thrum_core::name::printable(&hello.daemon_id))));
        }
        let on = self.peer.kind().ok_or_else(|| plain("it is on no network of ours".to_owned()))?;
        if !server::proves_to_listen(&hello.signature, &challenge, on, &self.peer.daemon_id, &me) {
            return Err(plain("its signature is wrong".to_owned()));
        }
        Ok(Some(hello.challenge).filter(|_| self.peer.as_daemon_id.is_none()))
    }

    /// Asks one thing. If the peer wants to know first that it is we who ask, from a node that it does not know us by, that is
    /// proven with our key, once.
    pub(super) async fn ask(&mut self, id: u64, call: Call) -> Result<Result<Reply, BadReply>, Gone> {
        let reply = self.ask_and_prove(id, call).await?;
        if let Ok(Reply::Info(info)) = &reply
            && info.daemon_id == self.peer.daemon_id
        {
            if let Some(node) = self.unproven.take() {
                self.inner.learn_node(&self.peer, node).await;
            }
            self.inner.learn_name(&self.peer, &info.name).await;
        }
        Ok(reply)
    }

    async fn ask_and_prove(&mut self, id: u64, call: Call) -> Result<Result<Reply, BadReply>, Gone> {
        let reply = self.ask_once(id, &call).await?;
        let Err(BadReply::Error(error)) = &reply else { return Ok(reply) };
        let Some(challenge) = error.challenge() else { return Ok(reply) };
        tracing::info!("[pairing] {} knows us by another node: proving that it is we", thrum_core::name::printable(&self.peer.daemon_id));
        let line = self.exchange(&self.proof(challenge)).await?;
        match wire::read_proved(&line, UNNUMBERED) {
            Ok(()) => self.ask_once(id, &call).await,
            Err(bad) => Ok(Err(bad)),
        }
    }

    /// Tells the peer that somebody used its token here, and was refused.
    async fn warn(&mut self, node: &Node) -> Result<(), Gone> {
        let request = zeroize::Zeroizing::new(wire::refused_request(1, &self.token, node));
        if let Some(challenge) = self.owed.take() {
            self.exchange(&self.proof(&challenge)).await?;
        }
        self.exchange(&request).await.map(drop)
    }

    fn proof(&self, challenge: &str) -> zeroize::Zeroizing<String> {
        let signature = (self.inner.prover)(challenge, &self.peer.daemon_id);
        zeroize::Zeroizing::new(wire::prove_request(UNNUMBERED, &self.inner.me.daemon_id, &self.token, &signature))
    }

    async fn ask_once(&mut self, id: u64, call: &Call) -> Result<Result<Reply, BadReply>, Gone> {
        let request = zeroize::Zeroizing::new(match (call, self.own_port()) {
            (Call::PeerInfo { digest }, Some(port)) => wire::peer_info_request(id, &self.token, *digest, port),
            _ => call.line(id, &self.own_id, &self.token),
        });
        let line = match self.owed.take() {
            None => {
                self.write(&request).await?;
                if call.is_for_one_of_an_old_peer() { self.next_line_or_its_beginning().await? } else { self.next_line().await? }
            }
            Some(challenge) => {
                // Both at once: the proof costs no time of its own.
                let both = zeroize::Zeroizing::new(format!("{}\n{}", *self.proof(&challenge), *request));
                let proved = self.exchange(&both).await?;
                let line = self.next_line().await?;
                if let Err(bad) = wire::read_proved(&proved, UNNUMBERED) {
                    return Ok(Err(bad));
                }
                line
            }
        };
        if line.len() > limits::MAX_LINE_BYTES {
            // One event of an old peer. It is skipped, and the others are read.
            let pulled = wire::read_cut(&line).ok_or(Gone::TooLong)?;
            return Ok(Ok(Reply::Pulled(pulled)));
        }
        if line.len() <= LARGE_LINE {
            if self.peer.has_key() && wire::is_unreached(&line) {
                self.inner.lend(&self.peer);
            }
            return Ok(call.read(&line, id));
        }
        let call = call.clone();
        tokio::task::spawn_blocking(move || call.read(&line, id)).await.map_err(|error| Gone::Lost(error.to_string()))
    }

    /// Where we listen, for a peer that follows it.
    fn own_port(&self) -> Option<u16> {
        self.peer.kind().filter(|_| self.peer.has_key()).and_then(|kind| self.inner.ways.port(kind))
    }

    /// Gives the connection to the peer for its own questions.
    ///
    /// # Errors
    /// The peer does not take it: it is of an older version, or the connection ended.
    pub(super) async fn lend(mut self) -> Result<Halves, thrum_core::Fault> {
        let lost = |why: String| thrum_core::Fault::new(thrum_core::ErrorKind::Unavailable, why);
        let in_words = |gone: Gone| match gone {
            Gone::TooLong => "its answer is too long".to_owned(),
            Gone::Lost(why) => why,
        };
        if let Some(challenge) = self.owed.take() {
            let proved = self.exchange(&self.proof(&challenge)).await.map_err(|gone| lost(in_words(gone)))?;
            wire::read_proved(&proved, UNNUMBERED).map_err(|bad| lost(bad.to_string()))?;
        }
        let request = zeroize::Zeroizing::new(wire::lend_request(1, &self.token));
        let line = self.exchange(&request).await.map_err(|gone| lost(in_words(gone)))?;
        wire::read_notified(&line, 1).map_err(|bad| lost(bad.to_string()))?;
        Ok((self.lines, self.writer))
    }

    async fn exchange(&mut self, request: &str) -> Result<Vec<u8>, Gone> {
        self.write(request).await?;
        self.next_line().await
    }

    async fn write(&mut self, request: &str) -> Result<(), Gone> {
        conn::write_line(&mut self.writer, request, limits::PEER_WRITE).await.map_err(|error| Gone::Lost(error.to_string()))
    }

    async fn next_line(&mut self) -> Result<Vec<u8>, Gone> {
        self.lines.next_slow(limits::MAX_LINE_BYTES, limits::PULL, limits::PULL, limits::SLOW_BYTES).await.map_err(Gone::from)
    }

    /// Of a line that is too long, one byte more than a line may have.
    async fn next_line_or_its_beginning(&mut self) -> Result<Vec<u8>, Gone> {
        let (keep, most) = (limits::MAX_LINE_BYTES + 1, limits::MAX_SKIPPED_LINE_BYTES);
        Ok(self.lines.next_cut(keep, most, limits::PULL, limits::PULL, limits::SLOW_BYTES).await?.0)
    }
}
