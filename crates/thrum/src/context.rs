//! What every command may ask for: the repository, who I am, the daemon, and where the words go. Each is found when first asked for.

use std::{cell::OnceCell, env, path::Path, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use thrum_core::{ErrorKind, Fault, name::printable};
use thrum_daemon::paths::Repo;

use crate::{
    cli::Global,
    client::{self, Client},
    identity::{self, Identity},
    output::Output,
    start,
};

/// The surroundings of a command.
pub(crate) struct Context {
    pub(crate) output: Output,
    global: Global,
    repo: OnceCell<Repo>,
    identity: OnceCell<Identity>,
}

impl Context {
    pub(crate) fn new(global: Global, output: Output) -> Self {
        Self { output, global, repo: OnceCell::new(), identity: OnceCell::new() }
    }

    /// The directory the caller means: `--repo`, else the current one.
    pub(crate) fn directory(&self) -> &Path {
        self.global.repo.as_deref().unwrap_or(Path::new("."))
    }

    /// The repository, with its `.thrum`.
    pub(crate) fn repo(&self) -> Result<&Repo, Fault> {
        if let Some(repo) = self.repo.get() {
            return Ok(repo);
        }
        let found = Repo::discover(self.directory())?;
        if let Some(nested) = found.nested() {
            let (outer, nested) = (found.main_root().display(), nested.display());
            self.output.hint(&format!("This is the mailbox of {outer}, which is around {nested}; `thrum init` here makes one of its own."));
        }
        Ok(self.repo.get_or_init(|| found))
    }

    /// Who I am. One place decides: [`identity::resolve`].
    pub(crate) fn identity(&self) -> Result<Identity, Fault> {
        if let Some(identity) = self.identity.get() {
            return Ok(identity.clone());
        }
        let env = if self.global.acting_as.is_some() { None } else { env_name()? };
        let found = identity::resolve(self.global.acting_as.as_deref(), env.as_deref(), &self.repo()?.identities())?;
        if found.source == "environment" && found.file.is_none() {
            self.output.warn(&format!("acting as @{}, as the variable THRUM_NAME says; it has no identity in this worktree", found.name));
        }
        Ok(self.identity.get_or_init(|| found).clone())
    }

    /// The name given by flag or environment, whether or not an identity of that name is here.
    pub(crate) fn given_name(&self) -> Result<Option<String>, Fault> {
        if self.global.acting_as.is_some() { Ok(self.global.acting_as.clone()) } else { env_name() }
    }

    /// Whether the daemon may be started by a command that needs it.
    pub(crate) fn may_start(&self) -> bool {
        !self.global.no_start
    }

    /// A connection to the daemon, which is started unless it runs.
    pub(crate) fn daemon(&self) -> Result<Client, Fault> {
        let repo = self.repo()?;
        match Client::connect(&repo.socket()) {
            Ok(client) => Ok(client),
            Err(error) if client::nobody_listens(&error) => start::on_demand(self, repo),
            Err(error) => Err(client::cannot_connect(&repo.socket(), &error)),
        }
    }

    /// A connection to the daemon if it runs.
    pub(crate) fn running_daemon(&self) -> Result<Option<Client>, Fault> {
        let socket = self.repo()?.socket();
        match Client::connect(&socket) {
            Ok(client) => Ok(Some(client)),
            Err(error) if client::nobody_listens(&error) => Ok(None),
            Err(error) => Err(client::cannot_connect(&socket, &error)),
        }
    }

    /// Calls a method that may be repeated without harm: a broken connection is made anew, once, if need be with a new daemon.
    pub(crate) fn repeat<T: DeserializeOwned>(&self, within: Duration, method: &str, params: &impl Serialize) -> Result<T, Fault> {
        match self.daemon()?.attempt(within, method, params) {
            Ok(answer) => answer,
            Err(_) => self.daemon()?.call_within(within, method, params),
        }
    }
}

/// The agent that the environment names: `THRUM_NAME`, or `THRUM_AGENT_ID`, which Go Thrum obeys without looking further and
/// which is here but another name of the same.
fn env_name() -> Result<Option<String>, Fault> {
    let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
    match (variable("THRUM_NAME"), variable("THRUM_AGENT_ID")) {
        (Some(name), Some(id)) if name != id => Err(Fault::new(
            ErrorKind::Invalid,
            format!("THRUM_NAME says '{}' and THRUM_AGENT_ID says '{}'", printable(&name), printable(&id)),
        )
        .hint("unset the one that is wrong, or use --as NAME.")),
        (name, id) => Ok(name.or(id)),
    }
}
