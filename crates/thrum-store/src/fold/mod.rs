//! The fold: derives the tables of the projection from the events.
//!
//! The projection must be a function of the *set* of events (I6): any order, any route and any repetition gives the
//! same digest. Two techniques achieve this. First, competing events are ordered by time, then event id, never by
//! arrival; for the creation of a message or session, the daemon that bound the id takes precedence (`rank.rs`).
//! Second, when an event changes what other events mean (a clean-up, a move of an agent, a further start of a session,
//! a purge), the target of those events is folded again from the log instead of being patched: once at the end of the
//! batch (`finish.rs`) or as pending work (`pending.rs`). The common case, an event that arrives after everything it
//! refers to, takes a few statements.
//!
//! No rule folds a purged event that arrives: `apply.rs` keeps such events out of the log. Those that are already in
//! the log are removed from it (`purge.rs`).
//!
//! An event that cannot be folded, or not yet, is parked with its reason; it is still in the log, the digest and the
//! relay (I5). Only one rule uses the clock: a purge that lies in the future waits until it is due.
//!
//! The files use each other in one direction:
//!
//! * above: [`fold`], `finish.rs` and `rebuild.rs` are called by the store; `work.rs` does the work in the queue;
//!   `refold.rs` rebuilds one message, or the work contexts and presences;
//! * in the middle: `rules.rs` dispatches an event to its rule, in the file of its subject: `message.rs`, `receipt.rs`,
//!   `agent.rs`, `cleanup.rs`, `session.rs`, `claim.rs`, `purge.rs`; `mailbox.rs` fills the mailbox of an agent;
//! * below: shared functions: `rank.rs`, `parked.rs`, `events.rs`, `pending.rs`, `message_row.rs`, `own_rows.rs`,
//!   `former.rs`, `residence.rs`, `audience.rs`.
//!
//! Files below do not call upwards, except that `residence.rs` asks `cleanup.rs` for clean-ups. A rule records
//! unfinished work in `Tx::deferred` or in the queue. A test forbids cycles (`thrum/tests/cli/modules.rs`).

mod agent;
pub(crate) mod audience;
mod claim;
mod cleanup;
mod events;
mod finish;
mod former;
mod mailbox;
mod message;
mod message_row;
mod own_rows;
mod parked;
mod pending;
mod purge;
mod rank;
mod rebuild;
mod receipt;
mod refold;
pub(crate) mod residence;
mod rules;
mod session;
mod work;

use thrum_core::{Event, Payload};

use crate::{StoreError, Tx, transaction_room::PIECE};
pub(crate) use finish::finish;
pub(crate) use message::withdraw as withdraw_message;
pub(crate) use own_rows::OwnRows;
use parked::Folded;
pub(crate) use pending::{is_filling, is_pending, is_sweeping};
pub(crate) use purge::waits;
pub(crate) use rebuild::{rebuild, reconsider};
pub(crate) use refold::message as refold_message;
pub(crate) use work::work;

/// Version of the fold rules; incremented with every change. A database folded by another version is folded again at
/// the next start.
pub(crate) const VERSION: i64 = 15;

/// Folds one event of the log.
pub(crate) fn fold(
    tx: &mut Tx<'_>,
    event: &Event,
    sequence: u64,
    payload: serde_json::Result<Payload>,
) -> Result<(), StoreError> {
    match rules::apply(tx, event, sequence, payload)? {
        // Release the waiting events at once, as far as there is room, so that later events about the message stand
        // behind them in the log.
        Folded::Awaited => work(tx),
        Folded::Done | Folded::Parked(_) => Ok(()),
    }
}

/// Folds the parked events that are due now, at most [`PIECE`]; returns their number.
pub(crate) fn due(tx: &mut Tx<'_>) -> Result<usize, StoreError> {
    let now = tx.now().nanos();
    let due: Vec<(String, String)> = {
        let mut statement = tx.conn.prepare_cached(
            "DELETE FROM parked WHERE (event_id, signer) IN (SELECT event_id, signer FROM parked WHERE due <= ?1 LIMIT ?2)
             RETURNING event_id, signer",
        )?;
        statement.query_map((now, PIECE), |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?
    };
    for (id, signer) in &due {
        for (event, sequence) in
            events::load(tx, "event_id = ?1", id)?.into_iter().filter(|(event, _)| event.signer() == signer)
        {
            fold(tx, &event, sequence, Payload::read(&event.kind, &event.body))?;
        }
    }
    finish(tx)?;
    Ok(due.len())
}
