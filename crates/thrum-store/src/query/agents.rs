//! Queries over registered agents.

use rusqlite::{OptionalExtension, Row, params_from_iter, types::Value as Sql};
use std::sync::LazyLock;

use thrum_core::{Machines, Timestamp};

use crate::{Reader, StoreError, arrival::shown_sql};

/// A registered agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Name of the agent.
    pub agent_id: String,
    /// The daemon that registered the agent.
    pub home: String,
    /// `agent` or `user`.
    pub kind: String,
    /// Role of the agent: its kind of work.
    pub role: String,
    /// Module of the agent: its area of the code.
    pub module: String,
    /// The agent's name for people; may be empty.
    pub display: String,
    /// The agent's machine; may be empty.
    pub hostname: String,
    /// The agent's worktree; may be empty.
    pub worktree: String,
    /// Time of the agent's last registration.
    pub registered_at: Timestamp,
    /// Last sign of life of the agent that is known here; `None` if there is none.
    pub last_seen_at: Option<Timestamp>,
}

/// Names by which an agent can be addressed.
pub(crate) struct Addressable {
    pub(crate) agent_id: String,
    pub(crate) role: String,
}

/// Selects agents.
#[derive(Clone, Debug, Default)]
pub struct AgentFilter {
    /// Only agents with this name.
    pub agent_id: Option<String>,
    /// Only agents with this role.
    pub role: Option<String>,
    /// Only agents with this module.
    pub module: Option<String>,
    /// Only agents with this home.
    pub home: Option<String>,
}

pub(super) fn stamp(nanos: i64) -> Timestamp {
    Timestamp::from_nanos(nanos)
}

/// SQL expression: when the agent of `row` (which has `agent_id` and `home`) last read a message, changed its presence,
/// or wrote a message; only the newest [`NEWEST`] messages under its name are searched. Indexes serve all of these,
/// however many rows there are. NULL if the agent did none of these. Also NULL if its home is this daemon (?1), which
/// sees all calls of the agent and keeps its last sign of life in `presence`.
///
/// A receipt that lies ahead counts at the time at which it is shown, which may be earlier than that of another receipt.
/// So the newest receipt that does not lie ahead is looked up, too.
pub(super) fn written_by(row: &str) -> String {
    let (read, presence_at) = (shown_sql("r.origin", "r.read_at"), shown_sql("p.home", "p.at"));
    format!(
        "CASE WHEN {row}.home <> ?1 THEN nullif(max(
            coalesce((SELECT max(shown_at) FROM (SELECT shown_at, origin FROM messages WHERE agent_id = {row}.agent_id
                ORDER BY shown_at DESC, sequence DESC LIMIT {NEWEST}) WHERE origin = {row}.home), 0),
            coalesce((SELECT {presence_at} FROM presences p WHERE p.agent_id = {row}.agent_id AND p.home = {row}.home), 0),
            coalesce((SELECT {read} FROM receipts r
                WHERE r.agent_id = {row}.agent_id AND r.origin = {row}.home AND r.read_at IS NOT NULL
                ORDER BY r.read_at DESC LIMIT 1), 0),
            coalesce((SELECT r.read_at FROM receipts r
                WHERE r.agent_id = {row}.agent_id AND r.origin = {row}.home AND r.read_at IS NOT NULL
                AND NOT EXISTS (SELECT 1 FROM ahead h WHERE h.origin = r.origin AND h.at = r.read_at)
                ORDER BY r.read_at DESC LIMIT 1), 0)), 0) END"
    )
}

/// Number of messages under an agent's name that are searched for its last sign of life. The newest may be by an agent
/// of the same name elsewhere.
const NEWEST: usize = 16;

/// SQL conditions, each preceded by `AND`, with their values. The first value, ?1, is the id of the querying daemon.
pub(super) struct Conditions {
    pub(super) sql: String,
    pub(super) values: Vec<Sql>,
}

impl Conditions {
    pub(super) fn new(home: &str) -> Self {
        Self { sql: String::new(), values: vec![Sql::Text(home.to_owned())] }
    }

    pub(super) fn equals(&mut self, column: &str, value: Option<&String>) {
        if let Some(value) = value {
            self.values.push(Sql::Text(value.clone()));
            self.sql.push_str(&format!(" AND {column} = ?{}", self.values.len()));
        }
    }
}

impl Reader<'_> {
    /// Returns the selected agents, newest registration first.
    ///
    /// # Errors
    /// SQLite's.
    pub fn agents(&self, filter: &AgentFilter) -> Result<Vec<Agent>, StoreError> {
        let mut conditions = Conditions::new(self.home);
        conditions.equals("a.agent_id", filter.agent_id.as_ref());
        conditions.equals("a.role", filter.role.as_ref());
        conditions.equals("a.module", filter.module.as_ref());
        conditions.equals("a.home", filter.home.as_ref());
        let sql = format!("{} WHERE true{} ORDER BY 9 DESC, a.agent_id, a.home", *SELECT, conditions.sql);
        let mut statement = self.conn.prepare_cached(&sql)?;
        Ok(statement.query_map(params_from_iter(conditions.values), read_agent)?.collect::<Result<_, _>>()?)
    }

    /// The names and roles of all agents, from which to suggest a recipient for an unknown name.
    pub(crate) fn addressable(&self) -> Result<Vec<Addressable>, StoreError> {
        let mut statement = self.conn.prepare_cached("SELECT agent_id, role FROM agents")?;
        Ok(statement
            .query_map([], |row| Ok(Addressable { agent_id: row.get(0)?, role: row.get(1)? }))?
            .collect::<Result<_, _>>()?)
    }

    /// The agents with a role, or all agents, as pairs of name and home, sorted.
    pub(crate) fn members(&self, role: Option<&str>) -> Result<Vec<(String, String)>, StoreError> {
        let pair = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let mut members: Vec<(String, String)> = match role {
            Some(role) => {
                let mut statement = self.conn.prepare_cached("SELECT agent_id, home FROM agents WHERE role = ?1")?;
                statement.query_map([role], pair)?.collect::<Result<_, _>>()?
            }
            None => self
                .conn
                .prepare_cached("SELECT agent_id, home FROM agents")?
                .query_map([], pair)?
                .collect::<Result<_, _>>()?,
        };
        // Sort here: SQLite parses a cached statement again at every use if the statement sorts, and this one runs for
        // most messages sent.
        members.sort_unstable();
        Ok(members)
    }

    /// Returns the peer that served the last registration of an agent; `None` if that registration was made here, or if
    /// there is no such agent.
    ///
    /// # Errors
    /// SQLite's.
    pub fn agent_served_by(&self, name: &str, home: &str) -> Result<Option<String>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT e.received_from FROM agents a JOIN events e ON e.event_id = a.event_id AND e.origin_daemon = a.home
             WHERE a.agent_id = ?1 AND a.home = ?2",
        )?;
        let via: Option<String> = statement.query_row((name, home), |row| row.get(0)).optional()?;
        Ok(via.filter(|via| !via.is_empty()))
    }

    /// Returns the homes of the agents with this name.
    ///
    /// # Errors
    /// SQLite's.
    pub fn homes(&self, name: &str) -> Result<Vec<String>, StoreError> {
        let mut statement = self.conn.prepare_cached("SELECT home FROM agents WHERE agent_id = ?1")?;
        Ok(statement.query_map([name], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }

    /// Adds machine names if one of these daemons has none. Daemons known only through other daemons are named after
    /// the host name in the newest registration of their agents.
    ///
    /// # Errors
    /// SQLite's.
    pub fn name_machines<'h>(
        &self,
        machines: &mut Machines,
        mut homes: impl Iterator<Item = &'h str>,
    ) -> Result<(), StoreError> {
        if homes.all(|home| machines.knows(home)) {
            return Ok(());
        }
        // Pass all daemons, not only `homes`. Otherwise a machine's name would depend on which other machines the same
        // answer lists.
        let mut statement =
            self.conn.prepare_cached("SELECT home, hostname, max(registered_at) FROM agents GROUP BY home")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let daemons: Vec<(String, String)> = rows.collect::<Result<_, _>>()?;
        machines.add_announced(daemons.iter().map(|(id, announced)| (id.as_str(), announced.as_str())));
        Ok(())
    }

    /// When this daemon last deleted the agent; `None` if never.
    pub(crate) fn deleted_at(&self, name: &str) -> Result<Option<Timestamp>, StoreError> {
        let mut statement = self.conn.prepare_cached("SELECT at FROM cleanups WHERE agent_id = ?1 AND home = ?2")?;
        Ok(statement.query_row((name, self.home), |row| row.get(0)).optional()?.map(stamp))
    }

    /// Returns the agent of this name whose home is this daemon.
    ///
    /// # Errors
    /// SQLite's.
    pub fn agent_here(&self, name: &str) -> Result<Option<Agent>, StoreError> {
        self.agent(name, self.home)
    }

    /// Returns the agent of this name at this home.
    ///
    /// # Errors
    /// SQLite's.
    pub fn agent(&self, name: &str, home: &str) -> Result<Option<Agent>, StoreError> {
        static ONE: LazyLock<String> = LazyLock::new(|| format!("{} WHERE a.agent_id = ?2 AND a.home = ?3", *SELECT));
        Ok(self.conn.prepare_cached(&ONE)?.query_row((self.home, name, home), read_agent).optional()?)
    }
}

/// SQL that selects agents; ?1 is the id of the querying daemon.
static SELECT: LazyLock<String> = LazyLock::new(|| {
    let registered = shown_sql("a.home", "a.registered_at");
    let (ended, updated) = (shown_sql("s.home", "s.ended_at"), shown_sql("c.home", "c.at"));
    format!(
        "SELECT a.agent_id, a.home, a.kind, a.role, a.module, a.display, a.hostname, a.worktree, {registered},
                (SELECT p.last_seen_at FROM presence p WHERE p.agent_id = a.agent_id AND a.home = ?1),
                (SELECT max(s.shown_at, coalesce({ended}, 0), coalesce({updated}, 0)) FROM sessions s
                 LEFT JOIN contexts c ON c.session_id = s.session_id AND c.agent_id = s.agent_id AND c.home = s.home
                 WHERE s.agent_id = a.agent_id AND s.home = a.home AND s.started_at IS NOT NULL ORDER BY s.shown_at DESC LIMIT 1),
                {}
         FROM agents a",
        written_by("a")
    )
});

fn read_agent(row: &Row<'_>) -> rusqlite::Result<Agent> {
    let (seen, session, written): (Option<i64>, Option<i64>, Option<i64>) = (row.get(9)?, row.get(10)?, row.get(11)?);
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
        last_seen_at: seen.max(session).max(written).map(stamp),
    })
}
