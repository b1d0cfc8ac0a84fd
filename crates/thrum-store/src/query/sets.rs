//! Queries for reconciliation: which events of a log are held, by origin sequence or by id, and the events themselves.

use thrum_core::{
    Heads, RangeSet, SetDigest,
    compare::{Listing, LogOf, Numbers, Part, Wanted},
    exchange::{Page, Row},
    limits,
    ranges::LAST,
};

use super::log::{ROW_COLUMNS, read_row};
use crate::{Reader, StoreError, digest, numbers::LOG_NUMBER, purged_ranges};

/// SQL: the events of origin ?1 and log ?2 with ids above ?3 and up to ?4; an empty ?4 means the end. Uses the index
/// over ids, so events outside the range cost nothing.
const BETWEEN: &str =
    "WHERE event_id > ?3 AND (?4 = '' OR event_id <= ?4) AND +origin_daemon = ?1 AND +origin_log = ?2";

impl Reader<'_> {
    /// Recounts the version vector from the rows of the log, to verify the stored [`heads`](Self::heads). Reads all
    /// rows.
    ///
    /// # Errors
    /// SQLite's.
    pub fn counted(&self) -> Result<Heads, StoreError> {
        digest::recount(self.conn)
    }

    /// Returns the held and the purged origin sequences of a log above `after`: at most `most` runs of each, lowest
    /// first.
    ///
    /// # Errors
    /// SQLite's.
    pub fn numbers(&self, LogOf { origin, log }: &LogOf, after: u64, most: usize) -> Result<Numbers, StoreError> {
        let after = after.min(LAST);
        let mut statement = self.conn.prepare_cached(&format!(
            "SELECT origin_seq FROM event_rows WHERE log = {LOG_NUMBER} AND origin_seq > ?3 ORDER BY origin_seq"
        ))?;
        let mut rows = statement.query((origin, log, after))?;
        let (mut held, mut runs, mut last, mut upto) = (Vec::new(), 0, 0, LAST);
        while let Some(row) = rows.next()? {
            let number: u64 = row.get(0)?;
            runs += usize::from(runs == 0 || number > last + 1);
            if runs > most {
                upto = last;
                break;
            }
            last = number;
            held.push(number);
        }
        let held: RangeSet = held.into_iter().collect();
        let mut purged = purged_ranges::of_log(self.conn, origin, log)?.without(&held);
        purged = if after < LAST { purged.within(&(after + 1..=LAST)) } else { RangeSet::default() };
        if purged.len() > most {
            purged = purged.first(most);
            upto = upto.min(purged.highest().unwrap_or(LAST));
        }
        let next = if upto == LAST { 0 } else { upto };
        Ok(Numbers { held: held.within(&(1..=upto)), purged: purged.within(&(1..=upto)), next })
    }

    /// Returns the events of a log whose ids are above `after` and up to `upto`, in byte order; an empty `upto` means
    /// the end. If there are at most `most` events, lists each with its digest; otherwise lists at most
    /// [`limits::TOLD_PARTS`] parts, each with the number and the digest of its events.
    ///
    /// # Errors
    /// SQLite's.
    pub fn listing(
        &self,
        LogOf { origin, log }: &LogOf,
        after: &str,
        upto: &str,
        most: usize,
    ) -> Result<Listing, StoreError> {
        let asked = (origin, log, after, upto);
        let count: u64 = self
            .conn
            .prepare_cached(&format!("SELECT count(*) FROM events {BETWEEN}"))?
            .query_row(asked, |row| row.get(0))?;
        let mut statement =
            self.conn.prepare_cached(&format!("SELECT event_id, body FROM events {BETWEEN} ORDER BY event_id"))?;
        let mut rows = statement.query(asked)?;
        let mut listed = Vec::new();
        let mut parts: Vec<Part> = Vec::new();
        let share = count.div_ceil(limits::TOLD_PARTS).max(1);
        while let Some(row) = rows.next()? {
            let sum = SetDigest::of(row.get_ref(1)?.as_bytes().map_err(rusqlite::Error::from)?);
            let id = row.get(0)?;
            if count <= most as u64 {
                listed.push((id, sum));
            } else if let Some(part) = parts.last_mut().filter(|part| part.count < share) {
                part.upto = id;
                part.count += 1;
                part.sum.add(sum);
            } else {
                parts.push(Part { upto: id, count: 1, sum });
            }
        }
        if let Some(last) = parts.last_mut() {
            upto.clone_into(&mut last.upto);
            return Ok(Listing::Parts(parts));
        }
        Ok(Listing::Ids(listed))
    }

    /// Returns the number of events of a log whose ids are above `after` and up to `upto` (empty: to the end), and the
    /// digest over their canonical forms.
    ///
    /// # Errors
    /// SQLite's.
    pub fn stretch(
        &self,
        LogOf { origin, log }: &LogOf,
        after: &str,
        upto: &str,
    ) -> Result<(u64, SetDigest), StoreError> {
        let mut statement = self.conn.prepare_cached(&format!("SELECT body FROM events {BETWEEN}"))?;
        let mut rows = statement.query((origin, log, after, upto))?;
        let (mut count, mut total) = (0, SetDigest::default());
        while let Some(row) = rows.next()? {
            total.add(SetDigest::of(row.get_ref(0)?.as_bytes().map_err(rusqlite::Error::from)?));
            count += 1;
        }
        Ok((count, total))
    }

    /// Returns the requested events that are held, in the order of the request: at most `max_events` and `max_bytes` of
    /// bodies, but at least one if there is any. [`Page::more`] is set if the answer was cut short.
    ///
    /// # Errors
    /// SQLite's.
    pub fn requested(
        &self,
        LogOf { origin, log }: &LogOf,
        wanted: &Wanted,
        max_events: usize,
        max_bytes: usize,
    ) -> Result<Page, StoreError> {
        let mut page = Page::default();
        let mut bytes = 0;
        let mut take = |row: Row| {
            bytes += row.body.len();
            page.more = !page.rows.is_empty() && (page.rows.len() == max_events || bytes > max_bytes);
            if !page.more {
                page.rows.push(row);
            }
            page.more
        };
        match wanted {
            Wanted::Numbers(runs) => {
                let mut statement = self.conn.prepare_cached(&format!(
                    "SELECT {ROW_COLUMNS} FROM events WHERE log_number = {LOG_NUMBER} AND origin_seq BETWEEN ?3 AND ?4
                     ORDER BY origin_seq"
                ))?;
                'runs: for run in runs.iter() {
                    for found in statement.query_map((origin, log, run.start(), run.end()), read_row)? {
                        if take(found?) {
                            break 'runs;
                        }
                    }
                }
            }
            Wanted::Ids(ids) => {
                let mut statement = self.conn.prepare_cached(&format!(
                    "SELECT {ROW_COLUMNS} FROM events WHERE event_id = ?3 AND +origin_daemon = ?1 AND +origin_log = ?2"
                ))?;
                'ids: for id in ids {
                    for found in statement.query_map((origin, log, id), read_row)? {
                        if take(found?) {
                            break 'ids;
                        }
                    }
                }
            }
        }
        Ok(page)
    }
}
