//! A [`Transport`](thrum_sync::Transport) over a tailnet, through the LocalAPI of a `tailscaled`.
//!
//! This crate knows no events, peers or tokens: it transports bytes and identifies the node at the other end. It never
//! stops the daemon, and delays only its shutdown. Every problem is reported as a [`State`] with a sentence, and the
//! transport recovers by itself once the problem is solved, unless a setting of the daemon must change.
//!
//! Two kinds of node share one client ([`localapi`]) and one watcher (`follow.rs`):
//!
//! * **host**: the machine's own node, which the daemon does not manage but only watches and listens on (`host.rs`).
//! * **own**: a private `tailscaled` in userspace, without root, which the daemon starts, logs in and ends (`own.rs`).
//!
//! One pure function maps the answers of a `tailscaled` to a [`State`] (`state.rs`). Three facts make the rest
//! difficult:
//!
//! * A userspace node forwards connections to loopback, to any port. The caller of every connection must therefore be
//!   looked up: a local program is refused on the tailnet's port, a node on the local one (`guard.rs`).
//! * The node's address and state change while connections are open.
//! * A `tailscaled` outlives a daemon that is killed.

mod address;
mod config;
mod follow;
mod guard;
mod host;
mod hub;
mod listener;
pub mod localapi;
mod login;
mod own;
mod state;
mod status;
mod tailnet;
mod transport;

pub use config::{AuthKey, Config, DEFAULT_CONTROL_URL, Mode};
pub use state::State;
pub use status::{Refused, Status};
pub use tailnet::Tailnet;
