//! `git.json`: which remote is used, and which daemons on it were seen, trusted and distrusted.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thrum_core::{Error, ErrorKind, Timestamp, name};

use super::places::Places;
use crate::{paths::Repo, private_files};

/// The most bytes of the file: a thousand daemons of some 200 bytes.
const MOST: u64 = 1 << 20;

/// The most daemons that are remembered. [`State::save`] forgets those first that no person has decided about.
pub(super) const MOST_KNOWN: usize = 1_000;

/// The most names of one command that its error lists.
const MOST_FAILURES: usize = 5;

/// The most fingerprints of daemons of one name that an error lists.
const MOST_NAMESAKES: usize = 8;

/// The content of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// The remote that is used; `None` while sync through git is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) remote: Option<String>,
    /// Whether this daemon encrypts what it publishes.
    #[serde(default)]
    pub(super) encrypts: bool,
    /// When the last exchange succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) exchanged_at: Option<Timestamp>,
    /// When something was published last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) published_at: Option<Timestamp>,
    /// Where this daemon publishes and has published.
    #[serde(default)]
    pub(super) places: Places,
    /// Whom trusted daemons vouched for when that was last read, by daemon.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) vouched: BTreeMap<String, BTreeSet<String>>,
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
    /// The number of its newest manifest that was seen.
    #[serde(default)]
    pub(super) number: u64,
    /// Whether its events were stored: a person, a peer or another trusted daemon vouched for it.
    #[serde(default)]
    pub(super) was_trusted: bool,
    /// Whether it waited for a decision in the last exchange, although its events may have been stored before.
    #[serde(default)]
    pub(super) is_waiting: bool,
    /// Whether it was trusted and missing on the remote in the last exchange.
    #[serde(default)]
    pub(super) is_gone: bool,
}

impl Known {
    /// Returns `true` if its events were stored, and neither a person nor those who vouched for it have withdrawn that.
    pub(super) fn counts_as_trusted(&self) -> bool {
        self.was_trusted && !self.is_waiting && self.is_trusted != Some(false)
    }
}

/// The key of a daemon in a form that people can compare: 16 characters in groups of four.
pub(super) fn fingerprint(id: &str) -> String {
    let digest = Sha256::digest(id.as_bytes());
    let text = data_encoding::BASE32_NOPAD.encode(&digest[..10]).to_lowercase();
    let groups: Vec<&str> = (0..4).map(|n| &text[4 * n..4 * n + 4]).collect();
    groups.join("-")
}

/// Returns `true` for a text in the form of a fingerprint.
fn is_fingerprint(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let is_group =
        |group: &&str| group.len() == 4 && group.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'));
    groups.len() == 4 && groups.iter().all(is_group)
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

    /// Replaces the file; durable on return. Forgets daemons if there are too many.
    pub(super) fn save(&mut self, repo: &Repo) -> Result<(), Error> {
        while self.known.len() > MOST_KNOWN {
            let undecided = self.known.iter().find(|(_, known)| known.is_trusted.is_none()).map(|(id, _)| id.clone());
            let Some(id) = undecided.or_else(|| self.known.keys().next().cloned()) else { break };
            self.known.remove(&id);
        }
        let bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::new(ErrorKind::Failed, format!("cannot write git.json: {error}")))?;
        private_files::write_private(&path(repo), &bytes)
    }

    /// The ids of the daemons that are meant by names, fingerprints or ids. `verb` is the command that decides about
    /// them: `trust` or `untrust`.
    ///
    /// # Errors
    /// `not_found` if one of them means no daemon, or more than one; the message has all of these.
    pub(super) fn find_all(&self, names: &[String], verb: &str) -> Result<BTreeSet<String>, Error> {
        let (mut ids, mut failures) = (BTreeSet::new(), Vec::new());
        for name in names {
            match self.find(name, verb) {
                Ok(id) => _ = ids.insert(id),
                Err(error) => failures.push(error),
            }
        }
        if failures.is_empty() {
            return Ok(ids);
        }
        let messages = failures.iter().take(MOST_FAILURES).map(|error| error.message.as_str());
        let mut what = messages.collect::<Vec<_>>().join("; ");
        if failures.len() > MOST_FAILURES {
            what.push_str(&format!("; and {} more", failures.len() - MOST_FAILURES));
        }
        if names.len() > 1 {
            what.push_str("; nothing is changed for the others");
        }
        let hint = failures.swap_remove(0).hint.unwrap_or_default();
        Err(Error::new(ErrorKind::NotFound, what).hint(hint))
    }

    /// The id of the daemon that is meant by a name, a fingerprint or an id.
    fn find(&self, name: &str, verb: &str) -> Result<String, Error> {
        // A daemon may call itself like the key of another one.
        let typed = name.to_lowercase();
        let by_key = self.known.keys().find(|id| *id == name || fingerprint(id) == typed);
        let is_key = thrum_core::DaemonId::parse(name).is_some() || is_fingerprint(&typed);
        let by_name = self.known.iter().filter(|(_, known)| !is_key && known.name == name).map(|(id, _)| id);
        let meant: Vec<&String> = by_key.map_or_else(|| by_name.collect(), |id| vec![id]);
        match &meant[..] {
            [id] => Ok((*id).clone()),
            [] => {
                let what = format!("no daemon {} was seen on the remote", name::quoted(name));
                Err(Error::new(ErrorKind::NotFound, what).hint("thrum sync git status"))
            }
            several => {
                // Anybody who may push can give any number of daemons the same name.
                let prints: Vec<String> = several.iter().take(MOST_NAMESAKES).map(|id| fingerprint(id)).collect();
                let more = if several.len() > prints.len() { ", …" } else { "" };
                let name = name::quoted(name);
                let what = format!("{} daemons are called {name}: {}{more}", several.len(), prints.join(", "));
                let hint = format!("Compare the fingerprints, then: thrum sync git {verb} {}", prints[0]);
                Err(Error::new(ErrorKind::NotFound, what).hint(hint))
            }
        }
    }
}

fn path(repo: &Repo) -> PathBuf {
    repo.var().join("git.json")
}
