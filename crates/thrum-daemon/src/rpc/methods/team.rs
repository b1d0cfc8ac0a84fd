//! `team.list`: the agents here and at other daemons, with their current work. Agents that are offline are left out
//! without `include_offline`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thrum_core::{Error, Machines, Timestamp};
use thrum_store::{
    Reader, StoreError,
    query::{Agent, AgentFilter, Mailbox, Presence, Session},
};

use super::{
    agent,
    agent_ref::AgentRef,
    budget::{Budget, shorten},
    large,
    outlook::Way,
    presence::Doing,
    session,
};
use crate::{daemon::Daemon, guard::Held, rpc::connection::Reply};

#[derive(Deserialize)]
pub(super) struct List {
    #[serde(default)]
    include_offline: bool,
}

#[derive(Serialize)]
pub(super) struct Team {
    members: Vec<Member>,
    /// `true` if the answer has no room for further agents.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    more: bool,
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
    #[serde(flatten)]
    agent: AgentRef,
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
    session_start: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_task: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    branch: Option<String>,
    unmerged_commits: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    uncommitted_files: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    file_changes: Vec<Value>,
    /// Number of messages in the agent's mailbox; absent for an agent of another daemon, because only that daemon knows
    /// the mailbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    inbox_total: Option<u64>,
    /// Number of unread messages in the agent's mailbox; absent for an agent of another daemon.
    #[serde(skip_serializing_if = "Option::is_none")]
    inbox_unread: Option<u64>,
    #[serde(flatten)]
    doing: Doing,
    /// Recipients whose mail from this agent is held, because the two exchanged too many messages without a person.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    held: Vec<Held>,
    /// `active` or `offline`. An agent is active while its program runs; if that is unknown, while it has an open
    /// session and has recently shown a sign of life. If the exchange with its home is interrupted
    /// ([`Way::is_blocked`]), an agent is offline.
    status: &'static str,
    /// The connection to the agent's home, or to the peer that relays to it: `connected`, `connecting`, `unreachable` or
    /// `removed_us`; `removed` if there is no such peer. Absent if the agent lives here, or if mail is relayed by a
    /// connected peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    home_state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    home_state_since: Option<Timestamp>,
    /// `true` if lists or texts of this member are left out or cut, because the answer has no room for them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

/// An agent; its newest open session; its total and unread mail, if it lives here; the peer that served its
/// registration; the stored presence of its program.
type MemberRecord = (Agent, Option<Session>, Option<(u64, u64)>, Option<String>, Option<Presence>);

/// The agents that fit into an answer, and whether there are more.
#[derive(Default)]
struct Members {
    found: Vec<(MemberRecord, bool)>,
    more: bool,
}

pub(super) async fn list(daemon: &Daemon, params: List) -> Result<Reply, Error> {
    let turn = daemon.large.turn().await;
    let (here, mut machines) = (daemon.id.clone(), daemon.machines());
    let found = daemon.storage.read_much(&turn, move |reader| {
        let (everyone, roles) = reader.shared_mail()?;
        let members = members(reader, &here)?;
        reader.name_machines(&mut machines, members.found.iter().map(|((agent, ..), _)| agent.home.as_str()))?;
        Ok((members, machines, everyone, roles))
    });
    let (Members { found, more }, machines, everyone, roles) = found.await?;
    let (peers, git) = (daemon.peers.reach(), daemon.git_sync.reach());
    let member = |(found, truncated): (MemberRecord, bool)| {
        let via = found.3.clone();
        let mut member = Member { truncated, ..member(daemon, &machines, found) };
        let way = Way::to(member.agent.home(), via.as_deref(), &daemon.id, &peers, &git);
        if way.is_blocked() {
            member.status = "offline";
        }
        (member.home_state, member.home_state_since) = way.shown();
        member
    };
    let mut members: Vec<Member> = found.into_iter().map(member).collect();
    members.retain(|member| params.include_offline || member.status == "active");
    let mut groups = vec![Group { name: "everyone".to_owned(), total: everyone }];
    let mut budget = Budget::new();
    groups.extend(roles.into_iter().map(|(name, total)| Group { name, total }).take_while(|group| budget.take(group)));
    large(turn, Team { members, more, shared_messages: Shared { broadcast_total: everyone, groups } }).await
}

/// Reads the agents that fit into an answer, each with its newest open session. All work contexts together may be
/// larger than memory, so the lists of files are left out once the answer is half full.
fn members(reader: &Reader<'_>, here: &str) -> Result<Members, StoreError> {
    let mut members = Members::default();
    let mut budget = Budget::new();
    let presences = reader.presences()?;
    for mut agent in reader.agents(&AgentFilter::default())? {
        let mut session = reader.newest_open_session(&agent.agent_id, &agent.home)?;
        let mut truncated = false;
        if let Some(session) = &mut session {
            let context = &mut session.context;
            // The answer contains none of these lists, and only the number of the commits.
            (context.changed_files, context.scopes, context.refs) = Default::default();
            context.unmerged_commits.iter_mut().for_each(|commit| *commit = Value::Null);
            let lists = (&context.uncommitted_files, &context.file_changes);
            if budget.is_short() || !budget.take(&lists) {
                truncated = !(context.uncommitted_files.is_empty() && context.file_changes.is_empty());
                (context.uncommitted_files, context.file_changes) = Default::default();
            }
        }
        if budget.is_short() {
            truncated |= shorten([&mut agent.display, &mut agent.hostname, &mut agent.worktree]);
            if let Some(session) = &mut session {
                let context = &mut session.context;
                truncated |= shorten(
                    [&mut context.intent, &mut context.current_task, &mut context.branch].into_iter().flatten(),
                );
            }
        }
        let texts = (
            &agent.agent_id,
            &agent.role,
            &agent.module,
            &agent.display,
            &agent.hostname,
            &agent.worktree,
            &agent.home,
        );
        let of_session = session.as_ref().map(|session| {
            let context = &session.context;
            (&session.session_id, &context.intent, &context.current_task, &context.branch)
        });
        // The other fields of a member take about this much.
        if !budget.take(&(texts, of_session, [0u8; 200].as_slice())) {
            members.more = true;
            break;
        }
        let mailbox = Mailbox { agent_id: agent.agent_id.clone(), home: agent.home.clone() };
        let mail = if mailbox.home == here { Some(reader.mail_count(&mailbox)?) } else { None };
        let via = reader.agent_served_by(&agent.agent_id, &agent.home)?;
        members.found.push(((agent, session, mail, via, presences.get(&mailbox).copied()), truncated));
    }
    Ok(members)
}

fn member(daemon: &Daemon, machines: &Machines, (agent, mut session, mail, _, recorded): MemberRecord) -> Member {
    if let Some(session) = &mut session {
        session::refresh(daemon, session);
    }
    let last_seen = session.as_ref().map(|session| session.last_seen_at).or_else(|| agent::seen(daemon, &agent));
    let mailbox = Mailbox { agent_id: agent.agent_id, home: agent.home };
    let doing = Doing::of(daemon, &mailbox, recorded, last_seen);
    let has_open_session = || session.as_ref().is_some_and(|session| session::shown(session, &daemon.id) == "active");
    let status = if doing.is_there().unwrap_or_else(has_open_session) { "active" } else { "offline" };
    let (session_id, session_start, context) = match session {
        Some(session) => (Some(session.session_id), Some(session.started_at), session.context),
        None => Default::default(),
    };
    Member {
        held: if mailbox.home == daemon.id { daemon.live.guard.of(&mailbox.agent_id) } else { Vec::new() },
        agent: AgentRef::of(mailbox, machines),
        role: agent.role,
        module: agent.module,
        display: agent.display,
        hostname: agent.hostname,
        worktree: agent.worktree,
        session_id,
        session_start,
        last_seen,
        intent: context.intent,
        current_task: context.current_task,
        branch: context.branch,
        unmerged_commits: context.unmerged_commits.len(),
        uncommitted_files: context.uncommitted_files,
        file_changes: context.file_changes,
        inbox_total: mail.map(|(total, _)| total),
        inbox_unread: mail.map(|(_, unread)| unread),
        doing,
        status,
        home_state: None,
        home_state_since: None,
        truncated: false,
    }
}
