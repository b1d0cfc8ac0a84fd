//! The status of the tailnet, for people and for `status --json`.

use std::net::IpAddr;

use thrum_core::Timestamp;

use crate::{Mode, State};

/// The current status of the tailnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether the tailnet is used.
    pub enabled: bool,
    /// The node in use, [`Mode::Host`] or [`Mode::Own`]; `None` until that is decided.
    pub mode: Option<Mode>,
    /// Why this node was chosen, in words.
    pub why: String,
    /// The state of the transport.
    pub state: State,
    /// What is wrong, in one sentence. Also set during most of a node's start, and on a running node whose requested name was
    /// taken; otherwise `None`.
    pub sentence: Option<String>,
    /// How to solve the problem; `None` if there is nothing to do.
    pub hint: Option<String>,
    /// The URL at which a user logs the node in; `None` unless a login is needed.
    pub login_url: Option<String>,
    /// The node's name on the tailnet: the first label of its DNS name.
    pub hostname: Option<String>,
    /// The node's full DNS name, without a trailing dot.
    pub dns_name: Option<String>,
    /// The node's addresses, IPv4 first. Peers use the first.
    pub addresses: Vec<IpAddr>,
    /// The node's owner: a login name, or tags joined by commas.
    pub user: Option<String>,
    /// The node's home relay, used where there is no direct path.
    pub relay: Option<String>,
    /// Warnings from Tailscale, in its own words. The node may work nevertheless.
    pub warnings: Vec<String>,
    /// The refused callers.
    pub refused: Refused,
    /// When the current state began; a start counts from when the transport was created.
    pub since: Timestamp,
}

/// Refused callers: local programs on the tailnet's port, nodes of the tailnet on the local port, and callers that
/// cannot be identified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// Number of refused callers since the start.
    pub count: u64,
    /// The address of the last refused caller; `None` if there was none.
    pub last: Option<String>,
    /// When the last refused caller called; `None` if there was none.
    pub at: Option<Timestamp>,
}

impl Status {
    /// The status before anything is known about the node.
    pub(crate) fn unknown(enabled: bool, since: Timestamp) -> Self {
        Self {
            enabled,
            mode: None,
            why: if enabled { "not decided yet" } else { "the tailnet is not enabled" }.to_owned(),
            state: if enabled { State::Starting } else { State::Off },
            sentence: None,
            hint: (!enabled).then(|| "Put THRUM_TS_ENABLED=true into .env, then `thrum daemon restart`.".to_owned()),
            login_url: None,
            hostname: None,
            dns_name: None,
            addresses: Vec::new(),
            user: None,
            relay: None,
            warnings: Vec::new(),
            refused: Refused::default(),
            since,
        }
    }
}
