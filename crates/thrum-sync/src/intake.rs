//! Turns served events into a batch: overlays the envelope on each event, and checks form and signature. Runs outside
//! the writer's thread.
//!
//! Signatures are most of the work of reading a peer. Therefore a large batch is split among threads, and events that
//! the log already holds are not verified again, since a peer also serves our own events back.

use std::{collections::BTreeSet, num::NonZero, panic::resume_unwind, thread};

use thrum_core::{
    Error, Event,
    event::{self, Candidate, Malformed, Rejected},
    exchange::Batch,
};

use crate::{Log, protocol::wire::Served};

/// Minimum number of events for one thread: about five milliseconds of work.
const SHARE: usize = 128;

/// Maximum number of threads for one batch. More would only compete with writing and serving.
const MAX_THREADS: usize = 4;

/// A batch of events that a peer has sent, partly as references.
#[derive(Debug)]
pub struct Taken {
    /// The events that were sent with their bodies.
    pub batch: Batch,
    /// Number of references.
    pub referred: usize,
    /// Origins of the events that were sent with their bodies although the log holds them.
    pub repeated: BTreeSet<String>,
}

/// Builds a batch from served events as [`batch`] does, and drops references to events that the log holds. Returns
/// `None` if the log lacks an event that is referred to.
///
/// # Errors
/// The log cannot be read.
pub fn take(
    peer: &str,
    log_id: &str,
    checkpoint: u64,
    served: &[Served],
    log: &dyn Log,
) -> Result<Option<Taken>, Error> {
    let (references, others): (Vec<_>, Vec<_>) = served.iter().partition(|one| one.reference.is_some());
    let named: Option<Vec<(&str, &str)>> =
        references.iter().map(|one| one.envelope[0].as_deref().zip(one.reference.as_deref())).collect();
    let holds = match &named {
        Some(named) => named.is_empty() || log.holds_references(named)?,
        None => false,
    };
    if !holds {
        return Ok(None);
    }
    let (batch, repeated) = if references.is_empty() {
        validated(peer, log_id, checkpoint, served, log)?
    } else {
        validated(peer, log_id, checkpoint, &others.into_iter().cloned().collect::<Vec<_>>(), log)?
    };
    Ok(Some(Taken { batch, referred: references.len(), repeated }))
}

/// Builds a batch from served events, each of which is validated separately: an invalid event is added to `rejected`
/// and blocks no other event (I5). The caller adds the `checkpoint_event`.
///
/// # Errors
/// The log cannot be read.
pub fn batch(peer: &str, log_id: &str, checkpoint: u64, served: &[Served], log: &dyn Log) -> Result<Batch, Error> {
    validated(peer, log_id, checkpoint, served, log).map(|(batch, _)| batch)
}

fn validated(
    peer: &str,
    log_id: &str,
    checkpoint: u64,
    served: &[Served],
    log: &dyn Log,
) -> Result<(Batch, BTreeSet<String>), Error> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS);
    let share = served.len().div_ceil(threads).max(SHARE);
    let mut shares = served.chunks(share);
    let first = shares.next().unwrap_or_default();
    let validated: Vec<_> = thread::scope(|scope| {
        let others: Vec<_> =
            shares.map(|share| scope.spawn(move || validate(share, &|events| log.holds(events)))).collect();
        let first = validate(first, &|events| log.holds(events));
        std::iter::once(first)
            .chain(others.into_iter().map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic))))
            .collect()
    });
    let mut repeated = BTreeSet::new();
    let mut batch = Batch {
        peer: peer.to_owned(),
        log: log_id.to_owned(),
        checkpoint,
        checkpoint_event: String::new(),
        events: Vec::new(),
        rejected: Vec::new(),
    };
    for one in validated {
        let one = one?;
        batch.events.extend(one.events);
        batch.rejected.extend(one.rejected);
        repeated.extend(one.repeated);
    }
    Ok((batch, repeated))
}

/// Reports for each event whether a log already holds it.
pub type Holds<'a> = &'a dyn Fn(&[&Event]) -> Result<Vec<bool>, Error>;

/// Served events after validation.
#[derive(Debug)]
pub struct Validated {
    /// Those that may enter the log.
    pub events: Vec<Event>,
    /// Those that may not.
    pub rejected: Vec<Rejected>,
    /// Origins of events that the log already holds, as far as this was found out.
    pub repeated: BTreeSet<String>,
}

/// Splits served events into those that may enter the log and rejected ones. `holds` reports which events are already
/// in the log.
///
/// # Errors
/// Those of `holds`.
pub fn validate(served: &[Served], holds: Holds<'_>) -> Result<Validated, Error> {
    let mut rejected: Vec<Rejected> = Vec::new();
    let mut candidates = Vec::with_capacity(served.len());
    for one in served {
        match candidate(one) {
            Ok(candidate) => candidates.push(candidate),
            Err(why) => {
                rejected.push(event::reject(one.envelope[0].as_deref().unwrap_or_default(), &why, &one.event_json))
            }
        }
    }
    // Held events are usually served in runs. If the first event is new, it is not worth looking up the others.
    let held = match candidates.first() {
        Some(first) if holds(&[first.event()])? == [true] => {
            holds(&candidates.iter().map(Candidate::event).collect::<Vec<_>>())?
        }
        _ => Vec::new(),
    };
    let mut held = held.into_iter();
    let (known, fresh): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|_| held.next() == Some(true));
    let (admitted, unsigned) = event::admit(fresh);
    rejected.extend(unsigned);
    // Held events come first, because the log only counts them. The others keep the peer's order.
    let repeated = known.iter().map(|candidate: &Candidate| candidate.event().origin.clone()).collect();
    let events = known.into_iter().map(Candidate::into_held).chain(admitted).collect();
    Ok(Validated { events, rejected, repeated })
}

/// Overlays the envelope's four strings on the event, because Go defines an event this way. Empty strings are ignored:
/// overlaid on an event that lacks the field, they would give one event two canonical forms on two daemons.
fn candidate(served: &Served) -> Result<Candidate, Malformed> {
    if served.is_unread() {
        return Err(Malformed::Unread);
    }
    let envelope: Vec<(&str, &str)> = Served::ENVELOPE
        .into_iter()
        .zip(&served.envelope)
        .filter_map(|(name, text)| Some((name, text.as_deref()?)))
        .collect();
    Candidate::read(&served.event_json, &envelope)
}
