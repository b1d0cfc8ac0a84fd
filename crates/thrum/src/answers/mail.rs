//! Messages and their recipients.

use serde::Deserialize;
use thrum_core::Timestamp;

use crate::text::quote;

/// The answer to `message.send`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Sent {
    pub(crate) message_id: String,
    /// Number of mentions in the request (0 for everyone); for a reply to the parent's audience, number of `audiences`.
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

/// The answer to `message.list` and `message.outbox`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Listing {
    pub(crate) messages: Vec<Summary>,
    pub(crate) total: u64,
    pub(crate) unread: u64,
    pub(crate) page: u64,
    pub(crate) total_pages: u64,
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

/// One message of `message.list`, `message.outbox`, `message.news` or `message.wait`.
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
    /// Formats the tag as users write it: `type:value`.
    pub(crate) fn shown(&self) -> String {
        quote(&format!("{}:{}", self.kind, self.value))
    }
}
