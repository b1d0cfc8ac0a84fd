//! Whose log this database is: the rules for one that is not the one we left.
//!
//! A log of ours is numbered without holes, and peers remember how far they read it. A database that was restored from a
//! backup, replaced or lost would hand out the same numbers again for other events. So every life of the database has its
//! own `log_id`, and a counter of openings that is kept twice: here, and beside the database. The database commits first;
//! equal or one ahead is the one we left, unless it ends before where we left it; anything else is not. Then a new log begins, its sequences so high that readers who
//! know no `log_id` find them above every checkpoint they may hold.

use rusqlite::{Connection, OptionalExtension};
use thrum_core::{Ambient, Stamp};

use crate::{StoreError, fold};

/// What is written beside the database (`daemon.json`) to recognise it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Its `log_id`.
    pub log_id: String,
    /// How often it was opened.
    pub counter: u64,
    /// Up to where it went at least, when somebody last wrote that down. A copy of its file that was made before and put back
    /// within one run of the daemon has the same counter, and ends earlier.
    pub sequence: u64,
}

/// What only a COMMIT may move on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) log_id: std::sync::Arc<str>,
    pub(crate) next_sequence: u64,
    pub(crate) next_origin_seq: u64,
    /// Of our last event; the next one is later.
    pub(crate) last_at: Stamp,
    /// The latest that any event of ours has. Later than `last_at` after a clock that was ahead was put right.
    pub(crate) highest_at: Stamp,
    /// What the clock showed when something was last written.
    pub(crate) clock_at: Stamp,
    pub(crate) open_counter: u64,
}

impl Counters {
    /// Begins a new log whose sequences lie above all that any reader of an earlier one has seen.
    pub(crate) fn begin_log(&mut self, ambient: &mut dyn Ambient) {
        self.log_id = new_log_id(ambient).into();
        self.next_origin_seq = 1;
        // A clock that is not set would begin below what readers have seen.
        self.next_sequence = self.next_sequence.max(ambient.now().max(Stamp::PLAUSIBLE).seconds() << 20);
    }

    pub(crate) fn save(&self, conn: &Connection) -> Result<(), StoreError> {
        conn.prepare_cached(
            "UPDATE state SET log_id = ?1, next_sequence = ?2, next_origin_seq = ?3, last_at = ?4, open_counter = ?5, highest_at = ?6,
                 clock_at = ?7 WHERE one = 1",
        )?
        .execute((
            self.log_id.as_ref(),
            self.next_sequence,
            self.next_origin_seq,
            self.last_at.nanos(),
            self.open_counter,
            self.highest_at.nanos(),
            self.clock_at.nanos(),
        ))?;
        Ok(())
    }
}

fn new_log_id(ambient: &mut dyn Ambient) -> String {
    format!("{:016x}", ambient.random_u64())
}

/// Reads the counters and counts this opening, durably. `left` is what stood beside the database, `new_log` a reason from
/// outside to begin a new log (the directory was moved or copied).
pub(crate) fn open(conn: &mut Connection, left: Option<&Left>, new_log: bool, ambient: &mut dyn Ambient) -> Result<Counters, StoreError> {
    let tx = conn.transaction()?;
    let found = tx
        .query_row("SELECT log_id, next_sequence, next_origin_seq, last_at, open_counter, highest_at, clock_at FROM state", [], |row| {
            Ok(Counters {
                log_id: row.get::<_, String>(0)?.into(),
                next_sequence: row.get(1)?,
                next_origin_seq: row.get(2)?,
                last_at: Stamp::from_nanos(row.get(3)?),
                open_counter: row.get(4)?,
                highest_at: Stamp::from_nanos(row.get(5)?),
                clock_at: Stamp::from_nanos(row.get(6)?),
            })
        })
        .optional()?;
    let counters = match found {
        Some(mut counters) => {
            let is_ours = left.is_some_and(|left| {
                let counts = counters.open_counter == left.counter || counters.open_counter == left.counter + 1;
                *left.log_id == *counters.log_id && counts && counters.next_sequence > left.sequence
            });
            if !is_ours || new_log {
                counters.begin_log(ambient);
            }
            counters.open_counter += 1;
            counters.save(&tx)?;
            counters
        }
        None => {
            let mut counters = Counters {
                log_id: new_log_id(ambient).into(),
                next_sequence: 1,
                next_origin_seq: 1,
                last_at: Stamp::ZERO,
                open_counter: 1,
                highest_at: Stamp::ZERO,
                clock_at: Stamp::ZERO,
            };
            if left.is_some() || new_log {
                // There was a database before this one.
                counters.begin_log(ambient);
            }
            tx.execute(
                "INSERT INTO state (one, log_id, next_sequence, next_origin_seq, last_at, open_counter, fold_version)
                 VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6)",
                (counters.log_id.as_ref(), counters.next_sequence, counters.next_origin_seq, 0, counters.open_counter, fold::VERSION),
            )?;
            counters
        }
    };
    tx.commit()?;
    Ok(counters)
}
