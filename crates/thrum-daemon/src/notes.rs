//! An agent's notes to itself, with which it continues after losing its context: `.thrum/context/NAME.md`, and beside
//! it `NAME_preamble.md`, the part that stays. The files belong to one worktree and are never replicated. Go Thrum
//! keeps the same files.
//!
//! Both the command and the daemon use this module, so that both check a name before it becomes part of a path.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use thrum_core::{Error, ErrorKind, Timestamp, limits, name};

use crate::{paths::Repo, private_files};

/// The notes of the agents of one worktree.
#[derive(Clone, Debug)]
pub struct Notes(PathBuf);

/// One of an agent's two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Notes that the agent saves and clears as it works.
    Notes,
    /// Text that stays when the notes are cleared.
    Preamble,
}

/// The content of a file and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Usually Markdown, but another program may have written anything into the file.
    pub content: Vec<u8>,
    /// When the file was last written.
    pub updated_at: Timestamp,
}

impl Notes {
    /// Returns the notes of the worktree in which `repo` was found.
    pub fn of(repo: &Repo) -> Self {
        Self(repo.local_dir().join("context"))
    }

    /// Returns the notes in the `.thrum` at `thrum_dir`, such as one of Go Thrum that is imported.
    pub fn in_dir(thrum_dir: &Path) -> Self {
        Self(thrum_dir.join("context"))
    }

    /// Returns the names of the agents that have notes or a preamble here, among the first `most` entries of the
    /// directory.
    pub fn agents(&self, most: usize) -> BTreeSet<String> {
        let files = fs::read_dir(&self.0).into_iter().flatten().flatten().take(most);
        let names =
            files.filter_map(|entry| entry.file_name().into_string().ok()?.strip_suffix(".md").map(str::to_owned));
        let names = names.map(|name| name.strip_suffix("_preamble").map(str::to_owned).unwrap_or(name));
        names.filter(|name| name::check_agent(name).is_ok()).collect()
    }

    /// Returns the path of a part.
    ///
    /// # Errors
    /// `invalid` if `agent` is not a valid agent name, or if its notes would be another agent's preamble.
    pub fn path(&self, agent: &str, part: Part) -> Result<PathBuf, Error> {
        name::check_agent(agent)?;
        if agent.ends_with("_preamble") {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("{agent} cannot have notes: its file would be another agent's preamble"),
            ));
        }
        Ok(self.0.join(match part {
            Part::Notes => format!("{agent}.md"),
            Part::Preamble => format!("{agent}_preamble.md"),
        }))
    }

    /// Reads a part; `None` if it does not exist.
    ///
    /// # Errors
    /// Those of [`path`](Self::path); an error if the file or the directory is a link, or the file larger than
    /// [`limits::MAX_NOTES_BYTES`]; file system errors.
    pub fn read(&self, agent: &str, part: Part) -> Result<Option<Note>, Error> {
        let path = self.path(agent, part)?;
        if !self.is_there()? {
            return Ok(None);
        }
        let Some(content) = private_files::read_private(&path, limits::MAX_NOTES_BYTES as u64)? else {
            return Ok(None);
        };
        let written = fs::metadata(&path)
            .and_then(|about| about.modified())
            .map_err(|error| private_files::io_error("look at", &path, &error))?;
        Ok(Some(Note {
            content,
            updated_at: Timestamp::ZERO.plus(written.duration_since(std::time::UNIX_EPOCH).unwrap_or_default()),
        }))
    }

    /// Replaces a part, with mode 0600; durable on return.
    ///
    /// # Errors
    /// Those of [`path`](Self::path); `refused` if the directory is a link; `invalid` if the content is not UTF-8 or
    /// larger than [`limits::MAX_NOTES_BYTES`]; file system errors.
    pub fn write(&self, agent: &str, part: Part, content: &[u8]) -> Result<PathBuf, Error> {
        let path = self.path(agent, part)?;
        check(content)?;
        private_files::make_private_dir(&self.0)?;
        private_files::write_private(&path, content)?;
        Ok(path)
    }

    /// Removes the notes but not the preamble. Returns `true` if there were any notes.
    ///
    /// # Errors
    /// Those of [`path`](Self::path); file system errors.
    pub fn clear(&self, agent: &str) -> Result<bool, Error> {
        let path = self.path(agent, Part::Notes)?;
        if !self.is_there()? {
            return Ok(false);
        }
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(private_files::io_error("remove", &path, &error)),
        }
    }

    /// Returns `true` if the directory exists. A link is refused, because it would lead somewhere else.
    fn is_there(&self) -> Result<bool, Error> {
        match fs::symlink_metadata(&self.0) {
            Ok(about) if about.is_dir() => Ok(true),
            Ok(_) => Err(no_directory(&self.0)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(private_files::io_error("look at", &self.0, &error)),
        }
    }
}

/// Checks that content can be stored: UTF-8 of at most [`limits::MAX_NOTES_BYTES`].
///
/// # Errors
/// `invalid`, with the problem.
pub fn check(content: &[u8]) -> Result<(), Error> {
    if content.len() > limits::MAX_NOTES_BYTES {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("the notes have {} bytes, at most {} are kept", content.len(), limits::MAX_NOTES_BYTES),
        )
        .hint("They are read whole into a context window; keep what the next reader needs, and the rest in files."));
    }
    match std::str::from_utf8(content) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::new(
            ErrorKind::Invalid,
            format!("the notes are not UTF-8 (byte {} is the first that is wrong)", error.valid_up_to() + 1),
        )),
    }
}

fn no_directory(path: &Path) -> Error {
    Error::new(ErrorKind::Refused, format!("{} is no directory of its own", path.display()))
        .hint("Remove it; a link to another place is not followed.")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn fixture() -> (tempfile::TempDir, Repo, Notes) {
        let guard = tempfile::tempdir().unwrap();
        let repo = Repo::create(guard.path(), None).unwrap();
        let notes = Notes::of(&repo);
        (guard, repo, notes)
    }

    fn text(note: Option<Note>) -> Option<String> {
        note.map(|note| String::from_utf8(note.content).unwrap())
    }

    #[test]
    fn notes_are_kept_private_replaced_and_cleared_without_the_preamble() {
        let (_guard, repo, notes) = fixture();
        assert_eq!(notes.read("ann", Part::Notes).unwrap(), None);
        assert!(!notes.clear("ann").unwrap());
        notes.write("ann", Part::Preamble, b"I review.").unwrap();
        notes.write("ann", Part::Notes, b"one").unwrap();
        let path = notes.write("ann", Part::Notes, "zwei — 2".as_bytes()).unwrap();
        assert_eq!(path, repo.root().join(".thrum/context/ann.md"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(text(notes.read("ann", Part::Notes).unwrap()).as_deref(), Some("zwei — 2"));
        assert!(notes.read("ann", Part::Notes).unwrap().unwrap().updated_at > Timestamp::ZERO);
        assert!(notes.clear("ann").unwrap());
        assert_eq!(notes.read("ann", Part::Notes).unwrap(), None);
        assert_eq!(text(notes.read("ann", Part::Preamble).unwrap()).as_deref(), Some("I review."));
        assert_eq!(fs::read_dir(repo.root().join(".thrum/context")).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn c35_no_name_leads_out_of_the_directory_or_into_another_agents_file() {
        let (_guard, _, notes) = fixture();
        notes.write("ann", Part::Preamble, b"mine").unwrap();
        for name in ["../ann", "..", "a/b", "/etc/passwd", "", "ann\0", "Ann", ".ann", "ann_preamble", "everyone"] {
            assert_eq!(notes.write(name, Part::Notes, b"x").unwrap_err().kind, ErrorKind::Invalid, "{name:?}");
            assert_eq!(notes.read(name, Part::Notes).unwrap_err().kind, ErrorKind::Invalid, "{name:?}");
            assert_eq!(notes.clear(name).unwrap_err().kind, ErrorKind::Invalid, "{name:?}");
        }
        assert_eq!(text(notes.read("ann", Part::Preamble).unwrap()).as_deref(), Some("mine"));
    }

    #[test]
    fn a_link_is_neither_followed_nor_written_through() {
        let (guard, repo, notes) = fixture();
        let outside = guard.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("ann.md"), "secret").unwrap();
        let dir = repo.root().join(".thrum/context");
        symlink(&outside, &dir).unwrap();
        assert_eq!(notes.read("ann", Part::Notes).unwrap_err().kind, ErrorKind::Refused);
        assert_eq!(notes.write("ann", Part::Notes, b"x").unwrap_err().kind, ErrorKind::Refused);
        assert_eq!(notes.clear("ann").unwrap_err().kind, ErrorKind::Refused);
        fs::remove_file(&dir).unwrap();
        fs::create_dir(&dir).unwrap();
        symlink(outside.join("ann.md"), dir.join("ann.md")).unwrap();
        assert!(notes.read("ann", Part::Notes).is_err());
        notes.write("ann", Part::Notes, b"x").unwrap();
        assert_eq!(fs::read_to_string(outside.join("ann.md")).unwrap(), "secret");
    }

    #[test]
    fn notes_that_are_too_long_or_no_text_are_refused_and_the_old_ones_stay() {
        let (_guard, _, notes) = fixture();
        notes.write("ann", Part::Notes, &vec![b'x'; limits::MAX_NOTES_BYTES]).unwrap();
        assert_eq!(
            notes.write("ann", Part::Notes, &vec![b'x'; limits::MAX_NOTES_BYTES + 1]).unwrap_err().kind,
            ErrorKind::Invalid
        );
        let error = notes.write("ann", Part::Notes, b"ab\xff").unwrap_err();
        assert!(error.message.contains("byte 3"), "{error}");
        assert_eq!(notes.read("ann", Part::Notes).unwrap().unwrap().content.len(), limits::MAX_NOTES_BYTES);
    }
}
