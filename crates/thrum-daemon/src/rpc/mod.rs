//! JSON-RPC 2.0 on the local socket, a line per object, as Go Thrum speaks it.
//!
//! [`lines`] reads, [`envelope`] says what a line means, [`connection`] serves one client, [`server`] accepts them;
//! `methods` is what they can ask for, one file per family.

pub(crate) mod connection;
pub(crate) mod envelope;
pub(crate) mod lines;
pub(crate) mod methods;
pub(crate) mod server;
