//! Pairing at the desk: what whoever has no token yet may ask.

use thrum_core::{Ambient, ErrorKind, Fault, key, limits, name};

use super::{Desk, Effect, Exchanged, Next, PROTOCOLS, Received, Visit};
use crate::{
    Now, Token,
    pairing::{Protocol, pake},
    registry::{Peer, Stranger},
    transport::{Caller, Kind, is_address, local_address},
    wire::{self, Begin, Id, Pair, Probed, RpcError},
};

/// Says who we are to whoever reaches us: who looks for a daemon to join has nothing else to show. The id is a public key.
pub(super) fn probe(desk: &Desk, id: &Id, caller: &Caller, now: Now) -> String {
    let probed = Probed {
        daemon_id: desk.me.daemon_id.clone(),
        name: desk.me.name.clone(),
        waiting: desk.pairing.waits_for(caller, now),
        version: desk.me.version.clone(),
        pairing: vec![pake::VERSION.to_owned()],
    };
    wire::probed_line(id, &probed, &PROTOCOLS)
}

/// A code in clear, as old peers send it.
pub(super) fn request(desk: &mut Desk, id: &Id, pair: Pair, caller: &Caller, now: Now, ambient: &mut dyn Ambient) -> Received {
    if let Err(error) = desk.pairing.try_code(&pair.code, caller, now) {
        return refuse(id, &error);
    }
    let token = Token::generate(ambient);
    let joiner = Joiner { daemon_id: pair.daemon_id, name: pair.name, address: pair.address, protocol: Protocol::Plain };
    take_in(desk, id, joiner, caller, &token, now, |desk, peer| {
        let our_id = peer.as_daemon_id.as_ref().unwrap_or(&desk.me.daemon_id);
        wire::paired_line(id, &token, our_id, &desk.me.name)
    })
}

/// The first message of an exchange. Who begins a second one on a connection is not answered, nor is that counted.
pub(super) fn begin(desk: &mut Desk, id: &Id, begin: Begin, visit: &mut Visit, now: Now, ambient: &mut dyn Ambient) -> Received {
    if !matches!(visit.pairing, Exchanged::Nothing) {
        return refuse(id, &out_of_turn("this connection has begun to pair already"));
    }
    let me = desk.me.daemon_id.clone();
    match desk.pairing.begin(&begin, &me, &visit.caller, now, ambient) {
        Ok((exchange, message)) => {
            visit.pairing = Exchanged::Begun(exchange, Box::new(begin));
            Received { peer: None, effects: Vec::new(), next: Next::Reply(wire::begun_line(id, &message)) }
        }
        Err(error) => refuse(id, &error),
    }
}

/// The joiner's confirmation. An exchange is gone with the first one, right or not.
pub(super) fn confirm(desk: &mut Desk, id: &Id, confirmation: &str, visit: &mut Visit, now: Now, ambient: &mut dyn Ambient) -> Received {
    let (exchange, begin) = match std::mem::replace(&mut visit.pairing, Exchanged::Ended) {
        Exchanged::Begun(exchange, begin) => (exchange, begin),
        before => {
            visit.pairing = before;
            return refuse(id, &out_of_turn("this connection has not begun to pair"));
        }
    };
    let proven = match desk.pairing.confirm(exchange, confirmation, now) {
        Ok(proven) => proven,
        Err(error) => return refuse(id, &error),
    };
    let token = Token::generate(ambient);
    let Begin { daemon_id, name, address, .. } = *begin;
    let joiner = Joiner { daemon_id, name, address, protocol: Protocol::Pake };
    take_in(desk, id, joiner, &visit.caller, &token, now, |desk, _| {
        let (confirmation, sealed) = proven.seal(&token, &desk.me.name);
        wire::confirmed_line(id, &confirmation, &sealed, &desk.me.daemon_id, &desk.me.name)
    })
}

/// Who joins, in its own words.
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
    Fault::new(ErrorKind::Invalid, what).hint("Each connection is good for one pair.begin and then one pair.confirm.").into()
}

/// Ends the session of whoever knew the code, well or not.
fn take_in(
    desk: &mut Desk,
    id: &Id,
    joiner: Joiner,
    caller: &Caller,
    token: &Token,
    now: Now,
    reply: impl FnOnce(&Desk, &Peer) -> String,
) -> Received {
    match admit(desk, joiner, caller, token, now) {
        Ok(peer) => {
            tracing::info!(
                "[pairing] Paired with {} ({}) at {}",
                peer.name,
                name::printable(&peer.daemon_id),
                name::printable(&peer.address)
            );
            desk.pairing.settle(Ok(peer.daemon_id.clone()));
            let line = reply(desk, &peer);
            Received { peer: None, effects: vec![Effect::Paired(Box::new(peer)), Effect::PairingMoved], next: Next::Reply(line) }
        }
        Err((fault, error)) => {
            desk.pairing.settle(Err(fault));
            refuse(id, &error)
        }
    }
}

/// Takes in who knew the code, or says to both sides why not.
fn admit(desk: &mut Desk, joiner: Joiner, caller: &Caller, token: &Token, now: Now) -> Result<Peer, (Fault, RpcError)> {
    let kind = caller.kind;
    let refuse = |message: String| {
        let fault = Fault::new(ErrorKind::Refused, message);
        (fault.clone(), RpcError::from(fault))
    };
    if joiner.daemon_id == desk.me.daemon_id {
        return Err(refuse("a daemon cannot be paired with itself".into()));
    }
    if joiner.daemon_id.len() > limits::MAX_FOREIGN_ID_BYTES {
        return Err(refuse(format!("a daemon_id of more than {} bytes", limits::MAX_FOREIGN_ID_BYTES)));
    }
    // We dial what we store. Nothing is stored for a joiner that says nothing; it can still dial us.
    if !joiner.address.is_empty() && !is_address(&joiner.address) {
        return Err(refuse("the joiner's address is not HOST:PORT".into()));
    }
    let mut joiner = joiner;
    if kind == Kind::Local && !joiner.address.is_empty() {
        joiner.address = local_address(&joiner.address).map_err(|fault| (fault.clone(), RpcError::from(fault)))?;
    }
    // Who has a key calls from where it listens. Go Thrum does not; where it listens shows when it is dialled.
    let (node, calls_from) = match caller.node.clone() {
        node if key::is_signed_origin(&joiner.daemon_id) => (node, None),
        node => (None, node),
    };
    let stranger = Stranger {
        daemon_id: joiner.daemon_id,
        name: joiner.name,
        address: joiner.address,
        kind,
        node,
        calls_from,
        protocol: joiner.protocol,
    };
    desk.registry.pair(stranger, token.clone(), now.at).map_err(|fault| {
        let error = match fault.kind {
            ErrorKind::Refused => RpcError::said(fault.message.clone()),
            _ => RpcError::said(format!("store peer: {fault}")),
        };
        (fault, error)
    })
}
