//! Queries over events that are in the log without effect, grouped by the reason.

use thrum_core::{Timestamp, limits};

use crate::{Reader, StoreError, parked_kind::ParkedKind};

/// Events from one peer that have no effect for the same reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// The peer that served the events; empty for our own.
    pub peer: String,
    /// The reason, in the form "its message is not here"; at most [`limits::MAX_REASON_BYTES`].
    pub reason: String,
    /// Number of events.
    pub events: u64,
    /// Whether the events are expected to take effect later. Otherwise they take effect only if an unexpected creation
    /// of their message arrives.
    pub waits: bool,
    /// The event that arrived last.
    pub last: ParkedEvent,
}

/// An event without effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedEvent {
    /// The id of the event, as its origin assigned it.
    pub event_id: String,
    /// The daemon that wrote it.
    pub origin: String,
    /// The type, such as `message.edit`.
    pub kind: String,
    /// When it was written, according to its origin.
    pub at: Timestamp,
    /// The id of the message that the event waits for or may not change; `None` if it is parked for another reason.
    pub target: Option<String>,
    /// When the event is folded again, for a purge in the future; otherwise `None`.
    pub due: Option<Timestamp>,
}

impl Reader<'_> {
    /// Returns all parked events by peer and reason, largest groups first: at most [`limits::MAX_PARKED_GROUPS`]
    /// groups, and whether there are more.
    ///
    /// # Errors
    /// SQLite's.
    pub fn parked(&self) -> Result<(Vec<Parked>, bool), StoreError> {
        let mut groups = self.conn.prepare_cached(
            "SELECT e.received_from, p.reason, count(*), p.kind, max(e.sequence)
             FROM parked p CROSS JOIN events e USING (event_id, signer) GROUP BY 1, 2, p.kind ORDER BY 3 DESC, 1, 2 LIMIT ?1",
        )?;
        let mut last = self.conn.prepare_cached(
            "SELECT e.event_id, e.origin_daemon, e.type, e.at, p.target, p.due
             FROM events e JOIN parked p ON p.event_id = e.event_id AND p.signer = e.signer WHERE e.sequence = ?1",
        )?;
        let mut rows = groups.query([limits::MAX_PARKED_GROUPS + 1])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            if found.len() == limits::MAX_PARKED_GROUPS {
                return Ok((found, true));
            }
            let sequence: u64 = row.get(4)?;
            let last = last.query_row([sequence], |row| {
                Ok(ParkedEvent {
                    event_id: row.get(0)?,
                    origin: row.get(1)?,
                    kind: row.get(2)?,
                    at: Timestamp::from_nanos(row.get(3)?),
                    target: row.get(4)?,
                    due: row.get::<_, Option<i64>>(5)?.map(Timestamp::from_nanos),
                })
            })?;
            found.push(Parked {
                peer: row.get(0)?,
                reason: row.get(1)?,
                events: row.get(2)?,
                waits: row.get::<_, ParkedKind>(3)?.waits(),
                last,
            });
        }
        Ok((found, false))
    }
}
