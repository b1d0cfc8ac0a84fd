//! The user's settings for the tailnet.

use std::{fmt, path::PathBuf};

use thrum_sync::peers::Ambients;
use zeroize::Zeroizing;

/// The default control server: Tailscale's.
pub const DEFAULT_CONTROL_URL: &str = "https://controlplane.tailscale.com";

/// The node that the daemon uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The daemon's own node if there is an auth key or a registered node in the state directory, otherwise the
    /// machine's node. Also the machine's node if there is no `tailscaled` to run and the machine's node is up.
    #[default]
    Auto,
    /// The machine's node, run by its system-wide `tailscaled`.
    Host,
    /// The daemon's own node: a private `tailscaled`.
    Own,
}

impl Mode {
    /// Parses `auto`, `host` or `own`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "host" => Some(Self::Host),
            "own" => Some(Self::Own),
            _ => None,
        }
    }
}

/// A key that registers a node without user interaction. It is never printed and is wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthKey(Zeroizing<String>);

impl AuthKey {
    /// Wraps a key, without surrounding white space; `None` for an empty one.
    pub fn new(key: impl Into<String>) -> Option<Self> {
        let key = Zeroizing::new(key.into());
        let trimmed = key.trim();
        (!trimmed.is_empty()).then(|| Self(Zeroizing::new(trimmed.to_owned())))
    }

    /// The secret itself, to be passed to `tailscaled` only.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthKey([redacted])")
    }
}

/// The settings of the tailnet transport. Invalid values lead to an error [`State`](crate::State), never to an error
/// return.
#[derive(Clone)]
pub struct Config {
    /// Whether the tailnet is used; [`Tailnet::enable`](crate::Tailnet::enable) can switch it on later.
    pub enabled: bool,
    /// The node to use.
    pub mode: Mode,
    /// The host name that the own node requests.
    pub hostname: String,
    /// The key that registers the own node; `None` if a user logs the node in.
    pub auth_key: Option<AuthKey>,
    /// The control server of the own node; `None` means [`DEFAULT_CONTROL_URL`].
    pub control_url: Option<String>,
    /// The directory where the own node stores its keys.
    pub state_dir: PathBuf,
    /// The fixed port for connections from peers; `None` if none is configured.
    pub port: Option<u16>,
    /// The socket of the machine's `tailscaled`.
    pub host_socket: PathBuf,
    /// The `tailscaled` to run; `None` means the one on `PATH` or in a usual directory.
    pub tailscaled: Option<PathBuf>,
    /// The log file for the output of the own `tailscaled`.
    pub log_file: PathBuf,
    /// A directory for the own node's socket if the path of `state_dir` is too long for one. Created if missing, and
    /// accessible to its owner only.
    pub runtime_dir: PathBuf,
    /// Creates clocks and random sources.
    pub ambients: Ambients,
}

impl Config {
    /// Removes the auth key from foreign text, which may repeat it.
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
