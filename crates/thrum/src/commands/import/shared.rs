//! The report on what the branch `a-sync` holds, beside the events that were imported from it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind, key, limits, name::printable};

use super::{
    branch::{Branch, Tip},
    rows::UNADDRESSED,
    source,
};
use crate::{
    render::{Page, agent},
    text::{count, quote, quote_within},
};

/// Maximum number of agents and of daemons that are told apart. Those beyond it, and those whose names are longer than
/// [`limits::MAX_FOREIGN_ID_BYTES`], are imported, but not adopted.
pub(super) const MOST_NAMES: usize = 10_000;

/// Maximum number of daemons that are shown to users.
const MOST_SHOWN: usize = 8;

/// Files that are not read for one reason.
struct NotRead {
    count: u64,
    /// The path of the first one.
    first: String,
}

/// What a branch holds, beside the events that were imported from it.
#[derive(Default)]
pub(super) struct Shared {
    tips: Vec<Tip>,
    is_local: bool,
    pub(super) files: u64,
    pub(super) lines: u64,
    /// Number of lines that say what an earlier line said.
    pub(super) repeated: u64,
    /// Number of events of types that this version does not know.
    pub(super) unknown_types: u64,
    /// Number of messages whose rows name no recipients.
    pub(super) unaddressed: u64,
    not_read: BTreeMap<&'static str, NotRead>,
    /// Number of events by each daemon that wrote events.
    origins: BTreeMap<String, u64>,
    /// The machines of the agents whose daemon is not known, by the id that stands for it.
    machines: BTreeMap<String, String>,
    /// The agents that each daemon registered.
    registered: BTreeMap<String, BTreeSet<String>>,
    /// Number of agents in `registered`.
    agents: usize,
    /// The ids that are taken for those of this repository's own daemon.
    pub(super) own: Vec<String>,
}

impl NotRead {
    /// The files in words.
    fn line(&self, reason: &str) -> String {
        let first = if self.first.is_empty() { String::new() } else { format!(" ({})", quote_within(&self.first, 80)) };
        match self.count {
            1 => format!("1 file: {reason}{first}"),
            many => format!("{many} files: {reason}{first}, …"),
        }
    }
}

/// Returns the value of a key, and inserts it unless the map is full or the key is too long.
fn entry<'a, T: Default>(map: &'a mut BTreeMap<String, T>, key: &str) -> Option<&'a mut T> {
    if key.len() > limits::MAX_FOREIGN_ID_BYTES || map.len() >= MOST_NAMES && !map.contains_key(key) {
        return None;
    }
    Some(map.entry(key.to_owned()).or_default())
}

impl Shared {
    /// What a new report starts with.
    pub(super) fn of(branch: &Branch) -> Self {
        Self { tips: branch.tips.clone(), is_local: branch.is_local, ..Self::default() }
    }

    /// The error for a branch without any file that is read.
    pub(super) fn nothing(&self) -> Error {
        let tips: Vec<_> = self.tips.iter().map(|tip| tip.name.as_str()).collect();
        let holds: Vec<_> = self.not_read.iter().map(|(reason, files)| files.line(reason)).collect();
        let holds = if holds.is_empty() { "it is empty".to_owned() } else { holds.join("; ") };
        Error::new(ErrorKind::NotFound, format!("{} has no file of Go Thrum: {holds}", tips.join(" and ")))
            .hint("Go Thrum keeps events.jsonl, messages/, messages-v2/, receipts/ and state/agents/ there.")
    }

    /// Counts an event of a daemon.
    pub(super) fn wrote(&mut self, origin: &str) {
        if let Some(events) = entry(&mut self.origins, origin) {
            *events += 1;
        }
    }

    /// Notes that a daemon registered an agent.
    pub(super) fn register(&mut self, home: &str, agent_id: String) {
        if agent_id.len() <= limits::MAX_FOREIGN_ID_BYTES
            && self.agents < MOST_NAMES
            && let Some(agents) = entry(&mut self.registered, home)
        {
            self.agents += usize::from(agents.insert(agent_id));
        }
    }

    /// Notes the machine of an agent whose daemon is not known; `home` stands for that daemon.
    pub(super) fn lives_on(&mut self, home: &str, machine: &str) {
        if let Some(known) = entry(&mut self.machines, home) {
            *known = machine[..machine.floor_char_boundary(limits::MAX_FOREIGN_ID_BYTES)].to_owned();
        }
    }

    /// Counts a file that is not read.
    pub(super) fn not_read(&mut self, reason: &'static str, path: String) {
        self.not_read.entry(reason).or_insert(NotRead { count: 0, first: path }).count += 1;
    }

    /// Decides which daemons were the one of this repository: those `given`, those `in_files` of it that wrote to the
    /// branch, the one that old versions derived from this machine's name, and those of agents whose state names this
    /// machine. If these are none, a single daemon that wrote to a local branch is taken: each daemon before v0.10.6
    /// writes events to its own branch as soon as it starts.
    pub(super) fn decide_own(&mut self, given: &[String], in_files: &[String]) {
        let of_this_machine = source::id_of_this_machine();
        let wrote = |id: &&String| self.origins.contains_key(*id);
        let mut own: BTreeSet<String> = given.iter().cloned().collect();
        own.extend(in_files.iter().chain([&of_this_machine]).filter(wrote).cloned());
        let machine = source::machine_as_go_names_it();
        own.extend(self.machines.iter().filter(|(_, name)| **name == machine).map(|(id, _)| id.clone()));
        let mut unsigned = self.origins.keys().filter(|id| !id.is_empty() && !key::is_signed_origin(id));
        if own.is_empty()
            && self.is_local
            && self.machines.is_empty()
            && let (Some(only), None) = (unsigned.next(), unsigned.next())
        {
            own.insert(only.clone());
        }
        own.retain(|id| !id.is_empty() && !key::is_signed_origin(id));
        self.own = own.into_iter().collect();
    }

    /// The agents that the own daemons registered.
    pub(super) fn own_agents(&self) -> Vec<String> {
        let agents: BTreeSet<_> = self.own.iter().filter_map(|id| self.registered.get(id)).flatten().cloned().collect();
        agents.into_iter().collect()
    }

    /// The other daemons that registered agents and cannot speak for themselves: their ids, and their agents in words.
    fn others(&self) -> impl Iterator<Item = (&String, String)> {
        let unsigned = self
            .registered
            .iter()
            .filter(|(id, _)| !id.is_empty() && !key::is_signed_origin(id) && !self.own.contains(id));
        unsigned.map(|(id, agents)| {
            let names: Vec<_> = agents.iter().take(3).map(|name| agent(name)).collect();
            let more = if agents.len() > names.len() { ", …" } else { "" };
            let machine = self.machines.get(id).filter(|name| !name.is_empty());
            let on = machine.map(|name| format!(" on {}", quote_within(name, 80))).unwrap_or_default();
            (id, format!("{}{more}{on}", names.join(", ")))
        })
    }

    /// Where the events come from, in words.
    pub(super) fn from(&self) -> String {
        let tip = |tip: &Tip| format!("{} at {}", printable(&tip.name), tip.commit.get(..10).unwrap_or(&tip.commit));
        let tips: Vec<_> = self.tips.iter().map(tip).collect();
        format!("{}; {}, {}", tips.join(" and "), count(self.files, "file"), count(self.lines, "line"))
    }

    pub(super) fn human(&self, page: &mut Page) {
        if self.repeated > 0 {
            page.field("Repeated", format!("{} that earlier ones say already", count(self.repeated, "line")));
        }
        if self.unknown_types > 0 {
            let events = count(self.unknown_types, "event");
            page.field("Unknown", format!("{events} of types that are not known here, kept and relayed as they are"));
        }
        if self.unaddressed > 0 {
            let messages = count(self.unaddressed, "message");
            page.field(
                "No address",
                format!(
                    "{messages} of v0.10.6, which shares no recipients and no threads: in no inbox, but in thrum inbox \
                     --all --scope group:{UNADDRESSED}"
                ),
            );
        }
        for (reason, files) in &self.not_read {
            page.field("Not read", files.line(reason));
        }
        let homes: Vec<_> =
            self.others().take(MOST_SHOWN).map(|(id, agents)| format!("{} ({agents})", quote(id))).collect();
        if !homes.is_empty() {
            let more = if self.others().count() > homes.len() { ", …" } else { "" };
            let why = if self.own.is_empty() {
                "none is adopted, because it is not known which daemon this was"
            } else {
                "those of other daemons stay there"
            };
            let homes = homes.join(", ");
            page.field("Agents", format!("{why}: {homes}{more}. If one of them was this one: --former-id ID"));
        }
    }

    pub(super) fn json(&self) -> Value {
        let tips: Vec<_> = self.tips.iter().map(|tip| json!({"name": tip.name, "commit": tip.commit})).collect();
        let not_read: Vec<_> = self
            .not_read
            .iter()
            .map(|(reason, files)| json!({"reason": reason, "count": files.count, "first": files.first}))
            .collect();
        let homes: Vec<_> = self
            .registered
            .iter()
            .take(limits::MAX_BATCH_EVENTS)
            .map(|(id, agents)| {
                let agents: Vec<_> = agents.iter().take(limits::MAX_BATCH_EVENTS).collect();
                json!({"daemon_id": id, "agents": agents, "hostname": self.machines.get(id)})
            })
            .collect();
        json!({
            "refs": tips, "files": self.files, "lines": self.lines, "repeated": self.repeated,
            "unknown_types": self.unknown_types, "without_recipients": self.unaddressed, "not_read": not_read,
            "homes": homes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_daemon_is_the_own_one_only_if_the_branch_is_local() {
        let mut shared = Shared::default();
        shared.origins.insert("d_one".to_owned(), 3);
        shared.decide_own(&[], &["d_elsewhere".to_owned()]);
        assert_eq!(shared.own, [""; 0]);
        shared.is_local = true;
        shared.decide_own(&[], &[]);
        assert_eq!(shared.own, ["d_one"]);
        shared.origins.insert("d_two".to_owned(), 1);
        shared.decide_own(&[], &[]);
        assert_eq!(shared.own, [""; 0]);
        shared.decide_own(&[], &["d_two".to_owned()]);
        assert_eq!(shared.own, ["d_two"]);
        shared.origins.remove("d_two");
        shared.machines.insert("d_three".to_owned(), "elsewhere".to_owned());
        shared.decide_own(&[], &[]);
        assert_eq!(shared.own, [""; 0], "the events of the branch may all be of others");
        shared.machines.insert("d_three".to_owned(), source::machine_as_go_names_it());
        shared.decide_own(&["d_given".to_owned()], &[]);
        assert_eq!(shared.own, ["d_given", "d_three"]);
    }
}
