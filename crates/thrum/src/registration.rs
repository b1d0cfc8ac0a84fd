//! Registers an agent: the common part of `register` and `quickstart`.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::json;
use thrum_core::{Error, ErrorKind, Timestamp, name};
use thrum_daemon::{paths::Repo, worktrees};

use crate::{
    answers::{Agents, ListedAgent},
    client::Client,
    context::Context,
    git,
    identity::{self, AgentPart, Identity, IdentityFile},
    setup, time,
};

/// The arguments that describe the agent to register.
#[derive(Debug, clap::Args)]
pub(crate) struct Wanted {
    /// The agent's name: a-z, 0-9, _ and -
    #[arg(long)]
    name: Option<String>,
    /// The agent's role: implementer, reviewer, tester, …
    #[arg(long)]
    role: Option<String>,
    /// The part of the code that the agent works on
    #[arg(long)]
    module: Option<String>,
    /// A display name
    #[arg(long, value_name = "TEXT")]
    display: Option<String>,
    /// Register even if another agent has the same role and module; both are kept
    #[arg(long, visible_alias = "re-register")]
    force: bool,
}

/// A registered agent whose identity file is not written yet.
pub(crate) struct Enrolled {
    pub(crate) file: IdentityFile,
    /// `registered`, or `updated` if the agent was registered here before.
    pub(crate) status: String,
}

/// The answer to `agent.register`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Registered {
    agent_id: String,
    status: String,
    conflict: Option<Conflict>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Conflict {
    existing_agent_id: String,
    registered_at: Option<Timestamp>,
}

/// Registers the agent with the daemon, and sets the repository up first if necessary.
pub(crate) fn enrol(wanted: &Wanted, cx: &Context) -> Result<(Enrolled, Client), Error> {
    set_up_if_need_be(wanted, cx)?;
    let repo = cx.repo()?;
    setup::keep_ignored(repo, &cx.output);
    let who = wanted.identity(cx)?;
    let mut client = cx.daemon()?;
    let mut file = wanted.merged(who, &mut client)?;
    file.worktree = repo.root().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    file.worktree_path = Some(repo.root().display().to_string());
    file.branch = git::branch(repo.root());
    let part = &file.agent;

    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let registered: Registered = client.call(
        "agent.register",
        json!({
            "name": part.name, "role": part.role, "module": part.module, "display": part.display, "force": wanted.force,
            "hostname": hostname, "worktree": file.worktree,
        }),
    )?;
    if let Some(conflict) = registered.conflict.filter(|_| registered.status == "conflict") {
        let since = conflict.registered_at.map(|at| format!(" since {}", time::exact(at))).unwrap_or_default();
        return Err(Error::new(
            ErrorKind::Refused,
            format!("{} is already the {} of {}{since}", conflict.existing_agent_id, part.role, part.module),
        )
        .hint(format!(
            "Be that agent (--name {}), choose another role or module, or add --force.",
            conflict.existing_agent_id
        )));
    }
    if let Some(other) = elsewhere(&part.name, repo) {
        cx.output.warn(&format!("@{} is also the agent of worktree {other}; both read one mailbox", part.name));
    }
    Ok((Enrolled { file, status: registered.status }, client))
}

/// Sets up the current worktree if necessary. A separate repository inside another one that uses Thrum gets its own
/// mailbox, as it would anywhere else.
fn set_up_if_need_be(wanted: &Wanted, cx: &Context) -> Result<(), Error> {
    let around = match Repo::discover(cx.directory()) {
        Ok(repo) if repo.is_set_up() => return Ok(()),
        Ok(repo) if repo.nested().is_none() => None,
        Ok(repo) => Some(repo),
        Err(error) if error.kind == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    // Skip the check if the repository already has a mailbox: its daemon may know the agent's role and module, which
    // then need not be given.
    if around.is_some() || cx.repo().is_err() {
        wanted.check(cx)?;
    }
    let setup = setup::set_up(cx.directory(), false)?;
    setup.tell(&cx.output);
    let ignored =
        setup.ignored_in.as_ref().map(|file| format!(" and added it to {}", setup.shown(file))).unwrap_or_default();
    let local = setup.repo.local_dir().display();
    match (setup.shares_with, around) {
        (Some(main), _) => {
            cx.output.note(&format!("Created {local}{ignored}; it shares the mailbox of {}", main.display()))
        }
        (None, Some(around)) => cx.output.note(&format!(
            "Created {local}{ignored}: this repository has a mailbox of its own, apart from that of {} around it",
            around.main_root().display()
        )),
        (None, None) => cx.output.note(&format!("Created {local}{ignored}")),
    }
    Ok(())
}

/// Returns the directory name of another worktree of this daemon that has an identity file of this name.
fn elsewhere(name: &str, repo: &Repo) -> Option<String> {
    let others = worktrees::of(repo).into_iter().filter_map(|top| Repo::discover(&top).ok());
    let mut sharing = others.filter(|other| other.root() != repo.root() && other.thrum_dir() == repo.thrum_dir());
    let other = sharing.find(|other| other.identities().join(format!("{name}.json")).exists())?;
    other.root().file_name().map(|top| top.to_string_lossy().into_owned())
}

impl Enrolled {
    /// Writes the identity file, and records the agent for the caller's session. Prints a hint if the worktree now has
    /// several agents, and neither `--as` nor a variable names one.
    pub(crate) fn keep(&mut self, cx: &Context) -> Result<PathBuf, Error> {
        self.file.updated_at = time::now().to_string();
        let dir = cx.repo()?.identities();
        let path = identity::write(&dir, self.file.clone())?;
        cx.caller().is_now(&self.file.agent.name, cx.repo()?);
        let others = identity::candidates(&dir)?.len() > 1;
        if others && cx.given_name()?.is_none() {
            cx.output.hint(&format!(
                "This worktree has several agents now; say which one you are: export THRUM_NAME={}",
                self.file.agent.name
            ));
        }
        Ok(path)
    }
}

impl Wanted {
    /// Checks, before anything is created, that name, role and module are given and valid.
    fn check(&self, cx: &Context) -> Result<(), Error> {
        let name = self
            .name
            .clone()
            .map_or_else(|| cx.given_name(), |name| Ok(Some(name)))?
            .ok_or_else(|| missing("--name"))?;
        name::check_agent(name.strip_prefix('@').unwrap_or(&name))?;
        name::check("role", self.role.as_deref().ok_or_else(|| missing("--role"))?)?;
        name::check("module", self.module.as_deref().ok_or_else(|| missing("--module"))?)
    }

    fn identity(&self, cx: &Context) -> Result<Identity, Error> {
        // An agent that registers may be new here, so a given name needs no identity file.
        match self.name.clone().map_or_else(|| cx.given_name(), |name| Ok(Some(name)))? {
            Some(name) => identity::by_name(&name, &cx.repo()?.identities()),
            None => {
                cx.identity().map_err(|error| if error.kind == ErrorKind::NotFound { missing("--name") } else { error })
            }
        }
    }

    /// Returns the identity to write: the one in the agent's file, or without a file what the daemon knows of the
    /// agent, with the changes from the arguments.
    fn merged(&self, who: Identity, client: &mut Client) -> Result<IdentityFile, Error> {
        let mut file = match who.file {
            Some((_, file)) => file,
            None => IdentityFile { agent: known(&who.name, client)?, ..IdentityFile::default() },
        };
        let AgentPart { kind, name, role, module, display } = &mut file.agent;
        "agent".clone_into(kind);
        *name = who.name;
        for (given, here) in [(&self.role, role), (&self.module, module), (&self.display, display)] {
            if let Some(given) = given {
                here.clone_from(given);
            }
        }
        for (flag, what, value) in [("--role", "role", &file.agent.role), ("--module", "module", &file.agent.module)] {
            if value.is_empty() {
                return Err(missing(flag));
            }
            name::check(what, value)?;
        }
        Ok(file)
    }
}

/// Returns what the daemon knows about a local agent.
fn known(name: &str, client: &mut Client) -> Result<AgentPart, Error> {
    let all: Agents = client.call("agent.list", json!({}))?;
    let here = all.agents.into_iter().find(|agent| agent.local && agent.agent_id == name);
    Ok(here.map_or_else(AgentPart::default, |ListedAgent { role, module, display, .. }| AgentPart {
        role,
        module,
        display,
        ..AgentPart::default()
    }))
}

fn missing(flag: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("{flag} is missing"))
        .hint("thrum quickstart --name NAME --role ROLE --module MODULE")
}
