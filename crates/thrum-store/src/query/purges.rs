//! Who purged what, and when.

use thrum_core::{Payload, Stamp, key, limits};

use crate::{Reader, StoreError, fold};

/// A purge that is in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurgeSaid {
    /// The daemon that said it, as it says.
    pub by: String,
    /// Whether it is signed. If not, it takes away only what `by` wrote.
    pub signed: bool,
    /// The peer that served it; empty for our own.
    pub via: String,
    /// When it was said.
    pub at: Stamp,
    /// What is older goes; never later than `at`.
    pub cutoff: Stamp,
    /// Whether it lies ahead and waits for its time.
    pub waits: bool,
    /// Whether that is so far ahead that nothing is held up for it.
    pub far_ahead: bool,
}

impl Reader<'_> {
    /// Before what all is purged; zero if nothing is.
    ///
    /// # Errors
    /// SQLite's.
    pub fn purged_before(&self) -> Result<Stamp, StoreError> {
        fold::cutoff(self.conn)
    }

    /// The last purges that came, the last first, at most [`limits::LISTED_PURGES`]. Those that say no time are left out.
    ///
    /// # Errors
    /// SQLite's.
    pub fn purges(&self) -> Result<Vec<PurgeSaid>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT e.origin_daemon, e.received_from, e.at, e.body, p.reason
             FROM events e LEFT JOIN parked p ON p.event_id = e.event_id AND p.signer = e.signer AND p.due IS NOT NULL
             WHERE e.type = 'purge.executed' ORDER BY e.sequence DESC LIMIT ?1",
        )?;
        let mut rows = statement.query([limits::LISTED_PURGES])?;
        let mut purges = Vec::new();
        while let Some(row) = rows.next()? {
            let (at, body) = (Stamp::from_nanos(row.get(2)?), row.get::<_, String>(3)?);
            let Ok(Payload::PurgeExecuted(said)) = Payload::read("purge.executed", &body) else { continue };
            let Some(cutoff) = Stamp::parse(&said.cutoff) else { continue };
            let waits: Option<String> = row.get(4)?;
            let by: String = row.get(0)?;
            purges.push(PurgeSaid {
                signed: key::is_signed_origin(&by),
                by,
                via: row.get(1)?,
                at,
                cutoff: cutoff.min(at),
                far_ahead: waits.as_deref() == Some(fold::FAR_AHEAD),
                waits: waits.is_some(),
            });
        }
        Ok(purges)
    }
}
