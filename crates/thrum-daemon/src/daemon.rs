//! The parts of the running daemon.

use std::{sync::Arc, time::Instant};

use thrum_core::{Ambient, Error, Machines, Timestamp, limits, name};
use thrum_sync::{Peers, blocking::blocking};
use thrum_tailnet::Tailnet;
use tokio::sync::Notify;

use crate::{
    ambient::{self, System},
    caller,
    config::Config,
    env::{Effective, Settings},
    git_state::GitState,
    git_sync::GitSync,
    guard::Guard,
    hold::Hold,
    large::LargeAnswers,
    paths::Repo,
    programs::Programs,
    shutdown::Shutdown,
    signs_of_life::SignsOfLife,
    storage::Storage,
    tailnet,
    waiters::Waiters,
    wake_registry::WakeRegistry,
};

/// The parts that the RPC methods use.
pub(crate) struct Daemon {
    /// The daemon's id, which is the home of the agents registered here.
    pub(crate) id: String,
    /// The daemon's name towards its peers.
    pub(crate) name: String,
    pub(crate) repo: Repo,
    pub(crate) settings: Settings,
    pub(crate) config: Config,
    /// The variables in effect that have no key in `config.json`; a secret is shown as a mark.
    pub(crate) variables: Vec<Effective>,
    /// Problems in the settings.
    pub(crate) warnings: Vec<String>,
    pub(crate) version: String,
    pub(crate) started: Instant,
    pub(crate) storage: Arc<Storage>,
    pub(crate) wakes: Arc<WakeRegistry>,
    pub(crate) live: Live,
    pub(crate) peers: Peers,
    /// Notified when the data of a removed peer must be dropped.
    pub(crate) forgetting: Arc<Notify>,
    pub(crate) tailnet: Tailnet,
    pub(crate) git_sync: GitSync,
    pub(crate) shutdown: Shutdown,
    pub(crate) hold: Hold,
    pub(crate) large: LargeAnswers,
}

/// The current state of the local agents, in memory. What must survive a restart is stored as well: the last signs of
/// life and the programs' sessions beside the log, the announced states of the programs as events.
#[derive(Default)]
pub(crate) struct Live {
    /// Named waits; only the newest wait of a name continues.
    pub(crate) waiters: Waiters,
    /// The agents' last signs of life.
    pub(crate) presence: Arc<SignsOfLife>,
    /// The state of the agents' programs.
    pub(crate) programs: Arc<Programs>,
    /// The mail that is refused because its author and its recipient have exchanged too many messages without a
    /// person.
    pub(crate) guard: Guard,
    /// The agents whose worktrees must be read from git.
    pub(crate) git_state: Arc<GitState>,
}

impl Daemon {
    /// Returns the agent in whose name a call is made: the named agent, or else the agent of the calling process
    /// ([`caller::of_process`]).
    ///
    /// # Errors
    /// `invalid` if no agent is named and the process does not clearly belong to one agent.
    pub(crate) fn caller(&self, named: Option<String>, process: Option<i32>) -> Result<String, Error> {
        match named.filter(|name| !name.is_empty()) {
            Some(name) => Ok(name),
            None => caller::of_process(&self.repo, process),
        }
    }

    /// Records an agent's sign of life.
    pub(crate) fn heard_of(&self, agent: &str) {
        let now = System.now();
        if agent.len() <= limits::MAX_FOREIGN_ID_BYTES && self.live.presence.seen(agent, now) {
            let agent = agent.to_owned();
            self.storage.write_unless_busy(move |tx| tx.seen(&agent, now));
        }
    }

    /// Returns the last sign of life of an agent of `home`; `recorded` is the one in the store.
    pub(crate) fn last_seen(&self, agent: &str, home: &str, recorded: Timestamp) -> Timestamp {
        if home != self.id {
            recorded
        } else if self.wakes.is_heard_by(agent) {
            System.now()
        } else {
            self.live.presence.last(agent, System.now()).map_or(recorded, |seen| seen.max(recorded))
        }
    }

    /// Switches the tailnet on permanently unless it is on, because somebody wants to pair over it.
    ///
    /// # Errors
    /// `refused` if the user keeps the daemon off the tailnet; file system errors; those of
    /// [`Hold::check`](crate::hold::Hold::check).
    pub(crate) async fn enable_tailnet(&self) -> Result<(), Error> {
        self.hold.check()?;
        let (tailnet, repo, config) = (self.tailnet.clone(), self.repo.clone(), self.config.clone());
        blocking(move || tailnet::enable(&tailnet, &repo, &config)).await
    }

    /// Returns the names of this machine, of the peers' machines, and of those that are reached through git.
    /// [`Reader::name_machines`](thrum_store::Reader::name_machines) adds the names of
    /// daemons that are known only through a peer.
    pub(crate) fn machines(&self) -> Machines {
        let (peers, git) = (self.peers.list(), self.git_sync.names());
        let peers = peers.iter().map(|peer| (peer.daemon_id.as_str(), peer.name.as_str()));
        let through_git = git.iter().map(|(id, name)| (id.as_str(), name.as_str()));
        Machines::new((&self.id, &self.name), peers.chain(through_git))
    }

    /// Returns the name of the machine, as shown with the agents that live here.
    pub(crate) fn hostname(&self) -> String {
        self.settings.hostname.clone().unwrap_or_else(ambient::hostname)
    }
}

/// Returns the name of the daemon of `repo` towards other machines: the user's setting, or else `HOSTNAME-REPO` in
/// lower case. Unprintable characters are left out, and the name is cut to [`limits::MAX_PEER_NAME_CHARS`]; `thrum` if
/// nothing remains.
pub(crate) fn name_towards_peers(settings: &Settings, repo: &Repo) -> String {
    let name = settings
        .ts_hostname
        .clone()
        .unwrap_or_else(|| format!("{}-{}", ambient::hostname(), repo.name()).to_lowercase());
    let printable: String = name.chars().filter(|c| name::is_printable(*c)).take(limits::MAX_PEER_NAME_CHARS).collect();
    if printable.is_empty() { "thrum".to_owned() } else { printable }
}
