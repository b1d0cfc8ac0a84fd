//! What can be asked of the store. Everything answered here is of one moment ([`Readers::with`](crate::Readers::with)).

mod agents;
mod filter;
mod log;
mod messages;
mod roles;

pub(crate) use agents::Addressable;
pub use agents::{Agent, AgentFilter, Context, Session, SessionFilter};
pub use filter::{Filter, Order};
pub use log::Totals;
pub use messages::{Listing, Mailbox, Message, Recipient};
pub use roles::Role;
