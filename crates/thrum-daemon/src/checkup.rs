//! Looking after a database from outside its daemon.

use std::path::Path;

use thrum_core::Fault;
use thrum_store::{Checkup, OpenOptions, Store};

use crate::{
    ambient::System,
    identity::{Claim, Identity},
    lock,
    paths::Repo,
};

/// Examines the database of `repo`, whether or not its daemon runs; `None` if there is none yet. `scratch` is a private
/// directory with room for a copy.
///
/// # Errors
/// Those of [`Checkup::examine`].
pub fn examine(repo: &Repo, scratch: &Path) -> Result<Option<Checkup>, Fault> {
    Ok(Checkup::examine(&repo.database(), scratch, Box::new(System))?)
}

/// Makes the projection and the heads anew from the log. Holds the daemon's lock meanwhile.
///
/// # Errors
/// `refused` while the daemon runs; whatever keeps it from starting.
pub fn mend(repo: &Repo) -> Result<(), Fault> {
    let _lock = lock::acquire(repo)?;
    let mut identity = Identity::load(repo, Claim::None, &mut System)?;
    let mut options = OpenOptions::new(identity.key().clone(), identity.left());
    options.new_log = identity.new_log;
    let mut store = Store::open(&repo.database(), options, Box::new(System))?;
    identity.record(&store.left())?;
    Ok(store.mend()?)
}
