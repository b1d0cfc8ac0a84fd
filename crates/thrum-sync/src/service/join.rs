//! Joining a daemon that shows a code: ask how it pairs, prove the code, store what comes of it.
//!
//! The question comes before the code does. Whoever answers it as a daemon of ours gets no code at all, but proves that it
//! knows it ([`pake`]). To anybody else the code would have to be sent, which gives it away; that is done where the caller
//! says so, never as a way out, for then answering like an old peer would be all that it takes to get codes.

use std::{sync::Arc, time::Duration};

use thrum_core::{ErrorKind, Fault, limits, name};
use tokio::{
    io::{ReadHalf, WriteHalf},
    time::{Instant, timeout},
};
use zeroize::Zeroizing;

use super::{
    Inner, Joined, Listener, Peers, blocking,
    driver::First,
    place::{Place, Typed},
};
use crate::{
    Token, clock,
    conn::{self, Lines},
    pairing::{Code, Protocol, TOO_MANY, pake},
    registry::{Peer, Stranger},
    transport::{Conn, Kind},
    wire::{self, BadReply, Begin, Confirmed, Pair, Paired, Probed, RpcError},
};

impl Peers {
    /// Asks who is at `target`, and how it pairs; see [`join`](Self::join). Nothing secret is sent.
    ///
    /// # Errors
    /// As [`join`](Self::join).
    pub async fn look(&self, target: &str) -> Result<Listener, Fault> {
        let place = self.0.place(&Typed::read(target)?).await?;
        let probed = self.0.look(&place).await?;
        let protocol = if probed.is_some() { Protocol::Pake } else { Protocol::Plain };
        let probed = probed.unwrap_or_default();
        Ok(Listener {
            address: place.address,
            node: place.node,
            name: probed.name,
            version: probed.version,
            pairing: protocol.as_str().to_owned(),
        })
    }

    /// Joins the daemon at `target`, where somebody shows `code`; then waits for the first exchange, at most
    /// [`limits::FIRST_EXCHANGE`]. A target is `host:port`, or `host` for the port where somebody waits there; a host is an
    /// address, or the name of a node of the tailnet. The code is not sent.
    ///
    /// # Errors
    /// `Invalid` for a code or a target that cannot be one, `NotFound` for one that is nobody's, before anything is sent.
    /// `Unavailable` if nobody answers, or while the tailnet is not up; `Refused` with the other side's words, for ourselves
    /// and peers we have, and where the code would have to be sent.
    pub async fn join(&self, target: &str, code: &str) -> Result<Joined, Fault> {
        self.join_by(target, code, false).await
    }

    /// The same, and sends the code to whoever is there if it does not pair otherwise, as Go Thrum does not.
    ///
    /// # Errors
    /// As [`join`](Self::join).
    pub async fn join_even_plainly(&self, target: &str, code: &str) -> Result<Joined, Fault> {
        self.join_by(target, code, true).await
    }

    async fn join_by(&self, target: &str, code: &str, plainly: bool) -> Result<Joined, Fault> {
        let code = Code::parse(code)?;
        let place = self.0.place(&Typed::read(target)?).await?;
        let own = self.0.listen(place.kind).await?;
        if own == place.address {
            return Err(itself());
        }
        let (paired, protocol) = match self.0.look(&place).await? {
            Some(there) if there.daemon_id == self.0.me.daemon_id => return Err(itself()),
            Some(there) => (self.0.exchange(&place, &there, &code, own).await?, Protocol::Pake),
            None if plainly => (self.0.send_code(&place, &code, own).await?, Protocol::Plain),
            None => return Err(would_send(&place)),
        };
        let peer = self.0.take_in(paired, place, protocol).await?;
        tracing::info!("[pairing] Paired with {} ({}) at {}", peer.name, name::printable(&peer.daemon_id), peer.address);
        self.0.drive(peer.clone(), First::Dial);
        Ok(self.0.first_exchange(&peer).await)
    }
}

/// A connection to whom we want to join.
struct Line<'a> {
    address: &'a str,
    lines: Lines<ReadHalf<Conn>>,
    writer: WriteHalf<Conn>,
}

impl Line<'_> {
    /// Asks and gives the answer, wiped when it is dropped.
    async fn ask(&mut self, request: &str, within: Duration) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let failed = |why: String| cannot(self.address, &why);
        conn::write_line(&mut self.writer, request, limits::PEER_WRITE).await.map_err(|error| failed(error.to_string()))?;
        let line = self.lines.next(limits::MAX_PEER_REQUEST_BYTES, within, within).await;
        line.map(Zeroizing::new).map_err(|error| failed(error.to_string()).hint(WHERE))
    }

    /// An answer that is none, or the other side's refusal.
    fn bad(&self, bad: BadReply) -> Fault {
        match bad {
            BadReply::Error(error) => said_no(&error),
            BadReply::Http => cannot(self.address, &bad.to_string()).hint(wire::NEWER_GO),
            other => cannot(self.address, &other.to_string()).hint(WHERE),
        }
    }
}

const WHERE: &str = "Is that the address that `thrum peer add` showed?";

fn cannot(address: &str, why: &str) -> Fault {
    Fault::new(ErrorKind::Unavailable, format!("cannot pair with {address}: {why}"))
}

impl Inner {
    async fn line<'a>(&self, place: &'a Place) -> Result<Line<'a>, Fault> {
        let address = place.address.as_str();
        let transport = self.transport(place.kind).ok_or_else(itself)?;
        let mut left = limits::JOIN_DIALS;
        let conn = loop {
            left -= 1;
            let began = Instant::now();
            match timeout(limits::DIAL, transport.dial(address)).await {
                Ok(Ok(conn)) => break conn,
                // A refusal comes at once, and comes again; silence may be the first packets' search for their way.
                Ok(Err(fault)) if left == 0 || fault.kind != ErrorKind::Unavailable || began.elapsed() < limits::DIAL / 2 => {
                    return Err(fault);
                }
                Err(_) if left == 0 => {
                    let within = clock::go_duration(limits::JOIN_DIAL);
                    return Err(cannot(address, &format!("no connection within {within}")));
                }
                Ok(Err(_)) | Err(_) => {}
            }
        };
        let (lines, writer) = conn::halves(conn);
        Ok(Line { address, lines, writer })
    }

    /// Who is there, if it pairs by [`pake`]. `None` for who answers as old peers do; who answers otherwise is an error.
    async fn look(&self, place: &Place) -> Result<Option<Probed>, Fault> {
        let mut line = self.line(place).await?;
        let reply = line.ask(&wire::probe_request(1), limits::PROBE_TO_JOIN).await?;
        match wire::read_probed(&reply, 1) {
            Ok(probed) => {
                let speaks = probed.pairing.iter().any(|version| version == pake::VERSION) && !probed.daemon_id.is_empty();
                Ok(Some(probed).filter(|_| speaks))
            }
            Err(BadReply::Error(_)) => Ok(None),
            Err(bad) => Err(line.bad(bad)),
        }
    }

    /// Proves that we know the code, and has it proven to us.
    async fn exchange(&self, place: &Place, there: &Probed, code: &Code, own: String) -> Result<Paired, Fault> {
        let transport = self.transport(place.kind).ok_or_else(itself)?;
        let own_node = transport.own_node().await?;
        let parties = pake::Parties {
            version: pake::VERSION.to_owned(),
            joiner: self.me.daemon_id.clone(),
            joiner_name: self.me.name.clone(),
            joiner_address: own,
            joiner_node: pake::place(place.kind, own_node.as_ref()).to_owned(),
            listener: there.daemon_id.clone(),
            listener_node: pake::place(place.kind, place.node.as_ref()).to_owned(),
            listener_address: place.address.clone(),
        };
        let (joining, message) = pake::join(code, parties.clone(), &mut *(self.ambients)());
        let begin = Begin {
            version: parties.version,
            daemon_id: parties.joiner,
            name: parties.joiner_name,
            address: parties.joiner_address,
            message,
        };
        let mut line = self.line(place).await?;
        let reply = line.ask(&begin.line(1), limits::PAIR).await?;
        let message = wire::read_begun(&reply, 1).map_err(|bad| line.bad(bad))?;
        let (confirming, confirmation) = joining.confirm(&message).ok_or_else(|| unproven(place))?;
        let reply = line.ask(&wire::confirm_request(2, &confirmation), limits::PAIR).await?;
        let Confirmed { confirmation, sealed, daemon_id, name } = wire::read_confirmed(&reply, 2).map_err(|bad| line.bad(bad))?;
        // Its id is in the keys, so this is only about words.
        let token: Token =
            confirming.open(&confirmation, &sealed, &name).filter(|_| daemon_id == there.daemon_id).ok_or_else(|| unproven(place))?;
        Ok(Paired { token, daemon_id, name })
    }

    /// Sends the code, as old peers take it.
    async fn send_code(&self, place: &Place, code: &Code, own: String) -> Result<Paired, Fault> {
        let mut line = self.line(place).await?;
        let daemon_id = self.known_as(&place.address);
        let pair = Pair { code: code.reveal().to_owned(), daemon_id, name: self.me.name.clone(), address: own };
        let reply = line.ask(&Zeroizing::new(pair.line(1)), limits::PAIR).await?;
        wire::read_paired(&reply, 1).map_err(|bad| line.bad(bad))
    }

    /// Who we are at this address: a peer of Go Thrum's would take another id for another daemon.
    fn known_as(&self, address: &str) -> String {
        let known = |peer: &Peer| (peer.address == address).then(|| peer.as_daemon_id.clone())?;
        self.desk().registry.peers().iter().find_map(known).unwrap_or_else(|| self.me.daemon_id.clone())
    }

    /// Stores the daemon that took us in.
    async fn take_in(self: &Arc<Self>, paired: Paired, place: Place, protocol: Protocol) -> Result<Peer, Fault> {
        let Place { address, kind, node } = place;
        let Paired { token, daemon_id, name } = paired;
        if daemon_id == self.me.daemon_id {
            return Err(itself());
        }
        let inner = Arc::clone(self);
        blocking(move || {
            let now = inner.clock.now();
            inner.desk().registry.pair(Stranger { daemon_id, name, address, kind, node, calls_from: None, protocol }, token, now.at)
        })
        .await
    }
}

fn itself() -> Fault {
    Fault::new(ErrorKind::Refused, "a daemon cannot be paired with itself").hint("Run `thrum peer join` in the other repository.")
}

/// Whom a code would be sent to, for people.
fn whom(place: &Place) -> String {
    match (&place.node, place.kind) {
        (Some(node), _) => format!("{node} at {}", place.address),
        (None, Kind::Local) => format!("{} on this machine", place.address),
        (None, Kind::Tailnet) => place.address.clone(),
    }
}

fn would_send(place: &Place) -> Fault {
    let whom = whom(place);
    Fault::new(ErrorKind::Refused, format!("{whom} is no daemon of this version: it would have to be sent the code; nothing was sent"))
        .hint(format!("If it runs Go Thrum, and is the one you mean: thrum peer join --plain {}", place.address))
}

fn unproven(place: &Place) -> Fault {
    let what = format!("{} does not know the code, or somebody is in between; nothing was stored", whom(place));
    Fault::new(ErrorKind::Refused, what).hint("Run `thrum peer add` again there, and compare the address.")
}

/// The other side's words, with our advice.
fn said_no(error: &RpcError) -> Fault {
    let hint = match error.message.as_str() {
        "no active pairing session" | "pairing timed out" => Some("Run `thrum peer add` on the other machine for a new code."),
        TOO_MANY => Some("Run `thrum peer add` again on the other machine for a new code."),
        text if text.starts_with(TOO_MANY) => Some("Wait until then, and run `thrum peer add` on the other machine; it shows this, too."),
        text if text.starts_with("invalid pairing code (0 ") => Some("Run `thrum peer add` again on the other machine for a new code."),
        text if text.starts_with("invalid pairing code") => Some("Type the code that the other machine shows."),
        text if text.starts_with("already paired") => Some("Run `thrum peer remove` there and here, then pair again."),
        _ => None,
    };
    let fault = Fault::new(ErrorKind::Refused, error.message.clone());
    match hint {
        Some(hint) => fault.hint(hint),
        None => fault,
    }
}
