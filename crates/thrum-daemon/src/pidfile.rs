//! `thrum.pid`: the daemon's process and start time, for people and diagnostics, and its socket, for clients if the
//! usual path is too long.
//!
//! The file decides nothing. A crash leaves it behind, and another process may have the same id by now. Only the lock
//! and an answer on the socket show whether a daemon runs.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thrum_core::{Error, limits};
use thrum_sync::held_dir::HeldDir;

use crate::private_files;

/// The daemon's description of itself, with Go Thrum's keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PidFile {
    /// The process id.
    pub pid: u32,
    /// The path of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo_path: Option<PathBuf>,
    /// The start time in RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// The socket that the daemon listens on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket_path: Option<PathBuf>,
}

/// Reads a pid file, including the plain number that old versions wrote. `None` if the file is missing or invalid.
pub fn read(path: &Path) -> Option<PidFile> {
    let bytes = private_files::read_private(path, limits::MAX_SMALL_FILE_BYTES).ok()??;
    let text = std::str::from_utf8(&bytes).ok()?.trim();
    match text.parse() {
        Ok(pid) => Some(PidFile { pid, repo_path: None, started_at: None, socket_path: None }),
        Err(_) => serde_json::from_str(text).ok(),
    }
}

/// Records in the file at `path` that this process is the daemon of the repository at `repo_path` and listens on
/// `socket`.
pub(crate) fn write(path: &Path, repo_path: &Path, socket: &Path, started_at: &str) -> Result<PidRecord, Error> {
    let file = PidFile {
        pid: std::process::id(),
        repo_path: Some(repo_path.to_owned()),
        started_at: Some(started_at.to_owned()),
        socket_path: Some(socket.to_owned()),
    };
    let json = serde_json::to_vec(&file).map_err(|error| private_files::io_error("write", path, &error.into()))?;
    let (directory, name) = HeldDir::of(path).map_err(|error| private_files::io_error("write", path, &error))?;
    directory.replace(&name, &json).map_err(|error| private_files::io_error("write", path, &error))?;
    Ok(PidRecord { directory, name })
}

/// The pid file of a running daemon; removed when dropped, while the lock is still held.
#[derive(Debug)]
pub(crate) struct PidRecord {
    directory: HeldDir,
    name: PathBuf,
}

impl Drop for PidRecord {
    fn drop(&mut self) {
        let _ = self.directory.remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn both_forms_are_parsed_and_garbage_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("thrum.pid");
        assert_eq!(read(&path), None);
        for (text, pid) in [
            ("4711\n", Some(4711)),
            (
                r#"{"pid":42,"repo_path":"/r","started_at":"2026-11-23T05:29:20Z","socket_path":"/r/s","more":1}"#,
                Some(42),
            ),
            ("", None),
            ("-1", None),
            ("{\"pid\":\"x\"}", None),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(read(&path).map(|file| file.pid), pid, "{text}");
        }
    }
}
