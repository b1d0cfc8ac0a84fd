//! An in-memory disk under SQLite that forgets at a crash what was not synced, and fails where it is told. Tests only.
//!
//! A database on it is opened by [`Disk::path`], with nothing but the path being different:
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
//! What it promises is what the less careful file systems promise, and no more:
//!
//! * What was written before a successful sync of the file is there after a crash. Of what was written later, anything may be
//!   there: nothing, a beginning, all, any of its sectors, half a sector. The bytes around a torn write are left alone, as
//!   SQLite assumes (`SQLITE_IOCAP_POWERSAFE_OVERWRITE`).
//! * A file's first sync makes its name durable, and no other. Of the names that were made and deleted and not synced, a crash
//!   takes back all from some point on: a deleted journal may come back, and undo a transaction that was committed.
//! * After a sync that failed the file still reads as written, but a later sync does not bring what this one lost, as on Linux.
//!
//! The same seed and the same calls give the same disk. Locks and shared memory work between connections of one process.

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

/// How a disk fails. Reading goes on except after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The power goes: nothing works any more, until [`Disk::crash`]. The call itself may or may not have reached the disk.
    Crash,
    /// The same, and of the call, if it writes, a part is on the disk for certain.
    TornWrite,
    /// No room: of what is written, a part is (`SQLITE_FULL`), and no file can be made.
    Full,
    /// Writes, syncs, truncations and deletions fail (`SQLITE_IOERR_*`).
    IoError,
    /// Writes fail with `SQLITE_READONLY`, and nothing can be made or deleted.
    ReadOnly,
}

/// All kinds, for tests that go through them.
pub const FAILURES: [Failure; 5] = [Failure::Crash, Failure::TornWrite, Failure::Full, Failure::IoError, Failure::ReadOnly];

/// What was in the files of a disk, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image(BTreeMap<String, Vec<u8>>);

/// A disk. Clones are the same disk; its files are gone with the last clone and the last connection.
#[derive(Clone)]
pub struct Disk(Arc<Shared>);

/// What a disk shares with the files that are open on it.
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
    /// An empty disk. `seed` decides what a crash leaves.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new_cyclic(|shared| Shared { state: Mutex::new(State::new(seed)), registration: vfs::Registration::new(shared) }))
    }

    /// What SQLite knows the disk by, for `open_with_flags_and_vfs` and `?vfs=`.
    pub fn vfs(&self) -> &str {
        self.0.registration.name()
    }

    /// The path of a file on this disk for whoever opens databases by path: a URI that names the disk.
    pub fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("file:{name}?vfs={}", self.vfs()))
    }

    /// The power goes and comes back: every file becomes what was synced, and a part, by the seed, of what was written since.
    /// Whatever was open before fails from now on; planned failures are off.
    pub fn crash(&self) {
        self.0.state().crash();
    }

    /// How many calls there were so far that change something: creating, writing, syncing, truncating, deleting.
    pub fn steps(&self) -> u64 {
        self.0.state().steps()
    }

    /// From the call that makes [`steps`](Self::steps) this number on, everything that this failure concerns fails, until
    /// [`mend`](Self::mend) or [`crash`](Self::crash).
    pub fn fail_at(&self, step: u64, failure: Failure) {
        self.0.state().plan(step, failure, false);
    }

    /// The same, but only the first call that it concerns fails.
    pub fn fail_once_at(&self, step: u64, failure: Failure) {
        self.0.state().plan(step, failure, true);
    }

    /// How many calls failed because they were told to.
    pub fn failed(&self) -> u64 {
        self.0.state().failed()
    }

    /// Takes back what [`fail_at`](Self::fail_at) planned. A disk that crashed stays dead.
    pub fn mend(&self) {
        self.0.state().mend();
    }

    /// What a copy of all files would hold now, written or synced.
    pub fn image(&self) -> Image {
        Image(self.0.state().image())
    }

    /// Puts other files in the place of all that is there, durably. Whatever was open fails from now on.
    pub fn restore(&self, image: &Image) {
        self.0.state().restore(&image.0);
    }

    /// Deletes a database, durably, with its journal and its write-ahead log. Who has it open keeps it, as on Unix.
    pub fn remove(&self, name: &str) {
        self.0.state().remove(name);
    }
}

impl Image {
    /// The content of a file; `None` if there is no such file.
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// The content of a file, to change it: a damaged sector, a cut end.
    pub fn file_mut(&mut self, name: &str) -> Option<&mut Vec<u8>> {
        self.0.get_mut(name)
    }

    /// Moves a file to another name; nothing if there is none.
    pub fn rename(&mut self, from: &str, to: &str) {
        if let Some(content) = self.0.remove(from) {
            self.0.insert(to.to_owned(), content);
        }
    }
}
