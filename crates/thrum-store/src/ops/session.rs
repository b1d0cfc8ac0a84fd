//! Sessions, intents and tasks.

use rusqlite::OptionalExtension;
use thrum_core::{
    ErrorKind, Fault, Payload, Stamp, bounds,
    ids::IdKind,
    name,
    payload::{AgentUpdate, SessionEnd, SessionStart, WorkContext},
};

use super::{Beat, resident};
use crate::{
    StoreError, Tx,
    query::{Session, SessionFilter},
};

impl Tx<'_> {
    /// Begins a session that says at once what it is about; older open ones of the agent end as `crash_recovered`, for nobody ended them.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] or [`ErrorKind::Refused`], as [`resident`] says; [`ErrorKind::Invalid`] for a beat out of bounds.
    pub fn start_session(&mut self, agent_id: &str, beat: Beat) -> Result<(String, Stamp), StoreError> {
        beat.check()?;
        resident(&self.reader(), agent_id)?;
        let open = SessionFilter { agent_id: Some(agent_id.to_owned()), home: Some(self.home().to_owned()), open_only: true, newest: None };
        for session in self.reader().sessions(&open)? {
            let payload = SessionEnd { session_id: session.session_id, reason: Some("crash_recovered".to_owned()) };
            self.append_over(Payload::SessionEnd(payload), Some(session.start_claimed_at))?;
        }
        let session_id = self.new_id(IdKind::Session)?;
        let payload = SessionStart { session_id: session_id.clone(), agent_id: agent_id.to_owned() };
        // A deletion that lies ahead, because our clock was wrong, would hide it.
        let deleted = self.reader().deleted_at(agent_id)?;
        let event = self.append_over(Payload::SessionStart(payload), deleted)?;
        self.say(&session_id, agent_id, event.at, beat)?;
        Ok((session_id, self.shown_at(event.at)))
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
        let event = self.append_over(Payload::SessionEnd(payload), Some(session.start_claimed_at))?;
        Ok((session, self.shown_at(event.at)))
    }

    /// Says what the session is about; empty clears it. Peers hear at once.
    ///
    /// # Errors
    /// Those of [`end_session`](Self::end_session); [`ErrorKind::Invalid`] for a text out of bounds.
    pub fn set_intent(&mut self, session_id: &str, intent: &str) -> Result<Stamp, StoreError> {
        self.heartbeat(session_id, Beat { intent: Some(intent.to_owned()), ..Beat::default() })
    }

    /// Says which task the session works on; empty clears it. Peers hear at once.
    ///
    /// # Errors
    /// Those of [`set_intent`](Self::set_intent).
    pub fn set_task(&mut self, session_id: &str, task: &str) -> Result<Stamp, StoreError> {
        let session = self.own_open_session(session_id)?;
        let mut context = session.context;
        let at = self.now();
        context.current_task = (!task.is_empty()).then(|| task.to_owned());
        context.task_updated_at = Some(at.to_string());
        self.update(session.agent_id, context, session.start_claimed_at)?;
        Ok(at)
    }

    /// Notes a sign of life, here only, and what it says about the work, everywhere. That somebody is still there is no event;
    /// that a branch, a file, an intent, a scope or a ref changed is one, with the whole context.
    ///
    /// # Errors
    /// Those of [`end_session`](Self::end_session); [`ErrorKind::Refused`] if it has ended; [`ErrorKind::Invalid`] for a beat
    /// out of bounds.
    pub fn heartbeat(&mut self, session_id: &str, beat: Beat) -> Result<Stamp, StoreError> {
        beat.check()?;
        let Session { agent_id, start_claimed_at: started_at, .. } = self.own_open_session(session_id)?;
        let now = self.now();
        self.seen(&agent_id, now)?;
        self.say(session_id, &agent_id, started_at, beat)?;
        Ok(now)
    }

    /// Notes that an agent which lives here was heard of; nothing if it does not. Never goes back in time.
    ///
    /// # Errors
    /// SQLite's.
    pub fn seen(&mut self, agent_id: &str, at: Stamp) -> Result<(), StoreError> {
        let mut statement = self.conn.prepare_cached(
            "INSERT INTO presence SELECT agent_id, ?3 FROM agents WHERE agent_id = ?1 AND home = ?2
             ON CONFLICT DO UPDATE SET last_seen_at = max(last_seen_at, excluded.last_seen_at)",
        )?;
        statement.execute((agent_id, self.home().to_owned(), at.nanos()))?;
        Ok(())
    }

    /// Writes down what changes by a beat, if anything does.
    fn say(&mut self, session_id: &str, agent_id: &str, started_at: Stamp, beat: Beat) -> Result<(), StoreError> {
        if beat.is_empty() {
            return Ok(());
        }
        let before = self.reader().session(session_id)?.map(|session| session.context).unwrap_or_default();
        let mut context = before.clone();
        beat.lay_over(&mut context, &self.now().to_string())?;
        if context == before { Ok(()) } else { self.update(agent_id.to_owned(), context, started_at) }
    }

    fn update(&mut self, agent_id: String, context: WorkContext, started_at: Stamp) -> Result<(), StoreError> {
        let said = self.last_update(&agent_id, &context.session_id)?;
        let at = self.now().max(said.next());
        let context = context.for_event(&at.to_string());
        let after = started_at.max(said);
        let mut payload = Payload::AgentUpdate(AgentUpdate { agent_id, work_contexts: vec![context] });
        // Fitting would hide what is refused.
        bounds::check(&mut payload)?;
        bounds::cut(&mut payload);
        self.append_over(payload, Some(after))?;
        Ok(())
    }

    /// When the context of a session was last written down.
    fn last_update(&self, agent_id: &str, session_id: &str) -> Result<Stamp, StoreError> {
        let mut statement = self.conn.prepare_cached("SELECT at FROM contexts WHERE session_id = ?1 AND agent_id = ?2 AND home = ?3")?;
        let at: Option<i64> = statement.query_row((session_id, agent_id, self.home()), |row| row.get(0)).optional()?;
        Ok(at.map_or(Stamp::ZERO, Stamp::from_nanos))
    }

    fn own_open_session(&self, session_id: &str) -> Result<Session, StoreError> {
        let session = self.own_session(session_id)?;
        if session.ended_at.is_some() {
            return Err(Fault::new(ErrorKind::Refused, "the session has ended").hint("Start a new one: thrum session start").into());
        }
        Ok(session)
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
