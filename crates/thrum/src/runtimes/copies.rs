//! Stores copies of files as they were before `setup` changed them.
//!
//! For nearly all files, removing our parts restores the original text byte for byte. For the others, `setup` keeps a
//! copy until `--remove`. Examples are JSON on a single line, which our parts spread over several lines, and an empty
//! `"hooks": {}`, which looks like one that `setup` added. The file of copies is readable by its owner only, because
//! settings may contain secrets.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use thrum_core::{Error, ErrorKind};
use thrum_daemon::paths::Repo;

use crate::new_file;

/// The copies of one repository, by the path of the original file.
pub(crate) struct Copies {
    path: PathBuf,
    texts: BTreeMap<String, String>,
    is_changed: bool,
}

impl Copies {
    /// Loads the copies of a repository; none if there is no file of copies.
    ///
    /// # Errors
    /// `failed` if the file cannot be read: the next change would overwrite the copies in it.
    pub(crate) fn of(repo: &Repo) -> Result<Self, Error> {
        let path = repo.var().join("setup.json");
        let unreadable = |why: String| {
            Error::new(ErrorKind::Failed, format!("cannot read {}: {why}", path.display())).hint(
                "It has the original text of files that `thrum setup` changed. Repair it, or move it away: then \
                 --remove takes out Thrum's parts, but may not restore these files byte for byte.",
            )
        };
        let texts = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(unreadable(error.to_string())),
        };
        Ok(Self { path, texts, is_changed: false })
    }

    pub(super) fn get(&self, file: &Path) -> Option<&str> {
        self.texts.get(&name(file)).map(String::as_str)
    }

    pub(super) fn insert(&mut self, file: &Path, text: String) {
        self.is_changed = true;
        self.texts.insert(name(file), text);
    }

    pub(super) fn remove(&mut self, file: &Path) {
        self.is_changed |= self.texts.remove(&name(file)).is_some();
    }

    /// Writes the copies to disk if they have changed.
    ///
    /// # Errors
    /// `failed` with the file system's reason.
    pub(super) fn save(&mut self) -> Result<(), Error> {
        let written = match (self.is_changed, self.texts.is_empty()) {
            (false, _) => Ok(()),
            (true, true) => fs::remove_file(&self.path),
            (true, false) => new_file::replace(&self.path, 0o600, &serde_json::json!(self.texts).to_string()),
        };
        self.is_changed = false;
        written.map_err(|error| Error::new(ErrorKind::Failed, format!("cannot write {}: {error}", self.path.display())))
    }
}

fn name(file: &Path) -> String {
    file.display().to_string()
}
