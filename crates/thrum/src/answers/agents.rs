//! Agents, their sessions and their work.

use serde::Deserialize;
use thrum_core::{
    Timestamp,
    work::{Commit, FileChange},
};

use crate::{
    render::{plain_agent, who},
    text::quote,
};

/// An agent as named in answers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AgentRef {
    pub(crate) agent_id: String,
    pub(crate) home: String,
    pub(crate) home_name: Option<String>,
    pub(crate) address: String,
    pub(crate) signed: Option<bool>,
    pub(crate) local: bool,
}

impl AgentRef {
    /// Formats the agent by its address; see [`who`].
    pub(crate) fn who(&self) -> String {
        who(&self.agent_id, &self.address, self.signed)
    }

    /// Formats the agent as plain text.
    pub(crate) fn plain_agent(&self) -> String {
        plain_agent(&self.agent_id, &self.address, self.signed)
    }

    /// Returns `true` if this is the local agent of this name.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.local && self.agent_id == name
    }
}

/// The answer to `agent.list`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Agents {
    pub(crate) agents: Vec<ListedAgent>,
    pub(crate) more: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ListedAgent {
    pub(crate) agent_id: String,
    pub(crate) role: String,
    pub(crate) module: String,
    pub(crate) display: String,
    pub(crate) home: String,
    pub(crate) home_name: Option<String>,
    pub(crate) address: String,
    pub(crate) signed: Option<bool>,
    pub(crate) local: bool,
    pub(crate) hostname: String,
    pub(crate) registered_at: Timestamp,
    pub(crate) last_seen_at: Option<Timestamp>,
    #[serde(flatten)]
    pub(crate) doing: Doing,
}

/// What an agent's program is doing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Doing {
    /// `working`, `needs_you`, `idle` or `gone`; `None` if unknown.
    pub(crate) presence: Option<String>,
    pub(crate) presence_since: Option<Timestamp>,
    pub(crate) wakeable: bool,
}

impl Doing {
    /// Describes the presence in words; `None` if it is unknown.
    pub(crate) fn words(&self) -> Option<String> {
        let words = match self.presence.as_deref()? {
            "needs_you" => "needs you".to_owned(),
            "idle" if self.wakeable => "idle, mail wakes it".to_owned(),
            other => quote(other),
        };
        Some(words)
    }
}

/// The answer to `agent.whoami`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Whoami {
    pub(crate) agent_id: String,
    pub(crate) role: String,
    pub(crate) module: String,
    pub(crate) display: String,
    pub(crate) session_id: Option<String>,
    pub(crate) session_start: Option<Timestamp>,
    pub(crate) intent: Option<String>,
    pub(crate) current_task: Option<String>,
}

/// The answer to `team.list`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Team {
    pub(crate) members: Vec<Member>,
    pub(crate) more: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Member {
    pub(crate) agent_id: String,
    pub(crate) role: String,
    pub(crate) module: String,
    pub(crate) display: String,
    pub(crate) hostname: String,
    pub(crate) worktree: Option<String>,
    pub(crate) branch: Option<String>,
    pub(crate) session_id: Option<String>,
    pub(crate) session_start: Option<Timestamp>,
    pub(crate) intent: Option<String>,
    pub(crate) current_task: Option<String>,
    pub(crate) last_seen: Option<Timestamp>,
    pub(crate) unmerged_commits: u64,
    pub(crate) uncommitted_files: Vec<String>,
    pub(crate) file_changes: Vec<FileChange>,
    pub(crate) inbox_total: Option<u64>,
    pub(crate) inbox_unread: Option<u64>,
    pub(crate) status: String,
    #[serde(flatten)]
    pub(crate) doing: Doing,
    pub(crate) held: Vec<Held>,
    /// The id of the agent's home daemon.
    pub(crate) home: Option<String>,
    pub(crate) local: Option<bool>,
    pub(crate) home_name: Option<String>,
    pub(crate) address: String,
    pub(crate) signed: Option<bool>,
    /// The state of the connection to the agent's home, or to the peer that relays to it.
    pub(crate) home_state: Option<String>,
    pub(crate) home_state_since: Option<Timestamp>,
}

/// States that an agent's mail to the agent `to` is held back, because the two have exchanged `messages` messages.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Held {
    pub(crate) to: String,
    pub(crate) messages: u64,
}

/// The answer to `agent.listContext`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Contexts {
    pub(crate) contexts: Vec<Working>,
    pub(crate) more: bool,
}

/// The work in one open session.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Working {
    #[serde(flatten)]
    pub(crate) agent: AgentRef,
    pub(crate) status: String,
    pub(crate) last_seen_at: Timestamp,
    #[serde(flatten)]
    pub(crate) doing: Doing,
    pub(crate) session_id: String,
    pub(crate) branch: Option<String>,
    pub(crate) unmerged_commits: Vec<Commit>,
    pub(crate) uncommitted_files: Vec<String>,
    pub(crate) changed_files: Vec<String>,
    pub(crate) file_changes: Vec<FileChange>,
    pub(crate) git_updated_at: Option<Timestamp>,
    pub(crate) current_task: Option<String>,
    pub(crate) intent: Option<String>,
}

impl Working {
    /// Returns `true` if the file has uncommitted changes.
    pub(crate) fn is_editing(&self, file: &str) -> bool {
        self.uncommitted_files.iter().any(|uncommitted| uncommitted == file)
    }
}
