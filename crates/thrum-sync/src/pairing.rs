//! Pairing with a 4-digit code: the side that displays the code. A session here is a pairing session.
//!
//! Ten thousand codes are few, so the number of guesses must be limited: three per node in a session, and a budget per
//! hour and day over all sessions. Each guess is counted on disk before it is answered, so that neither a new session
//! nor a restart restores the budget. While the disk fails, every code gets the same answer. The other rules limit what
//! a stranger may learn or do:
//!
//! * a budget that is used up locks pairing; the lock is checked before the code, so the right code fails like any
//!   other;
//! * a code works once, and comparing it takes the same time for any four digits;
//! * after three wrong guesses, the session is closed to the guessing node, but to no other. If callers cannot be told
//!   apart, or if all guesses of the hour or day are used up, the session ends, and the operator is told at once
//!   instead of after five minutes;
//! * guesses on loopback and on the tailnet are counted separately, so that a local program cannot lock out other
//!   machines;
//! * the waiting operator sees each caller that guesses wrongly, or is refused because a budget is used up;
//! * a caller that is refused because a budget is used up is told when it may try again;
//! * only a caller that knows the code learns whether its id is known here;
//! * an exchange of the PAKE ([`pake`]) counts as a guess from its first message, before the reply: no caller gets
//!   replies that are not counted, however many it requests at once. If the caller then proves that it knows the code,
//!   the guess is refunded, so that pairing a whole fleet within an hour locks nobody out.
//!
//! The state machine receives time and wire messages as inputs, and returns replies. The outcome of a session is kept
//! until it is collected or another session starts, because the joiner may be faster than the command that waits for
//! the outcome.

mod budget;
mod code;
pub mod pake;

use std::{fmt, path::PathBuf, time::Duration};

use serde::Serialize;
use thrum_core::{Ambient, Error, ErrorKind, Timestamp, limits, name};

pub use code::Code;

use crate::{
    Now,
    clock::go_duration,
    protocol::wire::{Begin, NO_SESSION, Refusal, RpcError, TIMED_OUT, TOO_MANY},
    state_file::{StateFile, misshapen},
    transport::{Caller, Kind, Node},
};
use budget::Budget;

/// Identifies one session, so that only its initiator can end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionId(u64);

/// The local endpoint of a session. The exchange fails for a joiner that sees a different endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Here {
    /// The kind of transport.
    pub kind: Kind,
    /// Our node; `None` on loopback.
    pub node: Option<Node>,
    /// Our address, `IP:PORT`.
    pub address: String,
}

/// The protocol by which two daemons were paired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// [`pake`]: the code was not sent.
    Pake,
    /// The code was sent, as in Go Thrum.
    Plain,
}

impl Protocol {
    /// Returns the name as stored and displayed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pake => pake::VERSION,
            Self::Plain => "plain",
        }
    }
}

/// A PAKE exchange that has begun and was counted as a guess. It ends with [`Pairing::confirm`] or
/// [`Pairing::abandon`].
#[derive(Debug)]
pub struct Exchange {
    number: u64,
    session: SessionId,
    answered: pake::Answered,
}

/// A session that has just started.
pub struct Opened {
    /// Identifies the session, to cancel it.
    pub id: SessionId,
    /// The code, for the user only.
    pub code: Code,
    /// When the session expires.
    pub expires: Now,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("id", &self.id).field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// A wrong code in a session, or a caller refused because of earlier wrong codes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// The caller's node; `None` on loopback.
    pub node: Option<Node>,
    /// The caller's address, for display.
    pub address: String,
    /// Guesses that this caller has left in this session.
    pub left: u8,
    /// Time of the attempt.
    pub at: Timestamp,
    /// When the caller may try again, if its code was not checked because of too many earlier wrong ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<Timestamp>,
}

/// How a session ended: with the new peer's id, or an error.
pub type PairingOutcome = Result<String, Error>;

/// State of the session.
#[derive(Debug, PartialEq, Eq)]
pub enum SessionState {
    /// No session waits for a peer, and there is no outcome to collect.
    Nothing,
    /// No peer has joined yet. Check again at this tick at the latest.
    Waiting(Duration),
    /// The session ended.
    Ended(PairingOutcome),
}

/// The side of pairing that displays the code.
#[derive(Debug)]
pub struct Pairing {
    file: StateFile,
    budget: Budget,
    session: Option<Session>,
    outcome: Option<PairingOutcome>,
    sessions: u64,
    exchanges: u64,
}

struct Session {
    id: SessionId,
    code: Code,
    here: Here,
    started: Now,
    expires: Now,
    /// The wrong codes, and once per node the refused callers, in order. Bounded by the total budget and the number of
    /// nodes.
    attempts: Vec<Attempt>,
    /// The exchanges in progress, by number. Each becomes a wrong code unless it succeeds. Bounded by the budget, too.
    open: Vec<(u64, Attempt)>,
    /// Whether all guesses are used up. The session then stays until it expires, is canceled or is replaced, so that
    /// callers are told the reason.
    spent: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("wrong", &self.attempts.len())
            .field("spent", &self.spent)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Checks both clocks, because the monotonic one stops while the machine sleeps.
    fn is_over(&self, now: Now) -> bool {
        now.tick >= self.expires.tick || now.at >= self.expires.at
    }

    /// Builds the record of one more attempt of this caller.
    fn attempt(&self, caller: &Caller, at: Timestamp) -> Attempt {
        let (node, address) = (caller.node.clone(), caller.address.clone());
        let left = self.left(caller.node_id()).saturating_sub(1);
        Attempt { node, address, left, at, locked_until: None }
    }

    /// Records for the operator that a caller is refused until `until`; once per node.
    fn refused(&mut self, caller: &Caller, at: Timestamp, until: Timestamp) {
        let node = caller.node_id();
        if !self.attempts.iter().any(|attempt| attempt.locked_until.is_some() && attempt.node_id() == node) {
            let (node, address) = (caller.node.clone(), caller.address.clone());
            tracing::warn!(
                "[pairing] Refused {}: too many wrong codes",
                node.as_ref().map_or_else(|| name::printable(&address), ToString::to_string)
            );
            self.attempts.push(Attempt { node, address, left: 0, at, locked_until: Some(until) });
        }
    }

    /// Returns how many codes a node may still try. Callers that cannot be told apart count as one.
    fn left(&self, node: Option<&str>) -> u8 {
        let all = self.attempts.iter().chain(self.open.iter().map(|(_, attempt)| attempt));
        let used = all.filter(|attempt| attempt.node_id() == node && attempt.locked_until.is_none()).count();
        limits::PAIRING_TRIES.saturating_sub(u8::try_from(used).unwrap_or(u8::MAX))
    }
}

impl Pairing {
    /// Reads the budget from `pairing.json`, which need not exist.
    ///
    /// # Errors
    /// The file cannot be read completely. Damage to the file must not reset the count of wrong guesses.
    pub fn open(path: PathBuf) -> Result<Self, Error> {
        let file = StateFile::at(path)?;
        let budget = match file.read()? {
            Some(text) => serde_json::from_str(&text).map_err(|error| file.broken(&misshapen(&error)))?,
            None => Budget::default(),
        };
        Ok(Self { file, budget, session: None, outcome: None, sessions: 0, exchanges: 0 })
    }

    /// Starts a session of at most [`limits::PAIRING_SESSION`].
    ///
    /// # Errors
    /// `Refused` while another session is open, or while pairing is locked (with the end of the lock); those of the
    /// disk.
    pub fn start(
        &mut self,
        here: Here,
        timeout: Duration,
        now: Now,
        ambient: &mut dyn Ambient,
    ) -> Result<Opened, Error> {
        self.expire(now);
        self.come_back(now)?;
        if let Some(until) = self.budget.locked_until(here.kind, now.at) {
            return Err(locked(until, None));
        }
        if let Some(session) = self.session.as_ref().filter(|session| !session.spent) {
            let age = go_duration(now.tick.saturating_sub(session.started.tick));
            return Err(Error::new(
                ErrorKind::Refused,
                format!("pairing already in progress (code generated {age} ago)"),
            )
            .hint("Use that code, or stop the `thrum peer add` that shows it."));
        }
        let timeout = timeout.min(limits::PAIRING_SESSION);
        self.sessions += 1;
        let id = SessionId(self.sessions);
        let code = Code::generate(ambient);
        let expires = Now { tick: now.tick + timeout, at: now.at.plus(timeout) };
        tracing::info!("[pairing] Session started, code=****, timeout={}", go_duration(timeout));
        self.outcome = None;
        self.session = Some(Session {
            id,
            code: code.clone(),
            here,
            started: now,
            expires,
            attempts: Vec::new(),
            open: Vec::new(),
            spent: false,
        });
        Ok(Opened { id, code, expires })
    }

    /// Checks a caller's code. `Ok` consumes the code: [`settle`](Self::settle) must follow.
    ///
    /// # Errors
    /// Go Thrum's messages; during a lock, with the time at which it ends. A wrong guess is on disk on return. If the
    /// guess cannot be written, it counts in memory, and the error is that of the disk, even if the code is right.
    pub fn try_code(&mut self, shown: &str, caller: &Caller, now: Now) -> Result<(), RpcError> {
        let session = self.admits(caller, now)?;
        let (is_right, attempt) = (session.code.matches(shown), session.attempt(caller, now.at));
        self.budget.record(now.at, attempt.node_id());
        self.save()?;
        if is_right {
            self.accepted(&attempt);
            return Ok(());
        }
        let left = attempt.left;
        self.failed(attempt, now);
        Err(wrong_code(left))
    }

    /// Answers the first message of a PAKE exchange; `listener` is our id. Counts the guess on disk, and then returns
    /// the exchange and our message.
    ///
    /// # Errors
    /// Those of [`try_code`](Self::try_code), except for a wrong code, which is detected only at the end.
    pub fn begin(
        &mut self,
        begin: &Begin,
        listener: &str,
        caller: &Caller,
        now: Now,
        ambient: &mut dyn Ambient,
    ) -> Result<(Exchange, String), RpcError> {
        let session = self.admits(caller, now)?;
        let (id, here, code, attempt) =
            (session.id, session.here.clone(), session.code.clone(), session.attempt(caller, now.at));
        self.budget.record(now.at, attempt.node_id());
        self.save()?;
        self.exchanges += 1;
        let number = self.exchanges;
        if let Some(session) = &mut self.session {
            session.open.push((number, attempt));
        }
        let parties = pake::Parties {
            version: begin.version.clone(),
            joiner: begin.daemon_id.clone(),
            joiner_name: begin.name.clone(),
            joiner_address: begin.address.clone(),
            joiner_node: pake::node_label(caller.kind, caller.node.as_ref()).to_owned(),
            listener: listener.to_owned(),
            listener_node: pake::node_label(here.kind, here.node.as_ref()).to_owned(),
            listener_address: here.address,
        };
        let (answered, message) = pake::answer(&code, &parties, &begin.message, ambient);
        Ok((Exchange { number, session: id, answered }, message))
    }

    /// Checks the joiner's confirmation. `Ok` consumes the code: [`settle`](Self::settle) must follow.
    ///
    /// # Errors
    /// The texts for a wrong code, whatever the cause; `pairing timed out`; `no active pairing session` if another
    /// joiner was faster or the session was canceled.
    pub fn confirm(&mut self, exchange: Exchange, confirmation: &str, now: Now) -> Result<pake::Proven, RpcError> {
        let Some(attempt) = self.close(&exchange) else {
            return Err(RpcError::refused(Refusal::NoSession, NO_SESSION));
        };
        if self.session.as_ref().is_some_and(|session| session.is_over(now)) {
            self.expire(now);
            return Err(RpcError::refused(Refusal::TimedOut, TIMED_OUT));
        }
        let Some(proven) = exchange.answered.check(confirmation) else {
            let left = attempt.left;
            self.failed(attempt, now);
            return Err(wrong_code(left));
        };
        self.accepted(&attempt);
        Ok(proven)
    }

    /// Ends an exchange without a confirmation, which counts as a wrong code.
    pub fn abandon(&mut self, exchange: &Exchange, now: Now) {
        if let Some(attempt) = self.close(exchange) {
            self.failed(attempt, now);
        }
    }

    /// Returns the session in which a caller may try a code. The lock is checked first.
    fn admits(&mut self, caller: &Caller, now: Now) -> Result<&Session, RpcError> {
        let node = caller.node_id();
        self.come_back(now)?;
        if let Some(until) =
            self.budget.locked_until(caller.kind, now.at).max(self.budget.node_locked_until(node, now.at))
        {
            if let Some(session) =
                self.session.as_mut().filter(|session| session.here.kind == caller.kind && !session.is_over(now))
            {
                session.refused(caller, now.at, until);
            }
            let until = until.in_seconds();
            return Err(RpcError::refused(
                Refusal::Locked,
                format!("{TOO_MANY}; pairing from there is possible again at {until}"),
            ));
        }
        if self.session.as_ref().is_some_and(|session| session.here.kind == caller.kind && session.is_over(now)) {
            self.expire(now);
            return Err(RpcError::refused(Refusal::TimedOut, TIMED_OUT));
        }
        match self.session.as_ref().filter(|session| session.here.kind == caller.kind) {
            Some(session) if session.spent || session.left(node) == 0 => {
                Err(RpcError::refused(Refusal::TooManyAttempts, TOO_MANY))
            }
            Some(session) => Ok(session),
            None => Err(RpcError::refused(Refusal::NoSession, NO_SESSION)),
        }
    }

    /// Removes an exchange from its session, if that is still the current one.
    fn close(&mut self, exchange: &Exchange) -> Option<Attempt> {
        let session = self.session.as_mut().filter(|session| session.id == exchange.session)?;
        let at = session.open.iter().position(|(number, _)| *number == exchange.number)?;
        Some(session.open.remove(at).1)
    }

    /// Ends the session after the right code, and refunds the guess that the budget has counted for it.
    fn accepted(&mut self, attempt: &Attempt) {
        self.session = None;
        self.budget.forgive(attempt.at, attempt.node_id());
        if let Err(error) = self.save() {
            tracing::warn!(%error, "cannot store that a code was right; it still counts as a wrong one");
        }
    }

    /// Reports a wrong code to the operator, and ends the session if no one can join any more. The budget already
    /// contains the guess.
    fn failed(&mut self, attempt: Attempt, now: Now) {
        let Some(session) = &mut self.session else { return };
        let locked_until = self.budget.locked_until(session.here.kind, now.at);
        tracing::warn!(
            caller = %attempt.who(),
            attempts_left = attempt.left,
            "[pairing] Wrong code from {} (attempts left: {})",
            attempt.who(),
            attempt.left
        );
        session.attempts.push(attempt.clone());
        // A node without guesses left must not end the session for other nodes. All callers on loopback count as one
        // node, so for them the session is over. A caller whose exchange is still open may yet be right.
        let none_left = attempt.node.is_none() && session.left(None) == 0;
        if session.open.is_empty() && (locked_until.is_some() || none_left) {
            session.spent = true;
            self.outcome =
                Some(Err(locked_until.map_or_else(|| spent(&attempt), |until| locked(until, Some(&attempt)))));
        }
    }

    /// Returns `true` if a session waits for callers on this kind of transport. A caller that has used up its guesses
    /// gets the same answer; only the reply to a code states when it may try again.
    pub fn waits_for(&self, caller: &Caller, now: Now) -> bool {
        self.session
            .as_ref()
            .is_some_and(|session| session.here.kind == caller.kind && !session.spent && !session.is_over(now))
    }

    /// Returns the wrong codes and refused callers of the current session, in order; empty without a session.
    pub fn attempts(&self) -> &[Attempt] {
        self.session.as_ref().map_or(&[], |session| &session.attempts)
    }

    /// Sets the outcome of the session whose code was right: paired, or why not.
    pub fn settle(&mut self, outcome: PairingOutcome) {
        self.outcome = Some(outcome);
    }

    /// Ends the session if its id is still `id`. The outcome is then `pairing canceled`, unless all guesses were used
    /// up before.
    pub fn cancel(&mut self, id: SessionId) {
        if self.session.as_ref().is_some_and(|session| session.id == id) {
            let spent = self.session.take().is_some_and(|session| session.spent);
            if !spent {
                self.outcome = Some(Err(Error::new(ErrorKind::Failed, "pairing canceled")));
            }
        }
    }

    /// Returns the state of the session. An outcome is returned once.
    pub fn collect(&mut self, now: Now) -> SessionState {
        self.expire(now);
        if let Some(outcome) = self.outcome.take() {
            return SessionState::Ended(outcome);
        }
        match &self.session {
            Some(session) if !session.spent => SessionState::Waiting(session.expires.tick),
            _ => SessionState::Nothing,
        }
    }

    fn expire(&mut self, now: Now) {
        if let Some(session) = self.session.take_if(|session| session.is_over(now))
            && !session.spent
        {
            self.outcome = Some(Err(Error::new(ErrorKind::TryAgain, TIMED_OUT).hint("Run `thrum peer add` again.")));
        }
    }

    /// Corrects guesses dated in the future, so that a clock that was ahead does not extend the lock.
    fn come_back(&mut self, now: Now) -> Result<(), Error> {
        if self.budget.come_back(now.at) { self.save() } else { Ok(()) }
    }

    fn save(&self) -> Result<(), Error> {
        let text =
            serde_json::to_string(&self.budget).map_err(|error| Error::new(ErrorKind::Failed, error.to_string()))?;
        self.file.write(&text)
    }
}

impl Attempt {
    /// Describes the caller for display: the node and its user, or only the address.
    pub fn who(&self) -> String {
        self.node.as_ref().map_or_else(|| name::printable(&self.address), ToString::to_string)
    }

    fn node_id(&self) -> Option<&str> {
        self.node.as_ref().map(|node| node.id.as_str())
    }
}

fn wrong_code(left: u8) -> RpcError {
    let attempts = if left == 1 { "attempt" } else { "attempts" };
    let refusal = if left == 0 { Refusal::LastWrongCode } else { Refusal::WrongCode };
    RpcError::refused(refusal, format!("invalid pairing code ({left} {attempts} remaining)"))
}

fn spent(last: &Attempt) -> Error {
    let tries = limits::PAIRING_TRIES;
    Error::new(ErrorKind::Refused, format!("{TOO_MANY}: {tries} wrong codes, the last from {}", last.who()))
        .hint("Run `thrum peer add` again for a new code.")
}

fn locked(until: Timestamp, last: Option<&Attempt>) -> Error {
    let whence = last.map_or_else(String::new, |last| format!(", the last from {}", last.who()));
    Error::new(
        ErrorKind::Refused,
        format!("pairing is locked until {} after too many wrong codes{whence}", until.in_seconds()),
    )
    .hint("If you did not type them, somebody who reaches this daemon is guessing.")
}

#[cfg(test)]
mod tests;
