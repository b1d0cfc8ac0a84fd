//! Validates the reply to a pull. Sequences and counts from a peer are not trusted.

use thrum_core::words::count;

use crate::protocol::wire::{Pull, Pulled, Served};

/// A valid reply.
#[derive(Debug)]
pub(super) struct Judged {
    /// The log that was served; empty for a legacy peer.
    pub(super) log: String,
    /// The sequence after which it was served: the requested one, or 0 if another log was served than requested.
    pub(super) after: u64,
    /// The events, or the end of the log.
    pub(super) found: Found,
}

#[derive(Debug)]
pub(super) enum Found {
    /// Nothing above `after`.
    End,
    /// Events that advance the checkpoint by at least one.
    Events {
        events: Vec<Served>,
        /// The sequence from which to continue; never past the served events.
        checkpoint: u64,
        /// The highest sequence served.
        highest: u64,
        /// Whether the peer has more.
        more: bool,
    },
}

/// Validates a reply. The error describes an inconsistency that would lose events or repeat forever.
pub(super) fn judge(asked: &Pull, reply: Pulled) -> Result<Judged, String> {
    let Pulled { events, next, more, log } = reply;
    let log = match (&asked.log, log) {
        (None, _) => String::new(),
        (Some(_), Some(served)) => served,
        (Some(_), None) => return Err("a pull without log_id from a peer that has one".into()),
    };
    let after = if asked.log.as_ref().is_some_and(|asked| *asked != log) { 0 } else { asked.after };
    if events.is_empty() {
        return if more {
            Err("it says that there is more and sends nothing".into())
        } else {
            Ok(Judged { log, after, found: Found::End })
        };
    }
    if events.len() > asked.max_batch {
        return Err(format!(
            "it sent {}, and was asked for {} at most",
            count(events.len() as u64, "event"),
            asked.max_batch
        ));
    }
    let mut highest = after;
    for event in &events {
        highest = u64::try_from(event.sequence)
            .ok()
            .filter(|sequence| *sequence > highest)
            .ok_or_else(|| format!("it sent sequence {} after {highest}", event.sequence))?;
    }
    let checkpoint = match u64::try_from(next) {
        Ok(next) if next >= after => next.min(highest),
        _ => return Err(format!("checkpoint regression: peer sent next_seq={next} but current is {after}")),
    };
    if checkpoint == after {
        return Err(format!("it sent events up to {highest} and says to go on after {after} again"));
    }
    Ok(Judged { log, after, found: Found::Events { events, checkpoint, highest, more } })
}
