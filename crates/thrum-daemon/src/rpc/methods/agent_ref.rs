//! The form of an agent in answers that list agents: Go Thrum's id, plus our address and home.

use serde::Serialize;
use thrum_core::{Machines, key};
use thrum_store::query::Mailbox;

/// An agent in a list of agents.
#[derive(Clone, Debug, Serialize)]
pub(super) struct AgentRef {
    agent_id: String,
    /// `@name`, or `@name@machine` for an agent of another daemon.
    address: String,
    /// The agent's home daemon.
    home: String,
    /// The name of the home daemon, as known here.
    home_name: String,
    /// `true` if the home daemon signs its events.
    signed: bool,
    /// `true` if the home daemon is this one.
    local: bool,
}

impl AgentRef {
    /// Describes an agent; `machines` must contain a name for the agent's home.
    pub(super) fn of(Mailbox { agent_id, home }: Mailbox, machines: &Machines) -> Self {
        Self {
            address: machines.address(&agent_id, &home),
            home_name: machines.name(&home).into_owned(),
            signed: key::is_signed_origin(&home),
            local: machines.is_own(&home),
            agent_id,
            home,
        }
    }

    /// Returns the id of the agent's home daemon.
    pub(super) fn home(&self) -> &str {
        &self.home
    }

    /// Returns the agent's entry in a list of texts, which are ids in Go Thrum: the id of an agent of this daemon, the
    /// address of any other agent.
    pub(super) fn listed(&self) -> String {
        if self.local { self.agent_id.clone() } else { self.address.clone() }
    }
}
