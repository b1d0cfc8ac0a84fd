//! How the tailnet stands, for people and for `status --json`.

use std::net::IpAddr;

use thrum_core::Stamp;

use crate::{Mode, State};

/// How the tailnet stands now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether it is used at all.
    pub enabled: bool,
    /// Which node is used, [`Mode::Host`] or [`Mode::Own`]; `None` until that is decided.
    pub mode: Option<Mode>,
    /// Why that one, in words.
    pub why: String,
    /// The state.
    pub state: State,
    /// What is the matter, unless it simply works. Also said while it works, of a name that was taken.
    pub sentence: Option<String>,
    /// What mends it.
    pub hint: Option<String>,
    /// Where a person logs the node in.
    pub login_url: Option<String>,
    /// What the tailnet calls this node: the first label of its name.
    pub hostname: Option<String>,
    /// Its whole name, without a dot at the end.
    pub dns_name: Option<String>,
    /// Its addresses, IPv4 first. Peers use the first.
    pub addresses: Vec<IpAddr>,
    /// Whose it is: a login name, or tags joined by commas.
    pub user: Option<String>,
    /// Its home relay, through which it is reached where there is no direct path.
    pub relay: Option<String>,
    /// What Tailscale itself complains of, in its words. It may work nevertheless.
    pub warnings: Vec<String>,
    /// Callers turned away.
    pub refused: Refused,
    /// Since when the state is what it is.
    pub since: Stamp,
}

/// Callers turned away: programs of this machine on the tailnet's port, nodes of the tailnet on the local one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// How many, since the start.
    pub count: u64,
    /// Where the last one came from.
    pub last: Option<String>,
    /// When.
    pub at: Option<Stamp>,
}

impl Status {
    /// Before anything is known.
    pub(crate) fn unknown(enabled: bool, since: Stamp) -> Self {
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
