//! Pairing requests, which callers may send without a token.

use thrum_core::{Ambient, Error, ErrorKind, key, limits, name};

use super::{AuthState, Effect, Exchanged, Next, PROTOCOLS, PeerSession, Received};
use crate::{
    Now, Token,
    pairing::{Protocol, pake},
    protocol::wire::{self, Begin, Id, Pair, Probed, Refusal, RpcError},
    registry::{Candidate, Peer},
    transport::{Caller, Kind, is_address, local_address},
};

/// Identifies this daemon to any caller, because a caller that looks for a daemon to join has no token yet. The id is a
/// public key, not a secret.
pub(super) fn probe(auth: &AuthState, id: &Id, caller: &Caller, now: Now) -> String {
    let probed = Probed {
        daemon_id: auth.me.daemon_id.clone(),
        name: auth.me.name.clone(),
        waiting: auth.pairing.waits_for(caller, now),
        version: auth.me.version.clone(),
        pairing: vec![pake::VERSION.to_owned()],
    };
    wire::probed_line(id, &probed, &PROTOCOLS)
}

/// Handles a plain-text pairing code, as sent by legacy peers.
pub(super) fn request(
    auth: &mut AuthState,
    id: &Id,
    pair: Pair,
    caller: &Caller,
    now: Now,
    ambient: &mut dyn Ambient,
) -> Received {
    if let Err(error) = auth.pairing.try_code(&pair.code, caller, now) {
        return refuse(id, &error);
    }
    let token = Token::generate(ambient);
    let joiner =
        Joiner { daemon_id: pair.daemon_id, name: pair.name, address: pair.address, protocol: Protocol::Plain };
    take_in(auth, id, joiner, caller, &token, now, |auth, peer| {
        let our_id = peer.as_daemon_id.as_ref().unwrap_or(&auth.me.daemon_id);
        wire::paired_line(id, &token, our_id, &auth.me.name)
    })
}

/// Handles the first message of an exchange. A second one on the same connection is refused and not counted as a guess.
pub(super) fn begin(
    auth: &mut AuthState,
    id: &Id,
    begin: Begin,
    session: &mut PeerSession,
    now: Now,
    ambient: &mut dyn Ambient,
) -> Received {
    if !matches!(session.pairing, Exchanged::Nothing) {
        return refuse(id, &out_of_turn("this connection has begun to pair already"));
    }
    let me = auth.me.daemon_id.clone();
    match auth.pairing.begin(&begin, &me, &session.caller, now, ambient) {
        Ok((exchange, message)) => {
            session.pairing = Exchanged::Begun(exchange, Box::new(begin));
            Received { peer: None, effects: Vec::new(), next: Next::Reply(wire::begun_line(id, &message)) }
        }
        Err(error) => refuse(id, &error.with_code()),
    }
}

/// Handles the joiner's confirmation. The first confirmation ends the exchange, right or wrong.
pub(super) fn confirm(
    auth: &mut AuthState,
    id: &Id,
    confirmation: &str,
    session: &mut PeerSession,
    now: Now,
    ambient: &mut dyn Ambient,
) -> Received {
    let (exchange, begin) = match std::mem::replace(&mut session.pairing, Exchanged::Ended) {
        Exchanged::Begun(exchange, begin) => (exchange, begin),
        before => {
            session.pairing = before;
            return refuse(id, &out_of_turn("this connection has not begun to pair"));
        }
    };
    let proven = match auth.pairing.confirm(exchange, confirmation, now) {
        Ok(proven) => proven,
        Err(error) => return refuse(id, &error.with_code()),
    };
    let token = Token::generate(ambient);
    let Begin { daemon_id, name, address, .. } = *begin;
    let joiner = Joiner { daemon_id, name, address, protocol: Protocol::Pake };
    take_in(auth, id, joiner, &session.caller, &token, now, |auth, _| {
        let (confirmation, sealed) = proven.seal(&token, &auth.me.name);
        wire::confirmed_line(id, &confirmation, &sealed, &auth.me.daemon_id, &auth.me.name)
    })
}

/// The joiner's description of itself.
struct Joiner {
    daemon_id: String,
    name: String,
    address: String,
    protocol: Protocol,
}

fn refuse(id: &Id, error: &RpcError) -> Received {
    Received { peer: None, effects: vec![Effect::PairingMoved], next: Next::Reply(wire::error_line(id, error)) }
}

fn out_of_turn(what: &str) -> RpcError {
    Error::new(ErrorKind::Invalid, what)
        .hint("Each connection is good for one pair.begin and then one pair.confirm.")
        .into()
}

/// Admits or refuses a joiner that knew the code, and records which as the outcome of the pairing session.
fn take_in(
    auth: &mut AuthState,
    id: &Id,
    joiner: Joiner,
    caller: &Caller,
    token: &Token,
    now: Now,
    reply: impl FnOnce(&AuthState, &Peer) -> String,
) -> Received {
    let protocol = joiner.protocol;
    match admit(auth, joiner, caller, token, now) {
        Ok(peer) => {
            log_paired(&peer);
            auth.pairing.settle(Ok(peer.daemon_id.clone()));
            let line = reply(auth, &peer);
            Received {
                peer: None,
                effects: vec![Effect::Paired(Box::new(peer)), Effect::PairingMoved],
                next: Next::Reply(line),
            }
        }
        Err(refused) => {
            let (error, answer) = *refused;
            auth.pairing.settle(Err(error));
            match protocol {
                Protocol::Pake => refuse(id, &answer.with_code()),
                Protocol::Plain => refuse(id, &answer),
            }
        }
    }
}

/// Logs a new peer, in Go Thrum's words.
pub(crate) fn log_paired(peer: &Peer) {
    tracing::info!(
        peer = %peer.name,
        daemon_id = %peer.daemon_id,
        address = %peer.address,
        "[pairing] Paired with {} ({}) at {}",
        peer.name,
        name::printable(&peer.daemon_id),
        name::printable(&peer.address)
    );
}

/// Admits a joiner that knew the code. If it is refused, returns the error for the operator and the one for the joiner.
fn admit(
    auth: &mut AuthState,
    joiner: Joiner,
    caller: &Caller,
    token: &Token,
    now: Now,
) -> Result<Peer, Box<(Error, RpcError)>> {
    let kind = caller.kind;
    let refuse = |message: String| {
        let error = Error::new(ErrorKind::Refused, message);
        Box::new((error.clone(), RpcError::from(error)))
    };
    if joiner.daemon_id == auth.me.daemon_id {
        return Err(refuse("a daemon cannot be paired with itself".into()));
    }
    if joiner.daemon_id.len() > limits::MAX_FOREIGN_ID_BYTES {
        return Err(refuse(format!("a daemon_id of more than {} bytes", limits::MAX_FOREIGN_ID_BYTES)));
    }
    // A stored address will be dialled. The address may be empty; such a joiner can still dial us.
    if !joiner.address.is_empty() && !is_address(&joiner.address) {
        return Err(refuse("the joiner's address is not HOST:PORT".into()));
    }
    let mut joiner = joiner;
    if kind == Kind::Local && !joiner.address.is_empty() {
        joiner.address =
            local_address(&joiner.address).map_err(|error| Box::new((error.clone(), RpcError::from(error))))?;
    }
    // A daemon with a key calls from the node on which it listens. Go Thrum need not; its node becomes known when it is
    // dialled.
    let (node, calls_from) = match caller.node.clone() {
        node if key::is_signed_origin(&joiner.daemon_id) => (node, None),
        node => (None, node),
    };
    let candidate = Candidate {
        daemon_id: joiner.daemon_id,
        name: joiner.name,
        address: joiner.address,
        kind,
        node,
        calls_from,
        protocol: joiner.protocol,
    };
    let is_known = auth.registry.working_pairing(&candidate.daemon_id).is_some();
    auth.registry.pair(candidate, token.clone(), now.at).map_err(|error| {
        let answer = match error.kind {
            ErrorKind::Refused if is_known => RpcError::refused(Refusal::AlreadyPaired, error.message.clone()),
            ErrorKind::Refused => RpcError::plain(error.message.clone()),
            _ => RpcError::plain(format!("store peer: {error}")),
        };
        Box::new((error, answer))
    })
}
