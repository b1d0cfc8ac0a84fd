//! Folds receipts (an agent has seen or read a message) and wake-ups (an agent was woken for a message).
//!
//! All receipts are stored under the message's id, whether or not the message is present, and per origin: a daemon's
//! receipts count for the agents whose home it is. So the table `receipts` determines whether an agent has read a
//! message ([`read_at_home`]), and the mailbox only caches the result.
//!
//! Example: a database was restored from a backup. A peer serves back our receipt that `coder` read `msg_1`, which is
//! not here yet. The receipt is stored and parked. When `msg_1` arrives, it enters the mailbox of `coder` as read.

use rusqlite::Connection;
use thrum_core::payload::{AgentWoken, MessageReceipt, ReceiptType};

use super::{
    former,
    message_row::held,
    parked::{self, Folded},
    rank::At,
};
use crate::{StoreError, Tx};

/// Folds a wake-up. The earliest time that a daemon reports counts. The wake-up is stored whether or not the message is
/// present.
pub(super) fn woken(conn: &Connection, at: At<'_>, body: &AgentWoken) -> Result<Folded, StoreError> {
    conn.prepare_cached(
        "INSERT INTO wakes (message_id, agent_id, origin, at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET at = min(at, excluded.at)",
    )?
    .execute((&body.message_id, &body.agent_id, &at.event.origin, at.event.at.nanos()))?;
    Ok(Folded::Done)
}

/// Folds a receipt. For each reader and origin the earliest times count; a receipt never makes the reader a recipient.
pub(super) fn receipt(tx: &Tx<'_>, at: At<'_>, body: &MessageReceipt) -> Result<Folded, StoreError> {
    let conn = tx.conn;
    let time = at.event.at.nanos();
    let read = match body.receipt_type {
        ReceiptType::Read => Some(time),
        ReceiptType::Seen => None,
    };
    conn.prepare_cached(
        "INSERT INTO receipts VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET
             seen_at = min(seen_at, excluded.seen_at),
             read_at = min(coalesce(read_at, excluded.read_at), coalesce(excluded.read_at, read_at))",
    )?
    .execute((&body.message_id, &body.agent_id, &at.event.origin, time, read))?;
    let Some(message) = held(conn, &body.message_id)? else {
        return parked::waits_for_message(tx, at, &body.message_id);
    };
    if read.is_some() {
        // A receipt by a former home counts at the agent's present home only if the receipt and its message are from
        // before the move. It also counts at its origin, because the agent may have been registered there again since.
        let home = former::live(conn, &body.agent_id, &at.event.origin, at.event.at.max(message.at))?;
        conn.prepare_cached(
            "UPDATE mailbox SET unread = 0 WHERE at = ?1 AND sequence = ?2
             AND owner IN (SELECT owner FROM agents WHERE agent_id = ?3 AND home IN (?4, ?5))",
        )?
        .execute((message.shown.nanos(), message.sequence, &body.agent_id, home, &at.event.origin))?;
    }
    Ok(Folded::Done)
}

/// SQL condition: the agent in row `a` has read a message, given by its id and time. Receipts by the home in that row
/// count, even if the agent once moved away from it. Receipts by another former home count only if message and receipt
/// are from before the move.
pub(super) fn read_at_home(message_id: &str, at: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM receipts r
                 WHERE r.message_id = {message_id} AND r.agent_id = a.agent_id AND r.read_at IS NOT NULL
                 AND (r.origin = a.home
                      OR EXISTS (SELECT 1 FROM former_homes f
                                 WHERE f.agent_id = a.agent_id AND f.former = r.origin AND f.home = a.home
                                 AND f.until > max(r.read_at, {at}))))"
    )
}
