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

pub use agent::{Register, Registration};
pub use cleanup::abandoned;
pub use message::{Edited, Send, Sent, sent_by};
pub use moving::{Adopted, Takeover};
pub use purge::check_cutoff;
pub use work::Beat;

use thrum_core::{ErrorKind, Fault};

use crate::{Reader, StoreError};

/// Whether an agent of this name lives here.
///
/// # Errors
/// [`ErrorKind::Refused`] if it lives only elsewhere, [`ErrorKind::NotFound`] if nobody of this name is known.
pub fn resident(reader: &Reader<'_>, name: &str) -> Result<(), StoreError> {
    let homes = reader.homes(name)?;
    if homes.iter().any(|home| home == reader.home) {
        return Ok(());
    }
    let shown = thrum_core::name::printable(name);
    Err(match homes.first() {
        Some(elsewhere) => Fault::new(
            ErrorKind::Refused,
            format!("{shown} lives on another machine ({}): this daemon does not act in its name", thrum_core::name::printable(elsewhere)),
        )
        .hint(format!("Register another name here: thrum quickstart --name {shown}-2 --role ROLE --module MODULE")),
        None => {
            let message = match reader.deleted_at(name)? {
                Some(at) => format!("no agent {shown} is registered here: it was deleted at {at}"),
                None => format!("no agent {shown} is registered here"),
            };
            Fault::new(ErrorKind::NotFound, message).hint(format!("thrum quickstart --name {shown} --role ROLE --module MODULE"))
        }
    }
    .into())
}
