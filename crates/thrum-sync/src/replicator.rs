//! Replicates from one peer: decides when to dial, what to request, what to store and how long to wait.
//!
//! There is one persistent connection with one request in flight. After each input, the state machine takes the first
//! step that applies: ask the peer for its identity (once per connection, and for `verify`), announce events that the
//! peer has not been told about, pull if there may be new events. A pull starts at the checkpoint, and acknowledges the
//! events up to it. The events of its reply are stored together with the new checkpoint. While they are being stored,
//! the next batch is requested already, if the peer has more events and supports [`AHEAD`]. That pull starts after the
//! batch being stored. It acknowledges the events up to the checkpoint, because later ones are not durable yet.
//!
//! Convergence without needless traffic:
//! * reasons to pull that arrive during a pull set one flag, and cause one more pull;
//! * an announcement carries the events if it seems that the peer has read everything before them. The peer stores them
//!   if they follow its checkpoint, and ignores them otherwise: in both cases it pulls afterwards, which acknowledges
//!   what it has stored and brings what it does not have;
//! * a commit is announced only if it has events above those that the peer was told about or has acknowledged, and
//!   never if they came from the peer;
//! * an event that the peer is assumed to hold is sent as a reference, with its id only: if it came from the peer, or if
//!   the peer has sent events of the same origin that were held here already, so that it gets them from others. A
//!   daemon that lacks an event sent as a reference stores nothing of that batch, and asks for bodies until it has read
//!   everything; the peer then assumes nothing about origins any more (push and lazy push as in Plumtree, Leitão et al.
//!   2007);
//! * the checkpoint moves only to events that were served and stored, within one log; a log with another `log_id` is
//!   read from its start;
//! * an invalid reply (sequences that go back or stand still, a reply without a request) closes the connection and is
//!   reported, and the next attempt waits as after a failed connect. Only a batch that was too long for a line is
//!   requested again at once, with fewer events.
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

mod connecting;
mod interface;
mod pull_reply;
mod pulling;
mod status;
mod throttle;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use thrum_core::{
    Ambient, Timestamp,
    exchange::{Applied, Checkpoint},
    limits,
};

use crate::{
    Now,
    backoff::Backoff,
    error::{Timeout, Violation},
    legacy::{self, reading::Reading},
    protocol::wire::{AHEAD, BadReply, Call, GOODBYE, Info, REFERENCES, Reply},
};
pub use interface::{Action, Input};
pub use status::{Comparable, ExchangeStatus, ReplicatorStatus, State};
use throttle::Throttle;

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
    /// For a legacy peer: sequence and id of the last event in the batch, without those above the sequence from which
    /// the peer continues.
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
    /// The batches that are being stored, oldest first: at most [`limits::BATCHES_IN_PROGRESS`], and one of a peer
    /// that cannot be read ahead.
    applying: VecDeque<Applying>,
    /// Whether the peer knows [`AHEAD`].
    can_read_ahead: bool,
    /// Whether the peer knows [`REFERENCES`].
    takes_references: bool,
    /// Whether a pull was answered on this connection. The first one requests bodies, so that a daemon whose directory
    /// was restored learns at once that it lacks events of its own.
    has_pulled: bool,
    /// Whether this log lacks an event that the peer sent as a reference. Until everything is read, the peer is asked to
    /// send none.
    lacks: bool,
    /// Origins whose events the peer also gets from others.
    elsewhere: Arc<BTreeSet<String>>,
    /// Whether the peer knows [`GOODBYE`].
    hears_goodbye: bool,
    due: Option<Cause>,
    /// Cause and result of the current run of pulls, for one log message at the end of the run.
    run: (Cause, Applied),
    /// Maximum number of events per pull.
    most_per_pull: usize,
    /// Number of events that the next pull requests.
    max_batch: usize,
    /// Upper limit of `max_batch`, at most `most_per_pull`: a number whose reply exceeded the line length is not
    /// requested again until everything is read, or an event that was too long is passed.
    batch_limit: usize,
    /// Whether the last served event was too long to be read.
    passed_unread: bool,
    pull_not_before: Duration,
    /// Our highest sequence of an event that did not come from the peer.
    target: u64,
    /// The highest sequence announced to the peer or acknowledged by it.
    announced: u64,
    /// Number of commits not announced yet.
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
            applying: VecDeque::new(),
            can_read_ahead: false,
            takes_references: false,
            has_pulled: false,
            lacks: false,
            elsewhere: Arc::default(),
            hears_goodbye: false,
            due: None,
            run: (Cause::Periodic, Applied::default()),
            most_per_pull: limits::MAX_BATCH_EVENTS,
            max_batch: limits::MAX_BATCH_EVENTS,
            batch_limit: limits::MAX_BATCH_EVENTS,
            passed_unread: false,
            pull_not_before: Duration::ZERO,
            target: 0,
            announced: 0,
            untold: 0,
            notify_not_before: Duration::ZERO,
            next_periodic: now.tick + limits::SYNC_INTERVAL,
            sync_interval: limits::SYNC_INTERVAL,
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

    /// Sets the sync interval, instead of [`limits::SYNC_INTERVAL`].
    #[must_use]
    pub fn with_sync_interval(mut self, interval: Duration, now: Now) -> Self {
        self.sync_interval = interval;
        self.next_periodic = now.tick + interval;
        self
    }

    /// Sets the maximum number of events per pull, instead of [`limits::MAX_BATCH_EVENTS`].
    #[must_use]
    pub fn with_most_per_pull(mut self, most: usize) -> Self {
        (self.most_per_pull, self.max_batch, self.batch_limit) = (most, most, most);
        self
    }

    /// Returns `true` if the peer is connected and understands that this daemon stops.
    pub fn takes_goodbye(&self) -> bool {
        self.known.is_some() && self.hears_goodbye
    }

    /// Returns the current status.
    pub fn status(&self) -> &ReplicatorStatus {
        &self.status
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
            Input::NotApplied => self.not_applied(),
            Input::Lacks => {
                self.lacks = true;
                self.not_applied();
            }
            Input::Repeated(origins) => self.repeated(origins),
            Input::PeerLacks => self.elsewhere = Arc::default(),
            Input::Commit(latest) if latest > self.target => {
                self.target = latest;
                self.untold += 1;
            }
            Input::Notified { latest, pushed } => {
                self.due = Some(Cause::Notify);
                self.reading.notified(latest);
                self.status.exchange.their_latest = self.status.exchange.their_latest.max(Some(latest));
                if let Some((after, pushed)) = pushed {
                    self.pushed(after, pushed, todo);
                }
            }
            Input::Quota(over) => self.quota(over),
            Input::NetworkUp => self.probe_at(todo.now.tick),
            Input::Moved => self.moved(todo),
            Input::Authenticated => self.called(todo.now),
            // The schedule stays as it is: the peer calls when it starts again, and it may never have stopped.
            Input::Stopping => drop(self.status.stopped.get_or_insert(todo.now.at)),
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
            // Late inputs from an abandoned connection, and commits without anything new to announce.
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
            let after = Some(self.announced).filter(|after| *after > 0 && self.known != Some(None));
            let count = std::mem::take(&mut self.untold).max(1);
            let references = self.takes_references.then(|| Arc::clone(&self.elsewhere));
            Call::Notify { latest: self.target, count, after, references }
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

    /// Returns `true` if a pull is due, the peer is within its quota, and either no batch is being stored, or the next
    /// one may be read ahead.
    fn may_pull(&self) -> bool {
        let may_read = match self.applying.back() {
            None => true,
            Some(last) => self.can_read_ahead && last.more && self.applying.len() < limits::BATCHES_IN_PROGRESS,
        };
        self.due.is_some() && may_read && self.status.exchange.over_quota.is_none()
    }

    fn has_unannounced(&self) -> bool {
        self.known.is_some() && self.target > self.announced
    }

    /// Remembers that the peer gets the events of these origins from others, too.
    fn repeated(&mut self, origins: BTreeSet<String>) {
        if self.takes_references && !origins.is_subset(&self.elsewhere) {
            let elsewhere = Arc::make_mut(&mut self.elsewhere);
            elsewhere.extend(origins);
            while elsewhere.len() as u64 > limits::MAX_PEER_ORIGINS {
                elsewhere.pop_last();
            }
        }
    }

    fn replied(&mut self, flight: Flight, reply: Result<Reply, BadReply>, todo: &mut Todo<'_>) {
        match (flight.call, reply) {
            (Call::PeerInfo { digest }, Ok(Reply::Info(info))) => self.met(*info, digest, flight.sent, todo),
            (Call::Notify { latest, .. }, Ok(Reply::Notified)) => self.announced = self.announced.max(latest),
            (Call::Pull(pull), Ok(Reply::Pulled(_))) if self.is_overtaken(&pull) => {
                self.due = self.due.or(Some(self.run.0))
            }
            (Call::Pull(pull), Ok(Reply::Pulled(pulled))) => {
                self.has_pulled = true;
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
            self.has_pulled = false;
            self.reading.met();
        }
        self.known = Some(info.log.clone());
        let knows = |name: &str| info.log.is_some() && info.protocols.iter().any(|protocol| protocol == name);
        (self.can_read_ahead, self.hears_goodbye) = (knows(AHEAD), knows(GOODBYE));
        self.takes_references = knows(REFERENCES);
        self.comparing = false;
        let ticket = if digest { self.compare } else { self.status.compared };
        self.status.met(info, sent, todo.now.at, ticket);
        if let Some(offset) = self.status.exchange.clock_offset_ms
            && u128::from(offset.unsigned_abs()) > limits::CLOCK_OFF.as_millis()
        {
            tracing::warn!(daemon_id = %self.peer, seconds = offset / 1000, "the clock of a peer is off");
        }
    }
}

/// Collects the actions of a step.
struct Todo<'a> {
    actions: Vec<Action>,
    now: Now,
    ambient: &'a mut dyn Ambient,
}

/// Returns how long after a pull a peer is skipped by the periodic pull.
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
        Call::Notify { .. } | Call::Differs | Call::Goodbye => limits::NOTIFY,
    }
}

#[cfg(test)]
mod tests;
