//! JSON-RPC 2.0 on the local socket, one object per line, as in Go Thrum.
//!
//! [`lines`] reads lines, [`envelope`] parses them, [`connection`] serves one client, and [`server`] accepts clients.
//! `methods` contains the methods.

pub(crate) mod connection;
pub(crate) mod envelope;
pub(crate) mod lines;
pub(crate) mod methods;
pub(crate) mod server;
