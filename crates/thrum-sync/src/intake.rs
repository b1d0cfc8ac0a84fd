//! From served events to a batch: the envelope laid over the event, form and signature checked. Off the writer's thread.
//!
//! Signatures are most of the work of reading a peer. So a large batch is shared among threads, and what the log holds already
//! is not verified again: a peer serves us our own events back, too.

use std::{num::NonZero, panic::resume_unwind, thread};

use thrum_core::{
    Event, Fault,
    event::{self, Candidate, Malformed},
    exchange::{Batch, Rejected},
    json,
};

use crate::{Log, wire::Served};

/// Fewest events worth a thread of their own: some five milliseconds of work.
const SHARE: usize = 128;

/// Most threads for one batch; more would only take turns with those who write and serve.
const MAX_THREADS: usize = 4;

/// Judges each event by itself: a bad one lands in `rejected` and stops nothing (I5).
///
/// # Errors
/// The log cannot be read.
pub fn batch(peer: &str, log_id: &str, checkpoint: u64, served: Vec<Served>, log: &dyn Log) -> Result<Batch, Fault> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS);
    let share = served.len().div_ceil(threads).max(SHARE);
    let mut shares = served.chunks(share);
    let first = shares.next().unwrap_or_default();
    let judged: Vec<_> = thread::scope(|scope| {
        let others: Vec<_> = shares.map(|share| scope.spawn(move || judge(share, &|events| log.holds(events)))).collect();
        let first = judge(first, &|events| log.holds(events));
        std::iter::once(first).chain(others.into_iter().map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)))).collect()
    });
    let mut batch = Batch {
        peer: peer.to_owned(),
        log: log_id.to_owned(),
        checkpoint,
        checkpoint_event: String::new(),
        events: Vec::new(),
        rejected: Vec::new(),
    };
    for one in judged {
        let (events, rejected) = one?;
        batch.events.extend(events);
        batch.rejected.extend(rejected);
    }
    Ok(batch)
}

/// Says of each event whether it is in a log already.
pub type Holds<'a> = &'a dyn Fn(&[&Event]) -> Result<Vec<bool>, Fault>;

/// The events that may enter a log, and what is no event; `holds` says which are in the log already.
///
/// # Errors
/// Those of `holds`.
pub fn judge(served: &[Served], holds: Holds<'_>) -> Result<(Vec<Event>, Vec<Rejected>), Fault> {
    let mut rejected: Vec<Rejected> = Vec::new();
    let mut candidates = Vec::with_capacity(served.len());
    for one in served {
        match candidate(one) {
            Ok(candidate) => candidates.push(candidate),
            Err(why) => rejected.push(event::reject(one.envelope[0].as_deref().unwrap_or_default(), &why, &one.event_json)),
        }
    }
    // What comes back comes in runs: where the first is new, the others are not worth looking up.
    let held = match candidates.first() {
        Some(first) if holds(&[first.event()])? == [true] => holds(&candidates.iter().map(Candidate::event).collect::<Vec<_>>())?,
        _ => Vec::new(),
    };
    let mut held = held.into_iter();
    let (known, fresh): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|_| held.next() == Some(true));
    let (admitted, unsigned) = event::admit(fresh);
    rejected.extend(unsigned);
    // Those that are here are only counted; the order of the others is the peer's.
    let events = known.into_iter().map(Candidate::into_held).chain(admitted).collect();
    Ok((events, rejected))
}

/// Go lays the envelope's four texts over the event, so that is what an event is. An empty one says nothing: laid over an
/// event without that text it would give two daemons two canonical forms of one event.
fn candidate(served: &Served) -> Result<Candidate, Malformed> {
    if served.is_unread() {
        return Err(Malformed::Unread);
    }
    let mut fields = json::parse_object(&served.event_json).map_err(|error| Malformed::Json(error.to_string()))?;
    for (name, text) in Served::ENVELOPE.into_iter().zip(&served.envelope) {
        if let Some(text) = text {
            fields.insert(name.to_owned(), text.as_str().into());
        }
    }
    Candidate::new(fields)
}
