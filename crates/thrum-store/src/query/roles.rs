//! Queries over the roles of registered agents. Mail can be addressed to roles as well as names.

use thrum_core::Timestamp;

use crate::{Reader, StoreError, query::Mailbox};

/// A role that at least one agent has, here or elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Name of the role.
    pub name: String,
    /// The earliest time since which one of these agents has been registered, in whatever role.
    pub since: Timestamp,
    /// The agents that have the role, by name and home.
    pub agents: Vec<Mailbox>,
}

impl Reader<'_> {
    /// Returns all roles, by name.
    ///
    /// # Errors
    /// SQLite's.
    pub fn roles(&self) -> Result<Vec<Role>, StoreError> {
        let mut statement = self
            .conn
            .prepare_cached("SELECT role, agent_id, home, first_at FROM agents ORDER BY role, agent_id, home")?;
        let rows = statement.query_map([], |row| {
            Ok((row.get::<_, String>(0)?, Mailbox { agent_id: row.get(1)?, home: row.get(2)? }, row.get::<_, i64>(3)?))
        })?;
        let mut roles: Vec<Role> = Vec::new();
        for row in rows {
            let (name, agent, first_at) = row?;
            let since = Timestamp::from_nanos(first_at);
            match roles.last_mut().filter(|role| role.name == name) {
                Some(role) => {
                    role.since = role.since.min(since);
                    role.agents.push(agent);
                }
                None => roles.push(Role { name, since, agents: vec![agent] }),
            }
        }
        Ok(roles)
    }
}
