//! Writes backups of a repository's mailbox, and restores the mailbox from a backup.
//!
//! The mailbox of a repository serves all of its agents. It consists of:
//!
//! * the database;
//! * the daemon's key, without which the agents' home no longer exists;
//! * the registry of the peers, which bring back the mail that came after the backup;
//! * the agents' identities and notes in the daemon's worktree;
//! * the settings.
//!
//! A backup contains neither the log files, nor files of other worktrees, nor the `.env` files, which hold keys of
//! other services. It is as secret as `.thrum/var`, so its file has mode 0600.
//!
//! Restoring replaces only the database. Other files are restored only if they are missing here, because existing ones
//! are newer than the backup: a peer that was removed since must stay removed. The previous database is kept beside the
//! new one (`replace.rs`).

mod replace;

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};
use serde_json::{Value, json};
use thrum_core::{Ambient, Error, ErrorKind, Timestamp, limits, name::printable};
use thrum_store::{
    StoreError,
    backup::{self, FORM, Kept, Manifest},
};

use crate::{ambient::System, identity, lock, paths::Repo, private_files};

pub use replace::set_aside;
pub(crate) use replace::{Why, replace, undo};

/// Files of `.thrum` that belong to the mailbox, apart from those of its agents. The first two are secret.
const FILES: [&str; 3] = ["var/daemon.json", "var/peers.json", "config.json"];

/// Directories of `.thrum` that contain files of the agents.
const DIRECTORIES: [&str; 2] = ["identities", "context"];

/// A backup that was written.
#[derive(Clone, Debug)]
pub struct Made {
    /// The path of the backup file.
    pub file: PathBuf,
    /// The manifest in the backup.
    pub manifest: Manifest,
    /// The size of the backup file.
    pub bytes: u64,
}

/// `.thrum/backup`: the default directory for backups.
pub fn directory(repo: &Repo) -> PathBuf {
    repo.thrum_dir().join("backup")
}

/// Returns a file name for a backup made now: `REPO-20261123T053000Z.backup`.
pub fn file_name(repo: &Repo) -> String {
    format!("{}-{}.backup", repo.name(), compact(System.now()))
}

fn compact(at: Timestamp) -> String {
    let text = at.to_string();
    let digits: String = text.get(..19).unwrap_or(&text).chars().filter(|c| !matches!(c, '-' | ':')).collect();
    format!("{digits}Z")
}

/// Writes a backup of the mailbox of `repo` into the new file `to`, which appears once it is complete and durable. The
/// daemon may run meanwhile. Without `secrets` the backup contains neither the key nor the peers.
///
/// # Errors
/// `not_found` if there is no key or no database; `refused` if `to` exists, also if it appears meanwhile; `failed` for
/// a damaged database; errors of the database and the file system. After an error no file is left, unless only making
/// its name durable failed.
pub fn make(
    repo: &Repo,
    to: &Path,
    secrets: bool,
    version: &str,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Made, Error> {
    let nothing = || {
        Error::new(ErrorKind::NotFound, format!("there is no mailbox in {} yet", repo.main_root().display()))
            .hint("thrum quickstart")
    };
    let daemon_id = identity::known(repo)?.filter(|_| repo.database().exists()).ok_or_else(nothing)?;
    let exists = || {
        Error::new(ErrorKind::Refused, format!("{} is there already", to.display()))
            .hint("Choose another name, or remove it first.")
    };
    if to.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let mut beside = to.as_os_str().to_owned();
    beside.push(format!(".{}.part", std::process::id()));
    let beside = Unfinished(PathBuf::from(beside));
    let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside.0);
    let file = open.map_err(|error| private_files::io_error("write", to, &error))?;
    let manifest = Manifest {
        form: FORM,
        version: version.to_owned(),
        made_at: System.now(),
        daemon_id,
        path: repo.main_root().display().to_string(),
        events: 0,
        messages: 0,
    };
    let written = backup::write(&repo.database(), &beside.0, manifest, &collect(repo, secrets)?, progress);
    let manifest = written.map_err(|error| match error {
        StoreError::Damaged(why) => {
            Error::new(ErrorKind::Failed, format!("the database is damaged, so there is no backup of it: {why}"))
                .hint("thrum doctor")
        }
        other => other.into(),
    })?;
    let moved = file
        .sync_all()
        .and_then(|()| move_without_replacing(&beside.0, to))
        .and_then(|()| private_files::sync_directory(to));
    moved.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(),
        _ => private_files::io_error("write", to, &error),
    })?;
    let bytes = fs::metadata(to).map_or(0, |about| about.len());
    Ok(Made { file: to.to_owned(), manifest, bytes })
}

/// Moves a file to a path at which there is none. The former path may remain as a second name, which the caller
/// removes.
///
/// # Errors
/// File system errors; [`io::ErrorKind::AlreadyExists`] if there is a file at `to`. Only on a file system that has
/// neither hard links nor a rename that refuses to replace, a file that appears at the last moment is replaced.
pub fn move_without_replacing(from: &Path, to: &Path) -> io::Result<()> {
    // A link fails if the path exists; a rename would replace the file there.
    match fs::hard_link(from, to) {
        Err(error) if has_no_links(&error) => rename_without_replacing(from, to),
        linked => linked,
    }
}

/// Returns `true` if a hard link failed because the file system has none.
fn has_no_links(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK))
}

fn rename_without_replacing(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // The system or the file system does not know the flag.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if to.symlink_metadata().is_ok() => {
            Err(io::ErrorKind::AlreadyExists.into())
        }
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => fs::rename(from, to),
        renamed => Ok(renamed?),
    }
}

/// Reads the files that belong to the mailbox. In the agents' directories, leaves out names that [`is_ours`] refuses,
/// directories, links, and files that are too large or not regular.
///
/// # Errors
/// `failed` if any other file exists and cannot be read, because the backup would be incomplete without it.
fn collect(repo: &Repo, secrets: bool) -> Result<Vec<Kept>, Error> {
    let mut names: Vec<String> =
        FILES.iter().filter(|name| secrets || !name.starts_with("var/")).map(|name| (*name).to_owned()).collect();
    for directory in DIRECTORIES {
        let path = repo.thrum_dir().join(directory);
        let unreadable = |error| private_files::io_error("read", &path, &error);
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(unreadable)?,
        };
        for entry in entries {
            let entry = entry.map_err(unreadable)?;
            let file_type =
                entry.file_type().map_err(|error| private_files::io_error("read", &entry.path(), &error))?;
            let name = entry.file_name().into_string().map(|name| format!("{directory}/{name}"));
            names.extend(name.ok().filter(|name| is_ours(name) && !file_type.is_symlink() && !file_type.is_dir()));
        }
    }
    let mut files = Vec::new();
    for name in names {
        match private_files::read_private(&repo.thrum_dir().join(&name), limits::MAX_STATE_FILE_BYTES) {
            Ok(Some(content)) => files.push(Kept { name, content }),
            Err(error) if error.kind != ErrorKind::Invalid || FILES.contains(&name.as_str()) => return Err(error),
            _ => {}
        }
    }
    Ok(files)
}

/// Returns `true` if a backup may contain a file of this name. A backup may come from anywhere, so its names must not
/// lead to other directories.
fn is_ours(name: &str) -> bool {
    let of_agent = |(directory, file): (&str, &str)| {
        DIRECTORIES.contains(&directory)
            && !file.starts_with('.')
            && !file.contains(['/', '\0'])
            && (file.ends_with(".json") || file.ends_with(".md"))
    };
    FILES.contains(&name) || name.split_once('/').is_some_and(of_agent)
}

/// A checked backup that can be installed. Dropping it leaves no files behind.
pub struct Prepared {
    /// The manifest in the backup.
    pub manifest: Manifest,
    files: Vec<Kept>,
    database: Unfinished,
}

/// The result of a restoration.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Where the previous database is kept; `None` if there was none.
    pub former: Option<PathBuf>,
    /// Files that were missing here and were added, as paths in `.thrum`.
    pub added: Vec<String>,
    /// `true` if the daemon has a key. Otherwise the next start creates a new daemon identity.
    pub has_key: bool,
}

/// Checks that a backup is valid, complete, of a supported version, and of this repository's daemon if it has one.
///
/// # Errors
/// `refused` for a backup of another repository or of a newer version, and for a database of Go Thrum; `failed` for a
/// damaged backup and for another program's database; `invalid` for a directory or another special file; file system
/// errors. After an error nothing has changed.
pub fn prepare(repo: &Repo, file: &Path) -> Result<Prepared, Error> {
    private_files::make_private_dir(&repo.var())?;
    let database = Unfinished(repo.var().join(format!("messages.db.{}.restoring", std::process::id())));
    copy(file, &database.0)?;
    let shown = file.display();
    let (manifest, files) = backup::unpack(&database.0).map_err(|error| match error {
        StoreError::Damaged(why) | StoreError::Sqlite(why) => {
            Error::new(ErrorKind::Failed, format!("{shown} is damaged, or no backup: {why}"))
                .hint("Use another backup; nothing has changed.")
        }
        StoreError::Foreign => {
            Error::new(ErrorKind::Failed, format!("{shown} is no backup, but the database of another program"))
                .hint("Use another file; nothing has changed.")
        }
        StoreError::Newer { .. } => {
            Error::new(ErrorKind::Refused, format!("{shown} was written by a newer version of thrum"))
                .hint("Install that version; nothing has changed.")
        }
        StoreError::Gos => Error::new(ErrorKind::Refused, format!("{shown} is a database of Go Thrum"))
            .hint("thrum import takes it over."),
        other => other.into(),
    })?;
    if let Some(here) = identity::known(repo)?
        && here != manifest.daemon_id
    {
        let path = printable(&manifest.path);
        let text =
            format!("{shown} is a backup of another repository: of {path}, daemon {}", printable(&manifest.daemon_id));
        return Err(Error::new(ErrorKind::Refused, text).hint(format!(
            "Restore it in {path}. Where that is lost: in a fresh clone, `thrum init --no-start`, then restore it there. To have its mail here, pair with it."
        )));
    }
    Ok(Prepared { manifest, files, database })
}

fn copy(file: &Path, to: &Path) -> Result<(), Error> {
    // Otherwise opening a named pipe waits for a writer.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let source = OpenOptions::new().read(true).custom_flags(flags).open(file);
    let mut source = source.map_err(|error| private_files::io_error("read", file, &error))?;
    let about = source.metadata().map_err(|error| private_files::io_error("read", file, &error))?;
    if !about.is_file() {
        return Err(Error::new(ErrorKind::Invalid, format!("{} is no file", file.display())));
    }
    let open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to);
    let mut target = open.map_err(|error| private_files::io_error("write", to, &error))?;
    io::copy(&mut source, &mut target).map_err(|error| private_files::io_error("write", to, &error))?;
    Ok(())
}

impl Prepared {
    /// Replaces the database with the backup, while holding the daemon's lock; the daemon must not run. The next start
    /// begins a new log, and peers bring the mail that came after the backup.
    ///
    /// # Errors
    /// `refused` if a daemon runs; `failed` if the key in the backup is damaged; file system errors. The previous
    /// database is then in its place, with two exceptions: putting it back failed, or only making the new one durable
    /// failed, which the message says. Files that were added stay.
    pub fn install(&self, repo: &Repo) -> Result<Restored, Error> {
        let _lock = lock::acquire(repo)?;
        undo(repo)?;
        // Add the missing files first. Otherwise an interruption could leave the restored database without its daemon's
        // key.
        let mut added = Vec::new();
        for Kept { name, content } in self.files.iter().filter(|file| is_ours(&file.name)) {
            let path = repo.thrum_dir().join(name);
            if path.symlink_metadata().is_err() {
                path.parent().map_or(Ok(()), |parent| private_files::make_dir(parent, 0o750))?;
                let content = if name == FILES[0] { forgetful(content)? } else { content.clone() };
                private_files::write_private(&path, &content)?;
                added.push(name.clone());
            }
        }
        let former = replace(&repo.database(), &self.database.0, Why::Restored)?;
        Ok(Restored { former, added, has_key: repo.identity_file().exists() })
    }
}

/// Removes the record of the last open database from the daemon's key file, because the restored database is not the
/// one that was last open.
fn forgetful(content: &[u8]) -> Result<Vec<u8>, Error> {
    let damaged = |_| Error::new(ErrorKind::Failed, "the daemon's key in the backup is damaged");
    let mut record: Value = serde_json::from_slice(content).map_err(damaged)?;
    record["log_id"] = json!("");
    record["open_counter"] = json!(0);
    serde_json::to_vec_pretty(&record).map_err(damaged)
}

/// Removes its file when dropped. A file that was moved to its final place stays.
pub(crate) struct Unfinished(pub(crate) PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        for suffix in ["", "-journal", "-wal", "-shm"] {
            let mut path = self.0.as_os_str().to_owned();
            path.push(suffix);
            // The file is missing if it was moved.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::kit;

    #[test]
    fn a_file_that_appears_while_a_backup_is_made_is_not_replaced() {
        // Enough mail that the database is copied in several steps.
        let (dir, _storage) = kit::with_mail_of_dan(1000);
        let repo = Repo::create(dir.path(), None).unwrap();
        let to = dir.path().join("mail.backup");
        let error = make(&repo, &to, true, "1", &mut |_, _| fs::write(&to, "another file").unwrap()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused);
        assert_eq!(fs::read_to_string(&to).unwrap(), "another file");
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".part")), "{left:?}");
    }

    #[test]
    fn nothing_is_replaced_where_there_are_no_hard_links() {
        let dir = tempfile::tempdir().unwrap();
        let [from, taken, free] = ["from", "taken", "free"].map(|name| dir.path().join(name));
        fs::write(&taken, "another file").unwrap();
        fs::create_dir(&from).unwrap();
        assert_eq!(rename_without_replacing(&from, &taken).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        // A directory stands in for a file on a file system without hard links: linking it fails in the same way.
        move_without_replacing(&from, &free).unwrap();
        assert!(free.is_dir() && !from.exists());
        fs::write(&from, "a file").unwrap();
        assert_eq!(rename_without_replacing(&from, &taken).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&taken).unwrap(), "another file");
    }

    #[test]
    fn a_backup_that_would_lack_files_of_the_agents_is_not_written() {
        let (dir, _storage) = kit::with_mail_of_dan(1);
        let repo = Repo::create(dir.path(), None).unwrap();
        let (identities, notes) = (repo.thrum_dir().join("identities"), repo.thrum_dir().join("context"));
        for directory in [&identities, &notes] {
            let _ = fs::create_dir(directory);
        }
        fs::write(notes.join("ann.md"), "a note").unwrap();
        fs::create_dir(notes.join("directory.md")).unwrap();
        std::os::unix::fs::symlink("ann.md", notes.join("link.md")).unwrap();
        let of_agents = |repo: &Repo| {
            let files = collect(repo, false).map_err(|error| error.message)?;
            Ok::<_, String>(
                files.into_iter().map(|file| file.name).filter(|name| name.contains('/')).collect::<Vec<_>>(),
            )
        };
        assert_eq!(of_agents(&repo).unwrap(), ["context/ann.md"]);

        // Like a file that may not be read, but also for root: a socket cannot be opened.
        let unreadable = identities.join("bob.json");
        let _socket = std::os::unix::net::UnixListener::bind(&unreadable).unwrap();
        let error = of_agents(&repo).unwrap_err();
        assert!(error.starts_with(&format!("cannot read {}", unreadable.display())), "{error}");

        fs::remove_dir_all(&identities).unwrap();
        std::os::unix::fs::symlink(&identities, &identities).unwrap();
        let error = of_agents(&repo).unwrap_err();
        assert!(error.starts_with(&format!("cannot read {}", identities.display())), "{error}");
    }

    #[test]
    fn a_backup_restores_only_the_files_of_a_mailbox() {
        for ours in ["var/daemon.json", "var/peers.json", "config.json", "identities/ann.json", "context/ann.md"] {
            assert!(is_ours(ours), "{ours}");
        }
        for other in [
            "",
            "/etc/passwd",
            "../x.json",
            "identities/../../x.json",
            "identities/.json",
            "var/thrum.sock",
            ".env",
            "identities",
            "context/a/b.md",
            "hooks/x.md",
        ] {
            assert!(!is_ours(other), "{other}");
        }
    }
}
