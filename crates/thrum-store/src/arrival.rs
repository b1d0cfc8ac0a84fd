//! When events came, and where they are shown because of it.
//!
//! An event carries the time that its daemon's clock showed. A clock may be years ahead, and mail dated 2099 would stand above
//! all other mail until then. So an event that claims a time ahead of our clock is shown where it came: the earlier of the two
//! counts for order, for `--after` and for signs of life. Arrival differs from daemon to daemon. The fold therefore never looks
//! at it (I6); it only fills `shown_at` of messages and sessions, and `at` of mailboxes, which are no part of the digest.
//!
//! Only events that lie ahead have a row here, in `ahead`. It stands beside the log and is not part of what is folded, so a
//! rebuilt projection shows everything where it was.
//!
//! Our own clock may be the wrong one. That is known when it goes back by more than [`limits::CLOCK_OFF`] ([`Tx::heed_clock`]):
//! what was stamped and received meanwhile lies ahead then. Nobody knows when that was, but for two bounds. It arrived before
//! now, which is what a purge goes by: it must not take what may be younger. It was not written just now, which is what showing
//! goes by: it is no news.

use rusqlite::{Connection, OptionalExtension};
use thrum_core::{Event, Stamp, ids, limits};

use crate::{Reader, StoreError, Tx, fold};

/// Whether a time lies ahead of the clock by more than clocks that are set differ.
fn lies_ahead(at: Stamp, now: Stamp) -> bool {
    at > now.plus(limits::CLOCK_AHEAD)
}

/// The latest time that an event claims: its own, or that in the id of what it is about.
fn claimed(at: Stamp, target: Option<&str>) -> Stamp {
    target.and_then(ids::ulid_time).map_or(at, |made| made.max(at))
}

/// Where an event is shown that claims `at`.
pub(crate) fn shown(conn: &Connection, sequence: u64, at: Stamp) -> Result<Stamp, StoreError> {
    let mut statement = conn.prepare_cached("SELECT shown_at FROM ahead WHERE sequence = ?1")?;
    let known: Option<i64> = statement.query_row([sequence], |row| row.get(0)).optional()?;
    Ok(known.map_or(at, |shown| Stamp::from_nanos(shown).min(at)))
}

/// The same for an event of which only its origin and its time are known.
pub(crate) fn shown_of(conn: &Connection, origin: &str, at: Stamp) -> Result<Stamp, StoreError> {
    let mut statement = conn.prepare_cached("SELECT shown_at FROM ahead WHERE origin = ?1 AND at = ?2 ORDER BY sequence LIMIT 1")?;
    let known: Option<i64> = statement.query_row((origin, at.nanos()), |row| row.get(0)).optional()?;
    Ok(known.map_or(at, |shown| Stamp::from_nanos(shown).min(at)))
}

/// SQL for [`shown_of`]; NULL where the time is.
pub(crate) fn shown_sql(origin: &str, at: &str) -> String {
    format!(
        "min({at}, coalesce((SELECT h.shown_at FROM ahead h WHERE h.origin = {origin} AND h.at = {at} ORDER BY h.sequence LIMIT 1), {at}))"
    )
}

/// What lies ahead of the clock, of one daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// The daemon that stamped it.
    pub origin: String,
    /// The peer that served the last of it; empty for our own.
    pub via: String,
    /// How many events.
    pub events: u64,
    /// The latest time among them.
    pub latest: Stamp,
}

impl Reader<'_> {
    /// The daemons of which events lie ahead of `now` by more than [`limits::CLOCK_OFF`], the furthest first, at most
    /// [`limits::MAX_NAMED`].
    ///
    /// # Errors
    /// SQLite's.
    pub fn ahead(&self, now: Stamp) -> Result<Vec<Ahead>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT a.origin, count(*), max(a.at), (SELECT received_from FROM events WHERE sequence =
                     (SELECT l.sequence FROM ahead l WHERE l.origin = a.origin ORDER BY l.at DESC LIMIT 1))
             FROM ahead a WHERE a.at > ?1 GROUP BY a.origin ORDER BY max(a.at) DESC LIMIT ?2",
        )?;
        let rows = statement.query_map((now.plus(limits::CLOCK_OFF).nanos(), limits::MAX_NAMED), |row| {
            let via: Option<String> = row.get(3)?;
            Ok(Ahead { origin: row.get(0)?, events: row.get(1)?, latest: Stamp::from_nanos(row.get(2)?), via: via.unwrap_or_default() })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

impl Tx<'_> {
    /// Notes that an event came which lies ahead. A clock that is not set cannot tell.
    pub(crate) fn note_arrival(&mut self, event: &Event, sequence: u64, target: Option<&str>) -> Result<(), StoreError> {
        let now = self.now();
        if now >= Stamp::PLAUSIBLE && lies_ahead(claimed(event.at, target), now) {
            note(self.conn, sequence, &event.origin, event.at, now, now)?;
        }
        Ok(())
    }

    /// Where an event of ours is shown that is written now.
    pub(crate) fn shown_at(&mut self, at: Stamp) -> Stamp {
        self.is_ahead(at).unwrap_or(at)
    }

    /// The time now, if this instant lies ahead of it.
    pub(crate) fn is_ahead(&mut self, at: Stamp) -> Option<Stamp> {
        let now = self.now();
        (now >= Stamp::PLAUSIBLE && lies_ahead(at, now)).then_some(now)
    }

    /// Looks at the clock before something is written. Where it went back by more than clocks are put right by, or was never
    /// set before, what lies ahead of it is shown anew, and what we write is stamped from now on instead of after our last event.
    ///
    /// # Errors
    /// SQLite's.
    pub(crate) fn heed_clock(&mut self) -> Result<(), StoreError> {
        let (now, known) = (self.now(), self.progress.counters.clock_at);
        if now < Stamp::PLAUSIBLE {
            return Ok(());
        }
        if known > now.plus(limits::CLOCK_OFF) || known < Stamp::PLAUSIBLE {
            if known >= Stamp::PLAUSIBLE {
                tracing::warn!(
                    "the clock went back from {} to {}: what is written from now on is stamped by it, and what was written \
                     meanwhile lies ahead",
                    known.to_the_second(),
                    now.to_the_second()
                );
            }
            self.turn_back(now)?;
            self.progress.counters.clock_at = now;
        } else if now > known {
            self.progress.counters.clock_at = now;
        }
        Ok(())
    }

    /// Shows all that lies ahead of a clock that was wrong before.
    fn turn_back(&mut self, now: Stamp) -> Result<(), StoreError> {
        let conn = self.conn;
        let before = last_before(conn, now)?;
        let at_times = |sql: &str| -> Result<usize, StoreError> { Ok(conn.prepare(sql)?.execute([now.nanos(), before.nanos()])?) };
        at_times("UPDATE ahead SET arrived_at = min(arrived_at, ?1), shown_at = ?2 WHERE arrived_at > ?1 OR shown_at > ?1")?;
        {
            let mut statement = conn.prepare(
                "SELECT sequence, origin_daemon, at, target FROM events e
                 WHERE NOT EXISTS (SELECT 1 FROM ahead a WHERE a.sequence = e.sequence)",
            )?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let at = Stamp::from_nanos(row.get(2)?);
                if lies_ahead(claimed(at, row.get::<_, Option<String>>(3)?.as_deref()), now) {
                    note(conn, row.get(0)?, &row.get::<_, String>(1)?, at, now, before)?;
                }
            }
        }
        show_anew(conn, self.home())?;
        fold::reconsider(self)?;
        fold::finish(self)?;
        at_times("UPDATE presence SET last_seen_at = ?2 WHERE last_seen_at > ?1")?;
        // Which of a peer's logs was read last is known by these: their order stays.
        let behind = self.progress.counters.clock_at.since(now);
        conn.prepare("UPDATE checkpoints SET at = max(0, at - ?2) WHERE at > ?1")?
            .execute((now.nanos(), i64::try_from(behind.as_nanos()).unwrap_or(i64::MAX)))?;
        at_times("UPDATE acknowledged SET at = ?1 WHERE at > ?1 AND ?2 >= 0")?;
        at_times("UPDATE rejected SET at = ?1 WHERE at > ?1 AND ?2 >= 0")?;
        at_times("UPDATE rejections SET at = ?1 WHERE at > ?1 AND ?2 >= 0")?;
        let counters = &mut self.progress.counters;
        if counters.last_at > now.plus(limits::CLOCK_OFF) {
            counters.last_at = now;
            self.ids.forget();
        }
        Ok(())
    }
}

fn note(conn: &Connection, sequence: u64, origin: &str, at: Stamp, arrived: Stamp, shown: Stamp) -> Result<(), StoreError> {
    conn.prepare_cached("INSERT OR REPLACE INTO ahead VALUES (?1, ?2, ?3, ?4, ?5)")?.execute((
        sequence,
        origin,
        at.nanos(),
        arrived.nanos(),
        shown.nanos(),
    ))?;
    Ok(())
}

/// A minute before something was last written here by a clock that was right, as far as that can be told: what was written since is
/// no news.
fn last_before(conn: &Connection, now: Stamp) -> Result<Stamp, StoreError> {
    let mut statement = conn.prepare("SELECT max(at) FROM events WHERE received_from = '' AND at <= ?1")?;
    let last: Option<i64> = statement.query_row([now.nanos()], |row| row.get(0))?;
    let last = last.map(Stamp::from_nanos).filter(|last| *last >= Stamp::PLAUSIBLE);
    Ok(last.unwrap_or(now.minus(limits::AGENT_SILENT)).minus(limits::PRESENCE_KEPT))
}

/// Brings what is shown of messages and sessions into line with `ahead`.
fn show_anew(conn: &Connection, home: &str) -> Result<(), StoreError> {
    let mut moved = conn.prepare(
        "SELECT m.sequence, m.shown_at, min(m.at, a.shown_at) FROM ahead a JOIN messages m USING (sequence)
         WHERE m.shown_at <> min(m.at, a.shown_at)",
    )?;
    let moved: Vec<(i64, i64, i64)> = moved.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect::<Result<_, _>>()?;
    for (sequence, from, to) in moved {
        conn.prepare_cached(
            "UPDATE mailbox SET at = ?3 WHERE at = ?2 AND sequence = ?1 AND owner IN (SELECT owner FROM agents WHERE home = ?4)",
        )?
        .execute((sequence, from, to, home))?;
        conn.prepare_cached("UPDATE messages SET shown_at = ?2 WHERE sequence = ?1")?.execute((sequence, to))?;
    }
    let sql = format!("UPDATE sessions SET shown_at = {} WHERE started_at IS NOT NULL", shown_sql("home", "started_at"));
    conn.prepare(&sql)?.execute([])?;
    Ok(())
}
