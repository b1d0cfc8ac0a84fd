//! `thrum quickstart`: from nothing to an agent that can send, in one command.

use serde_json::{Value, json};
use thrum_core::{ErrorKind, Fault, name};

use crate::{
    commands::init,
    context::Context,
    git,
    identity::{self, AgentPart, IdentityFile},
    render::{Page, Render, agent},
    setup,
    shapes::Registered,
    text::preview,
    time,
};

/// Register as an agent and begin a session; sets the repository up if need be
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Safe to repeat: a registered agent stays the same and begins a new session.

Examples:
  thrum quickstart --name ann --role implementer --module auth
  thrum quickstart --name ann --intent \"Make login faster\"")]
pub(crate) struct Args {
    /// The agent's name: a-z, 0-9, _ and -
    #[arg(long)]
    name: Option<String>,
    /// What the agent does: implementer, reviewer, tester, …
    #[arg(long)]
    role: Option<String>,
    /// The part of the code it works on
    #[arg(long)]
    module: Option<String>,
    /// A name for people to read
    #[arg(long, value_name = "TEXT")]
    display: Option<String>,
    /// What it is about to do; the team sees it
    #[arg(long, value_name = "TEXT")]
    intent: Option<String>,
    /// Register although another agent has the same role and module
    #[arg(long)]
    force: bool,
}

/// An agent with a session.
pub(crate) struct Started {
    file: IdentityFile,
    status: String,
    path: String,
}

pub(crate) fn run(args: Args, cx: &Context) -> Result<Started, Fault> {
    if cx.repo().is_err_and(|fault| fault.kind == ErrorKind::NotFound) {
        check(&args, cx)?;
        let setup = setup::set_up(cx.directory())?;
        init::tell(&setup, cx);
        let ignored = if setup.ignored_in.is_some() { " and added it to .gitignore" } else { "" };
        cx.output.note(&format!("Created {}{ignored}", setup.repo.local_dir().display()));
    }
    let repo = cx.repo()?;
    let mut file = merged(&args, cx)?;
    let part = &file.agent;
    file.worktree = repo.root().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    file.branch = git::branch(repo.root());

    let mut client = cx.daemon()?;
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let registered: Registered = client.call(
        "agent.register",
        json!({
            "name": part.name, "role": part.role, "module": part.module, "display": part.display, "force": args.force,
            "hostname": hostname, "worktree": file.worktree,
        }),
    )?;
    if let Some(conflict) = registered.conflict.filter(|_| registered.status == "conflict") {
        let since = conflict.registered_at.map(|at| format!(" since {}", time::exact(at))).unwrap_or_default();
        return Err(Fault::new(
            ErrorKind::Refused,
            format!("{} is already the {} of {}{since}", conflict.existing_agent_id, part.role, part.module),
        )
        .hint(format!("Be that agent (--name {}), choose another role or module, or add --force.", conflict.existing_agent_id)));
    }
    let session: Value =
        client.call("session.start", json!({"agent_id": registered.agent_id, "refs": [{"type": "worktree", "value": repo.root()}]}))?;
    file.session_id = session["session_id"].as_str().map(str::to_owned);
    if let Some(intent) = &args.intent {
        client.call::<Value>("session.setIntent", json!({"session_id": file.session_id, "intent": intent}))?;
    }
    file.intent = args.intent;
    file.updated_at = time::now().to_string();
    let path = identity::write(&repo.identities(), file.clone())?.display().to_string();
    let others = identity::candidates(&repo.identities())?.len() > 1;
    if others && cx.given_name().is_none() {
        cx.output.hint(&format!("This worktree has several agents now; say which one you are: export THRUM_NAME={}", file.agent.name));
    }
    Ok(Started { file, status: registered.status, path })
}

/// What can be refused before anything is made.
fn check(args: &Args, cx: &Context) -> Result<(), Fault> {
    let name = args.name.clone().or_else(|| cx.given_name()).ok_or_else(|| missing("--name"))?;
    name::check_agent(name.strip_prefix('@').unwrap_or(&name))?;
    name::check("role", args.role.as_deref().ok_or_else(|| missing("--role"))?)?;
    name::check("module", args.module.as_deref().ok_or_else(|| missing("--module"))?)
}

/// The identity as it was, with what the arguments change.
fn merged(args: &Args, cx: &Context) -> Result<IdentityFile, Fault> {
    let dir = cx.repo()?.identities();
    let who = match &args.name {
        Some(name) => identity::resolve(Some(name), None, &dir)?,
        None => cx.identity().map_err(|fault| if fault.kind == ErrorKind::NotFound { missing("--name") } else { fault })?,
    };
    let mut file = who.file.map(|(_, file)| file).unwrap_or_default();
    let AgentPart { kind, name, role, module, display } = &mut file.agent;
    "agent".clone_into(kind);
    *name = who.name;
    for (given, here) in [(&args.role, role), (&args.module, module), (&args.display, display)] {
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

fn missing(flag: &str) -> Fault {
    Fault::new(ErrorKind::Invalid, format!("{flag} is missing")).hint("thrum quickstart --name NAME --role ROLE --module MODULE")
}

impl Render for Started {
    fn human(&self, page: &mut Page) {
        let IdentityFile { agent: part, session_id, intent, .. } = &self.file;
        let again = if self.status == "updated" { "again " } else { "" };
        page.line(format!("Registered {again}as {} ({}, {})", agent(&part.name), part.role, part.module));
        page.line(format!("Session {}", session_id.as_deref().unwrap_or("-")));
        if let Some(intent) = intent {
            page.line(format!("Intent: {}", preview(intent, 200)));
        }
    }

    fn json(&self) -> Value {
        let IdentityFile { agent: part, session_id, intent, worktree, branch, .. } = &self.file;

        json!({
            "status": self.status, "agent_id": part.name, "role": part.role, "module": part.module, "display": part.display,
            "session_id": session_id, "intent": intent, "worktree": worktree, "branch": branch, "identity_file": self.path,
        })
    }
}
