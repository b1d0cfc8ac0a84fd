//! Peers: pairing, the wire protocol, replication and its schedule, over a [`Transport`].
//!
//! This crate contains no SQL and no code for Tailscale. It accesses the log through [`Log`], the network through
//! [`Transport`], and the wall clock and randomness through [`thrum_core::Ambient`]. The decisions ([`replicator`],
//! [`pairing`], [`protocol`]) are functions of their inputs. Only [`peers`] and its parts, [`conn`], [`encrypted`] and
//! the transports do network I/O. The registry and pairing each keep one small file.

mod addresses;
mod answers;
pub mod backoff;
pub mod blocking;
pub mod clock;
pub mod conn;
pub mod encrypted;
mod environment;
pub mod error;
pub mod held_dir;
mod inbound;
pub mod intake;
pub mod legacy;
pub mod log;
mod outbound;
mod pair;
pub mod pairing;
pub mod peers;
pub mod protocol;
mod reconcile;
pub mod registry;
pub mod replicator;
pub mod state_file;
pub mod token;
pub mod transport;

pub use clock::Now;
pub use log::Log;
pub use peers::{Peers, PeersConfig};
pub use token::Token;
pub use transport::Transport;
