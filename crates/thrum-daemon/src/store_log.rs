//! Implements the [`Log`] of replication on top of the store.

use std::sync::Arc;

use thrum_core::{
    Error, Event, Heads, SetDigest, Timestamp,
    compare::{Listing, LogOf, Numbers, Wanted},
    exchange::{Applied, Batch, Checkpoint, Holder, LongEvents, Page, Prerequisites, Row},
    limits,
    quota::OverQuota,
};
use thrum_sync::Log;

use crate::storage::Storage;

impl Log for Storage {
    fn id(&self) -> Arc<str> {
        self.commits().borrow().log.clone()
    }

    fn latest(&self) -> u64 {
        self.commits().borrow().latest
    }

    fn page(&self, after: u64, max_events: usize, max_bytes: usize) -> Result<Page, Error> {
        self.read_now(|reader| reader.page(after, max_events, max_bytes))
    }

    fn page_for(&self, holder: Holder<'_>, after: u64, max_events: usize, max_bytes: usize) -> Result<Page, Error> {
        self.read_now(|reader| reader.page_for(holder, after, max_events, max_bytes))
    }

    fn long_events(&self, max: usize, is_too_long: fn(&str) -> bool) -> Result<LongEvents, Error> {
        self.read_now(|reader| reader.long_events(max, is_too_long))
    }

    fn prerequisites(&self, rows: &[Row], fits: &dyn Fn(&Row) -> bool) -> Result<Vec<Prerequisites>, Error> {
        self.read_now(|reader| reader.prerequisites(rows, fits))
    }

    fn heads(&self) -> Result<Heads, Error> {
        self.read_now(|reader| reader.heads())
    }

    fn counted(&self) -> Result<Heads, Error> {
        self.read_now(|reader| reader.counted())
    }

    fn recount(&self) -> Result<bool, Error> {
        // Check in a read first. It does not delay the writer, and on its single snapshot, events that are written
        // meanwhile do not look lost.
        Ok(self.read_now(|reader| reader.has_losses())? && self.write_now(|tx| tx.repair_losses())?)
    }

    fn numbers(&self, of: &LogOf, after: u64, most: usize) -> Result<Numbers, Error> {
        self.read_now(|reader| reader.numbers(of, after, most))
    }

    fn listing(&self, of: &LogOf, after: &str, upto: &str, most: usize) -> Result<Listing, Error> {
        self.read_now(|reader| reader.listing(of, after, upto, most))
    }

    fn stretch(&self, of: &LogOf, after: &str, upto: &str) -> Result<(u64, SetDigest), Error> {
        self.read_now(|reader| reader.stretch(of, after, upto))
    }

    fn requested(&self, of: &LogOf, wanted: &Wanted) -> Result<Page, Error> {
        self.read_now(|reader| reader.requested(of, wanted, limits::MAX_BATCH_EVENTS, limits::MAX_BATCH_BYTES))
    }

    fn projection(&self) -> Result<SetDigest, Error> {
        self.read_now(|reader| reader.projection())
    }

    fn purge_goes_on(&self) -> Result<bool, Error> {
        self.read_now(|reader| reader.purge_goes_on())
    }

    fn purge_waits(&self) -> Result<bool, Error> {
        self.read_now(|reader| reader.purge_waits())
    }

    fn checkpoint(&self, peer: &str) -> Result<Option<Checkpoint>, Error> {
        self.read_now(|reader| reader.checkpoint(peer))
    }

    fn holds_references(&self, references: &[(&str, &str)]) -> Result<bool, Error> {
        self.read_now(|reader| reader.holds_references(references))
    }

    fn holds(&self, events: &[&Event]) -> Result<Vec<bool>, Error> {
        self.read_now(|reader| events.iter().map(|event| reader.holds(&event.id, &event.body)).collect())
    }

    fn apply(&self, batch: Batch) -> Result<Applied, Error> {
        self.take(batch)
    }

    fn acknowledged(&self, peer: &str, upto: u64, at: Timestamp) {
        // A peer that claims more than the log contains refers to an earlier life of this database.
        if upto <= self.latest() {
            self.acknowledged.record(peer, upto, at);
        }
    }

    fn forget(&self, peer: &str) -> Result<(), Error> {
        let removed = peer.to_owned();
        self.write_now(move |tx| {
            tx.save_acknowledged(&removed, true, &[])?;
            tx.forget(&removed)
        })?;
        self.acknowledged.forget(peer);
        Ok(())
    }

    fn backlog(&self, peer: &str, after: u64) -> Result<u64, Error> {
        // Usually no events wait for the peer. This case is answered without reading rows, because the backlog is also
        // requested while a peer is being read.
        if self.commits().borrow().latest_not_from(peer) <= after {
            return Ok(0);
        }
        self.read_now(|reader| reader.backlog(peer, after))
    }

    fn over_quota(&self, peers: &[&str]) -> Result<Option<OverQuota>, Error> {
        let kept = self.read_now(|reader| reader.usage(peers))?;
        Ok(kept.beyond(&(self.quota)()))
    }

    fn troubles(&self, peer: &str) -> Result<thrum_core::exchange::Troubles, Error> {
        self.read_now(|reader| reader.troubles(peer))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::storage::kit;

    #[test]
    fn the_quota_of_a_peer_is_not_read_from_a_database_that_was_replaced() {
        let (dir, storage) = kit::with_mail_of_dan(1);
        assert_eq!(storage.over_quota(&["d_go"]).unwrap(), None);
        let database = dir.path().join(".thrum/var/messages.db");
        fs::rename(&database, dir.path().join("elsewhere.db")).unwrap();
        fs::write(&database, "another").unwrap();
        assert_eq!(storage.over_quota(&["d_go"]).unwrap_err().kind, thrum_core::ErrorKind::TryAgain);
    }
}
