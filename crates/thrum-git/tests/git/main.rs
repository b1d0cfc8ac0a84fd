//! Daemons that exchange events through real git remotes.

#![expect(clippy::unwrap_used, reason = "clippy knows tests by their attribute, and not what they share")]

mod conditions;
mod exchanges;
mod git_protocol;
mod hostile;
mod http;
mod inetd;
mod noise;
mod place;
mod remotes;
mod small_disk;
mod ssh;
mod web_server;
