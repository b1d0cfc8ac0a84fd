//! Registers and deletes agents.

use rusqlite::OptionalExtension;
use thrum_core::{
    Error, ErrorKind, Payload, Timestamp, name,
    payload::{AgentCleanup, AgentRegister},
};

use super::Absence;
use crate::{
    StoreError, Tx,
    query::{Agent, AgentFilter},
};

/// An agent to be registered.
#[derive(Clone, Debug, Default)]
pub struct Register {
    /// The agent's name. An agent of this name that is already registered here is updated.
    pub name: String,
    /// The agent's role: the kind of its work.
    pub role: String,
    /// The agent's area of the code.
    pub module: String,
    /// The agent's name for people; may be empty.
    pub display: String,
    /// The name of the agent's machine; may be empty.
    pub hostname: String,
    /// The path of the agent's worktree; may be empty.
    pub worktree: String,
    /// Register although another agent here has the same role and module.
    pub force: bool,
}

/// The result of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registration {
    /// A new agent.
    Registered,
    /// The agent was registered before and now has the requested properties.
    Updated,
    /// This other agent here has the same role and module; nothing was stored.
    Conflict(Box<Agent>),
}

impl Tx<'_> {
    /// Registers an agent here, or updates its properties.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a malformed name, role or module, a reserved name, a name that equals the role, a new
    /// name that is already a role here, a role that is an agent's name here, or a text that is too long.
    pub fn register(&mut self, register: Register) -> Result<Registration, StoreError> {
        let Register { name, role, module, display, hostname, worktree, force } = register;
        name::check_agent(&name)?;
        name::check("role", &role)?;
        name::check("module", &module)?;
        if name == role {
            return Err(
                Error::new(ErrorKind::Invalid, format!("agent name '{name}' cannot be the same as its role")).into()
            );
        }
        let agents =
            self.reader().agents(&AgentFilter { home: Some(self.home().to_owned()), ..AgentFilter::default() })?;
        let before = agents.iter().find(|agent| agent.agent_id == name);
        if let Some(before) = before
            && (&before.role, &before.module, &before.display, &before.hostname, &before.worktree)
                == (&role, &module, &display, &hostname, &worktree)
            && !self.joined_ahead(&name)?
        {
            // Agents register again at the start of every session. If nothing changes, no event is written.
            return Ok(Registration::Updated);
        }
        // Names must be unique per machine only: agents elsewhere must not block a name here.
        if before.is_none() && agents.iter().any(|agent| agent.role == name) {
            return Err(Error::new(ErrorKind::Invalid, format!("agent name '{name}' is the name of a role")).into());
        }
        if agents.iter().any(|agent| agent.agent_id == role) {
            return Err(Error::new(ErrorKind::Invalid, format!("role '{role}' is the name of an agent")).into());
        }
        let rival = agents.iter().find(|agent| agent.agent_id != name && agent.role == role && agent.module == module);
        if let (None, false, Some(rival)) = (before, force, rival) {
            return Ok(Registration::Conflict(Box::new(rival.clone())));
        }
        let outcome = if before.is_some() { Registration::Updated } else { Registration::Registered };
        let after = self.last_of(&name)?;
        let payload = AgentRegister {
            agent_id: name.clone(),
            kind: "agent".to_owned(),
            name: Some(name),
            role,
            module,
            worktree: (!worktree.is_empty()).then_some(worktree),
            display,
            hostname,
            former_homes: Vec::new(),
            joined_at: after.and_then(|after| self.is_ahead(after)).map(|now| now.to_string()),
        };
        self.append_over(Payload::AgentRegister(payload), after)?;
        Ok(outcome)
    }

    /// Returns `true` if an agent of this daemon has a join time in the future, because our clock was wrong. Before its
    /// join time the agent gets no mail to its role or to everyone.
    fn joined_ahead(&mut self, agent_id: &str) -> Result<bool, StoreError> {
        let joined: Option<i64> = self
            .conn
            .prepare_cached("SELECT first_at FROM agents WHERE agent_id = ?1 AND home = ?2")?
            .query_row((agent_id, self.home()), |row| row.get(0))
            .optional()?;
        Ok(joined.is_some_and(|joined| self.is_ahead(Timestamp::from_nanos(joined)).is_some()))
    }

    /// Deletes an agent whose home is this daemon. Writes a clean-up, which hides the agent's registration, sessions,
    /// work contexts, presence and claims at every daemon and removes its mailbox, but never its messages. The clean-up
    /// is dated after all that it hides, even if the clock was set back. The local last-seen time is deleted, too. Returns
    /// the time of the clean-up.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], or [`ErrorKind::Refused`] if the agent's home is another daemon.
    pub fn delete_agent(&mut self, name: &str, reason: Option<String>) -> Result<Timestamp, StoreError> {
        if let Some(absence) = Absence::of(&self.reader(), name)? {
            let error = absence.error(name);
            return Err(match absence {
                Absence::Elsewhere(_) => {
                    error.hint(format!("Delete it where it lives: thrum agent delete {}", name::printable(name)))
                }
                Absence::Unknown(Some(near)) => error.hint(format!("Did you mean {near}?")),
                Absence::Deleted(_) | Absence::Unknown(None) => error.hint("thrum agent list names those there are."),
            }
            .into());
        }
        let payload = AgentCleanup { agent_id: name.to_owned(), reason, method: Some("manual".to_owned()) };
        let after = self.last_of(name)?;
        let at = self.append_over(Payload::AgentCleanup(payload), after)?.at;
        self.forget_presence(name)?;
        Ok(at)
    }
}
