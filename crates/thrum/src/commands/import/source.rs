//! Locates the files of a Go Thrum, and determines its daemon's ids.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use serde_json::Value;
use thrum_core::{Error, ErrorKind, SetDigest, key, limits};
use thrum_store::GoTotals;

use crate::text::{count, quote};

/// The paths of a Go Thrum's files, of which only the database is known to exist.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) database: PathBuf,
    /// The `.thrum` that contains the database; `None` for a database file outside one.
    thrum_dir: Option<PathBuf>,
    /// The identities directory of the named worktree; `None` for a database file outside a `.thrum`.
    pub(super) identities: Option<PathBuf>,
}

impl Source {
    /// Resolves `path`, which may be a repository, a worktree of it, its `.thrum`, or a database file.
    pub(super) fn find(path: &Path) -> Result<Self, Error> {
        let shown = path.display();
        let about = fs::metadata(path).map_err(|error| {
            let kind =
                if error.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Failed };
            Error::new(kind, format!("cannot look at {shown}: {error}"))
                .hint("Name a repository that Go Thrum was used in, its .thrum, or its messages.db.")
        })?;
        if !about.is_dir() {
            let thrum_dir = path.parent().filter(|dir| dir.ends_with("var")).and_then(Path::parent).map(Path::to_owned);
            let identities = thrum_dir.as_ref().map(|dir| dir.join("identities"));
            return Ok(Self { database: path.to_owned(), thrum_dir, identities });
        }
        // A directory with none of these is more likely a repository than a `.thrum`.
        let is_thrum = path.ends_with(".thrum") || path.join("var").is_dir() || path.join("redirect").is_file();
        let within = path.join(".thrum");
        let local = if is_thrum && !within.is_dir() { path.to_owned() } else { within };
        let elsewhere = small_file(&local.join("redirect"))?.map(|target| PathBuf::from(target.trim()));
        let thrum_dir = elsewhere.unwrap_or_else(|| local.clone());
        let database = thrum_dir.join("var/messages.db");
        if !database.is_file() {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("there is no Go Thrum in {shown}: {} is missing", database.display()),
            )
            .hint("Name a repository that Go Thrum was used in, its .thrum, or its messages.db."));
        }
        Ok(Self { database, identities: Some(local.join("identities")), thrum_dir: Some(thrum_dir) })
    }

    /// Checks that no daemon writes to the source now.
    pub(super) fn is_at_rest(&self) -> Result<(), Error> {
        let lock = self.database.with_file_name("thrum.lock");
        let held = File::open(&lock).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)));
        if !held {
            return Ok(());
        }
        // Only our daemon has this file.
        if self.database.with_file_name("daemon.json").is_file() {
            return Err(thrum_store::not_gos(&self.database));
        }
        Err(Error::new(ErrorKind::Refused, format!("a daemon is running on {}", self.database.display()))
            .hint("Stop it with the program it belongs to (`thrum daemon stop` of Go Thrum, there), then repeat this."))
    }

    /// Returns the ids that the source's daemon has used: the `given` ones, those in its files and its database, and
    /// the one that old versions derived from this machine's name, if the log has events of it. If there are none and
    /// the log has a single unsigned origin, that origin is taken.
    pub(super) fn own_ids(&self, given: &[String], totals: &GoTotals) -> Result<Vec<String>, Error> {
        let mut ids = given.to_vec();
        if let Some(dir) = &self.thrum_dir {
            ids.extend(ids_in_files(dir)?);
        }
        ids.extend(totals.own_id.clone());
        let of_this_machine = id_of_this_machine();
        ids.extend(
            totals.origins.iter().map(|(origin, _)| origin).filter(|origin| **origin == of_this_machine).cloned(),
        );
        let mut unsigned =
            totals.origins.iter().map(|(origin, _)| origin).filter(|origin| !key::is_signed_origin(origin));
        if ids.is_empty()
            && let (Some(only), None) = (unsigned.next(), unsigned.next())
        {
            ids.push(only.clone());
        }
        ids.retain(|id| !id.is_empty() && !key::is_signed_origin(id));
        ids.sort();
        ids.dedup();
        if ids.is_empty() && totals.events > 0 {
            let wrote: Vec<_> = totals
                .origins
                .iter()
                .map(|(origin, events)| format!("{} ({})", quote(origin), count(*events, "event")))
                .collect();
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("it is not known which daemon this was: {}", wrote.join(", ")),
            )
            .hint("Say which is your own: --former-id ID"));
        }
        Ok(ids)
    }
}

impl Source {
    /// The `.thrum` that contains the database, if there is one.
    pub(super) fn thrum_dir(&self) -> Option<&Path> {
        self.thrum_dir.as_deref()
    }

    /// The `.thrum` of the named worktree, which has its own identities and notes.
    pub(super) fn local_dir(&self) -> Option<&Path> {
        self.identities.as_deref()?.parent()
    }

    /// The directory with the state of the daemon's tailnet node, if it had one.
    pub(super) fn tailnet_state(&self) -> Option<PathBuf> {
        fs::canonicalize(self.thrum_dir.as_ref()?.join("var/tsnet")).ok()
    }

    /// The text of the source's `peers.json`, which holds secrets; `None` if there is none.
    pub(super) fn peers_json(&self) -> Result<Option<String>, Error> {
        let Some(path) = self.thrum_dir.as_ref().map(|dir| dir.join("var/peers.json")) else { return Ok(None) };
        let refuse =
            |why: String| Err(Error::new(ErrorKind::Refused, format!("{} is not read: {why}", path.display())));
        let about = match fs::symlink_metadata(&path) {
            Ok(about) => about,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return refuse(error.to_string()),
        };
        if about.is_symlink() {
            return refuse("it is a symbolic link".to_owned());
        }
        if !about.is_file() || about.len() > limits::MAX_STATE_FILE_BYTES {
            return refuse("it is no file, or too long for one of peers".to_owned());
        }
        fs::read_to_string(&path).map(Some).or_else(|error| refuse(error.to_string()))
    }
}

/// Returns the id under which peers know a daemon whose `peers.json` does not contain it: its only id or, of several,
/// the one derived from this machine's name, as v0.5.9 derived it at every start.
pub(super) fn known_as(own_ids: &[String]) -> Option<&String> {
    let of_this_machine = id_of_this_machine();
    match own_ids {
        [only] => Some(only),
        several => several.iter().find(|id| **id == of_this_machine),
    }
}

/// Returns the ids of the daemon that a `.thrum` names in its `peers.json` and in its settings, as far as it has them.
///
/// # Errors
/// `refused` for a file that cannot be read.
pub(super) fn ids_in_files(thrum_dir: &Path) -> Result<Vec<String>, Error> {
    let mut ids = Vec::new();
    for (file, pointer) in [("var/peers.json", "/local/daemon_id"), ("config.json", "/identity/daemon_id")] {
        let said = small_file(&thrum_dir.join(file))?.and_then(|text| serde_json::from_str::<Value>(&text).ok());
        ids.extend(said.and_then(|said| said.pointer(pointer)?.as_str().map(str::to_owned)));
    }
    Ok(ids)
}

/// The id that Go Thrum before v0.9 gave to the daemons of this machine.
pub(super) fn id_of_this_machine() -> String {
    id_of_host(&rustix::system::uname().nodename().to_string_lossy())
}

/// The name that Go Thrum gives to this machine when an agent registers.
pub(super) fn machine_as_go_names_it() -> String {
    let set = std::env::var("THRUM_HOSTNAME").ok().filter(|name| !name.is_empty());
    set.unwrap_or_else(|| {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        name.strip_suffix(".local").map(str::to_owned).unwrap_or(name)
    })
}

/// An id that stands for the daemon of an agent, where nothing names the daemon. Everyone derives the same one.
pub(super) fn stand_in(agent_id: &str) -> String {
    short_id(&format!("a-sync\n{agent_id}"))
}

/// The id that Go Thrum before v0.9 gave to the daemons of a machine, from the machine's name.
fn id_of_host(hostname: &str) -> String {
    short_id(hostname)
}

/// An id of the form that Go Thrum before v0.9 used: twelve digits of Crockford's base32 from a SHA-256.
fn short_id(of: &str) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let hash = SetDigest::of(of.as_bytes()).to_bytes();
    let bits = hash.iter().take(8).fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
    let digits = (0..12).map(|n| char::from(DIGITS[usize::try_from(bits >> (59 - 5 * n) & 31).unwrap_or(0)]));
    format!("d_{}", digits.collect::<String>())
}

/// Reads the text of a small file of another program; `None` if there is no such file.
///
/// # Errors
/// `refused` if the file cannot be read as UTF-8 or is too long: the import must not guess what the file says.
fn small_file(path: &Path) -> Result<Option<String>, Error> {
    let refused = |why: String| Error::new(ErrorKind::Refused, format!("{} is not read: {why}", path.display()));
    let about = match fs::metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refused(error.to_string())),
    };
    if !about.is_file() || about.len() > limits::MAX_STATE_FILE_BYTES {
        return Err(refused("it is no file, or too long for one of Go Thrum".to_owned()));
    }
    fs::read_to_string(path).map(Some).map_err(|error| refused(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machines_name_gives_the_id_that_go_derived_from_it() {
        // As seen from Go Thrum v0.6.3, and computed by its algorithm.
        for (name, id) in
            [("vm", "d_bf79hxsz7v8c"), ("my-laptop", "d_przre8xtmc6c"), ("office-server", "d_dc13ayhceh3r")]
        {
            assert_eq!(id_of_host(name), id);
        }
    }

    #[test]
    fn a_repository_its_thrum_its_worktree_and_its_database_lead_to_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("main/.thrum");
        let feature = dir.path().join("feature/.thrum");
        fs::create_dir_all(main.join("var")).unwrap();
        fs::create_dir_all(&feature).unwrap();
        let database = main.join("var/messages.db");
        fs::write(&database, "").unwrap();
        fs::write(feature.join("redirect"), format!("{}\n", main.display())).unwrap();
        for (path, identities) in [
            (dir.path().join("main"), main.join("identities")),
            (main.clone(), main.join("identities")),
            (database.clone(), main.join("identities")),
            (dir.path().join("feature"), feature.join("identities")),
        ] {
            let found = Source::find(&path).unwrap();
            assert_eq!((&found.database, found.identities), (&database, Some(identities)), "{}", path.display());
            assert_eq!(found.thrum_dir.as_ref(), Some(&main));
        }
        assert_eq!(Source::find(dir.path()).unwrap_err().kind, ErrorKind::NotFound);
    }

    #[test]
    fn the_id_of_the_go_daemon_comes_from_its_files_or_its_log_and_is_never_guessed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("var")).unwrap();
        fs::write(dir.path().join("var/messages.db"), "").unwrap();
        let source = Source::find(dir.path()).unwrap();
        let totals = |origins: &[&str]| GoTotals {
            events: 3,
            origins: origins.iter().map(|origin| ((*origin).to_owned(), 1)).collect(),
            ..GoTotals::default()
        };
        let ids = |given: &[&str], origins: &[&str]| {
            source
                .own_ids(&given.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>(), &totals(origins))
                .map_err(|error| error.kind)
        };
        assert_eq!(ids(&[], &["d_one"]), Ok(vec!["d_one".to_owned()]));
        assert_eq!(ids(&[], &["d_one", "d_two"]), Err(ErrorKind::Invalid));
        assert_eq!(ids(&["d_two"], &["d_one", "d_two"]), Ok(vec!["d_two".to_owned()]));
        fs::write(dir.path().join("var/peers.json"), r#"{"local":{"daemon_id":"d_one"},"peers":[]}"#).unwrap();
        fs::write(dir.path().join("config.json"), r#"{"identity":{"daemon_id":"d_01NEW"}}"#).unwrap();
        assert_eq!(ids(&[], &["d_one", "d_two"]), Ok(vec!["d_01NEW".to_owned(), "d_one".to_owned()]));
        let length = usize::try_from(limits::MAX_STATE_FILE_BYTES).unwrap();
        let long = format!(r#"{{"identity":{{"daemon_id":"d_01NEW"}},"more":"{}"}}"#, "x".repeat(length));
        fs::write(dir.path().join("config.json"), long).unwrap();
        assert_eq!(ids(&[], &["d_one"]), Err(ErrorKind::Refused), "a part of a file is not used");
    }
}
