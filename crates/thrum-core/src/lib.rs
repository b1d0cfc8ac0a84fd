//! What a Thrum event is: ids, names, time, the event types, limits, errors and signing.
//!
//! No I/O, no clock and no randomness of its own: what it needs of the world comes in through [`Ambient`].

pub mod address;
pub mod ambient;
pub mod bounds;
pub mod compare;
pub mod event;
pub mod exchange;
pub mod fault;
pub mod heads;
pub mod ids;
pub mod json;
pub mod key;
pub mod limits;
pub mod name;
pub mod payload;
pub mod quota;
pub mod ranges;
pub mod stamp;
pub mod work;

pub use address::{Address, Machines};
pub use ambient::Ambient;
pub use event::{Draft, Event, Malformed};
pub use fault::{ErrorKind, Fault, Retry};
pub use heads::{Head, Heads, Sum};
pub use key::{DaemonId, DaemonKey};
pub use payload::Payload;
pub use ranges::Runs;
pub use stamp::Stamp;
