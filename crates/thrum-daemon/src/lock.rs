//! Allows one daemon per repository: an exclusive lock is taken before anything else is opened, and the system frees it
//! when the process ends.
//!
//! Only the lock decides. Pid files and sockets outlive a crash, and process ids are reused; neither is true of a lock.
//! The file is never removed, because a lock on a removed file does not keep another daemon out.
//!
//! Two locks are taken on the file. `flock` decides. A record lock (`fcntl`) beside it shows which process holds the
//! file: `F_GETLK` returns that process, and `flock` has no such call. So a daemon without a socket can also be found
//! and stopped.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Flock, FlockType, Pid};

use thrum_core::{Error, ErrorKind};

use crate::{paths::Repo, pidfile, private_files};

/// The right to be the daemon of a repository, held until dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
    path: PathBuf,
    identity: (u64, u64),
}

impl Lock {
    /// Returns `true` if the file at the lock's path is still the one that is locked.
    pub(crate) fn is_in_place(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|about| (about.dev(), about.ino()) == self.identity)
    }
}

/// Returns the process that holds the lock of `repo`: its daemon, or a command that keeps a daemon from starting.
/// `None` if there is none, and for a daemon without a record lock, which is an older version, one of Go Thrum, or just
/// starting.
pub fn holder(repo: &Repo) -> Option<Pid> {
    let file = File::open(repo.lock_file()).ok()?;
    rustix::process::fcntl_getlk(&file, &Flock::from(FlockType::ReadLock)).ok()??.pid
}

/// Returns the process that holds the lock of `repo` if it is a daemon of Go Thrum, which takes no record lock and has
/// a database of another format. Also `None` if the system does not list the holders of locks.
pub fn go_holder(repo: &Repo) -> Option<Pid> {
    if holder(repo).is_some() || !thrum_store::is_head_of_other(&repo.database()) {
        return None;
    }
    let inode = fs::metadata(repo.lock_file()).ok()?.ino().to_string();
    // `1: FLOCK  ADVISORY  WRITE 4711 fe:00:123456 0 EOF`
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let holder = locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, file, ..] = words.as_slice() else { return None };
        (file.rsplit(':').next() == Some(inode.as_str())).then_some(*pid)
    });
    holder?.parse().ok().and_then(Pid::from_raw)
}

/// How long to try again if the lock is taken but no holder is known. A process that checks whether a daemon is running
/// has the lock for a moment, and longer if it starts a child just then: the child inherits the lock until it executes
/// its program.
const CHECKED: Duration = Duration::from_secs(2);

/// Interval between two attempts.
const AGAIN: Duration = Duration::from_millis(5);

/// Takes the lock. Does not wait for a known holder. If none is known, tries again for up to [`CHECKED`].
///
/// # Errors
/// `refused` if another process holds the lock, with the process id if a pid file names one; file system errors.
pub(crate) fn acquire(repo: &Repo) -> Result<Lock, Error> {
    acquire_waiting(repo, || thread::sleep(AGAIN))
}

fn acquire_waiting(repo: &Repo, mut wait: impl FnMut()) -> Result<Lock, Error> {
    let path = repo.lock_file();
    let no_links = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let open =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).custom_flags(no_links).open(&path);
    let file = open.map_err(|error| private_files::io_error("open", &path, &error))?;
    let began = Instant::now();
    let mut taken = file.try_lock();
    while matches!(taken, Err(TryLockError::WouldBlock))
        && began.elapsed() < CHECKED
        && holder(repo).is_none()
        && go_holder(repo).is_none()
    {
        wait();
        taken = file.try_lock();
    }
    match taken {
        Ok(()) => {
            // On a file system without record locks, the holder can still be found through its socket.
            let _ = rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
            let about = file.metadata().map_err(|error| private_files::io_error("look at", &path, &error))?;
            let lock = Lock { _file: file, identity: (about.dev(), about.ino()), path };
            // If the directory was replaced meanwhile, it contains another lock file.
            if lock.is_in_place() { Ok(lock) } else { Err(already_running(repo)) }
        }
        Err(TryLockError::WouldBlock) => Err(already_running(repo)),
        Err(TryLockError::Error(error)) => Err(private_files::io_error("lock", &path, &error)),
    }
}

fn already_running(repo: &Repo) -> Error {
    let who = pidfile::read(&repo.pid_file())
        .map_or_else(|| "it is just starting".to_owned(), |file| format!("pid {}", file.pid));
    Error::new(ErrorKind::Refused, format!("a daemon is already running for {} ({who})", repo.main_root().display()))
        .hint("`thrum daemon status` shows it, `thrum daemon restart` replaces it.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c28_a_second_daemon_is_refused_with_the_first_ones_pid_and_a_stale_pid_file_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo::create(dir.path(), None).unwrap();
        fs::write(repo.pid_file(), "1").unwrap();
        let first = acquire(&repo).expect("a pid file alone, even of a living process, holds nothing");
        let record =
            pidfile::write(&repo.pid_file(), repo.main_root(), &repo.socket(), "2026-01-01T00:00:00Z").unwrap();
        let error = acquire(&repo).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused);
        assert!(error.message.contains(&format!("pid {}", std::process::id())), "{error}");
        drop((record, first));
        assert!(!repo.pid_file().exists());
        acquire(&repo).expect("free again");
    }

    #[test]
    fn a_process_that_checks_whether_a_daemon_is_running_keeps_none_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo::create(dir.path(), None).unwrap();
        fs::write(repo.lock_file(), "").unwrap();
        let mut checking = File::open(repo.lock_file()).ok();
        checking.as_ref().unwrap().lock_shared().unwrap();
        acquire_waiting(&repo, || drop(checking.take())).expect("the check is over");
        assert!(checking.is_none(), "the lock was taken at first");
    }
}
