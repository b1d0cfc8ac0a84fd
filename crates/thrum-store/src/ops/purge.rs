//! Throwing old mail away.

use thrum_core::{ErrorKind, Fault, Payload, Stamp, limits, payload::PurgeExecuted};

use crate::{Purged, StoreError, Tx, fold};

/// Whether what is older than `before` may be purged at `now`.
///
/// # Errors
/// [`ErrorKind::Refused`] for the future: it would take away what nobody has written yet.
pub fn check_cutoff(before: Stamp, now: Stamp) -> Result<(), Fault> {
    if before > now {
        let text = format!("{} lies in the future: mail that is not written yet cannot be purged", before.to_the_second());
        return Err(Fault::new(ErrorKind::Refused, text).hint("Purge what is older than now, or than an earlier time."));
    }
    Ok(())
}

impl Tx<'_> {
    /// Takes away messages, sessions and contexts from before an instant: here with this transaction, and at every peer when it
    /// hears of it. There is no way back. What came here before that instant and claims a later time goes, too. Nothing is stored
    /// where an earlier purge went as far.
    ///
    /// # Errors
    /// Those of [`check_cutoff`].
    pub fn purge(&mut self, before: Stamp) -> Result<Purged, StoreError> {
        check_cutoff(before, self.now())?;
        let named: Vec<String> = fold::lying_ahead(self.conn, before)?.into_iter().collect();
        if named.is_empty() && before > self.cutoff()? {
            self.append(Payload::PurgeExecuted(PurgeExecuted { cutoff: before.to_string(), ahead: named }), None)?;
            return Ok(self.swept);
        }
        for ahead in named.chunks(limits::MAX_PURGED_AHEAD) {
            let purge = PurgeExecuted { cutoff: before.to_string(), ahead: ahead.to_vec() };
            self.append(Payload::PurgeExecuted(purge), None)?;
        }
        Ok(self.swept)
    }
}
