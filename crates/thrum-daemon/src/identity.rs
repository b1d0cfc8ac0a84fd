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
            Some(record) if record.path == here => Ok(Self { file, record, new_log: false }),
            Some(record) => {
                let whereabouts = whereabouts(Path::new(&record.path), &record.key.id(), &file)?;
                if whereabouts == Whereabouts::Both && claim == Claim::None {
                    return Err(copied(&record.path, &here));
                }
                Ok(Self { file, record: Record { path: here, ..record }, new_log: whereabouts != Whereabouts::Same })
            }
        }
    }

    fn create(file: PathBuf, path: String, new_log: bool, ambient: &mut dyn Ambient) -> Result<Self, Fault> {
        let key = DaemonKey::generate(ambient);
        let record =
            Record { daemon_id: key.id().to_string(), key, path, log_id: String::new(), open_counter: 0, sequence: 0, rest: Map::new() };
        let identity = Self { file, record, new_log };
        identity.save()?;
        Ok(identity)
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
        disk::write_private(&self.file, &json)
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
mod tests {
    use super::*;
    use crate::ambient::System;

    struct World {
        _guard: tempfile::TempDir,
        dir: PathBuf,
    }

    impl World {
        fn new() -> Self {
            let guard = tempfile::tempdir().unwrap();
            let dir = fs::canonicalize(guard.path()).unwrap();
            Self { _guard: guard, dir }
        }

        fn repo(&self, name: &str) -> Repo {
            fs::create_dir_all(self.dir.join(name)).unwrap();
            Repo::create(&self.dir.join(name), None).unwrap()
        }

        /// A daemon that was started once in `name`, and whose database was opened as the seventh time.
        fn started(&self, name: &str) -> (Repo, DaemonId) {
            let repo = self.repo(name);
            let mut identity = load(&repo, Claim::None).unwrap();
            identity.record(&left()).unwrap();
            (repo, identity.key().id())
        }

        fn copy(&self, from: &Repo, name: &str) -> Repo {
            let to = self.repo(name);
            fs::create_dir(to.node_dir()).unwrap();
            for file in ["daemon.json", "peers.json"] {
                let _ = fs::copy(from.var().join(file), to.var().join(file));
            }
            to
        }
    }

    fn left() -> Left {
        Left { log_id: "0123456789abcdef".into(), counter: 7, sequence: 21 }
    }

    fn load(repo: &Repo, claim: Claim) -> Result<Identity, Fault> {
        Identity::load(repo, claim, &mut System)
    }

    #[test]
    fn an_identity_is_made_once_and_found_again_with_what_was_left() {
        let world = World::new();
        let repo = world.repo("a");
        let first = load(&repo, Claim::None).unwrap();
        assert_eq!((first.left(), first.new_log), (None, false));
        let (repo, id) = world.started("a");
        assert_eq!(id, first.key().id());
        let again = load(&repo, Claim::None).unwrap();
        assert_eq!((again.key().id(), again.left(), again.new_log), (id, Some(left()), false));
        assert_eq!(fs::metadata(repo.identity_file()).unwrap().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn how_far_the_log_went_is_noted_when_the_daemon_stops() {
        let world = World::new();
        let (repo, _) = world.started("a");
        let (_commits, seen) = watch::channel(Commit { log: left().log_id.into(), latest: left().sequence + 9, ..Commit::default() });
        let shutdown = Shutdown::default();
        shutdown.spawn(follow(load(&repo, Claim::None).unwrap(), seen, shutdown.clone()));
        assert_eq!(shutdown.drain(limits::DRAIN).await, 0);
        assert_eq!(load(&repo, Claim::None).unwrap().left(), Some(Left { sequence: left().sequence + 9, ..left() }));
    }

    #[test]
    fn unknown_keys_survive_a_write() {
        let world = World::new();
        let (repo, _) = world.started("a");
        let mut json: Map<String, Value> = serde_json::from_slice(&fs::read(repo.identity_file()).unwrap()).unwrap();
        json.insert("from_the_future".into(), serde_json::json!({"kept": 1}));
        fs::write(repo.identity_file(), serde_json::to_vec(&json).unwrap()).unwrap();
        load(&repo, Claim::None).unwrap().record(&Left { counter: 8, ..left() }).unwrap();
        let json: Map<String, Value> = serde_json::from_slice(&fs::read(repo.identity_file()).unwrap()).unwrap();
        assert_eq!((&json["from_the_future"], &json["open_counter"]), (&serde_json::json!({"kept": 1}), &8.into()));
    }

    #[test]
    fn c28_a_copy_does_not_start_until_the_user_says_which_one_is_the_daemon() {
        let world = World::new();
        let (original, id) = world.started("a");
        let copy = world.copy(&original, "b");
        let fault = load(&copy, Claim::None).err().expect("refused");
        assert_eq!(fault.kind, ErrorKind::Refused);
        assert!(fault.message.contains(&original.thrum_dir().display().to_string()), "{fault}");
        assert!(fault.hint.unwrap().contains("--new-identity"));
        load(&original, Claim::None).expect("the original is not concerned");

        let moved = load(&copy, Claim::Moved).unwrap();
        assert_eq!((moved.key().id(), moved.new_log), (id, true));
    }

    #[test]
    fn a_copy_with_a_new_identity_has_a_key_and_a_log_of_its_own_and_no_peers() {
        let world = World::new();
        let (original, id) = world.started("a");
        fs::write(original.peers_file(), "{}").unwrap();
        fs::create_dir(original.node_dir()).unwrap();
        let copy = world.copy(&original, "b");
        let fresh = load(&copy, Claim::NewIdentity).unwrap();
        assert_ne!(fresh.key().id(), id);
        assert_eq!((fresh.left(), fresh.new_log), (None, true));
        assert!(!copy.peers_file().exists() && original.peers_file().exists());
        assert!(!copy.node_dir().exists() && original.node_dir().exists(), "two processes would be one node");
        assert_eq!(load(&copy, Claim::None).unwrap().key().id(), fresh.key().id(), "the next start asks nothing");
    }

    #[test]
    fn a_moved_repository_keeps_its_key_and_begins_a_new_log_until_that_is_recorded() {
        let world = World::new();
        let (original, id) = world.started("a");
        let moved = world.copy(&original, "b");
        fs::remove_dir_all(original.root()).unwrap();
        for _ in 0..2 {
            let identity = load(&moved, Claim::None).unwrap();
            assert_eq!((identity.key().id(), identity.new_log), (id.clone(), true), "a crash before the record changes nothing");
        }
        load(&moved, Claim::None).unwrap().record(&left()).unwrap();
        assert!(!load(&moved, Claim::None).unwrap().new_log);
    }

    #[test]
    fn another_name_of_the_same_place_is_no_move() {
        let world = World::new();
        let (repo, id) = world.started("a");
        std::os::unix::fs::symlink(repo.thrum_dir(), world.dir.join("alias")).unwrap();
        let text = fs::read_to_string(repo.identity_file()).unwrap();
        let renamed = text.replace(&repo.thrum_dir().display().to_string(), &world.dir.join("alias").display().to_string());
        assert_ne!(renamed, text);
        fs::write(repo.identity_file(), renamed).unwrap();
        let identity = load(&repo, Claim::None).unwrap();
        assert_eq!((identity.key().id(), identity.new_log), (id, false));
    }

    #[test]
    fn a_damaged_file_is_an_error_that_shows_no_key_and_names_the_way_out() {
        let world = World::new();
        let (repo, id) = world.started("a");
        let text = fs::read_to_string(repo.identity_file()).unwrap();
        fs::write(repo.identity_file(), &text[..text.len() / 2]).unwrap();
        let fault = load(&repo, Claim::None).err().expect("damaged");
        assert_eq!((fault.kind, fault.message), (ErrorKind::Failed, format!("{} is damaged", repo.identity_file().display())));
        assert_ne!(load(&repo, Claim::NewIdentity).unwrap().key().id(), id);
    }
}
