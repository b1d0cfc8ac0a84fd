//! A log without events.

use std::sync::Arc;

use thrum_core::{
    Event, Fault, Heads, Stamp, Sum,
    compare::{Listing, LogOf, Numbers, Wanted},
    exchange::{Applied, Batch, Checkpoint, Footing, LongEvents, Page, Row, Troubles},
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
    fn page(&self, _: u64, _: usize, _: usize) -> Result<Page, Fault> {
        Ok(Page::default())
    }
    fn long_events(&self, _: usize, _: fn(&str) -> bool) -> Result<LongEvents, Fault> {
        Ok(LongEvents::default())
    }
    fn footings(&self, rows: &[Row], _: &dyn Fn(&Row) -> bool) -> Result<Vec<Footing>, Fault> {
        Ok(vec![Footing::default(); rows.len()])
    }
    fn heads(&self) -> Result<Heads, Fault> {
        Ok(Heads::default())
    }
    fn counted(&self) -> Result<Heads, Fault> {
        Ok(Heads::default())
    }
    fn mend(&self) -> Result<bool, Fault> {
        Ok(false)
    }
    fn numbers(&self, _: &LogOf, _: u64, _: usize) -> Result<Numbers, Fault> {
        Ok(Numbers::default())
    }
    fn listing(&self, _: &LogOf, _: &str, _: &str, _: usize) -> Result<Listing, Fault> {
        Ok(Listing::Ids(Vec::new()))
    }
    fn stretch(&self, _: &LogOf, _: &str, _: &str) -> Result<(u64, Sum), Fault> {
        Ok((0, Sum::default()))
    }
    fn named(&self, _: &LogOf, _: &Wanted) -> Result<Page, Fault> {
        Ok(Page::default())
    }
    fn projection(&self) -> Result<Sum, Fault> {
        Ok(Sum::default())
    }
    fn purge_waits(&self) -> Result<bool, Fault> {
        Ok(false)
    }
    fn checkpoint(&self, _: &str) -> Result<Option<Checkpoint>, Fault> {
        Ok(None)
    }
    fn holds(&self, events: &[&Event]) -> Result<Vec<bool>, Fault> {
        Ok(vec![false; events.len()])
    }
    fn apply(&self, _: Batch) -> Result<Applied, Fault> {
        Ok(Applied::default())
    }
    fn acknowledged(&self, _: &str, _: u64, _: Stamp) {}
    fn forget(&self, _: &str) -> Result<(), Fault> {
        Ok(())
    }
    fn backlog(&self, _: &str, _: u64) -> Result<u64, Fault> {
        Ok(0)
    }
    fn troubles(&self, _: &str) -> Result<Troubles, Fault> {
        Ok(Troubles::default())
    }
}
