//! `git.json`: which remote is used, and which daemons on it were seen, trusted and distrusted.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thrum_core::{Error, ErrorKind, Timestamp, name};

use crate::{paths::Repo, private_files};

/// The most bytes of the file: a thousand daemons of some 200 bytes.
const MOST: u64 = 1 << 20;

/// The most daemons that are remembered. Those that nobody decided about are forgotten first.
const MOST_KNOWN: usize = 1_000;

/// The content of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// The remote that is used; `None` while sync through git is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) remote: Option<String>,
    /// Whether what is published is encrypted.
    #[serde(default)]
    pub(super) encrypts: bool,
    /// The daemons that were seen, by id.
    #[serde(default)]
    pub(super) known: BTreeMap<String, Known>,
}

/// A daemon that was seen on the remote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    /// Its name when it was last seen, escaped for display.
    pub(super) name: String,
    pub(super) first_seen: Timestamp,
    /// What a person decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) is_trusted: Option<bool>,
}

/// The key of a daemon in a form that people can compare: 16 characters in groups of four.
pub(crate) fn fingerprint(id: &str) -> String {
    let digest = Sha256::digest(id.as_bytes());
    let text = data_encoding::BASE32_NOPAD.encode(&digest[..10]).to_lowercase();
    let groups: Vec<&str> = (0..4).map(|n| &text[4 * n..4 * n + 4]).collect();
    groups.join("-")
}

impl State {
    /// Reads the file; the default if there is none.
    pub(super) fn load(repo: &Repo) -> Result<Self, Error> {
        let path = path(repo);
        let Some(bytes) = private_files::read_private(&path, MOST)? else { return Ok(Self::default()) };
        serde_json::from_slice(&bytes).map_err(|error| {
            Error::new(ErrorKind::Failed, format!("{} cannot be used: {error}", path.display()))
                .hint("Repair or remove the file, then: thrum sync git on")
        })
    }

    /// Replaces the file; durable on return.
    pub(super) fn save(&self, repo: &Repo) -> Result<(), Error> {
        let mut state = self.clone();
        while state.known.len() > MOST_KNOWN {
            let undecided = state.known.iter().find(|(_, known)| known.is_trusted.is_none()).map(|(id, _)| id.clone());
            let Some(id) = undecided.or_else(|| state.known.keys().next().cloned()) else { break };
            state.known.remove(&id);
        }
        let bytes = serde_json::to_vec_pretty(&state)
            .map_err(|error| Error::new(ErrorKind::Failed, format!("cannot write git.json: {error}")))?;
        private_files::write_private(&path(repo), &bytes)
    }

    /// The id of the daemon that is meant by a name, a fingerprint or an id.
    pub(super) fn find(&self, name: &str) -> Result<String, Error> {
        let is_meant = |(id, known): &(&String, &Known)| *id == name || fingerprint(id) == name || known.name == name;
        let meant: Vec<&String> = self.known.iter().filter(is_meant).map(|(id, _)| id).collect();
        match &meant[..] {
            [id] => Ok((*id).clone()),
            [] => {
                Err(Error::new(ErrorKind::NotFound, format!("no daemon {} was seen on the remote", name::quoted(name)))
                    .hint("thrum sync git status"))
            }
            several => {
                let prints: Vec<String> = several.iter().map(|id| fingerprint(id)).collect();
                Err(Error::new(
                    ErrorKind::NotFound,
                    format!("{} daemons are called {}: {}", several.len(), name::quoted(name), prints.join(", ")),
                )
                .hint(format!("thrum sync git trust {}", prints[0])))
            }
        }
    }
}

fn path(repo: &Repo) -> PathBuf {
    repo.var().join("git.json")
}
