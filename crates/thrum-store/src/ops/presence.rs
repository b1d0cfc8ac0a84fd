//! Records the presence of agents' programs.

use rusqlite::OptionalExtension;
use thrum_core::{
    Payload, Timestamp,
    payload::{AgentPresence, PresenceState},
};

use super::resident;
use crate::{
    StoreError, Tx,
    query::{Mailbox, ProgramSession},
};

impl Tx<'_> {
    /// Publishes the presence of an agent's program; a `state` of `None` means that it is unknown. Does nothing if
    /// state, wakeability and last prompt are those that were last published. Returns `true` if the presence was
    /// published. The two times are the start of this state, and a person's last prompt (zero if there was none).
    ///
    /// # Errors
    /// Those of [`resident`]; SQLite's.
    pub fn say_presence(
        &mut self,
        agent: &str,
        state: Option<PresenceState>,
        wakeable: bool,
        (since, person_at): (Timestamp, Timestamp),
    ) -> Result<bool, StoreError> {
        resident(&self.reader(), agent)?;
        let mailbox = Mailbox { agent_id: agent.to_owned(), home: self.home().to_owned() };
        let known = self.reader().presence(&mailbox)?;
        // The prompt published before the daemon restarted may be later.
        let person_at = known.map_or(person_at, |known| known.person_at.max(person_at));
        if known.map_or((None, false, Timestamp::ZERO), |known| (known.state, known.wakeable, known.person_at))
            == (state, wakeable, person_at)
        {
            return Ok(false);
        }
        let mut statement = self.conn.prepare_cached("SELECT at FROM presences WHERE agent_id = ?1 AND home = ?2")?;
        let published_at: Option<i64> = statement.query_row((agent, self.home()), |row| row.get(0)).optional()?;
        drop(statement);
        let payload = AgentPresence {
            agent_id: agent.to_owned(),
            state: state.map(PresenceState::name).unwrap_or_default().to_owned(),
            wakeable,
            since: Some(since.to_string()),
            person_at: (person_at > Timestamp::ZERO).then(|| person_at.to_string()),
        };
        self.append_over(Payload::AgentPresence(payload), published_at.map(Timestamp::from_nanos))?;
        Ok(true)
    }

    /// Stores a session that a program reported, in this database only: no event is appended.
    ///
    /// # Errors
    /// SQLite's.
    pub fn keep_program_session(&mut self, session: &ProgramSession) -> Result<(), StoreError> {
        self.conn
            .prepare_cached(
                "INSERT OR REPLACE INTO program_sessions (session, agent_id, state, since, program, begun) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute((
                &session.session,
                &session.agent_id,
                session.state.name(),
                session.since.nanos(),
                session.program.map(|(pid, _)| pid),
                session.program.map(|(_, begun)| begun),
            ))?;
        Ok(())
    }

    /// Removes a program's session.
    ///
    /// # Errors
    /// SQLite's.
    pub fn forget_program_session(&mut self, session: &str) -> Result<(), StoreError> {
        self.conn.prepare_cached("DELETE FROM program_sessions WHERE session = ?1")?.execute([session])?;
        Ok(())
    }
}
