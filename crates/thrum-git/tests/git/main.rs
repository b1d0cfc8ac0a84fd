//! Daemons that exchange events through real git remotes.

#![expect(clippy::unwrap_used, reason = "clippy knows tests by their attribute, and not what they share")]

mod exchanges;
mod hostile;
mod place;
mod remotes;
