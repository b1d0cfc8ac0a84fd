//! Examines and repairs a database from outside its daemon.

use std::{
    fs::{self, OpenOptions as FileOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use thrum_core::{Error, ErrorKind, name::printable};
use thrum_store::{Checkup, Condition, OpenOptions, Salvaged, Store, StoreError, reindex, salvage};
use thrum_sync::registry::Registry;

use crate::{
    ambient::System,
    backup::{Unfinished, Why, replace, undo},
    identity::{self, Claim, Identity},
    lock, origin,
    paths::Repo,
    private_files,
};

/// Examines the database of `repo`, whether or not its daemon runs; `None` if there is no database yet. `scratch` is a
/// private directory with room for a copy.
///
/// # Errors
/// Those of [`lost`] and of [`Checkup::examine`].
pub fn examine(repo: &Repo, scratch: &Path) -> Result<Option<Checkup>, Error> {
    if let Some(why) = lost(repo)? {
        return Ok(Some(Checkup::damaged(vec![why.to_owned()])));
    }
    Ok(Checkup::examine(&repo.database(), scratch, Box::new(System))?)
}

/// Checks whether the daemon of `repo` would accept its state as its own at the next start.
///
/// # Errors
/// The error of that start: `refused` if `.thrum` is a copy of another daemon's, or if git tracks its state, so that it
/// may have come with the cloned repository; `failed` for a damaged identity.
pub fn is_own(repo: &Repo) -> Result<(), Error> {
    origin::check(repo)?;
    identity::check(repo)
}

/// Describes the loss if the database that the daemon last had open is missing or empty, or if only its write-ahead log
/// remains; `None` otherwise.
///
/// # Errors
/// `failed` if the identity file is damaged; file system errors.
pub fn lost(repo: &Repo) -> Result<Option<&'static str>, Error> {
    // A write-ahead log without a database also counts as a loss: it may be all that is left of a former database, and
    // SQLite would delete it when it creates a new one.
    if !identity::has_left(repo)? && !has_log(repo) {
        return Ok(None);
    }
    let database = repo.database();
    if !database.try_exists().unwrap_or(true) {
        return Ok(Some("the file is gone"));
    }
    Ok(fs::metadata(database).is_ok_and(|about| about.len() == 0).then_some("the file is empty"))
}

/// Returns `true` if the database's write-ahead log is not empty.
fn has_log(repo: &Repo) -> bool {
    fs::metadata(repo.var().join("messages.db-wal")).is_ok_and(|about| about.len() > 0)
}

/// Rebuilds the projection and the heads from the log, while holding the daemon's lock.
///
/// # Errors
/// `refused` while the daemon runs; any error that keeps the daemon from starting.
pub fn rebuild_projection(repo: &Repo) -> Result<(), Error> {
    let _lock = lock::acquire(repo)?;
    undo(repo)?;
    let mut identity = Identity::load(repo, Claim::None, &mut System)?;
    let mut options = OpenOptions::new(identity.key().clone(), identity.left());
    options.new_log = identity.new_log;
    let mut store = Store::open(&repo.database(), options, Box::new(System))?;
    identity.record(&store.fingerprint())?;
    Ok(store.repair()?)
}

/// The result of repairing a database.
#[derive(Clone, Debug)]
pub enum RepairOutcome {
    /// No repair was needed.
    Whole,
    /// Only the indexes were rebuilt.
    Indexes,
    /// The whole database was rebuilt.
    Rebuilt(Rebuilt),
}

/// A database that was rebuilt from the readable parts of a damaged one.
#[derive(Clone, Debug)]
pub struct Rebuilt {
    /// The id of the database's daemon.
    pub daemon: String,
    /// What was saved and what was lost.
    pub salvaged: Salvaged,
    /// The path at which the damaged database is kept; `None` if there was no file.
    pub former: Option<PathBuf>,
    /// The names of the peers that are asked for everything at the next start; `None` if the registry cannot be read.
    pub peers: Option<Vec<String>>,
}

/// Repairs the database of `repo`, while holding the daemon's lock. Builds a new database from the readable parts, puts
/// it in place, and keeps the damaged one beside it. Rebuilds only the indexes if nothing else is damaged, and does
/// nothing if there is no damage any more. After a rebuild, the next start reads all peers from the beginning.
///
/// # Errors
/// `refused` while the daemon runs, and for a database of another program; `try_again` if no space is left; `failed` if
/// the file contains no event and no peer is known; errors of the identity file. After an error the damaged database is
/// in its place, except in the two cases that `replace` in `backup/replace.rs` names.
pub fn rebuild(repo: &Repo) -> Result<RepairOutcome, Error> {
    let _lock = lock::acquire(repo)?;
    let database = repo.database();
    undo(repo)?;
    // The previous holder of the lock may have repaired the database, or replaced it.
    if lost(repo)?.is_none() {
        match Condition::of(&database)? {
            Condition::Whole => return Ok(RepairOutcome::Whole),
            Condition::Indexes if reindex(&database)? => return Ok(RepairOutcome::Indexes),
            Condition::Indexes | Condition::Damaged => {}
        }
    }
    let identity = Identity::load(repo, Claim::None, &mut System)?;
    let next = Unfinished(repo.var().join(format!("messages.db.{}.salvaging", std::process::id())));
    let made = FileOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next.0);
    made.map_err(|error| private_files::io_error("write", &next.0, &error))?;
    let options = OpenOptions::new(identity.key().clone(), identity.left());
    let salvaged = if database.exists() || has_log(repo) {
        salvage(&database, &next.0, options, Box::new(System))?
    } else {
        Store::open(&next.0, OpenOptions { new_log: true, ..options }, Box::new(System))?.close()?;
        Salvaged::default()
    };
    if salvaged.is_foreign {
        return Err(StoreError::Foreign.into());
    }
    let daemon = identity.key().id().to_string();
    // An error in `peers.json` is reported where peers are shown.
    let peers: Option<Vec<String>> = Registry::open(repo.peers_file(), &daemon)
        .map(|registry| registry.peers().iter().map(|peer| printable(&peer.name)).collect())
        .ok();
    if salvaged.events == 0 && peers.as_ref().is_none_or(Vec::is_empty) {
        if peers.is_none() {
            let text = format!(
                "nothing in the file is an event, and {} cannot be read: it was left as it is",
                repo.peers_file().display()
            );
            return Err(Error::new(ErrorKind::Failed, text)
                .hint("Mend that file first, or put a backup in place of the database: thrum restore FILE"));
        }
        return Err(Error::new(
            ErrorKind::Failed,
            "nothing in the file is an event, and no peer has any: it was left as it is",
        )
        .hint("Put a backup in its place: thrum restore FILE"));
    }
    let former = replace(&database, &next.0, Why::Damaged)?;
    Ok(RepairOutcome::Rebuilt(Rebuilt { daemon, salvaged, former, peers }))
}
