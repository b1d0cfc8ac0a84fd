//! What the reply to a pull may say, and what follows from it. A peer is not trusted to count.

use crate::wire::{Pull, Pulled, Served};

/// A reply that makes sense.
#[derive(Debug)]
pub(super) struct Judged {
    /// The log that was served; empty for an old peer.
    pub(super) log: String,
    /// Where it was served from: the place asked for, or the start if the log is another one than asked for.
    pub(super) after: u64,
    /// What there was.
    pub(super) found: Found,
}

#[derive(Debug)]
pub(super) enum Found {
    /// Nothing above `after`.
    End,
    /// Events, and at least one more step forward.
    Events {
        events: Vec<Served>,
        /// Where to go on: never past what was served.
        checkpoint: u64,
        /// The highest sequence served.
        highest: u64,
        /// Whether the peer has more.
        more: bool,
    },
}

/// Judges a reply. The error says what makes no sense; going on would lose events or never end.
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
        return Err(format!("it sent {} events where {} were asked for", events.len(), asked.max_batch));
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
