//! The form of messages in answers: Go Thrum's keys, plus our own.

use serde::Serialize;
use thrum_core::{
    Machines, Timestamp, key,
    payload::{Body, Tag},
};
use thrum_store::query::Message;

use super::delivery::{Deliveries, Delivery};

/// Returns the body that may be shown. The text of a deleted message is hidden, although the log keeps it until a
/// purge.
fn body(body: Body, deleted_at: Option<Timestamp>) -> Body {
    if deleted_at.is_none() { body } else { Body { format: body.format, ..Body::default() } }
}

/// A message in a list.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    message_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<String>,
    agent_id: String,
    /// The author's address as shown and as accepted: `@name`, or `@name@machine` for an agent of another daemon.
    address: String,
    /// The author's home.
    from_home: String,
    /// The name of the author's home, as known here.
    home_name: String,
    /// `true` if the event that created the message is signed.
    signed: bool,
    /// The id of the daemon that wrote the message; named as in events.
    origin_daemon: String,
    body: Body,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes: Vec<Tag>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refs: Vec<Tag>,
    /// When the message was written. If it claims a time after its arrival: when it arrived.
    created_at: Timestamp,
    /// The time that the message claims, if different.
    #[serde(skip_serializing_if = "Option::is_none")]
    claimed_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<Timestamp>,
    deleted: bool,
    is_read: bool,
    audiences: Vec<Tag>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipients: Option<Vec<Delivery>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_count: Option<usize>,
    #[serde(flatten)]
    cut: Cut,
}

/// What is cut from a message in an answer, usually nothing. `message.get` cuts only what does not fit into an answer.
#[derive(Debug, Serialize)]
struct Cut {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    /// Size in bytes of the whole content; absent if nothing was cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    content_bytes: Option<usize>,
}

impl Cut {
    fn of(message: &Message) -> Self {
        let content_bytes = message.whole.filter(|_| message.deleted_at.is_none());
        Self { truncated: content_bytes.is_some(), content_bytes }
    }
}

impl Summary {
    /// Returns a message in the form of an inbox.
    pub(super) fn of(message: Message, machines: &Machines) -> Self {
        Self {
            cut: Cut::of(&message),
            address: machines.address(&message.agent_id, &message.home),
            home_name: machines.name(&message.home).into_owned(),
            signed: key::is_signed_origin(&message.origin),
            audiences: message.audiences,
            from_home: message.home,
            origin_daemon: message.origin,
            message_id: message.message_id,
            thread_id: message.thread_id,
            reply_to: message.reply_to,
            agent_id: message.agent_id,
            body: body(message.body, message.deleted_at),
            scopes: message.scopes,
            refs: message.refs,
            created_at: message.created_at,
            claimed_at: (message.claimed_at != message.created_at).then_some(message.claimed_at),
            updated_at: message.updated_at,
            deleted: message.deleted_at.is_some(),
            is_read: message.is_read,
            recipients: None,
            read_count: None,
        }
    }

    /// Returns a message in the form of an outbox: with its deliveries.
    pub(super) fn sent(message: Message, deliveries: &Deliveries<'_>) -> Self {
        let recipients = deliveries.of(&message);
        let read = recipients.iter().filter(|recipient| recipient.read_at.is_some()).count();
        Self {
            recipients: Some(recipients),
            read_count: (read > 0).then_some(read),
            ..Self::of(message, deliveries.machines())
        }
    }
}

/// One message in full.
#[derive(Debug, Serialize)]
pub(super) struct Full {
    message_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<String>,
    author: Author,
    body: Body,
    scopes: Vec<Tag>,
    refs: Vec<Tag>,
    metadata: Metadata,
    /// When the message was written. If it claims a time after its arrival: when it arrived.
    created_at: Timestamp,
    /// The time that the message claims, if different.
    #[serde(skip_serializing_if = "Option::is_none")]
    claimed_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<Timestamp>,
    deleted: bool,
    is_read: bool,
    audiences: Vec<Tag>,
    recipients: Vec<Delivery>,
    #[serde(flatten)]
    cut: Cut,
}

#[derive(Debug, Serialize)]
struct Author {
    agent_id: String,
    session_id: String,
    home: String,
    /// The name of the author's home, as known here.
    home_name: String,
    /// `@name`, or `@name@machine` for an agent of another daemon.
    address: String,
    /// `true` if the event that created the message is signed.
    signed: bool,
}

#[derive(Debug, Serialize)]
struct Metadata {
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delete_reason: Option<String>,
}

impl Full {
    pub(super) fn of(message: Message, deliveries: &Deliveries<'_>) -> Self {
        let machines = deliveries.machines();
        Self {
            cut: Cut::of(&message),
            recipients: deliveries.of(&message),
            audiences: message.audiences,
            message_id: message.message_id,
            thread_id: message.thread_id,
            reply_to: message.reply_to,
            author: Author {
                address: machines.address(&message.agent_id, &message.home),
                home_name: machines.name(&message.home).into_owned(),
                signed: key::is_signed_origin(&message.origin),
                agent_id: message.agent_id,
                session_id: message.session_id,
                home: message.home,
            },
            body: body(message.body, message.deleted_at),
            scopes: message.scopes,
            refs: message.refs,
            metadata: Metadata { deleted_at: message.deleted_at, delete_reason: message.delete_reason },
            created_at: message.created_at,
            claimed_at: (message.claimed_at != message.created_at).then_some(message.claimed_at),
            updated_at: message.updated_at,
            deleted: message.deleted_at.is_some(),
            is_read: message.is_read,
        }
    }
}
