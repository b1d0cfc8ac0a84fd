//! What agents ask for: each a check and the event that follows from it, inside one transaction.
//!
//! Everything is decided here once, whoever asks (socket, MCP, simulation). An agent acts only where it lives: its home is
//! the daemon that registered it, and only that daemon writes in its name.

mod address;
mod agent;
mod cleanup;
mod message;
mod moving;
mod purge;
mod session;
mod work;

pub use address::{known, listed, nearest};
pub use agent::{Register, Registration};
pub use cleanup::abandoned;
pub use message::{Edited, Send, Sent, sent_by};
pub use moving::{Adopted, Takeover};
pub use purge::check_cutoff;
pub use work::Beat;

use thrum_core::{ErrorKind, Fault, Stamp, name};

use crate::{Reader, StoreError, query::AgentFilter};

/// Why there is no agent of a name here.
enum Absence {
    /// It lives at this other daemon.
    Elsewhere(String),
    /// It was deleted then.
    Deleted(Stamp),
    /// Nobody of this name is known; this one may have been meant.
    Unknown(Option<String>),
}

impl Absence {
    /// `None` if it lives here.
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
        Ok(Some(Self::Unknown(nearest(agent, here.iter().map(|agent| agent.agent_id.as_str())).map(str::to_owned))))
    }

    /// As an error, without a hint: what to do depends on what was wanted.
    fn fault(&self, agent: &str) -> Fault {
        let agent = name::printable(agent);
        match self {
            Self::Elsewhere(home) => Fault::new(
                ErrorKind::Refused,
                format!("{agent} lives at another daemon ({}): this daemon does not act in its name", name::printable(home)),
            ),
            Self::Deleted(at) => Fault::new(ErrorKind::NotFound, format!("no agent {agent} is registered here: it was deleted at {at}")),
            Self::Unknown(_) => Fault::new(ErrorKind::NotFound, format!("no agent {agent} is registered here")),
        }
    }
}

/// Whether an agent of this name lives here.
///
/// # Errors
/// [`ErrorKind::Refused`] if it lives only elsewhere, [`ErrorKind::NotFound`] if nobody of this name is known.
pub fn resident(reader: &Reader<'_>, name: &str) -> Result<(), StoreError> {
    let Some(absence) = Absence::of(reader, name)? else { return Ok(()) };
    let shown = name::printable(name);
    let register = |name: &str| format!("thrum quickstart --name {name} --role ROLE --module MODULE");
    let hint = match &absence {
        Absence::Elsewhere(_) => format!("Register another name here: {}", register(&format!("{shown}-2"))),
        Absence::Unknown(Some(near)) => format!("Did you mean {near}? To register {shown}: {}", register(&shown)),
        Absence::Deleted(_) | Absence::Unknown(None) => register(&shown),
    };
    Err(absence.fault(name).hint(hint).into())
}
