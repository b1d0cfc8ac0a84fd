//! The core types of Thrum: events and their payloads, ids, names, timestamps, limits, errors and signing.
//!
//! This crate does no I/O and has no clock and no random source of its own; both are passed in as [`Ambient`].

pub mod address;
pub mod ambient;
pub mod audience;
pub mod canonical;
pub mod compare;
pub mod error;
pub mod event;
pub mod exchange;
pub mod heads;
pub mod ids;
pub mod json;
pub mod key;
pub mod limits;
pub mod name;
pub mod path;
pub mod payload;
pub mod quota;
pub mod ranges;
pub mod timestamp;
mod variants;
pub mod words;
pub mod work;

pub use address::{Address, Machines};
pub use ambient::Ambient;
pub use error::{Error, ErrorKind, Retry};
pub use event::{Draft, Event, Malformed};
pub use heads::{Head, Heads, SetDigest};
pub use key::{DaemonId, DaemonKey};
pub use payload::{Payload, bounds};
pub use ranges::RangeSet;
pub use timestamp::Timestamp;
