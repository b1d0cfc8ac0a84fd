//! `session.*`: periods of work.

use serde::{Deserialize, Serialize};
use thrum_core::{Fault, Stamp};
use thrum_store::query::{Session, SessionFilter};

use super::required;
use crate::daemon::Daemon;

#[derive(Deserialize)]
pub(super) struct Start {
    #[serde(default)]
    agent_id: Option<String>,
    #[serde(default)]
    caller_agent_id: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Started {
    session_id: String,
    agent_id: String,
    started_at: Stamp,
}

pub(super) async fn start(daemon: &Daemon, params: Start) -> Result<Started, Fault> {
    let agent_id = daemon.caller(params.agent_id.or(params.caller_agent_id))?;
    let name = agent_id.clone();
    let (session_id, started_at) = daemon.storage.write(move |tx| tx.start_session(&name)).await?;
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
    ended_at: Stamp,
    duration_ms: u128,
}

pub(super) async fn end(daemon: &Daemon, params: End) -> Result<Ended, Fault> {
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
}

#[derive(Serialize)]
pub(super) struct Sessions {
    sessions: Vec<Listed>,
}

#[derive(Serialize)]
struct Listed {
    session_id: String,
    agent_id: String,
    started_at: Stamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Stamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_reason: Option<String>,
    last_seen_at: Stamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<String>,
    status: &'static str,
    home: String,
}

pub(super) async fn list(daemon: &Daemon, params: List) -> Result<Sessions, Fault> {
    let filter = SessionFilter {
        agent_id: params.agent_id.filter(|name| !name.is_empty()),
        active_only: params.active_only,
        ..SessionFilter::default()
    };
    let listed = |session: Session| Listed {
        status: if session.ended_at.is_some() { "ended" } else { "active" },
        session_id: session.session_id,
        agent_id: session.agent_id,
        started_at: session.started_at,
        ended_at: session.ended_at,
        end_reason: session.end_reason,
        last_seen_at: session.last_seen_at,
        intent: session.intent,
        home: session.home,
    };
    let sessions = daemon.storage.read(move |reader| reader.sessions(&filter)).await?;
    Ok(Sessions { sessions: sessions.into_iter().map(listed).collect() })
}

#[derive(Deserialize)]
pub(super) struct Heartbeat {
    #[serde(default)]
    session_id: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Beaten {
    session_id: String,
    last_seen_at: Stamp,
}

pub(super) async fn heartbeat(daemon: &Daemon, params: Heartbeat) -> Result<Beaten, Fault> {
    let session_id = required("session_id", params.session_id)?;
    let id = session_id.clone();
    let last_seen_at = daemon.storage.write(move |tx| tx.heartbeat(&id)).await?;
    Ok(Beaten { session_id, last_seen_at })
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
    intent_updated_at: Stamp,
}

pub(super) async fn set_intent(daemon: &Daemon, params: SetIntent) -> Result<IntentSet, Fault> {
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
    task_updated_at: Stamp,
}

pub(super) async fn set_task(daemon: &Daemon, params: SetTask) -> Result<TaskSet, Fault> {
    let (session_id, current_task) = (required("session_id", params.session_id)?, params.current_task);
    let (id, text) = (session_id.clone(), current_task.clone());
    let task_updated_at = daemon.storage.write(move |tx| tx.set_task(&id, &text)).await?;
    Ok(TaskSet { session_id, current_task, task_updated_at })
}
