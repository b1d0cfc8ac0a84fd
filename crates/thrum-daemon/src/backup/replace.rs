//! One database in the place of another, so that a crash at any step leaves the one or the other.
//!
//! The database that is there gets a second name, its write-ahead log is moved to that name, and then the new one takes the
//! first name in one step. Nothing is ever without a database, because a daemon that finds none makes an empty one. What was
//! cut off before that last step is undone by whoever takes the lock next ([`undo`]): else the second name would be that of
//! the database in use, and its log would be missing.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use thrum_core::Fault;
use thrum_store::backup;

use crate::{disk, paths::Repo};

/// Why a database is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// By a backup.
    Restored,
    /// By what could be saved of it.
    Damaged,
}

impl Why {
    /// What a former database is called, after its own name; further ones are numbered.
    const fn former(self) -> &'static str {
        match self {
            Self::Restored => "before-restore",
            Self::Damaged => "damaged",
        }
    }
}

/// Puts the checked database `new` in the place of the one at `database`, if there is one; says where that is now. With the lock
/// held.
///
/// # Errors
/// The file system's. The former database is in its place then, unless the message says that only making it durable failed.
pub(crate) fn replace(database: &Path, new: &Path, why: Why) -> Result<Option<PathBuf>, Fault> {
    let durable = File::open(new).and_then(|file| file.sync_all());
    durable.map_err(|error| disk::fault("read back", new, &error))?;
    let former = if database.exists() {
        // A damaged one may be the reason for restoring; then its write-ahead log goes along. One that is known to be is kept as
        // it is.
        if why == Why::Restored
            && let Err(error) = backup::settle(database)
        {
            tracing::warn!("the former database cannot be closed properly: {error}");
        }
        Some(name_twice(database, why)?)
    } else {
        None
    };
    // Where the database is gone, its log is all that is left of it.
    let moved = match &former {
        Some(former) => move_log(database, former),
        None => move_log(database, &free(database, why)),
    };
    // Else the new one might be found beside the former log after a power cut.
    let placed = moved.and_then(|()| disk::sync_directory(database)).and_then(|()| fs::rename(new, database));
    if let Err(error) = placed {
        if let Some(former) = &former {
            take_back(database, former)?;
        }
        return Err(disk::fault("replace", database, &error));
    }
    // It is the former one's; SQLite would notice.
    let _ = remove(&with(database, "-shm"));
    disk::sync_directory(database).map_err(|error| disk::fault("make durable the restored", database, &error))?;
    Ok(former)
}

/// Takes back what a replacement did that was cut off before its last step, and what it left. With the lock held.
///
/// # Errors
/// The file system's.
pub(crate) fn undo(repo: &Repo) -> Result<(), Fault> {
    let database = repo.database();
    let Some(var) = database.parent() else { return Ok(()) };
    let entries = fs::read_dir(var).map_err(|error| disk::fault("read", var, &error))?;
    let inode = |path: &Path| fs::symlink_metadata(path).map(|about| (about.dev(), about.ino())).ok();
    let used = inode(&database);
    for path in entries.flatten().map(|entry| entry.path()) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("messages.db.")) else {
            continue;
        };
        let is_former = [Why::Restored, Why::Damaged].iter().any(|why| name.starts_with(why.former()));
        if is_former && used.is_some() && inode(&path) == used {
            tracing::warn!("a restoration was cut off; the database is the one from before it");
            take_back(&database, &path)?;
        } else if UNFINISHED.iter().any(|name_of| name.split_once(name_of).is_some_and(|(pid, _)| !runs(pid))) {
            remove(&path).map_err(|error| disk::fault("remove", &path, &error))?;
        }
    }
    Ok(())
}

/// The databases that were replaced and kept, with their logs. What was purged since is still in them.
pub fn set_aside(repo: &Repo) -> Vec<PathBuf> {
    let is_former = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("messages.db."));
        name.is_some_and(|name| [Why::Restored, Why::Damaged].iter().any(|why| name.starts_with(why.former())))
    };
    let mut found: Vec<PathBuf> =
        fs::read_dir(repo.var()).into_iter().flatten().flatten().map(|entry| entry.path()).filter(is_former).collect();
    found.sort();
    found
}

/// What a database in the making is called, after the number of the process that makes it.
const UNFINISHED: [&str; 2] = [".restoring", ".salvaging"];

/// Whether a process of this number runs: its copy of a backup may be needed yet.
fn runs(pid: &str) -> bool {
    let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// Gives a database a second name.
fn name_twice(database: &Path, why: Why) -> Result<PathBuf, Fault> {
    let former = free(database, why);
    fs::hard_link(database, &former).map_err(|error| disk::fault("keep", database, &error))?;
    Ok(former)
}

/// The first name that no former database has.
fn free(database: &Path, why: Why) -> PathBuf {
    let former = why.former();
    let name = |n: u32| with(database, &if n == 1 { format!(".{former}") } else { format!(".{former}-{n}") });
    let is_free = |path: &PathBuf| path.symlink_metadata().is_err() && with(path, "-wal").symlink_metadata().is_err();
    (1..).map(name).find(is_free).unwrap_or_else(|| name(1))
}

fn move_log(database: &Path, former: &Path) -> io::Result<()> {
    match fs::rename(with(database, "-wal"), with(former, "-wal")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Undoes [`name_twice`] and [`move_log`]. If somebody wrote to the database since, who did not know of that, its former log would
/// undo what was written: then that stays where it is.
fn take_back(database: &Path, former: &Path) -> Result<(), Fault> {
    let (log, moved) = (with(database, "-wal"), with(former, "-wal"));
    let back = match fs::symlink_metadata(&moved) {
        Ok(about) if is_written(database, &log, &about) => {
            tracing::warn!(
                "the database was written to since a restoration was cut off; its log from before that is kept as {}",
                moved.display()
            );
            Ok(())
        }
        // Who only read the database meanwhile has begun an empty one.
        Ok(_) => fs::rename(&moved, &log),
        Err(_) => Ok(()),
    };
    back.and_then(|()| remove(former)).map_err(|error| disk::fault("put back", former, &error))
}

/// Whether a database was written to after its log was moved, which is the last that changed that file's entry.
fn is_written(database: &Path, log: &Path, moved: &fs::Metadata) -> bool {
    let has_log = fs::metadata(log).is_ok_and(|about| about.len() > 0);
    let is_newer = |about: fs::Metadata| (about.mtime(), about.mtime_nsec()) > (moved.ctime(), moved.ctime_nsec());
    has_log || fs::metadata(database).is_ok_and(is_newer)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A repository with a database, whose write-ahead log could not be folded into it, and a new one beside it.
    fn unsettled() -> (tempfile::TempDir, Repo, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo::create(&fs::canonicalize(dir.path()).unwrap(), None).unwrap();
        fs::write(repo.database(), "no database").unwrap();
        fs::write(with(&repo.database(), "-wal"), "its log").unwrap();
        let new = repo.var().join("messages.db.0.restoring");
        fs::write(&new, "the new one").unwrap();
        (dir, repo, new)
    }

    fn files(repo: &Repo) -> Vec<(String, String)> {
        let entries = fs::read_dir(repo.var()).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries
            .filter(|path| path.is_file() && !path.ends_with(".gitignore"))
            .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
            .collect();
        files.sort();
        files
    }

    fn named(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect()
    }

    #[test]
    fn the_former_database_is_kept_under_a_name_that_is_free() {
        let (_dir, repo, new) = unsettled();
        fs::remove_file(with(&repo.database(), "-wal")).unwrap();
        // The log of an earlier one is not overwritten.
        fs::write(with(&repo.database(), ".before-restore-wal"), "an earlier log").unwrap();
        let former = replace(&repo.database(), &new, Why::Restored).unwrap().unwrap();
        assert!(former.ends_with("messages.db.before-restore-2"));
        let after = named(&[
            ("messages.db", "the new one"),
            ("messages.db.before-restore-2", "no database"),
            ("messages.db.before-restore-wal", "an earlier log"),
        ]);
        assert_eq!(files(&repo), after);
        undo(&repo).unwrap();
        assert_eq!(files(&repo), after, "what is done is not undone");
    }

    #[test]
    fn c26_what_was_cut_off_before_its_last_step_is_undone() {
        for (steps, why) in (0..=2).flat_map(|steps| [(steps, Why::Restored), (steps, Why::Damaged)]) {
            let (_dir, repo, _) = unsettled();
            let database = repo.database();
            if steps > 0 {
                let former = name_twice(&database, why).unwrap();
                if steps > 1 {
                    move_log(&database, &former).unwrap();
                }
            }
            undo(&repo).unwrap();
            assert_eq!(files(&repo), named(&[("messages.db", "no database"), ("messages.db-wal", "its log")]), "after {steps} steps");
        }
    }

    #[test]
    fn a_log_is_not_put_back_over_what_was_written_since() {
        let written: [fn(&Path); 2] = [
            |database| fs::write(with(database, "-wal"), "a newer log").unwrap(),
            |database| {
                let file = File::options().append(true).open(database).unwrap();
                file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(9)).unwrap();
            },
        ];
        for write in written {
            let (_dir, repo, _) = unsettled();
            let database = repo.database();
            move_log(&database, &name_twice(&database, Why::Damaged).unwrap()).unwrap();
            write(&database);
            let newer = fs::read(with(&database, "-wal")).ok();
            undo(&repo).unwrap();
            assert_eq!(fs::read(with(&database, "-wal")).ok(), newer);
            assert_eq!(fs::read_to_string(with(&database, ".damaged-wal")).unwrap(), "its log", "it is kept");
            assert!(!with(&database, ".damaged").exists());
        }
    }

    #[test]
    fn a_copy_that_somebody_still_checks_is_left_alone() {
        let (_dir, repo, _) = unsettled();
        let theirs = with(&repo.database(), &format!(".{}.restoring", std::process::id()));
        fs::write(&theirs, "being checked").unwrap();
        undo(&repo).unwrap();
        assert!(theirs.exists());
    }
}
