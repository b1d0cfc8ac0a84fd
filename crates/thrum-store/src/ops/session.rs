//! Operations on sessions, intents and tasks.

use rusqlite::OptionalExtension;
use thrum_core::{
    Error, ErrorKind, Payload, Timestamp, bounds,
    ids::IdKind,
    name,
    payload::{AgentUpdate, SessionEnd, SessionStart, WorkContext},
    work::Work,
};

use super::{Heartbeat, resident};
use crate::{
    Reader, StoreError, Tx,
    query::{Session, SessionFilter},
};

impl Reader<'_> {
    /// Returns `true` if this state of a worktree differs from the recorded work context of the session; `false` for an
    /// unknown session.
    ///
    /// # Errors
    /// SQLite's.
    pub fn is_news(&self, session_id: &str, work: &Work) -> Result<bool, StoreError> {
        let Some(session) = self.session(session_id)? else { return Ok(false) };
        let mut context = session.context.clone();
        let at = session.context.git_updated_at.clone().unwrap_or_default();
        Heartbeat { work: Some(work.clone()), ..Heartbeat::default() }.lay_over(&mut context, &at)?;
        Ok(context != session.context)
    }
}

impl Tx<'_> {
    /// Starts a session with an initial work context. Older open sessions of the agent end as `crash_recovered`,
    /// because they were not ended properly. Returns the session's id and start.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] or [`ErrorKind::Refused`], as for [`resident`]; [`ErrorKind::Invalid`] for a beat out of
    /// bounds.
    pub fn start_session(&mut self, agent_id: &str, beat: Heartbeat) -> Result<(String, Timestamp), StoreError> {
        beat.check()?;
        resident(&self.reader(), agent_id)?;
        let open = SessionFilter {
            agent_id: Some(agent_id.to_owned()),
            home: Some(self.home().to_owned()),
            open_only: true,
            newest: None,
        };
        for session in self.reader().sessions(&open)? {
            let payload = SessionEnd { session_id: session.session_id, reason: Some("crash_recovered".to_owned()) };
            self.append_over(Payload::SessionEnd(payload), Some(session.start_claimed_at))?;
        }
        let session_id = self.new_id(IdKind::Session)?;
        let payload = SessionStart { session_id: session_id.clone(), agent_id: agent_id.to_owned() };
        // A clean-up of the agent that a wrong clock of ours dated in the future would hide the start.
        let deleted = self.reader().deleted_at(agent_id)?;
        let event = self.append_over(Payload::SessionStart(payload), deleted)?;
        self.say(&session_id, agent_id, event.at, beat)?;
        Ok((session_id, self.shown_at(event.at)))
    }

    /// Ends a session and releases the files that its agent has claimed; a session that has ended is unchanged. Returns
    /// the session as it was before, and the time of its end.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for an unknown session, or [`ErrorKind::Refused`] if its agent's home is another daemon.
    pub fn end_session(
        &mut self,
        session_id: &str,
        reason: Option<String>,
    ) -> Result<(Session, Timestamp), StoreError> {
        let session = self.own_session(session_id)?;
        if let Some(ended_at) = session.ended_at {
            return Ok((session, ended_at));
        }
        let payload = SessionEnd {
            session_id: session_id.to_owned(),
            reason: Some(reason.unwrap_or_else(|| "normal".to_owned())),
        };
        let event = self.append_over(Payload::SessionEnd(payload), Some(session.start_claimed_at))?;
        if resident(&self.reader(), &session.agent_id).is_ok() {
            self.release(&session.agent_id, &[])?;
        }
        Ok((session, self.shown_at(event.at)))
    }

    /// Sets the session's intent; an empty text clears it. Always appends an event, even if the text is unchanged.
    ///
    /// # Errors
    /// Those of [`heartbeat`](Self::heartbeat).
    pub fn set_intent(&mut self, session_id: &str, intent: &str) -> Result<Timestamp, StoreError> {
        self.heartbeat(session_id, Heartbeat { intent: Some(intent.to_owned()), ..Heartbeat::default() })
    }

    /// Sets the task on which the session works; an empty text clears it. Always appends an event, even if the text is
    /// unchanged.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for an unknown session; [`ErrorKind::Refused`] if its agent's home is another daemon, or
    /// if the session has ended; [`ErrorKind::Invalid`] if the text is too long.
    pub fn set_task(&mut self, session_id: &str, task: &str) -> Result<Timestamp, StoreError> {
        let session = self.own_open_session(session_id)?;
        let mut context = session.context;
        let at = self.now();
        context.current_task = (!task.is_empty()).then(|| task.to_owned());
        context.task_updated_at = Some(at.to_string());
        self.update(session.agent_id, context, session.start_claimed_at)?;
        Ok(at)
    }

    /// Records a sign of life locally. If the beat changes the work context (such as the branch, a file or the intent),
    /// also appends an event with the whole context.
    ///
    /// # Errors
    /// Those of [`end_session`](Self::end_session); [`ErrorKind::Refused`] if the session has ended;
    /// [`ErrorKind::Invalid`] for a beat out of bounds.
    pub fn heartbeat(&mut self, session_id: &str, beat: Heartbeat) -> Result<Timestamp, StoreError> {
        beat.check()?;
        let Session { agent_id, start_claimed_at, .. } = self.own_open_session(session_id)?;
        let now = self.now();
        self.seen(&agent_id, now)?;
        self.say(session_id, &agent_id, start_claimed_at, beat)?;
        Ok(now)
    }

    /// Records the work of a session as an event, if it has changed. Unlike [`heartbeat`](Self::heartbeat), records no
    /// sign of life.
    ///
    /// # Errors
    /// Those of [`heartbeat`](Self::heartbeat).
    pub fn record_work(&mut self, session_id: &str, beat: Heartbeat) -> Result<(), StoreError> {
        beat.check()?;
        let Session { agent_id, start_claimed_at, .. } = self.own_open_session(session_id)?;
        self.say(session_id, &agent_id, start_claimed_at, beat)
    }

    /// Records a sign of life of an agent, if its home is this daemon. Does not replace a later time.
    ///
    /// # Errors
    /// SQLite's.
    pub fn seen(&mut self, agent_id: &str, at: Timestamp) -> Result<(), StoreError> {
        let mut statement = self.conn.prepare_cached(
            "INSERT INTO presence SELECT agent_id, ?3 FROM agents WHERE agent_id = ?1 AND home = ?2
             ON CONFLICT DO UPDATE SET last_seen_at = max(last_seen_at, excluded.last_seen_at)",
        )?;
        statement.execute((agent_id, self.home().to_owned(), at.nanos()))?;
        Ok(())
    }

    /// Writes an update event if the beat changes the work context.
    fn say(
        &mut self,
        session_id: &str,
        agent_id: &str,
        start_claimed_at: Timestamp,
        beat: Heartbeat,
    ) -> Result<(), StoreError> {
        if beat.is_empty() {
            return Ok(());
        }
        let before = self.reader().session(session_id)?.map(|session| session.context).unwrap_or_default();
        let mut context = before.clone();
        beat.lay_over(&mut context, &self.now().to_string())?;
        if context == before { Ok(()) } else { self.update(agent_id.to_owned(), context, start_claimed_at) }
    }

    fn update(
        &mut self,
        agent_id: String,
        context: WorkContext,
        start_claimed_at: Timestamp,
    ) -> Result<(), StoreError> {
        let last_update = self.last_update(&agent_id, &context.session_id)?;
        let at = self.now().max(last_update.next());
        let context = context.for_event(&at.to_string());
        let after = start_claimed_at.max(last_update);
        let mut payload = Payload::AgentUpdate(AgentUpdate { agent_id, work_contexts: vec![context] });
        // Check first: cutting would hide content that must be refused.
        bounds::check(&mut payload)?;
        bounds::cut(&mut payload);
        self.append_over(payload, Some(after))?;
        Ok(())
    }

    /// When the context of a session was last updated; zero if never.
    fn last_update(&self, agent_id: &str, session_id: &str) -> Result<Timestamp, StoreError> {
        let mut statement = self
            .conn
            .prepare_cached("SELECT at FROM contexts WHERE session_id = ?1 AND agent_id = ?2 AND home = ?3")?;
        let at: Option<i64> = statement.query_row((session_id, agent_id, self.home()), |row| row.get(0)).optional()?;
        Ok(at.map_or(Timestamp::ZERO, Timestamp::from_nanos))
    }

    fn own_open_session(&self, session_id: &str) -> Result<Session, StoreError> {
        let session = self.own_session(session_id)?;
        if session.ended_at.is_some() {
            return Err(Error::new(ErrorKind::Refused, "the session has ended")
                .hint("Start a new one: thrum session start")
                .into());
        }
        Ok(session)
    }

    fn own_session(&self, session_id: &str) -> Result<Session, StoreError> {
        let shown = name::printable(session_id);
        let session = self
            .reader()
            .session(session_id)?
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("session not found: {shown}")))?;
        if session.home != self.home() {
            return Err(Error::new(ErrorKind::Refused, format!("session {shown} belongs to another machine")).into());
        }
        Ok(session)
    }
}
