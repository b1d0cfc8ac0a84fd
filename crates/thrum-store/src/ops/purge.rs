//! Purges old mail.

use thrum_core::{Error, ErrorKind, Payload, Timestamp, limits, payload::PurgeExecuted};

use crate::{Purged, Store, StoreError, Tx, cutoff};

/// Checks that everything older than `before` may be purged at `now`.
///
/// # Errors
/// [`ErrorKind::Refused`] for a time in the future: the purge would remove mail that is not written yet.
pub fn check_cutoff(before: Timestamp, now: Timestamp) -> Result<(), Error> {
    if before > now {
        let text =
            format!("{} lies in the future: mail that is not written yet cannot be purged", before.to_the_second());
        return Err(Error::new(ErrorKind::Refused, text).hint("Purge what is older than now, or than an earlier time."));
    }
    Ok(())
}

impl Tx<'_> {
    /// Purges messages, sessions, work contexts and presences from before a time, here and at every peer that receives
    /// the event. Once this is committed, such events are no longer accepted; existing ones are removed from then on,
    /// in pieces ([`Reader::purge_goes_on`](crate::Reader::purge_goes_on)). A purge cannot be undone. Events that
    /// arrived here before that time and claim a later one are purged, too. Appends nothing if an earlier purge already
    /// went as far and no such events have arrived since.
    ///
    /// # Errors
    /// Those of [`check_cutoff`].
    pub fn purge(&mut self, before: Timestamp) -> Result<(), StoreError> {
        check_cutoff(before, self.now())?;
        let lying_ahead: Vec<String> = cutoff::lying_ahead(self.conn, before)?.into_iter().collect();
        if lying_ahead.is_empty() && before > self.cutoff()? {
            self.append(
                Payload::PurgeExecuted(PurgeExecuted { cutoff: before.to_string(), ahead: lying_ahead }),
                None,
            )?;
            return Ok(());
        }
        for ahead in lying_ahead.chunks(limits::MAX_PURGED_AHEAD) {
            let purge = PurgeExecuted { cutoff: before.to_string(), ahead: ahead.to_vec() };
            self.append(Payload::PurgeExecuted(purge), None)?;
        }
        Ok(())
    }
}

impl Store {
    /// Purges, and does the pending work that this leaves. Returns the counts of purged items.
    ///
    /// # Errors
    /// Those of [`Tx::purge`].
    pub fn purge(&mut self, before: Timestamp) -> Result<Purged, StoreError> {
        let purged = self.reader().purge_preview(before)?;
        self.write(|tx| tx.purge(before))?;
        Ok(purged)
    }
}
