//! Joins a daemon that displays a code: asks how it pairs, proves the code, and stores the new peer.
//!
//! The probe precedes the code. A daemon that answers the probe as a non-legacy daemon does not receive the code; it
//! proves that it knows the code ([`pake`]). To any other daemon the code itself would have to be sent, which reveals
//! it. This is done only at the user's explicit request: if it were a fallback, any program could obtain codes by
//! answering like a legacy peer.

use std::{fmt, sync::Arc, time::Duration};

use thrum_core::{Error, ErrorKind, limits};
use tokio::{
    io::{ReadHalf, WriteHalf},
    time::{Instant, timeout},
};
use zeroize::Zeroizing;

use super::{
    PairingFlow,
    target::{Target, Typed},
};
use crate::{
    Token,
    answers::Listener,
    blocking::blocking,
    conn::{self, Lines},
    error::Timeout,
    pairing::{Code, Protocol, pake},
    protocol::{
        pair::log_paired,
        wire::{self, BadReply, Begin, Confirmed, Pair, Paired, Probed, Refusal, RpcError},
    },
    registry::{Candidate, Peer},
    transport::{Conn, Kind},
};

impl PairingFlow {
    /// Asks which daemon is at `target` and how it pairs; see [`join`](Self::join). Sends no secret.
    ///
    /// # Errors
    /// Those of [`join`](Self::join) that concern the target.
    pub(crate) async fn inspect(&self, target: &str) -> Result<Listener, Error> {
        let target = self.resolve(&Typed::read(target)?).await?;
        let probed = self.probe(&target).await?;
        let protocol = if probed.is_some() { Protocol::Pake } else { Protocol::Plain };
        let probed = probed.unwrap_or_default();
        Ok(Listener {
            address: target.address,
            node: target.node,
            name: probed.name,
            version: probed.version,
            pairing: protocol.as_str().to_owned(),
        })
    }

    /// Joins the daemon at `target`, which displays `code`, stores it as a peer, and returns the peer. A target is
    /// `host:port` or `host`. A host is an address, or the name of a tailnet node. Without a port, the only daemon
    /// that waits on the host is joined, or, if none waits, the one on the first of [`limits::PORTS`]; on loopback
    /// always the latter. The code itself is sent only if `plainly` is set, to a daemon that supports no other pairing.
    ///
    /// # Errors
    /// `Invalid` for a malformed code or target, or if several nodes have the name or several daemons wait on the host;
    /// `NotFound` for a target that does not exist. `Unavailable` if the target does not answer, the tailnet is not up
    /// (`TryAgain` while it starts), or this daemon cannot listen. `Refused` with the other side's message; if the
    /// other side does not prove that it knows the code, or would have to be sent the code; for ourselves and existing
    /// peers; and if the user's configuration forbids the kind of transport. Those of the disk.
    pub(crate) async fn join(&self, target: &str, code: &str, plainly: bool) -> Result<Peer, Error> {
        let code = Code::parse(code)?;
        let target = self.resolve(&Typed::read(target)?).await?;
        let own = self.inbound.listen(target.kind).await?;
        if own == target.address {
            return Err(itself());
        }
        let (paired, protocol) = match self.probe(&target).await? {
            Some(there) if there.daemon_id == self.env.me.daemon_id => return Err(itself()),
            Some(there) => (self.exchange(&target, &there, &code, own).await?, Protocol::Pake),
            None if plainly => (self.send_code(&target, &code, own).await?, Protocol::Plain),
            None => return Err(would_send(&target)),
        };
        let peer = self.take_in(paired, target, protocol).await?;
        log_paired(&peer);
        Ok(peer)
    }
}

/// A connection to the daemon to be joined.
struct Line<'a> {
    address: &'a str,
    lines: Lines<ReadHalf<Conn>>,
    writer: WriteHalf<Conn>,
}

impl Line<'_> {
    /// Sends a request and returns the reply, which is wiped when dropped.
    async fn ask(&mut self, request: &str, within: Duration) -> Result<Zeroizing<Vec<u8>>, Error> {
        conn::write_line(&mut self.writer, request, limits::PEER_WRITE)
            .await
            .map_err(|error| cannot(self.address, &error))?;
        let line = self.lines.next(limits::MAX_PEER_REQUEST_BYTES, within, within).await;
        line.map(Zeroizing::new).map_err(|error| cannot(self.address, &error).hint(WHERE))
    }

    /// Converts an invalid reply, or the other side's refusal, into an error.
    fn bad(&self, bad: BadReply) -> Error {
        match bad {
            BadReply::Error(error) => refusal_error(&error),
            BadReply::Http => cannot(self.address, &bad).hint(wire::NEWER_GO),
            other => cannot(self.address, &other).hint(WHERE),
        }
    }
}

const WHERE: &str = "Is that the address that `thrum peer add` showed?";

fn cannot(address: &str, why: &dyn fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, format!("cannot pair with {address}: {why}"))
}

impl PairingFlow {
    async fn line<'a>(&self, target: &'a Target) -> Result<Line<'a>, Error> {
        let address = target.address.as_str();
        let transport = self.addresses.required_transport(target.kind)?;
        let mut left = limits::JOIN_DIALS;
        let conn = loop {
            left -= 1;
            let began = Instant::now();
            match timeout(limits::DIAL, transport.dial(address)).await {
                Ok(Ok(conn)) => break conn,
                // A refusal comes at once and would only be repeated. After a timeout, dial again: the first packets
                // may still be looking for a route.
                Ok(Err(error))
                    if left == 0 || error.kind != ErrorKind::Unavailable || began.elapsed() < limits::DIAL / 2 =>
                {
                    return Err(error);
                }
                Err(_) if left == 0 => {
                    return Err(cannot(address, &Timeout::Connect(limits::JOIN_DIAL)));
                }
                Ok(Err(_)) | Err(_) => {}
            }
        };
        let (lines, writer) = conn::halves(conn);
        Ok(Line { address, lines, writer })
    }

    /// Returns the daemon at this target, if it pairs by [`pake`]. Returns `None` if it answers with an error, as a
    /// legacy peer does, or does not offer this protocol; any other answer is an error.
    async fn probe(&self, target: &Target) -> Result<Option<Probed>, Error> {
        let mut line = self.line(target).await?;
        let reply = line.ask(&wire::probe_request(1), limits::PROBE_TO_JOIN).await?;
        match wire::read_probed(&reply, 1) {
            Ok(probed) => {
                let speaks =
                    probed.pairing.iter().any(|version| version == pake::VERSION) && !probed.daemon_id.is_empty();
                Ok(Some(probed).filter(|_| speaks))
            }
            Err(BadReply::Error(_)) => Ok(None),
            Err(bad) => Err(line.bad(bad)),
        }
    }

    /// Runs the PAKE: proves that we know the code, and verifies the other side's proof.
    async fn exchange(&self, target: &Target, there: &Probed, code: &Code, own: String) -> Result<Paired, Error> {
        let transport = self.addresses.required_transport(target.kind)?;
        let own_node = transport.own_node().await?;
        let parties = pake::Parties {
            version: pake::VERSION.to_owned(),
            joiner: self.env.me.daemon_id.clone(),
            joiner_name: self.env.me.name.clone(),
            joiner_address: own,
            joiner_node: pake::node_label(target.kind, own_node.as_ref()).to_owned(),
            listener: there.daemon_id.clone(),
            listener_node: pake::node_label(target.kind, target.node.as_ref()).to_owned(),
            listener_address: target.address.clone(),
        };
        let (joining, message) = pake::join(code, parties.clone(), &mut *self.env.ambient());
        let begin = Begin {
            version: parties.version,
            daemon_id: parties.joiner,
            name: parties.joiner_name,
            address: parties.joiner_address,
            message,
        };
        let mut line = self.line(target).await?;
        let reply = line.ask(&begin.line(1), limits::PAIR).await?;
        let message = wire::read_begun(&reply, 1).map_err(|bad| line.bad(bad))?;
        let (confirming, confirmation) = joining.confirm(&message).ok_or_else(|| unproven(target))?;
        let reply = line.ask(&wire::confirm_request(2, &confirmation), limits::PAIR).await?;
        let Confirmed { confirmation, sealed, daemon_id, name } =
            wire::read_confirmed(&reply, 2).map_err(|bad| line.bad(bad))?;
        // The keys are bound to the id from the probe. This only rejects a reply that contradicts that id.
        let token: Token = confirming
            .open(&confirmation, &sealed, &name)
            .filter(|_| daemon_id == there.daemon_id)
            .ok_or_else(|| unproven(target))?;
        Ok(Paired { token, daemon_id, name })
    }

    /// Sends the code itself, as legacy peers require.
    async fn send_code(&self, target: &Target, code: &Code, own: String) -> Result<Paired, Error> {
        let mut line = self.line(target).await?;
        let daemon_id = self.known_as(&target.address);
        let pair = Pair { code: code.reveal().to_owned(), daemon_id, name: self.env.me.name.clone(), address: own };
        let reply = line.ask(&Zeroizing::new(pair.line(1)), limits::PAIR).await?;
        wire::read_paired(&reply, 1).map_err(|bad| line.bad(bad))
    }

    /// Returns the id by which the daemon at this address knows us. A peer taken over from Go Thrum knows us by the id
    /// of the daemon that we replaced, and would take any other id for another daemon.
    fn known_as(&self, address: &str) -> String {
        let known = |peer: &Peer| (peer.address == address).then(|| peer.as_daemon_id.clone())?;
        self.env.auth().registry.peers().iter().find_map(known).unwrap_or_else(|| self.env.me.daemon_id.clone())
    }

    /// Stores the daemon that admitted us.
    async fn take_in(&self, paired: Paired, target: Target, protocol: Protocol) -> Result<Peer, Error> {
        let Target { address, kind, node } = target;
        let Paired { token, daemon_id, name } = paired;
        if daemon_id == self.env.me.daemon_id {
            return Err(itself());
        }
        let env = Arc::clone(&self.env);
        blocking(move || {
            let now = env.clock.now();
            env.auth().registry.pair(
                Candidate { daemon_id, name, address, kind, node, calls_from: None, protocol },
                token,
                now.at,
            )
        })
        .await
    }
}

fn itself() -> Error {
    Error::new(ErrorKind::Refused, "a daemon cannot be paired with itself")
        .hint("Run `thrum peer join` in the other repository.")
}

/// Describes the receiver of a code, for display.
fn describe(target: &Target) -> String {
    match (&target.node, target.kind) {
        (Some(node), _) => format!("{node} at {}", target.address),
        (None, Kind::Local) => format!("{} on this machine", target.address),
        (None, Kind::Tailnet) => target.address.clone(),
    }
}

fn would_send(target: &Target) -> Error {
    let there = describe(target);
    Error::new(
        ErrorKind::Refused,
        format!("{there} is no daemon of this version: it would have to be sent the code; nothing was sent"),
    )
    .hint(format!("If it runs Go Thrum, and is the one you mean: thrum peer join --plain {}", target.address))
}

fn unproven(target: &Target) -> Error {
    let what = format!("{} does not know the code, or somebody is in between; nothing was stored", describe(target));
    Error::new(ErrorKind::Refused, what).hint("Run `thrum peer add` again there, and compare the address.")
}

/// Converts the other side's message into an error, with our advice.
fn refusal_error(error: &RpcError) -> Error {
    let hint = error.refusal.map(|refusal| match refusal {
        Refusal::NoSession | Refusal::TimedOut => "Run `thrum peer add` on the other machine for a new code.",
        Refusal::TooManyAttempts | Refusal::LastWrongCode => {
            "Run `thrum peer add` again on the other machine for a new code."
        }
        Refusal::Locked => "Wait until then, and run `thrum peer add` on the other machine; it shows this, too.",
        Refusal::WrongCode => "Type the code that the other machine shows.",
        Refusal::AlreadyPaired => "Run `thrum peer remove` there and here, then pair again.",
    });
    let error = Error::new(ErrorKind::Refused, error.message.clone());
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}
