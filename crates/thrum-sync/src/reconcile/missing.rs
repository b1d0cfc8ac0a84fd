//! Evaluates one reply of a peer: which events only one side holds.

use thrum_core::{RangeSet, SetDigest, compare::Numbers, limits, ranges::LAST};

use crate::answers::{AbsentEvents, Missing};

/// Records the differences in one interval of a log above `after`. Returns the origin sequences missing here.
pub(super) fn record_numbers(missing: &mut Missing, ours: &Numbers, theirs: &Numbers, after: u64) -> RangeSet {
    let window = after + 1..=if theirs.next == 0 { LAST } else { theirs.next };
    let held = ours.held.within(&window);
    let wanted_here = theirs.held.clone().without(&held).without(&ours.purged);
    let missing_there = held.clone().without(&theirs.held).without(&theirs.purged);
    add_numbers(&mut missing.here, &wanted_here);
    add_numbers(&mut missing.there, &missing_there);
    let both = |one: &RangeSet, other: &RangeSet| one.clone().without(&one.clone().without(other));
    for (purged, found) in [
        (&mut missing.purged_there, both(&held, &theirs.purged)),
        (&mut missing.purged_here, both(&theirs.held, &ours.purged)),
    ] {
        purged.extend(&found);
        *purged = purged.first(limits::MAX_NAMED);
    }
    wanted_here
}

fn add_numbers(absent: &mut AbsentEvents, numbers: &RangeSet) {
    absent.events = absent.events.saturating_add(numbers.count());
    absent.numbers.extend(&numbers.first(limits::MAX_NAMED));
    absent.numbers = absent.numbers.first(limits::MAX_NAMED);
}

/// Records the differences in one interval of ids. Returns the ids missing here. Both lists must be sorted.
pub(super) fn record_ids(
    missing: &mut Missing,
    ours: &[(String, SetDigest)],
    theirs: &[(String, SetDigest)],
) -> Vec<String> {
    let find = |list: &[(String, SetDigest)], id: &str| list.binary_search_by(|(known, _)| known.as_str().cmp(id)).ok();
    let mut wanted_here = Vec::new();
    for (id, sum) in theirs {
        match find(ours, id) {
            None => wanted_here.push(id.clone()),
            Some(at) if ours[at].1 != *sum => missing.other_content += 1,
            Some(_) => {}
        }
    }
    let there: Vec<&String> = ours.iter().map(|(id, _)| id).filter(|id| find(theirs, id).is_none()).collect();
    missing.here.events += wanted_here.len() as u64;
    missing.there.events += there.len() as u64;
    let room = |ids: &[String]| limits::MAX_NAMED.saturating_sub(ids.len());
    let (here, beyond) = (room(&missing.here.ids), room(&missing.there.ids));
    missing.here.ids.extend(wanted_here.iter().take(here).cloned());
    missing.there.ids.extend(there.into_iter().take(beyond).cloned());
    wanted_here
}
