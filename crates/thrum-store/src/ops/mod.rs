//! Operations that agents request: each checks the request and appends the resulting events, inside one transaction.
//!
//! Requests are validated once here, for all callers (socket, MCP, simulation). An agent acts only at its home, the
//! daemon that registered it, and only that daemon writes in its name.

mod address;
mod agent;
mod claim;
mod cleanup;
mod guard;
mod message;
mod moving;
mod presence;
mod purge;
mod receipt;
mod session;
mod work;

pub use address::{known, listed};
pub use agent::{Register, Registration};
pub use claim::Claimed;
pub use cleanup::abandoned;
pub use guard::Exchange;
pub use message::{Edited, Send, Sent, sent_by};
pub use moving::{Adopted, Takeover};
pub use purge::check_cutoff;
pub use work::Heartbeat;

use thrum_core::{Error, ErrorKind, Timestamp, name};

use crate::{Reader, StoreError, query::AgentFilter};

/// The reason why no agent of a name is registered here.
enum Absence {
    /// An agent of this name has this other daemon as its home.
    Elsewhere(String),
    /// The agent was deleted here at this time.
    Deleted(Timestamp),
    /// No agent of this name is known; contains the most similar name of an agent of this daemon, if any.
    Unknown(Option<String>),
}

impl Absence {
    /// Returns the reason why no agent of this name is registered here; `None` if one is.
    fn of(reader: &Reader<'_>, agent: &str) -> Result<Option<Self>, StoreError> {
        let homes = reader.homes(agent)?;
        if homes.iter().any(|home| home == reader.home) {
            return Ok(None);
        }
        if let Some(elsewhere) = homes.into_iter().next() {
            return Ok(Some(Self::Elsewhere(elsewhere)));
        }
        if let Some(at) = reader.deleted_at(agent)? {
            return Ok(Some(Self::Deleted(at)));
        }
        let here = reader.agents(&AgentFilter { home: Some(reader.home.to_owned()), ..AgentFilter::default() })?;
        Ok(Some(Self::Unknown(
            name::nearest(agent, here.iter().map(|agent| agent.agent_id.as_str())).map(str::to_owned),
        )))
    }

    /// Converts the reason to an error without a hint, because the hint depends on the operation.
    fn error(&self, agent: &str) -> Error {
        let agent = name::printable(agent);
        match self {
            Self::Elsewhere(home) => Error::new(
                ErrorKind::Refused,
                format!(
                    "{agent} lives at another daemon ({}): this daemon does not act in its name",
                    name::printable(home)
                ),
            ),
            Self::Deleted(at) => Error::new(
                ErrorKind::NotFound,
                format!("no agent {agent} is registered here: it was deleted at {}", at.to_the_second()),
            ),
            Self::Unknown(_) => Error::new(ErrorKind::NotFound, format!("no agent {agent} is registered here")),
        }
    }
}

/// Checks that this daemon is the home of an agent of this name.
///
/// # Errors
/// [`ErrorKind::Refused`] if its home is another daemon, [`ErrorKind::NotFound`] if the agent was deleted here or no
/// agent of this name is known.
pub fn resident(reader: &Reader<'_>, name: &str) -> Result<(), StoreError> {
    let Some(absence) = Absence::of(reader, name)? else { return Ok(()) };
    let shown = name::printable(name);
    let register = |name: &str| format!("thrum quickstart --name {name} --role ROLE --module MODULE");
    let hint = match &absence {
        Absence::Elsewhere(_) => format!("Register another name here: {}", register(&format!("{shown}-2"))),
        Absence::Unknown(Some(near)) => format!("Did you mean {near}? To register {shown}: {}", register(&shown)),
        Absence::Deleted(_) | Absence::Unknown(None) => register(&shown),
    };
    Err(absence.error(name).hint(hint).into())
}
