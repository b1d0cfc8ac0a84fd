//! `session.*`: an agent's periods of work.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thrum_core::{
    Ambient, Error, Timestamp, key, limits,
    payload::{Tag, WorkContext},
    work::Work,
};
use thrum_store::{
    ops::{self, Heartbeat},
    query::{Liveness, Session, SessionFilter},
};

use super::{
    budget::{Budget, shorten},
    large, required,
};
use crate::{ambient::System, daemon::Daemon, rpc::connection::Reply};

#[derive(Deserialize)]
pub(super) struct Start {
    #[serde(default)]
    agent_id: Option<String>,
    #[serde(default)]
    caller_agent_id: Option<String>,
    #[serde(default)]
    scopes: Vec<Tag>,
    #[serde(default)]
    refs: Vec<Tag>,
    /// The session's initial intent; not in Go Thrum.
    #[serde(default)]
    intent: Option<String>,
    /// The state of the worktree; not in Go Thrum.
    #[serde(default)]
    work_context: Option<Work>,
}

#[derive(Serialize)]
pub(super) struct Started {
    session_id: String,
    agent_id: String,
    started_at: Timestamp,
}

pub(super) async fn start(daemon: &Daemon, params: Start, process: Option<i32>) -> Result<Started, Error> {
    let agent_id = daemon.caller(params.agent_id.clone().or(params.caller_agent_id.clone()), process)?;
    let name = agent_id.clone();
    let Start { scopes, refs, intent, work_context, .. } = params;
    let heartbeat =
        Heartbeat { work: work_context, intent, add_scopes: scopes, add_refs: refs, ..Heartbeat::default() };
    let (session_id, started_at) = daemon.storage.write(move |tx| tx.start_session(&name, heartbeat)).await?;
    daemon.heard_of(&agent_id);
    Ok(Started { session_id, agent_id, started_at })
}

#[derive(Deserialize)]
pub(super) struct End {
    #[serde(default)]
    session_id: Option<String>,
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Ended {
    session_id: String,
    ended_at: Timestamp,
    duration_ms: u128,
}

pub(super) async fn end(daemon: &Daemon, params: End) -> Result<Ended, Error> {
    let session_id = required("session_id", params.session_id)?;
    let id = session_id.clone();
    let (session, ended_at) = daemon.storage.write(move |tx| tx.end_session(&id, params.reason)).await?;
    Ok(Ended { session_id, ended_at, duration_ms: ended_at.since(session.started_at).as_millis() })
}

#[derive(Deserialize)]
pub(super) struct List {
    #[serde(default)]
    agent_id: Option<String>,
    #[serde(default)]
    active_only: bool,
    #[serde(default)]
    limit: Option<usize>,
}

#[derive(Serialize)]
pub(super) struct Sessions {
    sessions: Vec<Listed>,
    /// `true` if there are older sessions that the answer leaves out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    more: bool,
}

#[derive(Serialize)]
struct Listed {
    session_id: String,
    agent_id: String,
    started_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_reason: Option<String>,
    last_seen_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_task: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes: Vec<Tag>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refs: Vec<Tag>,
    /// `active`, `silent` (open, but the agent has shown no sign of life for long) or `ended`.
    status: &'static str,
    home: String,
    /// The name of the home daemon, as known here.
    home_name: String,
    /// `@name`, or `@name@machine` for an agent of another daemon.
    address: String,
    /// `true` if the home daemon signs its events.
    signed: bool,
}

pub(super) async fn list(daemon: &Daemon, params: List) -> Result<Reply, Error> {
    let limit = params.limit.unwrap_or(limits::MAX_LISTED_SESSIONS).clamp(1, limits::MAX_LISTED_SESSIONS);
    let agent = params.agent_id.filter(|name| !name.is_empty());
    let mut filter = SessionFilter {
        open_only: params.active_only,
        // Among the open sessions, any number may be silent ones that were never ended. To find the active ones, read
        // all.
        newest: (!params.active_only).then_some(limit + 1),
        ..SessionFilter::default()
    };
    let mut machines = daemon.machines();
    let turn = daemon.large.turn().await;
    let found = daemon.storage.read_much(&turn, move |reader| {
        if let Some(agent) = agent {
            let (name, home) = ops::listed(reader, &agent, machines.clone())?;
            (filter.agent_id, filter.home) = (Some(name), home);
        }
        let (mut found, mut cut, mut budget) = (Vec::new(), false, Budget::new());
        reader.each_session(&filter, |mut session| {
            let context = &mut session.context;
            // The list shows only these parts of the context.
            *context = WorkContext {
                intent: context.intent.take(),
                current_task: context.current_task.take(),
                scopes: std::mem::take(&mut context.scopes),
                refs: std::mem::take(&mut context.refs),
                ..WorkContext::default()
            };
            if budget.is_short() {
                (context.scopes, context.refs) = Default::default();
                shorten(
                    [&mut context.intent, &mut context.current_task, &mut session.end_reason].into_iter().flatten(),
                );
            }
            let texts = (&session.context, &session.session_id, &session.agent_id, &session.home, &session.end_reason);
            cut = !budget.take(&(texts, [0u8; 100].as_slice()));
            if cut {
                return ControlFlow::Break(());
            }
            found.push(session);
            ControlFlow::Continue(())
        })?;
        reader.name_machines(&mut machines, found.iter().map(|session: &Session| session.home.as_str()))?;
        Ok((found, cut, machines))
    });
    let (mut sessions, cut, machines) = found.await?;
    let listed = |session: Session| Listed {
        home_name: machines.name(&session.home).into_owned(),
        address: machines.address(&session.agent_id, &session.home),
        signed: key::is_signed_origin(&session.home),
        status: shown(&session, &daemon.id),
        session_id: session.session_id,
        agent_id: session.agent_id,
        started_at: session.started_at,
        ended_at: session.ended_at,
        end_reason: session.end_reason,
        last_seen_at: session.last_seen_at,
        intent: session.context.intent,
        current_task: session.context.current_task,
        scopes: session.context.scopes,
        refs: session.context.refs,
        home: session.home,
    };
    sessions.iter_mut().for_each(|session| refresh(daemon, session));
    let mut sessions: Vec<Listed> = sessions.into_iter().map(listed).collect();
    sessions.retain(|session| !params.active_only || session.status == "active");
    let more = cut || sessions.len() > limit;
    sessions.truncate(limit);
    large(turn, Sessions { sessions, more }).await
}

/// Updates an open session's last sign of life with signs that the store does not contain yet.
pub(super) fn refresh(daemon: &Daemon, session: &mut Session) {
    if session.ended_at.is_none() {
        session.last_seen_at = daemon.last_seen(&session.agent_id, &session.home, session.last_seen_at);
    }
}

/// Returns a session's state as seen by this daemon.
pub(super) fn shown(session: &Session, here: &str) -> &'static str {
    match session.liveness(System.now(), here) {
        Liveness::Active => "active",
        Liveness::Silent => "silent",
        Liveness::Ended => "ended",
    }
}

#[derive(Deserialize)]
pub(super) struct HeartbeatRequest {
    #[serde(default)]
    session_id: Option<String>,
    #[serde(default)]
    add_scopes: Vec<Tag>,
    #[serde(default)]
    remove_scopes: Vec<Tag>,
    #[serde(default)]
    add_refs: Vec<Tag>,
    #[serde(default)]
    remove_refs: Vec<Tag>,
    /// The state of the worktree, which the caller read from git; not in Go Thrum.
    #[serde(default)]
    work_context: Option<Work>,
}

#[derive(Serialize)]
pub(super) struct HeartbeatReply {
    session_id: String,
    last_seen_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    branch: Option<String>,
    /// Number of unmerged commits; absent until the worktree was read from git.
    #[serde(skip_serializing_if = "Option::is_none")]
    unmerged_commits: Option<usize>,
    /// Number of uncommitted files; absent until the worktree was read from git.
    #[serde(skip_serializing_if = "Option::is_none")]
    uncommitted_files: Option<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    file_changes: Vec<Value>,
    /// When the commits and files were last read from git.
    #[serde(skip_serializing_if = "Option::is_none")]
    git_updated_at: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes: Vec<Tag>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refs: Vec<Tag>,
}

pub(super) async fn heartbeat(daemon: &Daemon, params: HeartbeatRequest) -> Result<HeartbeatReply, Error> {
    let HeartbeatRequest { session_id, add_scopes, remove_scopes, add_refs, remove_refs, work_context } = params;
    let session_id = required("session_id", session_id)?;
    let id = session_id.clone();
    let heartbeat = Heartbeat { work: work_context, intent: None, add_scopes, remove_scopes, add_refs, remove_refs };
    let stored = daemon.storage.write(move |tx| {
        let last_seen_at = tx.heartbeat(&id, heartbeat)?;
        Ok((last_seen_at, tx.reader().session(&id)?.map(|session| session.context).unwrap_or_default()))
    });
    let (last_seen_at, context) = stored.await?;
    let of_git = |count: usize| context.git_updated_at.is_some().then_some(count);
    Ok(HeartbeatReply {
        session_id,
        last_seen_at,
        unmerged_commits: of_git(context.unmerged_commits.len()),
        uncommitted_files: of_git(context.uncommitted_files.len()),
        branch: context.branch,
        file_changes: context.file_changes,
        git_updated_at: context.git_updated_at,
        scopes: context.scopes,
        refs: context.refs,
    })
}

#[derive(Deserialize)]
pub(super) struct SetIntent {
    #[serde(default)]
    session_id: Option<String>,
    #[serde(default)]
    intent: String,
}

#[derive(Serialize)]
pub(super) struct IntentSet {
    session_id: String,
    intent: String,
    intent_updated_at: Timestamp,
}

pub(super) async fn set_intent(daemon: &Daemon, params: SetIntent) -> Result<IntentSet, Error> {
    let (session_id, intent) = (required("session_id", params.session_id)?, params.intent);
    let (id, text) = (session_id.clone(), intent.clone());
    let intent_updated_at = daemon.storage.write(move |tx| tx.set_intent(&id, &text)).await?;
    Ok(IntentSet { session_id, intent, intent_updated_at })
}

#[derive(Deserialize)]
pub(super) struct SetTask {
    #[serde(default)]
    session_id: Option<String>,
    #[serde(default)]
    current_task: String,
}

#[derive(Serialize)]
pub(super) struct TaskSet {
    session_id: String,
    current_task: String,
    task_updated_at: Timestamp,
}

pub(super) async fn set_task(daemon: &Daemon, params: SetTask) -> Result<TaskSet, Error> {
    let (session_id, current_task) = (required("session_id", params.session_id)?, params.current_task);
    let (id, text) = (session_id.clone(), current_task.clone());
    let task_updated_at = daemon.storage.write(move |tx| tx.set_task(&id, &text)).await?;
    Ok(TaskSet { session_id, current_task, task_updated_at })
}
