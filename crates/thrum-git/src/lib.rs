//! One more way to exchange events: through a git remote that several clones share. No peers, no tokens.
//!
//! Every daemon has one ref on the remote, which nobody else writes. Its tip is a commit whose tree holds a signed
//! [`manifest`] and an index of the segments that the daemon publishes. The parents of the tip are commits
//! with these segments (`repository.rs`). The tip is replaced with every push, so the remote keeps no history.
//! [`Exchange`] fetches all refs, stores the events that are missing here, and pushes what is missing there; `plan.rs`
//! decides what that is.
//!
//! Git is run as a program (`process.rs`), so that the user's credentials and proxies work. Objects and refs are in a
//! repository of our own; the user's repository is only asked for its settings.

/// The beginning of the names of our refs, unless another one is set.
pub const PREFIX: &str = "refs/thrum/";

mod error;
mod exchange;
mod exposure;
pub mod limits;
pub mod manifest;
#[cfg(feature = "test-util")]
pub mod memory;
mod mirror;
mod plan;
mod process;
mod repository;
mod schedule;
pub mod seal;
mod segment;

pub use error::GitError;
pub use exchange::{Exchange, Me, Published, Report, Seen, SeenState, Signer, Trust};
pub use exposure::{Exposure, addresses, exposure};
pub use mirror::{Mirror, Pushed};
pub use process::Stop;
pub use repository::{Remote, Repository, default_remote, is_remote};
pub use schedule::Schedule;
