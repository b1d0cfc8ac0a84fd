//! Notes for the user about a peer, one sentence each, in addition to its state.

use crate::{legacy::unsent::Unsent, registry::Seen};
use thrum_core::{
    Timestamp,
    exchange::{LongEvents, Troubles},
    name::printable,
};

/// Maximum number of ids in the note about events that are too long.
const NAMED: usize = 3;

/// Returns the note that a legacy peer has not requested all events yet; `None` if it has, or has requested none.
pub(super) fn behind(waiting: Option<u64>, asked: Option<(u64, Timestamp)>) -> Option<String> {
    let (waiting, (_, at)) = (waiting.filter(|waiting| *waiting > 0)?, asked?);
    Some(format!(
        "The Go daemon there is still catching up: {} not there yet, and it last asked at {}",
        events(waiting, "is", "are"),
        at.to_the_second()
    ))
}

/// Returns the note about events that a legacy peer could not keep in its journal; `None` if there are none.
pub(super) fn too_long(long: &LongEvents) -> Option<String> {
    let ids: Vec<String> = long.ids.iter().map(|id| printable(id)).collect();
    if ids.is_empty() {
        return None;
    }
    let or_more = if long.more { " or more" } else { "" };
    let named = ids[..ids.len().min(NAMED)].join(", ");
    let others = if ids.len() > NAMED { format!(" and {} others", ids.len() - NAMED) } else { String::new() };
    let number = ids.len() as u64;
    let what = if or_more.is_empty() { events(number, "is", "are") } else { format!("{number}{or_more} events are") };
    Some(format!("{what} too long for the journal of a Go daemon and not sent to it: {named}{others}"))
}

/// Returns the note about events that a legacy peer could not apply, for one reason.
pub(super) fn unsent(why: &str, unsent: &Unsent) -> String {
    let named: Vec<String> = unsent.ids.iter().map(|id| printable(id)).collect();
    let others = unsent.count.saturating_sub(named.len() as u64);
    let others = if others > 0 { format!(" and {others} others") } else { String::new() };
    format!(
        "{} not sent to the Go daemon there, because {why}: {}{others}",
        events(unsent.count, "is", "are"),
        named.join(", ")
    )
}

/// Returns the note about edits and deletions that have no effect, because they are not by the author of the message;
/// `None` if there are none.
pub(super) fn without_effect(troubles: &Troubles) -> Option<String> {
    let (id, why) = troubles.last_without_effect.as_ref()?;
    let what = events(troubles.without_effect, "changes", "change");
    let (id, why) = (printable(id), printable(why));
    Some(format!("{what} nothing here, because only the author of a message may edit or delete it: {id}, {why}"))
}

/// Returns the note that two daemons run with the peer's key; `None` unless `both` names two.
pub(super) fn same_key(both: &[Seen]) -> Option<String> {
    let [one, other] = both else { return None };
    Some(format!("Two daemons run with its key, at {} and at {}; {SAME_KEY}", one.location(), other.location()))
}

/// Advice when two daemons run with one key.
pub const SAME_KEY: &str = "on the copy run `thrum daemon stop && thrum daemon start --new-identity`, and pair it anew";

fn events(number: u64, one: &str, many: &str) -> String {
    if number == 1 { format!("1 event {one}") } else { format!("{number} events {many}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_too_long_for_a_go_daemon_are_counted_and_listed() {
        assert_eq!(too_long(&LongEvents::default()), None);
        let long =
            |count: u64| LongEvents { ids: (1..=count).map(|n| format!("evt_{n}")).collect(), more: count == 64 };
        let text = " too long for the journal of a Go daemon and not sent to it: ";
        assert_eq!(too_long(&long(1)).unwrap(), format!("1 event is{text}evt_1"));
        assert_eq!(too_long(&long(5)).unwrap(), format!("5 events are{text}evt_1, evt_2, evt_3 and 2 others"));
        let many = too_long(&long(64)).unwrap();
        assert!(many.starts_with("64 or more events are"), "{many}");
    }

    #[test]
    fn a_lagging_go_daemon_has_a_note_with_its_backlog() {
        let asked = Some((7, Timestamp::ZERO));
        assert_eq!((behind(Some(0), asked), behind(None, None), behind(Some(2), None)), (None, None, None));
        assert!(behind(Some(2), asked).unwrap().contains("2 events are not there yet"));
    }
}
