//! What a peer's line is answered: first at the desk, where tokens and codes are looked at, then from the log.
//!
//! Both halves are functions of their arguments. The desk is quick and takes its state by `&mut`; serving reads the log and
//! needs the desk no more, so that a large pull of one peer keeps nobody else waiting.

mod hello;
mod pair;
mod ranges;

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use hello::Proofs;
pub use hello::{Prover, challenge, proves_to_listen};
use thrum_core::{Ambient, Fault, exchange::Page, key, limits, name};
use zeroize::Zeroizing;

use crate::{
    Log, Now,
    legacy::serving::Askers,
    pairing::{Exchange, Pairing},
    registry::{Origin, Peer, Registry},
    transport::{Caller, Kind, Node},
    wire::{self, About, Begin, Id, Info, Pull, Query, Request, RpcError},
};

/// The protocols spoken here, as `sync.peer_info` lists them.
pub const PROTOCOLS: [&str; 2] = ["lines-1", wire::RANGES];

/// Who we are, as peers see it.
#[derive(Clone, Debug)]
pub struct Me {
    /// Our id.
    pub daemon_id: String,
    /// Our name; need not be unique.
    pub name: String,
    /// The program's version.
    pub version: String,
}

/// What decides who may ask.
#[derive(Debug)]
pub struct Desk {
    /// Who we are.
    pub me: Me,
    /// Whom we know.
    pub registry: Registry,
    /// Who may become known.
    pub pairing: Pairing,
}

/// A connection, as the desk sees it: who calls, and what he was asked to prove.
#[derive(Debug)]
pub struct Visit {
    /// Who is at the other end.
    pub caller: Caller,
    /// Whom he was asked to be, and the challenge: good for one answer on this connection.
    challenge: Option<(String, Zeroizing<String>)>,
    /// What daemons with keys prove to each other here; `None` where nobody does.
    proofs: Option<Proofs>,
    pairing: Exchanged,
}

/// How far a connection came in pairing: one exchange each, so that a guess costs a connection, too.
#[derive(Debug, Default)]
enum Exchanged {
    #[default]
    Nothing,
    /// With what the joiner said of itself.
    Begun(Exchange, Box<Begin>),
    Ended,
}

impl From<Caller> for Visit {
    fn from(caller: Caller) -> Self {
        Self { caller, challenge: None, proofs: None, pairing: Exchanged::Nothing }
    }
}

/// What else a request means, for those whom it concerns.
#[derive(Clone, Debug)]
pub enum Effect {
    /// The peer is alive and its token is good.
    Authenticated,
    /// The peer has something new.
    Notified {
        /// Its highest sequence, as it says.
        latest: u64,
    },
    /// The peer has everything of ours up to here, durably.
    Acknowledged {
        /// In this log of ours.
        log: String,
        /// Up to this sequence.
        upto: u64,
    },
    /// The peer says that something of its is missing here.
    Differs,
    /// The peer gives us this connection for our own questions.
    Lent,
    /// Somebody else used a token, and was refused. The peer should hear of it.
    Strayed {
        /// Whose token.
        peer: String,
        /// From where it was used.
        node: Node,
    },
    /// There is a new peer.
    Paired(Box<Peer>),
    /// Who waits for a pairing session should look.
    PairingMoved,
}

/// A request after the desk.
#[derive(Debug)]
pub struct Received {
    /// Whose token was shown, if it is good. All effects are about this peer, but for those that name another.
    pub peer: Option<String>,
    /// What else it means.
    pub effects: Vec<Effect>,
    /// How it goes on.
    pub next: Next,
}

/// How a request goes on after the desk.
#[derive(Debug)]
pub enum Next {
    /// The reply is known.
    Reply(String),
    /// The log must be asked.
    Serve(Job),
}

/// A question about the log from a peer that may ask it.
#[derive(Debug)]
pub struct Job {
    id: Id,
    peer: Asker,
    asks: Asks,
}

/// Who asks.
#[derive(Clone, Debug)]
struct Asker {
    daemon_id: String,
    /// Who we are to it, if not who we are.
    knows_us_as: Option<String>,
}

#[derive(Debug)]
enum Asks {
    Pull(Pull),
    PeerInfo { digest: bool },
    About(About),
}

/// Looks at one line: who asks, and whether the answer needs the log. What must be durable is when this returns.
pub fn receive(desk: &mut Desk, line: &[u8], visit: &mut Visit, now: Now, ambient: &mut dyn Ambient) -> Received {
    let reply = |line: String| Received { peer: None, effects: Vec::new(), next: Next::Reply(line) };
    let request = match Request::read(line) {
        Ok(request) => request,
        Err((id, error)) => return reply(wire::error_line(&id, &error)),
    };
    if request.is_pairing() {
        return match request.query() {
            Ok(Query::Pair(pair)) => pair::request(desk, &request.id, pair, &visit.caller, now, ambient),
            Ok(Query::Begin(begin)) => pair::begin(desk, &request.id, begin, visit, now, ambient),
            Ok(Query::Confirm(mac)) => pair::confirm(desk, &request.id, &mac, visit, now, ambient),
            Ok(Query::Probe) => reply(pair::probe(desk, &request.id, &visit.caller, now)),
            Ok(_) => reply(wire::error_line(&request.id, &RpcError::parse())),
            Err(error) => reply(wire::error_line(&request.id, &error)),
        };
    }
    if request.is_hello() {
        return hello::greet(desk, &request, visit, ambient);
    }
    let Some(known) = desk.registry.authenticate(request.token(), visit.caller.kind).cloned() else {
        return reply(wire::error_line(&request.id, &RpcError::unauthorized()));
    };
    if request.is_proof() {
        return prove(desk, &request, &known, visit, now);
    }
    if let Err((error, effect)) = from_its_node(desk, &known, visit, now, ambient) {
        let effects = effect.map(|effect| *effect).into_iter().collect();
        return Received { peer: None, effects, next: Next::Reply(wire::error_line(&request.id, &error)) };
    }
    let asker = Asker { daemon_id: known.daemon_id, knows_us_as: known.as_daemon_id };
    let peer = asker.daemon_id.clone();
    // Neither changes the answer: the flag and the time are for people and for a later pairing.
    for result in [desk.registry.token_worked(&peer), desk.registry.heard(&peer, now)] {
        if let Err(fault) = result {
            tracing::warn!("{fault}");
        }
    }
    let mut effects = vec![Effect::Authenticated];
    let next = match request.query() {
        Ok(Query::Notify { daemon_id, latest, count }) => {
            tracing::debug!("sync.notify received from {} (latest_seq={latest}, event_count={count})", name::printable(&daemon_id));
            if daemon_id == peer {
                effects.push(Effect::Notified { latest: latest.max(0).unsigned_abs() });
            } else if desk.registry.misnamed_is_news(&peer, now) {
                // Answered like any other, as Go does, so that a peer learns nothing about our other peers.
                tracing::warn!("sync.notify: unknown peer {}, ignoring", name::printable(&daemon_id));
            }
            Next::Reply(wire::notified_line(&request.id))
        }
        Ok(Query::Pull(pull)) => Next::Serve(Job { id: request.id, peer: asker, asks: Asks::Pull(pull) }),
        Ok(Query::PeerInfo { digest, port }) => {
            if let Some(port) = port.filter(|_| key::is_signed_origin(&peer))
                && let Err(fault) = desk.registry.listens_at(&peer, caller_ip(&visit.caller), port)
            {
                tracing::warn!("{fault}");
            }
            Next::Serve(Job { id: request.id, peer: asker, asks: Asks::PeerInfo { digest } })
        }
        Ok(Query::Lend) if key::is_signed_origin(&peer) => {
            effects.push(Effect::Lent);
            Next::Reply(wire::notified_line(&request.id))
        }
        Ok(Query::Lend) => Next::Reply(wire::error_line(&request.id, &RpcError::unknown_method("sync.lend"))),
        Ok(Query::About(about)) => Next::Serve(Job { id: request.id, peer: asker, asks: Asks::About(about) }),
        Ok(Query::Differs) => {
            effects.push(Effect::Differs);
            Next::Reply(wire::notified_line(&request.id))
        }
        Ok(Query::Refused(node)) => {
            if desk.registry.strayed_there(&peer, &node, now.at) {
                let name = desk.registry.get(&peer).map_or("", |peer| &peer.name);
                tracing::warn!("{name} refused {node}, which used the token that it shares with us: is it copied?");
            }
            Next::Reply(wire::proved_line(&request.id))
        }
        Ok(Query::Pair(_) | Query::Begin(_) | Query::Confirm(_) | Query::Prove { .. } | Query::Probe | Query::Hello { .. }) => {
            Next::Reply(wire::error_line(&request.id, &RpcError::parse()))
        }
        Err(error) => Next::Reply(wire::error_line(&request.id, &error)),
    };
    Received { peer: Some(peer), effects, next }
}

/// The address of a caller on a tailnet, which the network itself gives.
fn caller_ip(caller: &Caller) -> Option<IpAddr> {
    let (host, _) = caller.address.rsplit_once(':').filter(|_| caller.kind == Kind::Tailnet)?;
    host.trim_matches(['[', ']']).parse().ok()
}

/// A token counts from the node that it was given to. From another one, who has the peer's key may say that it has moved;
/// who has none is told what strangers are told. A peer with a key proves that it is it wherever it calls from, before it asks.
fn from_its_node(
    desk: &mut Desk,
    peer: &Peer,
    visit: &mut Visit,
    now: Now,
    ambient: &mut dyn Ambient,
) -> Result<(), (RpcError, Option<Box<Effect>>)> {
    if peer.has_key() && visit.owes_proof(&peer.daemon_id) {
        return Err((demand_proof(peer, visit, ambient), None));
    }
    match (peer.origin(&visit.caller), &visit.caller.node) {
        (Origin::Its, _) => Ok(()),
        (Origin::New, Some(node)) => {
            desk.registry.learn_caller(&peer.daemon_id, node).map_err(|fault| (fault.into(), None))?;
            tracing::info!("[pairing] {} calls from {node}: its token counts from there", peer.name);
            Ok(())
        }
        (Origin::Elsewhere, Some(node)) => {
            if peer.has_key() {
                return Err((demand_proof(peer, visit, ambient), None));
            }
            desk.registry.strayed(&peer.daemon_id, node, now.at);
            Err((RpcError::unauthorized(), refused(desk, &peer.daemon_id, now).map(Box::new)))
        }
        (_, None) => Err((RpcError::unauthorized(), None)),
    }
}

/// Somebody uses a peer's token who may not be that peer. Who has the key needs a moment to say so; nobody is suspected before.
fn demand_proof(peer: &Peer, visit: &mut Visit, ambient: &mut dyn Ambient) -> RpcError {
    let challenge = challenge(ambient);
    let error = RpcError::prove(&challenge);
    visit.challenge = Some((peer.daemon_id.clone(), challenge));
    error
}

/// A connection ended. Whoever was asked there to prove something and did not is somebody else; whoever began to pair there
/// and did not go on guessed.
pub fn leave(desk: &mut Desk, visit: Visit, now: Now) -> Vec<Effect> {
    let mut effects = Vec::new();
    if let Some((peer, _)) = &visit.challenge {
        desk.registry.strayed(peer, &visit.whence(), now.at);
        effects.extend(refused(desk, peer, now));
    }
    if let Exchanged::Begun(exchange, _) = visit.pairing {
        desk.pairing.abandon(&exchange, now);
        effects.push(Effect::PairingMoved);
    }
    effects
}

/// Somebody used a peer's token who is not that peer. A peer with a key hears of it.
fn refused(desk: &mut Desk, peer: &str, now: Now) -> Option<Effect> {
    if !desk.registry.stray_is_news(peer, now.at) {
        return None;
    }
    let (peer, node) = (desk.registry.get(peer)?, desk.registry.stray(peer)?.node.clone());
    tracing::warn!("the token of {} was used from {node}, which is not its node: refused", peer.name);
    peer.has_key().then(|| Effect::Strayed { peer: peer.daemon_id.clone(), node })
}

/// The answer to a challenge. A challenge is gone with its first answer, right or not.
fn prove(desk: &mut Desk, request: &Request, peer: &Peer, visit: &mut Visit, now: Now) -> Received {
    let refuse = |error: &RpcError| Received { peer: None, effects: Vec::new(), next: Next::Reply(wire::error_line(&request.id, error)) };
    let (daemon_id, signature) = match request.query() {
        Ok(Query::Prove { daemon_id, signature }) => (daemon_id, signature),
        Ok(_) => return refuse(&RpcError::parse()),
        Err(error) => return refuse(&error),
    };
    let asked = visit.challenge.take().or_else(|| visit.proofs.as_mut()?.challenge.take());
    let Some((whom, challenge)) = asked else { return refuse(&RpcError::unauthorized()) };
    let is_it = daemon_id == peer.daemon_id && whom == peer.daemon_id;
    // A peer that was taken over knows us by the id of the daemon that we replace, and signs for that one.
    let proves = |to: &str| key::proves(&signature, &challenge, &peer.daemon_id, to);
    if !is_it || !(proves(&desk.me.daemon_id) || peer.as_daemon_id.as_deref().is_some_and(proves)) {
        desk.registry.strayed(&peer.daemon_id, &visit.whence(), now.at);
        let effects = refused(desk, &peer.daemon_id, now).into_iter().collect();
        return Received { effects, ..refuse(&RpcError::unauthorized()) };
    }
    if let (Origin::Elsewhere, Some(node)) = (peer.origin(&visit.caller), &visit.caller.node) {
        if let Err(fault) = desk.registry.moved(&peer.daemon_id, node, now.at) {
            return refuse(&fault.into());
        }
        let before = peer.node.as_ref().map_or_else(String::new, |before| format!(" from {before}"));
        tracing::warn!("[pairing] {} moved{before} to {node}, and proved it with its key", peer.name);
    }
    if let Some(proofs) = &mut visit.proofs {
        proofs.proven = Some(peer.daemon_id.clone());
    }
    Received { peer: Some(peer.daemon_id.clone()), effects: vec![Effect::Authenticated], next: Next::Reply(wire::proved_line(&request.id)) }
}

/// Answers from the log. Blocks on the disk.
pub fn serve(job: Job, me: &Me, log: &dyn Log, askers: &Mutex<Askers>, now: Now) -> (String, Option<Effect>) {
    let Job { id, peer, asks } = job;
    match asks {
        Asks::Pull(pull) => match page(&pull, &peer.daemon_id, log, askers, now) {
            Ok((page, current)) => {
                let read = pull.log.filter(|asked| **asked == *current);
                (wire::pull_line(&id, &page, &current), read.map(|log| Effect::Acknowledged { log, upto: pull.after }))
            }
            Err(fault) => (wire::error_line(&id, &fault.into()), None),
        },
        Asks::PeerInfo { digest } => match info(peer.knows_us_as.as_ref().unwrap_or(&me.daemon_id), me, log, digest, now) {
            Ok(info) => (wire::info_line(&id, &info), None),
            Err(fault) => (wire::error_line(&id, &fault.into()), None),
        },
        Asks::About(about) => (ranges::answer(&id, &about, log).unwrap_or_else(|fault| wire::error_line(&id, &fault.into())), None),
    }
}

/// Rows of one log, with its id. Read again if the log became another one meanwhile.
fn page(pull: &Pull, peer: &str, log: &dyn Log, askers: &Mutex<Askers>, now: Now) -> Result<(Page, String), Fault> {
    loop {
        let current = log.id();
        let rewinds = pull.log.as_ref().is_some_and(|asked| **asked != *current);
        let after = if rewinds { 0 } else { pull.after };
        let page = match pull.log {
            Some(_) => log.page(after, pull.max_batch, limits::MAX_BATCH_BYTES)?,
            None => Askers::page(|| askers.lock().unwrap_or_else(PoisonError::into_inner), peer, pull, log, now)?,
        };
        if log.id() == current {
            return Ok((page, current.to_string()));
        }
    }
}

fn info(daemon_id: &str, me: &Me, log: &dyn Log, digest: bool, now: Now) -> Result<Info, Fault> {
    // Before the heads: what they hold may be newer than what is promised, never older.
    let latest = log.latest();
    Ok(Info {
        daemon_id: daemon_id.to_owned(),
        name: me.name.clone(),
        version: Some(me.version.clone()),
        protocols: PROTOCOLS.map(str::to_owned).to_vec(),
        log: Some(log.id().to_string()),
        // Who asks for the digest wants a proof: not what is kept about the events, but the events.
        heads: Some(if digest { log.counted()? } else { log.heads()? }).filter(|heads| heads.len() <= limits::MAX_HEADS),
        latest: Some(latest),
        time: Some(now.at),
        projection: if digest { Some(log.projection()?) } else { None },
        purge_waits: digest && log.purge_waits()?,
    })
}
