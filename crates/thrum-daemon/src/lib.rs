//! The daemon process: lock, socket RPC, wiring, health, logs. Contains no protocol details.
//!
//! [`run()`] starts and stops everything in order, and `rpc` serves local clients. The command shares [`paths`],
//! [`worktrees`], [`git`] and [`mod@env`] with the daemon, so that both look in the same places.

mod acknowledged;
mod ambient;
pub mod backup;
mod caller;
pub mod checkup;
mod collisions;
pub mod config;
mod daemon;
pub mod env;
mod forgetting;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod git;
mod git_state;
mod git_sync;
mod guard;
mod hold;
mod identity;
mod large;
pub mod layout;
mod listen;
pub mod lock;
mod logging;
pub mod notes;
mod origin;
pub mod paths;
pub mod pidfile;
pub mod preview;
mod private_files;
mod process;
mod programs;
mod rpc;
mod run;
pub mod sandbox;
mod shutdown;
mod signs_of_life;
mod storage;
mod store_log;
mod tailnet;
mod waiters;
mod wake_registry;
pub mod worktrees;

pub use ambient::now;
pub use logging::LogFormat;
pub use process::begun as process_begun;
pub use rpc::methods::METHODS;
pub use run::{RunOptions, run};
