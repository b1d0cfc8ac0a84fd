//! Agents, their sessions, and what goes on in them.

use rusqlite::{OptionalExtension, Row, params_from_iter, types::Value as Sql};
use thrum_core::{Stamp, payload::WorkContext};

use crate::{Reader, StoreError};

/// A registered agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Its name.
    pub agent_id: String,
    /// The daemon that registered it.
    pub home: String,
    /// `agent` or `user`.
    pub kind: String,
    /// Its kind of work.
    pub role: String,
    /// Its area of the code.
    pub module: String,
    /// Its name for people; may be empty.
    pub display: String,
    /// Its machine; may be empty.
    pub hostname: String,
    /// Its worktree; may be empty.
    pub worktree: String,
    /// Last registration.
    pub registered_at: Stamp,
    /// Last sign of life known here.
    pub last_seen_at: Option<Stamp>,
}

/// What an agent may be addressed by.
pub(crate) struct Addressable {
    pub(crate) agent_id: String,
    pub(crate) role: String,
}

/// Which agents.
#[derive(Clone, Debug, Default)]
pub struct AgentFilter {
    /// Of this name.
    pub agent_id: Option<String>,
    /// With this role.
    pub role: Option<String>,
    /// With this module.
    pub module: Option<String>,
    /// Of this home.
    pub home: Option<String>,
}

/// A period of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// `ses_…`
    pub session_id: String,
    /// Whose.
    pub agent_id: String,
    /// The agent's home.
    pub home: String,
    /// When it began.
    pub started_at: Stamp,
    /// When it ended.
    pub ended_at: Option<Stamp>,
    /// Why.
    pub end_reason: Option<String>,
    /// Last sign of life known here.
    pub last_seen_at: Stamp,
    /// What the agent is about to do; from its context.
    pub intent: Option<String>,
}

/// Which sessions.
#[derive(Clone, Debug, Default)]
pub struct SessionFilter {
    /// Of this agent.
    pub agent_id: Option<String>,
    /// Of this home.
    pub home: Option<String>,
    /// Only open ones.
    pub active_only: bool,
}

/// What goes on in an open session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Whose.
    pub agent_id: String,
    /// The agent's home.
    pub home: String,
    /// As the agent said it.
    pub context: WorkContext,
}

const SEEN: &str = "max(coalesce(p.last_seen_at, 0), coalesce(s.started_at, 0), coalesce(s.ended_at, 0))";

fn stamp(nanos: i64) -> Stamp {
    Stamp::from_nanos(nanos)
}

/// Conditions with their values, joined by AND.
#[derive(Default)]
struct Conditions {
    sql: String,
    values: Vec<Sql>,
}

impl Conditions {
    fn equals(&mut self, column: &str, value: Option<&String>) {
        if let Some(value) = value {
            self.values.push(Sql::Text(value.clone()));
            self.sql.push_str(&format!(" AND {column} = ?{}", self.values.len()));
        }
    }
}

impl Reader<'_> {
    /// Agents, newest registration first.
    ///
    /// # Errors
    /// SQLite's.
    pub fn agents(&self, filter: &AgentFilter) -> Result<Vec<Agent>, StoreError> {
        let mut conditions = Conditions::default();
        conditions.equals("a.agent_id", filter.agent_id.as_ref());
        conditions.equals("a.role", filter.role.as_ref());
        conditions.equals("a.module", filter.module.as_ref());
        conditions.equals("a.home", filter.home.as_ref());
        let sql = format!(
            "SELECT a.agent_id, a.home, a.kind, a.role, a.module, a.display, a.hostname, a.worktree, a.registered_at,
                    (SELECT max({SEEN}) FROM sessions s LEFT JOIN presence p USING (session_id)
                     WHERE s.agent_id = a.agent_id AND s.home = a.home)
             FROM agents a WHERE true{} ORDER BY a.registered_at DESC, a.agent_id, a.home",
            conditions.sql
        );
        let mut statement = self.conn.prepare_cached(&sql)?;
        let rows = statement.query_map(params_from_iter(conditions.values), |row| {
            Ok(Agent {
                agent_id: row.get(0)?,
                home: row.get(1)?,
                kind: row.get(2)?,
                role: row.get(3)?,
                module: row.get(4)?,
                display: row.get(5)?,
                hostname: row.get(6)?,
                worktree: row.get(7)?,
                registered_at: stamp(row.get(8)?),
                last_seen_at: row.get::<_, Option<i64>>(9)?.map(stamp),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Names of all agents, and their roles: whom somebody may have meant who named nobody.
    pub(crate) fn addressable(&self) -> Result<Vec<Addressable>, StoreError> {
        let mut statement = self.conn.prepare_cached("SELECT agent_id, role FROM agents")?;
        Ok(statement.query_map([], |row| Ok(Addressable { agent_id: row.get(0)?, role: row.get(1)? }))?.collect::<Result<_, _>>()?)
    }

    /// The agents of a role, or all: name and home, in that order.
    pub(crate) fn members(&self, role: Option<&str>) -> Result<Vec<(String, String)>, StoreError> {
        let pair = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let mut members: Vec<(String, String)> = match role {
            Some(role) => {
                let mut statement = self.conn.prepare_cached("SELECT agent_id, home FROM agents WHERE role = ?1")?;
                statement.query_map([role], pair)?.collect::<Result<_, _>>()?
            }
            None => self.conn.prepare_cached("SELECT agent_id, home FROM agents")?.query_map([], pair)?.collect::<Result<_, _>>()?,
        };
        // Not in SQL, for the reason given in the fold: this runs for every message sent.
        members.sort_unstable();
        Ok(members)
    }

    /// Where agents of this name live.
    pub(crate) fn homes(&self, name: &str) -> Result<Vec<String>, StoreError> {
        let mut statement = self.conn.prepare_cached("SELECT home FROM agents WHERE agent_id = ?1")?;
        Ok(statement.query_map([name], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }

    /// The agent of this name that was registered here.
    ///
    /// # Errors
    /// SQLite's.
    pub fn agent_here(&self, name: &str) -> Result<Option<Agent>, StoreError> {
        let filter = AgentFilter { agent_id: Some(name.to_owned()), home: Some(self.home.to_owned()), ..AgentFilter::default() };
        Ok(self.agents(&filter)?.into_iter().next())
    }

    /// Sessions whose beginning is known, newest first.
    ///
    /// # Errors
    /// SQLite's.
    pub fn sessions(&self, filter: &SessionFilter) -> Result<Vec<Session>, StoreError> {
        let mut conditions = Conditions::default();
        conditions.equals("s.agent_id", filter.agent_id.as_ref());
        conditions.equals("s.home", filter.home.as_ref());
        if filter.active_only {
            conditions.sql.push_str(" AND s.ended_at IS NULL");
        }
        let sql = format!("{} WHERE s.started_at IS NOT NULL{} ORDER BY s.started_at DESC, s.session_id", session_sql(), conditions.sql);
        let mut statement = self.conn.prepare_cached(&sql)?;
        let rows = statement.query_map(params_from_iter(conditions.values), read_session)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// One session whose beginning is known.
    ///
    /// # Errors
    /// SQLite's.
    pub fn session(&self, session_id: &str) -> Result<Option<Session>, StoreError> {
        let sql = format!("{} WHERE s.started_at IS NOT NULL AND s.session_id = ?1", session_sql());
        Ok(self.conn.prepare_cached(&sql)?.query_row([session_id], read_session).optional()?)
    }

    /// The id of the open session of an agent registered here; of the newest, if there are several.
    ///
    /// # Errors
    /// SQLite's.
    pub fn open_session(&self, agent_id: &str) -> Result<Option<String>, StoreError> {
        let mut statement = self
            .conn
            .prepare_cached("SELECT started_at, session_id FROM sessions WHERE agent_id = ?1 AND home = ?2 AND ended_at IS NULL")?;
        let open = statement.query_map((agent_id, self.home), |row| Ok((row.get::<_, Option<i64>>(0)?, row.get(1)?)))?;
        // Not `max` in SQL, for the reason given in the fold: this runs for every message sent.
        Ok(open.collect::<Result<Vec<_>, _>>()?.into_iter().max().map(|(_, session_id)| session_id))
    }

    /// What goes on in open sessions, newest session first.
    ///
    /// # Errors
    /// SQLite's.
    pub fn contexts(&self) -> Result<Vec<Context>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT c.agent_id, c.home, c.context FROM contexts c JOIN sessions s USING (session_id, agent_id, home)
             WHERE s.ended_at IS NULL ORDER BY s.started_at DESC, c.session_id",
        )?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?)))?;
        let mut contexts = Vec::new();
        for row in rows {
            let (agent_id, home, text) = row?;
            contexts.push(Context { agent_id, home, context: read_context(&text)? });
        }
        Ok(contexts)
    }

    /// What goes on in one session, as its own agent said it last.
    ///
    /// # Errors
    /// SQLite's.
    pub fn context(&self, session_id: &str) -> Result<Option<WorkContext>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT c.context FROM contexts c JOIN sessions s USING (session_id, agent_id, home) WHERE c.session_id = ?1",
        )?;
        let text: Option<String> = statement.query_row([session_id], |row| row.get(0)).optional()?;
        text.as_deref().map(read_context).transpose()
    }
}

fn read_context(text: &str) -> Result<WorkContext, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Damaged(format!("a work context cannot be read: {error}")))
}

fn session_sql() -> String {
    format!(
        "SELECT s.session_id, s.agent_id, s.home, s.started_at, s.ended_at, s.end_reason, {SEEN}, c.context
         FROM sessions s LEFT JOIN presence p USING (session_id)
         LEFT JOIN contexts c ON c.session_id = s.session_id AND c.agent_id = s.agent_id AND c.home = s.home"
    )
}

fn read_session(row: &Row<'_>) -> rusqlite::Result<Session> {
    let context: Option<String> = row.get(7)?;
    Ok(Session {
        session_id: row.get(0)?,
        agent_id: row.get(1)?,
        home: row.get(2)?,
        started_at: stamp(row.get(3)?),
        ended_at: row.get::<_, Option<i64>>(4)?.map(stamp),
        end_reason: row.get(5)?,
        last_seen_at: stamp(row.get(6)?),
        intent: context.and_then(|text| serde_json::from_str::<WorkContext>(&text).ok()).and_then(|context| context.intent),
    })
}
