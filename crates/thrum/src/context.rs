//! The environment of a command: the repository, the agent's identity, the daemon, and the output. Repository and
//! identity are determined on first use.

use std::{
    cell::{OnceCell, RefCell},
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use thrum_core::{Error, ErrorKind, name::printable};
use thrum_daemon::paths::Repo;

use crate::{
    client::{self, Client},
    hook::Caller,
    identity::{self, Identity},
    interrupt::Interrupt,
    output::Output,
    start,
};

/// The options of every command.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// Print results and errors as one line of JSON
    #[arg(long, global = true, display_order = 900)]
    pub(crate) json: bool,
    /// The repository, or any directory inside it
    #[arg(long, global = true, value_name = "DIR", env = "THRUM_HOME", hide_env_values = true, display_order = 901)]
    pub(crate) repo: Option<PathBuf>,
    /// Act as this agent [default: the agent of this session, else THRUM_NAME, else the only identity of this worktree]
    #[arg(long = "as", global = true, value_name = "NAME", display_order = 902)]
    pub(crate) acting_as: Option<String>,
    /// Print only results and errors, without notes and hints
    #[arg(long, short, global = true, display_order = 903)]
    pub(crate) quiet: bool,
    /// Do not start the daemon if it is not running
    #[arg(long, global = true, display_order = 904)]
    pub(crate) no_start: bool,
}

/// The environment of a command.
pub(crate) struct Context {
    pub(crate) output: Output,
    global: Global,
    repo: OnceCell<Repo>,
    identity: OnceCell<Identity>,
    caller: Caller,
    /// The connection of the last [`repeat`](Self::repeat), for the next one.
    connection: RefCell<Option<Client>>,
    /// Lets another thread cancel the command. `None` for a command in its own process, which a signal ends.
    interrupt: Option<Interrupt>,
}

impl Context {
    pub(crate) fn new(global: Global, output: Output) -> Self {
        Self {
            output,
            global,
            repo: OnceCell::new(),
            identity: OnceCell::new(),
            caller: Caller::of_process(),
            connection: RefCell::new(None),
            interrupt: None,
        }
    }

    /// The environment of one of many calls in one process: silent, and cancellable by another thread.
    pub(crate) fn of_call(global: Global, interrupt: Interrupt) -> Self {
        Self { interrupt: Some(interrupt), ..Self::new(global, Output::new(false, true)) }
    }

    /// Sets the caller; `None` leaves it as it is.
    pub(crate) fn by(self, caller: Option<Caller>) -> Self {
        Self { caller: caller.unwrap_or_else(|| self.caller.clone()), ..self }
    }

    /// Who runs the command, as far as the agent program tells.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Returns `true` if showing mail marks it as read. A sub-agent must not consume the mail of the session that it
    /// works for, unless it names the reader with `--as`.
    pub(crate) fn takes_mail(&self) -> bool {
        !self.caller.is_sub_agent || self.global.acting_as.is_some()
    }

    /// The global options.
    pub(crate) fn global(&self) -> &Global {
        &self.global
    }

    /// The directory that the command applies to: `--repo` or `THRUM_HOME`, or else the current one.
    pub(crate) fn directory(&self) -> &Path {
        self.global.repo.as_deref().unwrap_or(Path::new("."))
    }

    /// The repository and its `.thrum`.
    pub(crate) fn repo(&self) -> Result<&Repo, Error> {
        if let Some(repo) = self.repo.get() {
            return Ok(repo);
        }
        let found = Repo::discover(self.directory())?;
        if let Some(nested) = found.nested() {
            let (outer, nested) = (found.main_root().display(), nested.display());
            self.output.hint(&format!(
                "This is the mailbox of {outer}, which is around {nested}; `thrum init` here makes one of its own."
            ));
        }
        Ok(self.repo.get_or_init(|| found))
    }

    /// The agent that this command acts for. Only [`identity::resolve`] decides it.
    pub(crate) fn identity(&self) -> Result<Identity, Error> {
        if let Some(identity) = self.identity.get() {
            return Ok(identity.clone());
        }
        let repo = self.repo()?;
        let flag = self.global.acting_as.as_deref();
        let session = if flag.is_some() { None } else { self.caller.agent(repo) };
        let env = if flag.is_some() || session.is_some() { None } else { env_name()? };
        let found = identity::resolve(flag, session.as_deref(), env.as_deref(), &repo.identities())?;
        if found.source == "environment" && found.file.is_none() {
            self.output.warn(&format!(
                "acting as @{}, named by the variable THRUM_NAME; it has no identity in this worktree",
                found.name
            ));
        }
        Ok(self.identity.get_or_init(|| found).clone())
    }

    /// The agent named by flag or environment, whether or not it has an identity here; `None` if neither names one.
    pub(crate) fn given_name(&self) -> Result<Option<String>, Error> {
        if self.global.acting_as.is_some() { Ok(self.global.acting_as.clone()) } else { env_name() }
    }

    /// Returns `true` if another thread has cancelled the command.
    pub(crate) fn is_given_up(&self) -> bool {
        self.interrupt.as_ref().is_some_and(Interrupt::is_given_up)
    }

    /// Returns `true` if a command may start the daemon when it needs it.
    pub(crate) fn may_start(&self) -> bool {
        !self.global.no_start
    }

    /// Connects to the daemon, and starts it if it is not running, unless `--no-start` forbids that.
    pub(crate) fn daemon(&self) -> Result<Client, Error> {
        let repo = self.repo()?;
        match Client::connect(&repo.socket()) {
            Ok(client) => self.watched(client),
            Err(error) if client::nobody_listens(&error) && self.may_start() => {
                self.watched(start::on_demand(repo, &self.output)?)
            }
            Err(error) if client::nobody_listens(&error) => Err(start::not_running(repo)),
            Err(error) => Err(client::cannot_connect(&repo.socket(), &error)),
        }
    }

    /// Makes the connection close as soon as the command is cancelled.
    fn watched(&self, client: Client) -> Result<Client, Error> {
        if let Some(interrupt) = &self.interrupt {
            interrupt.watch(client.connection())?;
        }
        Ok(client)
    }

    /// Connects to the daemon; `None` if it is not running.
    pub(crate) fn running_daemon(&self) -> Result<Option<Client>, Error> {
        let socket = self.repo()?.socket();
        match Client::connect(&socket) {
            Ok(client) => self.watched(client).map(Some),
            Err(error) if client::nobody_listens(&error) => Ok(None),
            Err(error) => Err(client::cannot_connect(&socket, &error)),
        }
    }

    /// Calls an idempotent method, on the connection of the last such call. After a broken connection, connects and
    /// calls once more, starting a new daemon if necessary.
    pub(crate) fn repeat<T: DeserializeOwned>(&self, method: &str, params: &impl Serialize) -> Result<T, Error> {
        let mut client = match self.connection.take() {
            // Watch it again: the interrupt watches the latest connection only, which may be another one by now.
            Some(client) => self.watched(client)?,
            None => self.daemon()?,
        };
        let answer = match client.attempt(Duration::ZERO, method, params) {
            Ok(answer) => answer,
            Err(_) => {
                client = self.daemon()?;
                client.attempt(Duration::ZERO, method, params)?
            }
        };
        self.connection.replace(Some(client));
        answer
    }
}

/// The agent named by the environment: `THRUM_NAME`, or its synonym `THRUM_AGENT_ID`, which Go Thrum obeys without
/// further checks.
fn env_name() -> Result<Option<String>, Error> {
    // Some programs expand `${NAME}` in their settings, and pass on that text itself if the variable is not set.
    let variable = |name| env::var(name).ok().filter(|value| !value.is_empty() && !value.starts_with("${"));
    match (variable("THRUM_NAME"), variable("THRUM_AGENT_ID")) {
        (Some(name), Some(id)) if name != id => Err(Error::new(
            ErrorKind::Invalid,
            format!("THRUM_NAME is '{}' and THRUM_AGENT_ID is '{}'", printable(&name), printable(&id)),
        )
        .hint("unset the one that is wrong, or use --as NAME.")),
        (name, id) => Ok(name.or(id)),
    }
}
