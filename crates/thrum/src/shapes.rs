//! The daemon's answers, as far as commands display them. With `--json` the whole answer is passed on: see [`Answer`].

mod work;

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use thrum_core::{
    Error, ErrorKind, RangeSet, Timestamp,
    quota::{Measure, OverQuota},
    work::{Commit, FileChange},
};
use thrum_sync::{
    peers::{PeerDetails, Route},
    replicator::ExchangeStatus,
    transport::Node,
};

use crate::{
    render::{plain_agent, who},
    text::quote,
    time,
};
pub(crate) use work::{Claim, Claimed, Claims, Collisions, Free, Released};

/// An answer as received, and the parts of it that we read.
#[derive(Clone, Debug)]
pub(crate) struct Answer<T> {
    pub(crate) raw: Value,
    pub(crate) read: T,
}

impl<T: Default> Answer<T> {
    /// Returns the answer; an empty `list` if the daemon is of an earlier version, which does not know the method.
    ///
    /// # Errors
    /// Returns the daemon's other errors.
    pub(crate) fn or_empty(answer: Result<Self, Error>, list: &str) -> Result<Self, Error> {
        match answer {
            Err(error) if error.kind == ErrorKind::NotFound => Ok(Self { raw: json!({list: []}), read: T::default() }),
            answer => answer,
        }
    }
}

/// Reads nothing of an answer that is only passed on.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct Any {}

impl<'de, T: for<'a> Deserialize<'a>> Deserialize<'de> for Answer<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Value::deserialize(deserializer)?;
        let read = T::deserialize(&raw).map_err(serde::de::Error::custom)?;
        Ok(Self { raw, read })
    }
}

/// The answer to `health`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Health {
    pub(crate) uptime_ms: u64,
    pub(crate) version: String,
    pub(crate) pid: u32,
    pub(crate) daemon_id: String,
    pub(crate) events: u64,
    pub(crate) messages: u64,
    pub(crate) agents: u64,
    pub(crate) parked: u64,
    pub(crate) rejected: u64,
    pub(crate) tailscale_sync: TailscaleSync,
    pub(crate) tailnet: Tailnet,
    pub(crate) purges: Option<Purges>,
    pub(crate) storing: Vec<Storing>,
    pub(crate) forgetting: Vec<Forgetting>,
    pub(crate) not_listening: Option<NotListening>,
    pub(crate) warnings: Vec<String>,
}

/// A long-running job of the writer: a peer's batch, or work left by earlier events.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Storing {
    pub(crate) daemon_id: Option<String>,
    pub(crate) peer: Option<String>,
    pub(crate) for_ms: u64,
    pub(crate) done: u64,
    pub(crate) events: u64,
}

impl std::fmt::Display for Storing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let since = self.for_ms / 1000;
        match self.peer.as_ref().or(self.daemon_id.as_ref()) {
            Some(peer) => {
                let peer = quote(peer);
                write!(f, "a batch of {peer} for {since}s, {} of {} events done", self.done, self.events)
            }
            None => write!(f, "work that earlier events left, for {since}s"),
        }
    }
}

/// Progress of dropping the events of a removed peer, in rows of the log.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Forgetting {
    pub(crate) daemon_id: String,
    pub(crate) done: u64,
    pub(crate) rows: u64,
}

impl std::fmt::Display for Forgetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the events of {}, {} of {} rows of the log examined", quote(&self.daemon_id), self.done, self.rows)
    }
}

/// Why peers cannot dial this daemon.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NotListening {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// The purge cutoff, and the last purges.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Purges {
    pub(crate) before: Option<Timestamp>,
    pub(crate) last: Vec<SaidPurge>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SaidPurge {
    pub(crate) by: String,
    pub(crate) by_name: Option<String>,
    pub(crate) signed: Option<bool>,
    pub(crate) via: Option<String>,
    pub(crate) at: Option<Timestamp>,
    pub(crate) before: Option<Timestamp>,
    pub(crate) named: u64,
    pub(crate) waiting: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TailscaleSync {
    pub(crate) enabled: bool,
    pub(crate) hostname: String,
}

/// The state of the tailnet.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Tailnet {
    pub(crate) enabled: bool,
    pub(crate) mode: Option<String>,
    pub(crate) why: String,
    pub(crate) state: String,
    pub(crate) since: Option<Timestamp>,
    pub(crate) message: Option<String>,
    pub(crate) hint: Option<String>,
    pub(crate) login_url: Option<String>,
    pub(crate) hostname: Option<String>,
    pub(crate) address: Option<String>,
    pub(crate) warnings: Vec<String>,
    pub(crate) refused_callers: u64,
}

/// The answer to `message.send`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Sent {
    pub(crate) message_id: String,
    /// Number of the names in `--to`; for a reply, of the recipients and names that it goes to.
    pub(crate) resolved_to: u64,
    pub(crate) warnings: Vec<String>,
    pub(crate) recipients: Vec<Recipient>,
    pub(crate) audiences: Vec<Tag>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Recipient {
    pub(crate) agent_id: String,
    pub(crate) read_at: Option<Timestamp>,
    pub(crate) seen_at: Option<Timestamp>,
    pub(crate) woken_at: Option<Timestamp>,
    /// `stored`, `at_home`, `wake_requested`, `shown` or `read`.
    pub(crate) state: String,
    pub(crate) at_home_since: Option<Timestamp>,
    pub(crate) home_name: Option<String>,
    pub(crate) address: String,
    pub(crate) local: Option<bool>,
    /// What can be expected of the delivery, as known at the time of sending.
    pub(crate) outlook: Option<String>,
    pub(crate) outlook_state: Option<String>,
}

/// One message of `message.list` and `message.wait`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Summary {
    pub(crate) message_id: String,
    pub(crate) reply_to: Option<String>,
    pub(crate) agent_id: String,
    pub(crate) address: String,
    pub(crate) home_name: Option<String>,
    pub(crate) signed: Option<bool>,
    pub(crate) body: Body,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Option<Timestamp>,
    pub(crate) deleted: bool,
    pub(crate) is_read: bool,
    pub(crate) audiences: Vec<Tag>,
    pub(crate) scopes: Vec<Tag>,
    pub(crate) refs: Vec<Tag>,
    /// The recipients with their delivery states; empty except in an outbox.
    pub(crate) recipients: Vec<Recipient>,
    /// Size of the whole content in bytes, if only its beginning is here.
    pub(crate) content_bytes: Option<u64>,
}

impl Summary {
    /// Returns `true` if the message went to everyone. Go Thrum's daemon sends no audiences, only the tags that they
    /// are derived from.
    pub(crate) fn is_to_everyone(&self) -> bool {
        let Self { audiences, scopes, refs, .. } = self;
        let addressed = |tag: &&Tag| matches!(tag.kind.as_str(), "group" | "mention");
        let mut addresses = refs.iter().filter(addressed).chain(scopes.iter().filter(addressed)).peekable();
        let everyone = |to: &Tag| to.kind == "broadcast" || to.value == "everyone";
        audiences.iter().any(everyone)
            || audiences.is_empty() && (addresses.peek().is_none() || addresses.any(everyone))
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Body {
    pub(crate) content: String,
    /// Data for programs, as a JSON text; `None` if the message has none.
    pub(crate) structured: Option<String>,
}

/// An audience, a scope or a ref.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Tag {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) value: String,
}

impl Tag {
    /// Formats the tag as it is typed: `type:value`.
    pub(crate) fn shown(&self) -> String {
        quote(&format!("{}:{}", self.kind, self.value))
    }
}

/// The answer to `message.list`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Listing {
    pub(crate) messages: Vec<Summary>,
    pub(crate) total: u64,
    pub(crate) unread: u64,
    pub(crate) page: u64,
    pub(crate) total_pages: u64,
}

/// The answer to `message.wait`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Waited {
    pub(crate) status: String,
    pub(crate) messages: Vec<Summary>,
    pub(crate) unread: u64,
}

/// The answer to `message.news`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct News {
    /// `told`; for a wait also `timeout`, or `replaced` if another wait took its name.
    pub(crate) status: String,
    pub(crate) messages: Vec<Summary>,
    pub(crate) cursor: String,
    /// `true` if the reader's cursor is at `cursor` now. Older daemons never report it.
    pub(crate) reader_moved: bool,
    pub(crate) remaining: u64,
    pub(crate) unread: u64,
}

/// The answer to `message.get`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Got {
    pub(crate) message: Message,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Message {
    pub(crate) message_id: String,
    pub(crate) thread_id: Option<String>,
    pub(crate) reply_to: Option<String>,
    pub(crate) author: Author,
    pub(crate) body: Body,
    pub(crate) scopes: Vec<Tag>,
    pub(crate) refs: Vec<Tag>,
    pub(crate) created_at: Timestamp,
    /// The time that the message claims, if that was after its arrival.
    pub(crate) claimed_at: Option<Timestamp>,
    pub(crate) updated_at: Option<Timestamp>,
    pub(crate) deleted: bool,
    pub(crate) is_read: bool,
    pub(crate) audiences: Vec<Tag>,
    pub(crate) recipients: Vec<Recipient>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Author {
    pub(crate) agent_id: String,
    pub(crate) address: String,
    pub(crate) signed: Option<bool>,
}

/// The answer to `agent.register`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Registered {
    pub(crate) agent_id: String,
    pub(crate) status: String,
    pub(crate) conflict: Option<Conflict>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Conflict {
    pub(crate) existing_agent_id: String,
    pub(crate) registered_at: Option<Timestamp>,
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

/// The answer to `agent.cleanup`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Cleaned {
    pub(crate) orphans: Vec<Orphan>,
    pub(crate) deleted: Vec<String>,
    pub(crate) message: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Orphan {
    pub(crate) agent_id: String,
    pub(crate) role: String,
    pub(crate) module: String,
    pub(crate) worktree: String,
    pub(crate) days_since_seen: u64,
}

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

/// The answer to `session.start`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SessionStarted {
    pub(crate) session_id: String,
}

/// The answer to `session.end`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SessionEnded {
    pub(crate) duration_ms: u64,
}

/// The answer to `session.list`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Sessions {
    pub(crate) sessions: Vec<Session>,
    #[serde(default)]
    pub(crate) more: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Session {
    pub(crate) session_id: String,
    pub(crate) agent_id: String,
    pub(crate) address: String,
    pub(crate) signed: Option<bool>,
    pub(crate) started_at: Timestamp,
    pub(crate) ended_at: Option<Timestamp>,
    pub(crate) end_reason: Option<String>,
    pub(crate) last_seen_at: Timestamp,
    pub(crate) intent: Option<String>,
    pub(crate) status: String,
}

/// The answer to `session.heartbeat`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Beaten {
    pub(crate) session_id: String,
    pub(crate) branch: Option<String>,
    pub(crate) unmerged_commits: u64,
    pub(crate) uncommitted_files: u64,
    pub(crate) file_changes: Vec<FileChange>,
    pub(crate) git_updated_at: Option<Timestamp>,
    pub(crate) scopes: Vec<Tag>,
    pub(crate) refs: Vec<Tag>,
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
    /// The state of the connection to the agent's home.
    pub(crate) home_state: Option<String>,
    pub(crate) home_state_since: Option<Timestamp>,
}

/// Mail that is held back: messages from one agent to the agent `to`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Held {
    pub(crate) to: String,
    pub(crate) messages: u64,
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

/// One peer of `peer.status`. The fields that Go Thrum's daemon may leave out, or send as `null`, are read here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) daemon_id: String,
    pub(crate) address: String,
    pub(crate) transport: Option<String>,
    pub(crate) state: String,
    pub(crate) since: Option<Timestamp>,
    pub(crate) last_sync_at: Option<Timestamp>,
    pub(crate) read_by_us: Option<u64>,
    pub(crate) our_latest: Option<u64>,
    #[serde(flatten)]
    pub(crate) exchange: ExchangeStatus,
    #[serde(flatten)]
    pub(crate) details: PeerDetails,
}

/// Describes how a peer exceeds its quota, such as `1500 agents kept, 1000 allowed`, and names the setting that limits it.
pub(crate) fn over_quota(over: OverQuota) -> (String, &'static str) {
    let OverQuota { measure, kept, allowed } = over;
    let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / f64::from(1 << 20));
    match measure {
        Measure::Bytes => (format!("{} kept, {} allowed", megabytes(kept), megabytes(allowed)), "peers.max_mb"),
        Measure::Agents => (format!("{kept} agents kept, {allowed} allowed"), "peers.max_agents"),
        Measure::Origins => (format!("events of {kept} daemons kept, {allowed} allowed"), "peers.max_daemons"),
        Measure::Parked => (format!("{kept} events wait for something, {allowed} may"), "peers.max_parked"),
    }
}

/// Formats a node as `laptop (ann@example.com)`, with control characters escaped.
pub(crate) fn node(node: &Node) -> String {
    let name = quote(if node.name.is_empty() { &node.id } else { &node.name });
    if node.user.is_empty() { name } else { format!("{name} ({})", user(&node.user)) }
}

/// Formats a login name; an e-mail address needs no quotes.
fn user(login: &str) -> String {
    let parts: Vec<_> = login.split('@').collect();
    if parts.len() == 2 && parts.iter().all(|part| quote(part) == *part) { login.to_owned() } else { quote(login) }
}

/// Formats the network path to a peer as `direct, 0.4 ms` or `via relay fra, 48 ms`.
pub(crate) fn route(route: &Route) -> String {
    let way = route.relay.as_ref().map_or_else(|| "direct".to_owned(), |relay| format!("via relay {}", quote(relay)));
    format!("{way}, {}", millis(route.round_trip_us))
}

/// Formats microseconds for users: `0.4 ms`, `48 ms`, `2.3s`.
pub(crate) fn millis(micros: u64) -> String {
    match micros {
        0..10_000 => format!("{}.{} ms", micros / 1000, micros % 1000 / 100),
        _ => time::length(Duration::from_micros(micros)),
    }
}

/// The answer to `peer.ping`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pinged {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) node: Option<Node>,
    pub(crate) path: Option<Route>,
    pub(crate) asked_over_its_connection: bool,
    pub(crate) round_trip_us: u64,
    pub(crate) clock_offset_ms: Option<i64>,
    pub(crate) version: Option<String>,
    pub(crate) our_version: String,
    pub(crate) backlog_from_them: Option<u64>,
    pub(crate) backlog_to_them: Option<u64>,
}

/// The answer to `peer.waiting`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct WaitingDaemons {
    pub(crate) daemons: Vec<WaitingDaemon>,
    pub(crate) asked: usize,
    pub(crate) not_asked: usize,
}

/// A daemon that waits to be joined.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct WaitingDaemon {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) node: Option<Node>,
}

/// A wrong code in `peer.wait_pairing`, or a caller that was refused.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Attempt {
    pub(crate) node: Option<Node>,
    pub(crate) address: String,
    pub(crate) left: u8,
    pub(crate) locked_until: Option<Timestamp>,
}

/// The answer to `peer.start_pairing`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pairing {
    pub(crate) code: String,
    pub(crate) address: String,
    pub(crate) join: String,
    pub(crate) peercode: String,
    pub(crate) transport: String,
}

/// The answer to `peer.wait_pairing` and `peer.join`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Paired {
    /// `paired`, or `waiting` while no daemon has joined.
    pub(crate) status: String,
    /// The wrong codes so far, while no daemon has joined.
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) peer_name: String,
    pub(crate) peer_address: String,
    /// `plain` if the code was transmitted.
    pub(crate) pairing: String,
    pub(crate) syncing: bool,
    pub(crate) message: Option<String>,
}

/// The answer to `peer.look`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Listener {
    pub(crate) address: String,
    pub(crate) node: Option<Node>,
    /// `plain` if the code would have to be transmitted.
    pub(crate) pairing: String,
}

/// The answer to `sync.status`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SyncStatus {
    pub(crate) last_sync_at: Option<String>,
    pub(crate) last_error: Option<String>,
    pub(crate) sync_state: String,
    pub(crate) local_only: bool,
    /// `true` if the tailnet is used.
    pub(crate) tailnet: bool,
    /// The time between two periodic pulls, in seconds.
    pub(crate) sync_interval: u64,
    pub(crate) peers: Vec<Peer>,
}

/// The answer to `sync.force`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Forced {
    pub(crate) results: Vec<ForcedPeer>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ForcedPeer {
    pub(crate) peer: String,
    pub(crate) name: String,
    pub(crate) applied: u64,
    pub(crate) skipped: u64,
    pub(crate) error: Option<String>,
}

/// The answer to `purge.execute`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Purged {
    pub(crate) before: String,
    pub(crate) dry_run: bool,
    pub(crate) messages_deleted: u64,
    pub(crate) sessions_deleted: u64,
    pub(crate) events_deleted: u64,
    pub(crate) goes_on: bool,
}

/// The answer to `sync.parked`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ParkedList {
    pub(crate) groups: Vec<Parked>,
    pub(crate) more: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Parked {
    /// The name of the peer that served these events.
    pub(crate) peer: Option<String>,
    pub(crate) reason: String,
    pub(crate) events: u64,
    pub(crate) waits: bool,
    pub(crate) last: ParkedEvent,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ParkedEvent {
    pub(crate) event_id: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) origin_name: String,
    pub(crate) at: Option<Timestamp>,
    pub(crate) target: Option<String>,
    pub(crate) due: Option<Timestamp>,
}

/// The answer to `sync.verify`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Verified {
    pub(crate) status: String,
    pub(crate) daemon_id: String,
    pub(crate) events: u64,
    pub(crate) fetched: u64,
    pub(crate) peers: Vec<VerifiedPeer>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct VerifiedPeer {
    pub(crate) name: String,
    pub(crate) daemon_id: String,
    pub(crate) status: String,
    pub(crate) differences: Vec<Difference>,
    pub(crate) missing: Vec<Missing>,
    pub(crate) error: Option<String>,
}

/// The exact differences in one origin's log.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Missing {
    pub(crate) origin: String,
    pub(crate) log: String,
    pub(crate) here: MissingEvents,
    pub(crate) there: MissingEvents,
    pub(crate) purged_there: RangeSet,
    pub(crate) purged_here: RangeSet,
    pub(crate) fetched: u64,
    pub(crate) other_content: u64,
    pub(crate) note: Option<String>,
}

/// Events that one side is missing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct MissingEvents {
    pub(crate) events: u64,
    pub(crate) numbers: RangeSet,
    pub(crate) ids: Vec<String>,
}

/// The number of events of one origin's log that are on one side only.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Difference {
    pub(crate) origin: String,
    pub(crate) log: String,
    pub(crate) here: u64,
    pub(crate) there: u64,
    pub(crate) purged_here: u64,
    pub(crate) purged_there: u64,
}
