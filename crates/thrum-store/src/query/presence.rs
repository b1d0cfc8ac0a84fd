//! Queries over the presence of agents' programs, as reported by each home, and the sessions that programs reported to
//! this daemon.

use std::{collections::HashMap, sync::LazyLock};

use rusqlite::{OptionalExtension, Row};
use thrum_core::{Timestamp, payload::PresenceState};

use super::Mailbox;
use crate::{Reader, StoreError, arrival::shown_sql};

/// The presence of an agent's program, as last reported by the agent's home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// The state of the program; `None` if the home does not know it, or reported a state that this version does not
    /// know.
    pub state: Option<PresenceState>,
    /// Whether a message starts a turn of the program.
    pub wakeable: bool,
    /// Since when the program is in this state.
    pub since: Timestamp,
    /// When a person last prompted the program; zero if never.
    pub person_at: Timestamp,
}

/// A session of a program that runs an agent of this daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramSession {
    /// The program's own id of the session.
    pub session: String,
    /// The agent that the session runs.
    pub agent_id: String,
    /// The state of the session.
    pub state: PresenceState,
    /// Since when the session is in this state.
    pub since: Timestamp,
    /// The id of the process that runs the session, and the process's start time as counted by the operating system;
    /// `None` if the process is not known.
    pub program: Option<(u32, u64)>,
}

fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<Presence> {
    let state: String = row.get(first)?;
    Ok(Presence {
        state: PresenceState::by_name(&state),
        wakeable: row.get(first + 1)?,
        since: Timestamp::from_nanos(row.get(first + 2)?),
        person_at: Timestamp::from_nanos(row.get(first + 3)?),
    })
}

impl Reader<'_> {
    /// Returns the presence of an agent; `None` if none is stored, such as after a clean-up of the agent.
    ///
    /// # Errors
    /// SQLite's.
    pub fn presence(&self, agent: &Mailbox) -> Result<Option<Presence>, StoreError> {
        static ONE: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT state, wakeable, min(since, {}), person_at FROM presences p WHERE agent_id = ?1 AND home = ?2",
                shown_sql("p.home", "p.at")
            )
        });
        let mut statement = self.conn.prepare_cached(&ONE)?;
        Ok(statement.query_row((&agent.agent_id, &agent.home), |row| read(row, 0)).optional()?)
    }

    /// Returns the presences of all agents.
    ///
    /// # Errors
    /// SQLite's.
    pub fn presences(&self) -> Result<HashMap<Mailbox, Presence>, StoreError> {
        let sql = format!(
            "SELECT agent_id, home, state, wakeable, min(since, {}), person_at FROM presences p",
            shown_sql("p.home", "p.at")
        );
        let mut statement = self.conn.prepare_cached(&sql)?;
        let rows =
            statement.query_map([], |row| Ok((Mailbox { agent_id: row.get(0)?, home: row.get(1)? }, read(row, 2)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Returns the sessions that programs reported to this daemon.
    ///
    /// # Errors
    /// SQLite's.
    pub fn program_sessions(&self) -> Result<Vec<ProgramSession>, StoreError> {
        let mut statement =
            self.conn.prepare_cached("SELECT session, agent_id, state, since, program, begun FROM program_sessions")?;
        let rows = statement.query_map([], |row| {
            let (state, program, begun): (String, Option<u32>, Option<u64>) = (row.get(2)?, row.get(4)?, row.get(5)?);
            Ok(ProgramSession {
                session: row.get(0)?,
                agent_id: row.get(1)?,
                state: PresenceState::by_name(&state).unwrap_or(PresenceState::Idle),
                since: Timestamp::from_nanos(row.get(3)?),
                program: program.zip(begun),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
