//! `group.*`: the groups that are derived from the agents: `everyone`, and one for each role that an agent has. Groups
//! of Go Thrum are not listed.
//!
//! Groups are not stored. Go Thrum shows each as a group with one member, a role.

use serde::{Deserialize, Serialize};
use thrum_core::{Error, ErrorKind, Timestamp, name};
use thrum_store::query::{Mailbox, Role};

use super::{agent_ref::AgentRef, budget::Budget, required};
use crate::daemon::Daemon;

/// The creator of all groups, in Go Thrum's terms.
const SYSTEM: &str = "system";

struct Group {
    id: String,
    name: String,
    description: String,
    /// Go Thrum's `*` for everyone, otherwise the role.
    role: String,
    since: Timestamp,
    agents: Vec<Mailbox>,
}

impl Group {
    fn everyone(roles: &[Role]) -> Self {
        let agents = roles.iter().flat_map(|role| role.agents.iter().cloned()).collect();
        Self {
            id: "grp_everyone".to_owned(),
            name: "everyone".to_owned(),
            description: "All agents".to_owned(),
            role: "*".to_owned(),
            since: roles.iter().map(|role| role.since).min().unwrap_or(Timestamp::from_nanos(0)),
            agents,
        }
    }

    fn of(role: Role) -> Self {
        Self {
            id: format!("grp_role_{}", role.name),
            description: format!("Auto-created group for role '{}'", role.name),
            role: role.name.clone(),
            name: role.name,
            since: role.since,
            agents: role.agents,
        }
    }

    fn member(&self) -> Member {
        Member { member_type: "role", member_value: self.role.clone(), added_at: self.since, added_by: SYSTEM }
    }
}

/// Returns all groups, sorted by name.
async fn groups(daemon: &Daemon) -> Result<Vec<Group>, Error> {
    let roles = daemon.storage.read(|reader| reader.roles()).await?;
    let mut groups = vec![Group::everyone(&roles)];
    // An agent of a peer may have the role `everyone`; the group of that name still contains all agents.
    groups.extend(roles.into_iter().filter(|role| role.name != "everyone").map(Group::of));
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(groups)
}

async fn group(daemon: &Daemon, wanted: Option<String>) -> Result<Group, Error> {
    let wanted = required("name", wanted)?;
    let wanted = wanted.strip_prefix('@').unwrap_or(&wanted);
    let found = groups(daemon).await?.into_iter().find(|group| group.name == wanted);
    found.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("group not found: {}", name::printable(wanted)))
            .hint("The groups are everyone and the roles of the agents; group.list lists them.")
    })
}

#[derive(Serialize)]
pub(super) struct Groups {
    groups: Vec<Listed>,
}

#[derive(Serialize)]
struct Listed {
    group_id: String,
    name: String,
    description: String,
    member_count: usize,
    created_at: Timestamp,
}

pub(super) async fn list(daemon: &Daemon) -> Result<Groups, Error> {
    let listed = |group: Group| Listed {
        group_id: group.id,
        name: group.name,
        description: group.description,
        // The role is the only member, as in `group.info`; `group.members` lists its agents.
        member_count: 1,
        created_at: group.since,
    };
    Ok(Groups { groups: groups(daemon).await?.into_iter().map(listed).collect() })
}

#[derive(Deserialize)]
pub(super) struct Named {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    expand: bool,
}

#[derive(Serialize)]
pub(super) struct Info {
    group_id: String,
    name: String,
    description: String,
    created_at: Timestamp,
    created_by: &'static str,
    members: Vec<Member>,
}

#[derive(Serialize)]
struct Member {
    member_type: &'static str,
    member_value: String,
    added_at: Timestamp,
    added_by: &'static str,
}

pub(super) async fn info(daemon: &Daemon, params: Named) -> Result<Info, Error> {
    let group = group(daemon, params.name).await?;
    Ok(Info {
        members: vec![group.member()],
        group_id: group.id,
        name: group.name,
        description: group.description,
        created_at: group.since,
        created_by: SYSTEM,
    })
}

#[derive(Serialize)]
pub(super) struct Members {
    members: Vec<Member>,
    /// The agents in the group, sorted by name: agents of this daemon by id, others as `@name@machine`. Absent without
    /// `expand`.
    #[serde(skip_serializing_if = "Option::is_none")]
    expanded: Option<Vec<String>>,
    /// The agents in the group with their homes; absent without `expand`.
    #[serde(skip_serializing_if = "Option::is_none")]
    agents: Option<Vec<AgentRef>>,
    /// `true` if the answer has no room for further agents.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    more: bool,
}

pub(super) async fn members(daemon: &Daemon, params: Named) -> Result<Members, Error> {
    let group = group(daemon, params.name).await?;
    let member = group.member();
    if !params.expand {
        return Ok(Members { members: vec![member], expanded: None, agents: None, more: false });
    }
    let mut machines = daemon.machines();
    let named = daemon.storage.read(move |reader| {
        reader.name_machines(&mut machines, group.agents.iter().map(|agent| agent.home.as_str()))?;
        Ok((group.agents, machines))
    });
    let (mut found, machines) = named.await?;
    found.sort_by(|a, b| {
        (&a.agent_id, !machines.is_own(&a.home), &a.home).cmp(&(&b.agent_id, !machines.is_own(&b.home), &b.home))
    });
    let total = found.len();
    let mut budget = Budget::new();
    let agents = found.into_iter().map(|agent| AgentRef::of(agent, &machines));
    let agents: Vec<AgentRef> = agents.take_while(|agent| budget.take(&(agent, agent.listed()))).collect();
    Ok(Members {
        members: vec![member],
        more: agents.len() < total,
        expanded: Some(agents.iter().map(AgentRef::listed).collect()),
        agents: Some(agents),
    })
}
