//! What a peer's line is answered: first at the desk, where tokens and codes are looked at, then from the log.
//!
//! Both halves are functions of their arguments. The desk is quick and takes its state by `&mut`; serving reads the log and
//! needs the desk no more, so that a large pull of one peer keeps nobody else waiting.

use std::sync::{Mutex, PoisonError};

use thrum_core::{Ambient, ErrorKind, Fault, exchange::Page, limits, name};

use crate::{
    Log, Now, Token,
    legacy::serving::Askers,
    pairing::Pairing,
    registry::{Peer, Registry, Stranger},
    transport::{Caller, Kind, is_address, is_loopback},
    wire::{self, Id, Info, Pair, Pull, Query, Request, RpcError},
};

/// The protocols spoken here, as `sync.peer_info` lists them.
pub const PROTOCOLS: [&str; 1] = ["lines-1"];

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
    /// There is a new peer.
    Paired(Box<Peer>),
    /// Who waits for a pairing session should look.
    PairingMoved,
}

/// A request after the desk.
#[derive(Debug)]
pub struct Received {
    /// Whose token was shown, if it is good. All effects are about this peer.
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
}

/// Looks at one line: who asks, and whether the answer needs the log. What must be durable is when this returns.
pub fn receive(desk: &mut Desk, line: &[u8], caller: &Caller, now: Now, ambient: &mut dyn Ambient) -> Received {
    let reply = |line: String| Received { peer: None, effects: Vec::new(), next: Next::Reply(line) };
    let request = match Request::read(line) {
        Ok(request) => request,
        Err((id, error)) => return reply(wire::error_line(&id, &error)),
    };
    if request.is_pairing() {
        return match request.query() {
            Ok(Query::Pair(pair)) => pair_request(desk, &request.id, pair, caller, now, ambient),
            Ok(_) => reply(wire::error_line(&request.id, &RpcError::parse())),
            Err(error) => reply(wire::error_line(&request.id, &error)),
        };
    }
    let Some(known) = desk.registry.authenticate(request.token(), caller.kind) else {
        return reply(wire::error_line(&request.id, &RpcError::unauthorized()));
    };
    let asker = Asker { daemon_id: known.daemon_id.clone(), knows_us_as: known.as_daemon_id.clone() };
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
            } else {
                // Answered like any other, as Go does, so that a peer learns nothing about our other peers.
                tracing::warn!("sync.notify: unknown peer {}, ignoring", name::printable(&daemon_id));
            }
            Next::Reply(wire::notified_line(&request.id))
        }
        Ok(Query::Pull(pull)) => Next::Serve(Job { id: request.id, peer: asker, asks: Asks::Pull(pull) }),
        Ok(Query::PeerInfo { digest }) => Next::Serve(Job { id: request.id, peer: asker, asks: Asks::PeerInfo { digest } }),
        Ok(Query::Pair(_)) => Next::Reply(wire::error_line(&request.id, &RpcError::parse())),
        Err(error) => Next::Reply(wire::error_line(&request.id, &error)),
    };
    Received { peer: Some(peer), effects, next }
}

fn pair_request(desk: &mut Desk, id: &Id, pair: Pair, caller: &Caller, now: Now, ambient: &mut dyn Ambient) -> Received {
    if let Err(error) = desk.pairing.try_code(&pair.code, caller, now) {
        return Received { peer: None, effects: vec![Effect::PairingMoved], next: Next::Reply(wire::error_line(id, &error)) };
    }
    let token = Token::generate(ambient);
    match admit(desk, pair, caller.kind, &token, now) {
        Ok(peer) => {
            tracing::info!(
                "[pairing] Paired with {} ({}) at {}",
                peer.name,
                name::printable(&peer.daemon_id),
                name::printable(&peer.address)
            );
            desk.pairing.settle(Ok(peer.daemon_id.clone()));
            let our_id = peer.as_daemon_id.as_ref().unwrap_or(&desk.me.daemon_id);
            let line = wire::paired_line(id, &token, our_id, &desk.me.name);
            Received { peer: None, effects: vec![Effect::Paired(Box::new(peer)), Effect::PairingMoved], next: Next::Reply(line) }
        }
        Err((fault, error)) => {
            desk.pairing.settle(Err(fault));
            Received { peer: None, effects: vec![Effect::PairingMoved], next: Next::Reply(wire::error_line(id, &error)) }
        }
    }
}

/// Takes in who knew the code, or says to both sides why not.
fn admit(desk: &mut Desk, pair: Pair, kind: Kind, token: &Token, now: Now) -> Result<Peer, (Fault, RpcError)> {
    let refuse = |message: String| {
        let fault = Fault::new(ErrorKind::Refused, message);
        (fault.clone(), RpcError::from(fault))
    };
    if pair.daemon_id == desk.me.daemon_id {
        return Err(refuse("a daemon cannot be paired with itself".into()));
    }
    if pair.daemon_id.len() > limits::MAX_FOREIGN_ID_BYTES {
        return Err(refuse(format!("a daemon_id of more than {} bytes", limits::MAX_FOREIGN_ID_BYTES)));
    }
    // We dial what we store. Nothing is stored for a joiner that says nothing; it can still dial us.
    if !pair.address.is_empty() && !is_address(&pair.address) {
        return Err(refuse("the joiner's address is not HOST:PORT".into()));
    }
    if kind == Kind::Local && !pair.address.is_empty() && !is_loopback(&pair.address) {
        return Err(refuse(format!("{} is not on this machine", name::printable(&pair.address))));
    }
    let stranger = Stranger { daemon_id: pair.daemon_id, name: pair.name, address: pair.address, kind };
    desk.registry.pair(stranger, token.clone(), now.at).map_err(|fault| {
        let error = match fault.kind {
            ErrorKind::Refused => RpcError::said(fault.message.clone()),
            _ => RpcError::said(format!("store peer: {fault}")),
        };
        (fault, error)
    })
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
        heads: Some(log.heads()?).filter(|heads| heads.len() <= limits::MAX_HEADS),
        latest: Some(latest),
        time: Some(now.at),
        projection: if digest { Some(log.projection()?) } else { None },
        purge_waits: digest && log.purge_waits()?,
    })
}
