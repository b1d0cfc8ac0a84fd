//! What can be asked of the store. Everything answered here is of one moment ([`Readers::with`](crate::Readers::with)).

mod agents;
mod filter;
mod footing;
mod log;
mod messages;
mod purges;
mod roles;
mod sessions;
mod sets;
mod usage;

pub(crate) use agents::Addressable;
pub use agents::{Agent, AgentFilter};
pub use filter::{Filter, Order, Room};
pub use log::Totals;
pub use messages::{Listing, Mailbox, Message, Recipient};
pub use purges::PurgeSaid;
pub use roles::Role;
pub use sessions::{Liveness, Session, SessionFilter};
