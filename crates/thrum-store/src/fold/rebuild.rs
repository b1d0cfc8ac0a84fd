//! Folds the whole log again, or only its purges.
//!
//! The projection contains nothing that is not in the log, so it can be discarded: after a change of a rule
//! ([`super::VERSION`]), after rows were lost, or to check that the digest is the same. Cutoffs and the ids that purges
//! list are an exception. The events that they removed are no longer in the log, so a rebuild keeps both. They are only
//! taken back if a wrong clock made them due ([`reconsider`]).
//!
//! Example: a database of an earlier version is opened. [`rebuild`] deletes all rows except these, folds the purges,
//! sweeps the events that they remove, and then folds the remaining events in sequence.

use thrum_core::{Payload, limits};

use super::{events, finish};
use crate::{StoreError, Tx, cutoff, transaction_room::Room};

/// Number of rows of the log that are looked up at once.
const CHUNK: usize = 1000;

/// Discards the projection and folds the whole log in one transaction: half a projection would show read mail as
/// unread, and agents that are gone. One event is in memory at a time, plus about `Deferred::MOST` names of targets to
/// be recomputed.
pub(crate) fn rebuild(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    find_targets(tx)?;
    tx.conn.execute_batch(
        "DELETE FROM parked; DELETE FROM messages; DELETE FROM audience; DELETE FROM agents; DELETE FROM cleanups;
         DELETE FROM former_homes; DELETE FROM residences; DELETE FROM mailbox; DELETE FROM receipts; DELETE FROM revisions;
         DELETE FROM pending; DELETE FROM sessions; DELETE FROM contexts; DELETE FROM claims; DELETE FROM presences;
         DELETE FROM wakes;",
    )?;
    tx.progress.counters.messages = 0;
    // Purges first: events that they remove must not be folded. A cutoff that was due once stays, even if the clock was
    // set back since, because the events that it removed do not come back either.
    tx.rebuilds = true;
    tx.room = Room::ALL;
    tx.frontier = tx.progress.counters.next_sequence - 1;
    purges(tx)?;
    tx.deferred.purge = true;
    finish(tx)?;
    let mut after = 0;
    loop {
        let chunk = chunk(tx, "SELECT sequence FROM events WHERE sequence > ?1 ORDER BY sequence LIMIT ?2", after)?;
        let Some(last) = chunk.last() else { break };
        after = *last;
        for sequence in chunk {
            let event = events::at(tx, sequence)?;
            tx.frontier = sequence;
            super::fold(tx, &event, sequence, Payload::read(&event.kind, &event.body))?;
        }
        if tx.deferred.is_full() {
            finish(tx)?;
        }
    }
    finish(tx)?;
    tx.conn.execute("UPDATE state SET fold_version = ?1, mailboxes_of = ?2", (super::VERSION, tx.home()))?;
    Ok(())
}

/// Adds the target to the rows of events whose type an earlier version did not know when it stored them.
fn find_targets(tx: &Tx<'_>) -> Result<(), StoreError> {
    let mut after = 0;
    loop {
        let sql = "SELECT sequence FROM events WHERE sequence > ?1 AND target IS NULL ORDER BY sequence LIMIT ?2";
        let chunk = chunk(tx, sql, after)?;
        let Some(last) = chunk.last() else { return Ok(()) };
        after = *last;
        for sequence in chunk {
            let event = events::at(tx, sequence)?;
            if let Some(target) = Payload::read(&event.kind, &event.body).ok().as_ref().and_then(Payload::target) {
                tx.conn
                    .prepare_cached("UPDATE event_rows SET target = ?2 WHERE sequence = ?1")?
                    .execute((sequence, target))?;
            }
        }
    }
}

/// Returns up to [`CHUNK`] sequences that a statement finds after the sequence `after`.
fn chunk(tx: &Tx<'_>, sql: &str, after: u64) -> Result<Vec<u64>, StoreError> {
    let mut statement = tx.conn.prepare_cached(sql)?;
    Ok(statement.query_map((after, CHUNK), |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// Folds all purges in the log, one at a time.
fn purges(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    for sequence in events::sequences(tx, "type = ?1", "purge.executed")? {
        let event = events::at(tx, sequence)?;
        super::fold(tx, &event, sequence, Payload::read(&event.kind, &event.body))?;
    }
    Ok(())
}

/// Takes back purges that lie more than [`limits::PURGE_AHEAD`] in the future of the corrected clock: each cutoff that
/// lies so far ahead is determined again from the purges in the log. Events that were removed here stay removed, but
/// are accepted again if a peer serves them. Cutoffs less far ahead stay, because the current clock may be the wrong
/// one, and because the log may lack the purge of a cutoff: purges are forgotten with the peer that brought them, but
/// their cutoffs stay (`forget.rs`).
pub(crate) fn reconsider(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    let latest = tx.now().plus(limits::PURGE_AHEAD);
    if cutoff::highest(tx.conn)? <= latest {
        return Ok(());
    }
    tx.conn.execute(
        "DELETE FROM purged_ahead WHERE origin IN (SELECT origin FROM cutoffs WHERE cutoff > ?1)",
        [latest.nanos()],
    )?;
    tx.conn.execute("DELETE FROM cutoffs WHERE cutoff > ?1", [latest.nanos()])?;
    tx.cutoffs_changed();
    purges(tx)
}
