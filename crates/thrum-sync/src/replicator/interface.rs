//! The inputs and actions of the replicator.

use std::collections::BTreeSet;

use thrum_core::{Error, exchange::Applied, quota::OverQuota};

use crate::{
    error::PeerError,
    protocol::wire::{BadReply, Call, Pulled, Reply, Served},
};

/// An input of the replicator.
#[derive(Debug)]
pub enum Input {
    /// Time has passed.
    Timer,
    /// The requested dial succeeded.
    Connected,
    /// The requested dial failed.
    ConnectFailed(PeerError),
    /// The connection ended.
    Disconnected(PeerError),
    /// The peer replied to the request in flight.
    Replied(Result<Reply, BadReply>),
    /// The reply exceeded the maximum line length, and the connection ended.
    TooLong,
    /// The batch is durable.
    Applied(Applied),
    /// The batch could not be stored completely. The checkpoint is unchanged.
    ApplyFailed(Error),
    /// The batch was not stored, because the one before it was not, or because the peer is over its quota.
    NotApplied,
    /// The batch was not stored, because it refers to an event that this log lacks.
    Lacks,
    /// The peer sent events that were held already, with their bodies. They are of these origins, whose events the peer
    /// therefore also gets from others.
    Repeated(BTreeSet<String>),
    /// The peer lacks an event that was sent to it as a reference.
    PeerLacks,
    /// `Some` if the peer is over its quota and must not be read further.
    Quota(Option<OverQuota>),
    /// The peer has lent a connection to us: worth one attempt now, regardless of backoff.
    NetworkUp,
    /// The network has come up, or the address of either side changed. An open connection is dead even though neither
    /// side closed it.
    Moved,
    /// Our log has events up to this sequence that did not come from this peer.
    Commit(u64),
    /// The peer announces new events.
    Notified {
        /// The peer's highest sequence, as the peer reports it.
        latest: u64,
        /// The new events and the sequence after which they follow, if the peer has sent them along.
        pushed: Option<(u64, Pulled)>,
    },
    /// The peer called us with a valid token.
    Authenticated,
    /// The peer says that it is stopping.
    Stopping,
    /// The peer has durably stored our log up to this sequence.
    Acknowledged(u64),
    /// A pull is requested now. Done when [`ReplicatorStatus::forced`](super::ReplicatorStatus::forced) has reached
    /// this ticket.
    Force(u64),
    /// The peer's digests are requested. Done when [`ReplicatorStatus::compared`](super::ReplicatorStatus::compared)
    /// has reached this ticket.
    Compare(u64),
}

/// An action that the replicator requests.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Connect; respond with `Connected` or `ConnectFailed`.
    Dial,
    /// Send a request; respond with `Replied`, `TooLong` or `Disconnected`.
    Send {
        /// The request's id.
        id: u64,
        /// The request.
        call: Call,
    },
    /// Store a batch after those of earlier `Apply` actions; respond with `Applied`, `ApplyFailed`, `NotApplied` or
    /// `Lacks`. Up to [`BATCHES_IN_PROGRESS`](thrum_core::limits::BATCHES_IN_PROGRESS) batches wait for their responses, which come
    /// in order. A batch must not be stored if the one before it was not.
    Apply {
        /// The peer's log; empty for a legacy peer.
        log: String,
        /// The checkpoint to store with the batch; 0 leaves the stored one unchanged.
        checkpoint: u64,
        /// For a legacy peer, the id of the event at the checkpoint; otherwise empty.
        checkpoint_event: String,
        /// The served events.
        events: Vec<Served>,
    },
    /// Drop the connection, or the dial in progress.
    Close,
    /// Record that the peer accepts our token.
    NoteWelcome,
    /// Record that the peer does not know our token.
    NoteRemoved,
}
