//! Tests peers against recorded lines of Go Thrum, over real sockets, and by the hundreds in simulated faults. The log
//! is the real one, in SQLite.

#![expect(clippy::unwrap_used, reason = "clippy knows tests by their attribute, and not what they share")]

mod abuse;
mod ahead;
mod bad_input;
mod by_hand;
mod costly;
mod crowd;
mod go;
mod go_peer;
mod goodbye;
mod heads;
mod intake;
mod joining;
mod kit;
mod legacy;
mod liars;
mod life;
mod local_only;
mod long_lines;
mod nodes;
mod pake;
mod peers;
mod proofs;
mod same_key;
mod server;
mod sim;
mod simulation;
mod stand;
mod tailnet;
mod transcripts;
mod ways;
