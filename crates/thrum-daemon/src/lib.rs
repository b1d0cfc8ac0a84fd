//! The daemon process: lock, socket RPC, wiring, health, logs. No protocol detail.
//!
//! [`run()`] starts and stops everything in order; `rpc` serves local clients; [`paths`], [`worktrees`], [`git`] and [`mod@env`] are what the
//! command shares with the daemon so that both look in the same places.

mod acknowledged;
mod ambient;
pub mod backup;
mod bell;
mod caller;
pub mod checkup;
pub mod config;
mod daemon;
mod disk;
pub mod env;
mod forgetting;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod git;
mod hold;
mod identity;
pub mod layout;
mod listen;
pub mod lock;
mod log;
mod logfile;
pub mod notes;
mod origin;
pub mod paths;
pub mod pidfile;
mod presence;
pub mod preview;
mod rpc;
mod run;
pub mod sandbox;
mod shutdown;
mod storage;
mod tailnet;
pub mod worktrees;

pub use rpc::methods::METHODS;
pub use run::{RunOptions, run};
