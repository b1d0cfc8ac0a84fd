//! `group.*`: whom one can write to besides agents. There is `everyone`, and one group for each role that an agent has.
//!
//! They are not kept anywhere: they follow from the agents. Go Thrum shows each as a group with one member, a role.

use serde::{Deserialize, Serialize};
use thrum_core::{ErrorKind, Fault, Stamp, name};
use thrum_store::query::Role;

use super::required;
use crate::daemon::Daemon;

/// Who makes them, in Go Thrum's words.
const SYSTEM: &str = "system";

struct Group {
    id: String,
    name: String,
    description: String,
    /// Go Thrum's `*` for everyone, else the role.
    role: String,
    since: Stamp,
    agents: Vec<String>,
}

impl Group {
    fn everyone(roles: &[Role]) -> Self {
        let mut agents: Vec<String> = roles.iter().flat_map(|role| role.agents.iter().cloned()).collect();
        agents.sort_unstable();
        agents.dedup();
        Self {
            id: "grp_everyone".to_owned(),
            name: "everyone".to_owned(),
            description: "All agents".to_owned(),
            role: "*".to_owned(),
            since: roles.iter().map(|role| role.since).min().unwrap_or(Stamp::from_nanos(0)),
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

/// By name.
async fn groups(daemon: &Daemon) -> Result<Vec<Group>, Fault> {
    let roles = daemon.storage.read(|reader| reader.roles()).await?;
    let mut groups = vec![Group::everyone(&roles)];
    // An agent of a peer may have the role `everyone`; the word means all.
    groups.extend(roles.into_iter().filter(|role| role.name != "everyone").map(Group::of));
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(groups)
}

async fn group(daemon: &Daemon, wanted: Option<String>) -> Result<Group, Fault> {
    let wanted = required("name", wanted)?;
    let wanted = wanted.strip_prefix('@').unwrap_or(&wanted);
    let found = groups(daemon).await?.into_iter().find(|group| group.name == wanted);
    found.ok_or_else(|| {
        Fault::new(ErrorKind::NotFound, format!("group not found: {}", name::printable(wanted)))
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
    created_at: Stamp,
}

pub(super) async fn list(daemon: &Daemon) -> Result<Groups, Fault> {
    let listed = |group: Group| Listed {
        group_id: group.id,
        name: group.name,
        description: group.description,
        // The role, as in `group.info`; `group.members` tells who has it.
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
    created_at: Stamp,
    created_by: &'static str,
    members: Vec<Member>,
}

#[derive(Serialize)]
struct Member {
    member_type: &'static str,
    member_value: String,
    added_at: Stamp,
    added_by: &'static str,
}

pub(super) async fn info(daemon: &Daemon, params: Named) -> Result<Info, Fault> {
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
    /// The agents behind them, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    expanded: Option<Vec<String>>,
}

pub(super) async fn members(daemon: &Daemon, params: Named) -> Result<Members, Fault> {
    let group = group(daemon, params.name).await?;
    Ok(Members { members: vec![group.member()], expanded: params.expand.then_some(group.agents) })
}
