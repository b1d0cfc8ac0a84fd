//! Whole daemons on a tailnet, without the internet: tests/tailnet is its coordination server and relay, `tailscaled` is
//! the real one.
//!
//! One scenario by hand:  cargo test -p thrum --test tailnet -- own:: --nocapture
//! A tailnet to play with: tests/tailnet/up
//!
//! Needs Go, and for several machines root on Linux. What is missing is said in one line, and the tests that need it pass
//! without having run; with CI=true they fail. A test is a tailnet and its scenarios one after the other, because bringing it
//! up is most of the cost; each scenario's name is in the output of a test that fails.

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
