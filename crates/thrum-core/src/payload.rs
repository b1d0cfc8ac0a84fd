//! The event types and their payloads: the fifteen types of Go Thrum v0.5.9–v0.10.6, and our own `file.*`,
//! `agent.presence` and `agent.woken`. Go Thrum stores and relays our types like every type that is unknown to it.
//!
//! Reading is lenient where Go is: a `null` or missing optional field becomes its default. It is strict where a fold
//! would have to guess: a wrong type is an error, and the event is parked. Writing omits the same defaults as Go. A
//! payload is only a view of the event's canonical form, which keeps all other keys.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

pub mod bounds;

fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// The properties of an event type that are known without a payload. One row of the `payloads!` table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventType {
    /// The name of the type: `type` of the event.
    pub kind: &'static str,
    /// The kind of subject under whose id the log indexes the event, so that the fold finds the event again; `None` if
    /// the fold never looks such events up by their subject.
    pub target: Option<Subject>,
    /// Whether the event is parked until its message has arrived.
    pub waits_for_message: bool,
    /// How a purge removes events of the type.
    pub ages: Ages,
    /// What a legacy peer does with events of the type.
    pub legacy: Legacy,
}

impl EventType {
    /// Returns the known event type of this name.
    pub fn by_name(kind: &str) -> Option<&'static Self> {
        Payload::TYPES.iter().find(|known| known.kind == kind)
    }

    /// Returns `true` if events of this type are parked until their message has arrived; `false` for an unknown type.
    pub fn waits_for_message(kind: &str) -> bool {
        Self::by_name(kind).is_some_and(|known| known.waits_for_message)
    }
}

/// The subject of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A message.
    Message,
    /// A session of an agent.
    Session,
    /// An agent, at all its homes.
    Agent,
}

/// How a purge removes events of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ages {
    /// Together with the target: the time in the target's id counts, or that of the event if the id contains none.
    WithTarget,
    /// By the time of the event.
    ByTime,
    /// Not at all.
    Never,
}

/// How a legacy peer (Go Thrum v0.5.9–v0.6.3) handles events of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Legacy {
    /// Knows the type and applies it.
    Applied,
    /// Does not know the type: keeps and relays the event without applying it.
    Relayed,
    /// Does not know the type and would stop at it, as at every unknown type named `message.…`. Therefore the event is
    /// not served to legacy peers.
    Withheld,
}

/// Types that Go Thrum does not know: those named `message.…` are withheld from legacy peers, all others are relayed.
const _: () = {
    let mut types = Payload::TYPES;
    while let [known, rest @ ..] = types {
        let is_of_message = matches!(known.kind.as_bytes(), [b'm', b'e', b's', b's', b'a', b'g', b'e', b'.', ..]);
        match known.legacy {
            Legacy::Applied => {}
            Legacy::Relayed => assert!(!is_of_message, "a type named `message.…` is `legacy: Withheld`"),
            Legacy::Withheld => assert!(is_of_message, "only a type named `message.…` is `legacy: Withheld`"),
        }
        types = rest;
    }
};

/// Generates `Payload`, its reader, its writer and the properties of each type from one table, so that no type can lack
/// one of them.
macro_rules! payloads {
    (@option) => { None };
    (@option $value:expr) => { Some($value) };
    ($($kind:literal => $variant:ident($body:ty) {
        ids: [$($id:ident),*],
        $(target: $subject:ident($target:ident),)?
        $(waits_for_message: $waits:literal,)?
        ages: $ages:ident,
        legacy: $legacy:ident $(by $author:ident)?,
    })+) => {
        /// The payload of an event, by event type.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Payload {
            $(#[doc = concat!("`", $kind, "`")] $variant($body),)+
            /// A type that this version does not know. Such an event is stored and relayed.
            Unknown,
        }

        impl Payload {
            /// All known event types.
            pub const TYPES: &[EventType] = &[$(EventType {
                kind: $kind,
                target: payloads!(@option $(Subject::$subject)?),
                waits_for_message: false $(|| $waits)?,
                ages: Ages::$ages,
                legacy: Legacy::$legacy,
            }),+];

            /// Reads the payload from an event's body and cuts it to the [bounds](crate::bounds) of its type. An error
            /// means that the type is known but the content cannot be folded.
            pub fn read(kind: &str, body: &str) -> Result<Self, serde_json::Error> {
                let mut payload = Self::read_whole(kind, body)?;
                bounds::cut(&mut payload);
                Ok(payload)
            }

            /// Reads the payload as it was served, without cutting it.
            pub(crate) fn read_whole(kind: &str, body: &str) -> Result<Self, serde_json::Error> {
                match kind {
                    $($kind => serde_json::from_str(body).map(Self::$variant),)+
                    _ => Ok(Self::Unknown),
                }
            }

            /// The name of the event type; empty for [`Payload::Unknown`], which is never written here.
            pub const fn kind(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $kind,)+
                    Self::Unknown => "",
                }
            }

            /// The ids of the event's subject, agent and session, with the names of their fields. Ids in lists are not
            /// included.
            pub(crate) fn ids(&self) -> Vec<(&'static str, &str)> {
                match self {
                    $(Self::$variant(body) => {
                        let _ = body;
                        vec![$((stringify!($id), body.$id.as_str())),*]
                    })+
                    Self::Unknown => Vec::new(),
                }
            }

            /// The id of the subject under which the log indexes the event; `None` if the type has no such subject.
            pub fn target(&self) -> Option<&str> {
                match self {
                    $(Self::$variant(body) => {
                        let _ = body;
                        payloads!(@option $(body.$target.as_str())?)
                    })+
                    Self::Unknown => None,
                }
            }

            /// The agent after which a legacy peer names the file that it appends the event to; `None` if the file has
            /// another name.
            pub fn legacy_author(&self) -> Option<&str> {
                match self {
                    $(Self::$variant(body) => {
                        let _ = body;
                        payloads!(@option $(body.$author.as_str())?)
                    })+
                    Self::Unknown => None,
                }
            }

            /// The payload's own fields, to be merged with those of the envelope. Empty for [`Payload::Unknown`].
            pub fn fields(&self) -> Map<String, Value> {
                let value = match self {
                    $(Self::$variant(body) => serde_json::to_value(body),)+
                    Self::Unknown => Ok(Value::Null),
                };
                match value {
                    Ok(Value::Object(map)) => map,
                    _ => Map::new(),
                }
            }
        }
    };
}

payloads! {
    "message.create" => MessageCreate(MessageCreate) {
        ids: [message_id, agent_id, session_id],
        target: Message(message_id),
        ages: WithTarget,
        legacy: Applied by agent_id,
    }
    "message.edit" => MessageEdit(MessageEdit) {
        ids: [message_id],
        target: Message(message_id),
        waits_for_message: true,
        ages: WithTarget,
        legacy: Applied,
    }
    "message.delete" => MessageDelete(MessageDelete) {
        ids: [message_id],
        target: Message(message_id),
        waits_for_message: true,
        ages: Never,
        legacy: Applied,
    }
    "message.receipt" => MessageReceipt(MessageReceipt) {
        ids: [message_id, agent_id],
        target: Message(message_id),
        waits_for_message: true,
        ages: WithTarget,
        legacy: Applied,
    }
    "agent.register" => AgentRegister(AgentRegister) {
        ids: [agent_id],
        target: Agent(agent_id),
        ages: Never,
        legacy: Applied by agent_id,
    }
    "agent.session.start" => SessionStart(SessionStart) {
        ids: [session_id, agent_id],
        target: Session(session_id),
        ages: WithTarget,
        legacy: Applied by agent_id,
    }
    "agent.session.end" => SessionEnd(SessionEnd) {
        ids: [session_id],
        target: Session(session_id),
        ages: WithTarget,
        legacy: Applied,
    }
    "agent.update" => AgentUpdate(AgentUpdate) { ids: [agent_id], ages: ByTime, legacy: Applied by agent_id, }
    "agent.cleanup" => AgentCleanup(AgentCleanup) { ids: [agent_id], ages: Never, legacy: Applied by agent_id, }
    "purge.executed" => PurgeExecuted(PurgeExecuted) { ids: [], ages: Never, legacy: Applied, }
    "group.create" => GroupCreate(GroupCreate) { ids: [group_id], ages: Never, legacy: Applied, }
    "group.update" => GroupUpdate(GroupUpdate) { ids: [group_id], ages: Never, legacy: Applied, }
    "group.delete" => GroupDelete(GroupDelete) { ids: [group_id], ages: Never, legacy: Applied, }
    "group.member.add" => GroupMemberAdd(GroupMemberAdd) { ids: [group_id], ages: Never, legacy: Applied, }
    "group.member.remove" => GroupMemberRemove(GroupMemberRemove) { ids: [group_id], ages: Never, legacy: Applied, }
    "file.claim" => FileClaim(FileClaim) { ids: [agent_id], ages: Never, legacy: Relayed, }
    "file.release" => FileRelease(FileRelease) { ids: [agent_id], ages: Never, legacy: Relayed, }
    "agent.presence" => AgentPresence(AgentPresence) { ids: [agent_id], ages: ByTime, legacy: Relayed, }
    "agent.woken" => AgentWoken(AgentWoken) {
        ids: [agent_id, message_id],
        target: Message(message_id),
        ages: WithTarget,
        legacy: Relayed,
    }
}

/// The text of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// `markdown`, `plain` or `json`.
    #[serde(default, deserialize_with = "nullable")]
    pub format: String,
    /// The text.
    #[serde(default, deserialize_with = "nullable")]
    pub content: String,
    /// Structured content: JSON encoded as a string, as in Go Thrum.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub structured: Option<String>,
}

/// A `type:value` pair: a scope classifies (`group:everyone`), a ref points (`reply_to:msg_…`, `mention:alice`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tag {
    /// The type.
    #[serde(rename = "type", default, deserialize_with = "nullable")]
    pub kind: String,
    /// The value.
    #[serde(default, deserialize_with = "nullable")]
    pub value: String,
}

impl Tag {
    /// Creates a pair from its type and value.
    pub fn new(kind: &str, value: &str) -> Self {
        Self { kind: kind.to_owned(), value: value.to_owned() }
    }
}

/// A new message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageCreate {
    /// `msg_…`
    pub message_id: String,
    /// The thread that a reply belongs to; `None` for a message that answers none.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<String>,
    /// The author.
    #[serde(default, deserialize_with = "nullable")]
    pub agent_id: String,
    /// The author's session; empty if it has none.
    #[serde(default, deserialize_with = "nullable")]
    pub session_id: String,
    /// The text.
    #[serde(default, deserialize_with = "nullable")]
    pub body: Body,
    /// Classification, and groups addressed.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<Tag>,
    /// References to other messages, and to the agents and groups addressed.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub refs: Vec<Tag>,
    /// Names of the agents that the message was addressed to when it was sent.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
    /// The homes of the recipients: names from `recipients`, grouped by daemon id. A recipient that is listed under no
    /// daemon is addressed by its name alone, as in Go Thrum, which relays this field unchanged.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub recipient_homes: BTreeMap<String, Vec<String>>,
    /// The actual writer, if another agent wrote the message in the author's name.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub authored_by: Option<String>,
    /// Whether the actual writer is disclosed.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "std::ops::Not::not")]
    pub disclosed: bool,
}

impl MessageCreate {
    /// The id of the message that this one answers; `None` if it answers none.
    pub fn reply_to(&self) -> Option<&str> {
        self.refs.iter().find(|tag| tag.kind == "reply_to").map(|tag| tag.value.as_str())
    }
}

/// Replaces the text of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageEdit {
    /// The edited message.
    pub message_id: String,
    /// The new text.
    #[serde(default, deserialize_with = "nullable")]
    pub body: Body,
}

/// Withdraws a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageDelete {
    /// The deleted message.
    pub message_id: String,
    /// The reason for the deletion.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Records that an agent has seen or read a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageReceipt {
    /// The message.
    pub message_id: String,
    /// The reader.
    pub agent_id: String,
    /// The reader's session.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// `read` or `seen`.
    pub receipt_type: ReceiptType,
}

/// The degree of attention that a receipt confirms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReceiptType {
    /// The agent has read the message, and thus seen it.
    #[default]
    Read,
    /// The agent has only seen the message.
    Seen,
}

/// Registers an agent with its role, module and machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRegister {
    /// The agent's name.
    pub agent_id: String,
    /// `agent` or `user`.
    #[serde(default, deserialize_with = "nullable")]
    pub kind: String,
    /// The agent's name again, as Go Thrum writes it.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The agent's kind of work.
    #[serde(default, deserialize_with = "nullable")]
    pub role: String,
    /// The agent's area of the code.
    #[serde(default, deserialize_with = "nullable")]
    pub module: String,
    /// The worktree that the agent works in.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub worktree: Option<String>,
    /// The agent's name for people.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub display: String,
    /// The name of the agent's machine.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// The agent's homes before it moved to the origin of this event. Events that those daemons wrote about the agent
    /// up to this event count as events of its new home. At most [`MAX_FORMER_HOMES`](crate::limits::MAX_FORMER_HOMES);
    /// Go Thrum relays the field unchanged.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub former_homes: Vec<String>,
    /// When the event was actually written, if its timestamp had to be set ahead of the clock to take effect; otherwise
    /// `None`. If set, the agent exists from this time on. RFC 3339; Go Thrum relays the field unchanged.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub joined_at: Option<String>,
}

/// Starts a session of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStart {
    /// `ses_…`
    pub session_id: String,
    /// The agent whose session this is.
    #[serde(default, deserialize_with = "nullable")]
    pub agent_id: String,
}

/// Ends a session of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEnd {
    /// The session that ends.
    pub session_id: String,
    /// `normal`, `crash`, `superseded`, `crash_recovered`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Publishes what an agent is working on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentUpdate {
    /// The agent.
    pub agent_id: String,
    /// One context per session.
    #[serde(default, deserialize_with = "nullable")]
    pub work_contexts: Vec<WorkContext>,
}

/// What an agent works on in one session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkContext {
    /// The session.
    pub session_id: String,
    /// The git branch.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The worktree's path on its machine.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub worktree_path: Option<String>,
    /// Commits that are not merged yet, as git reports them.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub unmerged_commits: Vec<Value>,
    /// Files with uncommitted changes.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub uncommitted_files: Vec<String>,
    /// Files that differ from the base.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub changed_files: Vec<String>,
    /// Files that differ from the base, with the number of changed lines.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub file_changes: Vec<Value>,
    /// When git was queried, in RFC 3339; `None` if never. In events, this is the time of the event; see
    /// [`for_event`](Self::for_event).
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub git_updated_at: Option<String>,
    /// In our events, the actual time when git was queried, empty if it never was. Absent from Go Thrum's events.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub git_asked_at: Option<String>,
    /// The agent's current task.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub current_task: Option<String>,
    /// When the task was set.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub task_updated_at: Option<String>,
    /// The agent's current intent.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub intent: Option<String>,
    /// When the intent was set.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub intent_updated_at: Option<String>,
    /// Classification of the session; absent from Go Thrum's events.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<Tag>,
    /// References of the session; absent from Go Thrum's events.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub refs: Vec<Tag>,
}

impl WorkContext {
    /// Prepares the context for an event with the timestamp `at`.
    ///
    /// Of two contexts of one session, a Go daemon keeps the one with the later `git_updated_at`, compared as strings.
    /// That field therefore carries the time of the event, even if only an intent or a task changed. The time at which
    /// git was queried goes into a field of its own.
    #[must_use]
    pub fn for_event(self, at: &str) -> Self {
        let asked = self.git_updated_at.unwrap_or_default();
        Self { git_updated_at: Some(at.to_owned()), git_asked_at: Some(asked), ..self }
    }

    /// Restores a context read from an event: moves the time at which git was queried back to `git_updated_at`.
    #[must_use]
    pub fn of_event(self) -> Self {
        match self.git_asked_at {
            Some(asked) => {
                Self { git_updated_at: Some(asked).filter(|asked| !asked.is_empty()), git_asked_at: None, ..self }
            }
            None => self,
        }
    }
}

/// Deletes an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentCleanup {
    /// The deleted agent.
    pub agent_id: String,
    /// The reason for the deletion.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `manual`, `automated` or `ui`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

/// Purges old messages, sessions and other events. [`Ages`] says which types of events a purge removes, and by what
/// age.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgeExecuted {
    /// Messages, sessions and other events older than this are removed, but none from after this event. RFC 3339.
    pub cutoff: String,
    /// Ids of further messages, sessions and events to remove: they arrived before the cutoff at the daemon that
    /// purges, but claim a later time. At most [`MAX_PURGED_AHEAD`](crate::limits::MAX_PURGED_AHEAD); Go Thrum relays
    /// the field unchanged.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub ahead: Vec<String>,
}

/// Creates a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupCreate {
    /// `grp_…`
    pub group_id: String,
    /// The group's name.
    #[serde(default, deserialize_with = "nullable")]
    pub name: String,
    /// The group's purpose.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The agent that created the group.
    #[serde(default, deserialize_with = "nullable")]
    pub created_by: String,
}

/// Changes fields of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupUpdate {
    /// The changed group.
    pub group_id: String,
    /// The agent that changed the group.
    #[serde(default, deserialize_with = "nullable")]
    pub updated_by: String,
    /// New values by field name.
    #[serde(default, deserialize_with = "nullable")]
    pub fields: BTreeMap<String, String>,
}

/// Deletes a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupDelete {
    /// The deleted group.
    pub group_id: String,
    /// The agent that deleted the group.
    #[serde(default, deserialize_with = "nullable")]
    pub deleted_by: String,
}

/// Adds a member to a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMemberAdd {
    /// The group.
    pub group_id: String,
    /// `agent`, `role` or `group`.
    #[serde(default, deserialize_with = "nullable")]
    pub member_type: String,
    /// The name of the member.
    #[serde(default, deserialize_with = "nullable")]
    pub member_value: String,
    /// The agent that added the member.
    #[serde(default, deserialize_with = "nullable")]
    pub added_by: String,
}

/// Removes a member from a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMemberRemove {
    /// The group.
    pub group_id: String,
    /// `agent`, `role` or `group`.
    #[serde(default, deserialize_with = "nullable")]
    pub member_type: String,
    /// The name of the member.
    #[serde(default, deserialize_with = "nullable")]
    pub member_value: String,
    /// The agent that removed the member.
    #[serde(default, deserialize_with = "nullable")]
    pub removed_by: String,
}

/// Claims files: an agent asks other agents not to change them until a given time. Claims are advisory and prevent
/// nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileClaim {
    /// The agent that claims the files.
    pub agent_id: String,
    /// Files and directories, relative to the top of the worktree; `.` is the whole worktree. At most
    /// [`MAX_CLAIM_PATHS`](crate::limits::MAX_CLAIM_PATHS).
    #[serde(default, deserialize_with = "nullable")]
    pub paths: Vec<String>,
    /// When the claim ends, at most [`MAX_CLAIM`](crate::limits::MAX_CLAIM) after the event. RFC 3339.
    #[serde(default, deserialize_with = "nullable")]
    pub expires_at: String,
}

/// Releases claimed files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRelease {
    /// The agent that releases its claims.
    pub agent_id: String,
    /// The released paths, as they were claimed; if empty, all paths that the agent has claimed.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
}

/// Publishes whether an agent is present and whether it is working. Our own type. The latest event per agent and origin
/// counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentPresence {
    /// The agent.
    pub agent_id: String,
    /// The name of a [`PresenceState`]; empty if the state is unknown. A string, so that later versions can add states.
    #[serde(default, deserialize_with = "nullable")]
    pub state: String,
    /// Whether a message starts a turn of the agent, because something in its program waits for mail.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "std::ops::Not::not")]
    pub wakeable: bool,
    /// When the agent entered this state, in RFC 3339. The event may be written later.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// When a user last gave the agent a prompt, in RFC 3339; `None` if never.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub person_at: Option<String>,
}

/// The activity of an agent's program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PresenceState {
    /// No session of the agent is running.
    Gone,
    /// The agent has ended its turn.
    Idle,
    /// The agent waits for a user's permission or answer.
    NeedsYou,
    /// The agent is in a turn: a prompt was given and the turn has not ended.
    Working,
}

impl PresenceState {
    /// The state's name in events, in JSON and in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Idle => "idle",
            Self::NeedsYou => "needs_you",
            Self::Working => "working",
        }
    }

    /// Returns the state with this name; `None` for the empty name and for a state of a later version.
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Gone, Self::Idle, Self::NeedsYou, Self::Working].into_iter().find(|state| state.name() == name)
    }
}

/// Records that a waiter of an agent was given a message, which wakes the agent. Our own type. The earliest event per
/// message, agent and origin counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentWoken {
    /// The woken agent.
    pub agent_id: String,
    /// The message that woke the agent.
    pub message_id: String,
}
