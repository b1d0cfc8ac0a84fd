//! Records the presence of agents' programs, and the messages that woke them.

use rusqlite::OptionalExtension;
use thrum_core::{
    Payload, Timestamp,
    payload::{AgentPresence, AgentWoken, MessageReceipt, PresenceState, ReceiptType},
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

    /// Records that a waiter of an agent was given these messages, except those recorded before.
    ///
    /// # Errors
    /// Those of [`resident`]; SQLite's.
    pub fn woken(&mut self, agent: &str, message_ids: &[String]) -> Result<(), StoreError> {
        let known = "SELECT 1 FROM wakes WHERE message_id = ?1 AND agent_id = ?2 AND origin = ?3";
        self.say_once(known, agent, message_ids, |message_id| {
            Payload::AgentWoken(AgentWoken { agent_id: agent.to_owned(), message_id: message_id.to_owned() })
        })
    }

    /// Records that messages were shown to an agent, though not in full, except those that it has already seen.
    ///
    /// # Errors
    /// Those of [`resident`]; SQLite's.
    pub fn mark_shown(&mut self, agent: &str, message_ids: &[String]) -> Result<(), StoreError> {
        let session_id = self.reader().open_session(agent)?;
        let known = "SELECT 1 FROM receipts WHERE message_id = ?1 AND agent_id = ?2 AND origin = ?3";
        self.say_once(known, agent, message_ids, |message_id| {
            Payload::MessageReceipt(MessageReceipt {
                message_id: message_id.to_owned(),
                agent_id: agent.to_owned(),
                session_id: session_id.clone(),
                receipt_type: ReceiptType::Seen,
            })
        })
    }

    /// Appends an event for each present message that has no such event about this agent yet. The query `known` finds
    /// the row for a message, an agent and this daemon.
    fn say_once(
        &mut self,
        known: &'static str,
        agent: &str,
        message_ids: &[String],
        payload: impl Fn(&str) -> Payload,
    ) -> Result<(), StoreError> {
        resident(&self.reader(), agent)?;
        for message_id in message_ids {
            if self.conn.prepare_cached(known)?.exists((message_id, agent, self.home()))? {
                continue;
            }
            let Some(at) = self.sent_at(message_id)? else { continue };
            self.append(payload(message_id), Some(at))?;
        }
        Ok(())
    }

    /// When a message was sent; `None` if it is not here.
    fn sent_at(&self, message_id: &str) -> Result<Option<Timestamp>, StoreError> {
        let mut statement = self.conn.prepare_cached("SELECT at FROM messages WHERE message_id = ?1")?;
        Ok(statement.query_row([message_id], |row| row.get(0)).optional()?.map(Timestamp::from_nanos))
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
