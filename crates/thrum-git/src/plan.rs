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

/// A log that is looked at again.
#[derive(Clone, Debug)]
pub(crate) struct Changed {
    /// The events that are held.
    pub(crate) held: Events,
    /// The events that were purged; `None` for a log without origin sequences, of which all that are not held count as
    /// purged.
    pub(crate) gone: Option<Events>,
    /// Those that other daemons publish.
    pub(crate) elsewhere: Events,
}

/// What is to be published.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Bundles that stay as they are.
    pub(crate) keep: Vec<Bundle>,
    /// The events of the new bundle.
    pub(crate) write: BTreeMap<LogOf, Events>,
}

/// The log of a segment.
pub(crate) fn log_of(segment: &Segment) -> LogOf {
    LogOf { origin: segment.origin.clone(), log: segment.log.clone() }
}

/// Decides which bundles stay, and which events are written. `events_of` returns the events of a segment.
///
/// Events that others publish are not written, but stay where they are published already: two daemons that each leave
/// an event to the other would both drop it.
pub(crate) fn plan(index: &Index, changed: &BTreeMap<LogOf, Changed>, events_of: &dyn Fn(&Segment) -> Events) -> Plan {
    let gone = |segment: &Segment| {
        let mut events = events_of(segment);
        match changed.get(&log_of(segment)) {
            Some(Changed { gone: Some(gone), .. }) => {
                let rest = events.clone().without(gone);
                events.subtract(&rest);
            }
            Some(Changed { held, .. }) => events.subtract(held),
            None => return Events::none(&log_of(segment)),
        }
        events
    };
    let (dirty, keep): (Vec<Bundle>, Vec<Bundle>) = index
        .bundles
        .iter()
        .cloned()
        .partition(|bundle| bundle.segments.iter().any(|segment| !gone(segment).is_empty()));
    let mut write = BTreeMap::new();
    for segment in dirty.iter().flat_map(|bundle| &bundle.segments) {
        add(&mut write, &log_of(segment), &events_of(segment).without(&gone(segment)));
    }
    for (of, Changed { held, elsewhere, .. }) in changed {
        let mut news = held.clone().without(elsewhere);
        let published = keep.iter().flat_map(|bundle| &bundle.segments).filter(|segment| log_of(segment) == *of);
        published.for_each(|segment| news.subtract(&events_of(segment)));
        add(&mut write, of, &news);
    }
    Plan { keep, write }
}

/// Bundles to be merged.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Merge {
    /// Their events are written again, into one bundle.
    Rewrite(Vec<Bundle>),
    /// They become one with their segments as they are.
    Regroup(Vec<Bundle>),
}

/// Takes out the bundles to be merged next: those of the smallest size of which there are too many. `None` if there are
/// few of each size.
pub(crate) fn merge(bundles: &mut Vec<Bundle>) -> Option<Merge> {
    let classes: BTreeSet<u32> = bundles.iter().map(|bundle| class(bundle.bytes())).collect();
    let count = |wanted: u32| bundles.iter().filter(|bundle| class(bundle.bytes()) == wanted).count();
    let crowded = classes.into_iter().find(|one| count(*one) > limits::BUNDLES_OF_A_CLASS)?;
    let (taken, rest) = std::mem::take(bundles).into_iter().partition(|bundle| class(bundle.bytes()) == crowded);
    *bundles = rest;
    Some(if crowded == class(limits::FULL_BUNDLE_BYTES) { Merge::Regroup(taken) } else { Merge::Rewrite(taken) })
}

/// All events of bundles, by log.
pub(crate) fn events_of(bundles: &[Bundle], events_in: &dyn Fn(&Segment) -> Events) -> BTreeMap<LogOf, Events> {
    let mut events = BTreeMap::new();
    for segment in bundles.iter().flat_map(|bundle| &bundle.segments) {
        add(&mut events, &log_of(segment), &events_in(segment));
    }
    events
}

fn add(write: &mut BTreeMap<LogOf, Events>, of: &LogOf, events: &Events) {
    if !events.is_empty() {
        write.entry(of.clone()).or_insert_with(|| Events::none(of)).extend(events);
    }
}

/// The size class of a bundle: 0 for the smallest, that of [`limits::FULL_BUNDLE_BYTES`] for all that are full.
fn class(bytes: u64) -> u32 {
    let (mut class, mut most) = (0, limits::LOWEST_CLASS_BYTES);
    while bytes >= most && most <= limits::FULL_BUNDLE_BYTES {
        most *= 4;
        class += 1;
    }
    class
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(name: &str, bytes: u64) -> Bundle {
        let segment = Segment {
            blob: name.into(),
            bytes,
            origin: "d_a".into(),
            log: "l".into(),
            events: 1,
            numbers: RangeSet::default(),
        };
        Bundle { commit: name.into(), segments: vec![segment] }
    }

    #[test]
    fn bundles_of_each_size_are_merged_when_there_are_four() {
        let (small, middle, full) = (1 << 10, 300 << 10, 9 << 20);
        for bytes in [small, middle, full] {
            let mut bundles: Vec<Bundle> = (0..3).map(|n| bundle(&n.to_string(), bytes)).collect();
            bundles.push(bundle("other", 70 << 10));
            assert_eq!(merge(&mut bundles), None, "{bytes}");
            bundles.push(bundle("fourth", bytes));
            let (taken, is_full) = match merge(&mut bundles) {
                Some(Merge::Regroup(taken)) => (taken, true),
                Some(Merge::Rewrite(taken)) => (taken, false),
                None => panic!("{bytes}"),
            };
            assert_eq!((taken.len(), is_full, bundles.len()), (4, bytes == full, 1));
        }
    }

    #[test]
    fn there_are_at_most_fifteen_bundles_whatever_their_sizes() {
        let mut bundles = Vec::new();
        let mut seed = 7u64;
        for n in 0..2000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bundles.push(bundle(&n.to_string(), 1 << (8 + (seed >> 33) % 14)));
            while let Some(merged) = merge(&mut bundles) {
                let (Merge::Rewrite(taken) | Merge::Regroup(taken)) = merged;
                bundles.push(bundle("merged", taken.iter().map(Bundle::bytes).sum()));
            }
            assert!(bundles.len() <= 15, "{} bundles", bundles.len());
        }
    }

    fn numbers(numbers: &[u64]) -> Events {
        Events::Numbers(numbers.iter().copied().collect())
    }

    /// The plan for one log whose numbers 1 to 4 are published in two bundles.
    fn planned(held: &[u64], gone: &[u64], elsewhere: &[u64]) -> (Vec<String>, Option<Events>) {
        let of = LogOf { origin: "d_a".into(), log: "l".into() };
        let published = |name: &str, numbers: &[u64]| {
            let mut bundle = bundle(name, 10);
            bundle.segments[0].numbers = numbers.iter().copied().collect();
            bundle
        };
        let index = Index { bundles: vec![published("one", &[1, 2]), published("two", &[3, 4])], ..Index::default() };
        let log = Changed { held: numbers(held), gone: Some(numbers(gone)), elsewhere: numbers(elsewhere) };
        let changed = BTreeMap::from([(of.clone(), log)]);
        let Plan { keep, mut write } = plan(&index, &changed, &|segment| Events::Numbers(segment.numbers.clone()));
        (keep.into_iter().map(|bundle| bundle.commit).collect(), write.remove(&of))
    }

    #[test]
    fn news_are_written_and_what_others_publish_is_left_to_them() {
        assert_eq!(planned(&[1, 2, 3, 4, 5, 6], &[], &[6]), (vec!["one".into(), "two".into()], Some(numbers(&[5]))));
        assert_eq!(planned(&[1, 2, 3, 4], &[], &[1, 2, 3, 4]), (vec!["one".into(), "two".into()], None));
    }

    #[test]
    fn a_purged_event_makes_its_bundle_be_written_again_and_a_lost_one_does_not() {
        assert_eq!(planned(&[1, 2, 4], &[3], &[]), (vec!["one".into()], Some(numbers(&[4]))));
        assert_eq!(planned(&[4], &[1, 2, 3], &[]), (vec![], Some(numbers(&[4]))));
        assert_eq!(planned(&[1, 2, 4], &[], &[]), (vec!["one".into(), "two".into()], None), "the ref still has it");
    }
}
