//! Turns a peer's request into a reply, in two steps that do no network I/O.
//!
//! [`receive`] authenticates: it checks tokens, codes and proofs, borrows the authentication state mutably, and is
//! quick. [`serve`] answers from the log without that state, so that a large pull by one peer does not keep other peers
//! waiting.

mod hello;
pub(crate) mod pair;
mod ranges;
pub mod wire;

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use hello::Proofs;
pub use hello::{Prover, challenge, proves_to_listen};
use serde_json::value::to_raw_value;
use thrum_core::{
    Ambient, Error,
    exchange::{Holder, Page},
    json, key, limits, name,
};
use zeroize::Zeroizing;

use crate::{
    Log, Now,
    legacy::serving::Askers,
    pairing::{Exchange, Pairing},
    protocol::wire::{About, Begin, Id, Info, Pull, Pushed, Query, Request, RpcError},
    registry::{NodeMatch, Peer, Registry},
    transport::{Caller, Kind, Node, split_address},
};

/// Protocols that this daemon speaks, as listed in `sync.peer_info` and `pair.probe`.
pub const PROTOCOLS: [&str; 5] = ["lines-1", wire::RANGES, wire::AHEAD, wire::GOODBYE, wire::REFERENCES];

/// This daemon's identity, as reported to peers.
#[derive(Clone, Debug)]
pub struct Me {
    /// This daemon's id.
    pub daemon_id: String,
    /// This daemon's name; need not be unique.
    pub name: String,
    /// The program's version.
    pub version: String,
    /// Identifies the process of the daemon: hex digits drawn at its start.
    pub instance: String,
}

/// Authentication state: decides which callers are admitted.
#[derive(Debug)]
pub struct AuthState {
    /// This daemon's identity.
    pub me: Me,
    /// The paired peers with their tokens.
    pub registry: Registry,
    /// The open pairing session, if any, and the guesses counted so far.
    pub pairing: Pairing,
}

/// Authentication state of one inbound connection: the caller, and the proofs demanded from it.
#[derive(Debug)]
pub struct PeerSession {
    /// The daemon at the other end.
    pub caller: Caller,
    /// The daemon id that the caller must prove, and the challenge to sign. Accepts one answer.
    challenge: Option<(String, Zeroizing<String>)>,
    /// Proofs exchanged by daemons with keys; `None` without [`proving`](Self::proving).
    proofs: Option<Proofs>,
    pairing: Exchanged,
}

/// Progress of pairing on a connection. Each connection allows one exchange of the PAKE, so that each such guess also
/// costs a connection.
#[derive(Debug, Default)]
enum Exchanged {
    #[default]
    Nothing,
    /// The exchange has begun. Includes the joiner's description of itself.
    Begun(Exchange, Box<Begin>),
    Ended,
}

impl From<Caller> for PeerSession {
    fn from(caller: Caller) -> Self {
        Self { caller, challenge: None, proofs: None, pairing: Exchanged::Nothing }
    }
}

/// Consequence of a request, apart from its reply, or of the end of a connection.
#[derive(Clone, Debug)]
pub enum Effect {
    /// The peer is alive and its token is valid.
    Authenticated,
    /// The peer announces new events.
    Notified {
        /// The peer's highest sequence, as the peer reports it.
        latest: u64,
        /// The new events, if the peer has sent them along.
        pushed: Option<Pushed>,
    },
    /// The peer has stored all events of our log up to a sequence.
    Acknowledged {
        /// The id of our log that the peer has read.
        log: String,
        /// The last stored sequence.
        upto: u64,
    },
    /// The peer lacks an event that we sent as a reference.
    Lacks,
    /// The peer reports that events which it holds are missing here.
    Differs,
    /// The peer lends us this connection for our own requests.
    Lent,
    /// The peer is stopping. Comes without [`Authenticated`](Self::Authenticated), which would take it back.
    Stopping,
    /// Token misuse: a token was refused because the caller did not prove that it is the peer that owns the token. The
    /// peer, which has a key, should be informed.
    TokenMisused {
        /// The id of the peer that owns the token.
        peer: String,
        /// The node that used it.
        node: Node,
    },
    /// A new peer was paired.
    Paired(Box<Peer>),
    /// The pairing session may have changed; the tasks that wait for it should check it.
    PairingMoved,
}

/// Result of [`receive`].
#[derive(Debug)]
pub struct Received {
    /// The peer that owns the token, if the token was accepted. All effects concern this peer, except those that name
    /// another.
    pub peer: Option<String>,
    /// Consequences of the request, apart from its reply.
    pub effects: Vec<Effect>,
    /// The reply, or the job that produces it from the log.
    pub next: Next,
}

/// The next step after [`receive`].
#[derive(Debug)]
pub enum Next {
    /// Send this reply.
    Reply(String),
    /// Read the log to produce the reply.
    Serve(Job),
}

/// A request for data from the log, by a peer that is allowed to read it.
#[derive(Debug)]
pub struct Job {
    id: Id,
    peer: Asker,
    asks: Asks,
}

/// The peer that sent the request.
#[derive(Clone, Debug)]
struct Asker {
    daemon_id: String,
    /// The id under which the peer knows this daemon, if it differs from our own.
    knows_us_as: Option<String>,
}

#[derive(Debug)]
enum Asks {
    Pull(Pull),
    PeerInfo { digest: bool },
    About(About),
}

/// Authenticates one request, and decides whether the reply needs the log. All state that must be durable is on disk
/// when this function returns.
pub fn receive(
    auth: &mut AuthState,
    line: &[u8],
    session: &mut PeerSession,
    now: Now,
    ambient: &mut dyn Ambient,
) -> Received {
    let reply = |line: String| Received { peer: None, effects: Vec::new(), next: Next::Reply(line) };
    let request = match Request::read(line) {
        Ok(request) => request,
        Err((id, error)) => return reply(wire::error_line(&id, &error)),
    };
    if request.is_pairing() {
        return match request.query() {
            Ok(Query::Pair(pair)) => pair::request(auth, &request.id, pair, &session.caller, now, ambient),
            Ok(Query::Begin(begin)) => pair::begin(auth, &request.id, begin, session, now, ambient),
            Ok(Query::Confirm(mac)) => pair::confirm(auth, &request.id, &mac, session, now, ambient),
            Ok(Query::Probe) => reply(pair::probe(auth, &request.id, &session.caller, now)),
            Ok(_) => reply(wire::error_line(&request.id, &RpcError::parse())),
            Err(error) => reply(wire::error_line(&request.id, &error)),
        };
    }
    if request.is_hello() {
        return hello::greet(auth, &request, session, now, ambient);
    }
    let Some(known) = auth.registry.authenticate(request.token(), session.caller.kind).cloned() else {
        return reply(wire::error_line(&request.id, &RpcError::unauthorized()));
    };
    if request.is_proof() {
        return prove(auth, &request, &known, session, now);
    }
    if let Err((error, effect)) = from_its_node(auth, &known, session, now, ambient) {
        let effects = effect.map(|effect| *effect).into_iter().collect();
        return Received { peer: None, effects, next: Next::Reply(wire::error_line(&request.id, &error)) };
    }
    let asker = Asker { daemon_id: known.daemon_id, knows_us_as: known.as_daemon_id };
    let peer = asker.daemon_id.clone();
    // A failure here does not change the reply: the flag and the time serve only display and a later pairing.
    for result in [auth.registry.token_worked(&peer), auth.registry.heard(&peer, now)] {
        if let Err(error) = result {
            tracing::warn!(daemon_id = %peer, %error, "cannot store the contact with a peer");
        }
    }
    let mut effects = vec![Effect::Authenticated];
    let query = request.query();
    let port = if let Ok(Query::PeerInfo { port, .. }) = &query { *port } else { None };
    if let Some(sign) = session.sign_of_life(&peer, port, now) {
        auth.registry.alive(&peer, &sign, now);
    }
    let next = match query {
        Ok(Query::Notify { daemon_id, latest, count, pushed }) => {
            tracing::debug!(
                %daemon_id,
                latest,
                events = count,
                "sync.notify received from {} (latest_seq={latest}, event_count={count})",
                name::printable(&daemon_id)
            );
            if daemon_id == peer {
                let pushed = pushed.filter(|_| key::is_signed_origin(&peer));
                effects.push(Effect::Notified { latest: latest.max(0).unsigned_abs(), pushed });
            } else if auth.registry.misnamed_is_news(&peer, now) {
                // The peer gets the normal reply, as in Go, so that it learns nothing about our other peers.
                tracing::warn!(%daemon_id, "sync.notify: unknown peer {}, ignoring", name::printable(&daemon_id));
            }
            Next::Reply(wire::notified_line(&request.id))
        }
        Ok(Query::Pull(pull)) => {
            if pull.references == Some(false) {
                effects.push(Effect::Lacks);
            }
            Next::Serve(Job { id: request.id, peer: asker, asks: Asks::Pull(pull) })
        }
        Ok(Query::PeerInfo { digest, port }) => {
            if let Some(port) = port.filter(|_| key::is_signed_origin(&peer))
                && let Err(error) = auth.registry.listens_at(&peer, caller_ip(&session.caller), port)
            {
                tracing::warn!(daemon_id = %peer, %error, "cannot store the port of a peer");
            }
            Next::Serve(Job { id: request.id, peer: asker, asks: Asks::PeerInfo { digest } })
        }
        // Our requests, with our token, will go over this connection, so it must be encrypted.
        Ok(Query::Lend) if session.is_encrypted() => {
            effects.push(Effect::Lent);
            Next::Reply(wire::notified_line(&request.id))
        }
        Ok(Query::Lend) => Next::Reply(wire::error_line(&request.id, &RpcError::unknown_method("sync.lend"))),
        Ok(Query::About(about)) => Next::Serve(Job { id: request.id, peer: asker, asks: Asks::About(about) }),
        Ok(Query::Goodbye) => {
            effects = vec![Effect::Stopping];
            Next::Reply(wire::notified_line(&request.id))
        }
        Ok(Query::Differs) => {
            effects.push(Effect::Differs);
            Next::Reply(wire::notified_line(&request.id))
        }
        Ok(Query::Refused(node)) => {
            if auth.registry.record_reported_misuse(&peer, &node, now.at) {
                let name = auth.registry.get(&peer).map_or("", |peer| &peer.name);
                tracing::warn!(peer = %name, %node, "a peer refused a node that used the token shared with us: the token may have been copied");
            }
            Next::Reply(wire::proved_line(&request.id))
        }
        Ok(
            Query::Pair(_)
            | Query::Begin(_)
            | Query::Confirm(_)
            | Query::Prove { .. }
            | Query::Probe
            | Query::Hello { .. },
        ) => Next::Reply(wire::error_line(&request.id, &RpcError::parse())),
        Err(error) => Next::Reply(wire::error_line(&request.id, &error)),
    };
    Received { peer: Some(peer), effects, next }
}

/// Returns the IP address of a caller on a tailnet. The network itself vouches for the address.
fn caller_ip(caller: &Caller) -> Option<IpAddr> {
    let (host, _) = split_address(&caller.address).filter(|_| caller.kind == Kind::Tailnet)?;
    host.parse().ok()
}

/// Checks that a token is used from its peer's node. A peer with a key must have proven its identity on this
/// connection, wherever it calls from; on a new node, it must also answer a challenge, which shows that it has moved.
/// For a peer without a key, a call from another node gets the same error as an unknown token.
fn from_its_node(
    auth: &mut AuthState,
    peer: &Peer,
    session: &mut PeerSession,
    now: Now,
    ambient: &mut dyn Ambient,
) -> Result<(), (RpcError, Option<Box<Effect>>)> {
    if peer.has_key() && session.owes_proof(&peer.daemon_id) {
        return Err((demand_proof(peer, session, ambient), None));
    }
    match (peer.match_node(&session.caller), &session.caller.node) {
        (NodeMatch::Known, _) => Ok(()),
        (NodeMatch::FirstCall, Some(node)) => {
            auth.registry.learn_caller(&peer.daemon_id, node).map_err(|error| (error.into(), None))?;
            tracing::info!(
                peer = %peer.name,
                %node,
                "[pairing] {} calls from {node}; its token is accepted from this node",
                name::quoted(&peer.name)
            );
            Ok(())
        }
        (NodeMatch::Elsewhere, Some(node)) => {
            if peer.has_key() {
                return Err((demand_proof(peer, session, ambient), None));
            }
            auth.registry.record_misuse(&peer.daemon_id, node, now.at);
            Err((RpcError::unauthorized(), refused(auth, &peer.daemon_id, now).map(Box::new)))
        }
        (_, None) => Err((RpcError::unauthorized(), None)),
    }
}

/// Challenges a caller that may be misusing a token. An honest peer needs a moment to answer, so misuse is recorded
/// only when the proof fails or the connection ends without one.
fn demand_proof(peer: &Peer, session: &mut PeerSession, ambient: &mut dyn Ambient) -> RpcError {
    let challenge = challenge(ambient);
    let error = RpcError::prove(&challenge);
    session.challenge = Some((peer.daemon_id.clone(), challenge));
    error
}

/// Handles the end of a connection. A proof that was demanded for a token and not given counts as token misuse; an
/// unfinished pairing exchange counts as a wrong code.
pub fn leave(auth: &mut AuthState, session: PeerSession, now: Now) -> Vec<Effect> {
    let mut effects = Vec::new();
    if let Some((peer, _)) = &session.challenge {
        auth.registry.record_misuse(peer, &session.whence(), now.at);
        effects.extend(refused(auth, peer, now));
    }
    if let Exchanged::Begun(exchange, _) = session.pairing {
        auth.pairing.abandon(&exchange, now);
        effects.push(Effect::PairingMoved);
    }
    effects
}

/// Logs token misuse. Returns the effect that informs the peer, if the peer has a key. Does neither if the misuse was
/// reported recently.
fn refused(auth: &mut AuthState, peer: &str, now: Now) -> Option<Effect> {
    if !auth.registry.misuse_is_news(peer, now.at) {
        return None;
    }
    let (peer, node) = (auth.registry.get(peer)?, auth.registry.misuse(peer)?.node.clone());
    tracing::warn!(peer = %peer.name, %node, "refused a token that was used from another node than its peer's");
    peer.has_key().then(|| Effect::TokenMisused { peer: peer.daemon_id.clone(), node })
}

/// Checks the answer to a challenge. A challenge accepts one answer, right or wrong.
fn prove(auth: &mut AuthState, request: &Request, peer: &Peer, session: &mut PeerSession, now: Now) -> Received {
    let refuse = |error: &RpcError| Received {
        peer: None,
        effects: Vec::new(),
        next: Next::Reply(wire::error_line(&request.id, error)),
    };
    let (daemon_id, signature) = match request.query() {
        Ok(Query::Prove { daemon_id, signature }) => (daemon_id, signature),
        Ok(_) => return refuse(&RpcError::parse()),
        Err(error) => return refuse(&error),
    };
    let asked = session.challenge.take().or_else(|| session.proofs.as_mut()?.challenge.take());
    let Some((expected, challenge)) = asked else { return refuse(&RpcError::unauthorized()) };
    let is_it = daemon_id == peer.daemon_id && expected == peer.daemon_id;
    // A peer that was taken over knows us by the id of the daemon that we replaced, and signs for that id.
    let proves = |to: &str| key::proves(&signature, &challenge, &peer.daemon_id, to);
    if !is_it || !(proves(&auth.me.daemon_id) || peer.as_daemon_id.as_deref().is_some_and(proves)) {
        auth.registry.record_misuse(&peer.daemon_id, &session.whence(), now.at);
        let effects = refused(auth, &peer.daemon_id, now).into_iter().collect();
        return Received { effects, ..refuse(&RpcError::unauthorized()) };
    }
    if let (NodeMatch::Elsewhere, Some(node)) = (peer.match_node(&session.caller), &session.caller.node) {
        if let Err(error) = auth.registry.moved(&peer.daemon_id, node, now.at) {
            return refuse(&error.into());
        }
        let before = peer.node.as_ref().map_or_else(String::new, |before| format!(" from {before}"));
        let what = format!("[pairing] {} moved{before} to {node}, and proved it with its key", peer.name);
        // Two processes that share a key make the peer move back and forth. Do not warn about each move.
        if auth.registry.both(&peer.daemon_id, now).is_some() {
            tracing::debug!("{what}");
        } else {
            tracing::warn!("{what}");
        }
    }
    if let Some(proofs) = &mut session.proofs {
        proofs.proven = Some(peer.daemon_id.clone());
    }
    Received {
        peer: Some(peer.daemon_id.clone()),
        effects: vec![Effect::Authenticated],
        next: Next::Reply(wire::proved_line(&request.id)),
    }
}

/// Answers a job from the log. Blocks on disk I/O.
pub fn serve(job: Job, me: &Me, log: &dyn Log, askers: &Mutex<Askers>, now: Now) -> (String, Option<Effect>) {
    let Job { id, peer, asks } = job;
    match asks {
        Asks::Pull(pull) => match page(&pull, &peer.daemon_id, log, askers, now) {
            Ok((page, current)) => {
                let upto = pull.acknowledged();
                let read = pull.log.filter(|asked| **asked == *current);
                (wire::pull_line(&id, &page, &current), read.map(|log| Effect::Acknowledged { log, upto }))
            }
            Err(error) => (wire::error_line(&id, &error.into()), None),
        },
        Asks::PeerInfo { digest } => {
            match info(peer.knows_us_as.as_ref().unwrap_or(&me.daemon_id), me, log, digest, now) {
                Ok(info) => (wire::info_line(&id, &info), None),
                Err(error) => (wire::error_line(&id, &error.into()), None),
            }
        }
        Asks::About(about) => {
            (ranges::answer(&id, &about, log).unwrap_or_else(|error| wire::error_line(&id, &error.into())), None)
        }
    }
}

/// Reads the first events above `after`, which are sent along with an announcement. Blocks on disk I/O. With
/// `references`, events that `peer` is assumed to hold are sent as references: those of these origins that came from
/// other peers, and those that came from `peer` itself.
///
/// Returns `None` if there are none, if they do not fit into a request, or if the log was replaced meanwhile. In these
/// cases and after an error, the peer gets them only with its next pull.
///
/// # Errors
/// The log cannot be read.
pub fn push(
    log: &dyn Log,
    peer: &str,
    after: u64,
    references: Option<&BTreeSet<String>>,
) -> Result<Option<Pushed>, Error> {
    let current = log.id();
    let (events, bytes) = (limits::MAX_PUSHED_EVENTS, limits::MAX_PUSHED_BYTES);
    let page = match references {
        Some(origins) => log.page_for(Holder { peer, origins }, after, events, bytes)?,
        None => log.page(after, events, bytes)?,
    };
    if page.rows.is_empty() || log.id() != current {
        return Ok(None);
    }
    let line = wire::pull_line(&to_raw_value(&0).ok(), &page, &current);
    // The line becomes a string in another line: escaping makes it longer, and the rest of that line needs room.
    let fits = json::text_size(&line) <= limits::MAX_PEER_REQUEST_BYTES - 1024;
    Ok(fits.then_some(Pushed { after, line }))
}

/// Reads a page of events and the id of their log. Reads again if the log was replaced meanwhile.
fn page(pull: &Pull, peer: &str, log: &dyn Log, askers: &Mutex<Askers>, now: Now) -> Result<(Page, String), Error> {
    loop {
        let current = log.id();
        let rewinds = pull.log.as_ref().is_some_and(|asked| **asked != *current);
        let after = if rewinds { 0 } else { pull.after };
        let page = match pull.log {
            Some(_) if pull.references == Some(true) => {
                let holder = Holder { peer, origins: &BTreeSet::new() };
                log.page_for(holder, after, pull.max_batch, limits::MAX_BATCH_BYTES)?
            }
            Some(_) => log.page(after, pull.max_batch, limits::MAX_BATCH_BYTES)?,
            None => Askers::page(|| askers.lock().unwrap_or_else(PoisonError::into_inner), peer, pull, log, now)?,
        };
        if log.id() == current {
            return Ok((page, current.to_string()));
        }
    }
}

fn info(daemon_id: &str, me: &Me, log: &dyn Log, digest: bool, now: Now) -> Result<Info, Error> {
    // Read `latest` before the version vector, which may then be newer than `latest`, but never older.
    let latest = log.latest();
    Ok(Info {
        daemon_id: daemon_id.to_owned(),
        name: me.name.clone(),
        version: Some(me.version.clone()),
        protocols: PROTOCOLS.map(str::to_owned).to_vec(),
        log: Some(log.id().to_string()),
        // A reply with the digest is to prove that no event is missing, so count the events themselves instead of
        // trusting the maintained version vector.
        heads: Some(if digest { log.counted()? } else { log.heads()? })
            .filter(|heads| heads.len() <= limits::MAX_HEADS),
        latest: Some(latest),
        time: Some(now.at),
        projection: if digest { Some(log.projection()?) } else { None },
        purge_waits: digest && log.purge_waits()?,
    })
}
