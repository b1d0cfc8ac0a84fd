//! Requests to a peer beside those of its replicator: for a ping, a comparison, a reconciliation.
//!
//! These requests use a connection of their own, so that they and the replicator's do not delay each other. A peer that
//! cannot be dialled is asked over the connection that it has lent to us, in turn with the requests of its replicator.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::{Outbound, connection::Connection};
use crate::{
    error::PeerError,
    protocol::wire::{BadReply, Call, Reply},
    registry::Peer,
};

/// Result of a request.
pub(crate) type Answer = Result<Result<Reply, BadReply>, PeerError>;

/// A request for the task that owns the lent connection.
pub(crate) struct Question {
    pub(super) call: Call,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// A channel for requests beside the replicator's.
pub(crate) enum Channel {
    /// A new connection.
    Own(Box<Connection>),
    /// The connection that the peer has lent to us.
    Lent(mpsc::Sender<Question>),
}

impl Channel {
    /// Connects to a peer, or uses the connection that the peer has lent to us. Takes at most
    /// [`limits::MEET`](thrum_core::limits::MEET).
    ///
    /// # Errors
    /// Those of [`Connection::open`].
    pub(crate) async fn open(outbound: &Arc<Outbound>, peer: &Peer) -> Result<Self, PeerError> {
        let lent = outbound.loans.shared(&peer.daemon_id);
        // If two daemons run with one key, the one that lent the connection may not be the intended one.
        let are_two = outbound.env.auth().registry.both(&peer.daemon_id, outbound.env.clock.now()).is_some();
        if !are_two && let Some(lent) = lent {
            return Ok(Self::Lent(lent));
        }
        match (Connection::open(outbound, peer).await, lent) {
            (Ok(own), _) => Ok(Self::Own(Box::new(own))),
            (Err(_), Some(lent)) => Ok(Self::Lent(lent)),
            (Err(error), None) => Err(error),
        }
    }

    pub(crate) const fn is_lent(&self) -> bool {
        matches!(self, Self::Lent(_))
    }

    /// Sends one request and waits for its reply. `id` identifies the request on a new connection; a lent connection
    /// has its own ids.
    pub(crate) async fn ask(&mut self, id: u64, call: Call) -> Answer {
        match self {
            Self::Own(own) => own.ask(id, call).await,
            Self::Lent(lent) => {
                let (answer, answered) = oneshot::channel();
                lent.send(Question { call, answer }).await.map_err(|_| PeerError::LoanEnded)?;
                answered.await.map_err(|_| PeerError::LoanEnded)?
            }
        }
    }
}
