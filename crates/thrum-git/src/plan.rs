//! Decides what a daemon publishes: which bundles stay, which are merged, and which events are written into a new one.
//!
//! New events come as a small bundle. When more than [`limits::BUNDLES_OF_A_CLASS`] bundles of about one size exist,
//! they are written again as one, so that an event is written once for each size class, and the number of bundles
//! stays below that of the parents with which a fetch negotiates. Bundles that are full are merged as they are: their
//! commits become parents of the new one, and only trees are sent. A bundle with an event that is not held any more,
//! because it was purged, is written again without it.

use std::collections::{BTreeMap, BTreeSet};

use thrum_core::{RangeSet, compare::LogOf};

use crate::{
    limits,
    manifest::{Bundle, Index, Segment},
};

/// Events of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Events {
    /// By origin sequence.
    Numbers(RangeSet),
    /// By id, for events without origin sequence.
    Ids(BTreeSet<String>),
}

impl Events {
    /// No events of a log.
    pub(crate) fn none(of: &LogOf) -> Self {
        if of.log.is_empty() { Self::Ids(BTreeSet::new()) } else { Self::Numbers(RangeSet::default()) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Numbers(numbers) => numbers.is_empty(),
            Self::Ids(ids) => ids.is_empty(),
        }
    }

    pub(crate) fn extend(&mut self, other: &Self) {
        match (self, other) {
            (Self::Numbers(numbers), Self::Numbers(more)) => numbers.extend(more),
            (Self::Ids(ids), Self::Ids(more)) => ids.extend(more.iter().cloned()),
            _ => {}
        }
    }

    pub(crate) fn subtract(&mut self, other: &Self) {
        match (self, other) {
            (Self::Numbers(numbers), Self::Numbers(less)) => numbers.subtract(less),
            (Self::Ids(ids), Self::Ids(less)) => ids.retain(|id| !less.contains(id)),
            _ => {}
        }
    }

    /// The events of this set that are not in the other.
    #[must_use]
    pub(crate) fn without(mut self, other: &Self) -> Self {
        self.subtract(other);
        self
    }
}

/// A log that has changed since the index was made.
#[derive(Clone, Debug)]
pub(crate) struct Changed {
    /// The events that are held.
    pub(crate) held: Events,
    /// Those that other daemons publish.
    pub(crate) elsewhere: Events,
}

/// What is to be published.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Bundles that stay as they are.
    pub(crate) keep: Vec<Bundle>,
    /// Bundles that become one, with their segments as they are.
    pub(crate) regroup: Vec<Bundle>,
    /// The events of the new bundle.
    pub(crate) write: BTreeMap<LogOf, Events>,
}

/// The log of a segment.
pub(crate) fn log_of(segment: &Segment) -> LogOf {
    LogOf { origin: segment.origin.clone(), log: segment.log.clone() }
}

/// Decides how an index is brought up to date. `events_of` returns the events of a segment.
pub(crate) fn plan(index: &Index, changed: &BTreeMap<LogOf, Changed>, events_of: &dyn Fn(&Segment) -> Events) -> Plan {
    let is_dirty = |segment: &Segment| {
        changed.get(&log_of(segment)).is_some_and(|log| !events_of(segment).without(&log.held).is_empty())
    };
    let (dirty, mut keep): (Vec<Bundle>, Vec<Bundle>) =
        index.bundles.iter().cloned().partition(|bundle| bundle.segments.iter().any(is_dirty));
    let mut write = BTreeMap::new();
    dirty.iter().for_each(|bundle| rewrite(bundle, changed, events_of, &mut write));
    let mut bytes: u64 = dirty.iter().map(Bundle::bytes).sum();
    for (of, Changed { held, elsewhere }) in changed {
        let mut news = held.clone().without(elsewhere);
        let published = keep.iter().flat_map(|bundle| &bundle.segments).filter(|segment| log_of(segment) == *of);
        published.for_each(|segment| news.subtract(&events_of(segment)));
        add(&mut write, of, &news);
    }
    // The new bundle counts in its class. Merging makes it larger, and so it may belong to the next one.
    while !write.is_empty() && bytes < limits::FULL_BUNDLE_BYTES {
        let new = class(bytes);
        let (same, others): (Vec<Bundle>, Vec<Bundle>) =
            keep.into_iter().partition(|bundle| class(bundle.bytes()) == new);
        keep = others;
        if same.len() < limits::BUNDLES_OF_A_CLASS {
            keep.extend(same);
            break;
        }
        for bundle in &same {
            rewrite(bundle, changed, events_of, &mut write);
            bytes += bundle.bytes();
        }
    }
    let (full, rest): (Vec<Bundle>, Vec<Bundle>) =
        keep.into_iter().partition(|bundle| bundle.bytes() >= limits::FULL_BUNDLE_BYTES);
    let of_this_size = full.len() + usize::from(bytes >= limits::FULL_BUNDLE_BYTES);
    let (regroup, full) =
        if of_this_size > limits::BUNDLES_OF_A_CLASS { (full, Vec::new()) } else { (Vec::new(), full) };
    Plan { keep: full.into_iter().chain(rest).collect(), regroup, write }
}

/// Adds the events of a bundle that are still held, and that nobody else publishes.
fn rewrite(
    bundle: &Bundle,
    changed: &BTreeMap<LogOf, Changed>,
    events_of: &dyn Fn(&Segment) -> Events,
    write: &mut BTreeMap<LogOf, Events>,
) {
    for segment in &bundle.segments {
        let of = log_of(segment);
        let mut events = events_of(segment);
        if let Some(Changed { held, elsewhere }) = changed.get(&of) {
            let lost = events.clone().without(held);
            events.subtract(&lost);
            events.subtract(elsewhere);
        }
        add(write, &of, &events);
    }
}

fn add(write: &mut BTreeMap<LogOf, Events>, of: &LogOf, events: &Events) {
    if !events.is_empty() {
        write.entry(of.clone()).or_insert_with(|| Events::none(of)).extend(events);
    }
}

/// The size class of a bundle: 0 for the smallest.
fn class(bytes: u64) -> u32 {
    let mut class = 0;
    let mut most = limits::LOWEST_CLASS_BYTES;
    while bytes > most && most < limits::FULL_BUNDLE_BYTES {
        most *= 4;
        class += 1;
    }
    class
}
