//! A batch of a peer, taken in pieces.
//!
//! A batch may hold a thousand events, and nobody else writes during a transaction. So it is stored in several: every piece is small, and
//! only the last one moves the peer's checkpoint (I4: the checkpoint is never ahead of the events). Whoever is interrupted in between
//! is served the same batch again, and what is stored of it already is skipped.

use thrum_core::exchange::{Applied, Batch};

/// Most events of a piece: ten to twenty milliseconds of work.
const EVENTS: usize = 100;

/// Most bytes of bodies in a piece, but for one event that is larger.
const BYTES: usize = 512 << 10;

/// Cuts a batch into pieces, in order. The last one has the checkpoint, and there is always one.
pub(crate) fn pieces(mut batch: Batch) -> Vec<Batch> {
    let mut pieces = Vec::new();
    let piece = |batch: &Batch| Batch { checkpoint: 0, events: Vec::new(), rejected: Vec::new(), ..batch.clone() };
    let (events, mut rejected) = (std::mem::take(&mut batch.events), std::mem::take(&mut batch.rejected).into_iter().peekable());
    while rejected.peek().is_some() {
        pieces.push(Batch { rejected: rejected.by_ref().take(EVENTS).collect(), ..piece(&batch) });
    }
    let (mut now, mut bytes) = (piece(&batch), 0);
    for event in events {
        bytes += event.body.len();
        if !now.events.is_empty() && (now.events.len() == EVENTS || bytes > BYTES) {
            bytes = event.body.len();
            pieces.push(std::mem::replace(&mut now, piece(&batch)));
        }
        now.events.push(event);
    }
    pieces.push(Batch { checkpoint: batch.checkpoint, ..now });
    pieces
}

/// What became of two parts of a batch.
pub(crate) fn sum(one: Applied, other: Applied) -> Applied {
    Applied {
        applied: one.applied + other.applied,
        skipped: one.skipped + other.skipped,
        collided: one.collided + other.collided,
        rejected: one.rejected + other.rejected,
        purged: one.purged || other.purged,
    }
}
