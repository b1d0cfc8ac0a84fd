//! A log without events.

use std::sync::Arc;

use thrum_core::{
    Error, Event, Heads, SetDigest, Timestamp,
    compare::{Listing, LogOf, Numbers, Wanted},
    exchange::{Applied, Batch, Checkpoint, Holder, LongEvents, Page, Prerequisites, Row, Troubles},
};
use thrum_sync::Log;

/// An empty log that stores nothing.
pub(crate) struct Nothing;

impl Log for Nothing {
    fn id(&self) -> Arc<str> {
        "log".into()
    }
    fn latest(&self) -> u64 {
        0
    }
    fn page(&self, _: u64, _: usize, _: usize) -> Result<Page, Error> {
        Ok(Page::default())
    }
    fn page_for(&self, _: Holder<'_>, _: u64, _: usize, _: usize) -> Result<Page, Error> {
        Ok(Page::default())
    }
    fn long_events(&self, _: usize, _: fn(&str) -> bool) -> Result<LongEvents, Error> {
        Ok(LongEvents::default())
    }
    fn prerequisites(&self, rows: &[Row], _: &dyn Fn(&Row) -> bool) -> Result<Vec<Prerequisites>, Error> {
        Ok(vec![Prerequisites::default(); rows.len()])
    }
    fn heads(&self) -> Result<Heads, Error> {
        Ok(Heads::default())
    }
    fn counted(&self) -> Result<Heads, Error> {
        Ok(Heads::default())
    }
    fn recount(&self) -> Result<bool, Error> {
        Ok(false)
    }
    fn numbers(&self, _: &LogOf, _: u64, _: usize) -> Result<Numbers, Error> {
        Ok(Numbers::default())
    }
    fn listing(&self, _: &LogOf, _: &str, _: &str, _: usize) -> Result<Listing, Error> {
        Ok(Listing::Ids(Vec::new()))
    }
    fn stretch(&self, _: &LogOf, _: &str, _: &str) -> Result<(u64, SetDigest), Error> {
        Ok((0, SetDigest::default()))
    }
    fn requested(&self, _: &LogOf, _: &Wanted) -> Result<Page, Error> {
        Ok(Page::default())
    }
    fn projection(&self) -> Result<SetDigest, Error> {
        Ok(SetDigest::default())
    }
    fn purge_goes_on(&self) -> Result<bool, Error> {
        Ok(false)
    }
    fn purge_waits(&self) -> Result<bool, Error> {
        Ok(false)
    }
    fn holds_references(&self, _: &[(&str, &str)]) -> Result<bool, Error> {
        Ok(false)
    }
    fn checkpoint(&self, _: &str) -> Result<Option<Checkpoint>, Error> {
        Ok(None)
    }
    fn holds(&self, events: &[&Event]) -> Result<Vec<bool>, Error> {
        Ok(vec![false; events.len()])
    }
    fn apply(&self, _: Batch) -> Result<Applied, Error> {
        Ok(Applied::default())
    }
    fn acknowledged(&self, _: &str, _: u64, _: Timestamp) {}
    fn forget(&self, _: &str) -> Result<(), Error> {
        Ok(())
    }
    fn backlog(&self, _: &str, _: u64) -> Result<u64, Error> {
        Ok(0)
    }
    fn troubles(&self, _: &str) -> Result<Troubles, Error> {
        Ok(Troubles::default())
    }
}
