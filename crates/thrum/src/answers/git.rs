//! Sync through a git remote.

use serde::Deserialize;
use thrum_core::Timestamp;

/// The answer to `git.status` and the methods that change something.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct GitStatus {
    pub(crate) state: String,
    pub(crate) remote: Option<String>,
    pub(crate) encrypted: bool,
    pub(crate) own_fingerprint: String,
    pub(crate) last_exchange_at: Option<Timestamp>,
    pub(crate) last_published_at: Option<Timestamp>,
    pub(crate) last_error: Option<String>,
    pub(crate) next_exchange_at: Option<Timestamp>,
    pub(crate) daemons: Vec<GitDaemon>,
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) left_out: u64,
    pub(crate) left_behind: Vec<LeftBehind>,
}

/// A ref of this daemon where it published before.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LeftBehind {
    pub(crate) remote: String,
    #[serde(rename = "ref")]
    pub(crate) reference: String,
    /// Why it could not be removed; `None` before the first attempt.
    pub(crate) reason: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct GitDaemon {
    pub(crate) name: String,
    pub(crate) fingerprint: String,
    pub(crate) state: String,
    pub(crate) reason: Option<String>,
    pub(crate) published_at: Option<Timestamp>,
    /// `None` if its manifest cannot be read.
    pub(crate) encrypted: Option<bool>,
    pub(crate) missing_here: u64,
    pub(crate) missing_there: u64,
    pub(crate) purged: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Waiting {
    pub(crate) name: String,
    pub(crate) fingerprint: String,
    pub(crate) first_seen: Option<Timestamp>,
}
