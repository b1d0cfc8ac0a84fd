//! Pulls the peer's events and has them stored.

use std::time::Duration;

use thrum_core::{
    Error,
    exchange::{Applied, Checkpoint},
    limits,
    quota::OverQuota,
    words::count,
};

use super::{
    Action, Applying, Cause, Flight, Replicator, Todo,
    pull_reply::{PullContent, ValidReply, validate},
    throttle,
};
use crate::{
    Now,
    error::{PeerError, Violation},
    legacy::{self, reading::Read},
    protocol::wire::{Call, Pull, Pulled, Served},
};

impl Replicator {
    /// Builds a pull from the end of the last batch that is being stored, or else from the checkpoint, if that belongs
    /// to the peer's current log; otherwise from the start. For a legacy peer, `reading` decides.
    pub(super) fn pull(&mut self, tick: Duration) -> Pull {
        let max_batch = self.max_batch;
        let Some(log) = self.known.clone().flatten() else {
            return Pull { after: self.reading.ask(tick), max_batch, log: None, stored: None, references: None };
        };
        let stored = self.stored_upto(&log);
        let after = self.read_upto(&log);
        Pull {
            after,
            max_batch,
            log: Some(log),
            stored: Some(stored).filter(|_| !self.applying.is_empty()),
            references: Some(!self.lacks).filter(|_| self.takes_references && self.has_pulled),
        }
    }

    /// The sequence up to which this log of the peer is stored durably.
    fn stored_upto(&self, log: &str) -> u64 {
        self.status.checkpoint.as_ref().filter(|(known, _)| known == log).map_or(0, |(_, sequence)| *sequence)
    }

    /// The sequence up to which this log of the peer is stored, or was read and is being stored.
    fn read_upto(&self, log: &str) -> u64 {
        match self.applying.back() {
            Some(last) if last.checkpoint.log == log => last.checkpoint.sequence,
            _ => self.stored_upto(log),
        }
    }

    /// Keeps pulls at a single event until the event after one that was too long has been read. The first pull on a new
    /// connection to a legacy peer requests the last event again; if that were the long one, it would be transferred
    /// again and again.
    pub(super) fn track_unread(&mut self, pulled: &Pulled) {
        if pulled.events.iter().any(Served::is_unread) {
            self.passed_unread = true;
        } else if std::mem::take(&mut self.passed_unread) {
            self.batch_limit = self.most_per_pull;
        }
    }

    /// Validates the reply to a pull and passes its events on to be stored.
    pub(super) fn pulled(&mut self, pull: &Pull, pulled: Pulled, todo: &mut Todo<'_>) -> Result<(), Violation> {
        let ValidReply { log, after, content } = validate(pull, pulled)?;
        if pull.log.is_none() {
            return self.old_pulled(content, todo);
        }
        let is_other_log = pull.log.as_ref().is_some_and(|asked| *asked != log);
        if let Some(last) = self.applying.back_mut()
            && (is_other_log || matches!(content, PullContent::End))
        {
            // Nothing follows the batches that are being stored. The pull after them brings this reply again.
            last.more = false;
            return Ok(());
        }
        if is_other_log {
            self.known = Some(Some(log.clone()));
            self.status.checkpoint = Some((log.clone(), 0));
        }
        match content {
            PullContent::End => self.caught_up(after, todo.now),
            PullContent::Events { events, checkpoint, highest, more } => {
                self.status.exchange.their_latest = self.status.exchange.their_latest.max(Some(highest));
                self.throttle.served(&events, more, self.most_per_pull);
                self.apply(Checkpoint { log, sequence: checkpoint, event: String::new() }, events, None, more, todo);
            }
        }
        Ok(())
    }

    /// Passes on events that the peer has sent along with an announcement, if they follow the checkpoint and a batch
    /// may be stored now. Otherwise the pull that is due anyway brings them.
    pub(super) fn pushed(&mut self, after: u64, pushed: Pulled, todo: &mut Todo<'_>) {
        let Some(Some(log)) = &self.known else { return };
        // Events of another log do not follow the checkpoint: that log is pulled, from its start.
        let follows =
            pushed.log.as_ref() == Some(log) && self.status.checkpoint.as_ref() == Some(&(log.clone(), after));
        if !follows
            || !self.applying.is_empty()
            || !self.may_pull()
            || todo.now.tick < self.pull_not_before
            || pushed.events.is_empty()
        {
            return;
        }
        let pull = Pull {
            after,
            max_batch: limits::MAX_PUSHED_EVENTS,
            log: Some(log.clone()),
            stored: None,
            references: Some(true),
        };
        if self.run.1 == Applied::default() {
            self.run.0 = Cause::Notify;
        }
        // Ignore `more`: later events are announced by themselves, and a small batch would otherwise count as waste.
        if let Err(violation) = self.pulled(&pull, Pulled { more: false, ..pushed }, todo) {
            self.fail(&violation.into(), todo);
        }
    }

    /// Returns `true` if the events in the reply to this pull must not be stored. Reasons: pushed events arrived after
    /// the pull was sent, so the reply repeats them; the batch before was not stored, so the reply would leave a gap; or
    /// that batch brought the peer over its quota.
    pub(super) fn is_overtaken(&self, pull: &Pull) -> bool {
        let follows = pull.log.as_ref().is_none_or(|log| self.read_upto(log) == pull.after);
        !follows || self.status.exchange.over_quota.is_some()
    }

    /// Handles the reply to a pull from a legacy peer.
    fn old_pulled(&mut self, content: PullContent, todo: &mut Todo<'_>) -> Result<(), Violation> {
        let tick = todo.now.tick;
        let (events, last, more, read) = match content {
            PullContent::End => (Vec::new(), None, false, self.reading.nothing(tick)),
            PullContent::Events { events, checkpoint, highest, more } => {
                let last = legacy::reading::last_upto(&events, checkpoint).ok_or(Violation::BeforeFirst)?;
                self.status.exchange.their_latest = self.status.exchange.their_latest.max(Some(highest));
                self.throttle.served(&events, more, self.most_per_pull);
                let read = self.reading.found(&events, tick);
                (events, Some(last), more, read)
            }
        };
        match read {
            Read::End => self.caught_up(self.reading.head(), todo.now),
            Read::Store(checkpoint) => self.apply(checkpoint, events, last, more, todo),
            Read::Rebuilt => {
                tracing::warn!(daemon_id = %self.peer, "a peer has another log than before; reading it from its start");
                self.status.checkpoint = Some((String::new(), 0));
                self.status.exchange.their_latest = None;
                self.due = self.due.or(Some(self.run.0));
            }
        }
        Ok(())
    }

    fn apply(
        &mut self,
        checkpoint: Checkpoint,
        events: Vec<Served>,
        last: Option<(u64, String)>,
        more: bool,
        todo: &mut Todo<'_>,
    ) {
        let Checkpoint { log, sequence, event } = checkpoint.clone();
        self.applying.push_back(Applying { checkpoint, last, more });
        if more && self.can_read_ahead {
            self.due = self.due.or(Some(self.run.0));
        }
        todo.actions.push(Action::Apply { log, checkpoint: sequence, checkpoint_event: event, events });
    }

    pub(super) fn applied(&mut self, applied: Applied, now: Now) {
        let Some(Applying { checkpoint, last, more }) = self.applying.pop_front() else { return };
        let run = &mut self.run.1;
        run.applied += applied.applied;
        run.skipped += applied.skipped;
        run.referred += applied.referred;
        run.rejected += applied.rejected;
        self.status.applied += applied.applied as u64;
        self.status.skipped += applied.skipped as u64;
        self.disk.reset();
        // An event that was too long counts as rejected, but is no fault of the peer: show no reason for the pause.
        let passed_unread = self.passed_unread;
        let pause =
            self.throttle.stored(&applied, more, now.tick).map(|(until, why)| (until, why.filter(|_| !passed_unread)));
        if applied.applied > 0 {
            self.connects.reset();
        }
        let is_old = checkpoint.log.is_empty();
        if is_old {
            self.reading.stored(checkpoint, last, more, now.tick);
            self.status.checkpoint = Some((String::new(), self.reading.head()));
        } else {
            self.status.checkpoint = Some((checkpoint.log, checkpoint.sequence));
        }
        if more || !is_old {
            // The next pull acknowledges the batch, which is durable now.
            self.due = self.due.or(Some(self.run.0));
        } else {
            // A legacy peer takes no acknowledgements, and has reported that there is no more.
            self.caught_up(self.reading.head(), now);
        }
        self.pause(pause);
    }

    /// Applies a change of the peer's quota state. No event is lost, because the checkpoint stays unchanged.
    pub(super) fn quota(&mut self, over: Option<OverQuota>) {
        let peer = thrum_core::name::printable(&self.peer);
        match (&over, &self.status.exchange.over_quota) {
            (Some(now), before) => {
                if before.is_none() {
                    tracing::warn!(daemon_id = %self.peer, quota = %now, "periodic_sync: {peer} is {now}");
                }
                self.status.exchange.last_error = Some(now.to_string());
                self.due = self.due.or(Some(Cause::Periodic));
            }
            (None, Some(_)) => {
                tracing::info!(daemon_id = %self.peer, "periodic_sync: {peer} is within its quota again; reading continues");
                self.status.exchange.last_error = None;
                self.due = self.due.or(Some(Cause::Periodic));
            }
            (None, None) => {}
        }
        self.status.exchange.over_quota = over;
    }

    fn pause(&mut self, pause: Option<throttle::Pause>) {
        if let Some((until, waste)) = pause {
            self.pull_not_before = self.pull_not_before.max(until);
            self.status.exchange.last_error =
                waste.map(|waste| waste.to_string()).or(self.status.exchange.last_error.take());
        }
    }

    /// Handles a batch that was not stored: its events are requested again, after the checkpoint.
    pub(super) fn not_applied(&mut self) {
        self.applying.pop_front();
        self.due = self.due.or(Some(self.run.0));
    }

    pub(super) fn apply_failed(&mut self, error: Error, todo: &mut Todo<'_>) {
        self.not_applied();
        self.pull_not_before = todo.now.tick + self.disk.next(todo.ambient);
        self.report_failure(&PeerError::Store(error));
    }

    /// Handles the end of the peer's log: everything up to `after` is stored, and there is nothing above.
    fn caught_up(&mut self, after: u64, now: Now) {
        if self.due.is_none() {
            self.status.exchange.their_latest = Some(after);
        }
        self.status.pulled_at = Some(now.at);
        self.connects.reset();
        self.batch_limit = self.most_per_pull;
        self.status.exchange.last_error = None;
        self.status.ends += 1;
        self.lacks = false;
        self.status.forced = self.forcing;
        let (cause, applied) = std::mem::replace(&mut self.run, (Cause::Periodic, Applied::default()));
        if cause == Cause::Notify {
            let pause = self.throttle.announced(&applied, self.known == Some(None), now.tick);
            self.pause(pause);
        }
        if applied.applied > 0 || applied.rejected > 0 {
            let peer = thrum_core::name::printable(&self.peer);
            match cause {
                Cause::Notify => {
                    tracing::info!(
                        daemon_id = %self.peer,
                        applied = applied.applied,
                        skipped = applied.skipped,
                        "sync.notify: synced from {peer} — applied={} skipped={}",
                        applied.applied,
                        applied.skipped
                    )
                }
                Cause::Periodic => {
                    tracing::info!(
                        daemon_id = %self.peer,
                        applied = applied.applied,
                        skipped = applied.skipped,
                        "periodic_sync: synced {} from {peer}",
                        count(applied.applied as u64, "event")
                    )
                }
            }
            if applied.rejected > 0 {
                tracing::warn!(daemon_id = %self.peer, events = applied.rejected, "rejected events of a peer");
            }
        }
    }

    pub(super) fn too_long(&mut self, todo: &mut Todo<'_>) {
        match self.flight.take().map(|flight| flight.call) {
            Some(Call::Pull(pull)) if pull.max_batch > 1 => {
                // A legacy peer does not bound the bytes of a batch, so its reply may have been many times too long.
                let less = if pull.log.is_none() { 8 } else { 2 };
                self.max_batch = (pull.max_batch / less).max(1);
                self.batch_limit = self.max_batch;
                self.passed_unread = false;
                self.down(todo.now.tick, todo);
            }
            Some(Call::Pull(pull)) if pull.log.is_none() => {
                self.fail(&Violation::LongEvent(limits::MAX_SKIPPED_LINE_BYTES).into(), todo);
            }
            _ => self.fail(&Violation::LongLine(limits::MAX_LINE_BYTES).into(), todo),
        }
    }

    /// Halves the size of the next pull, because a smaller reply may get through.
    pub(super) fn ask_for_less(&mut self) {
        if let Some(Flight { call: Call::Pull(pull), .. }) = &self.flight {
            self.max_batch = (pull.max_batch / 2).max(1);
        }
    }
}
