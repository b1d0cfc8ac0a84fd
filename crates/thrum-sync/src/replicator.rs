//! Replicates from one peer: decides when to dial, what to request, what to store and how long to wait.
//!
//! There is one persistent connection with one request in flight. After each input, the state machine takes the first
//! step that applies: ask the peer for its identity (once per connection, and for `verify`), announce events that the
//! peer has not been told about, pull if there may be new events. A pull starts at the checkpoint. The events of its
//! reply are stored together with the new checkpoint before the next pull, which thereby acknowledges them.
//!
//! Convergence without needless traffic:
//! * reasons to pull that arrive during a pull set one flag, and cause one more pull;
//! * a commit is announced only if it has events above those that the peer was told about or has acknowledged, and
//!   never if they came from the peer;
//! * the checkpoint moves only to events that were served and stored, within one log; a log with another `log_id` is
//!   read from its start;
//! * an invalid reply (sequences that go back or stand still, a reply without a request) closes the connection, is
//!   reported, and waits like a failed connect. Only a batch that was too long for a line is requested again at once,
//!   with fewer events.
//!
//! If a batch is too long or too slow for one reply, the next pulls request half as much (an eighth after a line of a
//! legacy peer that was too long), down to single events, and more again once replies arrive quickly.
//!
//! While a peer is unreachable, one attempt at a time probes it, from half a second to five minutes apart. Only newly
//! stored events or a completed pull reset this backoff. An incoming call from the peer proves that the peer is up, and
//! triggers an early attempt unless the last error would only repeat. A peer without `log_id` is a legacy peer;
//! [`legacy`] decides at which position its log is read, and how often it is notified.
//!
//! All randomness and time are passed in, so that a simulation runs the same code.

mod pull_reply;
mod status;
mod throttle;

use std::time::Duration;

use thrum_core::{
    Ambient, Error, Retry, Timestamp,
    exchange::{Applied, Checkpoint},
    limits,
    quota::OverQuota,
    words::count,
};

use crate::{
    Now,
    backoff::Backoff,
    error::{PeerError, Timeout, Violation},
    legacy::{
        self,
        reading::{Read, Reading},
    },
    protocol::wire::{BadReply, Call, Info, Pull, Pulled, Reply, Served},
};
use pull_reply::{PullContent, ValidReply, validate};
pub use status::{Comparable, ExchangeStatus, ReplicatorStatus, State};
use throttle::Throttle;

/// An input of the replicator.
#[derive(Debug)]
pub enum Input {
    /// Time has passed.
    Timer,
    /// The requested dial succeeded.
    Connected,
    /// The requested dial failed.
    ConnectFailed(PeerError),
    /// The connection ended.
    Disconnected(PeerError),
    /// The peer replied to the request in flight.
    Replied(Result<Reply, BadReply>),
    /// The reply exceeded the maximum line length, and the connection ended.
    TooLong,
    /// The batch is durable.
    Applied(Applied),
    /// The batch could not be stored completely. The checkpoint is unchanged.
    ApplyFailed(Error),
    /// `Some` if the peer is over its quota and must not be read further.
    Quota(Option<OverQuota>),
    /// The peer has lent a connection to us: worth one attempt now, regardless of backoff.
    NetworkUp,
    /// The network has come up, or the address of either side changed. An open connection is dead even though neither
    /// side closed it.
    Moved,
    /// Our log has events up to this sequence that did not come from this peer.
    Commit(u64),
    /// The peer has new events.
    Notified {
        /// The peer's highest sequence, as the peer reports it.
        latest: u64,
    },
    /// The peer called us with a valid token.
    Authenticated,
    /// The peer has durably stored our log up to this sequence.
    Acknowledged(u64),
    /// A pull is requested now. It is done when [`ReplicatorStatus::forced`] has reached this ticket.
    Force(u64),
    /// The peer's digests are requested. Done when [`ReplicatorStatus::compared`] has reached this ticket.
    Compare(u64),
}

/// An action that the replicator requests.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Connect; respond with `Connected` or `ConnectFailed`.
    Dial,
    /// Send a request; respond with `Replied`, `TooLong` or `Disconnected`.
    Send {
        /// The request's id.
        id: u64,
        /// The request.
        call: Call,
    },
    /// Store a batch; respond with `Applied` or `ApplyFailed`.
    Apply {
        /// The peer's log; empty for a legacy peer.
        log: String,
        /// The checkpoint to store with the batch; 0 leaves the stored one unchanged.
        checkpoint: u64,
        /// For a legacy peer, the id of the event at the checkpoint; otherwise empty.
        checkpoint_event: String,
        /// The served events.
        events: Vec<Served>,
    },
    /// Drop the connection, or the dial in progress.
    Close,
    /// Record that the peer accepts our token.
    NoteWelcome,
    /// Record that the peer does not know our token.
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
    sent: Timestamp,
}

#[derive(Debug)]
struct Applying {
    /// The checkpoint on disk after this batch.
    checkpoint: Checkpoint,
    /// For a legacy peer: sequence and id of the last event in the batch up to the sequence at which the peer
    /// continues.
    last: Option<(u64, String)>,
    more: bool,
}

/// Why a pull is due: for log messages, and to throttle a peer whose announcements bring nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Periodic,
    Notify,
}

/// The state machine for one peer.
#[derive(Debug)]
pub struct Replicator {
    peer: String,
    link: Link,
    /// The id of the peer's log on this connection, with `Some(None)` for a legacy peer. `None` until the peer has
    /// reported it.
    known: Option<Option<String>>,
    /// How far a legacy peer has been read.
    reading: Reading,
    flight: Option<Flight>,
    next_id: u64,
    applying: Option<Applying>,
    due: Option<Cause>,
    /// Cause and result of the current run of pulls, for one log message at the end of the run.
    run: (Cause, Applied),
    /// Size of the next pull in events, and its upper limit. A size whose reply exceeded the line length is not
    /// requested again until everything is read, or an event that was too long is passed.
    max_batch: usize,
    batch_limit: usize,
    /// Whether the last served event was too long to be read.
    passed_unread: bool,
    pull_not_before: Duration,
    /// Our highest sequence of an event that did not come from the peer, the highest one announced to the peer or
    /// acknowledged by it, and the number of commits not announced yet.
    target: u64,
    announced: u64,
    untold: u64,
    notify_not_before: Duration,
    /// When the next periodic pull is due.
    next_periodic: Duration,
    /// Time between two periodic pulls.
    sync_interval: Duration,
    asked: Option<Duration>,
    attempted: Option<Duration>,
    connects: Backoff,
    disk: Backoff,
    /// Throttle for a peer that wastes resources.
    throttle: Throttle,
    /// Whether a call from the peer suggests that the reason for waiting is gone.
    call_helps: bool,
    /// Whether the peer caused the last failure by an answer.
    failed_by_answer: bool,
    force: u64,
    forcing: u64,
    compare: u64,
    /// Whether the digest was requested on this connection and has not arrived yet.
    comparing: bool,
    status: ReplicatorStatus,
}

impl Replicator {
    /// Creates a replicator that dials at once. `checkpoint` is how far the peer's log has been applied.
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
            run: (Cause::Periodic, Applied::default()),
            max_batch: limits::MAX_BATCH_EVENTS,
            batch_limit: limits::MAX_BATCH_EVENTS,
            passed_unread: false,
            pull_not_before: Duration::ZERO,
            target: 0,
            announced: 0,
            untold: 0,
            notify_not_before: Duration::ZERO,
            next_periodic: now.tick + limits::ROUND,
            sync_interval: limits::ROUND,
            asked: None,
            attempted: None,
            connects: Backoff::new(limits::BACKOFF_FIRST, limits::BACKOFF_LAST),
            disk: Backoff::new(limits::BACKOFF_FIRST, limits::BACKOFF_LAST),
            throttle: Throttle::new(now.tick),
            call_helps: true,
            failed_by_answer: false,
            force: 0,
            forcing: 0,
            compare: 0,
            comparing: false,
            status: ReplicatorStatus::new(checkpoint.map(|read| (read.log, read.sequence)), now.at),
        }
    }

    /// Sets the sync interval, instead of [`limits::ROUND`].
    #[must_use]
    pub fn with_sync_interval(mut self, interval: Duration, now: Now) -> Self {
        self.sync_interval = interval;
        self.next_periodic = now.tick + interval;
        self
    }

    /// Gives the peer one second to call first, because it may not have stored its new token yet.
    pub fn wait_for_call(&mut self, now: Now) {
        self.link = Link::Down { retry: now.tick + limits::BACKOFF_FIRST };
    }

    /// Returns the current status.
    pub fn status(&self) -> &ReplicatorStatus {
        &self.status
    }

    /// Returns whether a connection to the peer can be opened, according to the last attempt; `None` while one is being
    /// opened. A peer that answers, even with something invalid, can be reached: a connection that the peer lends would
    /// bring the same answer.
    pub fn is_reached(&self) -> Option<bool> {
        match self.status.state {
            State::Connected | State::RemovedUs => Some(true),
            State::Unreachable => Some(self.failed_by_answer),
            State::Connecting | State::OverQuota => None,
        }
    }

    /// Processes one input. Returns the resulting actions, in order.
    pub fn step(&mut self, input: Input, now: Now, ambient: &mut dyn Ambient) -> Vec<Action> {
        let mut todo = Todo { actions: Vec::new(), now, ambient };
        self.take(input, &mut todo);
        self.expire(&mut todo);
        self.advance(&mut todo);
        self.status.exchange.next_attempt = match self.link {
            Link::Down { retry } => Some(now.wall(retry)),
            _ => None,
        };
        todo.actions
    }

    /// Returns when [`Input::Timer`] is due, unless another input arrives before.
    pub fn wait_until(&self) -> Duration {
        match self.link {
            Link::Down { retry } => return retry,
            Link::Dialing { deadline } => return deadline,
            Link::Up => {}
        }
        if let Some(flight) = &self.flight {
            return flight.deadline;
        }
        let mut at = self.next_periodic;
        if self.has_unannounced() {
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
                self.due = self.due.or(Some(Cause::Periodic));
            }
            Input::ConnectFailed(error) if matches!(self.link, Link::Dialing { .. }) => self.fail(&error, todo),
            Input::Disconnected(error) if self.link == Link::Up => self.disconnected(&error, todo),
            Input::Replied(reply) => {
                if let Some(flight) = self.flight.take() {
                    self.replied(flight, reply, todo);
                }
            }
            Input::TooLong => self.too_long(todo),
            Input::Applied(applied) => self.applied(applied, todo.now),
            Input::ApplyFailed(error) => self.apply_failed(error, todo),
            Input::Commit(latest) if latest > self.target => {
                self.target = latest;
                self.untold += 1;
            }
            Input::Notified { latest } => {
                self.due = Some(Cause::Notify);
                self.reading.notified(latest);
                self.status.exchange.their_latest = self.status.exchange.their_latest.max(Some(latest));
            }
            Input::Quota(over) => self.quota(over),
            Input::NetworkUp => self.probe_at(todo.now.tick),
            Input::Moved => self.moved(todo),
            Input::Authenticated => self.called(todo.now),
            Input::Acknowledged(upto) => {
                self.status.exchange.read_by_them = Some(upto);
                self.announced = self.announced.max(upto);
            }
            Input::Force(ticket) => {
                self.force = ticket;
                if let Some(over) = &self.status.exchange.over_quota {
                    self.status.exchange.last_error = Some(over.to_string());
                    self.status.failures += 1;
                    self.status.forced = ticket;
                }
                self.due = self.due.or(Some(Cause::Periodic));
                self.pull_not_before = todo.now.tick;
                self.probe_at(todo.now.tick);
            }
            Input::Compare(ticket) => {
                self.compare = ticket;
                self.probe_at(todo.now.tick);
            }
            // Late events of an abandoned connection, and commits without anything new to announce.
            Input::Connected | Input::ConnectFailed(_) | Input::Disconnected(_) | Input::Commit(_) => {}
        }
    }

    /// Handles expired deadlines.
    fn expire(&mut self, todo: &mut Todo<'_>) {
        let tick = todo.now.tick;
        if tick >= self.next_periodic {
            let missed = tick.saturating_sub(self.next_periodic).as_nanos() / self.sync_interval.as_nanos().max(1);
            self.next_periodic += self.sync_interval.saturating_mul(u32::try_from(missed).unwrap_or(u32::MAX - 1) + 1);
            let recent = self.asked.is_some_and(|asked| tick < asked + recent_within(self.sync_interval));
            if self.link == Link::Up && !recent {
                self.due = self.due.or(Some(Cause::Periodic));
            }
        }
        if matches!(self.link, Link::Dialing { deadline } if tick >= deadline) {
            self.fail(&Timeout::Connect(limits::MEET).into(), todo);
        }
        if self.flight.as_ref().is_some_and(|flight| tick >= flight.deadline) {
            let within = self.flight.as_ref().map_or(Duration::ZERO, |flight| time_for(&flight.call));
            self.ask_for_less();
            self.fail(&Timeout::Reply(within).into(), todo);
        }
    }

    /// Starts the next request, if possible now.
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
        } else if self.has_unannounced() && tick >= self.notify_not_before {
            self.notify_not_before = tick + legacy::notify_gap(self.known.as_ref().and_then(|log| log.as_deref()));
            Call::Notify { latest: self.target, count: std::mem::take(&mut self.untold).max(1) }
        } else if self.may_pull() && tick >= self.pull_not_before {
            let cause = self.due.take().unwrap_or(Cause::Periodic);
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

    /// Returns `true` if a pull is due, no batch is being stored, and the peer is within its quota.
    fn may_pull(&self) -> bool {
        self.due.is_some() && self.applying.is_none() && self.status.exchange.over_quota.is_none()
    }

    fn has_unannounced(&self) -> bool {
        self.known.is_some() && self.target > self.announced
    }

    /// Builds a pull from the checkpoint, if the checkpoint belongs to the peer's current log; otherwise from the
    /// start. For a legacy peer, `reading` decides.
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
                self.track_unread(&pulled);
                let began = flight.deadline.saturating_sub(time_for(&Call::Pull(pull.clone())));
                // The end of the log says little about the speed of the network.
                let was_quick = pulled.more && todo.now.tick < began + limits::PULL / 4;
                match self.pulled(&pull, pulled, todo) {
                    Ok(()) if was_quick => self.max_batch = pull.max_batch.saturating_mul(2).min(self.batch_limit),
                    Ok(()) => {}
                    Err(violation) => self.fail(&violation.into(), todo),
                }
            }
            (_, Err(BadReply::Error(error))) if error.is_unauthorized() => self.removed(todo),
            (_, Err(bad)) => self.fail(&bad.into(), todo),
            (_, Ok(_)) => self.fail(&Violation::OtherMethod.into(), todo),
        }
    }

    /// Keeps pulls at a single event until the event after one that was too long has been read. The first pull on a new
    /// connection requests the last event again; if that were the long one, it would be transferred again and again.
    fn track_unread(&mut self, pulled: &Pulled) {
        if pulled.events.iter().any(Served::is_unread) {
            self.passed_unread = true;
        } else if std::mem::take(&mut self.passed_unread) {
            self.batch_limit = limits::MAX_BATCH_EVENTS;
        }
    }

    fn met(&mut self, info: Info, digest: bool, sent: Timestamp, todo: &mut Todo<'_>) {
        if info.daemon_id != self.peer {
            return self.fail(&Violation::OtherDaemon(info.daemon_id).into(), todo);
        }
        if let (Some(log), Some(latest), Some((known, sequence))) = (&info.log, info.latest, &self.status.checkpoint)
            && log == known
            && latest < *sequence
        {
            return self.fail(&Violation::LogShrank { latest, read: *sequence }.into(), todo);
        }
        if self.known.is_none() {
            todo.actions.push(Action::NoteWelcome);
            self.reading.met();
        }
        self.known = Some(info.log.clone());
        self.comparing = false;
        let ticket = if digest { self.compare } else { self.status.compared };
        self.status.met(info, sent, todo.now.at, ticket);
        if let Some(offset) = self.status.exchange.clock_offset_ms
            && u128::from(offset.unsigned_abs()) > limits::CLOCK_OFF.as_millis()
        {
            tracing::warn!(daemon_id = %self.peer, seconds = offset / 1000, "the clock of a peer is off");
        }
    }

    /// Validates the reply to a pull and passes its events on to be stored.
    fn pulled(&mut self, pull: &Pull, pulled: Pulled, todo: &mut Todo<'_>) -> Result<(), Violation> {
        let ValidReply { log, after, content } = validate(pull, pulled)?;
        if pull.log.is_none() {
            return self.old_pulled(content, todo);
        }
        if pull.log.as_ref().is_some_and(|asked| *asked != log) {
            self.known = Some(Some(log.clone()));
            self.status.checkpoint = Some((log.clone(), 0));
        }
        match content {
            PullContent::End => self.caught_up(after, todo.now),
            PullContent::Events { events, checkpoint, highest, more } => {
                self.status.exchange.their_latest = self.status.exchange.their_latest.max(Some(highest));
                self.throttle.served(&events, more);
                self.apply(Checkpoint { log, sequence: checkpoint, event: String::new() }, events, None, more, todo);
            }
        }
        Ok(())
    }

    /// Handles the reply to a pull from a legacy peer.
    fn old_pulled(&mut self, content: PullContent, todo: &mut Todo<'_>) -> Result<(), Violation> {
        let tick = todo.now.tick;
        let (events, last, more, read) = match content {
            PullContent::End => (Vec::new(), None, false, self.reading.nothing(tick)),
            PullContent::Events { events, checkpoint, highest, more } => {
                let last = legacy::reading::last_upto(&events, checkpoint).ok_or(Violation::BeforeFirst)?;
                self.status.exchange.their_latest = self.status.exchange.their_latest.max(Some(highest));
                self.throttle.served(&events, more);
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
    fn quota(&mut self, over: Option<OverQuota>) {
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

    fn apply_failed(&mut self, error: Error, todo: &mut Todo<'_>) {
        self.applying = None;
        self.due = self.due.or(Some(self.run.0));
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
        self.batch_limit = limits::MAX_BATCH_EVENTS;
        self.status.exchange.last_error = None;
        self.status.ends += 1;
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

    fn too_long(&mut self, todo: &mut Todo<'_>) {
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

    /// Handles the end of a connection. A peer that stops, or closes an idle connection, has not failed yet: retry
    /// within a second.
    fn disconnected(&mut self, error: &PeerError, todo: &mut Todo<'_>) {
        if self.known.is_some() && self.flight.is_none() && self.connects.failures() == 0 {
            let retry = todo.now.tick + self.connects.next(todo.ambient);
            self.down(retry, todo);
            self.status.set_state(State::Connecting, todo.now.at);
            self.status.exchange.last_error = Some(error.to_string());
            self.call_helps = true;
        } else {
            self.ask_for_less();
            self.fail(error, todo);
        }
    }

    /// Halves the size of the next pull, because a smaller reply may get through.
    fn ask_for_less(&mut self) {
        if let Some(Flight { call: Call::Pull(pull), .. }) = &self.flight {
            self.max_batch = (pull.max_batch / 2).max(1);
        }
    }

    /// Reconnects at once, instead of waiting for a request on the dead connection to time out.
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
        let error = PeerError::Removed;
        self.call_helps = error.retry() == Retry::Useful;
        self.report_failure(&error);
    }

    /// Closes the connection, reports the error, and dials again after the backoff.
    fn fail(&mut self, error: &PeerError, todo: &mut Todo<'_>) {
        let retry = todo.now.tick + self.connects.next(todo.ambient);
        self.down(retry, todo);
        self.status.set_state(State::Unreachable, todo.now.at);
        self.call_helps = error.retry() == Retry::Useful;
        self.failed_by_answer = error.is_answer();
        self.report_failure(error);
    }

    fn report_failure(&mut self, error: &PeerError) {
        tracing::warn!(
            daemon_id = %self.peer,
            %error,
            "periodic_sync: sync from {} failed: {error}",
            thrum_core::name::printable(&self.peer)
        );
        self.status.exchange.last_error = Some(error.to_string());
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

    /// Handles a call from the peer, which proves that it is up: dial, at the earliest one second after the last
    /// attempt, unless the last error would only repeat.
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

/// Collects the actions of a step.
struct Todo<'a> {
    actions: Vec<Action>,
    now: Now,
    ambient: &'a mut dyn Ambient,
}

/// Returns the time within which a pulled peer is skipped in a periodic pull.
pub(crate) fn recent_within(sync_interval: Duration) -> Duration {
    limits::RECENT.min(sync_interval * 2 / 3)
}

/// Returns the maximum duration of a call.
fn time_for(call: &Call) -> Duration {
    match call {
        Call::PeerInfo { .. } => limits::PEER_INFO,
        // No smaller request exists. The connection checks that the reply makes progress.
        Call::Pull(pull) if pull.max_batch == 1 => limits::SLOW_PULL,
        Call::Pull(_) | Call::About(_) => limits::PULL,
        Call::Notify { .. } | Call::Differs => limits::NOTIFY,
    }
}

#[cfg(test)]
mod tests;
