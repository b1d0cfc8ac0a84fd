//! Agents that were left behind: what may be proposed for deletion, and deleting it.
//!
//! Go Thrum v0.6.3 takes every agent without an identity file in the daemon's own worktree for an orphan: forced, it deletes
//! the agents of all other worktrees and machines, and the deletions spread. Here an agent is proposed only by the daemon it
//! lives at, and only if nobody heard of it for a long time; whether an identity file still names it, the caller has to check,
//! for the store knows no files.

use std::time::Duration;

use thrum_core::{Payload, Stamp, payload::AgentCleanup};

use crate::{
    Reader, StoreError, Tx,
    query::{Agent, AgentFilter, Liveness, SessionFilter},
};

/// The agents that live here, were not heard of for `silence`, and have no session in which somebody may still be at work.
///
/// # Errors
/// SQLite's.
pub fn abandoned(reader: &Reader<'_>, now: Stamp, silence: Duration) -> Result<Vec<Agent>, StoreError> {
    let here = Some(reader.home.to_owned());
    let open = SessionFilter { home: here.clone(), open_only: true, ..SessionFilter::default() };
    let open = reader.sessions(&open)?;
    let at_work = |agent: &Agent| {
        open.iter().any(|session| session.agent_id == agent.agent_id && session.liveness(now, reader.home) == Liveness::Active)
    };
    let mut agents = reader.agents(&AgentFilter { home: here, ..AgentFilter::default() })?;
    agents.retain(|agent| {
        let seen = agent.last_seen_at.unwrap_or(Stamp::ZERO).max(agent.registered_at);
        agent.kind == "agent" && now.since(seen) >= silence && !at_work(agent)
    });
    Ok(agents)
}

impl Tx<'_> {
    /// Deletes those of `names` that are still [`abandoned`]. Returns their names.
    ///
    /// # Errors
    /// SQLite's.
    pub fn delete_abandoned(&mut self, names: &[String], silence: Duration) -> Result<Vec<String>, StoreError> {
        let now = self.now();
        let mut gone: Vec<String> = abandoned(&self.reader(), now, silence)?.into_iter().map(|agent| agent.agent_id).collect();
        gone.retain(|name| names.contains(name));
        for agent_id in &gone {
            let reason = Some(format!("not heard of for {} days", silence.as_secs() / 86_400));
            let payload = AgentCleanup { agent_id: agent_id.clone(), reason, method: Some("automated".to_owned()) };
            self.append(Payload::AgentCleanup(payload), None)?;
            self.forget_presence(agent_id)?;
        }
        Ok(gone)
    }

    pub(super) fn forget_presence(&self, agent_id: &str) -> Result<(), StoreError> {
        self.conn.prepare_cached("DELETE FROM presence WHERE agent_id = ?1")?.execute([agent_id])?;
        Ok(())
    }
}
