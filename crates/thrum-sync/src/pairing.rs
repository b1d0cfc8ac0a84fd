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
//! * the operator sees who guesses, while he waits;
//! * only who knows the code learns whether his id is known here.
//!
//! The state machine takes the time and the words of the wire and returns what to answer. The outcome of a session is kept
//! until it is collected: the joiner may be faster than the person who waits for it.

mod budget;
mod code;

use std::{fmt, path::PathBuf, time::Duration};

use serde::Serialize;
use thrum_core::{Ambient, ErrorKind, Fault, Stamp, limits, name};

pub use code::Code;

use crate::{
    Now,
    clock::go_duration,
    state_file::StateFile,
    transport::{Caller, Kind, Node},
    wire::RpcError,
};
use budget::Budget;

/// Names one session, so that only who started it ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionId(u64);

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

/// A wrong code that somebody showed in a session.
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
}

struct Session {
    id: SessionId,
    code: Code,
    kind: Kind,
    started: Now,
    expires: Now,
    /// The wrong codes, in order. Bounded by the budget of all.
    attempts: Vec<Attempt>,
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

    /// How many codes a node may still show. Those who cannot be told apart are one.
    fn left(&self, node: Option<&str>) -> u8 {
        let used = self.attempts.iter().filter(|attempt| attempt.node.as_ref().map(|node| node.id.as_str()) == node).count();
        limits::PAIRING_TRIES.saturating_sub(u8::try_from(used).unwrap_or(u8::MAX))
    }
}

impl Pairing {
    /// Reads the budget, `pairing.json`; there need not be one.
    ///
    /// # Errors
    /// A file that cannot be read whole: wrong guesses are not forgotten because a file is damaged.
    pub fn open(path: PathBuf) -> Result<Self, Fault> {
        let file = StateFile(path);
        let budget = match file.read()? {
            Some(text) => serde_json::from_str(&text).map_err(|error| file.broken(&error.to_string()))?,
            None => Budget::default(),
        };
        Ok(Self { file, budget, session: None, outcome: None, sessions: 0 })
    }

    /// Begins a session of at most [`limits::PAIRING_SESSION`].
    ///
    /// # Errors
    /// `Refused` while another session is open, or while pairing is locked (says until when).
    pub fn start(&mut self, kind: Kind, timeout: Duration, now: Now, ambient: &mut dyn Ambient) -> Result<Opened, Fault> {
        self.expire(now);
        self.come_back(now)?;
        if let Some(until) = self.budget.locked_until(now.at) {
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
        self.session = Some(Session { id, code: code.clone(), kind, started: now, expires, attempts: Vec::new(), spent: false });
        Ok(Opened { id, code, expires })
    }

    /// Looks at a code that a caller shows. `Ok` consumes it: [`settle`](Self::settle) must follow.
    ///
    /// # Errors
    /// Go's texts. A wrong guess is on disk when this returns; if that fails, the error says so and no guess was allowed.
    pub fn try_code(&mut self, shown: &str, caller: &Caller, now: Now) -> Result<(), RpcError> {
        let node = caller.node.as_ref().map(|node| node.id.as_str());
        self.come_back(now)?;
        if self.budget.locked_until(now.at).is_some() || self.budget.node_locked(node, now.at) {
            return Err(RpcError::said("too many failed attempts"));
        }
        let Some(session) = self.session.as_mut().filter(|session| session.kind == caller.kind) else {
            return Err(RpcError::said("no active pairing session"));
        };
        if session.is_over(now) {
            self.expire(now);
            return Err(RpcError::said("pairing timed out"));
        }
        if session.spent || session.left(node) == 0 {
            return Err(RpcError::said("too many failed attempts"));
        }
        if session.code.matches(shown) {
            self.session = None;
            return Ok(());
        }
        let left = session.left(node) - 1;
        let attempt = Attempt { node: caller.node.clone(), address: caller.address.clone(), left, at: now.at };
        self.budget.record(now.at, node);
        let locked_until = self.budget.locked_until(now.at);
        tracing::warn!("[pairing] Wrong code from {} (attempts left: {left})", attempt.who());
        // A node that is out of guesses keeps nobody else from joining; where all are one, there is nobody else.
        if locked_until.is_some() || (left == 0 && node.is_none()) {
            session.spent = true;
            self.outcome = Some(Err(locked_until.map_or_else(|| spent(&attempt), |until| locked(until, Some(&attempt)))));
        }
        session.attempts.push(attempt);
        self.save()?;
        Err(RpcError::said(format!("invalid pairing code ({left} attempts remaining)")))
    }

    /// Whether somebody who calls from there could join now.
    pub fn waits_for(&self, caller: &Caller, now: Now) -> bool {
        let node = caller.node.as_ref().map(|node| node.id.as_str());
        let open = |session: &&Session| session.kind == caller.kind && !session.spent && !session.is_over(now) && session.left(node) > 0;
        self.session.as_ref().is_some_and(|session| open(&session))
            && self.budget.locked_until(now.at).is_none()
            && !self.budget.node_locked(node, now.at)
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
}

fn spent(last: &Attempt) -> Fault {
    let tries = limits::PAIRING_TRIES;
    Fault::new(ErrorKind::Refused, format!("too many failed attempts: {tries} wrong codes, the last from {}", last.who()))
        .hint("Run `thrum peer add` again for a new code.")
}

fn locked(until: Stamp, last: Option<&Attempt>) -> Fault {
    let whence = last.map_or_else(String::new, |last| format!(", the last from {}", last.who()));
    Fault::new(ErrorKind::Refused, format!("pairing is locked until {until} after too many wrong codes{whence}"))
        .hint("If you did not type them, somebody who reaches this daemon is guessing.")
}

#[cfg(test)]
mod tests;
