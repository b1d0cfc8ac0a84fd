//! Moves agents here from a daemon that signs nothing, so that they keep their mail. `fold/former.rs` describes the
//! semantics.

use thrum_core::{
    Error, ErrorKind, Payload, Timestamp, limits, name,
    payload::{AgentRegister, SessionEnd},
};

use crate::{
    Reader, StoreError, Tx,
    query::{Agent, SessionFilter},
};

/// Agents known at former homes, and the time of the last event of these homes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Takeover {
    /// The former homes.
    pub former_homes: Vec<String>,
    /// Names of the agents that live or lived there.
    pub agents: Vec<String>,
    /// The time of the last event of these homes, ignoring implausible times; zero if there is none.
    pub latest: Timestamp,
}

/// The result of taking over an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adopted {
    /// The agent lives here now, with its old mail. This many of its sessions there were still open and were ended.
    Taken(usize),
    /// The agent already lives here, or none of the former homes knows it.
    AlreadyHere,
    /// The agent was taken over and has been deleted here since; it stays deleted.
    Deleted,
    /// This other daemon took the agent over first.
    Elsewhere(String),
}

impl Reader<'_> {
    /// Finds the agents that can be taken over from these former homes. Reads the times of all events of these homes,
    /// to find the last one; times further ahead of `now` than clocks may differ are ignored.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for more than [`limits::MAX_FORMER_HOMES`], and for a former home that is not a valid id
    /// or has a key and can sign for itself.
    pub fn takeover(&self, former_homes: Vec<String>, now: Timestamp) -> Result<Takeover, StoreError> {
        if former_homes.len() > limits::MAX_FORMER_HOMES {
            return Err(
                Error::new(ErrorKind::Invalid, format!("more than {} former homes", limits::MAX_FORMER_HOMES)).into()
            );
        }
        let mut takeover = Takeover { former_homes, ..Takeover::default() };
        // A clock that was far ahead at the former home must not become ours.
        let believed = now.plus(limits::CLOCK_OFF);
        for home in &takeover.former_homes {
            if home.is_empty() || home.len() > limits::MAX_FOREIGN_ID_BYTES || thrum_core::key::is_signed_origin(home) {
                let text = format!(
                    "'{}' cannot be a former home: a daemon with a key speaks for itself",
                    name::printable(home)
                );
                return Err(Error::new(ErrorKind::Invalid, text).into());
            }
            let latest: Option<i64> = self
                .conn
                .prepare_cached("SELECT max(at) FROM events WHERE origin_daemon = ?1 AND at <= ?2")?
                .query_row((home, believed.nanos()), |row| row.get(0))?;
            takeover.latest = takeover.latest.max(latest.map_or(Timestamp::ZERO, Timestamp::from_nanos));
            let mut agents = self.conn.prepare_cached(
                "SELECT agent_id FROM agents WHERE home = ?1 UNION SELECT agent_id FROM former_homes WHERE former = ?1",
            )?;
            for agent in agents.query_map([home], |row| row.get(0))? {
                takeover.agents.push(agent?);
            }
        }
        takeover.agents.sort();
        takeover.agents.dedup();
        Ok(takeover)
    }

    /// The home to which an agent moved from a former home, and the time up to which the former home's events count.
    fn moved(&self, agent_id: &str, former: &str) -> Result<Option<(String, Timestamp)>, StoreError> {
        use rusqlite::OptionalExtension;
        let mut statement =
            self.conn.prepare_cached("SELECT home, until FROM former_homes WHERE agent_id = ?1 AND former = ?2")?;
        Ok(statement
            .query_row((agent_id, former), |row| Ok((row.get(0)?, Timestamp::from_nanos(row.get(1)?))))
            .optional()?)
    }
}

impl Tx<'_> {
    /// Registers an agent of former homes here, so that all their events about it up to now count as its own, and ends
    /// its sessions that are still open there. An agent of this name that is already registered here is the same agent
    /// and keeps its properties. Repeating this changes nothing unless the former homes have new events.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if its name, role or module is not valid here.
    pub fn adopt(&mut self, agent_id: &str, takeover: &Takeover) -> Result<Adopted, StoreError> {
        let reader = self.reader();
        let here = reader.agent_here(agent_id)?;
        let mut claims = Vec::new();
        let (mut elsewhere, mut was_here) = (None, false);
        let mut there: Option<Agent> = None;
        for former in &takeover.former_homes {
            let known = reader.agent(agent_id, former)?;
            match reader.moved(agent_id, former)? {
                None if known.is_none() => continue,
                Some((home, _)) if home != self.home() => {
                    elsewhere = Some(home);
                    continue;
                }
                Some((_, until)) => {
                    was_here = true;
                    if takeover.latest < until {
                        continue;
                    }
                }
                None => {}
            }
            claims.push(former.clone());
            there = known.or(there);
        }
        let Some(agent) = here.or(there).filter(|_| !claims.is_empty()) else {
            return Ok(match elsewhere {
                Some(home) => Adopted::Elsewhere(home),
                None if was_here && reader.agent_here(agent_id)?.is_none() => Adopted::Deleted,
                None => Adopted::AlreadyHere,
            });
        };
        name::check_agent(agent_id)?;
        name::check("role", &agent.role)?;
        name::check("module", &agent.module)?;
        let sessions = self.open_sessions(agent_id, &claims)?;
        let payload = AgentRegister {
            agent_id: agent_id.to_owned(),
            kind: "agent".to_owned(),
            name: Some(agent_id.to_owned()),
            role: agent.role,
            module: agent.module,
            worktree: (!agent.worktree.is_empty()).then_some(agent.worktree),
            display: agent.display,
            hostname: agent.hostname,
            former_homes: claims,
            joined_at: None,
        };
        self.append(Payload::AgentRegister(payload), Some(takeover.latest))?;
        let ended = sessions.len();
        for session_id in sessions {
            let payload = SessionEnd { session_id, reason: Some("superseded".to_owned()) };
            self.append(Payload::SessionEnd(payload), Some(takeover.latest))?;
        }
        Ok(Adopted::Taken(ended))
    }

    fn open_sessions(&self, agent_id: &str, homes: &[String]) -> Result<Vec<String>, StoreError> {
        let mut open = Vec::new();
        for home in homes {
            let filter = SessionFilter {
                agent_id: Some(agent_id.to_owned()),
                home: Some(home.clone()),
                open_only: true,
                newest: None,
            };
            open.extend(self.reader().sessions(&filter)?.into_iter().map(|session| session.session_id));
        }
        Ok(open)
    }

    /// Marks the messages that an agent had read elsewhere as read, if they are in its mailbox here. Returns the number
    /// of messages that were unread.
    ///
    /// # Errors
    /// Those of [`mark_read`](Self::mark_read), except that missing messages are ignored.
    pub fn mark_read_before(&mut self, agent_id: &str, message_ids: &[String]) -> Result<usize, StoreError> {
        let mut known = Vec::new();
        for message_id in message_ids {
            if self.conn.prepare_cached("SELECT 1 FROM messages WHERE message_id = ?1")?.exists([message_id])? {
                known.push(message_id.clone());
            }
        }
        Ok(self.mark_read(agent_id, &known)?.len())
    }
}
