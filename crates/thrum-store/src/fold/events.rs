//! Reads the log for refolds: with [`each`] and [`load`] only events that are folded already and that no purge removes.
//!
//! A rule that recomputes something reads all events about one target. During a rebuild of the whole log, later events
//! must not be visible yet, or they would be folded twice: [`Tx::frontier`](crate::Tx) is the last visible sequence.
//! During a purge, some of the rows to be removed are still present; [`each`] and [`load`] skip them.
//!
//! Example: a session is recomputed during a purge. One of its starts stays, and another one by a daemon whose events
//! the purge removes is still in the log. [`each`] passes only the first, as it would after the purge.

use thrum_core::{Event, Timestamp};

use super::pending;
use crate::{
    StoreError, Tx,
    cutoff::{self, Aged},
};

const EVENT_COLUMNS: &str = "sequence, event_id, type, at, origin_daemon, origin_log, origin_seq, body";

fn read_event(row: &rusqlite::Row<'_>) -> rusqlite::Result<(Event, u64)> {
    let event = Event {
        id: row.get(1)?,
        kind: row.get(2)?,
        at: Timestamp::from_nanos(row.get(3)?),
        origin: row.get(4)?,
        log: row.get(5)?,
        seq: row.get(6)?,
        body: row.get(7)?,
    };
    Ok((event, row.get(0)?))
}

/// Passes the events folded so far that satisfy the SQL `condition`, in which `?1` is `value`, one at a time and
/// unordered, because together they may not fit into memory. Skips events that a purge in progress removes.
pub(super) fn each(
    tx: &Tx<'_>,
    condition: &str,
    value: &str,
    mut found: impl FnMut(Event, u64) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let sweeping = pending::is_sweeping(tx.conn)?;
    let mut statement = tx
        .conn
        .prepare_cached(&format!("SELECT {EVENT_COLUMNS}, target FROM events WHERE {condition} AND sequence <= ?2"))?;
    let mut rows = statement.query((value, tx.frontier))?;
    while let Some(row) = rows.next()? {
        let (event, sequence) = read_event(row)?;
        let target = row.get_ref(8)?.as_str_or_null().map_err(rusqlite::Error::from)?;
        if sweeping && cutoff::is_purged(tx.conn, Aged::of(&event, target), tx.cutoff()?)? {
            continue;
        }
        found(event, sequence)?;
    }
    Ok(())
}

/// Returns the events that [`each`] passes, ordered by sequence.
pub(super) fn load(tx: &Tx<'_>, condition: &str, value: &str) -> Result<Vec<(Event, u64)>, StoreError> {
    let mut events = Vec::new();
    each(tx, condition, value, |event, sequence| {
        events.push((event, sequence));
        Ok(())
    })?;
    events.sort_unstable_by_key(|(_, sequence)| *sequence);
    Ok(events)
}

/// Returns the sequences of the events folded so far that satisfy the SQL `condition`, in which `?1` is `value`,
/// including events that a purge in progress removes.
pub(super) fn sequences(tx: &Tx<'_>, condition: &str, value: &str) -> Result<Vec<u64>, StoreError> {
    let mut statement =
        tx.conn.prepare_cached(&format!("SELECT sequence FROM events WHERE {condition} AND sequence <= ?2"))?;
    let mut sequences: Vec<u64> =
        statement.query_map((value, tx.frontier), |row| row.get(0))?.collect::<Result<_, _>>()?;
    // Sort here: SQLite parses a cached statement again at every use if the statement sorts, and this one runs for
    // every message that is refolded.
    sequences.sort_unstable();
    Ok(sequences)
}

/// The event with this sequence.
pub(super) fn at(tx: &Tx<'_>, sequence: u64) -> Result<Event, StoreError> {
    let mut statement = tx.conn.prepare_cached(&format!("SELECT {EVENT_COLUMNS} FROM events WHERE sequence = ?1"))?;
    Ok(statement.query_row([sequence], read_event)?.0)
}
