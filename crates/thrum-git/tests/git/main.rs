//! Daemons that exchange events through real git remotes.

mod exchanges;
mod hostile;
mod place;
mod remotes;
