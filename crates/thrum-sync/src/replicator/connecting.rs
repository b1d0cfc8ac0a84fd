//! Handles failures and the end of a connection, and decides when to dial again.

use std::time::Duration;

use thrum_core::{Retry, exchange::Applied, limits};

use super::{Action, Link, Replicator, State, Todo};
use crate::{Now, error::PeerError};

impl Replicator {
    /// Gives the peer one second to call first, because it may not have stored its new token yet.
    pub fn wait_for_call(&mut self, now: Now) {
        self.link = Link::Down { retry: now.tick + limits::BACKOFF_FIRST };
    }

    /// Returns whether a connection to the peer can be opened, according to the last attempt; `None` while one is being
    /// opened. A peer that answers, even with something invalid, can be reached: a connection that the peer lends would
    /// bring the same answer.
    pub fn is_reached(&self) -> Option<bool> {
        match self.status.state {
            State::Connected | State::RemovedUs => Some(true),
            State::Unreachable => Some(self.failed_by_answer),
            State::Connecting | State::OverQuota | State::Stopped => None,
        }
    }

    /// Handles the end of a connection. A peer that stops, or closes an idle connection, has not failed yet: retry
    /// within a second.
    pub(super) fn disconnected(&mut self, error: &PeerError, todo: &mut Todo<'_>) {
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

    /// Reconnects at once, instead of waiting for a request on the dead connection to time out.
    pub(super) fn moved(&mut self, todo: &mut Todo<'_>) {
        if !matches!(self.link, Link::Down { .. }) {
            self.down(todo.now.tick, todo);
            self.status.set_state(State::Connecting, todo.now.at);
        }
        self.probe_at(todo.now.tick);
    }

    pub(super) fn removed(&mut self, todo: &mut Todo<'_>) {
        todo.actions.push(Action::NoteRemoved);
        self.down(todo.now.tick + limits::BACKOFF_LAST, todo);
        self.status.set_state(State::RemovedUs, todo.now.at);
        self.status.stopped = None;
        let error = PeerError::Removed;
        self.call_helps = error.retry() == Retry::Useful;
        self.report_failure(&error);
    }

    /// Closes the connection, reports the error, and dials again after the backoff.
    pub(super) fn fail(&mut self, error: &PeerError, todo: &mut Todo<'_>) {
        let retry = todo.now.tick + self.connects.next(todo.ambient);
        self.down(retry, todo);
        self.status.set_state(State::Unreachable, todo.now.at);
        self.call_helps = error.retry() == Retry::Useful;
        self.failed_by_answer = error.is_answer();
        self.report_failure(error);
    }

    pub(super) fn report_failure(&mut self, error: &PeerError) {
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

    pub(super) fn down(&mut self, retry: Duration, todo: &mut Todo<'_>) {
        self.link = Link::Down { retry };
        self.flight = None;
        self.known = None;
        if std::mem::take(&mut self.comparing) {
            // A digest that fails or takes too long must not keep the peer from being read.
            self.compare = self.status.compared;
        }
        todo.actions.push(Action::Close);
    }

    /// Handles a call from the peer, which proves that it is up, whatever it said before: dial, at the earliest one
    /// second after the last attempt, unless the last error would only repeat.
    pub(super) fn called(&mut self, now: Now) {
        self.status.stopped = None;
        if self.call_helps {
            self.probe_at(self.attempted.map_or(now.tick, |last| now.tick.max(last + limits::BACKOFF_FIRST)));
        }
    }

    pub(super) fn probe_at(&mut self, tick: Duration) {
        if let Link::Down { retry } = &mut self.link {
            *retry = tick.min(*retry);
        }
    }
}
