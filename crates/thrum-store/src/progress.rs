//! Counters and heads that a transaction has changed but not yet written.
//!
//! A transaction assigns sequences, and events enter and leave logs. The resulting counters are not written event by
//! event, but together, usually as the last step before COMMIT. Until then a copy of the store's [`Progress`] holds
//! them. The store adopts the copy when COMMIT succeeds and drops it otherwise. If one job of a group fails, the copy
//! from before that job is restored. So only the sequences of events that were not stored are assigned again.
//!
//! Example: a batch brings three events of one log, and a purge removes two adjacent older ones. [`Progress::flush`]
//! updates the log's row of `heads` once, with three more events stored and two more purged, and adds one range to the
//! table `purged`.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension};
use thrum_core::{Event, RangeSet, SetDigest, limits};

use crate::{StoreError, numbers::Numbers, origin::Counters, purged_ranges, transaction_room};

/// An origin and the id of one of its logs.
type LogName = (String, String);

/// The counters of the store, and the changes that a transaction has not written yet. The store adopts them only at
/// COMMIT (I2), and those of a job only if the job succeeds.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) counters: Counters,
    pub(crate) by_source: BTreeMap<String, u64>,
    pub(crate) numbers: Numbers,
    heads: BTreeMap<LogName, Growth>,
    /// By peer and origin: the change in the number of events received, and in their bytes.
    received: BTreeMap<(String, String), (i64, i64)>,
    /// Origin sequences whose events leave the log in this transaction, purged or forgotten.
    gone: BTreeMap<LogName, RangeSet>,
    /// Origin sequences that were empty because their events were forgotten, and are filled again.
    restored: BTreeMap<LogName, RangeSet>,
    /// Origin sequences of events that a purge kept out. Peers choose these, so [`flush`](Self::flush) writes only a
    /// bounded number.
    kept_out: BTreeMap<LogName, RangeSet>,
    /// Whether the file must be rewritten, because of purged text or after a peer's events were removed.
    pub(crate) scrub: bool,
    /// The kind of pending work that was done last; the other kinds come first now.
    pub(crate) turn: String,
    /// Maximum number of rows of pending work per transaction.
    pub(crate) piece: usize,
}

#[derive(Clone, Debug, Default)]
struct Growth {
    count: u64,
    highest: u64,
    sum: SetDigest,
    purged: u64,
    purged_sum: SetDigest,
    /// Forgotten events that came back; until then they counted as purged.
    restored: u64,
    restored_sum: SetDigest,
    /// Events that were removed without a trace.
    dropped: u64,
    dropped_sum: SetDigest,
}

impl Progress {
    /// Counts all existing events as our own at first, so that every peer is notified once.
    pub(crate) fn new(counters: Counters) -> Self {
        let by_source = BTreeMap::from([(String::new(), counters.next_sequence - 1)]);
        Self {
            counters,
            by_source,
            numbers: Numbers::default(),
            heads: BTreeMap::new(),
            received: BTreeMap::new(),
            gone: BTreeMap::new(),
            restored: BTreeMap::new(),
            kept_out: BTreeMap::new(),
            scrub: false,
            turn: String::new(),
            piece: transaction_room::PIECE,
        }
    }

    pub(crate) fn count(&mut self, event: &Event, sum: SetDigest, source: &str, sequence: u64) {
        let growth = self.heads.entry((event.origin.clone(), event.log.clone())).or_default();
        growth.count += 1;
        growth.highest = growth.highest.max(event.seq);
        growth.sum.add(sum);
        match self.by_source.get_mut(source) {
            Some(latest) => *latest = sequence,
            None => {
                self.by_source.insert(source.to_owned(), sequence);
            }
        }
    }

    /// Counts events, and their bytes, as received from a peer; negative numbers if they leave the log.
    pub(crate) fn received(&mut self, peer: &str, origin: &str, events: i64, bytes: i64) {
        let change = self.received.entry((peer.to_owned(), origin.to_owned())).or_default();
        *change = (change.0 + events, change.1 + bytes);
    }

    /// Counts an event that a purge removes from the log.
    pub(crate) fn uncount(&mut self, origin: String, log: String, number: u64, sum: SetDigest) {
        let growth = self.heads.entry((origin.clone(), log.clone())).or_default();
        growth.purged += 1;
        growth.purged_sum.add(sum);
        self.gone.entry((origin, log)).or_default().add(number);
        self.scrub = true;
    }

    /// Counts an event that is forgotten: as purged if its origin sequence identifies it, otherwise as removed without
    /// a trace.
    pub(crate) fn forget(&mut self, origin: &str, log: &str, number: u64, sum: SetDigest) {
        let of = (origin.to_owned(), log.to_owned());
        let growth = self.heads.entry(of.clone()).or_default();
        if number > 0 {
            growth.purged += 1;
            growth.purged_sum.add(sum);
            self.gone.entry(of).or_default().add(number);
        } else {
            growth.dropped += 1;
            growth.dropped_sum.add(sum);
        }
    }

    /// Returns `true` if the event at the origin sequence of this one left the log in this transaction.
    pub(crate) fn is_gone(&self, event: &Event) -> bool {
        self.gone.get(&(event.origin.clone(), event.log.clone())).is_some_and(|gone| gone.contains(event.seq))
    }

    /// Counts a forgotten event that comes back.
    pub(crate) fn restore(&mut self, event: &Event, sum: SetDigest, source: &str, sequence: u64) {
        let of = (event.origin.clone(), event.log.clone());
        let growth = self.heads.entry(of.clone()).or_default();
        growth.restored += 1;
        growth.restored_sum.add(sum);
        self.restored.entry(of).or_default().add(event.seq);
        self.by_source.insert(source.to_owned(), sequence);
    }

    /// Records an event that a purge keeps out of the log, so that reconciliation does not request it.
    pub(crate) fn keep_out(&mut self, event: &Event) {
        if event.seq > 0 {
            self.kept_out.entry((event.origin.clone(), event.log.clone())).or_default().add(event.seq);
        }
    }

    /// Writes the counters and all recorded changes. The store does this as the last step before COMMIT.
    pub(crate) fn flush(&mut self, conn: &Connection) -> Result<(), StoreError> {
        if self.scrub {
            conn.execute("UPDATE state SET scrub = 1", [])?;
        }
        // Write in a fixed order, so that the same work writes the same pages: a simulated disk counts them.
        for ((origin, log), growth) in std::mem::take(&mut self.heads) {
            let known = conn
                .prepare_cached(
                    "SELECT count, highest, sum, purged, purged_sum FROM heads WHERE origin = ?1 AND log = ?2",
                )?
                .query_row((&origin, &log), |row| {
                    let sum = |column| row.get(column).map(SetDigest::from_bytes);
                    let (sum, purged_sum) = (sum(2)?, sum(4)?);
                    Ok(Growth {
                        count: row.get(0)?,
                        highest: row.get(1)?,
                        sum,
                        purged: row.get(3)?,
                        purged_sum,
                        ..Growth::default()
                    })
                });
            let mut now = known.optional()?.unwrap_or_default();
            now.sum.add(growth.sum);
            now.purged_sum.add(growth.purged_sum);
            now.sum.subtract(growth.dropped_sum);
            now.purged_sum.subtract(growth.restored_sum);
            let count = (now.count + growth.count).saturating_sub(growth.dropped);
            if count == 0 {
                conn.prepare_cached("DELETE FROM heads WHERE origin = ?1 AND log = ?2")?.execute((&origin, &log))?;
                continue;
            }
            conn.prepare_cached("INSERT OR REPLACE INTO heads VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?.execute((
                &origin,
                &log,
                count,
                now.highest.max(growth.highest),
                now.sum.to_bytes(),
                (now.purged + growth.purged).saturating_sub(growth.restored),
                now.purged_sum.to_bytes(),
            ))?;
        }
        for ((peer, origin), (events, bytes)) in std::mem::take(&mut self.received) {
            conn.prepare_cached(
                "INSERT INTO received (peer, origin, events, bytes) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET events = events + excluded.events, bytes = bytes + excluded.bytes",
            )?
            .execute((&peer, &origin, events, bytes))?;
            if events <= 0 {
                conn.prepare_cached("DELETE FROM received WHERE peer = ?1 AND origin = ?2 AND events <= 0")?
                    .execute((&peer, &origin))?;
            }
        }
        for ((origin, log), gone) in std::mem::take(&mut self.gone) {
            purged_ranges::add(conn, &origin, &log, &gone, usize::MAX)?;
        }
        for ((origin, log), restored) in std::mem::take(&mut self.restored) {
            purged_ranges::remove(conn, &origin, &log, &restored)?;
        }
        for ((origin, log), kept_out) in std::mem::take(&mut self.kept_out) {
            if has_head(conn, &origin, &log)? && purged_ranges::has_room(conn)? {
                purged_ranges::add(conn, &origin, &log, &kept_out, limits::MAX_KEPT_OUT_RUNS)?;
            }
        }
        self.counters.save(conn)
    }
}

/// Returns `true` if the store has, or had, events of this log. Ranges of events that were kept out are stored only for
/// such logs, because a peer can invent any number of others.
fn has_head(conn: &Connection, origin: &str, log: &str) -> Result<bool, StoreError> {
    Ok(conn.prepare_cached("SELECT 1 FROM heads WHERE origin = ?1 AND log = ?2")?.exists((origin, log))?)
}
