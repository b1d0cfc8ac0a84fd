//! Roles: what agents are registered as, and so what mail can be addressed to besides names.

use thrum_core::Stamp;

use crate::{Reader, StoreError};

/// A role that at least one agent has, here or elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// The first registration of an agent that has it.
    pub since: Stamp,
    /// The agents that have it, by name; a name that two machines use stands here once.
    pub agents: Vec<String>,
}

impl Reader<'_> {
    /// Every role, by name.
    ///
    /// # Errors
    /// SQLite's.
    pub fn roles(&self) -> Result<Vec<Role>, StoreError> {
        let mut statement = self.conn.prepare_cached("SELECT role, agent_id, first_at FROM agents ORDER BY role, agent_id")?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?)))?;
        let mut roles: Vec<Role> = Vec::new();
        for row in rows {
            let (name, agent, first_at) = row?;
            let since = Stamp::from_nanos(first_at);
            match roles.last_mut().filter(|role| role.name == name) {
                Some(role) => {
                    role.since = role.since.min(since);
                    if role.agents.last() != Some(&agent) {
                        role.agents.push(agent);
                    }
                }
                None => roles.push(Role { name, since, agents: vec![agent] }),
            }
        }
        Ok(roles)
    }
}
