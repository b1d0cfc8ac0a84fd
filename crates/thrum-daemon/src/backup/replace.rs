//! Replaces one database with another so that a crash at any step leaves either the old or the new one.
//!
//! The current database gets a second name, its write-ahead log is moved to that name, and a single rename then puts
//! the new database under the first name. At every moment a database exists under the first name, because a daemon that
//! finds none creates an empty one. If a crash prevents the final rename, the next holder of the lock undoes the steps
//! before it ([`undo`]). Without that, the database in use would be without its write-ahead log, and the second name
//! would still refer to it.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use thrum_core::Error;
use thrum_store::backup;

use crate::{paths::Repo, private_files};

/// The reason for replacing a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The database is replaced by a backup.
    Restored,
    /// The database is damaged and replaced by the data that could be saved from it.
    Damaged,
}

impl Why {
    /// Returns the suffix of a former database's name. A number follows for all but the first former database.
    const fn former(self) -> &'static str {
        match self {
            Self::Restored => "before-restore",
            Self::Damaged => "damaged",
        }
    }
}

/// Puts the checked database `new` at `database`. If there was a database, keeps it under another name and returns that
/// path. The caller holds the lock.
///
/// # Errors
/// File system errors. The former database is then in its place, with two exceptions. If syncing the directory after
/// the rename failed, the new database is in place but may not survive a power cut; the message begins with `cannot
/// make durable`. If putting the former one back failed, [`undo`] tries again.
pub(crate) fn replace(database: &Path, new: &Path, why: Why) -> Result<Option<PathBuf>, Error> {
    let durable = File::open(new).and_then(|file| file.sync_all());
    durable.map_err(|error| private_files::io_error("read back", new, &error))?;
    let former = if database.exists() {
        // First let SQLite copy the write-ahead log of the former database into its file. This fails if the database is
        // damaged, which may be the reason for restoring; the write-ahead log is then moved along with the database. A
        // database that is known to be damaged is kept unchanged.
        if why == Why::Restored
            && let Err(error) = backup::settle(database)
        {
            tracing::warn!(%error, "cannot close the former database properly");
        }
        Some(name_twice(database, why)?)
    } else {
        None
    };
    // If the database is gone, its write-ahead log may hold the only copy of its data, so that log is kept.
    let moved = match &former {
        Some(former) => move_log(database, former),
        None => move_log(database, &free(database, why)),
    };
    // Make the move of the write-ahead log durable first. Otherwise the new database might be found beside the former
    // write-ahead log after a power cut.
    let placed = moved.and_then(|()| private_files::sync_directory(database)).and_then(|()| fs::rename(new, database));
    if let Err(error) = placed {
        if let Some(former) = &former {
            take_back(database, former)?;
        }
        return Err(private_files::io_error("replace", database, &error));
    }
    // A remaining `-shm` file belongs to the former database. If it cannot be removed, SQLite notices the mismatch.
    let _ = remove(&with(database, "-shm"));
    private_files::sync_directory(database)
        .map_err(|error| private_files::io_error("make durable the restored", database, &error))?;
    Ok(former)
}

/// Undoes a replacement that did not reach the final rename, and removes the unfinished files of processes that have
/// ended. The caller holds the lock.
///
/// # Errors
/// File system errors.
pub(crate) fn undo(repo: &Repo) -> Result<(), Error> {
    let database = repo.database();
    let Some(var) = database.parent() else { return Ok(()) };
    let entries = fs::read_dir(var).map_err(|error| private_files::io_error("read", var, &error))?;
    let inode = |path: &Path| fs::symlink_metadata(path).map(|about| (about.dev(), about.ino())).ok();
    let used = inode(&database);
    for path in entries.flatten().map(|entry| entry.path()) {
        let Some(name) =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("messages.db."))
        else {
            continue;
        };
        let is_former = [Why::Restored, Why::Damaged].iter().any(|why| name.starts_with(why.former()));
        if is_former && used.is_some() && inode(&path) == used {
            tracing::warn!("a restoration was interrupted; the database is the one from before it");
            take_back(&database, &path)?;
        } else if UNFINISHED.iter().any(|name_of| name.split_once(name_of).is_some_and(|(pid, _)| !runs(pid))) {
            remove(&path).map_err(|error| private_files::io_error("remove", &path, &error))?;
        }
    }
    Ok(())
}

/// Returns the databases that were replaced and kept, with their write-ahead logs. They still contain mail that was
/// purged since.
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

/// What follows the process id in the name of an unfinished database. `-wal`, `-shm` or `-journal` may follow it.
const UNFINISHED: [&str; 2] = [".restoring", ".salvaging"];

/// Returns `true` if the process with this id runs and so may still need its unfinished database.
fn runs(pid: &str) -> bool {
    let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// Gives a database a second name.
fn name_twice(database: &Path, why: Why) -> Result<PathBuf, Error> {
    let former = free(database, why);
    fs::hard_link(database, &former).map_err(|error| private_files::io_error("keep", database, &error))?;
    Ok(former)
}

/// Returns the first name that is taken neither by a former database nor by its write-ahead log.
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

/// Undoes [`name_twice`] and [`move_log`]. If another program has written to the database since, putting its former
/// write-ahead log back would undo those writes, so that log stays where it is.
fn take_back(database: &Path, former: &Path) -> Result<(), Error> {
    let (log, moved) = (with(database, "-wal"), with(former, "-wal"));
    let back = match fs::symlink_metadata(&moved) {
        Ok(about) if is_written(database, &log, &about) => {
            tracing::warn!(
                kept_as = %moved.display(),
                "the database was written to since a restoration was interrupted; its former write-ahead log is kept"
            );
            Ok(())
        }
        // If there is a write-ahead log at the first name, it is empty (`is_written` has checked that): a program that
        // only reads creates such a file. It may be overwritten.
        Ok(_) => fs::rename(&moved, &log),
        Err(_) => Ok(()),
    };
    back.and_then(|()| remove(former)).map_err(|error| private_files::io_error("put back", former, &error))
}

/// Returns `true` if a database was written to after its write-ahead log was moved. The `ctime` in `moved` is the time
/// of the move, because the moved file has not been changed since.
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

    /// Creates a repository whose database has a write-ahead log that SQLite cannot copy into it, with a new database
    /// beside it.
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

    fn owned(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect()
    }

    #[test]
    fn the_former_database_is_kept_under_an_unused_name() {
        let (_dir, repo, new) = unsettled();
        fs::remove_file(with(&repo.database(), "-wal")).unwrap();
        // The log of an earlier former database is not overwritten.
        fs::write(with(&repo.database(), ".before-restore-wal"), "an earlier log").unwrap();
        let former = replace(&repo.database(), &new, Why::Restored).unwrap().unwrap();
        assert!(former.ends_with("messages.db.before-restore-2"));
        let after = owned(&[
            ("messages.db", "the new one"),
            ("messages.db.before-restore-2", "no database"),
            ("messages.db.before-restore-wal", "an earlier log"),
        ]);
        assert_eq!(files(&repo), after);
        undo(&repo).unwrap();
        assert_eq!(files(&repo), after, "what is done is not undone");
    }

    #[test]
    fn c26_a_restoration_interrupted_before_its_last_step_is_undone() {
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
            assert_eq!(
                files(&repo),
                owned(&[("messages.db", "no database"), ("messages.db-wal", "its log")]),
                "after {steps} steps"
            );
        }
    }

    #[test]
    fn a_kept_log_is_not_put_back_over_later_writes() {
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
    fn a_copy_that_another_process_still_checks_is_left_alone() {
        let (_dir, repo, _) = unsettled();
        let theirs = with(&repo.database(), &format!(".{}.restoring", std::process::id()));
        fs::write(&theirs, "being checked").unwrap();
        undo(&repo).unwrap();
        assert!(theirs.exists());
    }
}
