//! Pairing with a 4-digit code: the side that shows the code.
//!
//! Ten thousand codes are few. What protects them is that guesses are, too: three per session, and over all sessions a
//! budget per hour and day that is on disk before a guess is answered, so that neither a new session nor a restart gives
//! fresh ones. Everything else follows from asking what a stranger may learn or do:
//!
//! * the lock is looked at first; while it holds, the right code fails like any other;
//! * a code works once, and comparing it takes the same time whatever was typed;
//! * a stranger who burns his three guesses has lost the session for his node and for no other; where the callers cannot be
//!   told apart, and when all guesses of the hour are used up, he ends it, and the operator is told at once and not when the
//!   five minutes are over;
//! * guesses on loopback and on the tailnet are counted apart, so that a local program cannot lock other machines out;
//! * the operator sees who guesses, while he waits, and who is refused because of earlier guesses;
//! * whoever is refused for its earlier guesses is given the time when it may try again;
//! * only who knows the code learns whether his id is known here;
//! * an exchange of the PAKE ([`pake`]) is a guess from its first message on, before that is answered: nobody gets answers that
//!   are not counted, however many he asks for at once. Who then proves that he knows the code has not guessed, and the guess
//!   is taken off again: a fleet that pairs in an hour locks nobody out.
//!
//! The state machine takes the time and the words of the wire and returns what to answer. The outcome of a session is kept
//! until it is collected: the joiner may be faster than the person who waits for it.

mod budget;
mod code;
pub mod pake;

use std::{fmt, path::PathBuf, time::Duration};

use serde::Serialize;
use thrum_core::{Ambient, ErrorKind, Fault, Stamp, limits, name};

pub use code::Code;

use crate::{
    Now,
    clock::go_duration,
    state_file::{StateFile, misshapen},
    transport::{Caller, Kind, Node},
    wire::{Begin, RpcError},
};
use budget::Budget;

/// Names one session, so that only who started it ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionId(u64);

/// Where a session is reached. A joiner that sees something else is not the one that we speak to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Here {
    /// On what kind of transport.
    pub kind: Kind,
    /// Our node; `None` on loopback.
    pub node: Option<Node>,
    /// Our address, `IP:PORT`.
    pub address: String,
}

/// How two daemons were paired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// By [`pake`]: the code was not sent.
    Pake,
    /// The code was sent, as Go Thrum does.
    Plain,
}

impl Protocol {
    /// The name as stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pake => pake::VERSION,
            Self::Plain => "plain",
        }
    }
}

/// An exchange of the PAKE that was begun and counted. It ends with [`Pairing::confirm`] or [`Pairing::abandon`].
#[derive(Debug)]
pub struct Exchange {
    number: u64,
    session: SessionId,
    answered: pake::Answered,
}

/// A session that has just begun.
pub struct Opened {
    /// To wait for it or to cancel it.
    pub id: SessionId,
    /// For the person, and nobody else.
    pub code: Code,
    /// When it ends by itself.
    pub expires: Now,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("id", &self.id).field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// A wrong code that somebody showed in a session, or a caller that was refused for its earlier ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// From which node; `None` on loopback.
    pub node: Option<Node>,
    /// From where, for people.
    pub address: String,
    /// How many the same caller has left in this session.
    pub left: u8,
    /// When.
    pub at: Stamp,
    /// If the code was not even looked at, because of too many wrong ones before: when the caller may try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<Stamp>,
}

/// How a session ended: the new peer's id, or why there is none.
pub type Outcome = Result<String, Fault>;

/// Where a session stands.
#[derive(Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is no session, and no outcome to collect.
    Nothing,
    /// Nobody came yet; ask again by the tick.
    Waiting(Duration),
    /// It ended.
    Ended(Outcome),
}

/// The pairing side of a daemon.
#[derive(Debug)]
pub struct Pairing {
    file: StateFile,
    budget: Budget,
    session: Option<Session>,
    outcome: Option<Outcome>,
    sessions: u64,
    exchanges: u64,
}

struct Session {
    id: SessionId,
    code: Code,
    here: Here,
    started: Now,
    expires: Now,
    /// The wrong codes, in order. Bounded by the budget of all.
    attempts: Vec<Attempt>,
    /// The exchanges that are under way, by their numbers; each will have been a wrong code if it does not end well. Bounded by
    /// the budget, too.
    open: Vec<(u64, Attempt)>,
    /// All guesses are used; it stays until it expires, to say so.
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
    /// By either clock: the monotonic one stands still while the machine sleeps.
    fn is_over(&self, now: Now) -> bool {
        now.tick >= self.expires.tick || now.at >= self.expires.at
    }

    /// One more of this caller's.
    fn attempt(&self, caller: &Caller, at: Stamp) -> Attempt {
        let (node, address) = (caller.node.clone(), caller.address.clone());
        let left = self.left(node.as_ref().map(|node| node.id.as_str())).saturating_sub(1);
        Attempt { node, address, left, at, locked_until: None }
    }

    /// Notes for the operator that a caller is refused until then; once for each node.
    fn refused(&mut self, caller: &Caller, at: Stamp, until: Stamp) {
        let node = caller.node.as_ref().map(|node| node.id.as_str());
        if !self.attempts.iter().any(|attempt| attempt.locked_until.is_some() && attempt.node_id() == node) {
            let (node, address) = (caller.node.clone(), caller.address.clone());
            tracing::warn!(
                "[pairing] Refused {}: too many wrong codes",
                node.as_ref().map_or_else(|| name::printable(&address), ToString::to_string)
            );
            self.attempts.push(Attempt { node, address, left: 0, at, locked_until: Some(until) });
        }
    }

    /// How many codes a node may still show. Those who cannot be told apart are one.
    fn left(&self, node: Option<&str>) -> u8 {
        let all = self.attempts.iter().chain(self.open.iter().map(|(_, attempt)| attempt));
        let used = all.filter(|attempt| attempt.node_id() == node && attempt.locked_until.is_none()).count();
        limits::PAIRING_TRIES.saturating_sub(u8::try_from(used).unwrap_or(u8::MAX))
    }
}

impl Pairing {
    /// Reads the budget, `pairing.json`; there need not be one.
    ///
    /// # Errors
    /// A file that cannot be read whole: wrong guesses are not forgotten because a file is damaged.
    pub fn open(path: PathBuf) -> Result<Self, Fault> {
        let file = StateFile::at(path)?;
        let budget = match file.read()? {
            Some(text) => serde_json::from_str(&text).map_err(|error| file.broken(&misshapen(&error)))?,
            None => Budget::default(),
        };
        Ok(Self { file, budget, session: None, outcome: None, sessions: 0, exchanges: 0 })
    }

    /// Begins a session of at most [`limits::PAIRING_SESSION`].
    ///
    /// # Errors
    /// `Refused` while another session is open, or while pairing is locked (says until when).
    pub fn start(&mut self, here: Here, timeout: Duration, now: Now, ambient: &mut dyn Ambient) -> Result<Opened, Fault> {
        self.expire(now);
        self.come_back(now)?;
        if let Some(until) = self.budget.locked_until(here.kind, now.at) {
            return Err(locked(until, None));
        }
        if let Some(session) = self.session.as_ref().filter(|session| !session.spent) {
            let age = go_duration(now.tick.saturating_sub(session.started.tick));
            return Err(Fault::new(ErrorKind::Refused, format!("pairing already in progress (code generated {age} ago)"))
                .hint("Use that code, or stop the `thrum peer add` that shows it."));
        }
        let timeout = timeout.min(limits::PAIRING_SESSION);
        self.sessions += 1;
        let id = SessionId(self.sessions);
        let code = Code::generate(ambient);
        let expires = Now { tick: now.tick + timeout, at: now.at.plus(timeout) };
        tracing::info!("[pairing] Session started, code=****, timeout={}", go_duration(timeout));
        self.outcome = None;
        self.session =
            Some(Session { id, code: code.clone(), here, started: now, expires, attempts: Vec::new(), open: Vec::new(), spent: false });
        Ok(Opened { id, code, expires })
    }

    /// Looks at a code that a caller shows. `Ok` consumes it: [`settle`](Self::settle) must follow.
    ///
    /// # Errors
    /// Go's texts. A wrong guess is on disk when this returns; if that fails, the error says so and no guess was allowed.
    pub fn try_code(&mut self, shown: &str, caller: &Caller, now: Now) -> Result<(), RpcError> {
        let session = self.admits(caller, now)?;
        if session.code.matches(shown) {
            self.session = None;
            return Ok(());
        }
        let attempt = session.attempt(caller, now.at);
        let left = attempt.left;
        self.budget.record(now.at, attempt.node_id());
        self.failed(attempt, now);
        self.save()?;
        Err(wrong_code(left))
    }

    /// Answers the first message of an exchange, as `listener`; returns our message. Counted, on disk, before there is one.
    ///
    /// # Errors
    /// As [`try_code`](Self::try_code), but for a wrong code: that shows at the end.
    pub fn begin(
        &mut self,
        begin: &Begin,
        listener: &str,
        caller: &Caller,
        now: Now,
        ambient: &mut dyn Ambient,
    ) -> Result<(Exchange, String), RpcError> {
        let session = self.admits(caller, now)?;
        let (id, here, code, attempt) = (session.id, session.here.clone(), session.code.clone(), session.attempt(caller, now.at));
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
            joiner_node: pake::place(caller.kind, caller.node.as_ref()).to_owned(),
            listener: listener.to_owned(),
            listener_node: pake::place(here.kind, here.node.as_ref()).to_owned(),
            listener_address: here.address,
        };
        let (answered, message) = pake::answer(&code, &parties, &begin.message, ambient);
        Ok((Exchange { number, session: id, answered }, message))
    }

    /// Looks at the joiner's confirmation. `Ok` consumes the code: [`settle`](Self::settle) must follow.
    ///
    /// # Errors
    /// The texts of a wrong code, whatever was wrong; `no active pairing session` if somebody else was faster.
    pub fn confirm(&mut self, exchange: Exchange, confirmation: &str, now: Now) -> Result<pake::Proven, RpcError> {
        let Some(attempt) = self.close(&exchange) else { return Err(RpcError::said("no active pairing session")) };
        if self.session.as_ref().is_some_and(|session| session.is_over(now)) {
            self.expire(now);
            return Err(RpcError::said("pairing timed out"));
        }
        let Some(proven) = exchange.answered.check(confirmation) else {
            let left = attempt.left;
            self.failed(attempt, now);
            return Err(wrong_code(left));
        };
        self.session = None;
        self.budget.forgive(attempt.at, attempt.node_id());
        if let Err(fault) = self.save() {
            tracing::warn!("{fault}: a right code goes on counting as a wrong one");
        }
        Ok(proven)
    }

    /// Ends an exchange that nobody confirmed: a wrong code.
    pub fn abandon(&mut self, exchange: &Exchange, now: Now) {
        if let Some(attempt) = self.close(exchange) {
            self.failed(attempt, now);
        }
    }

    /// The session that a caller may try a code in. The lock is looked at first.
    fn admits(&mut self, caller: &Caller, now: Now) -> Result<&Session, RpcError> {
        let node = caller.node.as_ref().map(|node| node.id.as_str());
        self.come_back(now)?;
        if let Some(until) = self.budget.locked_until(caller.kind, now.at).max(self.budget.node_locked_until(node, now.at)) {
            if let Some(session) = self.session.as_mut().filter(|session| session.here.kind == caller.kind && !session.is_over(now)) {
                session.refused(caller, now.at, until);
            }
            return Err(RpcError::said(format!("{TOO_MANY}; pairing from there is possible again at {}", until.in_seconds())));
        }
        if self.session.as_ref().is_some_and(|session| session.here.kind == caller.kind && session.is_over(now)) {
            self.expire(now);
            return Err(RpcError::said("pairing timed out"));
        }
        match self.session.as_ref().filter(|session| session.here.kind == caller.kind) {
            Some(session) if session.spent || session.left(node) == 0 => Err(RpcError::said(TOO_MANY)),
            Some(session) => Ok(session),
            None => Err(RpcError::said("no active pairing session")),
        }
    }

    /// Takes an exchange from its session, if that is still the present one.
    fn close(&mut self, exchange: &Exchange) -> Option<Attempt> {
        let session = self.session.as_mut().filter(|session| session.id == exchange.session)?;
        let at = session.open.iter().position(|(number, _)| *number == exchange.number)?;
        Some(session.open.remove(at).1)
    }

    /// Shows a wrong code to the operator, and ends the session if nobody can join any more. It is in the budget already.
    fn failed(&mut self, attempt: Attempt, now: Now) {
        let Some(session) = &mut self.session else { return };
        let locked_until = self.budget.locked_until(session.here.kind, now.at);
        tracing::warn!("[pairing] Wrong code from {} (attempts left: {})", attempt.who(), attempt.left);
        session.attempts.push(attempt.clone());
        // A node that is out of guesses keeps nobody else from joining; where all are one, there is nobody else. Who has
        // begun an exchange may still be right.
        let none_left = attempt.node.is_none() && session.left(None) == 0;
        if session.open.is_empty() && (locked_until.is_some() || none_left) {
            session.spent = true;
            self.outcome = Some(Err(locked_until.map_or_else(|| spent(&attempt), |until| locked(until, Some(&attempt)))));
        }
    }

    /// Whether somebody waits here for a caller on that kind of transport. A caller that has used up its tries gets the same
    /// answer: it is told so, with the time when it may try again, when it shows a code.
    pub fn waits_for(&self, caller: &Caller, now: Now) -> bool {
        self.session.as_ref().is_some_and(|session| session.here.kind == caller.kind && !session.spent && !session.is_over(now))
    }

    /// The wrong codes that were shown in the present session, or the one that has just ended.
    pub fn attempts(&self) -> &[Attempt] {
        self.session.as_ref().map_or(&[], |session| &session.attempts)
    }

    /// Ends the session whose code was right: paired, or why not after all.
    pub fn settle(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }

    /// Ends the session if it is still `id`'s. The outcome is then `pairing canceled`.
    pub fn cancel(&mut self, id: SessionId) {
        if self.session.as_ref().is_some_and(|session| session.id == id) {
            let spent = self.session.take().is_some_and(|session| session.spent);
            if !spent {
                self.outcome = Some(Err(Fault::new(ErrorKind::Failed, "pairing canceled")));
            }
        }
    }

    /// Where the session stands. An outcome is given once.
    pub fn collect(&mut self, now: Now) -> Standing {
        self.expire(now);
        if let Some(outcome) = self.outcome.take() {
            return Standing::Ended(outcome);
        }
        match &self.session {
            Some(session) if !session.spent => Standing::Waiting(session.expires.tick),
            _ => Standing::Nothing,
        }
    }

    fn expire(&mut self, now: Now) {
        if let Some(session) = self.session.take_if(|session| session.is_over(now))
            && !session.spent
        {
            self.outcome = Some(Err(Fault::new(ErrorKind::TryAgain, "pairing timed out").hint("Run `thrum peer add` again.")));
        }
    }

    /// A clock that was ahead must not lock pairing until the time that it showed.
    fn come_back(&mut self, now: Now) -> Result<(), Fault> {
        if self.budget.come_back(now.at) { self.save() } else { Ok(()) }
    }

    fn save(&self) -> Result<(), Fault> {
        let text = serde_json::to_string(&self.budget).map_err(|error| Fault::new(ErrorKind::Failed, error.to_string()))?;
        self.file.write(&text)
    }
}

impl Attempt {
    /// Who it was, for people: the node and its user, or the address where that is all there is.
    pub fn who(&self) -> String {
        self.node.as_ref().map_or_else(|| name::printable(&self.address), ToString::to_string)
    }

    fn node_id(&self) -> Option<&str> {
        self.node.as_ref().map(|node| node.id.as_str())
    }
}

/// Go Thrum's words; the time when it ends may follow.
pub(crate) const TOO_MANY: &str = "too many failed attempts";

fn wrong_code(left: u8) -> RpcError {
    let attempts = if left == 1 { "attempt" } else { "attempts" };
    RpcError::said(format!("invalid pairing code ({left} {attempts} remaining)"))
}

fn spent(last: &Attempt) -> Fault {
    let tries = limits::PAIRING_TRIES;
    Fault::new(ErrorKind::Refused, format!("{TOO_MANY}: {tries} wrong codes, the last from {}", last.who()))
        .hint("Run `thrum peer add` again for a new code.")
}

fn locked(until: Stamp, last: Option<&Attempt>) -> Fault {
    let whence = last.map_or_else(String::new, |last| format!(", the last from {}", last.who()));
    Fault::new(ErrorKind::Refused, format!("pairing is locked until {} after too many wrong codes{whence}", until.in_seconds()))
        .hint("If you did not type them, somebody who reaches this daemon is guessing.")
}

#[cfg(test)]
mod tests;
