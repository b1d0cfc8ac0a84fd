//! What stands around a row, for peers that apply rows one by one in the order served.

use std::collections::BTreeMap;

use thrum_core::{
    Payload, Stamp,
    exchange::{Footing, Row},
};

use crate::{Reader, StoreError, fold};

/// A row with its instant.
struct Placed {
    row: Row,
    at: Stamp,
}

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
    creations: BTreeMap<String, Vec<Placed>>,
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
            Ok(Payload::AgentUpdate(body)) => footing.hidden = self.is_cleaned_up(row, self.instant(row)?, &body.agent_id, known)?,
            Ok(payload @ (Payload::MessageEdit(_) | Payload::MessageDelete(_) | Payload::MessageReceipt(_))) => {
                let message_id = crate::tx::target(&payload).unwrap_or_default();
                footing.creations = self.creations_before(row.sequence, message_id, cutoff, known)?;
            }
            _ => {}
        }
        Ok(footing)
    }

    fn instant(&self, row: &Row) -> Result<Stamp, StoreError> {
        let mut statement = self.conn.prepare_cached("SELECT at FROM events WHERE event_id = ?1")?;
        Ok(Stamp::from_nanos(statement.query_row([&row.id], |row| row.get(0))?))
    }

    /// As the fold has it: only the daemon that said it cleans it up.
    fn is_cleaned_up(&self, row: &Row, at: Stamp, agent_id: &str, known: &mut Known) -> Result<bool, StoreError> {
        let rank = (at, row.id.as_str());
        Ok(self.cleanups(agent_id, known)?.iter().any(|cleanup| cleanup.home == row.origin && rank < (cleanup.at, &cleanup.event_id)))
    }

    fn creations_before(&self, sequence: u64, message_id: &str, cutoff: Stamp, known: &mut Known) -> Result<Vec<Row>, StoreError> {
        if !known.creations.contains_key(message_id) {
            let mut statement = self.conn.prepare_cached(
                "SELECT sequence, event_id, type, origin_daemon, body, at FROM events WHERE target = ?1 AND type = 'message.create'",
            )?;
            let placed = statement.query_map([message_id], |row| {
                let at = Stamp::from_nanos(row.get(5)?);
                let row = Row { sequence: row.get(0)?, id: row.get(1)?, kind: row.get(2)?, origin: row.get(3)?, body: row.get(4)? };
                Ok(Placed { row, at })
            })?;
            let mut standing = Vec::new();
            for placed in placed.collect::<Result<Vec<_>, _>>()? {
                // What cannot be read was never a message.
                let Ok(Payload::MessageCreate(body)) = Payload::read(&placed.row.kind, &placed.row.body) else { continue };
                let hidden = placed.at < cutoff || self.is_cleaned_up(&placed.row, placed.at, &body.agent_id, known)?;
                // Whoever applies a clean-up after a message loses the message, whoever cleaned up.
                let swept = self.cleanups(&body.agent_id, known)?.iter().any(|cleanup| cleanup.sequence > placed.row.sequence);
                if !hidden && !swept {
                    standing.push(placed);
                }
            }
            known.creations.insert(message_id.to_owned(), standing);
        }
        let standing = known.creations.get(message_id).map_or(&[][..], Vec::as_slice);
        Ok(standing.iter().filter(|placed| placed.row.sequence < sequence).map(|placed| placed.row.clone()).collect())
    }

    fn cleanups<'k>(&self, agent_id: &str, known: &'k mut Known) -> Result<&'k [Cleanup], StoreError> {
        if !known.cleanups.contains_key(agent_id) {
            let mut statement = self.conn.prepare_cached(
                "SELECT c.home, c.at, c.event_id, e.sequence FROM cleanups c JOIN events e USING (event_id) WHERE c.agent_id = ?1",
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
