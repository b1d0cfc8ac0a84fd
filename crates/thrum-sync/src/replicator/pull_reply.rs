//! Validates the reply to a pull. Sequences and counts from a peer are not trusted.

use crate::{
    error::Violation,
    protocol::wire::{Pull, Pulled, Served},
};

/// A valid reply.
#[derive(Debug)]
pub(super) struct ValidReply {
    /// The log that was served; empty for a legacy peer.
    pub(super) log: String,
    /// The sequence after which the events were served: the requested one, or 0 if another log was served than
    /// requested.
    pub(super) after: u64,
    /// The events, or the end of the log.
    pub(super) content: PullContent,
}

#[derive(Debug)]
pub(super) enum PullContent {
    /// Nothing above `after`.
    End,
    /// Events that advance the checkpoint by at least one.
    Events {
        events: Vec<Served>,
        /// The sequence from which to continue; never past the served events.
        checkpoint: u64,
        /// The highest sequence served.
        highest: u64,
        /// Whether the peer has events above `highest`.
        more: bool,
    },
}

/// Validates a reply. The error describes an inconsistency that would lose events or repeat forever.
pub(super) fn validate(asked: &Pull, reply: Pulled) -> Result<ValidReply, Violation> {
    let Pulled { events, next, more, log } = reply;
    let log = match (&asked.log, log) {
        (None, _) => String::new(),
        (Some(_), Some(served)) => served,
        (Some(_), None) => return Err(Violation::NoLogId),
    };
    let after = if asked.log.as_ref().is_some_and(|asked| *asked != log) { 0 } else { asked.after };
    if events.is_empty() {
        return if more {
            Err(Violation::EmptyBatch)
        } else {
            Ok(ValidReply { log, after, content: PullContent::End })
        };
    }
    if events.len() > asked.max_batch {
        return Err(Violation::LargeBatch { sent: events.len(), max: asked.max_batch });
    }
    if asked.references != Some(true) && events.iter().any(|event| event.reference.is_some()) {
        return Err(Violation::Reference);
    }
    let mut highest = after;
    for event in &events {
        highest = u64::try_from(event.sequence)
            .ok()
            .filter(|sequence| *sequence > highest)
            .ok_or(Violation::Sequence { sequence: event.sequence, previous: highest })?;
    }
    let checkpoint = match u64::try_from(next) {
        Ok(next) if next >= after => next.min(highest),
        _ => return Err(Violation::Regression { next, current: after }),
    };
    if checkpoint == after {
        return Err(Violation::StandsStill { highest, current: after });
    }
    Ok(ValidReply { log, after, content: PullContent::Events { events, checkpoint, highest, more } })
}
