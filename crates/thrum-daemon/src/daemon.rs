//! What the daemon is made of once it runs, and what a client can ask of it.

use std::{sync::Arc, time::Instant};

use serde::Deserialize;
use thrum_core::{Ambient, ErrorKind, Fault, Machines, Stamp, limits, name};
use thrum_sync::Peers;
use thrum_tailnet::Tailnet;
use tokio::sync::Notify;

use crate::{
    ambient::{self, System},
    bell::Bell,
    caller,
    config::Config,
    env::{Effective, Settings},
    hold::Hold,
    paths::Repo,
    presence::Presence,
    rpc::{
        connection::{Kept, Outcome, Pace, Service},
        envelope::Params,
        methods,
    },
    shutdown::Shutdown,
    storage::Storage,
    tailnet,
};

/// The parts that methods work with.
pub(crate) struct Daemon {
    /// Its id; the home of the agents registered here.
    pub(crate) id: String,
    /// Its name towards peers.
    pub(crate) name: String,
    pub(crate) repo: Repo,
    pub(crate) settings: Settings,
    pub(crate) config: Config,
    /// The variables that `settings` and `config` were read from.
    pub(crate) variables: Vec<Effective>,
    /// What was wrong with the settings.
    pub(crate) warnings: Vec<String>,
    pub(crate) version: String,
    pub(crate) started: Instant,
    pub(crate) storage: Arc<Storage>,
    pub(crate) bell: Arc<Bell>,
    pub(crate) presence: Presence,
    pub(crate) peers: Peers,
    /// Told when what a removed peer brought is to go.
    pub(crate) forgetting: Arc<Notify>,
    pub(crate) tailnet: Tailnet,
    pub(crate) shutdown: Shutdown,
    pub(crate) hold: Hold,
}

impl Daemon {
    /// The agent in whose name a call is made: the one it names, else the agent of the process that made it
    /// ([`caller::of_process`]).
    ///
    /// # Errors
    /// `invalid` if it names none and the process is not clearly one agent's.
    pub(crate) fn caller(&self, named: Option<String>, process: Option<i32>) -> Result<String, Fault> {
        match named.filter(|name| !name.is_empty()) {
            Some(name) => Ok(name),
            None => caller::of_process(&self.repo, process),
        }
    }

    /// Notes that an agent was heard of, for as long as nobody heard more of it.
    pub(crate) fn heard_of(&self, agent: &str) {
        let now = System.now();
        if agent.len() <= limits::MAX_FOREIGN_ID_BYTES && self.presence.seen(agent, now) {
            let agent = agent.to_owned();
            self.storage.note(move |tx| tx.seen(&agent, now));
        }
    }

    /// The last sign of life of an agent of `home`, of which `recorded` is what the store knows.
    pub(crate) fn last_seen(&self, agent: &str, home: &str, recorded: Stamp) -> Stamp {
        if home != self.id {
            recorded
        } else if self.bell.is_heard_by(agent) {
            System.now()
        } else {
            self.presence.last(agent, System.now()).map_or(recorded, |seen| seen.max(recorded))
        }
    }

    /// Switches the tailnet on for good, if it is not: somebody wants to pair over it.
    ///
    /// # Errors
    /// `refused` where the user keeps the daemon from it; the file system's.
    pub(crate) async fn enable_tailnet(&self) -> Result<(), Fault> {
        let (tailnet, repo, config) = (self.tailnet.clone(), self.repo.clone(), self.config.clone());
        let enabled = tokio::task::spawn_blocking(move || tailnet::enable(&tailnet, &repo, &config)).await;
        enabled.map_err(|error| Fault::new(ErrorKind::Failed, format!("an internal task failed: {error}")))?
    }

    /// The names of this machine and of the peers' machines. [`Reader::name_machines`](thrum_store::Reader::name_machines) adds
    /// those behind them.
    pub(crate) fn machines(&self) -> Machines {
        let peers = self.peers.list();
        Machines::new((&self.id, &self.name), peers.iter().map(|peer| (peer.daemon_id.as_str(), peer.name.as_str())))
    }

    /// The machine's name as shown with the agents that live here.
    pub(crate) fn hostname(&self) -> String {
        self.settings.hostname.clone().unwrap_or_else(ambient::hostname)
    }
}

/// What other machines call the daemon of `repo`: what the user says, else `HOSTNAME-REPO` in lower case.
pub(crate) fn name_towards_peers(settings: &Settings, repo: &Repo) -> String {
    let name = settings.ts_hostname.clone().unwrap_or_else(|| format!("{}-{}", ambient::hostname(), repo.name()).to_lowercase());
    let printable: String = name.chars().filter(|c| name::is_printable(*c)).take(limits::MAX_PEER_NAME_CHARS).collect();
    if printable.is_empty() { "thrum".to_owned() } else { printable }
}

impl Service for Daemon {
    fn pace(&self, method: &str) -> Option<Pace> {
        methods::pace(method)
    }

    async fn call(&self, method: &str, params: &Params, kept: &mut Kept) -> Result<Outcome, Fault> {
        /// Who calls, in every method where that matters.
        #[derive(Deserialize)]
        struct Caller {
            caller_agent_id: Option<String>,
        }
        // Before, because some methods write files, and after, because an answer is a promise.
        self.hold.check()?;
        let outcome = methods::call(self, method, params, kept).await;
        self.hold.check()?;
        let outcome = outcome?;
        // Only now: a call in the name of somebody who does not live here has failed.
        if let Ok(Caller { caller_agent_id: Some(agent) }) = params.read() {
            self.heard_of(&agent);
        }
        Ok(outcome)
    }
}
