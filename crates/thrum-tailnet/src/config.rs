//! What the user says about the tailnet.

use std::{fmt, path::PathBuf};

use thrum_sync::service::Ambients;
use zeroize::Zeroizing;

/// The control server where none is named: Tailscale's.
pub const DEFAULT_CONTROL_URL: &str = "https://controlplane.tailscale.com";

/// Which node is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The own one when there is an auth key or a stored state, else the machine's.
    #[default]
    Auto,
    /// The machine's own node.
    Host,
    /// A private node.
    Own,
}

impl Mode {
    /// Reads `auto`, `host` or `own`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "host" => Some(Self::Host),
            "own" => Some(Self::Own),
            _ => None,
        }
    }
}

/// A key that registers a node without a person. Prints nothing of itself and is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthKey(Zeroizing<String>);

impl AuthKey {
    /// Takes the key; `None` for an empty one.
    pub fn new(key: impl Into<String>) -> Option<Self> {
        let key = Zeroizing::new(key.into());
        let trimmed = key.trim();
        (!trimmed.is_empty()).then(|| Self(Zeroizing::new(trimmed.to_owned())))
    }

    /// The secret itself, for `tailscaled` only.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthKey([redacted])")
    }
}

/// What the tailnet needs to know. Wrong values become a [`State`](crate::State), never an error.
#[derive(Clone)]
pub struct Config {
    /// Whether it is used at all; [`Tailnet::enable`](crate::Tailnet::enable) can switch it on later.
    pub enabled: bool,
    /// Which node.
    pub mode: Mode,
    /// What the own node wants to be called.
    pub hostname: String,
    /// Registers the own node; needed until it is registered.
    pub auth_key: Option<AuthKey>,
    /// The own node's control server; [`DEFAULT_CONTROL_URL`] if none.
    pub control_url: Option<String>,
    /// Where the own node keeps its keys.
    pub state_dir: PathBuf,
    /// Where peers reach us, if it is fixed.
    pub port: Option<u16>,
    /// The socket of the machine's `tailscaled`.
    pub host_socket: PathBuf,
    /// The `tailscaled` to run; else the one on `PATH` or in a usual place.
    pub tailscaled: Option<PathBuf>,
    /// Where the own `tailscaled`'s words go.
    pub log_file: PathBuf,
    /// A directory for the own node's socket if `state_dir` is too long a path for one; made if it is not there, and only its
    /// owner may enter it.
    pub runtime_dir: PathBuf,
    /// Clock and randomness.
    pub ambients: Ambients,
}

impl Config {
    /// Others' words, should they repeat the key.
    pub(crate) fn without_key(&self, words: &str) -> String {
        match &self.auth_key {
            Some(key) => words.replace(key.reveal(), "[key]"),
            None => words.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_prints_nothing_of_itself_and_an_empty_one_is_none() {
        let key = AuthKey::new(" tskey-auth-x \n").unwrap();
        assert_eq!(key.reveal(), "tskey-auth-x");
        assert_eq!(format!("{key:?}"), "AuthKey([redacted])");
        assert_eq!(AuthKey::new(" \n"), None);
    }
}
