//! The daemon as a process, spoken to over its socket.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod agents;
mod boundary;
#[cfg(target_os = "linux")]
mod callers;
mod compare;
mod compatibility;
mod crowd;
mod differences;
mod go_client;
mod go_peer;
mod harness;
mod lifecycle;
mod mail;
mod news;
mod notes;
mod peers;
mod recorded;
mod strangers;
