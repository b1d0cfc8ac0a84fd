//! Determines the causal prerequisites of rows, for peers that apply rows one by one in the order served.

use std::collections::BTreeMap;

use thrum_core::{
    Payload, Timestamp,
    exchange::{Prerequisites, Row},
    limits,
    payload::EventType,
};

use super::log::read_row;
use crate::{Reader, StoreError, cutoff};

/// The last clean-up of an agent by one daemon.
struct Cleanup {
    home: String,
    at: Timestamp,
    event_id: String,
    sequence: u64,
}

/// Results cached for one page, so that each is looked up once.
#[derive(Default)]
struct LookupCache {
    /// The clean-ups of each agent, by its name.
    cleanups: BTreeMap<String, Vec<Cleanup>>,
    /// The sequence of the first creation that the peer can apply, by type and target; `None` if there is none.
    creations: BTreeMap<(&'static str, String), Option<u64>>,
}

/// Decides from a row alone whether a peer can apply it.
type Fits<'f> = &'f dyn Fn(&Row) -> bool;

impl Reader<'_> {
    /// Returns for each row, in the given order, whether it is hidden and which prerequisites are missing. `fits`
    /// decides whether the peer can apply a row on which other rows depend.
    ///
    /// # Errors
    /// SQLite's.
    pub fn prerequisites(&self, rows: &[Row], fits: Fits<'_>) -> Result<Vec<Prerequisites>, StoreError> {
        let cutoff = cutoff::highest(self.conn)?;
        let mut cache = LookupCache::default();
        rows.iter().map(|row| self.prerequisites_of(row, cutoff, fits, &mut cache)).collect()
    }

    fn prerequisites_of(
        &self,
        row: &Row,
        cutoff: Timestamp,
        fits: Fits<'_>,
        cache: &mut LookupCache,
    ) -> Result<Prerequisites, StoreError> {
        let mut prerequisites = Prerequisites::default();
        let Ok(payload) = Payload::read(&row.kind, &row.body) else { return Ok(prerequisites) };
        if EventType::waits_for_message(&row.kind) {
            let message_id = payload.target().unwrap_or_default();
            prerequisites.message_missing =
                !self.is_created_before(row.sequence, "message.create", message_id, cutoff, fits, cache)?;
        }
        // A clean-up hides what its origin wrote about the agent before, except other clean-ups.
        let agent_id = payload.legacy_author().filter(|_| !matches!(payload, Payload::AgentCleanup(_)));
        if let Some(agent_id) = agent_id {
            let at = self.instant(row)?;
            let is_purged = matches!(payload, Payload::MessageCreate(_)) && at < cutoff;
            prerequisites.hidden = is_purged || self.is_cleaned_up(row, at, agent_id, cache)?;
        }
        if let Payload::AgentUpdate(body) = &payload {
            for context in &body.work_contexts {
                let session_id = &context.session_id;
                prerequisites.session_missing |=
                    !self.is_created_before(row.sequence, "agent.session.start", session_id, cutoff, fits, cache)?;
            }
        }
        Ok(prerequisites)
    }

    fn instant(&self, row: &Row) -> Result<Timestamp, StoreError> {
        // Without the plus sign SQLite prefers the index by origin, and reads all events of that origin for each row.
        let mut statement =
            self.conn.prepare_cached("SELECT at FROM events WHERE event_id = ?1 AND +origin_daemon = ?2")?;
        Ok(Timestamp::from_nanos(statement.query_row((&row.id, &row.origin), |row| row.get(0))?))
    }

    /// Returns `true` if a clean-up hides the row. As in the fold, only a clean-up by the row's own origin counts.
    fn is_cleaned_up(
        &self,
        row: &Row,
        at: Timestamp,
        agent_id: &str,
        cache: &mut LookupCache,
    ) -> Result<bool, StoreError> {
        let rank = (at, row.id.as_str());
        Ok(self
            .cleanups(agent_id, cache)?
            .iter()
            .any(|cleanup| cleanup.home == row.origin && rank < (cleanup.at, &cleanup.event_id)))
    }

    /// Returns `true` if a peer that applies rows in order can have applied a creation, of this type and target, before
    /// `sequence`.
    fn is_created_before(
        &self,
        sequence: u64,
        kind: &'static str,
        target: &str,
        cutoff: Timestamp,
        fits: Fits<'_>,
        cache: &mut LookupCache,
    ) -> Result<bool, StoreError> {
        let key = (kind, target.to_owned());
        let first = match cache.creations.get(&key) {
            Some(first) => *first,
            None => {
                let first = self.first_creation(kind, target, cutoff, fits, cache)?;
                cache.creations.insert(key, first);
                first
            }
        };
        Ok(first.is_some_and(|first| first < sequence))
    }

    /// Returns the sequence of the first creation, of this type and target, that the peer can apply.
    fn first_creation(
        &self,
        kind: &str,
        target: &str,
        cutoff: Timestamp,
        fits: Fits<'_>,
        cache: &mut LookupCache,
    ) -> Result<Option<u64>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT sequence, event_id, type, origin_daemon, body, at FROM events WHERE target = ?1 AND type = ?2 ORDER BY sequence LIMIT ?3",
        )?;
        let mut rows = statement.query((target, kind, limits::LEGACY_CREATIONS))?;
        while let Some(found) = rows.next()? {
            let at = Timestamp::from_nanos(found.get(5)?);
            let row = read_row(found)?;
            // An unreadable event created nothing.
            let Ok(payload) = Payload::read(&row.kind, &row.body) else { continue };
            let Some(agent_id) = payload.legacy_author() else { continue };
            // A Go daemon that applies a clean-up deletes all messages and sessions of the agent that came before it,
            // no matter which daemon sent the clean-up.
            let swept = self.cleanups(agent_id, cache)?.iter().any(|cleanup| cleanup.sequence > row.sequence);
            if at >= cutoff && !swept && fits(&row) && !self.is_cleaned_up(&row, at, agent_id, cache)? {
                return Ok(Some(row.sequence));
            }
        }
        Ok(None)
    }

    fn cleanups<'k>(&self, agent_id: &str, cache: &'k mut LookupCache) -> Result<&'k [Cleanup], StoreError> {
        if !cache.cleanups.contains_key(agent_id) {
            let mut statement = self.conn.prepare_cached(
                "SELECT c.home, c.at, c.event_id, e.sequence FROM cleanups c
                 JOIN events e ON e.event_id = c.event_id AND +e.origin_daemon = c.home WHERE c.agent_id = ?1",
            )?;
            let read = |row: &rusqlite::Row<'_>| {
                Ok(Cleanup {
                    home: row.get(0)?,
                    at: Timestamp::from_nanos(row.get(1)?),
                    event_id: row.get(2)?,
                    sequence: row.get(3)?,
                })
            };
            let found = statement.query_map([agent_id], read)?.collect::<Result<_, _>>()?;
            cache.cleanups.insert(agent_id.to_owned(), found);
        }
        Ok(cache.cleanups.get(agent_id).map_or(&[], Vec::as_slice))
    }
}
