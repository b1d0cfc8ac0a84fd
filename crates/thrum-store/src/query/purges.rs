//! Queries over the purges in the log.

use thrum_core::{Payload, Timestamp, key, limits};

use crate::{Reader, StoreError, cutoff, parked_kind::ParkedKind};

/// A purge in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurgeRecord {
    /// The daemon that executed the purge, as stated in the event.
    pub by: String,
    /// Whether the purge is signed. If not, it removes only events by `by`.
    pub signed: bool,
    /// The peer that served it; empty for our own.
    pub via: String,
    /// Time of the purge.
    pub at: Timestamp,
    /// The cutoff, before which events are removed; never later than `at`.
    pub cutoff: Timestamp,
    /// Number of listed messages, sessions and events, which claim a later time.
    pub listed: usize,
    /// Whether the purge lies in the future and is parked.
    pub waits: bool,
    /// Whether the purge lies so far in the future that comparisons with peers do not wait for it.
    pub far_ahead: bool,
}

impl Reader<'_> {
    /// The cutoff of purges for all origins; zero if there is none.
    ///
    /// # Errors
    /// SQLite's.
    pub fn purged_before(&self) -> Result<Timestamp, StoreError> {
        cutoff::for_everything(self.conn)
    }

    /// Returns the last purges to arrive, latest first, at most [`limits::LISTED_PURGES`]. Purges without a valid
    /// cutoff are left out.
    ///
    /// # Errors
    /// SQLite's.
    pub fn purges(&self) -> Result<Vec<PurgeRecord>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT e.origin_daemon, e.received_from, e.at, e.body, p.kind = ?2
             FROM events e LEFT JOIN parked p ON p.event_id = e.event_id AND p.signer = e.signer AND p.due IS NOT NULL
             WHERE e.type = 'purge.executed' ORDER BY e.sequence DESC LIMIT ?1",
        )?;
        let mut rows = statement.query((limits::LISTED_PURGES, ParkedKind::PurgeFarAhead))?;
        let mut purges = Vec::new();
        while let Some(row) = rows.next()? {
            let (at, text) = (Timestamp::from_nanos(row.get(2)?), row.get::<_, String>(3)?);
            let Ok(Payload::PurgeExecuted(body)) = Payload::read("purge.executed", &text) else { continue };
            let Some(cutoff) = Timestamp::parse(&body.cutoff) else { continue };
            // NULL if the purge is not parked.
            let far_ahead: Option<bool> = row.get(4)?;
            let by: String = row.get(0)?;
            purges.push(PurgeRecord {
                signed: key::is_signed_origin(&by),
                by,
                via: row.get(1)?,
                at,
                cutoff: cutoff.min(at),
                listed: body.ahead.len(),
                far_ahead: far_ahead == Some(true),
                waits: far_ahead.is_some(),
            });
        }
        Ok(purges)
    }
}
