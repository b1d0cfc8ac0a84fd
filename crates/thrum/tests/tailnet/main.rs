//! Tests of whole daemons on a tailnet without the internet. `tests/tailnet` provides the coordination server and
//! relay; `tailscaled` is the real program.
//!
//! One scenario by hand:  cargo test -p thrum --test tailnet -- own:: --nocapture
//! A tailnet for experiments: tests/tailnet/up
//!
//! Needs Go, and for several machines root on Linux. If a tool is missing, one line of output reports it, and the tests
//! that need the tool pass without running; with CI=true they fail. Each test sets up one tailnet and runs its
//! scenarios one after the other, because the setup is most of the cost. The output of a failed test names its
//! scenarios.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "which scenario it was, and the end of the logs")]

#[path = "../cli/common/mod.rs"]
#[allow(dead_code, reason = "the other tests need more of it")]
mod common;

mod machine;
mod net;
mod spaces;
mod stranger;
mod tools;
mod waiting;

mod host;
mod nodes;
mod own;
