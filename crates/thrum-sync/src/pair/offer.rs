//! Pairing on the side that displays the code: start, wait, cancel.

use std::{sync::Arc, time::Duration};

use thrum_core::{Error, ErrorKind, limits};
use tokio::time::timeout;

use super::PairingFlow;
use crate::{
    answers::{Joined, PairingStarted, Waited},
    blocking::blocking,
    outbound::reached,
    pairing::{Here, SessionId, SessionState},
    protocol::wire::NO_SESSION,
    registry::Peer,
    replicator::State,
    transport::Kind,
};

impl PairingFlow {
    /// Starts a pairing session with a code to display, for at most `within` (limited to [`limits::PAIRING_SESSION`]).
    /// Opens the listener if necessary.
    ///
    /// # Errors
    /// `Refused` while another session is open, while pairing is locked, or if the user's configuration forbids this
    /// kind of transport; `Unavailable` or `TryAgain` if no peer could reach us; those of the disk.
    pub(crate) async fn start(&self, kind: Kind, within: Duration) -> Result<PairingStarted, Error> {
        let address = self.inbound.listen(kind).await?;
        let node = match self.addresses.transport(kind) {
            Some(transport) => transport.own_node().await?,
            None => None,
        };
        let (env, here) = (Arc::clone(&self.env), Here { kind, node, address: address.clone() });
        let (opened, now) = blocking(move || {
            let (now, mut ambient) = (env.clock.now(), env.ambient());
            Ok((env.auth().pairing.start(here, within, now, &mut *ambient)?, now))
        })
        .await?;
        self.moved.notify_waiters();
        Ok(PairingStarted {
            session: opened.id,
            code: opened.code,
            address,
            name: self.env.me.name.clone(),
            transport: kind,
            expires_at: opened.expires.at,
            expires_in: opened.expires.tick.saturating_sub(now.tick),
        })
    }

    /// Waits for the end of the pairing session, and then for the first exchange. Also returns when the session has
    /// seen more than `seen` wrong codes and refused callers. The outcome of a session that ended before this call is
    /// still available, once.
    ///
    /// # Errors
    /// `no active pairing session`, `pairing timed out`, `pairing canceled`, too many wrong codes, why the joiner was
    /// refused, or that the daemon is stopping.
    pub(crate) async fn wait(&self, seen: usize) -> Result<Waited, Error> {
        let id = loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            let state = {
                let mut auth = self.env.auth();
                let state = auth.pairing.collect(self.env.clock.now());
                let attempts = auth.pairing.attempts();
                if matches!(state, SessionState::Waiting(_)) && attempts.len() > seen {
                    return Ok(Waited::Tried(attempts.to_vec()));
                }
                state
            };
            match state {
                SessionState::Nothing => {
                    return Err(Error::new(ErrorKind::NotFound, NO_SESSION).hint("`thrum peer add` starts one."));
                }
                SessionState::Ended(outcome) => {
                    let id = outcome?;
                    // The outcome is available before the peer's driver starts. The notification follows the start.
                    if self.outbound.status(&id).is_none() {
                        let _ = timeout(limits::FIRST_EXCHANGE, moved).await;
                    }
                    break id;
                }
                SessionState::Waiting(until) => {
                    tokio::select! {
                        () = moved => {}
                        () = tokio::time::sleep_until(self.env.clock.instant(until)) => {}
                        () = self.env.stop.cancelled() => return Err(Error::new(ErrorKind::Unavailable, "the daemon is stopping")),
                    }
                }
            }
        };
        let peer = self.env.auth().registry.find(&id)?.clone();
        Ok(Waited::Joined(self.first_exchange(&peer).await))
    }

    /// Ends the given pairing session if it is still open, for example because its initiator has disconnected.
    pub(crate) fn cancel(&self, session: SessionId) {
        self.env.auth().pairing.cancel(session);
        self.moved.notify_waiters();
    }

    /// Waits, at most [`limits::FIRST_EXCHANGE`], until both sides have read the events that the other had when they
    /// paired; with a legacy peer, only until we have. If the exchange is incomplete, the result explains why.
    pub(crate) async fn first_exchange(&self, peer: &Peer) -> Joined {
        let joined = |message: Option<String>| Joined {
            peer_name: peer.name.clone(),
            peer_daemon_id: peer.daemon_id.clone(),
            peer_address: peer.address.clone(),
            pairing: peer.paired_by.clone(),
            syncing: message.is_none(),
            message,
        };
        let paired = format!("Paired with \"{}\"", peer.name);
        let Some(mut status) = self.outbound.status(&peer.daemon_id) else {
            return joined(Some(format!("{paired}, but it was removed meanwhile.")));
        };
        // Do not wait for the peer's own events: we do not announce them to the peer, so it may read them only at its
        // next sync interval.
        let ours = self.env.commits.borrow().latest_not_from(&peer.daemon_id);
        let both = |status: &crate::replicator::ReplicatorStatus| {
            let read_by_them =
                status.legacy == Some(true) || status.exchange.read_by_them.is_some_and(|read| read >= ours);
            status.ends > 0 && read_by_them
        };
        if reached(&mut status, limits::FIRST_EXCHANGE, both).await {
            return joined(None);
        }
        let status = status.borrow();
        let message = match (status.state, status.ends, status.exchange.read_by_them, &status.exchange.last_error) {
            (State::Connected, 0, ..) => format!("{paired}. It has much to send; reading goes on."),
            (State::Connected, _, None, _) => {
                format!("{paired}, but it does not read what is here. Can it reach this machine?")
            }
            (State::Connected, ..) => format!("{paired}. There is much to send; it goes on reading."),
            (.., Some(error)) => format!("{paired}, but {} does not answer: {error}", peer.address),
            _ => format!("{paired}, but {} does not answer yet.", peer.address),
        };
        joined(Some(message))
    }
}
