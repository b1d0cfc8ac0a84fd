//! The daemon process: lock, socket RPC, wiring, health, logs. No protocol detail.

mod disk;
pub mod env;
pub mod paths;
pub mod pidfile;
