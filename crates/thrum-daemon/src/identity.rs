//! `daemon.json`: the daemon's key, and what recognises the database and the place it belongs to.
//!
//! The key is the daemon's name in every event it ever signed, so it must exist once. Two things break that rule from
//! outside. Somebody copies a repository with its `.thrum`: then two daemons would sign as one. Somebody restores or
//! replaces the database: then numbers would be given out twice under one log. The second is the store's to notice, by what
//! is written here ([`Left`]); the first is ours:
//!
//! * the path is as recorded, or the recorded path leads to this very file: nothing happened;
//! * at the recorded path there is no daemon with this key any more: moved. The log begins anew, because a backup that was
//!   unpacked elsewhere looks the same;
//! * at the recorded path lies the same key: a copy. Which of the two is the daemon only the user knows, so we refuse to
//!   start until told: `--moved` (this one is) or `--new-identity` (this one becomes a daemon of its own).

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thrum_core::{Ambient, DaemonId, DaemonKey, ErrorKind, Fault, exchange::Commit, limits};
use thrum_store::Left;
use thrum_sync::held_dir::HeldDir;
use tokio::{sync::watch, time::sleep};

use crate::{disk, paths::Repo, shutdown::Shutdown};

/// What the user said about a copied `.thrum`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Nothing: refuse if in doubt.
    #[default]
    None,
    /// This place is the daemon's now.
    Moved,
    /// This place gets a daemon of its own.
    NewIdentity,
}

/// The file's content. Keys we do not know are kept.
#[derive(Clone, Serialize, Deserialize)]
struct Record {
    key: DaemonKey,
    /// For people; the key decides.
    daemon_id: String,
    path: String,
    #[serde(default)]
    log_id: String,
    #[serde(default)]
    open_counter: u64,
    #[serde(default)]
    sequence: u64,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Who this daemon is.
pub(crate) struct Identity {
    file: PathBuf,
    directory: HeldDir,
    record: Record,
    /// Whether a new log must begin, whatever the database says.
    pub(crate) new_log: bool,
}

impl Identity {
    /// Reads the identity of the daemon in `repo`, or makes one and writes it before it is used.
    ///
    /// # Errors
    /// `refused` for a copy without a claim; `failed` for a damaged file; those of the file system.
    pub(crate) fn load(repo: &Repo, claim: Claim, ambient: &mut dyn Ambient) -> Result<Self, Fault> {
        let file = repo.identity_file();
        let here = repo.thrum_dir().to_string_lossy().into_owned();
        close_to_others(&file)?;
        let found = match read(&file) {
            Err(fault) if claim == Claim::NewIdentity => {
                tracing::warn!("{fault}: set aside for a new identity");
                set_aside(&file)?;
                None
            }
            found => found?,
        };
        match found {
            Some(_) if claim == Claim::NewIdentity => {
                set_aside(&file)?;
                // Its tokens, its name there and its node on a tailnet belong to the daemon this one was copied from.
                set_aside(&repo.peers_file())?;
                set_aside(&repo.node_dir())?;
                Self::create(file, here, true, ambient)
            }
            None => Self::create(file, here, repo.database().exists(), ambient),
            Some(record) if record.path == here => Self::of(file, record, false),
            Some(record) => {
                let whereabouts = whereabouts(Path::new(&record.path), &record.key.id(), &file)?;
                if whereabouts == Whereabouts::Both && claim == Claim::None {
                    return Err(copied(&record.path, &here));
                }
                Self::of(file, Record { path: here, ..record }, whereabouts != Whereabouts::Same)
            }
        }
    }

    fn create(file: PathBuf, path: String, new_log: bool, ambient: &mut dyn Ambient) -> Result<Self, Fault> {
        let key = DaemonKey::generate(ambient);
        let record =
            Record { daemon_id: key.id().to_string(), key, path, log_id: String::new(), open_counter: 0, sequence: 0, rest: Map::new() };
        let identity = Self::of(file, record, new_log)?;
        identity.save()?;
        Ok(identity)
    }

    fn of(file: PathBuf, record: Record, new_log: bool) -> Result<Self, Fault> {
        let (directory, _) = HeldDir::of(&file).map_err(|error| disk::fault("write", &file, &error))?;
        Ok(Self { file, directory, record, new_log })
    }

    /// The daemon's key.
    pub(crate) fn key(&self) -> &DaemonKey {
        &self.record.key
    }

    /// What stood beside the database when it was last open; `None` before the first time.
    pub(crate) fn left(&self) -> Option<Left> {
        let Record { log_id, open_counter, sequence, .. } = &self.record;
        (!log_id.is_empty()).then(|| Left { log_id: log_id.clone(), counter: *open_counter, sequence: *sequence })
    }

    /// Writes down which database is open now; durable on return.
    pub(crate) fn record(&mut self, left: &Left) -> Result<(), Fault> {
        // Also if the write fails: it will not succeed by trying at every commit.
        (self.record.log_id, self.record.open_counter, self.record.sequence) = (left.log_id.clone(), left.counter, left.sequence);
        self.new_log = false;
        self.save()
    }

    fn save(&self) -> Result<(), Fault> {
        let json = serde_json::to_vec_pretty(&self.record).map_err(|error| disk::fault("write", &self.file, &error.into()))?;
        let name = Path::new(self.file.file_name().unwrap_or_default());
        self.directory.replace(name, &json).map_err(|error| disk::fault("write", &self.file, &error))
    }
}

/// Writes down when the log begins anew while the daemon runs, which a peer's copy of our own events can cause, and now and
/// then how far it went.
pub(crate) async fn follow(mut identity: Identity, mut commits: watch::Receiver<Commit>, shutdown: Shutdown) {
    let mut goes_on = true;
    while goes_on {
        tokio::select! {
            changed = commits.wait_for(|commit| *commit.log != *identity.record.log_id) => if changed.is_err() { return },
            () = sleep(limits::NOTE_LOG_END) => {}
            () = shutdown.stopping() => goes_on = false,
        }
        let Commit { log, latest, .. } = commits.borrow().clone();
        let is_new = *log != *identity.record.log_id;
        if is_new {
            tracing::warn!("the database was not the one we left: log {log} begins");
        }
        if (is_new || latest > identity.record.sequence)
            && let Err(fault) = identity.record(&Left { log_id: log.to_string(), counter: identity.record.open_counter, sequence: latest })
        {
            // At the next start the database will not be recognised and begin yet another log, which is safe.
            tracing::error!("{fault}");
        }
    }
}

/// The id of the daemon of `repo`; `None` before its first start.
///
/// # Errors
/// `failed` for a damaged file; those of the file system.
pub(crate) fn known(repo: &Repo) -> Result<Option<String>, Fault> {
    Ok(read(&repo.identity_file())?.map(|record| record.key.id().to_string()))
}

/// Another program may have made the file anew, with the mode of any file. Who runs the daemon has to hear it: the key may be known.
fn close_to_others(file: &Path) -> Result<(), Fault> {
    // A link is refused when it is read.
    if fs::symlink_metadata(file).is_ok_and(|about| about.is_file() && about.mode() & 0o077 != 0) {
        tracing::warn!("{} could be read by others; its mode is 0600 again", file.display());
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).map_err(|error| disk::fault("protect", file, &error))?;
    }
    Ok(())
}

/// Whether the daemon of `repo` ever left a database.
///
/// # Errors
/// As [`known`].
pub(crate) fn has_left(repo: &Repo) -> Result<bool, Fault> {
    Ok(read(&repo.identity_file())?.is_some_and(|record| !record.log_id.is_empty()))
}

fn read(file: &Path) -> Result<Option<Record>, Fault> {
    let Some(bytes) = disk::read_private(file, limits::MAX_SMALL_FILE_BYTES)? else { return Ok(None) };
    // The text of a parse error may quote the key.
    serde_json::from_slice(&bytes).map(Some).map_err(|_| {
        Fault::new(ErrorKind::Failed, format!("{} is damaged", file.display()))
            .hint("Restore it from a backup, or give this daemon a new identity: `thrum daemon start --new-identity`.")
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whereabouts {
    /// The recorded path leads here: another name of the same place.
    Same,
    /// Nothing of this daemon is at the recorded path.
    Moved,
    /// The same key is there, too.
    Both,
}

fn whereabouts(recorded: &Path, id: &DaemonId, file: &Path) -> Result<Whereabouts, Fault> {
    let theirs = recorded.join("var").join("daemon.json");
    let inode = |path: &Path| fs::metadata(path).map(|about| (about.dev(), about.ino())).ok();
    if inode(&theirs).is_some_and(|theirs| Some(theirs) == inode(file)) {
        return Ok(Whereabouts::Same);
    }
    match read(&theirs) {
        Ok(Some(record)) if record.key.id() == *id => Ok(Whereabouts::Both),
        // No such file, another daemon's, or no readable one: nobody can sign there with this key.
        Ok(_) => Ok(Whereabouts::Moved),
        Err(fault) if fault.kind == ErrorKind::Failed => Ok(Whereabouts::Moved),
        // It is there and we may not look: to be sure, the user decides.
        Err(_) => Ok(Whereabouts::Both),
    }
}

fn copied(recorded: &str, here: &str) -> Fault {
    Fault::new(ErrorKind::Refused, format!("{here} was copied from {recorded}, which still has the same identity"))
        .hint("`thrum daemon start --new-identity` makes this a daemon of its own; `--moved` if the other one is no longer used.")
}

fn set_aside(path: &Path) -> Result<(), Fault> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".old");
    match fs::rename(path, &aside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(disk::fault("rename", path, &error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
