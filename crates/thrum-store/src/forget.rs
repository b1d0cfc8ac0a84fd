//! Forgetting what a removed peer brought, so that its space is free again.
//!
//! What goes are the events received from it, unless their origin is this daemon or a peer that is still paired: those are not only
//! its own. They leave the log in pieces of bounded size, each a transaction of its own, so that others write in between and an
//! interrupted run goes on where it was ([`Reader::forgetting`]). The projection is what the remaining events say.
//!
//! Numbered events count as purged: heads stay equal to those of peers that still hold them, and nobody brings them back by
//! comparing. Unlike what a purge took, they may be served again: a peer that is paired anew is read from its start, and all it
//! still has comes back ([`Tx::restores`]). Events without numbers, Go Thrum's, are taken off the heads, because there is no place by
//! which they would be known again; another peer of ours that holds them brings them back.

use std::collections::BTreeSet;

use rusqlite::OptionalExtension;
use thrum_core::{Event, Payload, Sum, limits};

use crate::{Reader, StoreError, Tx, fold};

/// What one piece came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Events that left the log.
    pub events: u64,
    /// Whether nothing is left to be done for this peer.
    pub is_done: bool,
}

/// An event that goes.
struct Leaving {
    sequence: u64,
    id: String,
    kind: String,
    target: Option<String>,
    origin: String,
    log: String,
    number: u64,
    sum: Sum,
    /// Of an update: its sessions, with the agent. Of a clean-up: no session, with the agent.
    said_of: Vec<(String, String)>,
}

impl Reader<'_> {
    /// Removed peers whose events are still to go.
    ///
    /// # Errors
    /// SQLite's.
    pub fn forgetting(&self) -> Result<Vec<String>, StoreError> {
        let mut statement = self.conn.prepare_cached("SELECT peer FROM forgetting ORDER BY peer")?;
        Ok(statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }

    /// Whether anything received from this peer is here.
    ///
    /// # Errors
    /// SQLite's.
    pub fn has_received_from(&self, peer: &str) -> Result<bool, StoreError> {
        Ok(self.conn.prepare_cached("SELECT 1 FROM received WHERE peer = ?1 LIMIT 1")?.exists([peer])?)
    }
}

impl Tx<'_> {
    /// Notes that what this peer brought is to go. [`forget_piece`](Self::forget_piece) does it.
    ///
    /// # Errors
    /// SQLite's.
    pub fn begin_forgetting(&mut self, peer: &str) -> Result<(), StoreError> {
        self.conn.execute("INSERT OR REPLACE INTO forgetting VALUES (?1, 0, 0)", [peer])?;
        Ok(())
    }

    /// Leaves the rest of what this peer brought: it is paired again.
    ///
    /// # Errors
    /// SQLite's.
    pub fn stop_forgetting(&mut self, peer: &str) -> Result<(), StoreError> {
        self.conn.execute("DELETE FROM forgetting WHERE peer = ?1", [peer])?;
        Ok(())
    }

    /// Takes the next events of a removed peer out of the log, but for those of the origins in `keeps`. Looks at no more than
    /// [`limits::FORGET_ROWS`] rows.
    ///
    /// # Errors
    /// SQLite's; nothing of the piece is done then.
    pub fn forget_piece(&mut self, peer: &str, keeps: &BTreeSet<String>) -> Result<Forgotten, StoreError> {
        let found: Option<(u64, bool)> = self
            .conn
            .prepare_cached("SELECT after, refold FROM forgetting WHERE peer = ?1")?
            .query_row([peer], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((after, mut refolds)) = found else { return Ok(Forgotten { events: 0, is_done: true }) };
        let (leaving, upto) = self.leaving(peer, after, keeps)?;
        let mut messages = BTreeSet::new();
        for event in &leaving {
            refolds |= self.take_out(peer, event, &mut messages)?;
        }
        for message_id in &messages {
            fold::refold_message(self, message_id)?;
        }
        fold::finish(self)?;
        let is_done = upto.is_none();
        if is_done {
            if refolds {
                // Others brought a part of what those origins wrote: it may have been hidden by what is gone.
                fold::rebuild(self)?;
            }
            self.conn.execute("DELETE FROM forgetting WHERE peer = ?1", [peer])?;
            // The file becomes as small as it can be.
            self.progress.scrub = true;
        } else {
            self.conn.prepare_cached("UPDATE forgetting SET after = ?2, refold = ?3 WHERE peer = ?1")?.execute((
                peer,
                upto.unwrap_or(after),
                refolds,
            ))?;
        }
        Ok(Forgotten { events: leaving.len() as u64, is_done })
    }

    /// The events of the next piece that go, and up to which row it looked; `None` if to the end.
    fn leaving(&self, peer: &str, after: u64, keeps: &BTreeSet<String>) -> Result<(Vec<Leaving>, Option<u64>), StoreError> {
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
            let said_of = match (kind.as_str(), Payload::read(&kind, body)) {
                ("agent.cleanup", Ok(Payload::AgentCleanup(cleanup))) => vec![(String::new(), cleanup.agent_id)],
                ("agent.update", Ok(Payload::AgentUpdate(update))) => {
                    update.work_contexts.into_iter().map(|context| (context.session_id, update.agent_id.clone())).collect()
                }
                _ => Vec::new(),
            };
            bytes += body.len();
            leaving.push(Leaving {
                sequence: last,
                id: row.get(1)?,
                kind,
                target: row.get(3)?,
                origin,
                log: row.get(5)?,
                number: row.get(6)?,
                sum: Sum::of(body.as_bytes()),
                said_of,
            });
            if bytes > limits::MAX_EVENT_BYTES {
                return Ok((leaving, Some(last)));
            }
        }
        Ok((leaving, (seen == limits::FORGET_ROWS).then_some(last)))
    }

    /// Takes one event out of the log, and what it was out of the projection; returns whether more may change than is worked out
    /// at the end of the piece.
    fn take_out(&mut self, peer: &str, event: &Leaving, messages: &mut BTreeSet<String>) -> Result<bool, StoreError> {
        let conn = self.conn;
        let mut partial = false;
        if let Some(target) = &event.target {
            match event.kind.as_str() {
                "agent.register" => fold::agent_changed(self, target),
                kind if kind.starts_with("agent.session.") => fold::session_changed(self, target),
                _ => {
                    fold::withdraw_message(self, target)?;
                    messages.insert(target.clone());
                }
            }
        } else if matches!(event.kind.as_str(), "agent.cleanup" | "agent.update") {
            let by_others = "SELECT 1 FROM received WHERE origin = ?1 AND peer <> ?2";
            partial = conn.prepare_cached(by_others)?.exists((&event.origin, peer))?;
        }
        for (session_id, agent_id) in &event.said_of {
            if event.kind == "agent.cleanup" {
                conn.prepare_cached("DELETE FROM cleanups WHERE agent_id = ?1 AND home = ?2 AND event_id = ?3")?.execute((
                    agent_id,
                    &event.origin,
                    &event.id,
                ))?;
                continue;
            }
            conn.prepare_cached("DELETE FROM contexts WHERE session_id = ?1 AND agent_id = ?2 AND home = ?3 AND event_id = ?4")?
                .execute((session_id, agent_id, &event.origin, &event.id))?;
        }
        conn.prepare_cached("DELETE FROM parked WHERE (event_id, signer) = (SELECT event_id, signer FROM events WHERE sequence = ?1)")?
            .execute([event.sequence])?;
        conn.prepare_cached("DELETE FROM events WHERE sequence = ?1")?.execute([event.sequence])?;
        conn.prepare_cached("DELETE FROM ahead WHERE sequence = ?1")?.execute([event.sequence])?;
        self.progress.forget(&event.origin, &event.log, event.number, event.sum);
        Ok(partial)
    }

    /// Whether an event that was forgotten comes back: its place counts as purged, and no purge keeps it out.
    pub(crate) fn restores(&self, event: &Event) -> Result<bool, StoreError> {
        if event.seq == 0 {
            return Ok(false);
        }
        if self.progress.is_gone(event) {
            return Ok(true);
        }
        let mut statement = self
            .conn
            .prepare_cached("SELECT last FROM purged WHERE origin = ?1 AND log = ?2 AND first <= ?3 ORDER BY first DESC LIMIT 1")?;
        let last: Option<u64> = statement.query_row((&event.origin, &event.log, event.seq), |row| row.get(0)).optional()?;
        Ok(last.is_some_and(|last| event.seq <= last))
    }
}
