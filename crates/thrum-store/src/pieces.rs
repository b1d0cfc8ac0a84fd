//! Splits a peer's batch into pieces.
//!
//! A batch may hold a thousand events, and a transaction blocks all other writes. So a batch is stored in several small
//! pieces, and only the last one moves the peer's checkpoint (I4: the checkpoint is never ahead of the events). After
//! an interruption the peer serves the same batch again, and stored events are skipped.

use thrum_core::{
    Event, Payload, SetDigest,
    exchange::{Applied, Batch},
};

use crate::transaction_room::{PIECE, PIECE_BYTES};

/// Splits a batch into pieces, in order. There is at least one piece, and the last one has the checkpoint.
pub(crate) fn pieces(mut batch: Batch) -> Vec<Batch> {
    let mut pieces = Vec::new();
    let piece = |batch: &Batch| Batch { checkpoint: 0, events: Vec::new(), rejected: Vec::new(), ..batch.clone() };
    let (events, mut rejected) =
        (std::mem::take(&mut batch.events), std::mem::take(&mut batch.rejected).into_iter().peekable());
    while rejected.peek().is_some() {
        pieces.push(Batch { rejected: rejected.by_ref().take(PIECE).collect(), ..piece(&batch) });
    }
    let (mut now, mut bytes) = (piece(&batch), 0);
    for event in events {
        bytes += event.body.len();
        if !now.events.is_empty() && (now.events.len() == PIECE || bytes > PIECE_BYTES) {
            bytes = event.body.len();
            pieces.push(std::mem::replace(&mut now, piece(&batch)));
        }
        now.events.push(event);
    }
    pieces.push(Batch { checkpoint: batch.checkpoint, ..now });
    pieces
}

/// The parts of an event that can be computed from its body without the database. For a body of several megabytes this
/// takes as long as storing it, so it is done before the transaction, on the thread of the caller.
pub(crate) struct Content {
    pub(crate) payload: serde_json::Result<Payload>,
    /// The event's contribution to the digest of its log.
    pub(crate) sum: SetDigest,
}

impl Content {
    pub(crate) fn of(event: &Event) -> Self {
        Self { payload: Payload::read(&event.kind, &event.body), sum: SetDigest::of(event.body.as_bytes()) }
    }

    /// The contents of a piece's events, in order.
    pub(crate) fn all(piece: &Batch) -> Vec<Self> {
        piece.events.iter().map(Self::of).collect()
    }
}

/// The combined result of two parts of a batch.
pub(crate) fn sum(one: Applied, other: Applied) -> Applied {
    Applied {
        applied: one.applied + other.applied,
        skipped: one.skipped + other.skipped,
        referred: one.referred + other.referred,
        collided: one.collided + other.collided,
        rejected: one.rejected + other.rejected,
        purged: one.purged || other.purged,
    }
}
