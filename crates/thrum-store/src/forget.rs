//! Removes the events that a removed peer brought, to free their space.
//!
//! Events received from that peer are removed, unless their origin is this daemon or a peer that is still paired. They
//! leave the log in pieces of bounded size, each in its own transaction. So other writes run in between, and an
//! interrupted run resumes where it stopped ([`Reader::forgetting`]). Afterwards the projection corresponds to the
//! remaining events, but purge cutoffs stay.
//!
//! Events with an origin sequence count as purged. So the heads stay equal to those of peers that still hold the
//! events, and anti-entropy does not fetch the events again. Unlike purged events, they may be served again: a peer
//! that is paired anew is read from its start, and all events that it still holds come back ([`Tx::restores`]). Events
//! without an origin sequence, as Go Thrum writes them, are subtracted from the heads, because there is no position by
//! which to recognise them. They come back from any other of our peers that holds them.

use std::collections::BTreeSet;

use rusqlite::OptionalExtension;
use thrum_core::{
    Event, SetDigest, limits,
    payload::{EventType, Subject},
};

use crate::{
    Reader, StoreError, Tx,
    fold::{self, OwnRows},
};

/// The result of removing one piece of the events of a removed peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Number of events removed from the log.
    pub events: u64,
    /// Whether all events of this peer are processed.
    pub is_done: bool,
}

/// A removed peer whose events are being removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgetting {
    /// The id of the peer.
    pub peer: String,
    /// The sequence up to which the log was processed.
    pub done: u64,
    /// The highest sequence of the log.
    pub upto: u64,
}

/// An event to be removed.
struct Leaving {
    sequence: u64,
    id: String,
    kind: String,
    target: Option<String>,
    origin: String,
    log: String,
    number: u64,
    sum: SetDigest,
    rows: OwnRows,
}

impl Reader<'_> {
    /// Returns the removed peers whose events are not yet all removed.
    ///
    /// # Errors
    /// SQLite's.
    pub fn forgetting(&self) -> Result<Vec<Forgetting>, StoreError> {
        let sql = "SELECT peer, after, max(after, coalesce((SELECT max(sequence) FROM events), 0)) FROM forgetting ORDER BY peer";
        let mut statement = self.conn.prepare_cached(sql)?;
        let found = statement
            .query_map([], |row| Ok(Forgetting { peer: row.get(0)?, done: row.get(1)?, upto: row.get(2)? }))?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// Returns `true` if the store holds any event received from this peer.
    ///
    /// # Errors
    /// SQLite's.
    pub fn has_received_from(&self, peer: &str) -> Result<bool, StoreError> {
        Ok(self.conn.prepare_cached("SELECT 1 FROM received WHERE peer = ?1 LIMIT 1")?.exists([peer])?)
    }
}

impl Tx<'_> {
    /// Starts the removal of the events that this peer brought; [`forget_piece`](Self::forget_piece) does it.
    ///
    /// # Errors
    /// SQLite's.
    pub fn begin_forgetting(&mut self, peer: &str) -> Result<(), StoreError> {
        self.conn.execute("INSERT OR REPLACE INTO forgetting VALUES (?1, 0, 0)", [peer])?;
        Ok(())
    }

    /// Stops the removal, because the peer is paired again. The remaining events stay.
    ///
    /// # Errors
    /// SQLite's.
    pub fn stop_forgetting(&mut self, peer: &str) -> Result<(), StoreError> {
        self.conn.execute("DELETE FROM forgetting WHERE peer = ?1", [peer])?;
        Ok(())
    }

    /// Removes the next events of a removed peer from the log, except those whose origin is in `keeps`. Examines at
    /// most [`limits::FORGET_ROWS`] rows for that. The last piece may also rebuild the projection from the whole log.
    ///
    /// # Errors
    /// SQLite's; the whole piece is then undone.
    pub fn forget_piece(&mut self, peer: &str, keeps: &BTreeSet<String>) -> Result<Forgotten, StoreError> {
        let found: Option<(u64, bool)> = self
            .conn
            .prepare_cached("SELECT after, refold FROM forgetting WHERE peer = ?1")?
            .query_row([peer], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((after, mut refolds)) = found else { return Ok(Forgotten { events: 0, is_done: true }) };
        let (leaving, last_read) = self.leaving(peer, after, keeps)?;
        let mut messages = BTreeSet::new();
        for event in &leaving {
            refolds |= self.take_out(peer, event, &mut messages)?;
        }
        for message_id in &messages {
            fold::refold_message(self, message_id)?;
        }
        fold::finish(self)?;
        let is_done = last_read.is_none();
        if is_done {
            if refolds {
                // Other peers brought further events of the same origins, and the removed events may have hidden the
                // effects of these.
                fold::rebuild(self)?;
            }
            self.conn.execute("DELETE FROM forgetting WHERE peer = ?1", [peer])?;
            self.drop_unused_numbers()?;
            // Have the store rewrite the file, so that it shrinks.
            self.progress.scrub = true;
        } else {
            self.conn.prepare_cached("UPDATE forgetting SET after = ?2, refold = ?3 WHERE peer = ?1")?.execute((
                peer,
                last_read.unwrap_or(after),
                refolds,
            ))?;
        }
        Ok(Forgotten { events: leaving.len() as u64, is_done })
    }

    /// Returns the events of the next piece to be removed, and the last row read; `None` if the end was reached.
    fn leaving(
        &self,
        peer: &str,
        after: u64,
        keeps: &BTreeSet<String>,
    ) -> Result<(Vec<Leaving>, Option<u64>), StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT sequence, event_id, type, target, origin_daemon, origin_log, origin_seq, CASE received_from WHEN ?2 THEN body END
             FROM events WHERE sequence > ?1 ORDER BY sequence LIMIT ?3",
        )?;
        let mut rows = statement.query((after, peer, limits::FORGET_ROWS))?;
        let (mut leaving, mut last, mut seen, mut bytes) = (Vec::new(), after, 0, 0);
        while let Some(row) = rows.next()? {
            (last, seen) = (row.get(0)?, seen + 1);
            let Some(body) = row.get_ref(7)?.as_str_or_null().map_err(rusqlite::Error::from)? else { continue };
            let origin: String = row.get(4)?;
            if keeps.contains(&origin) {
                continue;
            }
            let kind: String = row.get(2)?;
            let own_rows = OwnRows::of(&kind, body);
            bytes += body.len();
            leaving.push(Leaving {
                sequence: last,
                id: row.get(1)?,
                kind,
                target: row.get(3)?,
                origin,
                log: row.get(5)?,
                number: row.get(6)?,
                sum: SetDigest::of(body.as_bytes()),
                rows: own_rows,
            });
            if bytes > limits::MAX_EVENT_BYTES {
                return Ok((leaving, Some(last)));
            }
        }
        Ok((leaving, (seen == limits::FORGET_ROWS).then_some(last)))
    }

    /// Removes one event from the log and its data from the projection. Returns `true` if the projection may change
    /// beyond what the end of the piece recomputes.
    fn take_out(&mut self, peer: &str, event: &Leaving, messages: &mut BTreeSet<String>) -> Result<bool, StoreError> {
        let conn = self.conn;
        let mut partial = false;
        if let Some(target) = &event.target {
            match EventType::by_name(&event.kind).and_then(|known| known.target) {
                Some(Subject::Agent) => drop(self.deferred.agents.insert(target.clone())),
                Some(Subject::Session) => drop(self.deferred.sessions.insert(target.clone())),
                Some(Subject::Message) => {
                    fold::withdraw_message(self, target)?;
                    messages.insert(target.clone());
                }
                None => {}
            }
        } else if event.rows != OwnRows::None {
            let by_others = "SELECT 1 FROM received WHERE origin = ?1 AND peer <> ?2";
            partial = conn.prepare_cached(by_others)?.exists((&event.origin, peer))?;
        }
        event.rows.withdraw(conn, &event.origin, &event.id)?;
        conn.prepare_cached(
            "DELETE FROM parked WHERE (event_id, signer) = (SELECT event_id, signer FROM events WHERE sequence = ?1)",
        )?
        .execute([event.sequence])?;
        self.remove_row(event.sequence)?;
        self.progress.forget(&event.origin, &event.log, event.number, event.sum);
        Ok(partial)
    }

    /// Returns `true` if this event fills an origin sequence that counts as purged: its event was forgotten, or a purge
    /// that was taken back had removed it or kept it out. The caller has checked that no purge removes it now.
    pub(crate) fn restores(&self, event: &Event) -> Result<bool, StoreError> {
        if event.seq == 0 {
            return Ok(false);
        }
        if self.progress.is_gone(event) {
            return Ok(true);
        }
        let mut statement = self.conn.prepare_cached(
            "SELECT last FROM purged WHERE origin = ?1 AND log = ?2 AND first <= ?3 ORDER BY first DESC LIMIT 1",
        )?;
        let last: Option<u64> =
            statement.query_row((&event.origin, &event.log, event.seq), |row| row.get(0)).optional()?;
        Ok(last.is_some_and(|last| event.seq <= last))
    }
}
