//! Stores the events that are published and missing here.

use std::{sync::mpsc, thread};

use thrum_core::{
    Error, RangeSet,
    exchange::{Applied, Batch},
    quota::OverQuota,
};
use thrum_sync::{Log, intake, protocol::wire::Served};

use super::{Exchange, Held, Others, Own, Read, Report, SeenState};
use crate::{GitError, limits, manifest::Segment, mirror::Mirror, plan, seal::Key, segment};

/// What comes of a segment that is read, in this order.
enum Step<'a> {
    /// It is read: its events follow. With the reason why it is bad, if it is.
    Begins(&'a Segment, Option<String>),
    /// Some of its events, checked.
    Events(Result<Batch, Error>),
    /// All of its events were there.
    Ends(&'a Segment),
    /// Our repository cannot be read.
    Fails(GitError),
}

impl Exchange {
    /// Stores the events that a daemon publishes and that are missing here.
    pub(super) fn take(&mut self, id: &str, read: &Read, others: &Others, report: &mut Report) -> Result<(), GitError> {
        // A daemon that is trusted here may vouch for many others, which share one quota.
        let together: Vec<&str> = match others.brought_by.get(id) {
            Some(by) => {
                let brought = others.brought_by.iter().filter(|(_, other)| *other == by);
                brought.map(|(one, _)| one.as_str()).collect()
            }
            None => vec![id],
        };
        let (Some(index), Some(seen)) = (&read.index, report.daemons.get_mut(id)) else { return Ok(()) };
        if let Some(over) =
            self.take_segments(id, &together, index.segments(), read.key.as_ref(), &mut report.applied)?
        {
            seen.state = SeenState::OverQuota(over);
        }
        let mut bad = (0, None);
        for segment in index.segments() {
            if !segment.numbers.is_empty() {
                let Held { purged, .. } = self.held(&plan::log_of(segment))?;
                let still = segment.numbers.count() - segment.numbers.clone().without(purged).count();
                seen.purged = seen.purged.saturating_add(still);
            }
            if let Some(why) = self.bad_segments.get(&segment.blob) {
                bad = (bad.0 + 1, Some(why.clone()));
            }
        }
        seen.bad_segments = bad.1.map(|why| (bad.0, why));
        Ok(())
    }

    /// Reads what this daemon published, and stores the events of it that its database has lost since.
    /// `tip` is the tip that it published last, `there` the one that the remote has.
    pub(super) fn take_own(
        &mut self,
        tip: Option<&str>,
        there: Option<&str>,
        report: &mut Report,
    ) -> Result<Own, GitError> {
        let own = self.load_own(tip, there)?;
        self.take_segments("", &[], own.index.segments(), own.key.as_ref(), &mut report.applied)?;
        Ok(own)
    }

    /// Stores the events of those of the segments that were not read yet and may have events that are missing here, in the
    /// order of their origin sequences. Notes segments that cannot be read, or have other events than their index says.
    /// Stops before a segment once the daemons of `together` have used up their quota.
    fn take_segments<'a>(
        &mut self,
        source: &str,
        together: &[&str],
        segments: impl Iterator<Item = &'a Segment>,
        key: Option<&Key>,
        sum: &mut Applied,
    ) -> Result<Option<OverQuota>, GitError> {
        let mut wanted = Vec::new();
        for segment in segments {
            if self.is_wanted(segment)? {
                wanted.push(segment);
            }
        }
        // A merged bundle comes after those that were published later.
        wanted.sort_by_cached_key(|segment| (&segment.origin, &segment.log, segment.numbers.lowest()));
        let (log, mirror) = (&*self.log, &*self.mirror);
        let mut stored = Vec::new();
        let over = thread::scope(|scope| {
            let (ready, steps) = mpsc::sync_channel(1);
            // The next events are read and checked while the last ones are stored.
            scope.spawn(move || {
                // Nobody takes further steps after an error, and over quota.
                let _ = wanted.into_iter().try_for_each(|segment| read(segment, source, key, log, mirror, &ready));
            });
            for step in steps {
                match step {
                    Step::Begins(segment, why) => {
                        let over = log.over_quota(together)?;
                        if over.is_some() {
                            return Ok(over);
                        }
                        self.bad_segments.extend(why.map(|why| (segment.blob.clone(), why)));
                    }
                    Step::Events(batch) => add(sum, &log.apply(batch?)?),
                    Step::Ends(segment) => stored.push(segment),
                    Step::Fails(error) => return Err(error),
                }
            }
            Ok(None)
        })?;
        for segment in stored {
            // What is held of this log is read again.
            self.held.remove(&plan::log_of(segment));
            self.read_segments.insert(segment.blob.clone());
        }
        Ok(over)
    }

    /// Returns `true` for a segment that was not read yet, is not known to be bad, and may have events that are missing
    /// here.
    fn is_wanted(&mut self, segment: &Segment) -> Result<bool, GitError> {
        if self.read_segments.contains(&segment.blob) || self.bad_segments.contains_key(&segment.blob) {
            return Ok(false);
        }
        if segment.numbers.is_empty() {
            return Ok(true);
        }
        let Held { held, purged, .. } = self.held(&plan::log_of(segment))?;
        Ok(!segment.numbers.clone().without(held).without(purged).is_empty())
    }
}

/// Reads a segment, and sends its steps to the thread that stores. `None` once that one has stopped.
fn read<'a>(
    segment: &'a Segment,
    source: &str,
    key: Option<&Key>,
    log: &dyn Log,
    mirror: &dyn Mirror,
    ready: &mpsc::SyncSender<Step<'a>>,
) -> Option<()> {
    let named = || format!("{}, {} bytes", &segment.blob[..12], segment.bytes);
    let bytes = match mirror.blobs(std::slice::from_ref(&segment.blob), limits::MAX_SEGMENT_BYTES) {
        Ok(mut blobs) => blobs.pop().flatten(),
        Err(error) => return ready.send(Step::Fails(error)).ok(),
    };
    let Some(events) = bytes.and_then(|bytes| segment::decode(bytes, key)) else {
        return ready.send(Step::Begins(segment, Some(format!("{}, cannot be read", named())))).ok();
    };
    let is_other = !segment.numbers.is_empty() && numbers_of(&events) != segment.numbers;
    let why = is_other.then(|| format!("{}, has other events than the index says", named()));
    ready.send(Step::Begins(segment, why)).ok()?;
    for part in events.chunks(limits::EVENTS_AT_ONCE) {
        ready.send(Step::Events(intake::batch(source, "", 0, part, log))).ok()?;
    }
    ready.send(Step::Ends(segment)).ok()
}

fn add(sum: &mut Applied, more: &Applied) {
    sum.applied += more.applied;
    sum.skipped += more.skipped;
    sum.rejected += more.rejected;
    sum.collided += more.collided;
}

/// The origin sequences of served events.
fn numbers_of(events: &[Served]) -> RangeSet {
    events.iter().map(|event| super::origin_seq(&event.event_json)).filter(|number| *number > 0).collect()
}
