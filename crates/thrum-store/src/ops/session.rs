//! Sessions, intents and tasks.

use thrum_core::{
    ErrorKind, Fault, Payload, Stamp,
    ids::IdKind,
    limits, name,
    payload::{AgentUpdate, SessionEnd, SessionStart, WorkContext},
};

use super::resident;
use crate::{
    StoreError, Tx,
    query::{Session, SessionFilter},
};

impl Tx<'_> {
    /// Begins a session; older open ones of the agent end as `crash_recovered`, for nobody ended them.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] or [`ErrorKind::Refused`], as [`resident`] says.
    pub fn start_session(&mut self, agent_id: &str) -> Result<(String, Stamp), StoreError> {
        resident(&self.reader(), agent_id)?;
        let open = SessionFilter { agent_id: Some(agent_id.to_owned()), home: Some(self.home().to_owned()), active_only: true };
        for session in self.reader().sessions(&open)? {
            let payload = SessionEnd { session_id: session.session_id, reason: Some("crash_recovered".to_owned()) };
            self.append(Payload::SessionEnd(payload), Some(session.started_at))?;
        }
        let session_id = self.new_id(IdKind::Session)?;
        let payload = SessionStart { session_id: session_id.clone(), agent_id: agent_id.to_owned() };
        let event = self.append(Payload::SessionStart(payload), None)?;
        Ok((session_id, event.at))
    }

    /// Ends a session; one that has ended stays as it is. Returns it and when it ended.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], or [`ErrorKind::Refused`] if it is not of an agent that lives here.
    pub fn end_session(&mut self, session_id: &str, reason: Option<String>) -> Result<(Session, Stamp), StoreError> {
        let session = self.own_session(session_id)?;
        if let Some(ended_at) = session.ended_at {
            return Ok((session, ended_at));
        }
        let payload = SessionEnd { session_id: session_id.to_owned(), reason: Some(reason.unwrap_or_else(|| "normal".to_owned())) };
        let event = self.append(Payload::SessionEnd(payload), Some(session.started_at))?;
        Ok((session, event.at))
    }

    /// Says what the session is about; empty clears it. Peers hear at once.
    ///
    /// # Errors
    /// Those of [`end_session`](Self::end_session); [`ErrorKind::Invalid`] for a text out of bounds.
    pub fn set_intent(&mut self, session_id: &str, intent: &str) -> Result<Stamp, StoreError> {
        self.update_context(session_id, intent, |context, text, at| {
            context.intent = text;
            context.intent_updated_at = Some(at);
        })
    }

    /// Says which task the session works on; empty clears it. Peers hear at once.
    ///
    /// # Errors
    /// Those of [`set_intent`](Self::set_intent).
    pub fn set_task(&mut self, session_id: &str, task: &str) -> Result<Stamp, StoreError> {
        self.update_context(session_id, task, |context, text, at| {
            context.current_task = text;
            context.task_updated_at = Some(at);
        })
    }

    /// Notes a sign of life, here only: heartbeats are no events.
    ///
    /// # Errors
    /// Those of [`end_session`](Self::end_session).
    pub fn heartbeat(&mut self, session_id: &str) -> Result<Stamp, StoreError> {
        self.own_session(session_id)?;
        let now = self.now();
        self.conn.prepare_cached("INSERT OR REPLACE INTO presence VALUES (?1, ?2)")?.execute((session_id, now.nanos()))?;
        Ok(now)
    }

    fn update_context(
        &mut self,
        session_id: &str,
        text: &str,
        change: impl FnOnce(&mut WorkContext, Option<String>, String),
    ) -> Result<Stamp, StoreError> {
        if text.len() > limits::MAX_TEXT_BYTES {
            return Err(Fault::new(ErrorKind::Invalid, format!("more than {} bytes", limits::MAX_TEXT_BYTES)).into());
        }
        let session = self.own_session(session_id)?;
        if session.ended_at.is_some() {
            return Err(Fault::new(ErrorKind::Refused, "the session has ended").hint("Start a new one: thrum quickstart").into());
        }
        let mut context = self.reader().context(session_id)?.unwrap_or_default();
        context.session_id = session_id.to_owned();
        let at = self.now();
        change(&mut context, (!text.is_empty()).then(|| text.to_owned()), at.to_string());
        let payload = AgentUpdate { agent_id: session.agent_id, work_contexts: vec![context] };
        self.append(Payload::AgentUpdate(payload), Some(session.started_at))?;
        Ok(at)
    }

    fn own_session(&self, session_id: &str) -> Result<Session, StoreError> {
        let shown = name::printable(session_id);
        let session =
            self.reader().session(session_id)?.ok_or_else(|| Fault::new(ErrorKind::NotFound, format!("session not found: {shown}")))?;
        if session.home != self.home() {
            return Err(Fault::new(ErrorKind::Refused, format!("session {shown} belongs to another machine")).into());
        }
        Ok(session)
    }
}
