//! Corrects the effects of a wrong clock of our own.
//!
//! A wrong clock is detected when it goes back by more than [`limits::CLOCK_OFF`] ([`Tx::heed_clock`]). Events that
//! were stamped while it was wrong may then lie ahead of it. Their true time is unknown except for two bounds. They
//! arrived before now; purges use this bound, because a purge must not remove events that may be younger. They were not
//! written just now; display uses this bound, so that they do not appear as new.
//!
//! Example: the clock showed 2031 for an hour and is corrected to 2026. Messages of that hour keep their claimed time,
//! but are shown before everything that is written from now on. A purge with a cutoff in 2031 that was folded in that
//! hour is taken back and parked until 2031. Our next event is stamped 2026 instead of after our last one.
//!
//! `arrival.rs` decides at which time a single event is shown if it lies ahead of a correct clock.

use rusqlite::Connection;
use thrum_core::{Event, Timestamp, limits};

use crate::{StoreError, Tx, arrival, fold};

impl Tx<'_> {
    /// Checks the clock before a write. If the clock was never set before, or went back by more than an ordinary
    /// correction, events ahead of the clock are shown at new times, and our own events are stamped by the clock from
    /// now on instead of after our last event. Does nothing while the clock is not set.
    ///
    /// # Errors
    /// SQLite's.
    pub(crate) fn heed_clock(&mut self) -> Result<(), StoreError> {
        let (now, known) = (self.now(), self.progress.counters.clock_at);
        if now < Timestamp::PLAUSIBLE {
            return Ok(());
        }
        if known > now.plus(limits::CLOCK_OFF) || known < Timestamp::PLAUSIBLE {
            if known >= Timestamp::PLAUSIBLE {
                tracing::warn!(
                    from = %known.to_the_second(),
                    to = %now.to_the_second(),
                    "the clock went back: new events get its time, and events written meanwhile lie in the future"
                );
            }
            self.turn_back(now)?;
            self.progress.counters.clock_at = now;
        } else if now > known {
            self.progress.counters.clock_at = now;
        }
        Ok(())
    }

    /// Moves what lies ahead of the corrected clock: the times at which events are shown, and the stored times of
    /// presence, checkpoints, acknowledgements and rejections. Also takes back purges that lie far ahead.
    fn turn_back(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let conn = self.conn;
        let before = last_before(conn, now)?;
        let at_times =
            |sql: &str| -> Result<usize, StoreError> { Ok(conn.prepare(sql)?.execute([now.nanos(), before.nanos()])?) };
        at_times(
            "UPDATE ahead SET arrived_at = min(arrived_at, ?1), shown_at = ?2 WHERE arrived_at > ?1 OR shown_at > ?1",
        )?;
        {
            let mut statement = conn.prepare(
                "SELECT sequence, origin_daemon, at, target FROM events e
                 WHERE NOT EXISTS (SELECT 1 FROM ahead a WHERE a.sequence = e.sequence)",
            )?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let at = Timestamp::from_nanos(row.get(2)?);
                if arrival::lies_ahead(arrival::claimed(at, row.get::<_, Option<String>>(3)?.as_deref()), now) {
                    arrival::record(conn, row.get(0)?, &row.get::<_, String>(1)?, at, now, before)?;
                }
            }
        }
        show_anew(conn, self.home())?;
        fold::reconsider(self)?;
        fold::finish(self)?;
        at_times("UPDATE presence SET last_seen_at = ?2 WHERE last_seen_at > ?1")?;
        // Keep the order of the checkpoints' times, because it shows which of a peer's logs was read last.
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

    /// Ensures that new events are later than our own among `events`, unless these lie far ahead of the clock. The
    /// events come from an old database of ours whose clock state is lost.
    pub(crate) fn keep_clock(&mut self, events: &[Event]) {
        let now = self.now();
        let ours = events.iter().filter(|event| event.origin == self.id.as_str()).map(|event| event.at);
        let counters = &mut self.progress.counters;
        counters.highest_at = ours.fold(counters.highest_at, Timestamp::max);
        // A clock that was far ahead must not be trusted again.
        counters.last_at = counters.highest_at.min(now.plus(limits::CLOCK_OFF));
    }
}

/// One minute before our last event that does not lie ahead of the corrected clock, or an hour and a minute ago if
/// there is no such event. Events that lie ahead of the corrected clock are shown at this time, so that they do not
/// appear as new.
fn last_before(conn: &Connection, now: Timestamp) -> Result<Timestamp, StoreError> {
    let mut statement = conn.prepare("SELECT max(at) FROM event_rows WHERE source = 0 AND at <= ?1")?;
    let last: Option<i64> = statement.query_row([now.nanos()], |row| row.get(0))?;
    let last = last.map(Timestamp::from_nanos).filter(|last| *last >= Timestamp::PLAUSIBLE);
    Ok(last.unwrap_or(now.minus(limits::AGENT_SILENT)).minus(limits::PRESENCE_KEPT))
}

/// Updates the times at which messages and sessions are shown, according to the table `ahead`.
fn show_anew(conn: &Connection, home: &str) -> Result<(), StoreError> {
    let mut moved = conn.prepare(
        "SELECT m.sequence, m.shown_at, min(m.at, a.shown_at) FROM ahead a JOIN messages m USING (sequence)
         WHERE m.shown_at <> min(m.at, a.shown_at)",
    )?;
    let moved: Vec<(i64, i64, i64)> =
        moved.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect::<Result<_, _>>()?;
    for (sequence, from, to) in moved {
        conn.prepare_cached(
            "UPDATE mailbox SET at = ?3 WHERE at = ?2 AND sequence = ?1 AND owner IN (SELECT owner FROM agents WHERE home = ?4)",
        )?
        .execute((sequence, from, to, home))?;
        conn.prepare_cached("UPDATE messages SET shown_at = ?2 WHERE sequence = ?1")?.execute((sequence, to))?;
    }
    let sql = format!(
        "UPDATE sessions SET shown_at = {} WHERE started_at IS NOT NULL",
        arrival::shown_sql("home", "started_at")
    );
    conn.prepare(&sql)?.execute([])?;
    Ok(())
}
