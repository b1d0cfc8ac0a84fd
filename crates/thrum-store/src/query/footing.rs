//! What stands around a row, for peers that apply rows one by one in the order served.

use std::collections::BTreeMap;

use thrum_core::{
    Payload, Stamp,
    exchange::{Footing, Row},
};

use crate::{Reader, StoreError, fold};

/// The last clean-up of an agent by one daemon.
struct Cleanup {
    home: String,
    at: Stamp,
    event_id: String,
    sequence: u64,
}

/// Looked up once per page, however many rows ask.
#[derive(Default)]
struct Known {
    cleanups: BTreeMap<String, Vec<Cleanup>>,
    /// By type and target.
    standing: BTreeMap<(&'static str, String), Vec<Row>>,
}

impl Reader<'_> {
    /// For each row, in the order given: whether it is hidden, and what it stands on.
    ///
    /// # Errors
    /// SQLite's.
    pub fn footings(&self, rows: &[Row]) -> Result<Vec<Footing>, StoreError> {
        let cutoff = fold::cutoff(self.conn)?;
        let mut known = Known::default();
        rows.iter().map(|row| self.footing(row, cutoff, &mut known)).collect()
    }

    fn footing(&self, row: &Row, cutoff: Stamp, known: &mut Known) -> Result<Footing, StoreError> {
        let mut footing = Footing::default();
        match Payload::read(&row.kind, &row.body) {
            Ok(Payload::MessageCreate(body)) => {
                let at = self.instant(row)?;
                footing.hidden = at < cutoff || self.is_cleaned_up(row, at, &body.agent_id, known)?;
            }
            Ok(Payload::AgentRegister(body)) => footing.hidden = self.is_cleaned_up(row, self.instant(row)?, &body.agent_id, known)?,
            Ok(Payload::SessionStart(body)) => footing.hidden = self.is_cleaned_up(row, self.instant(row)?, &body.agent_id, known)?,
            Ok(Payload::AgentUpdate(body)) => {
                footing.hidden = self.is_cleaned_up(row, self.instant(row)?, &body.agent_id, known)?;
                for context in &body.work_contexts {
                    let begun = self.standing_before(row.sequence, "agent.session.start", &context.session_id, cutoff, known)?;
                    footing.lacks_session |= begun.is_empty();
                }
            }
            Ok(payload @ (Payload::MessageEdit(_) | Payload::MessageDelete(_) | Payload::MessageReceipt(_))) => {
                let message_id = crate::tx::target(&payload).unwrap_or_default();
                footing.creations = self.standing_before(row.sequence, "message.create", message_id, cutoff, known)?;
            }
            _ => {}
        }
        Ok(footing)
    }

    fn instant(&self, row: &Row) -> Result<Stamp, StoreError> {
        let mut statement = self.conn.prepare_cached("SELECT at FROM events WHERE event_id = ?1 AND origin_daemon = ?2")?;
        Ok(Stamp::from_nanos(statement.query_row((&row.id, &row.origin), |row| row.get(0))?))
    }

    /// As the fold has it: only the daemon that said it cleans it up.
    fn is_cleaned_up(&self, row: &Row, at: Stamp, agent_id: &str, known: &mut Known) -> Result<bool, StoreError> {
        let rank = (at, row.id.as_str());
        Ok(self.cleanups(agent_id, known)?.iter().any(|cleanup| cleanup.home == row.origin && rank < (cleanup.at, &cleanup.event_id)))
    }

    /// The rows of this type about a target that stand before `sequence` for whoever applies rows in order.
    fn standing_before(
        &self,
        sequence: u64,
        kind: &'static str,
        target: &str,
        cutoff: Stamp,
        known: &mut Known,
    ) -> Result<Vec<Row>, StoreError> {
        let key = (kind, target.to_owned());
        if !known.standing.contains_key(&key) {
            let standing = self.standing(kind, target, cutoff, known)?;
            known.standing.insert(key.clone(), standing);
        }
        let standing = known.standing.get(&key).map_or(&[][..], Vec::as_slice);
        Ok(standing.iter().filter(|row| row.sequence < sequence).cloned().collect())
    }

    fn standing(&self, kind: &str, target: &str, cutoff: Stamp, known: &mut Known) -> Result<Vec<Row>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT sequence, event_id, type, origin_daemon, body, at FROM events WHERE target = ?1 AND type = ?2 ORDER BY sequence",
        )?;
        let placed = statement.query_map((target, kind), |row| {
            let at = Stamp::from_nanos(row.get(5)?);
            Ok((Row { sequence: row.get(0)?, id: row.get(1)?, kind: row.get(2)?, origin: row.get(3)?, body: row.get(4)? }, at))
        })?;
        let mut standing = Vec::new();
        for (row, at) in placed.collect::<Result<Vec<_>, _>>()? {
            let agent_id = match Payload::read(&row.kind, &row.body) {
                Ok(Payload::MessageCreate(body)) => body.agent_id,
                Ok(Payload::SessionStart(body)) => body.agent_id,
                // What cannot be read never was one.
                _ => continue,
            };
            // Whoever applies a clean-up after a message or a session loses it, whoever cleaned up.
            let swept = self.cleanups(&agent_id, known)?.iter().any(|cleanup| cleanup.sequence > row.sequence);
            if at >= cutoff && !swept && !self.is_cleaned_up(&row, at, &agent_id, known)? {
                standing.push(row);
            }
        }
        Ok(standing)
    }

    fn cleanups<'k>(&self, agent_id: &str, known: &'k mut Known) -> Result<&'k [Cleanup], StoreError> {
        if !known.cleanups.contains_key(agent_id) {
            let mut statement = self.conn.prepare_cached(
                "SELECT c.home, c.at, c.event_id, e.sequence FROM cleanups c
                 JOIN events e ON e.event_id = c.event_id AND e.origin_daemon = c.home WHERE c.agent_id = ?1",
            )?;
            let read = |row: &rusqlite::Row<'_>| {
                Ok(Cleanup { home: row.get(0)?, at: Stamp::from_nanos(row.get(1)?), event_id: row.get(2)?, sequence: row.get(3)? })
            };
            let found = statement.query_map([agent_id], read)?.collect::<Result<_, _>>()?;
            known.cleanups.insert(agent_id.to_owned(), found);
        }
        Ok(known.cleanups.get(agent_id).map_or(&[], Vec::as_slice))
    }
}
