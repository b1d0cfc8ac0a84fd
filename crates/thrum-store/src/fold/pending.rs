//! What one transaction leaves for the next ones, because there is no telling how much it is.
//!
//! An event may concern any number of others: a message may come after a hundred thousand receipts for it. What has to be done with
//! each of them is written down in the table `pending` and worked off in pieces, each in a transaction that also writes down how far it
//! got. So nobody waits longer than for one piece, and a process that is killed goes on where it was.
//!
//! Nothing of what is pending changes what daemons compare: an event is in the projection from the moment it is stored.
//!
//! * `arrived`: a message is here, and what waited for it waits no more. It is listed as parked no longer, and moves behind the message
//!   in the log, for peers that read rows in order and cannot keep what they cannot apply yet.

use rusqlite::{Connection, OptionalExtension};

use super::{message, unpark};
use crate::{StoreError, Tx};

const ARRIVED: &str = "arrived";

/// Most rows that one transaction works off: some ten milliseconds.
const PIECE: usize = 100;

/// How much pending work a transaction may still do.
#[derive(Debug)]
pub(crate) struct Room(usize);

impl Default for Room {
    fn default() -> Self {
        Self(PIECE)
    }
}

impl Room {
    /// For a transaction that leaves nothing to others.
    pub(crate) const ALL: Self = Self(usize::MAX);
}

/// Whether anything is left to be done.
pub(crate) fn is_pending(conn: &Connection) -> Result<bool, StoreError> {
    Ok(conn.prepare_cached("SELECT 1 FROM pending LIMIT 1")?.exists([])?)
}

/// The first creation of a message came, with this number, and something waited for it.
pub(super) fn arrived(tx: &mut Tx<'_>, message_id: &str, created: u64) -> Result<(), StoreError> {
    tx.conn.prepare_cached("INSERT OR REPLACE INTO pending VALUES (?1, ?2, 0, ?3)")?.execute((ARRIVED, message_id, created))?;
    // At once, as far as there is room: what comes after the message then stands behind what waited for it.
    work(tx)
}

/// The message is gone again, or all about it is folded anew.
pub(super) fn gone(tx: &Tx<'_>, message_id: &str) -> Result<(), StoreError> {
    tx.conn.prepare_cached("DELETE FROM pending WHERE work = ?1 AND target = ?2")?.execute((ARRIVED, message_id))?;
    Ok(())
}

/// Does as much of it as this transaction has room for.
pub(crate) fn work(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    while tx.room.0 > 0 {
        let first = tx
            .conn
            .prepare_cached("SELECT target, after, upto FROM pending WHERE work = ?1 LIMIT 1")?
            .query_row([ARRIVED], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let Some((message_id, after, upto)) = first else { break };
        release(tx, message_id, after, upto)?;
    }
    Ok(())
}

/// Looks at the next events that stand before the message they are about.
fn release(tx: &mut Tx<'_>, message_id: String, after: u64, upto: u64) -> Result<(), StoreError> {
    // A purge may have taken it meanwhile: then they wait again.
    if !message::is_here(tx.conn, &message_id)? {
        return gone(tx, &message_id);
    }
    let mut places = Vec::new();
    let most = tx.room.0.min(PIECE);
    for kind in ["message.edit", "message.delete", "message.receipt"] {
        let mut statement = tx.conn.prepare_cached(
            "SELECT sequence FROM events WHERE target = ?1 AND type = ?2 AND sequence > ?3 AND sequence < ?4 ORDER BY sequence LIMIT ?5",
        )?;
        for place in statement.query_map((&message_id, kind, after, upto, most), |row| row.get::<_, u64>(0))? {
            places.push(place?);
        }
    }
    places.sort_unstable();
    places.truncate(most);
    for place in &places {
        let event = super::at_place(tx, *place)?;
        if !message::stays_parked(tx, &event, &message_id)? {
            unpark(tx, &event)?;
        }
        if !tx.rebuilds {
            message::move_behind(tx, &event, *place)?;
        }
    }
    tx.room.0 = tx.room.0.saturating_sub(places.len().max(1));
    match places.last() {
        Some(last) if places.len() == most => {
            let mut statement = tx.conn.prepare_cached("UPDATE pending SET after = ?3 WHERE work = ?1 AND target = ?2")?;
            statement.execute((ARRIVED, &message_id, last))?;
            Ok(())
        }
        _ => gone(tx, &message_id),
    }
}
