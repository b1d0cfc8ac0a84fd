//! Pairing as the daemon's clients see it: start, wait, cancel, join.

use std::{sync::Arc, time::Duration};

use thrum_core::{ErrorKind, Fault, limits, name};
use tokio::time::timeout;

use super::{
    Inner, Joined, PairingStarted, Peers, blocking,
    driver::{self, First},
    lock,
};
use crate::{
    conn,
    pairing::{Code, SessionId, Standing},
    registry::{Peer, Stranger},
    replicator::State,
    transport::{Kind, is_address},
    wire::{self, BadReply, Pair, Paired, RpcError},
};

impl Peers {
    /// Shows a code for at most `within` ([`limits::PAIRING_SESSION`] if longer). Opens the listener if need be.
    ///
    /// # Errors
    /// `Refused` while another session is open or pairing is locked; `Unavailable` if nobody could reach us.
    pub async fn start_pairing(&self, kind: Kind, within: Duration) -> Result<PairingStarted, Fault> {
        let address = self.0.listen(kind).await?;
        let inner = Arc::clone(&self.0);
        let (opened, now) = blocking(move || {
            let (now, mut ambient) = (inner.clock.now(), (inner.ambients)());
            Ok((inner.desk().pairing.start(kind, within, now, &mut *ambient)?, now))
        })
        .await?;
        self.0.pairing_moved.notify_waiters();
        Ok(PairingStarted {
            session: opened.id,
            code: opened.code,
            address,
            name: self.0.me.name.clone(),
            transport: kind,
            expires_at: opened.expires.at,
            expires_in: opened.expires.tick.saturating_sub(now.tick),
        })
    }

    /// Waits for the end of the session; then for the first exchange, at most [`limits::FIRST_EXCHANGE`]. A session that
    /// ended before this is called still has its outcome, once.
    ///
    /// # Errors
    /// `no active pairing session`, `pairing timed out`, `pairing canceled`, too many wrong codes, or why the joiner was
    /// refused.
    pub async fn wait_pairing(&self) -> Result<Joined, Fault> {
        let id = loop {
            let moved = self.0.pairing_moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            let standing = self.0.desk().pairing.collect(self.0.clock.now());
            match standing {
                Standing::Nothing => {
                    return Err(Fault::new(ErrorKind::NotFound, "no active pairing session").hint("`thrum peer add` starts one."));
                }
                Standing::Ended(outcome) => {
                    let id = outcome?;
                    // The pairing is on disk before its peer is driven, and the word of it comes after both.
                    if !lock(&self.0.drivers).contains_key(&id) {
                        let _ = timeout(limits::FIRST_EXCHANGE, moved).await;
                    }
                    break id;
                }
                Standing::Waiting(until) => {
                    tokio::select! {
                        () = moved => {}
                        () = tokio::time::sleep_until(self.0.clock.instant(until)) => {}
                        () = self.0.stop.cancelled() => return Err(Fault::new(ErrorKind::Unavailable, "the daemon is stopping")),
                    }
                }
            }
        };
        let peer = self.0.desk().registry.find(&id)?.clone();
        Ok(self.0.first_exchange(&peer).await)
    }

    /// Ends a session if it is still the one given, as when who started it goes away.
    pub fn cancel_pairing(&self, session: SessionId) {
        self.0.desk().pairing.cancel(session);
        self.0.pairing_moved.notify_waiters();
    }

    /// Joins the daemon at `address` (`host:port`, or `host` for port 9100), where somebody shows `code`; then waits for the
    /// first exchange, at most [`limits::FIRST_EXCHANGE`].
    ///
    /// # Errors
    /// `Invalid` for a code or an address that cannot be one, before anything is sent. `Unavailable` if nobody answers,
    /// `Refused` with the other side's words, or for ourselves and peers we have.
    pub async fn join(&self, address: &str, code: &str) -> Result<Joined, Fault> {
        let code = Code::parse(code)?;
        let address = with_port(address)?;
        let kind = Kind::of_address(&address);
        self.0.may_use(kind)?;
        if self.0.transport(kind).is_none() {
            return Err(Fault::new(ErrorKind::Invalid, format!("{} is not on this machine", name::printable(&address)))
                .hint("Only addresses on 127.0.0.1 can be reached without a tailnet."));
        }
        let own = self.0.listen(kind).await?;
        if own == address.replace("localhost:", "127.0.0.1:") {
            return Err(itself());
        }
        let paired = self.0.ask(&address, kind, &code, own).await?;
        let peer = self.0.take_in(paired, address, kind).await?;
        tracing::info!("[pairing] Paired with {} ({}) at {}", peer.name, name::printable(&peer.daemon_id), peer.address);
        self.0.drive(peer.clone(), First::Dial);
        Ok(self.0.first_exchange(&peer).await)
    }
}

impl Inner {
    /// Who we are at this address: a peer of Go Thrum's would take another id for another daemon.
    fn known_as(&self, address: &str) -> String {
        let known = |peer: &Peer| (peer.address == address).then(|| peer.as_daemon_id.clone())?;
        self.desk().registry.peers().iter().find_map(known).unwrap_or_else(|| self.me.daemon_id.clone())
    }

    async fn ask(&self, address: &str, kind: Kind, code: &Code, own: String) -> Result<Paired, Fault> {
        let transport = self.transport(kind).ok_or_else(itself)?;
        let unreachable = |why: String| Fault::new(ErrorKind::Unavailable, format!("cannot pair with {address}: {why}"));
        let conn = timeout(limits::DIAL, transport.dial(address))
            .await
            .map_err(|_| unreachable(format!("no connection within {}", crate::clock::go_duration(limits::DIAL))))??;
        let (mut lines, mut writer) = conn::halves(conn);
        let daemon_id = self.known_as(address);
        let pair = Pair { code: code.reveal().to_owned(), daemon_id, name: self.me.name.clone(), address: own };
        let request = zeroize::Zeroizing::new(pair.line(1));
        conn::write_line(&mut writer, &request, limits::PEER_WRITE).await.map_err(|error| unreachable(error.to_string()))?;
        let line = lines
            .next(limits::MAX_PEER_REQUEST_BYTES, limits::PAIR, limits::PAIR)
            .await
            .map_err(|error| unreachable(error.to_string()).hint("Is that the address that `thrum peer add` showed?"))?;
        let line = zeroize::Zeroizing::new(line);
        wire::read_paired(&line, 1).map_err(|bad| match bad {
            BadReply::Error(error) => said_no(&error),
            other => unreachable(other.to_string()).hint("Is that the address that `thrum peer add` showed?"),
        })
    }

    /// Stores the daemon that took us in.
    async fn take_in(self: &Arc<Self>, paired: Paired, address: String, kind: Kind) -> Result<Peer, Fault> {
        let Paired { token, daemon_id, name } = paired;
        if daemon_id == self.me.daemon_id {
            return Err(itself());
        }
        let inner = Arc::clone(self);
        blocking(move || {
            let now = inner.clock.now();
            inner.desk().registry.pair(Stranger { daemon_id, name, address, kind }, token, now.at)
        })
        .await
    }

    /// Waits until both sides have read what the other had when they paired, or says what is missing.
    async fn first_exchange(&self, peer: &Peer) -> Joined {
        let joined = |message: Option<String>| Joined {
            peer_name: peer.name.clone(),
            peer_daemon_id: peer.daemon_id.clone(),
            peer_address: peer.address.clone(),
            syncing: message.is_none(),
            message,
        };
        let paired = format!("Paired with \"{}\"", peer.name);
        let Some(mut status) = lock(&self.drivers).get(&peer.daemon_id).map(driver::Driver::status) else {
            return joined(Some(format!("{paired}, but it was removed meanwhile.")));
        };
        let ours = self.log.latest();
        let both = |status: &crate::replicator::Status| {
            let read_by_them = status.legacy == Some(true) || status.read_by_them.is_some_and(|read| read >= ours);
            status.ends > 0 && read_by_them
        };
        if driver::reached(&mut status, limits::FIRST_EXCHANGE, both).await {
            return joined(None);
        }
        let status = status.borrow();
        let message = match (status.state, status.ends, status.read_by_them, &status.last_error) {
            (State::Connected, 0, ..) => format!("{paired}. It has much to send; reading goes on."),
            (State::Connected, _, None, _) => format!("{paired}, but it does not read what is here. Can it reach this machine?"),
            (State::Connected, ..) => format!("{paired}. There is much to send; it goes on reading."),
            (.., Some(error)) => format!("{paired}, but {} does not answer: {error}", peer.address),
            _ => format!("{paired}, but {} does not answer yet.", peer.address),
        };
        joined(Some(message))
    }
}

fn itself() -> Fault {
    Fault::new(ErrorKind::Refused, "a daemon cannot be paired with itself").hint("Run `thrum peer join` in the other repository.")
}

/// The other side's words, with our advice.
fn said_no(error: &RpcError) -> Fault {
    let hint = match error.message.as_str() {
        "no active pairing session" | "pairing timed out" => Some("Run `thrum peer add` on the other machine for a new code."),
        "too many failed attempts" => Some("Wait, then run `thrum peer add` again on the other machine."),
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

/// `host:port`, with port 9100 where none is given.
fn with_port(address: &str) -> Result<String, Fault> {
    let whole = if address.contains(':') { address.to_owned() } else { format!("{address}:{}", limits::PORTS.start()) };
    if is_address(&whole) {
        return Ok(whole);
    }
    let shown = name::printable(&address[..address.floor_char_boundary(limits::MAX_FOREIGN_ID_BYTES)]);
    Err(Fault::new(ErrorKind::Invalid, format!("'{shown}' is not an address")).hint("Give HOST:PORT as `thrum peer add` shows it."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_port_has_gos() {
        assert_eq!(with_port("127.0.0.1").unwrap(), "127.0.0.1:9100");
        assert_eq!(with_port("127.0.0.1:9107").unwrap(), "127.0.0.1:9107");
        for bad in ["", ":9100", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:70000", "host:x", "a b:1", "a\x1b:1", &"x".repeat(1000)] {
            assert_eq!(with_port(bad).expect_err(bad).kind, ErrorKind::Invalid);
        }
    }
}
