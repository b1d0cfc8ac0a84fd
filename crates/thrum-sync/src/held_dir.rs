//! A directory held by a descriptor: its files are written, replaced, renamed and removed relative to that descriptor.
//!
//! A daemon runs for weeks. Meanwhile its `.thrum` may be deleted, replaced or restored (`git clean`, `git stash -a`),
//! and the path may then lead to a directory that belongs to another daemon. The descriptor still leads to the original
//! directory. If that was deleted, each write fails with "not found"; if it was moved, its files moved along.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{AtFlags, Mode, OFlags};

/// A directory that stays the same even if its path changes. A clone is another handle to it.
#[derive(Clone, Debug)]
pub struct HeldDir {
    directory: Arc<File>,
    path: PathBuf,
    identity: (u64, u64),
}

impl HeldDir {
    /// Opens the directory at `path`.
    ///
    /// # Errors
    /// Those of the file system; `NotADirectory` if the path leads to anything else.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        let about = directory.metadata()?;
        Ok(Self { directory: Arc::new(directory), path: path.to_owned(), identity: (about.dev(), about.ino()) })
    }

    /// Opens the directory that contains `file`. Returns it with the file's name.
    ///
    /// # Errors
    /// Those of [`open`](Self::open); `InvalidInput` for a path without a file name.
    pub fn of(file: &Path) -> io::Result<(Self, PathBuf)> {
        let name = file.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok((Self::open(parent)?, name.into()))
    }

    /// Returns the path by which the directory was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns `true` if its path still leads to this directory.
    pub fn is_in_place(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|about| (about.dev(), about.ino()) == self.identity)
    }

    /// Opens a file for appending, and creates it with mode 0600 if it does not exist. A symbolic link is refused.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn append(&self, name: &Path) -> io::Result<File> {
        self.open_file(name, OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE)
    }

    /// Replaces a file, with mode 0600: writes and syncs a temporary file, renames it and syncs the directory, so that
    /// the content is durable on return. A symbolic link of this name is replaced, not followed.
    ///
    /// # Errors
    /// Those of the file system. The old content stays, unless only the sync of the directory failed. The temporary
    /// file is removed.
    pub fn replace(&self, name: &Path, bytes: &[u8]) -> io::Result<()> {
        let beside = with_suffix(name, ".tmp");
        let write = || {
            // A crash may have left a file with another mode, or a link.
            self.remove(&beside)?;
            let mut file = self.open_file(&beside, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            self.rename(&beside, name)?;
            self.directory.sync_all()
        };
        write().inspect_err(|_| {
            let _ = self.remove(&beside);
        })
    }

    /// Renames a file within the directory. Does nothing if the file does not exist.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        unless_missing(rustix::fs::renameat(&*self.directory, from, &*self.directory, to))
    }

    /// Removes a file. Does nothing if the file does not exist.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove(&self, name: &Path) -> io::Result<()> {
        unless_missing(rustix::fs::unlinkat(&*self.directory, name, AtFlags::empty()))
    }

    /// Returns `true` if there is a symbolic link of this name.
    pub fn is_link(&self, name: &Path) -> bool {
        let about = rustix::fs::statat(&*self.directory, name, AtFlags::SYMLINK_NOFOLLOW);
        about.is_ok_and(|about| rustix::fs::FileType::from_raw_mode(about.st_mode).is_symlink())
    }

    fn open_file(&self, name: &Path, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(&*self.directory, name, flags, Mode::from_raw_mode(0o600))?))
    }
}

/// Appends `suffix` to a file name.
pub fn with_suffix(name: &Path, suffix: &str) -> PathBuf {
    let mut bytes = name.as_os_str().as_bytes().to_vec();
    bytes.extend_from_slice(suffix.as_bytes());
    OsStr::from_bytes(&bytes).into()
}

fn unless_missing(done: rustix::io::Result<()>) -> io::Result<()> {
    match done {
        Err(rustix::io::Errno::NOENT) => Ok(()),
        done => Ok(done?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_directory_that_was_replaced_is_noticed_and_gets_no_file_of_the_former_one() {
        let guard = tempfile::tempdir().unwrap();
        let path = guard.path().join("var");
        fs::create_dir(&path).unwrap();
        let held = HeldDir::open(&path).unwrap();
        held.replace(Path::new("peers.json"), b"one").unwrap();
        assert!(held.is_in_place());

        fs::remove_dir_all(&path).unwrap();
        assert!(!held.is_in_place());
        fs::create_dir(&path).unwrap();
        fs::write(path.join("daemon.log"), "theirs").unwrap();
        assert!(!held.is_in_place());
        assert!(held.replace(Path::new("peers.json"), b"two").is_err());
        assert!(held.append(Path::new("daemon.log")).is_err());
        held.rename(Path::new("daemon.log"), Path::new("daemon.log.1")).unwrap();
        held.remove(Path::new("daemon.log")).unwrap();
        assert_eq!(names(&path), ["daemon.log"]);
    }

    #[test]
    fn a_directory_that_was_moved_takes_its_files_along() {
        let guard = tempfile::tempdir().unwrap();
        let (path, moved) = (guard.path().join("var"), guard.path().join("moved"));
        fs::create_dir(&path).unwrap();
        let held = HeldDir::open(&path).unwrap();
        fs::rename(&path, &moved).unwrap();
        held.replace(Path::new("peers.json"), b"one").unwrap();
        assert_eq!((names(&moved), held.is_in_place()), (vec!["peers.json".to_owned()], false));
    }
}
