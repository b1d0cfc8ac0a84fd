//! Queries over the log: pages for peers, heads, checkpoints and counts.

use rusqlite::{OptionalExtension, Row as SqlRow};
use thrum_core::{
    Heads, SetDigest, Timestamp,
    exchange::{self, Checkpoint, Holder, LastRejected, LongEvents, Page, Row, Troubles},
    limits,
};

use crate::{
    Purged, Reader, StoreError, cutoff, digest, fold,
    parked_kind::{ParkedKind, WAITING_KINDS},
};

/// Maximum number of rows read for a backlog count: a few milliseconds.
const BACKLOG_COUNTED: u64 = 5000;

/// Counts of the store's contents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Number of events in the log.
    pub events: u64,
    /// Number of messages, including deleted ones.
    pub messages: u64,
    /// Number of registered agents, here and elsewhere.
    pub agents: u64,
    /// Number of events of other origins that are parked and wait for a missing event, their time or a later version.
    /// Own events do not count: they are folded when they are written, and wait at most for events that this database
    /// has lost or forgotten since.
    pub parked: u64,
    /// Number of events that peers served and that were rejected: the sum of [`Troubles::rejected`]. Removing a peer
    /// subtracts its events.
    pub rejected: u64,
}

/// The columns of a [`Row`].
pub(super) const ROW_COLUMNS: &str = "sequence, event_id, type, origin_daemon, body";

/// Reads a [`Row`] from the first columns of a query, which are [`ROW_COLUMNS`].
pub(super) fn read_row(row: &SqlRow<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        sequence: row.get(0)?,
        id: row.get(1)?,
        kind: row.get(2)?,
        origin: row.get(3)?,
        body: row.get(4)?,
        reference: None,
    })
}

/// Reads a text column without copying it.
fn text<'a>(row: &'a SqlRow<'_>, column: usize) -> rusqlite::Result<&'a str> {
    Ok(row.get_ref(column)?.as_str()?)
}

impl Reader<'_> {
    /// Returns the rows above `after`, at most `max_events` and `max_bytes` of bodies, but at least one if there is
    /// any.
    ///
    /// # Errors
    /// SQLite's.
    pub fn page(&self, after: u64, max_events: usize, max_bytes: usize) -> Result<Page, StoreError> {
        self.page_of(after, max_events, max_bytes, None)
    }

    /// Returns the rows above `after` like [`page`](Self::page). Rows whose events `holder` is assumed to hold are
    /// references.
    ///
    /// # Errors
    /// SQLite's.
    pub fn page_for(
        &self,
        holder: Holder<'_>,
        after: u64,
        max_events: usize,
        max_bytes: usize,
    ) -> Result<Page, StoreError> {
        self.page_of(after, max_events, max_bytes, Some(holder))
    }

    fn page_of(
        &self,
        after: u64,
        max_events: usize,
        max_bytes: usize,
        holder: Option<Holder<'_>>,
    ) -> Result<Page, StoreError> {
        // Sequences are SQLite integers; no row lies above the largest.
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let mut statement = self.conn.prepare_cached(
            "SELECT sequence, event_id, type, origin_daemon, body, received_from FROM events
             WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
        )?;
        let mut rows = statement.query((after, max_events.saturating_add(1)))?;
        let mut page = Page::default();
        let mut bytes = 0;
        while let Some(row) = rows.next()? {
            let row = match holder {
                Some(holder) if holder.holds(text(row, 3)?, text(row, 5)?) => Row {
                    sequence: row.get(0)?,
                    id: row.get(1)?,
                    kind: row.get(2)?,
                    origin: row.get(3)?,
                    body: String::new(),
                    reference: Some(exchange::short_digest(text(row, 4)?)),
                },
                _ => read_row(row)?,
            };
            bytes += row.body.len();
            if !page.rows.is_empty() && (page.rows.len() == max_events || bytes > max_bytes) {
                page.more = true;
                break;
            }
            page.rows.push(row);
        }
        Ok(page)
    }

    /// Returns the ids of events that a legacy peer cannot store, among the newest `max` events longer than
    /// [`LEGACY_LONG_BYTES`](limits::LEGACY_LONG_BYTES). Those beyond [`LEGACY_LINE_BYTES`](limits::LEGACY_LINE_BYTES)
    /// are too long in any case and are not read. For the others `is_too_long` decides, with one body in memory at a
    /// time.
    ///
    /// # Errors
    /// SQLite's.
    pub fn long_events(&self, max: usize, is_too_long: fn(&str) -> bool) -> Result<LongEvents, StoreError> {
        const { assert!(limits::LEGACY_LONG_BYTES == 170_000, "the index and this statement contain the number") };
        // The condition must match the condition of the index literally.
        let mut statement = self.conn.prepare_cached(
            "SELECT event_id, sequence, octet_length(body) FROM events WHERE octet_length(body) > 170000
             ORDER BY sequence DESC LIMIT ?1",
        )?;
        let mut body = self.conn.prepare_cached("SELECT body FROM events WHERE sequence = ?1")?;
        let mut rows = statement.query([max])?;
        let (mut long, mut seen) = (LongEvents::default(), 0);
        while let Some(row) = rows.next()? {
            let (sequence, bytes): (u64, usize) = (row.get(1)?, row.get(2)?);
            if bytes > limits::LEGACY_LINE_BYTES
                || is_too_long(&body.query_row([sequence], |row| row.get::<_, String>(0))?)
            {
                long.ids.push(row.get(0)?);
            }
            seen += 1;
        }
        long.more = seen == max;
        Ok(long)
    }

    /// Returns the last sequence; 0 if the log is empty.
    ///
    /// # Errors
    /// SQLite's.
    pub fn latest(&self) -> Result<u64, StoreError> {
        Ok(self
            .conn
            .prepare_cached("SELECT coalesce(max(sequence), 0) FROM events")?
            .query_row([], |row| row.get(0))?)
    }

    /// The version vector: for each log, the number and the digest of the events that were stored, and of those purged
    /// since.
    ///
    /// # Errors
    /// SQLite's.
    pub fn heads(&self) -> Result<Heads, StoreError> {
        digest::heads(self.conn)
    }

    /// Computes the digest of the projection; reads the whole projection.
    ///
    /// # Errors
    /// SQLite's.
    pub fn projection(&self) -> Result<SetDigest, StoreError> {
        digest::projection(self.conn)
    }

    /// Returns the checkpoint of the peer's log that was read last; `None` if none was read.
    ///
    /// # Errors
    /// SQLite's.
    pub fn checkpoint(&self, peer: &str) -> Result<Option<Checkpoint>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT log, sequence, event_id FROM checkpoints WHERE peer = ?1 ORDER BY at DESC, log LIMIT 1",
        )?;
        let read =
            |row: &rusqlite::Row<'_>| Ok(Checkpoint { log: row.get(0)?, sequence: row.get(1)?, event: row.get(2)? });
        Ok(statement.query_row([peer], read).optional()?)
    }

    /// Returns `true` if all these events are stored. Each is given by its id and its
    /// [short digest](exchange::short_digest).
    ///
    /// # Errors
    /// SQLite's.
    pub fn holds_references(&self, references: &[(&str, &str)]) -> Result<bool, StoreError> {
        // More than one event may have the same id, each with another signer.
        let mut statement = self.conn.prepare_cached("SELECT body FROM events WHERE event_id = ?1")?;
        for (id, digest) in references {
            let mut rows = statement.query([id])?;
            let mut is_held = false;
            while let Some(row) = rows.next()? {
                is_held |= exchange::short_digest(text(row, 0)?) == *digest;
            }
            if !is_held {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns `true` if exactly this event is stored.
    ///
    /// # Errors
    /// SQLite's.
    pub fn holds(&self, event_id: &str, body: &str) -> Result<bool, StoreError> {
        let mut statement = self.conn.prepare_cached("SELECT 1 FROM events WHERE event_id = ?1 AND body = ?2")?;
        Ok(statement.exists((event_id, body))?)
    }

    /// Counts the rows above `after` that did not come from this peer. The count is exact up to some thousands of rows;
    /// beyond that it is an upper bound, because a status query must not become slower as the backlog grows.
    ///
    /// # Errors
    /// SQLite's.
    pub fn backlog(&self, peer: &str, after: u64) -> Result<u64, StoreError> {
        let above = i64::try_from(after).unwrap_or(i64::MAX);
        let mut counted = self.conn.prepare_cached(
            "SELECT count(*), coalesce(sum(received_from <> ?2), 0)
             FROM (SELECT received_from FROM events WHERE sequence > ?1 ORDER BY sequence LIMIT ?3)",
        )?;
        let (rows, backlog): (u64, u64) =
            counted.query_row((above, peer, BACKLOG_COUNTED), |row| Ok((row.get(0)?, row.get(1)?)))?;
        if rows < BACKLOG_COUNTED {
            return Ok(backlog);
        }
        // Sequences have gaps where events were removed or moved to the end, and a wide one where a new log began.
        Ok(self.latest()?.abs_diff(after).min(digest::heads(self.conn)?.total()))
    }

    /// Counts the problems with the events that this peer served.
    ///
    /// # Errors
    /// SQLite's.
    pub fn troubles(&self, peer: &str) -> Result<Troubles, StoreError> {
        let mut parked = self.conn.prepare_cached(&format!(
            "SELECT coalesce(sum(p.kind IN {WAITING_KINDS}), 0), coalesce(sum(p.kind = ?2), 0),
                    max(CASE WHEN p.kind = ?2 THEN e.sequence END)
             FROM parked p CROSS JOIN events e USING (event_id, signer) WHERE e.received_from = ?1",
        ))?;
        let (parked, without_effect, last_of_them): (u64, u64, Option<u64>) =
            parked.query_row((peer, ParkedKind::NotAllowed), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let mut reason = self.conn.prepare_cached(
            "SELECT e.event_id, p.reason || ' (' || coalesce(e.target, '') || ')'
             FROM events e JOIN parked p ON p.event_id = e.event_id AND p.signer = e.signer WHERE e.sequence = ?1",
        )?;
        let last_without_effect = match last_of_them {
            Some(sequence) => reason.query_row([sequence], |row| Ok((row.get(0)?, row.get(1)?))).optional()?,
            None => None,
        };
        let mut rejected =
            self.conn.prepare_cached("SELECT times, event_id, reason, at FROM rejections WHERE peer = ?1")?;
        let read = |row: &rusqlite::Row<'_>| {
            let last =
                LastRejected { event_id: row.get(1)?, reason: row.get(2)?, at: Timestamp::from_nanos(row.get(3)?) };
            Ok((row.get(0)?, Some(last)))
        };
        let (rejected, last) = rejected.query_row([peer], read).optional()?.unwrap_or_default();
        Ok(Troubles { without_effect, last_without_effect, parked, rejected, last })
    }

    /// Counts the store's contents.
    ///
    /// # Errors
    /// SQLite's.
    pub fn totals(&self) -> Result<Totals, StoreError> {
        let count = |sql: &str| -> Result<u64, StoreError> {
            Ok(self.conn.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
        };
        Ok(Totals {
            events: digest::heads(self.conn)?.total(),
            messages: count("SELECT messages FROM state")?,
            agents: count("SELECT count(*) FROM agents")?,
            parked: self
                .conn
                .prepare_cached(&format!("SELECT count(*) FROM parked WHERE kind IN {WAITING_KINDS} AND signer <> ?1"))?
                .query_row([self.home], |row| row.get(0))?,
            rejected: count("SELECT coalesce(sum(times), 0) FROM rejections")?,
        })
    }

    /// Counts what a purge of everything before a time would remove now.
    ///
    /// # Errors
    /// SQLite's.
    pub fn purge_preview(&self, before: Timestamp) -> Result<Purged, StoreError> {
        cutoff::preview(self.conn, before)
    }

    /// Returns `true` if the log still contains events to be purged.
    ///
    /// # Errors
    /// SQLite's.
    pub fn purge_goes_on(&self) -> Result<bool, StoreError> {
        fold::is_sweeping(self.conn)
    }

    /// Returns `true` while a mailbox of this daemon is being filled: any commit may then add old mail to it.
    ///
    /// # Errors
    /// SQLite's.
    pub fn mailbox_fills(&self) -> Result<bool, StoreError> {
        fold::is_filling(self.conn)
    }

    /// Returns `true` if a purge is due soon or still in progress; projections are not compared then.
    ///
    /// # Errors
    /// SQLite's.
    pub fn purge_waits(&self) -> Result<bool, StoreError> {
        fold::waits(self.conn)
    }
}
