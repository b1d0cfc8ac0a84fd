//! Purges: one cutoff, the highest, hides what is older, whenever it comes.

use thrum_core::{Payload, Stamp, payload::PurgeExecuted};

use super::{At, Folded, message, session};
use crate::{StoreError, Tx};

/// Hides messages, receipts, sessions and contexts older than the cutoff, which is never later than the purge itself: a
/// purge cannot hide what is written after it.
pub(super) fn execute(tx: &mut Tx<'_>, at: At<'_>, body: &PurgeExecuted) -> Result<Folded, StoreError> {
    let Some(cutoff) = Stamp::parse(&body.cutoff) else {
        return Ok(Folded::Parked { reason: format!("its cutoff is no time: {}", body.cutoff), target: None, due: None });
    };
    if at.event.at > tx.now() {
        return Ok(Folded::Parked { reason: "it lies in the future".to_owned(), target: None, due: Some(at.event.at) });
    }
    let cutoff = cutoff.min(at.event.at);
    if cutoff <= super::cutoff(tx.conn)? {
        return Ok(Folded::Done);
    }
    tx.conn.prepare_cached("INSERT OR REPLACE INTO purge VALUES (1, ?1)")?.execute([cutoff.nanos()])?;
    purge_messages(tx, cutoff)?;
    session::purge_before(tx, cutoff)?;
    Ok(Folded::Done)
}

fn purge_messages(tx: &mut Tx<'_>, cutoff: Stamp) -> Result<(), StoreError> {
    let conn = tx.conn;
    let old: Vec<(u64, i64, String)> = {
        let mut statement = conn.prepare_cached("SELECT sequence, at, message_id FROM messages WHERE at < ?1")?;
        statement.query_map([cutoff.nanos()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect::<Result<_, _>>()?
    };
    for (sequence, at, message_id) in old {
        message::remove(conn, sequence, Stamp::from_nanos(at))?;
        message::refold_dependents(tx, &message_id)?;
        // A later creation of the same message was inert until now.
        for (event, number) in super::load(tx, "target = ?1 AND type = 'message.create'", &message_id)? {
            if event.at >= cutoff {
                super::fold(tx, &event, number, Payload::read(&event.kind, &event.body))?;
            }
        }
    }
    // A receipt older than its message comes from a clock that was wrong.
    let touched: Vec<(u64, String)> = {
        let mut statement = conn.prepare_cached(
            "SELECT DISTINCT m.sequence, m.message_id FROM receipts r JOIN messages m ON m.sequence = r.sequence
             WHERE r.seen_at < ?1 OR r.read_at < ?1",
        )?;
        statement.query_map([cutoff.nanos()], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?
    };
    for (sequence, message_id) in touched {
        message::refold_receipts(tx, sequence, &message_id)?;
    }
    Ok(())
}
