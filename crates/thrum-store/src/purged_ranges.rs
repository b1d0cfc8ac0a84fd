//! The ranges of origin sequences in a log that are empty because a purge removed the events or keeps them out, or
//! because they were forgotten with a removed peer: the table `purged`.
//!
//! When two daemons compare logs, each requests the events that it lacks, and purged events would be requested for
//! ever. So the origin sequences of purged events are stored as ranges, with one row per run instead of one per event.
//!
//! Example: 4 to 6 and 9 are purged, which are two rows. A purge removes 7 and 8: [`add`] leaves one row, 4 to 9. A
//! forgotten event 6 comes back: [`remove`] leaves 4 to 5 and 7 to 9.

use std::collections::BTreeSet;

use rusqlite::Connection;
use thrum_core::{RangeSet, limits};

use crate::StoreError;

/// The empty origin sequences of a log: of events that were purged, kept out or forgotten.
pub(crate) fn of_log(conn: &Connection, origin: &str, log: &str) -> Result<RangeSet, StoreError> {
    let mut statement = conn.prepare_cached("SELECT first, last FROM purged WHERE origin = ?1 AND log = ?2")?;
    let mut rows = statement.query((origin, log))?;
    let mut runs = RangeSet::default();
    while let Some(row) = rows.next()? {
        runs.insert(row.get(0)?..=row.get(1)?);
    }
    Ok(runs)
}

/// Records that origin sequences of a log are filled again.
pub(crate) fn remove(conn: &Connection, origin: &str, log: &str, restored: &RangeSet) -> Result<(), StoreError> {
    for run in restored.iter() {
        let (first, last) = run.into_inner();
        let overlapping: Vec<(u64, u64)> = conn
            .prepare_cached("DELETE FROM purged WHERE origin = ?1 AND log = ?2 AND last >= ?3 AND first <= ?4 RETURNING first, last")?
            .query_map((origin, log, first, last), |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        for (from, to) in overlapping {
            for (from, to) in
                [(from, first.saturating_sub(1)), (last + 1, to)].into_iter().filter(|(from, to)| from <= to)
            {
                conn.prepare_cached("INSERT INTO purged VALUES (?1, ?2, ?3, ?4)")?.execute((origin, log, from, to))?;
            }
        }
    }
    Ok(())
}

/// Returns `true` if the table has room for more ranges that peers cause.
pub(crate) fn has_room(conn: &Connection) -> Result<bool, StoreError> {
    let rows: usize = conn
        .prepare_cached("SELECT count(*) FROM (SELECT 1 FROM purged LIMIT ?1)")?
        .query_row([limits::MAX_KEPT_OUT_ROWS], |row| row.get(0))?;
    Ok(rows < limits::MAX_KEPT_OUT_ROWS)
}

/// Adds empty origin sequences of a log, except runs that would increase the log's runs to more than `most`. Writes
/// only the rows that change.
pub(crate) fn add(conn: &Connection, origin: &str, log: &str, gone: &RangeSet, most: usize) -> Result<(), StoreError> {
    let known = of_log(conn, origin, log)?;
    let mut all = known.clone();
    for run in gone.clone().without(&known).iter() {
        let before = all.len();
        all.insert(run.clone());
        if all.len() > before.max(most) {
            // The run touches none of the others, so only this run is removed.
            let mut beyond = RangeSet::default();
            beyond.insert(run);
            all.subtract(&beyond);
        }
    }
    let rows = |runs: &RangeSet| -> BTreeSet<(u64, u64)> { runs.iter().map(|run| run.into_inner()).collect() };
    let (known, all) = (rows(&known), rows(&all));
    for (first, _) in known.difference(&all) {
        conn.prepare_cached("DELETE FROM purged WHERE origin = ?1 AND log = ?2 AND first = ?3")?
            .execute((origin, log, first))?;
    }
    for (first, last) in all.difference(&known) {
        conn.prepare_cached("INSERT INTO purged VALUES (?1, ?2, ?3, ?4)")?.execute((origin, log, first, last))?;
    }
    Ok(())
}
