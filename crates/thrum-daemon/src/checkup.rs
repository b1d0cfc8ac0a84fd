//! Looking after a database from outside its daemon.

use std::{
    fs::{self, OpenOptions as FileOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use thrum_core::{ErrorKind, Fault, name::printable};
use thrum_store::{Checkup, Condition, OpenOptions, Salvaged, Store, StoreError, reindex, salvage};
use thrum_sync::registry::Registry;

use crate::{
    ambient::System,
    backup::{Unfinished, Why, replace, undo},
    disk,
    identity::{self, Claim, Identity},
    lock,
    paths::Repo,
};

/// Examines the database of `repo`, whether or not its daemon runs; `None` if there is none yet. `scratch` is a private
/// directory with room for a copy.
///
/// # Errors
/// Those of [`Checkup::examine`].
pub fn examine(repo: &Repo, scratch: &Path) -> Result<Option<Checkup>, Fault> {
    if let Some(why) = lost(repo)? {
        return Ok(Some(Checkup::damaged(vec![why.to_owned()])));
    }
    Ok(Checkup::examine(&repo.database(), scratch, Box::new(System))?)
}

/// Whether the database that the daemon left is gone, or nothing is in it; in words.
///
/// # Errors
/// The daemon's own file is damaged; those of the file system.
pub fn lost(repo: &Repo) -> Result<Option<&'static str>, Fault> {
    // Opened, it would take the log along that lies beside it, which may be all that is left of another.
    if !identity::has_left(repo)? && !has_log(repo) {
        return Ok(None);
    }
    let database = repo.database();
    if !database.try_exists().unwrap_or(true) {
        return Ok(Some("the file is gone"));
    }
    Ok(fs::metadata(database).is_ok_and(|about| about.len() == 0).then_some("the file is empty"))
}

/// Whether there is something in the database's write-ahead log.
fn has_log(repo: &Repo) -> bool {
    fs::metadata(repo.var().join("messages.db-wal")).is_ok_and(|about| about.len() > 0)
}

/// Makes the projection and the heads anew from the log. Holds the daemon's lock meanwhile.
///
/// # Errors
/// `refused` while the daemon runs; whatever keeps it from starting.
pub fn mend(repo: &Repo) -> Result<(), Fault> {
    let _lock = lock::acquire(repo)?;
    undo(repo)?;
    let mut identity = Identity::load(repo, Claim::None, &mut System)?;
    let mut options = OpenOptions::new(identity.key().clone(), identity.left());
    options.new_log = identity.new_log;
    let mut store = Store::open(&repo.database(), options, Box::new(System))?;
    identity.record(&store.left())?;
    Ok(store.mend()?)
}

/// What was done about a damaged database.
#[derive(Clone, Debug)]
pub enum Mended {
    /// Nothing: it is whole.
    Whole,
    /// Its indexes were made anew.
    Indexes,
    /// All of it was.
    Rebuilt(Rebuilt),
}

/// A database that was made anew from what could be read of a damaged one.
#[derive(Clone, Debug)]
pub struct Rebuilt {
    /// Whose it is.
    pub daemon: String,
    /// What was saved, and what not.
    pub salvaged: Salvaged,
    /// Where the damaged database is kept.
    pub former: Option<PathBuf>,
    /// The peers that are asked for everything at the next start, by name; `None` if that cannot be read.
    pub peers: Option<Vec<String>>,
}

/// Makes a new database from what can be read of the one of `repo`, puts it in its place, and keeps the damaged one beside; only
/// its indexes where nothing else is damaged, and nothing where nothing is any more. The daemon's lock is held meanwhile. At its
/// next start peers are read from their beginning.
///
/// # Errors
/// `refused` while the daemon runs, and for a database of another program; no room; `failed` where nothing in the file is an event.
/// Then the database is as it was.
pub fn rebuild(repo: &Repo) -> Result<Mended, Fault> {
    let _lock = lock::acquire(repo)?;
    let database = repo.database();
    undo(repo)?;
    // Whoever had the lock until now may have mended it, or put another in its place.
    if lost(repo)?.is_none() {
        match Condition::of(&database)? {
            Condition::Whole => return Ok(Mended::Whole),
            Condition::Indexes if reindex(&database)? => return Ok(Mended::Indexes),
            Condition::Indexes | Condition::Damaged => {}
        }
    }
    let identity = Identity::load(repo, Claim::None, &mut System)?;
    let next = Unfinished(repo.var().join(format!("messages.db.{}.salvaging", std::process::id())));
    let made = FileOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next.0);
    made.map_err(|error| disk::fault("write", &next.0, &error))?;
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
    // What is wrong with that file is told where peers are looked at.
    let peers: Option<Vec<String>> =
        Registry::open(repo.peers_file(), &daemon).map(|registry| registry.peers().iter().map(|peer| printable(&peer.name)).collect()).ok();
    if salvaged.events == 0 && peers.as_ref().is_none_or(Vec::is_empty) {
        if peers.is_none() {
            let text = format!("nothing in the file is an event, and {} cannot be read: it was left as it is", repo.peers_file().display());
            return Err(Fault::new(ErrorKind::Failed, text)
                .hint("Mend that file first, or put a backup in place of the database: thrum restore FILE"));
        }
        return Err(Fault::new(ErrorKind::Failed, "nothing in the file is an event, and no peer has any: it was left as it is")
            .hint("Put a backup in its place: thrum restore FILE"));
    }
    let former = replace(&database, &next.0, Why::Damaged)?;
    Ok(Mended::Rebuilt(Rebuilt { daemon, salvaged, former, peers }))
}
