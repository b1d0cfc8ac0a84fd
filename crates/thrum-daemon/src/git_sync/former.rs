//! Removes this daemon's ref where it has published before, so that a later purge leaves nothing behind.

use std::time::Duration;

use thrum_core::{Ambient, Error, ErrorKind, name};
use thrum_git::Mirror;

use super::{
    Shared,
    history::Event,
    open_repository,
    places::{Former, Place},
};
use crate::ambient::System;

/// The most characters of a reason that is kept.
const MOST_CHARS: usize = 400;

/// Pause between two attempts to remove a ref.
const AGAIN: Duration = Duration::from_secs(86_400);

/// Which of the former places are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// One of those that were not tried within the last day.
    WhenDue,
    /// The one that was not tried for longest: a person waits.
    Now,
    /// All.
    All,
}

/// Removes this daemon's ref where it published before. What cannot be removed stays in the state, with the reason.
///
/// # Errors
/// The state cannot be written.
pub(super) fn remove(shared: &Shared, attempt: Attempt) -> Result<(), Error> {
    let now = System.now();
    let places = shared.state().places.clone();
    let tried = |former: &Former| former.failed.as_ref().map(|(at, _)| *at);
    let is_due = |former: &&Former| {
        attempt != Attempt::WhenDue || tried(former).is_none_or(|at| at > now || now.since(at) > AGAIN)
    };
    let mut due: Vec<&Former> = places.former.iter().filter(is_due).collect();
    due.sort_by_key(|former| tried(former));
    // One that hangs holds up one exchange only.
    due.truncate(if attempt == Attempt::All { due.len() } else { 1 });
    for former in due {
        let removed = remove_at(shared, &former.place, places.current.is_some());
        let mut state = shared.state();
        let mut next = state.clone();
        match &removed {
            Ok(_) => next.places.former.retain(|other| other.place != former.place),
            Err(error) => {
                let reason = name::printable(&error.message).chars().take(MOST_CHARS).collect::<String>();
                tracing::warn!(%reason, remote = former.place.remote, "cannot remove what was published there");
                for other in next.places.former.iter_mut().filter(|other| other.place == former.place) {
                    other.failed = Some((now, reason.clone()));
                }
            }
        }
        next.save(&shared.repo)?;
        *state = next;
        drop(state);
        if removed.is_ok_and(|was_there| was_there) {
            let removed = Event::removed(&former.place.remote, &former.place.prefix, &shared.me.daemon_id);
            shared.history().add(now, vec![removed], &shared.hold);
        }
    }
    Ok(())
}

/// Removes this daemon's ref at a place. Returns `true` if it was there. While it `publishes` elsewhere, a ref with its
/// current tip stays: that is the same repository, at another address.
fn remove_at(shared: &Shared, place: &Place, publishes: bool) -> Result<bool, Error> {
    let now = thrum_git::addresses(shared.repo.main_root(), &place.remote, &shared.stop)?;
    // The settings of a remote apply by its name, if that still stands for the same addresses.
    let is_same = Place::new(&place.remote, &now, &place.prefix) == *place;
    let names = if is_same { std::slice::from_ref(&place.remote) } else { &place.addresses[..] };
    if names.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, "its address has a password, and is not kept"));
    }
    let mut was_there = false;
    for name in names {
        let repository = open_repository(shared, name, place.prefix.clone())?;
        let current = if publishes { repository.own_tip()? } else { None };
        was_there |= repository.remove(&shared.me.daemon_id, current.as_deref())?;
    }
    Ok(was_there)
}
