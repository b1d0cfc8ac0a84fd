//! `daemon.json`: the daemon's key, and the record of the database and the path that belong to it.
//!
//! The key identifies the daemon in every event that it has ever signed, so only one daemon may have it. Two outside
//! actions endanger the signed history. A repository is copied together with its `.thrum`: then two daemons would sign
//! as one. The database is restored or replaced: then origin sequences would be assigned twice in one log. The store
//! detects the second case from the record kept here ([`StoreFingerprint`]). This module detects the first one:
//!
//! * The path is the recorded one, or the recorded path leads to this very file: nothing happened.
//! * There is no daemon with this key at the recorded path any more: the repository was moved. The log begins anew,
//!   because a backup unpacked elsewhere looks the same.
//! * The same key is also at the recorded path, or the file there cannot be read: this repository is, or may be, a
//!   copy. Only the user knows which of the two is the daemon, so the start is refused until the user decides:
//!   `--moved` (this one is the daemon) or `--new-identity` (this one becomes a daemon of its own).

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thrum_core::{Ambient, DaemonKey, Error, ErrorKind, exchange::Commit, limits};
use thrum_store::StoreFingerprint;
use thrum_sync::held_dir::HeldDir;
use tokio::{sync::watch, time::sleep};

use crate::{paths::Repo, private_files, shutdown::Shutdown};

/// The user's decision about a copied `.thrum`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Claim {
    /// No decision: refuse if in doubt.
    #[default]
    None,
    /// The daemon now lives at this path.
    Moved,
    /// A new daemon is created at this path.
    NewIdentity,
}

/// The content of `daemon.json`. Unknown keys are kept.
#[derive(Clone, Serialize, Deserialize)]
struct Record {
    key: DaemonKey,
    /// The daemon's id, for people; the key is authoritative.
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

/// The identity of this daemon.
pub(crate) struct Identity {
    file: PathBuf,
    directory: HeldDir,
    record: Record,
    /// `true` if a new log must begin, regardless of the database's content.
    pub(crate) new_log: bool,
}

impl Identity {
    /// Reads the identity of the daemon in `repo`, or creates one and writes it before it is used.
    ///
    /// # Errors
    /// `refused` for a copy without a claim; `failed` for a damaged file; file system errors.
    pub(crate) fn load(repo: &Repo, claim: Claim, ambient: &mut dyn Ambient) -> Result<Self, Error> {
        let file = repo.identity_file();
        let here = repo.thrum_dir().to_string_lossy().into_owned();
        close_to_others(&file)?;
        let found = read(&file);
        if claim == Claim::NewIdentity && !matches!(found, Ok(None)) {
            if let Err(error) = found {
                tracing::warn!(%error, "set the identity file aside for a new identity");
            }
            set_aside(&file)?;
            // These files contain the peers' tokens, this daemon's name at the peers, and its tailnet node. They belong
            // to the former identity: that of the daemon that this one was copied from, or that of the damaged file.
            set_aside(&repo.peers_file())?;
            set_aside(&repo.node_dir())?;
            return Self::create(file, here, true, ambient);
        }
        match found? {
            None => Self::create(file, here, repo.database().exists(), ambient),
            Some(record) if record.path == here => Self::of(file, record, false),
            Some(record) => {
                let new_log = match whereabouts(&record, &file, &here) {
                    Whereabouts::InDoubt(error) if claim == Claim::None => return Err(error),
                    Whereabouts::Same => false,
                    Whereabouts::Moved | Whereabouts::InDoubt(_) => true,
                };
                Self::of(file, Record { path: here, ..record }, new_log)
            }
        }
    }

    fn create(file: PathBuf, path: String, new_log: bool, ambient: &mut dyn Ambient) -> Result<Self, Error> {
        let key = DaemonKey::generate(ambient);
        let record = Record {
            daemon_id: key.id().to_string(),
            key,
            path,
            log_id: String::new(),
            open_counter: 0,
            sequence: 0,
            rest: Map::new(),
        };
        let identity = Self::of(file, record, new_log)?;
        identity.save()?;
        Ok(identity)
    }

    fn of(file: PathBuf, record: Record, new_log: bool) -> Result<Self, Error> {
        let (directory, _) = HeldDir::of(&file).map_err(|error| private_files::io_error("write", &file, &error))?;
        Ok(Self { file, directory, record, new_log })
    }

    /// Returns the daemon's key.
    pub(crate) fn key(&self) -> &DaemonKey {
        &self.record.key
    }

    /// Returns the fingerprint of the database that was last open; `None` if none is recorded: before the first start,
    /// and after a restoration of the key.
    pub(crate) fn left(&self) -> Option<StoreFingerprint> {
        let Record { log_id, open_counter, sequence, .. } = &self.record;
        (!log_id.is_empty()).then(|| StoreFingerprint {
            log_id: log_id.clone(),
            counter: *open_counter,
            sequence: *sequence,
        })
    }

    /// Records which database is open now; durable on return.
    pub(crate) fn record(&mut self, left: &StoreFingerprint) -> Result<(), Error> {
        // Update the record in memory even if the write fails: retrying at every commit would not help.
        (self.record.log_id, self.record.open_counter, self.record.sequence) =
            (left.log_id.clone(), left.counter, left.sequence);
        self.new_log = false;
        self.save()
    }

    fn save(&self) -> Result<(), Error> {
        let json = serde_json::to_vec_pretty(&self.record)
            .map_err(|error| private_files::io_error("write", &self.file, &error.into()))?;
        let name = Path::new(self.file.file_name().unwrap_or_default());
        self.directory.replace(name, &json).map_err(|error| private_files::io_error("write", &self.file, &error))
    }
}

/// Records a new log that begins while the daemon runs, which a peer's copy of our own events can cause. Also records
/// from time to time, and when the daemon stops, how far the log has grown.
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
            tracing::warn!(%log, "the database is not the one that this daemon used last: a new log begins");
        }
        if (is_new || latest > identity.record.sequence)
            && let Err(error) = identity.record(&StoreFingerprint {
                log_id: log.to_string(),
                counter: identity.record.open_counter,
                sequence: latest,
            })
        {
            // If the log is new, the next start does not recognise the database and begins yet another log, which is
            // safe.
            tracing::error!(%error, "cannot save the identity file");
        }
    }
}

/// Returns the id of the daemon of `repo`; `None` before its first start.
///
/// # Errors
/// `failed` for a damaged file; file system errors.
pub(crate) fn known(repo: &Repo) -> Result<Option<String>, Error> {
    Ok(read(&repo.identity_file())?.map(|record| record.key.id().to_string()))
}

/// Checks whether [`Identity::load`] would accept the present state without a claim. Changes nothing.
///
/// # Errors
/// Those of [`Identity::load`].
pub(crate) fn check(repo: &Repo) -> Result<(), Error> {
    let (file, here) = (repo.identity_file(), repo.thrum_dir().to_string_lossy().into_owned());
    match read(&file)?.filter(|record| record.path != here).map(|record| whereabouts(&record, &file, &here)) {
        Some(Whereabouts::InDoubt(error)) => Err(error),
        _ => Ok(()),
    }
}

/// Makes the identity file private again. Another program may have rewritten it with default permissions. The log warns
/// the user, because others may know the key by now.
fn close_to_others(file: &Path) -> Result<(), Error> {
    // A symbolic link is refused later, when the file is read.
    if fs::symlink_metadata(file).is_ok_and(|about| about.is_file() && about.mode() & 0o077 != 0) {
        tracing::warn!(path = %file.display(), "the file could be read by others; its mode is 0600 again");
        fs::set_permissions(file, fs::Permissions::from_mode(0o600))
            .map_err(|error| private_files::io_error("protect", file, &error))?;
    }
    Ok(())
}

/// Returns `true` if the identity file of `repo` records a database.
///
/// # Errors
/// Those of [`known`].
pub(crate) fn has_left(repo: &Repo) -> Result<bool, Error> {
    Ok(read(&repo.identity_file())?.is_some_and(|record| !record.log_id.is_empty()))
}

fn read(file: &Path) -> Result<Option<Record>, Error> {
    let Some(bytes) = private_files::read_private(file, limits::MAX_SMALL_FILE_BYTES)? else { return Ok(None) };
    // The text of a parse error is not shown, because it may quote the key.
    serde_json::from_slice(&bytes).map(Some).map_err(|_| {
        Error::new(ErrorKind::Failed, format!("{} is damaged", file.display()))
            .hint("Restore it from a backup, or give this daemon a new identity: `thrum daemon start --new-identity`.")
    })
}

enum Whereabouts {
    /// The recorded path is another name of this place.
    Same,
    /// There is no daemon with this key at the recorded path.
    Moved,
    /// The same key is also at the recorded path, or the file there cannot be read. The error asks for a decision.
    InDoubt(Error),
}

fn whereabouts(record: &Record, file: &Path, here: &str) -> Whereabouts {
    let recorded = &record.path;
    let theirs = Path::new(recorded).join("var").join("daemon.json");
    let inode = |path: &Path| fs::metadata(path).map(|about| (about.dev(), about.ino())).ok();
    if inode(&theirs).is_some_and(|theirs| Some(theirs) == inode(file)) {
        return Whereabouts::Same;
    }
    let why = match read(&theirs) {
        Ok(Some(other)) if other.key.id() == record.key.id() => {
            format!("{here} was copied from {recorded}, which still has the same identity")
        }
        // There is no such file, or it belongs to another daemon: no daemon there can sign with this key.
        Ok(_) => return Whereabouts::Moved,
        // The same key may be in that file, also if a disk or a file server fails only for the moment.
        Err(error) => {
            format!("{here} was copied or moved from {recorded}, which may still have the same identity: {error}")
        }
    };
    Whereabouts::InDoubt(Error::new(ErrorKind::Refused, why).hint(
        "`thrum daemon start --new-identity` makes this a daemon of its own; `--moved` if the other one is no longer used.",
    ))
}

fn set_aside(path: &Path) -> Result<(), Error> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".old");
    match fs::rename(path, &aside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(private_files::io_error("rename", path, &error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
