//! Peers: pairing, the wire, replication and its schedule, over a [`Transport`].
//!
//! No SQL, no Tailscale: the log is seen through [`Log`], the network through [`Transport`], clock and randomness through
//! [`thrum_core::Ambient`]. The decisions ([`replicator`], [`pairing`], [`server`]) are functions of their inputs; only
//! [`service`], [`conn`] and the transports do I/O.

pub mod backoff;
pub mod clock;
pub mod conn;
pub mod held_dir;
pub mod intake;
pub mod legacy;
pub mod log;
pub mod pairing;
pub mod registry;
pub mod replicator;
pub mod server;
pub mod service;
pub mod state_file;
pub mod token;
pub mod transport;
pub mod wire;

pub use clock::Now;
pub use log::Log;
pub use service::{Peers, PeersConfig};
pub use token::Token;
pub use transport::Transport;
