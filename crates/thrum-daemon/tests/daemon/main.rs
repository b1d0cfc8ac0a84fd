//! The daemon as a process, spoken to over its socket.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod harness;
mod lifecycle;
mod mail;
mod peers;
mod recorded;
