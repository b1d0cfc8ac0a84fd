//! Resolves the groups of Go Thrum. Their events are stored and relayed but not folded: a fold would need rules for
//! membership changes that arrive in any order, which is not worth it, because only Go can edit a group. The members
//! are computed from the log when a message addresses a group.

use std::collections::{BTreeMap, BTreeSet};

use thrum_core::Payload;

use crate::{Reader, StoreError, query::Mailbox};

/// Maximum number of group events that are read, oldest first: far more than users create, and few enough to read while
/// a caller waits.
const MOST_EVENTS: usize = 10_000;

/// A group as its events define it.
#[derive(Default)]
struct Group {
    name: String,
    /// The daemon that created the group.
    origin: String,
    /// Type (such as `agent` or `role`) and name of each member.
    members: BTreeSet<(String, String)>,
}

/// Applies one event to the groups.
fn apply(groups: &mut BTreeMap<String, Group>, payload: Payload, origin: String) {
    match payload {
        Payload::GroupCreate(created) => {
            let group = groups.entry(created.group_id).or_default();
            (group.name, group.origin) = (created.name, origin);
        }
        Payload::GroupUpdate(mut update) => {
            if let (Some(group), Some(name)) = (groups.get_mut(&update.group_id), update.fields.remove("name")) {
                group.name = name;
            }
        }
        Payload::GroupDelete(deletion) => drop(groups.remove(&deletion.group_id)),
        Payload::GroupMemberAdd(member) => {
            let group = groups.entry(member.group_id).or_default();
            group.members.insert((member.member_type, member.member_value));
        }
        Payload::GroupMemberRemove(member) => {
            if let Some(group) = groups.get_mut(&member.group_id) {
                group.members.remove(&(member.member_type, member.member_value));
            }
        }
        Payload::MessageCreate(_)
        | Payload::MessageEdit(_)
        | Payload::MessageDelete(_)
        | Payload::MessageReceipt(_)
        | Payload::AgentRegister(_)
        | Payload::AgentUpdate(_)
        | Payload::AgentCleanup(_)
        | Payload::AgentPresence(_)
        | Payload::AgentWoken(_)
        | Payload::SessionStart(_)
        | Payload::SessionEnd(_)
        | Payload::PurgeExecuted(_)
        | Payload::FileClaim(_)
        | Payload::FileRelease(_)
        | Payload::Unknown => {}
    }
}

impl Reader<'_> {
    /// Returns the registered agents in Go Thrum's groups of this name; `None` if no such group is known here.
    ///
    /// # Errors
    /// SQLite's.
    pub(crate) fn group_of_go(&self, name: &str) -> Result<Option<Vec<Mailbox>>, StoreError> {
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        let mut statement = self.conn.prepare_cached(
            "SELECT type, origin_daemon, body FROM events WHERE target IS NULL
             AND type IN ('group.create', 'group.update', 'group.delete', 'group.member.add', 'group.member.remove')
             ORDER BY at, event_id LIMIT ?1",
        )?;
        let mut rows = statement.query([MOST_EVENTS])?;
        while let Some(row) = rows.next()? {
            let (kind, origin): (String, String) = (row.get(0)?, row.get(1)?);
            let body = row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?;
            let Ok(payload) = Payload::read(&kind, body) else { continue };
            apply(&mut groups, payload, origin);
        }
        let mut found = groups.into_values().filter(|group| group.name == name).peekable();
        if found.peek().is_none() {
            return Ok(None);
        }
        let mut agents = Vec::new();
        for Group { origin, members, .. } in found {
            for (kind, value) in members {
                agents.extend(match kind.as_str() {
                    "agent" => self.agents_of_go(&value, &origin)?,
                    "role" => self.members(Some(value.as_str()).filter(|role| *role != "*"))?,
                    _ => Vec::new(),
                });
            }
        }
        agents.sort_unstable();
        agents.dedup();
        Ok(Some(agents.into_iter().map(|(agent_id, home)| Mailbox { agent_id, home }).collect()))
    }

    /// The agents that a Go daemon means by this name: its own agent, otherwise all agents of the name, because Go does
    /// not distinguish them.
    fn agents_of_go(&self, name: &str, origin: &str) -> Result<Vec<(String, String)>, StoreError> {
        let mut homes = self.homes(name)?;
        if homes.iter().any(|home| home == origin) {
            homes.retain(|home| home == origin);
        }
        Ok(homes.into_iter().map(|home| (name.to_owned(), home)).collect())
    }
}
