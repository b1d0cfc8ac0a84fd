//! `team.list`: who is doing what, everywhere.

use serde::{Deserialize, Serialize};
use thrum_core::{Fault, Stamp};
use thrum_store::{
    Reader, StoreError,
    query::{Agent, AgentFilter, Mailbox, SessionFilter},
};

use crate::daemon::Daemon;

#[derive(Deserialize)]
pub(super) struct List {
    #[serde(default)]
    include_offline: bool,
}

#[derive(Serialize)]
pub(super) struct Team {
    members: Vec<Member>,
    shared_messages: Shared,
}

#[derive(Serialize)]
struct Shared {
    broadcast_total: u64,
    groups: Vec<Group>,
}

#[derive(Serialize)]
struct Group {
    name: String,
    total: u64,
}

#[derive(Serialize)]
struct Member {
    agent_id: String,
    role: String,
    module: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    display: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    hostname: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    worktree: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_start: Option<Stamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<Stamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_task: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    branch: Option<String>,
    unmerged_commits: usize,
    inbox_total: u64,
    inbox_unread: u64,
    /// `active` while a session is open, else `offline`.
    status: &'static str,
    /// The daemon it lives at.
    home: String,
    /// Whether that is this one.
    local: bool,
    /// What we call that daemon, if it is a peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    home_name: Option<String>,
}

pub(super) async fn list(daemon: &Daemon, params: List) -> Result<Team, Fault> {
    let home = daemon.id.clone();
    let found = daemon.storage.read(move |reader| {
        let (everyone, roles) = reader.shared_mail()?;
        Ok((members(reader, &home)?, everyone, roles))
    });
    let (mut members, everyone, roles) = found.await?;
    members.retain(|member| params.include_offline || member.status == "active");
    let peers = daemon.peers.list();
    for member in &mut members {
        member.home_name = peers.iter().find(|peer| peer.daemon_id == member.home).map(|peer| peer.name.clone());
    }
    let mut groups = vec![Group { name: "everyone".to_owned(), total: everyone }];
    groups.extend(roles.into_iter().map(|(name, total)| Group { name, total }));
    Ok(Team { members, shared_messages: Shared { broadcast_total: everyone, groups } })
}

fn members(reader: &Reader<'_>, home: &str) -> Result<Vec<Member>, StoreError> {
    let sessions = reader.sessions(&SessionFilter { active_only: true, ..SessionFilter::default() })?;
    let contexts = reader.contexts()?;
    let member = |agent: Agent| {
        // The newest first, so the first is the one.
        let session = sessions.iter().find(|session| session.agent_id == agent.agent_id && session.home == agent.home);
        let context = session.and_then(|session| contexts.iter().find(|found| found.context.session_id == session.session_id));
        let context = context.map(|found| found.context.clone()).unwrap_or_default();
        let mailbox = Mailbox { agent_id: agent.agent_id.clone(), home: agent.home.clone() };
        let (inbox_total, inbox_unread) = reader.mail_count(&mailbox)?;
        Ok(Member {
            local: agent.home == home,
            agent_id: agent.agent_id,
            role: agent.role,
            module: agent.module,
            display: agent.display,
            hostname: agent.hostname,
            worktree: agent.worktree,
            session_id: session.map(|session| session.session_id.clone()),
            session_start: session.map(|session| session.started_at),
            last_seen: session.map(|session| session.last_seen_at).or(agent.last_seen_at),
            intent: context.intent,
            current_task: context.current_task,
            branch: context.branch,
            unmerged_commits: context.unmerged_commits.len(),
            inbox_total,
            inbox_unread,
            status: if session.is_some() { "active" } else { "offline" },
            home: agent.home,
            home_name: None,
        })
    };
    reader.agents(&AgentFilter::default())?.into_iter().map(member).collect()
}
