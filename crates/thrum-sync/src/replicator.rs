//! Keeps one peer read: when to dial, what to ask, what to store, how long to wait.
//!
//! One kept connection, one request in flight. After each input the machine does the first of: ask who the peer is (once per
//! connection, and for `verify`), announce what it has not heard, pull if there may be something. A pull goes from the
//! checkpoint; what it brings is stored together with the new checkpoint before the next pull, which thereby acknowledges it.
//!
//! What makes this converge without noise:
//! * a reason to pull that comes during a pull is one bit, answered by one more pull;
//! * a commit is announced only above what the peer was told or has read, and never if it came from the peer;
//! * the checkpoint moves only to what was served and stored, within one log; another `log_id` starts at its beginning;
//! * what makes no sense (numbers that go back or stand still, a reply to nobody) closes the connection, is shown, and waits
//!   like a failed connect. There is no error that is retried at once.
//!
//! What a line cannot carry in one piece is asked for in halves, down to single events, and in larger pieces again once they come
//! quickly.
//!
//! While a peer cannot be reached, one attempt at a time probes it, from a second apart to five minutes. Only news that were stored
//! and a completed pull reset that, but a peer that calls us is asked soon: it is there. A peer without `log_id` is an old one: where its log is
//! read, and when it is told of what, is decided in [`legacy`].
//!
//! Everything random or timed comes in; a simulation runs the same code.

mod judge;
mod pace;
mod status;

use std::time::Duration;

use thrum_core::{
    Ambient, Stamp,
    exchange::{Applied, Checkpoint},
    limits,
    quota::OverQuota,
};

use crate::{
    Now,
    backoff::Backoff,
    clock::go_duration,
    legacy::{
        self,
        reading::{Read, Reading},
    },
    wire::{BadReply, Call, Info, Pull, Pulled, Reply, Served},
};
use judge::{Found, Judged, judge};
use pace::Pace;
pub use status::{Comparable, State, Status};

/// What happens to a replicator.
#[derive(Debug)]
pub enum Input {
    /// Time passed.
    Timer,
    /// The dial that was asked for succeeded.
    Connected,
    /// It did not.
    ConnectFailed(String),
    /// The connection is gone.
    Disconnected(String),
    /// The request in flight was answered.
    Replied(Result<Reply, BadReply>),
    /// The answer was longer than a line may be; the connection is gone.
    TooLong,
    /// The batch is durable.
    Applied(Applied),
    /// It is not, and nothing has changed.
    ApplyFailed(String),
    /// Whether so much of the peer is kept that it is to be read no further.
    Quota(Option<OverQuota>),
    /// The network has come up: worth one attempt now, whatever backoff says.
    NetworkUp,
    /// One of the two sides has another address now: an open connection is dead although nobody closed it.
    Moved,
    /// Our log has events up to here that did not come from this peer.
    Commit(u64),
    /// The peer has something new.
    Notified {
        /// Its highest sequence, as it says.
        latest: u64,
    },
    /// The peer called us, with a good token.
    Authenticated,
    /// The peer has our log up to here, durably.
    Acknowledged(u64),
    /// Somebody asks for a pull now; done when [`Status::forced`] has reached this number.
    Force(u64),
    /// Somebody asks for the peer's digests; done when [`Status::compared`] has reached this number.
    Compare(u64),
}

/// What a replicator wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Connect; answer with `Connected` or `ConnectFailed`.
    Dial,
    /// Send this; answer with `Replied`, `TooLong` or `Disconnected`.
    Send {
        /// The request's id.
        id: u64,
        /// What is asked.
        call: Call,
    },
    /// Store this; answer with `Applied` or `ApplyFailed`.
    Apply {
        /// The peer's log; empty for an old peer.
        log: String,
        /// How far it is read once this is stored; 0 leaves the checkpoint on disk as it is.
        checkpoint: u64,
        /// For an old peer, the event there.
        checkpoint_event: String,
        /// What was served.
        events: Vec<Served>,
    },
    /// Drop the connection, or the dial.
    Close,
    /// Note that the peer knows our token.
    NoteWelcome,
    /// Note that it does not.
    NoteRemoved,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down { retry: Duration },
    Dialing { deadline: Duration },
    Up,
}

#[derive(Debug)]
struct Flight {
    call: Call,
    deadline: Duration,
    sent: Stamp,
}

#[derive(Debug)]
struct Applying {
    /// What is on disk then.
    checkpoint: Checkpoint,
    /// Of an old peer, up to where that reads it: its last event.
    last: Option<(u64, String)>,
    more: bool,
}

/// Why a pull is due, for the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Round,
    Notify,
}

/// The machine for one peer.
#[derive(Debug)]
pub struct Replicator {
    peer: String,
    link: Link,
    /// Who answers on this connection: its log, or `None` for an old peer. `None` outside until it was asked.
    known: Option<Option<String>>,
    /// How far an old peer is read.
    reading: Reading,
    flight: Option<Flight>,
    next_id: u64,
    applying: Option<Applying>,
    due: Option<Cause>,
    /// What the current run of pulls brought, for one log line at its end.
    run: (Cause, Applied),
    /// How many events the next pull asks for, and how many it may: what was longer than a line is not asked for again until
    /// everything is read.
    max_batch: usize,
    batch_limit: usize,
    /// Whether the last event was too long to be read.
    passed_unread: bool,
    pull_not_before: Duration,
    /// Our highest sequence that the peer does not have from elsewhere, what it was told, and commits not told of.
    target: u64,
    announced: u64,
    untold: u64,
    notify_not_before: Duration,
    round: Duration,
    /// From one round to the next.
    every: Duration,
    asked: Option<Duration>,
    attempted: Option<Duration>,
    connects: Backoff,
    disk: Backoff,
    /// How fast it is read.
    pace: Pace,
    /// Whether a call from the peer says anything about the reason for waiting.
    call_helps: bool,
    force: u64,
    forcing: u64,
    compare: u64,
    /// Whether the digest was asked for on this connection and has not come yet.
    comparing: bool,
    status: Status,
}

impl Replicator {
    /// A replicator that dials at once. `checkpoint` is where the peer's log was last read up to.
    pub fn new(peer: &str, checkpoint: Option<Checkpoint>, now: Now) -> Self {
        Self {
            peer: peer.to_owned(),
            link: Link::Down { retry: now.tick },
            known: None,
            reading: Reading::new(checkpoint.as_ref()),
            flight: None,
            next_id: 1,
            applying: None,
            due: None,
            run: (Cause::Round, Applied::default()),
            max_batch: limits::MAX_BATCH_EVENTS,
            batch_limit: limits::MAX_BATCH_EVENTS,
            passed_unread: false,
            pull_not_before: Duration::ZERO,
            target: 0,
            announced: 0,
            untold: 0,
            notify_not_before: Duration::ZERO,
            round: now.tick + limits::ROUND,
            every: limits::ROUND,
            asked: None,
            attempted: None,
            connects: Backoff::new(limits::BACKOFF_FIRST, limits::BACKOFF_LAST),
            disk: Backoff::new(limits::BACKOFF_FIRST, limits::BACKOFF_LAST),
            pace: Pace::new(now.tick),
            call_helps: true,
            force: 0,
            forcing: 0,
            compare: 0,
            comparing: false,
            status: Status::new(checkpoint.map(|read| (read.log, read.sequence)), now.at),
        }
    }

    /// Asks the peer this often, instead of every [`limits::ROUND`].
    #[must_use]
    pub fn every(mut self, round: Duration, now: Now) -> Self {
        self.every = round;
        self.round = now.tick + round;
        self
    }

    /// Leaves the first word to the peer, for a second: who has just been given a token may not have stored it yet.
    pub fn wait_for_call(&mut self, now: Now) {
        self.link = Link::Down { retry: now.tick + limits::BACKOFF_FIRST };
    }

    /// Where things stand.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Takes one input and says what to do, in order.
    pub fn step(&mut self, input: Input, now: Now, ambient: &mut dyn Ambient) -> Vec<Action> {
        let mut todo = Todo { actions: Vec::new(), now, ambient };
        self.take(input, &mut todo);
        self.expire(&mut todo);
        self.advance(&mut todo);
        self.status.next_attempt = match self.link {
            Link::Down { retry } => Some(now.wall(retry)),
            _ => None,
        };
        todo.actions
    }

    /// When [`Input::Timer`] is due, unless something happens before.
    pub fn wait_until(&self) -> Duration {
        match self.link {
            Link::Down { retry } => return retry,
            Link::Dialing { deadline } => return deadline,
            Link::Up => {}
        }
        if let Some(flight) = &self.flight {
            return flight.deadline;
        }
        let mut at = self.round;
        if self.owes_notify() {
            at = at.min(self.notify_not_before);
        }
        if self.may_pull() {
            at = at.min(self.pull_not_before);
        }
        at
    }

    fn take(&mut self, input: Input, todo: &mut Todo<'_>) {
        match input {
            Input::Timer => {}
            Input::Connected if matches!(self.link, Link::Dialing { .. }) => {
                self.link = Link::Up;
                self.due = self.due.or(Some(Cause::Round));
            }
            Input::ConnectFailed(why) if matches!(self.link, Link::Dialing { .. }) => self.fail(why, true, todo),
            Input::Disconnected(why) if self.link == Link::Up => self.disconnected(why, todo),
            Input::Replied(reply) => {
                if let Some(flight) = self.flight.take() {
                    self.replied(flight, reply, todo);
                }
            }
            Input::TooLong => self.too_long(todo),
            Input::Applied(applied) => self.applied(applied, todo.now),
            Input::ApplyFailed(why) => self.apply_failed(why, todo),
            Input::Commit(latest) if latest > self.target => {
                self.target = latest;
                self.untold += 1;
            }
            Input::Notified { latest } => {
                self.due = Some(Cause::Notify);
                self.reading.notified(latest);
                self.status.their_latest = self.status.their_latest.max(Some(latest));
            }
            Input::Quota(over) => self.quota(over),
            Input::NetworkUp => self.probe_at(todo.now.tick),
            Input::Moved => self.moved(todo),
            Input::Authenticated => self.called(todo.now),
            Input::Acknowledged(upto) => {
                self.status.read_by_them = Some(upto);
                self.announced = self.announced.max(upto);
            }
            Input::Force(ticket) => {
                self.force = ticket;
                if let Some(over) = &self.status.over_quota {
                    self.status.last_error = Some(over.to_string());
                    self.status.failures += 1;
                    self.status.forced = ticket;
                }
                self.due = self.due.or(Some(Cause::Round));
                self.pull_not_before = todo.now.tick;
                self.probe_at(todo.now.tick);
            }
            Input::Compare(ticket) => {
                self.compare = ticket;
                self.probe_at(todo.now.tick);
            }
            // Late news of a connection that was given up, and commits the peer itself brought.
            Input::Connected | Input::ConnectFailed(_) | Input::Disconnected(_) | Input::Commit(_) => {}
        }
    }

    /// What is over by now.
    fn expire(&mut self, todo: &mut Todo<'_>) {
        let tick = todo.now.tick;
        if tick >= self.round {
            let missed = tick.saturating_sub(self.round).as_nanos() / self.every.as_nanos().max(1);
            self.round += self.every.saturating_mul(u32::try_from(missed).unwrap_or(u32::MAX - 1) + 1);
            let recent = self.asked.is_some_and(|asked| tick < asked + recent_within(self.every));
            if self.link == Link::Up && !recent {
                self.due = self.due.or(Some(Cause::Round));
            }
        }
        if matches!(self.link, Link::Dialing { deadline } if tick >= deadline) {
            self.fail(format!("no connection within {}", go_duration(limits::MEET)), true, todo);
        }
        if self.flight.as_ref().is_some_and(|flight| tick >= flight.deadline) {
            let within = self.flight.as_ref().map_or(Duration::ZERO, |flight| time_for(&flight.call));
            self.ask_for_less();
            self.fail(format!("no answer within {}", go_duration(within)), true, todo);
        }
    }

    /// Does what can be done now.
    fn advance(&mut self, todo: &mut Todo<'_>) {
        let tick = todo.now.tick;
        if matches!(self.link, Link::Down { retry } if tick >= retry) {
            self.link = Link::Dialing { deadline: tick + limits::MEET };
            self.attempted = Some(tick);
            todo.actions.push(Action::Dial);
        }
        if self.link != Link::Up || self.flight.is_some() {
            return;
        }
        let call = if self.known.is_none() || self.compare > self.status.compared {
            self.comparing = self.compare > self.status.compared;
            Call::PeerInfo { digest: self.comparing }
        } else if self.owes_notify() && tick >= self.notify_not_before {
            self.notify_not_before = tick + legacy::notify_gap(self.known.as_ref().and_then(|log| log.as_deref()));
            Call::Notify { latest: self.target, count: std::mem::take(&mut self.untold).max(1) }
        } else if self.may_pull() && tick >= self.pull_not_before {
            let cause = self.due.take().unwrap_or(Cause::Round);
            if self.run.1 == Applied::default() {
                self.run.0 = cause;
            }
            self.forcing = self.force;
            self.asked = Some(tick);
            Call::Pull(self.pull(tick))
        } else {
            return;
        };
        let id = self.next_id;
        self.next_id += 1;
        self.flight = Some(Flight { call: call.clone(), deadline: tick + time_for(&call), sent: todo.now.at });
        todo.actions.push(Action::Send { id, call });
    }

    /// Whether there is a reason to pull and nothing that forbids it but time.
    fn may_pull(&self) -> bool {
        self.due.is_some() && self.applying.is_none() && self.status.over_quota.is_none()
    }

    fn owes_notify(&self) -> bool {
        self.known.is_some() && self.target > self.announced
    }

    /// From the checkpoint if it speaks of the log that the peer has now, else from the start.
    fn pull(&mut self, tick: Duration) -> Pull {
        let log = self.known.clone().flatten();
        let after = match (&log, &self.status.checkpoint) {
            (None, _) => self.reading.ask(tick),
            (Some(log), Some((known, sequence))) if known == log => *sequence,
            _ => 0,
        };
        Pull { after, max_batch: self.max_batch, log }
    }

    fn replied(&mut self, flight: Flight, reply: Result<Reply, BadReply>, todo: &mut Todo<'_>) {
        match (flight.call, reply) {
            (Call::PeerInfo { digest }, Ok(Reply::Info(info))) => self.met(*info, digest, flight.sent, todo),
            (Call::Notify { latest, .. }, Ok(Reply::Notified)) => self.announced = self.announced.max(latest),
            (Call::Pull(pull), Ok(Reply::Pulled(pulled))) => {
                self.look_for_unread(&pulled);
                let began = flight.deadline.saturating_sub(time_for(&Call::Pull(pull.clone())));
                // What ends the log says little about the line.
                let was_quick = pulled.more && todo.now.tick < began + limits::PULL / 4;
                match self.pulled(&pull, pulled, todo) {
                    Ok(()) if was_quick => self.max_batch = pull.max_batch.saturating_mul(2).min(self.batch_limit),
                    Ok(()) => {}
                    Err(why) => self.fail(why, false, todo),
                }
            }
            (_, Err(BadReply::Error(error))) if error.is_unauthorized() => self.removed(todo),
            (_, Err(bad)) => self.fail(bad.to_string(), false, todo),
            (_, Ok(_)) => self.fail("a reply to another method".into(), false, todo),
        }
    }

    /// What was too long to be read is asked for alone, and so is the event behind it: on a new connection the last event that was
    /// read has to be shown again, and it must not be the long one, or the same would come again and again.
    fn look_for_unread(&mut self, pulled: &Pulled) {
        if pulled.events.iter().any(Served::is_unread) {
            self.passed_unread = true;
        } else if std::mem::take(&mut self.passed_unread) {
            self.batch_limit = limits::MAX_BATCH_EVENTS;
        }
    }

    fn met(&mut self, info: Info, digest: bool, sent: Stamp, todo: &mut Todo<'_>) {
        if info.daemon_id != self.peer {
            return self.fail(format!("another daemon answers there: {}", thrum_core::name::printable(&info.daemon_id)), false, todo);
        }
        if let (Some(log), Some(latest), Some((known, sequence))) = (&info.log, info.latest, &self.status.checkpoint)
            && log == known
            && latest < *sequence
        {
            return self.fail(format!("checkpoint regression: its log ends at {latest} but we have read it up to {sequence}"), false, todo);
        }
        if self.known.is_none() {
            todo.actions.push(Action::NoteWelcome);
            self.reading.met();
        }
        self.known = Some(info.log.clone());
        self.comparing = false;
        let ticket = if digest { self.compare } else { self.status.compared };
        self.status.met(info, sent, todo.now.at, ticket);
        if let Some(offset) = self.status.clock_offset_ms
            && u128::from(offset.unsigned_abs()) > limits::CLOCK_OFF.as_millis()
        {
            tracing::warn!("the clock of {} is off by {} s", thrum_core::name::printable(&self.peer), offset / 1000);
        }
    }

    /// Hands what a pull brought on to be stored.
    fn pulled(&mut self, pull: &Pull, pulled: Pulled, todo: &mut Todo<'_>) -> Result<(), String> {
        let Judged { log, after, found } = judge(pull, pulled)?;
        if pull.log.is_none() {
            return self.old_pulled(found, todo);
        }
        if pull.log.as_ref().is_some_and(|asked| *asked != log) {
            self.known = Some(Some(log.clone()));
            self.status.checkpoint = Some((log.clone(), 0));
        }
        match found {
            Found::End => self.caught_up(after, todo.now),
            Found::Events { events, checkpoint, highest, more } => {
                self.status.their_latest = self.status.their_latest.max(Some(highest));
                self.pace.served(&events, more);
                self.apply(Checkpoint { log, sequence: checkpoint, event: String::new() }, events, None, more, todo);
            }
        }
        Ok(())
    }

    /// The same of an old peer.
    fn old_pulled(&mut self, found: Found, todo: &mut Todo<'_>) -> Result<(), String> {
        let tick = todo.now.tick;
        let (events, last, more, read) = match found {
            Found::End => (Vec::new(), None, false, self.reading.nothing(tick)),
            Found::Events { events, checkpoint, highest, more } => {
                let last = legacy::reading::last_upto(&events, checkpoint).ok_or("it says to go on before the first event it sent")?;
                self.status.their_latest = self.status.their_latest.max(Some(highest));
                self.pace.served(&events, more);
                let read = self.reading.found(&events, tick);
                (events, Some(last), more, read)
            }
        };
        match read {
            Read::End => self.caught_up(self.reading.head(), todo.now),
            Read::Store(checkpoint) => self.apply(checkpoint, events, last, more, todo),
            Read::Rebuilt => {
                tracing::warn!("{} shows another log than before; it is read from its start", thrum_core::name::printable(&self.peer));
                self.status.checkpoint = Some((String::new(), 0));
                self.status.their_latest = None;
                self.due = self.due.or(Some(self.run.0));
            }
        }
        Ok(())
    }

    fn apply(&mut self, checkpoint: Checkpoint, events: Vec<Served>, last: Option<(u64, String)>, more: bool, todo: &mut Todo<'_>) {
        let Checkpoint { log, sequence, event } = checkpoint.clone();
        self.applying = Some(Applying { checkpoint, last, more });
        todo.actions.push(Action::Apply { log, checkpoint: sequence, checkpoint_event: event, events });
    }

    fn applied(&mut self, applied: Applied, now: Now) {
        let Some(Applying { checkpoint, last, more }) = self.applying.take() else { return };
        let run = &mut self.run.1;
        run.applied += applied.applied;
        run.skipped += applied.skipped;
        run.rejected += applied.rejected;
        self.status.applied += applied.applied as u64;
        self.status.skipped += applied.skipped as u64;
        self.disk.reset();
        // That an event was too long is shown with what was rejected.
        let passed_unread = self.passed_unread;
        let pause = self.pace.stored(&applied, more, now.tick).map(|(until, why)| (until, why.filter(|_| !passed_unread)));
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
            // The next pull acknowledges what is durable now.
            self.due = self.due.or(Some(self.run.0));
        } else {
            // An old peer takes no acknowledgements, and has said that there is no more.
            self.caught_up(self.reading.head(), now);
        }
        self.pause(pause);
    }

    /// Nothing is lost by it: the checkpoint stays where it is.
    fn quota(&mut self, over: Option<OverQuota>) {
        let peer = thrum_core::name::printable(&self.peer);
        match (&over, &self.status.over_quota) {
            (Some(now), before) => {
                if before.is_none() {
                    tracing::warn!("periodic_sync: {peer} is {now}");
                }
                self.status.last_error = Some(now.to_string());
                self.due = self.due.or(Some(Cause::Round));
            }
            (None, Some(_)) => {
                tracing::info!("periodic_sync: {peer} is within its quota again and is read on");
                self.status.last_error = None;
                self.due = self.due.or(Some(Cause::Round));
            }
            (None, None) => {}
        }
        self.status.over_quota = over;
    }

    fn pause(&mut self, pause: Option<pace::Pause>) {
        if let Some((until, why)) = pause {
            self.pull_not_before = self.pull_not_before.max(until);
            self.status.last_error = why.or(self.status.last_error.take());
        }
    }

    fn apply_failed(&mut self, why: String, todo: &mut Todo<'_>) {
        self.applying = None;
        self.due = self.due.or(Some(self.run.0));
        self.pull_not_before = todo.now.tick + self.disk.next(todo.ambient);
        self.report_failure(format!("cannot store what it sent: {why}"));
    }

    /// The peer has nothing above `after`, and everything up to there is stored.
    fn caught_up(&mut self, after: u64, now: Now) {
        if self.due.is_none() {
            self.status.their_latest = Some(after);
        }
        self.status.pulled_at = Some(now.at);
        self.connects.reset();
        self.batch_limit = limits::MAX_BATCH_EVENTS;
        self.status.last_error = None;
        self.status.ends += 1;
        self.status.forced = self.forcing;
        let (cause, applied) = std::mem::replace(&mut self.run, (Cause::Round, Applied::default()));
        if cause == Cause::Notify {
            let pause = self.pace.announced(&applied, self.known == Some(None), now.tick);
            self.pause(pause);
        }
        if applied.applied > 0 || applied.rejected > 0 {
            let peer = thrum_core::name::printable(&self.peer);
            match cause {
                Cause::Notify => {
                    tracing::info!("sync.notify: synced from {peer} — applied={} skipped={}", applied.applied, applied.skipped)
                }
                Cause::Round => tracing::info!("periodic_sync: synced {} events from {peer}", applied.applied),
            }
            if applied.rejected > 0 {
                tracing::warn!("{} events from {peer} were rejected", applied.rejected);
            }
        }
    }

    fn too_long(&mut self, todo: &mut Todo<'_>) {
        match self.flight.take().map(|flight| flight.call) {
            Some(Call::Pull(pull)) if pull.max_batch > 1 => {
                // An old peer bounds no batch: its answer may have been many times too long.
                let less = if pull.log.is_none() { 8 } else { 2 };
                self.max_batch = (pull.max_batch / less).max(1);
                self.batch_limit = self.max_batch;
                self.passed_unread = false;
                self.down(todo.now.tick, todo);
            }
            Some(Call::Pull(pull)) if pull.log.is_none() => {
                let most = limits::MAX_SKIPPED_LINE_BYTES;
                self.fail(
                    format!("one event in an answer of more than {most} bytes, or one that does not say which event it is"),
                    false,
                    todo,
                );
            }
            _ => self.fail(format!("an answer of more than {} bytes", limits::MAX_LINE_BYTES), false, todo),
        }
    }

    /// A peer that stops, or closes an idle connection, is no failure yet: it is asked again within a second.
    fn disconnected(&mut self, why: String, todo: &mut Todo<'_>) {
        if self.known.is_some() && self.flight.is_none() && self.connects.failures() == 0 {
            let retry = todo.now.tick + self.connects.next(todo.ambient);
            self.down(retry, todo);
            self.status.set_state(State::Connecting, todo.now.at);
            self.status.last_error = Some(why);
            self.call_helps = true;
        } else {
            self.ask_for_less();
            self.fail(why, true, todo);
        }
    }

    /// If the answer to a pull does not come through, half of it may.
    fn ask_for_less(&mut self) {
        if let Some(Flight { call: Call::Pull(pull), .. }) = &self.flight {
            self.max_batch = (pull.max_batch / 2).max(1);
        }
    }

    /// Connects anew at once, instead of waiting until a request on the dead connection has had its time.
    fn moved(&mut self, todo: &mut Todo<'_>) {
        if !matches!(self.link, Link::Down { .. }) {
            self.down(todo.now.tick, todo);
            self.status.set_state(State::Connecting, todo.now.at);
        }
        self.probe_at(todo.now.tick);
    }

    fn removed(&mut self, todo: &mut Todo<'_>) {
        todo.actions.push(Action::NoteRemoved);
        self.down(todo.now.tick + limits::BACKOFF_LAST, todo);
        self.status.set_state(State::RemovedUs, todo.now.at);
        self.call_helps = true;
        self.report_failure("it does not know us any more: unauthorized".into());
    }

    /// Gives the connection up and waits. `reach`: whether a call from the peer would show that the reason is gone.
    fn fail(&mut self, why: String, reach: bool, todo: &mut Todo<'_>) {
        let retry = todo.now.tick + self.connects.next(todo.ambient);
        self.down(retry, todo);
        self.status.set_state(State::Unreachable, todo.now.at);
        self.call_helps = reach;
        self.report_failure(why);
    }

    fn report_failure(&mut self, why: String) {
        tracing::warn!("periodic_sync: sync from {} failed: {why}", thrum_core::name::printable(&self.peer));
        self.status.last_error = Some(why);
        self.status.failures += 1;
        self.status.forced = self.force;
        self.run.1 = Applied::default();
    }

    fn down(&mut self, retry: Duration, todo: &mut Todo<'_>) {
        self.link = Link::Down { retry };
        self.flight = None;
        self.known = None;
        if std::mem::take(&mut self.comparing) {
            // A digest that fails or takes too long must not keep the peer from being read.
            self.compare = self.status.compared;
        }
        todo.actions.push(Action::Close);
    }

    /// The peer called: it is there, and a second after the last attempt is soon enough.
    fn called(&mut self, now: Now) {
        if self.call_helps {
            self.probe_at(self.attempted.map_or(now.tick, |last| now.tick.max(last + limits::BACKOFF_FIRST)));
        }
    }

    fn probe_at(&mut self, tick: Duration) {
        if let Link::Down { retry } = &mut self.link {
            *retry = tick.min(*retry);
        }
    }
}

/// What a step has gathered.
struct Todo<'a> {
    actions: Vec<Action>,
    now: Now,
    ambient: &'a mut dyn Ambient,
}

/// Who was asked within this time is left out of a round.
pub(crate) fn recent_within(round: Duration) -> Duration {
    limits::RECENT.min(round * 2 / 3)
}

/// How long a call may take.
fn time_for(call: &Call) -> Duration {
    match call {
        Call::PeerInfo { .. } => limits::PEER_INFO,
        // Nothing less can be asked for; whether it makes progress, the connection sees.
        Call::Pull(pull) if pull.max_batch == 1 => limits::SLOW_PULL,
        Call::Pull(_) | Call::About(_) => limits::PULL,
        Call::Notify { .. } | Call::Differs => limits::NOTIFY,
    }
}

#[cfg(test)]
mod tests;
