//! Pairing as the daemon's clients see it, on the side that shows the code: start, wait, cancel.

use std::{sync::Arc, time::Duration};

use thrum_core::{ErrorKind, Fault, limits};
use tokio::time::timeout;

use super::{Inner, Joined, PairingStarted, Peers, Waited, blocking, driver, lock};
use crate::{
    pairing::{Here, SessionId, Standing},
    registry::Peer,
    replicator::State,
    transport::Kind,
};

impl Peers {
    /// Shows a code for at most `within` ([`limits::PAIRING_SESSION`] if longer). Opens the listener if need be.
    ///
    /// # Errors
    /// `Refused` while another session is open or pairing is locked; `Unavailable` if nobody could reach us.
    pub async fn start_pairing(&self, kind: Kind, within: Duration) -> Result<PairingStarted, Fault> {
        let address = self.0.listen(kind).await?;
        let node = match self.0.transport(kind) {
            Some(transport) => transport.own_node().await?,
            None => None,
        };
        let (inner, here) = (Arc::clone(&self.0), Here { kind, node, address: address.clone() });
        let (opened, now) = blocking(move || {
            let (now, mut ambient) = (inner.clock.now(), (inner.ambients)());
            Ok((inner.desk().pairing.start(here, within, now, &mut *ambient)?, now))
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
}

impl Inner {
    /// Waits until both sides have read what the other had when they paired, or says what is missing.
    pub(super) async fn first_exchange(&self, peer: &Peer) -> Joined {
        let joined = |message: Option<String>| Joined {
            peer_name: peer.name.clone(),
            peer_daemon_id: peer.daemon_id.clone(),
            peer_address: peer.address.clone(),
            pairing: peer.paired_by.clone(),
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
