//! `agent.*`: who is here.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use thrum_core::{ErrorKind, Fault, Stamp, Sum, key, payload::WorkContext};
use thrum_store::{
    ops::{self, Registration},
    query::{Agent, AgentFilter, Session, SessionFilter},
};

use super::{
    budget::{Budget, shorten},
    required, session,
};
use crate::daemon::Daemon;

#[derive(Deserialize)]
pub(super) struct Register {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    role: Option<String>,
    #[serde(default)]
    module: Option<String>,
    #[serde(default)]
    display: Option<String>,
    #[serde(default)]
    hostname: Option<String>,
    #[serde(default)]
    worktree: Option<String>,
    #[serde(default)]
    force: bool,
    #[serde(default)]
    re_register: bool,
}

#[derive(Serialize)]
pub(super) struct Registered {
    agent_id: String,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    conflict: Option<Conflict>,
}

#[derive(Serialize)]
struct Conflict {
    existing_agent_id: String,
    registered_at: Stamp,
    /// RFC 3339, or empty.
    last_seen_at: String,
}

pub(super) async fn register(daemon: &Daemon, params: Register) -> Result<Registered, Fault> {
    let (role, module) = (required("role", params.role)?, required("module", params.module)?);
    let name = params.name.filter(|name| !name.is_empty()).unwrap_or_else(|| unnamed(daemon, &role, &module));
    let register = ops::Register {
        name: name.clone(),
        role,
        module,
        display: params.display.unwrap_or_default(),
        hostname: params.hostname.unwrap_or_else(|| daemon.hostname()),
        worktree: params.worktree.unwrap_or_default(),
        force: params.force || params.re_register,
    };
    let (agent_id, status, conflict) = match daemon.storage.write(|tx| tx.register(register)).await? {
        Registration::Registered => (name, "registered", None),
        Registration::Updated => (name, "updated", None),
        Registration::Conflict(rival) => {
            let conflict = Conflict {
                existing_agent_id: rival.agent_id,
                registered_at: rival.registered_at,
                last_seen_at: rival.last_seen_at.map(|at| at.to_string()).unwrap_or_default(),
            };
            (String::new(), "conflict", Some(conflict))
        }
    };
    Ok(Registered { agent_id, status, conflict })
}

/// The name of an agent that gives none: the same for the same role and module in the same repository.
fn unnamed(daemon: &Daemon, role: &str, module: &str) -> String {
    let hash = Sum::of(format!("{}|{role}|{module}", daemon.repo.name()).as_bytes()).to_string();
    format!("{role}_{}", &hash[..10])
}

#[derive(Deserialize)]
pub(super) struct List {
    #[serde(default)]
    role: Option<String>,
    #[serde(default)]
    module: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Agents {
    agents: Vec<Listed>,
    /// There are more than an answer has room for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    more: bool,
}

#[derive(Serialize)]
struct Listed {
    agent_id: String,
    kind: String,
    role: String,
    module: String,
    display: String,
    registered_at: Stamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen_at: Option<Stamp>,
    /// The daemon it lives at.
    home: String,
    /// What that daemon is called here.
    home_name: String,
    /// `@name`, or `@name@machine` for an agent of another daemon.
    address: String,
    /// Whether that daemon signs what it says.
    signed: bool,
    /// Whether that is this one.
    local: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    hostname: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    worktree: String,
}

pub(super) async fn list(daemon: &Daemon, params: List) -> Result<Agents, Fault> {
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let filter = AgentFilter { role: given(params.role), module: given(params.module), ..AgentFilter::default() };
    let mut machines = daemon.machines();
    let agents = daemon.storage.read(move |reader| {
        let agents = reader.agents(&filter)?;
        reader.name_machines(&mut machines, agents.iter().map(|agent| agent.home.as_str()))?;
        Ok((agents, machines))
    });
    let (agents, machines) = agents.await?;
    let listed = |agent: Agent| Listed {
        home_name: machines.name(&agent.home).into_owned(),
        address: machines.address(&agent.agent_id, &agent.home),
        signed: key::is_signed_origin(&agent.home),
        local: agent.home == daemon.id,
        last_seen_at: seen(daemon, &agent),
        agent_id: agent.agent_id,
        kind: agent.kind,
        role: agent.role,
        module: agent.module,
        display: agent.display,
        registered_at: agent.registered_at,
        home: agent.home,
        hostname: agent.hostname,
        worktree: agent.worktree,
    };
    let (mut listing, mut budget) = (Agents { agents: Vec::new(), more: false }, Budget::new());
    for mut agent in agents.into_iter().map(listed) {
        if budget.is_short() {
            shorten([&mut agent.display, &mut agent.hostname, &mut agent.worktree]);
        }
        if !budget.take(&agent) {
            listing.more = true;
            break;
        }
        listing.agents.push(agent);
    }
    Ok(listing)
}

/// The last sign of life, with what was heard since it was written down.
pub(super) fn seen(daemon: &Daemon, agent: &Agent) -> Option<Stamp> {
    let seen = daemon.last_seen(&agent.agent_id, &agent.home, agent.last_seen_at.unwrap_or_default());
    (seen > Stamp::ZERO).then_some(seen)
}

#[derive(Deserialize)]
pub(super) struct Whoami {
    #[serde(default)]
    caller_agent_id: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Me {
    agent_id: String,
    role: String,
    module: String,
    display: String,
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_start: Option<Stamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    branch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_task: Option<String>,
    home: String,
}

pub(super) async fn whoami(daemon: &Daemon, params: Whoami, process: Option<i32>) -> Result<Me, Fault> {
    let source = if params.caller_agent_id.is_some() { "caller" } else { "identity" };
    let name = daemon.caller(params.caller_agent_id, process)?;
    let found = daemon.storage.read(move |reader| {
        ops::resident(reader, &name)?;
        let session = match reader.open_session(&name)? {
            Some(id) => reader.session(&id)?,
            None => None,
        };
        let agent =
            reader.agent_here(&name)?.ok_or_else(|| Fault::new(ErrorKind::NotFound, format!("no agent {name} is registered here")))?;
        Ok((agent, session))
    });
    let (agent, session) = found.await?;
    Ok(Me {
        agent_id: agent.agent_id,
        role: agent.role,
        module: agent.module,
        display: agent.display,
        source,
        session_start: session.as_ref().map(|session| session.started_at),
        intent: session.as_ref().and_then(|session| session.context.intent.clone()),
        current_task: session.as_ref().and_then(|session| session.context.current_task.clone()),
        branch: session.as_ref().and_then(|session| session.context.branch.clone()),
        session_id: session.map(|session| session.session_id),
        home: agent.home,
    })
}

#[derive(Deserialize)]
pub(super) struct Check {
    #[serde(default)]
    name: Option<String>,
    /// Whether the name of a role will do.
    #[serde(default)]
    roles: bool,
}

#[derive(Serialize)]
pub(super) struct Checked {
    name: String,
}

/// Whether a name is anybody's, here or elsewhere; if not, the error says who may have been meant.
pub(super) async fn check(daemon: &Daemon, params: Check) -> Result<Checked, Fault> {
    let name = required("name", params.name)?;
    let (asked, machines) = (name.clone(), daemon.machines());
    daemon.storage.read(move |reader| ops::known(reader, &asked, params.roles, machines)).await?;
    Ok(Checked { name })
}

#[derive(Deserialize)]
pub(super) struct ListContext {
    #[serde(default)]
    agent_id: Option<String>,
    #[serde(default)]
    branch: Option<String>,
    /// A path from the top of the repository; of a directory, everything in it; `.` is the top itself.
    #[serde(default)]
    file: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Contexts {
    contexts: Vec<Shown>,
    /// There are more than an answer has room for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    more: bool,
}

#[derive(Serialize)]
struct Shown {
    agent_id: String,
    home: String,
    /// What that daemon is called here.
    home_name: String,
    /// `@name`, or `@name@machine` for an agent of another daemon.
    address: String,
    /// Whether that daemon signs what it says.
    signed: bool,
    local: bool,
    /// `active`, or `silent` if its agent was not heard of for long.
    status: &'static str,
    last_seen_at: Stamp,
    /// Whether lists or texts of it are left out or cut, because the answer has no room for them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    #[serde(flatten)]
    context: WorkContext,
}

pub(super) async fn list_context(daemon: &Daemon, params: ListContext) -> Result<Contexts, Fault> {
    let mut open = SessionFilter { open_only: true, ..SessionFilter::default() };
    let (agent, mut machines) = (params.agent_id.filter(|name| !name.is_empty()), daemon.machines());
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let (branch, file) = (given(params.branch), given(params.file));
    let keeps = file.clone();
    let wanted = move |session: &Session| {
        let context = &session.context;
        // Scopes and refs alone, which a session may begin with, are no work.
        let nothing = WorkContext {
            session_id: context.session_id.clone(),
            scopes: context.scopes.clone(),
            refs: context.refs.clone(),
            ..WorkContext::default()
        };
        let said_anything = *context != nothing;
        let mut files = context.changed_files.iter().chain(&context.uncommitted_files);
        let touches = |wanted: &String| files.any(|file| is_or_is_in(file, wanted));
        said_anything && (branch.is_none() || branch == context.branch) && file.as_ref().is_none_or(touches)
    };
    let found = daemon.storage.read(move |reader| {
        if let Some(agent) = agent {
            let (name, home) = ops::listed(reader, &agent, machines.clone())?;
            (open.agent_id, open.home) = (Some(name), home);
        }
        let (mut found, mut more, mut budget) = (Vec::new(), false, Budget::new());
        reader.each_session(&open, |mut session| {
            if !wanted(&session) {
                return ControlFlow::Continue(());
            }
            let truncated = budget.is_short() && brief(&mut session.context, keeps.as_deref());
            if !budget.take(&(&session.context, &session.agent_id, &session.home, [0u8; 100].as_slice())) {
                more = true;
                return ControlFlow::Break(());
            }
            found.push((session, truncated));
            ControlFlow::Continue(())
        })?;
        reader.name_machines(&mut machines, found.iter().map(|(session, _): &(Session, bool)| session.home.as_str()))?;
        Ok((found, more, machines))
    });
    let (found, more, machines) = found.await?;
    let shown = |(mut session, truncated): (Session, bool)| {
        session::refresh(daemon, &mut session);
        Shown {
            status: session::shown(&session, &daemon.id),
            home_name: machines.name(&session.home).into_owned(),
            address: machines.address(&session.agent_id, &session.home),
            signed: key::is_signed_origin(&session.home),
            local: session.home == daemon.id,
            last_seen_at: session.last_seen_at,
            agent_id: session.agent_id,
            home: session.home,
            truncated,
            context: session.context,
        }
    };
    Ok(Contexts { contexts: found.into_iter().map(shown).collect(), more })
}

/// Leaves of a context what a long list has room for: no commits, and of the files only those that were asked for, at most
/// [`BRIEF_FILES`]. Returns whether anything went.
fn brief(context: &mut WorkContext, file: Option<&str>) -> bool {
    let before = context.clone();
    (context.unmerged_commits, context.file_changes, context.scopes, context.refs) = Default::default();
    for files in [&mut context.changed_files, &mut context.uncommitted_files] {
        files.retain(|path| file.is_none_or(|wanted| is_or_is_in(path, wanted)));
        files.truncate(BRIEF_FILES);
        shorten(files.iter_mut());
    }
    shorten([&mut context.branch, &mut context.worktree_path, &mut context.current_task, &mut context.intent].into_iter().flatten());
    *context != before
}

/// Most files of each list of a context in a long answer.
const BRIEF_FILES: usize = 5;

/// Whether a path is the wanted one, or lies in the wanted directory.
fn is_or_is_in(path: &str, wanted: &str) -> bool {
    wanted == "." || path.strip_prefix(wanted.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[derive(Deserialize)]
pub(super) struct Delete {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Deleted {
    agent_id: String,
    deleted: bool,
    message: String,
}

pub(super) async fn delete(daemon: &Daemon, params: Delete) -> Result<Deleted, Fault> {
    let name = required("name", params.name)?;
    if params.reason.as_ref().is_some_and(|reason| reason.len() > thrum_core::limits::MAX_TEXT_BYTES) {
        return Err(Fault::new(ErrorKind::Invalid, "the reason is too long"));
    }
    let agent_id = name.clone();
    daemon.storage.write(move |tx| tx.delete_agent(&name, params.reason)).await?;
    Ok(Deleted { message: format!("agent {agent_id} deleted; its messages stay"), agent_id, deleted: true })
}
