//! Dispatches pending work to the files of its subjects, as far as a transaction has room.
//!
//! As `rules.rs` dispatches each event to its rule, this file dispatches each row of the queue (`pending.rs`) to the
//! function that does the work. The two are otherwise separate: a rule only queues work, and the work of one subject
//! never calls that of another.
//!
//! Example: a transaction has room for 100 rows. `arrived msg_1` takes 40 of them and is done. The next piece, of
//! `purge`, takes the other 60 and records the last sequence that it read.

use super::{
    mailbox, message,
    pending::{self, Pending},
    purge, refold, session,
};
use crate::{StoreError, Tx, transaction_room::PIECE};

/// Does as much of the pending work as this transaction has room for.
pub(crate) fn work(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    while tx.room.is_left() {
        let Some(next) = pending::next(tx.conn, &tx.progress.turn)? else { break };
        tx.progress.turn.clone_from(&next.work);
        piece(tx, next)?;
    }
    Ok(())
}

/// Does one piece of the work in one row, and records the progress.
fn piece(tx: &mut Tx<'_>, Pending { work, target, after, upto }: Pending) -> Result<(), StoreError> {
    let owner = || target.parse().unwrap_or_default();
    let left = match work.as_str() {
        pending::ARRIVED => message::release(tx, &target, after, upto)?,
        pending::FILL => mailbox::fill(tx, owner(), (after, upto))?,
        pending::PRUNE => mailbox::prune(tx, owner(), (after, upto))?,
        pending::PURGE => purge::sweep(tx, after)?.map(|after| (after, 0)),
        pending::REFOLD_CONTEXTS => refold::contexts(tx, after)?.map(|after| (after, 0)),
        pending::REFOLD_MESSAGE => {
            refold::message(tx, &target)?;
            tx.room.spend(PIECE);
            None
        }
        pending::REFOLD_SESSION => {
            session::refold(tx, &target)?;
            tx.room.spend(1);
            None
        }
        _ => None,
    };
    pending::keep(tx.conn, &work, &target, left)
}
