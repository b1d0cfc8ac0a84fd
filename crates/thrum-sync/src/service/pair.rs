//! Pairing as the daemon's clients see it: start, wait, cancel, join.

use std::{sync::Arc, time::Duration};

use thrum_core::{ErrorKind, Fault, limits, name};
use tokio::time::timeout;

use super::{
    Inner, Joined, PairingStarted, Peers, Waited, blocking,
    driver::{self, First},
    lock,
    place::{Place, Typed},
};
use crate::{
    conn,
    pairing::{Code, SessionId, Standing},
    registry::{Peer, Stranger},
    replicator::State,
    transport::Kind,
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
        loop {
            if let Waited::Joined(joined) = self.wait_pairing_or_attempt(usize::MAX).await? {
                return Ok(joined);
            }
        }
    }

    /// The same, and returns also when there are more than `seen` wrong codes in the session: for a person who wants to know
    /// who tries.
    ///
    /// # Errors
    /// As [`wait_pairing`](Self::wait_pairing).
    pub async fn wait_pairing_or_attempt(&self, seen: usize) -> Result<Waited, Fault> {
        let id = loop {
            let moved = self.0.pairing_moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            let standing = {
                let mut desk = self.0.desk();
                let standing = desk.pairing.collect(self.0.clock.now());
                let attempts = desk.pairing.attempts();
                if matches!(standing, Standing::Waiting(_)) && attempts.len() > seen {
                    return Ok(Waited::Tried(attempts.to_vec()));
                }
                standing
            };
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
        Ok(Waited::Joined(self.0.first_exchange(&peer).await))
    }

    /// Ends a session if it is still the one given, as when who started it goes away.
    pub fn cancel_pairing(&self, session: SessionId) {
        self.0.desk().pairing.cancel(session);
        self.0.pairing_moved.notify_waiters();
    }

    /// Joins the daemon at `target`, where somebody shows `code`; then waits for the first exchange, at most
    /// [`limits::FIRST_EXCHANGE`]. A target is `host:port`, or `host` for the port where somebody waits there; a host is an
    /// address, or the name of a node of the tailnet.
    ///
    /// # Errors
    /// `Invalid` for a code or a target that cannot be one, `NotFound` for one that is nobody's, before anything is sent.
    /// `Unavailable` if nobody answers, or while the tailnet is not up; `Refused` with the other side's words, or for ourselves
    /// and peers we have.
    pub async fn join(&self, target: &str, code: &str) -> Result<Joined, Fault> {
        let code = Code::parse(code)?;
        let place = self.0.place(&Typed::read(target)?).await?;
        let own = self.0.listen(place.kind).await?;
        if own == place.address.replace("localhost:", "127.0.0.1:") {
            return Err(itself());
        }
        let paired = self.0.ask(&place, &code, own).await?;
        let peer = self.0.take_in(paired, place).await?;
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

    async fn ask(&self, place: &Place, code: &Code, own: String) -> Result<Paired, Fault> {
        let address = place.address.as_str();
        let transport = self.transport(place.kind).ok_or_else(itself)?;
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
    async fn take_in(self: &Arc<Self>, paired: Paired, place: Place) -> Result<Peer, Fault> {
        let Place { address, kind, node } = place;
        let Paired { token, daemon_id, name } = paired;
        if daemon_id == self.me.daemon_id {
            return Err(itself());
        }
        let inner = Arc::clone(self);
        blocking(move || {
            let now = inner.clock.now();
            inner.desk().registry.pair(Stranger { daemon_id, name, address, kind, node, calls_from: None }, token, now.at)
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
        // What it brought itself it is not told of, and may read only in its next round.
        let ours = self.commits.borrow().latest_not_from(&peer.daemon_id);
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
