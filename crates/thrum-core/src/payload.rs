//! The fifteen event types of Go Thrum v0.5.9–v0.10.6 and what they carry (its wire facts, 3.2).
//!
//! Reading is lenient where Go is (a `null` or missing optional field is its default) and strict where a fold would have to
//! guess (a wrong type is an error, and the event is parked). Writing leaves defaults out, as Go does. Keys not named here
//! survive in the event's canonical form; a payload is only ever a view of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::bounds;

fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Writes the enum from one table, so that a type cannot be readable and not writable.
macro_rules! payloads {
    ($($kind:literal => $variant:ident($body:ty)),+ $(,)?) => {
        /// What an event says, by its type.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Payload {
            $(#[doc = concat!("`", $kind, "`")] $variant($body),)+
            /// A type we do not know: stored and relayed.
            Unknown,
        }

        impl Payload {
            /// All known types.
            pub const KINDS: &[&str] = &[$($kind),+];

            /// Reads the payload out of an event's body, cut to the [bounds](crate::bounds) of its type. An error means: known
            /// type, content that cannot be folded.
            pub fn read(kind: &str, body: &str) -> Result<Self, serde_json::Error> {
                let mut payload = Self::read_whole(kind, body)?;
                bounds::cut(&mut payload);
                Ok(payload)
            }

            /// Reads the payload as it was served.
            pub(crate) fn read_whole(kind: &str, body: &str) -> Result<Self, serde_json::Error> {
                match kind {
                    $($kind => serde_json::from_str(body).map(Self::$variant),)+
                    _ => Ok(Self::Unknown),
                }
            }

            /// The type's name; empty for an unknown one, which nobody makes here.
            pub const fn kind(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $kind,)+
                    Self::Unknown => "",
                }
            }

            /// The payload's own fields, to be put beside the envelope's.
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
    "message.create" => MessageCreate(MessageCreate),
    "message.edit" => MessageEdit(MessageEdit),
    "message.delete" => MessageDelete(MessageDelete),
    "message.receipt" => MessageReceipt(MessageReceipt),
    "agent.register" => AgentRegister(AgentRegister),
    "agent.session.start" => SessionStart(SessionStart),
    "agent.session.end" => SessionEnd(SessionEnd),
    "agent.update" => AgentUpdate(AgentUpdate),
    "agent.cleanup" => AgentCleanup(AgentCleanup),
    "purge.executed" => PurgeExecuted(PurgeExecuted),
    "group.create" => GroupCreate(GroupCreate),
    "group.update" => GroupUpdate(GroupUpdate),
    "group.delete" => GroupDelete(GroupDelete),
    "group.member.add" => GroupMemberAdd(GroupMemberAdd),
    "group.member.remove" => GroupMemberRemove(GroupMemberRemove),
}

/// Text of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// `markdown`, `plain` or `json`.
    #[serde(default, deserialize_with = "nullable")]
    pub format: String,
    /// The text.
    #[serde(default, deserialize_with = "nullable")]
    pub content: String,
    /// Structured content: JSON as a string, as Go keeps it.
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
    /// A pair.
    pub fn new(kind: &str, value: &str) -> Self {
        Self { kind: kind.to_owned(), value: value.to_owned() }
    }
}

/// A new message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageCreate {
    /// `msg_…`
    pub message_id: String,
    /// The thread, from the first reply on.
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
    /// What it points to.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub refs: Vec<Tag>,
    /// Agents that were addressed when it was sent.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
    /// Where the recipients live: names among `recipients`, by the id of the daemon. A recipient whose name stands under no daemon
    /// is addressed by its name alone, as Go Thrum addresses; Go Thrum passes this field through.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub recipient_homes: BTreeMap<String, Vec<String>>,
    /// Who wrote it in the author's name.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub authored_by: Option<String>,
    /// Whether that is shown.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "std::ops::Not::not")]
    pub disclosed: bool,
}

impl MessageCreate {
    /// The daemons at which this message says that a recipient lives; none if it addresses the name alone.
    pub fn homes_of<'a>(&'a self, recipient: &'a str) -> impl Iterator<Item = &'a str> {
        let named = move |(home, names): (&'a String, &'a Vec<String>)| names.iter().any(|name| name == recipient).then_some(home.as_str());
        self.recipient_homes.iter().filter_map(named)
    }

    /// The message this one answers.
    pub fn reply_to(&self) -> Option<&str> {
        self.refs.iter().find(|tag| tag.kind == "reply_to").map(|tag| tag.value.as_str())
    }
}

/// New text of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageEdit {
    /// Which message.
    pub message_id: String,
    /// The text from now on.
    #[serde(default, deserialize_with = "nullable")]
    pub body: Body,
}

/// A message taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageDelete {
    /// Which message.
    pub message_id: String,
    /// Why.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// An agent saw or read a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageReceipt {
    /// Which message.
    pub message_id: String,
    /// The reader.
    pub agent_id: String,
    /// The reader's session.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// `read` or `seen`.
    pub receipt_type: ReceiptType,
}

/// How much a receipt says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReceiptType {
    /// Read, hence seen.
    #[default]
    Read,
    /// Only seen.
    Seen,
}

/// An agent and what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRegister {
    /// Its name.
    pub agent_id: String,
    /// `agent` or `user`.
    #[serde(default, deserialize_with = "nullable")]
    pub kind: String,
    /// Its name again, as Go has it.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its kind of work.
    #[serde(default, deserialize_with = "nullable")]
    pub role: String,
    /// Its area of the code.
    #[serde(default, deserialize_with = "nullable")]
    pub module: String,
    /// The worktree it works in.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub worktree: Option<String>,
    /// Its name for people.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub display: String,
    /// The machine.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// The daemons that registered it before it moved here: what they said of it until now is its own. At most
    /// [`MAX_FORMER_HOMES`](crate::limits::MAX_FORMER_HOMES); Go Thrum passes them through.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub former_homes: Vec<String>,
    /// When it was really written, if its own time had to lie ahead to count: since then the agent is there. RFC 3339; Go Thrum
    /// passes it through.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub joined_at: Option<String>,
}

/// A period of work begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStart {
    /// `ses_…`
    pub session_id: String,
    /// Whose.
    #[serde(default, deserialize_with = "nullable")]
    pub agent_id: String,
}

/// A period of work ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEnd {
    /// Which.
    pub session_id: String,
    /// `normal`, `crash`, `superseded`, `crash_recovered`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What an agent is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentUpdate {
    /// Who.
    pub agent_id: String,
    /// Per session.
    #[serde(default, deserialize_with = "nullable")]
    pub work_contexts: Vec<WorkContext>,
}

/// What is going on in one session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkContext {
    /// Which session.
    pub session_id: String,
    /// The git branch.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Where the worktree is on its machine.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub worktree_path: Option<String>,
    /// Commits that are not merged yet, as git names them.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub unmerged_commits: Vec<Value>,
    /// Files not committed.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub uncommitted_files: Vec<String>,
    /// Files changed against the base.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub changed_files: Vec<String>,
    /// The same with counts.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub file_changes: Vec<Value>,
    /// When git was asked; in events see [`for_event`](Self::for_event).
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub git_updated_at: Option<String>,
    /// In events of ours: when git really was asked, empty if never. Not in Go's events.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub git_asked_at: Option<String>,
    /// The task.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub current_task: Option<String>,
    /// Since when.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub task_updated_at: Option<String>,
    /// The intent.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub intent: Option<String>,
    /// Since when.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub intent_updated_at: Option<String>,
    /// Classification of the session; not in Go's events.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<Tag>,
    /// What the session points to; not in Go's events.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub refs: Vec<Tag>,
}

impl WorkContext {
    /// The context as it goes into an event of the time `at`.
    ///
    /// A Go daemon keeps, of two contexts of a session, the one with the later `git_updated_at`, compared as texts. So that field has
    /// the time of the event, also where only an intent or a task changed, and when git was asked stands in a field of its own.
    #[must_use]
    pub fn for_event(self, at: &str) -> Self {
        let asked = self.git_updated_at.unwrap_or_default();
        Self { git_updated_at: Some(at.to_owned()), git_asked_at: Some(asked), ..self }
    }

    /// The context as an event has it, with the time at which git was asked in its place again.
    #[must_use]
    pub fn of_event(self) -> Self {
        match self.git_asked_at {
            Some(asked) => Self { git_updated_at: Some(asked).filter(|asked| !asked.is_empty()), git_asked_at: None, ..self },
            None => self,
        }
    }
}

/// An agent deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentCleanup {
    /// Who.
    pub agent_id: String,
    /// Why.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `manual`, `automated` or `ui`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

/// Old mail thrown away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgeExecuted {
    /// RFC 3339; what is older goes.
    pub cutoff: String,
    /// What else goes: messages, sessions and events, by id, that came before the cutoff where the purge was asked for, and claim
    /// a later time. At most [`MAX_PURGED_AHEAD`](crate::limits::MAX_PURGED_AHEAD); Go Thrum passes them through.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub ahead: Vec<String>,
}

/// A group made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupCreate {
    /// `grp_…`
    pub group_id: String,
    /// Its name.
    #[serde(default, deserialize_with = "nullable")]
    pub name: String,
    /// What it is for.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// By whom.
    #[serde(default, deserialize_with = "nullable")]
    pub created_by: String,
}

/// A group changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupUpdate {
    /// Which.
    pub group_id: String,
    /// By whom.
    #[serde(default, deserialize_with = "nullable")]
    pub updated_by: String,
    /// New values.
    #[serde(default, deserialize_with = "nullable")]
    pub fields: BTreeMap<String, String>,
}

/// A group deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupDelete {
    /// Which.
    pub group_id: String,
    /// By whom.
    #[serde(default, deserialize_with = "nullable")]
    pub deleted_by: String,
}

/// A member added to a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMemberAdd {
    /// Which group.
    pub group_id: String,
    /// `agent`, `role` or `group`.
    #[serde(default, deserialize_with = "nullable")]
    pub member_type: String,
    /// Who.
    #[serde(default, deserialize_with = "nullable")]
    pub member_value: String,
    /// By whom.
    #[serde(default, deserialize_with = "nullable")]
    pub added_by: String,
}

/// A member removed from a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMemberRemove {
    /// Which group.
    pub group_id: String,
    /// `agent`, `role` or `group`.
    #[serde(default, deserialize_with = "nullable")]
    pub member_type: String,
    /// Who.
    #[serde(default, deserialize_with = "nullable")]
    pub member_value: String,
    /// By whom.
    #[serde(default, deserialize_with = "nullable")]
    pub removed_by: String,
}
