//! Decides which of two competing events counts.
//!
//! The projection must not depend on the order of arrival. Edits, registrations and similar events compete by [`Rank`]:
//! time, then event id. Creations of a message and starts of a session compete for an id by [`Precedence`], because
//! any daemon can write an earlier time into an event.
//!
//! Example: `d_go`, which signs nothing, creates the message `msg_1` at 9:00, and a daemon with a key creates `msg_1`
//! at 10:00. The id is bound to neither of them (`ids::is_made_by`), so the signed creation counts, although it is
//! later.

use thrum_core::{Event, Timestamp, ids, key};

/// The order of an event among competing events. The last counts; of the deletions of a message and the ends of a
/// session, the first.
pub(super) type Rank<'a> = (Timestamp, &'a str);

/// The rank of an event.
pub(super) fn rank(event: &Event) -> Rank<'_> {
    (event.at, &event.id)
}

/// The order of an event among those that create the message or session of one id; the first counts. The daemon that
/// made the id comes first, then daemons that sign, and only then the earlier time, because any daemon can claim an
/// earlier time.
pub(super) type Precedence<'a> = (bool, bool, Timestamp, &'a str, &'a str);

/// The precedence of an event with this origin and rank.
pub(super) fn precedence<'a>(id: &str, origin: &'a str, (at, event_id): Rank<'a>) -> Precedence<'a> {
    (!ids::is_made_by(id, origin), !key::is_signed_origin(origin), at, event_id, origin)
}

/// The precedence of an event that creates the message or session `id`.
pub(super) fn precedence_of<'a>(id: &str, event: &'a Event) -> Precedence<'a> {
    precedence(id, &event.origin, rank(event))
}

/// An event as passed to its rule.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) event: &'a Event,
    pub(super) sequence: u64,
}

impl At<'_> {
    pub(super) fn rank(&self) -> Rank<'_> {
        rank(self.event)
    }
}
