//! Finds abandoned agents, which may be proposed for deletion, and deletes them.
//!
//! Go Thrum v0.6.3 treats every agent without an identity file in the daemon's own worktree as an orphan. When forced,
//! it deletes the agents of all other worktrees and machines, and the deletions spread. Here only an agent's home
//! proposes the agent for deletion, and only after a long time without a sign of life. The caller must check whether an
//! identity file still names the agent, because the store does not read such files.

use std::time::Duration;

use thrum_core::{Payload, Timestamp, payload::AgentCleanup};

use crate::{
    Reader, StoreError, Tx,
    query::{Agent, AgentFilter, Liveness, SessionFilter},
};

/// Returns the agents of this daemon, but not those of the kind `user`, that gave no sign of life for `silence` and
/// have no active session. A registration counts as a sign of life.
///
/// # Errors
/// SQLite's.
pub fn abandoned(reader: &Reader<'_>, now: Timestamp, silence: Duration) -> Result<Vec<Agent>, StoreError> {
    let here = Some(reader.home.to_owned());
    let open = SessionFilter { home: here.clone(), open_only: true, ..SessionFilter::default() };
    let open = reader.sessions(&open)?;
    let at_work = |agent: &Agent| {
        open.iter()
            .any(|session| session.agent_id == agent.agent_id && session.liveness(now, reader.home) == Liveness::Active)
    };
    let mut agents = reader.agents(&AgentFilter { home: here, ..AgentFilter::default() })?;
    agents.retain(|agent| {
        let seen = agent.last_seen_at.unwrap_or(Timestamp::ZERO).max(agent.registered_at);
        agent.kind == "agent" && now.since(seen) >= silence && !at_work(agent)
    });
    Ok(agents)
}

impl Tx<'_> {
    /// Deletes those agents in `names` that are still [`abandoned`]. Returns their names.
    ///
    /// # Errors
    /// SQLite's.
    pub fn delete_abandoned(&mut self, names: &[String], silence: Duration) -> Result<Vec<String>, StoreError> {
        let now = self.now();
        let mut gone: Vec<String> =
            abandoned(&self.reader(), now, silence)?.into_iter().map(|agent| agent.agent_id).collect();
        gone.retain(|name| names.contains(name));
        for agent_id in &gone {
            let reason = Some(format!("not heard of for {} days", silence.as_secs() / 86_400));
            let payload = AgentCleanup { agent_id: agent_id.clone(), reason, method: Some("automated".to_owned()) };
            let after = self.last_of(agent_id)?;
            self.append_over(Payload::AgentCleanup(payload), after)?;
            self.forget_presence(agent_id)?;
        }
        Ok(gone)
    }

    /// The latest time among the registration, the last clean-up, the starts of sessions, the work contexts, the presence
    /// and the claims of an agent of this daemon; `None` if there are none of these.
    pub(super) fn last_of(&self, agent_id: &str) -> Result<Option<Timestamp>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT max(at) FROM (
                 SELECT registered_at AS at FROM agents WHERE agent_id = ?1 AND home = ?2
                 UNION ALL SELECT at FROM cleanups WHERE agent_id = ?1 AND home = ?2
                 UNION ALL SELECT max(started_at) FROM sessions WHERE agent_id = ?1 AND home = ?2
                 UNION ALL SELECT max(at) FROM contexts WHERE agent_id = ?1 AND home = ?2
                 UNION ALL SELECT at FROM presences WHERE agent_id = ?1 AND home = ?2
                 UNION ALL SELECT max(at) FROM claims WHERE agent_id = ?1 AND home = ?2)",
        )?;
        let last: Option<i64> = statement.query_row((agent_id, self.home()), |row| row.get(0))?;
        Ok(last.map(Timestamp::from_nanos))
    }

    pub(super) fn forget_presence(&self, agent_id: &str) -> Result<(), StoreError> {
        self.conn.prepare_cached("DELETE FROM presence WHERE agent_id = ?1")?.execute([agent_id])?;
        Ok(())
    }
}
