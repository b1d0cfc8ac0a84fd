//! [`Transport`](thrum_sync::Transport) on a tailnet, through the LocalAPI of a `tailscaled`.
//!
//! No events, no peers, no tokens: bytes, and whose node is at the other end. Nothing here stops the daemon or makes it wait;
//! whatever is wrong is a [`State`] with a sentence, and it recovers by itself once that is mended.
//!
//! Two kinds of node share one client ([`localapi`]) and one watcher (`follow.rs`):
//!
//! * **host**: the machine's own node, run by somebody else. We only look and listen (`host.rs`).
//! * **own**: a private `tailscaled` in userspace, without root, which we run, log in and end (`own.rs`).
//!
//! What a `tailscaled` says becomes a [`State`] in one pure function (`state.rs`). The trouble comes from three facts:
//! a userspace node hands connections on to loopback, whatever the port, so that every connection must be asked for its caller: a
//! program of this machine is turned away from the tailnet's port, a node from the local one (`guard.rs`); the node's address and state change while connections are open; and a `tailscaled` outlives
//! us when we are killed.

mod address;
mod config;
mod follow;
mod guard;
mod host;
mod hub;
mod listener;
pub mod localapi;
mod own;
mod state;
mod status;
mod tailnet;
mod transport;

pub use config::{AuthKey, Config, DEFAULT_CONTROL_URL, Mode};
pub use state::State;
pub use status::{Refused, Status};
pub use tailnet::Tailnet;
