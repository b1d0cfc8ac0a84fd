//! Answers a non-legacy peer's questions about one log of one origin, for reconciliation.

use thrum_core::{Error, limits};

use crate::{
    Log,
    protocol::wire::{self, About, Asked, Id},
};

/// Answers from the log. Blocks on disk I/O.
pub(super) fn answer(id: &Id, about: &About, log: &dyn Log) -> Result<String, Error> {
    let of = &about.of;
    Ok(match &about.asked {
        Asked::Numbers(after) => wire::numbers_line(id, &log.numbers(of, *after, limits::MAX_TOLD_RUNS)?),
        Asked::Listing(after, upto) => wire::listing_line(id, &log.listing(of, after, upto, limits::MAX_TOLD_IDS)?),
        // Served as in a pull: which events a peer may read does not depend on how it asks.
        Asked::Events(wanted) => wire::pull_line(id, &log.requested(of, wanted)?, &log.id()),
    })
}
