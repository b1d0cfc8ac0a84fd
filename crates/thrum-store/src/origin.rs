//! Detects whether a database is the one we left, and begins a new log if not.
//!
//! Our log is numbered, and peers remember how far they have read it. A database that was restored from a backup,
//! replaced or lost would assign the same sequences again to other events. Therefore every life of the database has its
//! own `log_id` and a counter of openings that is stored twice: in the database and beside it. The database commits
//! first. If the ids are equal and the database's counter equals the other one or is one ahead, it is the database we
//! left, unless it ends at a lower sequence than recorded. In all other cases a new log begins. The sequences of the
//! new log are so high that readers without support for `log_id` find them above every checkpoint they may hold.

use rusqlite::{Connection, OptionalExtension};
use thrum_core::{Ambient, Timestamp};

use crate::StoreError;

/// The store fingerprint: written beside the database (`daemon.json`) to recognise the database again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreFingerprint {
    /// The database's `log_id`.
    pub log_id: String,
    /// Number of times the database was opened.
    pub counter: u64,
    /// The last sequence of the database when the fingerprint was written; since then it can only have become higher.
    /// An earlier copy of the file that was restored within one run of the daemon has the same counter, but ends
    /// earlier.
    pub sequence: u64,
}

/// Counters that only a COMMIT may advance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) log_id: std::sync::Arc<str>,
    pub(crate) next_sequence: u64,
    pub(crate) next_origin_seq: u64,
    /// Time after which our next event is stamped: that of our last event, unless our clock was far ahead meanwhile.
    pub(crate) last_at: Timestamp,
    /// The latest time of any own event. Later than `last_at` once a clock that was ahead has been corrected.
    pub(crate) highest_at: Timestamp,
    /// The latest time that the clock showed at a write, since the clock was last corrected.
    pub(crate) clock_at: Timestamp,
    pub(crate) open_counter: u64,
    /// Number of rows in the table `messages`.
    pub(crate) messages: u64,
}

impl Counters {
    /// Begins a new log whose sequences lie above all that a reader of an earlier log has seen.
    pub(crate) fn begin_log(&mut self, ambient: &mut dyn Ambient) {
        self.log_id = new_log_id(ambient).into();
        self.next_origin_seq = 1;
        // With a clock that is not set, the log would begin below sequences that readers have seen.
        self.next_sequence = self.next_sequence.max(ambient.now().max(Timestamp::PLAUSIBLE).seconds() << 20);
    }

    pub(crate) fn save(&self, conn: &Connection) -> Result<(), StoreError> {
        conn.prepare_cached(
            "UPDATE state SET log_id = ?1, next_sequence = ?2, next_origin_seq = ?3, last_at = ?4, open_counter = ?5, highest_at = ?6,
                 clock_at = ?7, messages = ?8 WHERE one = 1",
        )?
        .execute((
            self.log_id.as_ref(),
            self.next_sequence,
            self.next_origin_seq,
            self.last_at.nanos(),
            self.open_counter,
            self.highest_at.nanos(),
            self.clock_at.nanos(),
            self.messages,
        ))?;
        Ok(())
    }
}

fn new_log_id(ambient: &mut dyn Ambient) -> String {
    format!("{:016x}", ambient.random_u64())
}

/// Reads the counters and durably counts this opening. `fingerprint` is the one found beside the database. With
/// `new_log`, a new log begins in any case, for example because the directory was moved or copied. A new database is
/// marked as folded by `fold_version`, because there is nothing to fold.
pub(crate) fn open(
    conn: &mut Connection,
    fingerprint: Option<&StoreFingerprint>,
    new_log: bool,
    fold_version: i64,
    ambient: &mut dyn Ambient,
) -> Result<Counters, StoreError> {
    let tx = conn.transaction()?;
    let found = tx
        .query_row(
            "SELECT log_id, next_sequence, next_origin_seq, last_at, open_counter, highest_at, clock_at, messages FROM state",
            [],
            |row| {
                Ok(Counters {
                    log_id: row.get::<_, String>(0)?.into(),
                    next_sequence: row.get(1)?,
                    next_origin_seq: row.get(2)?,
                    last_at: Timestamp::from_nanos(row.get(3)?),
                    open_counter: row.get(4)?,
                    highest_at: Timestamp::from_nanos(row.get(5)?),
                    clock_at: Timestamp::from_nanos(row.get(6)?),
                    messages: row.get(7)?,
                })
            },
        )
        .optional()?;
    let counters = match found {
        Some(mut counters) => {
            let is_ours = fingerprint.is_some_and(|fingerprint| {
                let counts =
                    counters.open_counter == fingerprint.counter || counters.open_counter == fingerprint.counter + 1;
                *fingerprint.log_id == *counters.log_id && counts && counters.next_sequence > fingerprint.sequence
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
                last_at: Timestamp::ZERO,
                open_counter: 1,
                highest_at: Timestamp::ZERO,
                clock_at: Timestamp::ZERO,
                messages: 0,
            };
            if fingerprint.is_some() || new_log {
                // A database existed before this one.
                counters.begin_log(ambient);
            }
            tx.execute(
                "INSERT INTO state (one, log_id, next_sequence, next_origin_seq, last_at, open_counter, fold_version)
                 VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6)",
                (
                    counters.log_id.as_ref(),
                    counters.next_sequence,
                    counters.next_origin_seq,
                    0,
                    counters.open_counter,
                    fold_version,
                ),
            )?;
            counters
        }
    };
    tx.commit()?;
    Ok(counters)
}
