//! The log: pages for peers, heads, checkpoints, counts.

use rusqlite::OptionalExtension;
use thrum_core::{
    Heads, Stamp, Sum,
    exchange::{Checkpoint, LastRejected, LongEvents, Page, Row, Troubles},
    limits,
};

use crate::{Purged, Reader, StoreError, digest, fold};

/// Rows looked at for a backlog: a few milliseconds.
const BACKLOG_COUNTED: u64 = 5000;

/// The reasons of what is parked and waits for nothing: the fold of messages lets only the author's daemon edit and delete. Should
/// an earlier creation by that daemon come, the fold still finds it.
const NOT_ALLOWED: &str = "% a message of another daemon";

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Events in the log.
    pub events: u64,
    /// Messages that are visible, deleted ones included.
    pub messages: u64,
    /// Agents registered, here and elsewhere.
    pub agents: u64,
    /// Events in the log that are not folded and wait for something.
    pub parked: u64,
    /// Events that stayed outside the log, ever.
    pub rejected: u64,
}

impl Reader<'_> {
    /// The rows above `after`, at most `max_events` and `max_bytes` of bodies, but at least one if there is any.
    ///
    /// # Errors
    /// SQLite's.
    pub fn page(&self, after: u64, max_events: usize, max_bytes: usize) -> Result<Page, StoreError> {
        // Sequences are SQLite integers; nothing lies above the largest.
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let mut statement = self.conn.prepare_cached(
            "SELECT sequence, event_id, type, origin_daemon, body FROM events WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
        )?;
        let mut rows = statement.query((after, max_events.saturating_add(1)))?;
        let mut page = Page::default();
        let mut bytes = 0;
        while let Some(row) = rows.next()? {
            let row = Row { sequence: row.get(0)?, id: row.get(1)?, kind: row.get(2)?, origin: row.get(3)?, body: row.get(4)? };
            bytes += row.body.len();
            if !page.rows.is_empty() && (page.rows.len() == max_events || bytes > max_bytes) {
                page.more = true;
                break;
            }
            page.rows.push(row);
        }
        Ok(page)
    }

    /// Events that an old peer cannot keep, among the newest `max` of more than
    /// [`LEGACY_LONG_BYTES`](limits::LEGACY_LONG_BYTES). Those beyond [`LEGACY_LINE_BYTES`](limits::LEGACY_LINE_BYTES) are too long
    /// in any case and are not read; of the others `is_too_long` is asked, and one body at a time is in memory.
    ///
    /// # Errors
    /// SQLite's.
    pub fn long_events(&self, max: usize, is_too_long: fn(&str) -> bool) -> Result<LongEvents, StoreError> {
        // The condition is that of the index, to the letter.
        let mut statement = self.conn.prepare_cached(
            "SELECT event_id, sequence, octet_length(body) FROM events WHERE octet_length(body) > 170000
             ORDER BY sequence DESC LIMIT ?1",
        )?;
        let mut body = self.conn.prepare_cached("SELECT body FROM events WHERE sequence = ?1")?;
        let mut rows = statement.query([max])?;
        let (mut long, mut seen) = (LongEvents::default(), 0);
        while let Some(row) = rows.next()? {
            let (sequence, bytes): (u64, usize) = (row.get(1)?, row.get(2)?);
            if bytes > limits::LEGACY_LINE_BYTES || is_too_long(&body.query_row([sequence], |row| row.get::<_, String>(0))?) {
                long.ids.push(row.get(0)?);
            }
            seen += 1;
        }
        long.more = seen == max;
        Ok(long)
    }

    /// The last sequence; 0 if there is none.
    ///
    /// # Errors
    /// SQLite's.
    pub fn latest(&self) -> Result<u64, StoreError> {
        Ok(self.conn.prepare_cached("SELECT coalesce(max(sequence), 0) FROM events")?.query_row([], |row| row.get(0))?)
    }

    /// What is held of every log.
    ///
    /// # Errors
    /// SQLite's.
    pub fn heads(&self) -> Result<Heads, StoreError> {
        digest::heads(self.conn)
    }

    /// The digest over the projection; reads all of it.
    ///
    /// # Errors
    /// SQLite's.
    pub fn projection(&self) -> Result<Sum, StoreError> {
        digest::projection(self.conn)
    }

    /// Which of a peer's logs was read last, and how far.
    ///
    /// # Errors
    /// SQLite's.
    pub fn checkpoint(&self, peer: &str) -> Result<Option<Checkpoint>, StoreError> {
        let mut statement =
            self.conn.prepare_cached("SELECT log, sequence, event_id FROM checkpoints WHERE peer = ?1 ORDER BY at DESC, log LIMIT 1")?;
        let read = |row: &rusqlite::Row<'_>| Ok(Checkpoint { log: row.get(0)?, sequence: row.get(1)?, event: row.get(2)? });
        Ok(statement.query_row([peer], read).optional()?)
    }

    /// Whether this event is here, word for word.
    ///
    /// # Errors
    /// SQLite's.
    pub fn holds(&self, event_id: &str, body: &str) -> Result<bool, StoreError> {
        let mut statement = self.conn.prepare_cached("SELECT 1 FROM events WHERE event_id = ?1 AND body = ?2")?;
        Ok(statement.exists((event_id, body))?)
    }

    /// Rows above `after` that did not come from this peer: exact up to some thousands, then all rows above `after`, because
    /// a status that takes longer the more is wrong helps nobody.
    ///
    /// # Errors
    /// SQLite's.
    pub fn backlog(&self, peer: &str, after: u64) -> Result<u64, StoreError> {
        let above = i64::try_from(after).unwrap_or(i64::MAX);
        let mut counted = self.conn.prepare_cached(
            "SELECT count(*), coalesce(sum(received_from <> ?2), 0)
             FROM (SELECT received_from FROM events WHERE sequence > ?1 ORDER BY sequence LIMIT ?3)",
        )?;
        let (rows, backlog): (u64, u64) = counted.query_row((above, peer, BACKLOG_COUNTED), |row| Ok((row.get(0)?, row.get(1)?)))?;
        if rows < BACKLOG_COUNTED {
            return Ok(backlog);
        }
        // Sequences leave holes only where something was purged, and jump where a new log began.
        Ok(self.latest()?.abs_diff(after).min(digest::heads(self.conn)?.total()))
    }

    /// What is wrong with what this peer served.
    ///
    /// # Errors
    /// SQLite's.
    pub fn troubles(&self, peer: &str) -> Result<Troubles, StoreError> {
        let mut parked = self.conn.prepare_cached(
            "SELECT coalesce(sum(p.reason NOT LIKE ?2), 0), coalesce(sum(p.reason LIKE ?2), 0),
                    max(CASE WHEN p.reason LIKE ?2 THEN e.sequence END)
             FROM parked p CROSS JOIN events e USING (event_id, signer) WHERE e.received_from = ?1",
        )?;
        let (parked, without_effect, last_of_them): (u64, u64, Option<u64>) =
            parked.query_row([peer, NOT_ALLOWED], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let mut reason = self.conn.prepare_cached(
            "SELECT e.event_id, p.reason || ' (' || coalesce(e.target, '') || ')'
             FROM events e JOIN parked p ON p.event_id = e.event_id AND p.signer = e.signer WHERE e.sequence = ?1",
        )?;
        let last_without_effect = match last_of_them {
            Some(sequence) => reason.query_row([sequence], |row| Ok((row.get(0)?, row.get(1)?))).optional()?,
            None => None,
        };
        let mut rejected = self.conn.prepare_cached("SELECT times, event_id, reason, at FROM rejections WHERE peer = ?1")?;
        let read = |row: &rusqlite::Row<'_>| {
            let last = LastRejected { event_id: row.get(1)?, reason: row.get(2)?, at: Stamp::from_nanos(row.get(3)?) };
            Ok((row.get(0)?, Some(last)))
        };
        let (rejected, last) = rejected.query_row([peer], read).optional()?.unwrap_or_default();
        Ok(Troubles { without_effect, last_without_effect, parked, rejected, last })
    }

    /// How much there is.
    ///
    /// # Errors
    /// SQLite's.
    pub fn totals(&self) -> Result<Totals, StoreError> {
        let count = |sql: &str| -> Result<u64, StoreError> { Ok(self.conn.prepare_cached(sql)?.query_row([], |row| row.get(0))?) };
        Ok(Totals {
            events: digest::heads(self.conn)?.total(),
            messages: count("SELECT count(*) FROM messages")?,
            agents: count("SELECT count(*) FROM agents")?,
            parked: self
                .conn
                .prepare_cached("SELECT count(*) FROM parked WHERE reason NOT LIKE ?1")?
                .query_row([NOT_ALLOWED], |row| row.get(0))?,
            rejected: count("SELECT coalesce(max(number), 0) FROM rejected")?,
        })
    }

    /// What a purge of everything before an instant would take away now.
    ///
    /// # Errors
    /// SQLite's.
    pub fn purge_preview(&self, before: Stamp) -> Result<Purged, StoreError> {
        fold::preview(self.conn, before)
    }

    /// Whether a purge waits for its time, and that is near; projections are not compared then.
    ///
    /// # Errors
    /// SQLite's.
    pub fn purge_waits(&self) -> Result<bool, StoreError> {
        fold::waits(self.conn)
    }
}
