//! An in-memory disk under SQLite for tests. A crash discards data that was not synced, and calls fail where a test
//! plans it.
//!
//! To open a database on the disk, use the path that [`Disk::path`] returns:
//!
//! ```
//! let disk = faulty_disk::Disk::new(1);
//! let conn = rusqlite::Connection::open(disk.path("mail.db")).unwrap();
//! conn.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE mail (text); INSERT INTO mail VALUES ('kept');").unwrap();
//! disk.crash();
//! let conn = rusqlite::Connection::open(disk.path("mail.db")).unwrap();
//! assert_eq!(conn.query_row("SELECT text FROM mail", [], |row| row.get::<_, String>(0)).unwrap(), "kept");
//! ```
//!
//! The disk guarantees what the less careful file systems guarantee, and no more:
//!
//! * Data written before a successful sync of the file survives a crash. Of later writes, any part may survive:
//!   nothing, a beginning, everything, any of the sectors, half a sector. The bytes around a torn write keep their
//!   value, as SQLite assumes (`SQLITE_IOCAP_POWERSAFE_OVERWRITE`).
//! * The first sync of a file makes its own name durable, and no other name. A crash undoes all unsynced creations and
//!   deletions of names from some point on. A deleted journal may therefore come back and undo a committed transaction.
//! * After a failed sync the file still reads as written, but a later sync does not make the lost data durable, as on
//!   Linux.
//!
//! The same seed and the same calls produce the same disk. Locks and shared memory work between connections of one
//! process.

mod file;
mod inode;
mod names;
mod random;
mod shm;
mod state;
mod vfs;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use state::State;

/// How a disk fails. Reads continue to work, except after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Power failure: every call fails until [`Disk::crash`]. The failing call itself may or may not reach the disk.
    Crash,
    /// Power failure during a write: like `Crash`, but a random part of the failing write is durable.
    TornWrite,
    /// Disk full: a write stores only a part of its bytes and fails with `SQLITE_FULL`, and no file can be created.
    Full,
    /// I/O error: writes, syncs, truncations and deletions fail with `SQLITE_IOERR_*`.
    IoError,
    /// Read-only disk: writes fail with `SQLITE_READONLY`, and files cannot be created or deleted.
    ReadOnly,
}

/// All kinds of failure, for tests that iterate over them.
pub const FAILURES: [Failure; 5] =
    [Failure::Crash, Failure::TornWrite, Failure::Full, Failure::IoError, Failure::ReadOnly];

/// A copy of the files of a disk, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image(BTreeMap<String, Vec<u8>>);

/// A handle to a disk. Clones share the disk. Its files are freed with the last clone and the last connection.
#[derive(Clone)]
pub struct Disk(Arc<Shared>);

/// The part of a disk that its open files share.
struct Shared {
    state: Mutex<State>,
    registration: vfs::Registration,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    /// Creates an empty disk. `seed` determines what survives a crash.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new_cyclic(|shared| Shared {
            state: Mutex::new(State::new(seed)),
            registration: vfs::Registration::new(shared),
        }))
    }

    /// The name under which the disk is registered with SQLite, for `open_with_flags_and_vfs` and `?vfs=`.
    pub fn vfs(&self) -> &str {
        self.0.registration.name()
    }

    /// Returns the path of a file on this disk as a URI that names the disk, for code that opens databases by path.
    pub fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("file:{name}?vfs={}", self.vfs()))
    }

    /// Cuts and restores the power: each file keeps what was synced and, depending on the seed, a part of what was
    /// written since. Handles that were open fail from now on, and planned failures are cancelled.
    pub fn crash(&self) {
        self.0.state().crash();
    }

    /// Number of calls so far that change something: creating, writing, syncing, truncating, deleting.
    pub fn steps(&self) -> u64 {
        self.0.state().steps()
    }

    /// Plans a failure. From the call that raises [`steps`](Self::steps) to `step`, every call that the failure
    /// concerns fails, until [`mend`](Self::mend) or [`crash`](Self::crash).
    pub fn fail_at(&self, step: u64, failure: Failure) {
        self.0.state().plan(step, failure, false);
    }

    /// Plans a failure like [`fail_at`](Self::fail_at), but only the first call that it concerns fails.
    pub fn fail_once_at(&self, step: u64, failure: Failure) {
        self.0.state().plan(step, failure, true);
    }

    /// Number of calls that failed because of a planned failure.
    pub fn failed(&self) -> u64 {
        self.0.state().failed()
    }

    /// Cancels the failure that [`fail_at`](Self::fail_at) planned. A disk that lost power stays dead until
    /// [`crash`](Self::crash).
    pub fn mend(&self) {
        self.0.state().mend();
    }

    /// Copies all files as reads see them now, synced or not.
    pub fn image(&self) -> Image {
        Image(self.0.state().image())
    }

    /// Replaces all files with those of `image`, durably. Handles that were open fail from now on.
    pub fn restore(&self, image: &Image) {
        self.0.state().restore(&image.0);
    }

    /// Deletes a database with its journal and its write-ahead log, durably. Open handles keep the file, as on Unix.
    pub fn remove(&self, name: &str) {
        self.0.state().remove(name);
    }
}

impl Image {
    /// The content of a file, or `None` if the file does not exist.
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// The content of a file for modification, for example to damage a sector or cut the end off.
    pub fn file_mut(&mut self, name: &str) -> Option<&mut Vec<u8>> {
        self.0.get_mut(name)
    }

    /// Renames a file. Does nothing if `from` does not exist.
    pub fn rename(&mut self, from: &str, to: &str) {
        if let Some(content) = self.0.remove(from) {
            self.0.insert(to.to_owned(), content);
        }
    }
}
