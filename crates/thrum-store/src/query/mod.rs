//! The queries of the store. All queries of one reader see the same state ([`Readers::with`](crate::Readers::with)).

mod agents;
mod claims;
mod filter;
mod go_groups;
mod log;
mod messages;
mod parked;
mod prerequisites;
mod presence;
mod purges;
mod roles;
mod sessions;
mod sets;
mod usage;

pub(crate) use agents::Addressable;
pub use agents::{Agent, AgentFilter};
pub use claims::Claim;
pub use filter::{Filter, Mailbox, Order, Room};
pub use log::Totals;
pub use messages::{Listing, Message, Recipient};
pub use parked::{Parked, ParkedEvent};
pub use presence::{Presence, ProgramSession};
pub use purges::PurgeRecord;
pub use roles::Role;
pub use sessions::{Liveness, Session, SessionFilter};
