//! `agent.register`, `list`, `whoami`, `check`, `listContext` and `delete`.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use thrum_core::{Error, ErrorKind, SetDigest, Timestamp, path, payload::WorkContext};
use thrum_store::{
    ops::{self, Registration},
    query::{Agent, AgentFilter, Mailbox, Session, SessionFilter},
};

use super::{
    agent_ref::AgentRef,
    budget::{Budget, shorten},
    large,
    presence::Doing,
    required, session,
};
use crate::{daemon::Daemon, rpc::connection::Reply};

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
    registered_at: Timestamp,
    /// RFC 3339; empty if the agent has never been seen.
    last_seen_at: String,
}

pub(super) async fn register(daemon: &Daemon, params: Register) -> Result<Registered, Error> {
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

/// Returns the name for an agent that gives none. It is always the same for one role and module in one repository.
fn unnamed(daemon: &Daemon, role: &str, module: &str) -> String {
    let hash = SetDigest::of(format!("{}|{role}|{module}", daemon.repo.name()).as_bytes()).to_string();
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
    /// `true` if the answer has no room for further agents.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    more: bool,
}

#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    agent: AgentRef,
    kind: String,
    role: String,
    module: String,
    display: String,
    registered_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen_at: Option<Timestamp>,
    #[serde(flatten)]
    doing: Doing,
    #[serde(skip_serializing_if = "String::is_empty")]
    hostname: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    worktree: String,
}

pub(super) async fn list(daemon: &Daemon, params: List) -> Result<Reply, Error> {
    let turn = daemon.large.turn().await;
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let filter = AgentFilter { role: given(params.role), module: given(params.module), ..AgentFilter::default() };
    let mut machines = daemon.machines();
    let agents = daemon.storage.read_much(&turn, move |reader| {
        let agents = reader.agents(&filter)?;
        reader.name_machines(&mut machines, agents.iter().map(|agent| agent.home.as_str()))?;
        Ok((agents, machines, reader.presences()?))
    });
    let (agents, machines, mut presences) = agents.await?;
    let mut doing = |agent: &Agent| {
        let mailbox = Mailbox { agent_id: agent.agent_id.clone(), home: agent.home.clone() };
        let recorded = presences.remove(&mailbox);
        Doing::of(daemon, &mailbox, recorded, seen(daemon, agent))
    };
    let listed = |agent: Agent| Listed {
        doing: doing(&agent),
        last_seen_at: seen(daemon, &agent),
        agent: AgentRef::of(Mailbox { agent_id: agent.agent_id, home: agent.home }, &machines),
        kind: agent.kind,
        role: agent.role,
        module: agent.module,
        display: agent.display,
        registered_at: agent.registered_at,
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
    large(turn, listing).await
}

/// Returns an agent's last sign of life, including signs that are not yet written down.
pub(super) fn seen(daemon: &Daemon, agent: &Agent) -> Option<Timestamp> {
    let seen = daemon.last_seen(&agent.agent_id, &agent.home, agent.last_seen_at.unwrap_or_default());
    (seen > Timestamp::ZERO).then_some(seen)
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
    session_start: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    branch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_task: Option<String>,
    home: String,
}

pub(super) async fn whoami(daemon: &Daemon, params: Whoami, process: Option<i32>) -> Result<Me, Error> {
    let source = if params.caller_agent_id.is_some() { "caller" } else { "identity" };
    let name = daemon.caller(params.caller_agent_id, process)?;
    let found = daemon.storage.read(move |reader| {
        ops::resident(reader, &name)?;
        let session = match reader.open_session(&name)? {
            Some(id) => reader.session(&id)?,
            None => None,
        };
        let agent = reader
            .agent_here(&name)?
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no agent {name} is registered here")))?;
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
    /// Also accept the name of a role.
    #[serde(default)]
    roles: bool,
}

#[derive(Serialize)]
pub(super) struct Checked {
    name: String,
}

/// Checks that an agent here or at another daemon, even a deleted one of this daemon, has this name or, with `roles`,
/// that a role has it. If not, the error suggests a similar name, if there is one.
pub(super) async fn check(daemon: &Daemon, params: Check) -> Result<Checked, Error> {
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
    /// A path from the top of the repository. A directory stands for everything in it; `.` is the top.
    #[serde(default)]
    file: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Contexts {
    contexts: Vec<ContextEntry>,
    /// `true` if the answer has no room for further contexts.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    more: bool,
}

#[derive(Serialize)]
struct ContextEntry {
    #[serde(flatten)]
    agent: AgentRef,
    /// `active`, or `silent` if the agent has shown no sign of life for long.
    status: &'static str,
    last_seen_at: Timestamp,
    #[serde(flatten)]
    doing: Doing,
    /// `true` if lists or texts of this context are left out or cut, because the answer has no room for them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    #[serde(flatten)]
    context: WorkContext,
}

pub(super) async fn list_context(daemon: &Daemon, params: ListContext) -> Result<Reply, Error> {
    let mut open = SessionFilter { open_only: true, ..SessionFilter::default() };
    let (agent, mut machines) = (params.agent_id.filter(|name| !name.is_empty()), daemon.machines());
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let (branch, file) = (given(params.branch), given(params.file));
    let keeps = file.clone();
    let wanted = move |session: &Session| {
        let context = &session.context;
        // Scopes and refs alone, which a session may start with, do not count as work.
        let nothing = WorkContext {
            session_id: context.session_id.clone(),
            scopes: context.scopes.clone(),
            refs: context.refs.clone(),
            ..WorkContext::default()
        };
        let said_anything = *context != nothing;
        let mut files = context.changed_files.iter().chain(&context.uncommitted_files);
        let touches = |wanted: &String| files.any(|file| path::is_within(file, wanted));
        said_anything && (branch.is_none() || branch == context.branch) && file.as_ref().is_none_or(touches)
    };
    let turn = daemon.large.turn().await;
    let found = daemon.storage.read_much(&turn, move |reader| {
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
        reader
            .name_machines(&mut machines, found.iter().map(|(session, _): &(Session, bool)| session.home.as_str()))?;
        Ok((found, more, machines, reader.presences()?))
    });
    let (found, more, machines, presences) = found.await?;
    let shown = |(mut session, truncated): (Session, bool)| {
        session::refresh(daemon, &mut session);
        let status = session::shown(&session, &daemon.id);
        let agent = Mailbox { agent_id: session.agent_id, home: session.home };
        ContextEntry {
            doing: Doing::of(daemon, &agent, presences.get(&agent).copied(), Some(session.last_seen_at)),
            agent: AgentRef::of(agent, &machines),
            status,
            last_seen_at: session.last_seen_at,
            truncated,
            context: session.context,
        }
    };
    large(turn, Contexts { contexts: found.into_iter().map(shown).collect(), more }).await
}

/// Reduces a context to what a long list has room for: no commits, changes, scopes or refs, short texts, and in each
/// list of files only the requested ones, at most [`BRIEF_FILES`]. Returns `true` if anything was removed.
fn brief(context: &mut WorkContext, file: Option<&str>) -> bool {
    let before = context.clone();
    (context.unmerged_commits, context.file_changes, context.scopes, context.refs) = Default::default();
    for files in [&mut context.changed_files, &mut context.uncommitted_files] {
        files.retain(|name| file.is_none_or(|wanted| path::is_within(name, wanted)));
        files.truncate(BRIEF_FILES);
        shorten(files.iter_mut());
    }
    shorten(
        [&mut context.branch, &mut context.worktree_path, &mut context.current_task, &mut context.intent]
            .into_iter()
            .flatten(),
    );
    *context != before
}

/// Maximum number of files in each list of a context in a long answer.
const BRIEF_FILES: usize = 5;

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

pub(super) async fn delete(daemon: &Daemon, params: Delete) -> Result<Deleted, Error> {
    let name = required("name", params.name)?;
    if params.reason.as_ref().is_some_and(|reason| reason.len() > thrum_core::limits::MAX_TEXT_BYTES) {
        return Err(Error::new(ErrorKind::Invalid, "the reason is too long"));
    }
    let agent_id = name.clone();
    daemon.storage.write(move |tx| tx.delete_agent(&name, params.reason)).await?;
    Ok(Deleted { message: format!("agent {agent_id} deleted; its messages stay"), agent_id, deleted: true })
}
