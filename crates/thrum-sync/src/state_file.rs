//! A small file of secrets or counters that is replaced as a whole: written to a temporary file, synced and renamed;
//! then the directory is synced.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use thrum_core::{Error, ErrorKind, limits};

use crate::held_dir::HeldDir;

/// A state file of mode 0600. Its directory stays open, and writes go to that directory even if the path changes.
#[derive(Debug)]
pub(crate) struct StateFile {
    path: PathBuf,
    directory: HeldDir,
    name: PathBuf,
}

impl StateFile {
    /// Opens the directory of `path`. The file itself need not exist.
    ///
    /// # Errors
    /// The directory cannot be opened.
    pub(crate) fn at(path: PathBuf) -> Result<Self, Error> {
        let opened = HeldDir::of(&path);
        let (directory, name) = opened.map_err(|error| {
            Error::new(ErrorKind::Failed, format!("cannot open the directory of {}: {error}", path.display()))
        })?;
        Ok(Self { path, directory, name })
    }

    /// Reads the file; `None` if it does not exist. A mode that lets others read the file is corrected and logged.
    ///
    /// # Errors
    /// The path is a symbolic link or not a regular file, the content is not UTF-8 or exceeds
    /// [`limits::MAX_STATE_FILE_BYTES`], or the disk failed.
    pub(crate) fn read(&self) -> Result<Option<String>, Error> {
        read_private(&self.path)?
            .map(|bytes| String::from_utf8(bytes).map_err(|_| self.broken("it is not UTF-8")))
            .transpose()
    }

    /// Replaces the content and returns when it is durable. On an error the old content stays, unless only the sync of
    /// the directory failed: then either version may survive a crash.
    pub(crate) fn write(&self, text: &str) -> Result<(), Error> {
        let is_link = self.directory.is_link(&self.name);
        let written = if is_link {
            Err(io::Error::other("it is a symbolic link"))
        } else {
            self.directory.replace(&self.name, text.as_bytes())
        };
        written.map_err(|error| {
            Error::new(ErrorKind::Failed, format!("cannot write {}: {error}", self.path.display()))
                .hint("See that there is room on that file system and that this user may write there, and try again.")
        })
    }

    /// Returns the error for unusable content. Nothing is inferred from a damaged file.
    pub(crate) fn broken(&self, why: &str) -> Error {
        let name = self.path.display();
        Error::new(ErrorKind::Failed, format!("{name} cannot be used: {why}"))
            .hint(format!("Repair {name}, or move it away and pair again."))
    }
}

/// Describes a JSON error without the file's text. `serde_json` quotes the unexpected value, which may be a secret.
pub(crate) fn misshapen(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(", expected ")
        .map_or_else(|| text.clone(), |(_, expected)| format!("there is something else than {expected}"))
}

fn read_private(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let fail = |why: String| Error::new(ErrorKind::Failed, format!("cannot read {}: {why}", path.display()));
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error.to_string())),
    };
    if meta.is_symlink() {
        return Err(fail("it is a symbolic link".into()).hint("Replace the link by the file itself."));
    }
    if !meta.is_file() {
        return Err(fail("it is not a file".into()));
    }
    if meta.len() > limits::MAX_STATE_FILE_BYTES {
        return Err(fail(format!("it has more than {} bytes", limits::MAX_STATE_FILE_BYTES)));
    }
    if meta.permissions().mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "the file could be read by others; its mode is 0600 again");
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(|error| fail(error.to_string()))?;
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limits::MAX_STATE_FILE_BYTES).read_to_end(&mut bytes))
        .map_err(|error| fail(error.to_string()))?;
    Ok(Some(bytes))
}

/// Replaces the file at `path` as [`HeldDir::replace`] does, in the directory to which the path leads now.
///
/// # Errors
/// Those of [`HeldDir::of`] and [`HeldDir::replace`].
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (directory, name) = HeldDir::of(path)?;
    directory.replace(&name, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_private_and_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("peers.json");
        let file = StateFile::at(path.clone()).unwrap();
        assert_eq!(file.read().unwrap(), None);
        fs::write(path.with_extension("json.tmp"), "left by a crash").unwrap();
        file.write("one").unwrap();
        file.write("two").unwrap();
        assert_eq!(file.read().unwrap().as_deref(), Some("two"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!path.with_extension("json.tmp").exists());
    }

    #[test]
    fn a_file_that_others_can_read_is_closed_to_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("peers.json");
        fs::write(&path, "text").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(StateFile::at(path.clone()).unwrap().read().unwrap().as_deref(), Some("text"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_link_is_neither_read_nor_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("real"), directory.path().join("peers.json"));
        fs::write(&real, "text").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let file = StateFile::at(link).unwrap();
        assert!(file.read().unwrap_err().message.contains("symbolic link"));
        assert!(file.write("new").unwrap_err().message.contains("symbolic link"));
        assert_eq!(fs::read_to_string(&real).unwrap(), "text");
    }
}
