//! Registering agents and deleting them.

use thrum_core::{
    ErrorKind, Fault, Payload, Stamp, name,
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
    /// Its name; must be free here or its own.
    pub name: String,
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
    /// Register although another agent here has the same role and module.
    pub force: bool,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registration {
    /// A new agent.
    Registered,
    /// The agent was here and is now as asked.
    Updated,
    /// Another agent here has the same role and module; nothing was stored.
    Conflict(Box<Agent>),
}

impl Tx<'_> {
    /// Registers an agent here, or updates what it is.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a name, role or module that is malformed, reserved, or used for the other.
    pub fn register(&mut self, register: Register) -> Result<Registration, StoreError> {
        let Register { name, role, module, display, hostname, worktree, force } = register;
        name::check_agent(&name)?;
        name::check("role", &role)?;
        name::check("module", &module)?;
        if name == role {
            return Err(Fault::new(ErrorKind::Invalid, format!("agent name '{name}' cannot be the same as its role")).into());
        }
        let agents = self.reader().agents(&AgentFilter { home: Some(self.home().to_owned()), ..AgentFilter::default() })?;
        let before = agents.iter().find(|agent| agent.agent_id == name);
        if let Some(before) = before
            && (&before.role, &before.module, &before.display, &before.hostname, &before.worktree)
                == (&role, &module, &display, &hostname, &worktree)
        {
            // Every session starts with a registration; one that says nothing new is no event.
            return Ok(Registration::Updated);
        }
        // Names are ruled per machine: what others call their agents must keep nobody here from working.
        if before.is_none() && agents.iter().any(|agent| agent.role == name) {
            return Err(Fault::new(ErrorKind::Invalid, format!("agent name '{name}' is the name of a role")).into());
        }
        if agents.iter().any(|agent| agent.agent_id == role) {
            return Err(Fault::new(ErrorKind::Invalid, format!("role '{role}' is the name of an agent")).into());
        }
        let rival = agents.iter().find(|agent| agent.agent_id != name && agent.role == role && agent.module == module);
        if let (None, false, Some(rival)) = (before, force, rival) {
            return Ok(Registration::Conflict(Box::new(rival.clone())));
        }
        let outcome = if before.is_some() { Registration::Updated } else { Registration::Registered };
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
        };
        self.append(Payload::AgentRegister(payload), None)?;
        Ok(outcome)
    }

    /// Deletes an agent that lives here: its registration, sessions and contexts; never its messages.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], or [`ErrorKind::Refused`] if it lives elsewhere.
    pub fn delete_agent(&mut self, name: &str, reason: Option<String>) -> Result<Stamp, StoreError> {
        if let Some(absence) = Absence::of(&self.reader(), name)? {
            let fault = absence.fault(name);
            return Err(match absence {
                Absence::Elsewhere(_) => fault.hint(format!("Delete it where it lives: thrum agent delete {}", name::printable(name))),
                Absence::Unknown(Some(near)) => fault.hint(format!("Did you mean {near}?")),
                Absence::Deleted(_) | Absence::Unknown(None) => fault.hint("thrum agent list names those there are."),
            }
            .into());
        }
        let payload = AgentCleanup { agent_id: name.to_owned(), reason, method: Some("manual".to_owned()) };
        let at = self.append(Payload::AgentCleanup(payload), None)?.at;
        self.forget_presence(name)?;
        Ok(at)
    }
}
