//! `message.send`, `edit`, `delete`: what an author does.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thrum_core::{ErrorKind, Fault, Stamp, payload::Tag};
use thrum_store::ops;

use super::{delivery::Delivery, outlook::outlooks, required};
use crate::daemon::Daemon;

#[derive(Deserialize)]
pub(super) struct Send {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    format: Option<String>,
    #[serde(default)]
    structured: Option<Box<RawValue>>,
    #[serde(default)]
    reply_to: Option<String>,
    /// The answer goes to whom the message it answers went, in place of `mentions`, and that message is then read.
    #[serde(default)]
    to_parent_audience: bool,
    #[serde(default)]
    scopes: Option<Vec<Tag>>,
    #[serde(default)]
    refs: Option<Vec<Tag>>,
    #[serde(default)]
    mentions: Option<Vec<String>>,
    #[serde(default)]
    caller_agent_id: Option<String>,
    #[serde(default)]
    acting_as: Option<String>,
    #[serde(default)]
    idempotency_key: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Sent {
    message_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_id: Option<String>,
    created_at: Stamp,
    resolved_to: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    audiences: Vec<Tag>,
    recipients: Vec<Delivery>,
}

pub(super) async fn send(daemon: &Daemon, params: Send, process: Option<i32>) -> Result<Sent, Fault> {
    if params.acting_as.is_some_and(|name| !name.is_empty()) {
        return Err(Fault::new(ErrorKind::Refused, "an agent sends in its own name only"));
    }
    let send = ops::Send {
        from: daemon.caller(params.caller_agent_id, process)?,
        content: required("content", params.content)?,
        format: params.format.unwrap_or_default(),
        structured: params.structured.map(|json| json.get().to_owned()).filter(|json| json != "null"),
        reply_to: params.reply_to.filter(|id| !id.is_empty()),
        to_parent_audience: params.to_parent_audience,
        mentions: params.mentions.unwrap_or_default(),
        scopes: params.scopes.unwrap_or_default(),
        refs: params.refs.unwrap_or_default(),
        machines: daemon.machines(),
        idempotency_key: params.idempotency_key,
    };
    let mut machines = daemon.machines();
    let sent = daemon.storage.write(move |tx| {
        let sent = tx.send(send)?;
        tx.reader().name_machines(&mut machines, sent.mailboxes.iter().map(|mailbox| mailbox.home.as_str()))?;
        Ok((sent, machines))
    });
    let (sent, machines) = sent.await?;
    let at = sent.created_at;
    // It is stored; what is not known of the recipients is left out.
    let outlooks = outlooks(daemon, sent.mailboxes.clone()).await.unwrap_or_default();
    let outlooks = outlooks.into_iter().chain(std::iter::repeat_with(|| None));
    Ok(Sent {
        message_id: sent.message_id,
        thread_id: sent.thread_id,
        created_at: at,
        resolved_to: sent.resolved_to,
        warnings: sent.warnings,
        audiences: sent.audiences,
        recipients: sent
            .mailboxes
            .into_iter()
            .zip(outlooks)
            .map(|(mailbox, outlook)| Delivery::sent(mailbox, &machines, at, outlook))
            .collect(),
    })
}

#[derive(Deserialize)]
pub(super) struct Edit {
    #[serde(default)]
    message_id: Option<String>,
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    structured: Option<Box<RawValue>>,
    #[serde(default)]
    caller_agent_id: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Edited {
    message_id: String,
    updated_at: Stamp,
    version: u64,
}

pub(super) async fn edit(daemon: &Daemon, params: Edit, process: Option<i32>) -> Result<Edited, Fault> {
    let message_id = required("message_id", params.message_id)?;
    let agent = daemon.caller(params.caller_agent_id, process)?;
    let structured = params.structured.map(|json| json.get().to_owned()).filter(|json| json != "null");
    let id = message_id.clone();
    let edited = daemon.storage.write(move |tx| tx.edit(&agent, &id, params.content, structured)).await?;
    Ok(Edited { message_id, updated_at: edited.updated_at, version: edited.version })
}

#[derive(Deserialize)]
pub(super) struct Delete {
    #[serde(default)]
    message_id: Option<String>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    caller_agent_id: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Deleted {
    message_id: String,
    deleted_at: Stamp,
}

pub(super) async fn delete(daemon: &Daemon, params: Delete, process: Option<i32>) -> Result<Deleted, Fault> {
    let message_id = required("message_id", params.message_id)?;
    let agent = daemon.caller(params.caller_agent_id, process)?;
    if params.reason.as_ref().is_some_and(|reason| reason.len() > thrum_core::limits::MAX_TEXT_BYTES) {
        return Err(Fault::new(ErrorKind::Invalid, "the reason is too long"));
    }
    let id = message_id.clone();
    let deleted_at = daemon.storage.write(move |tx| tx.delete(&agent, &id, params.reason)).await?;
    Ok(Deleted { message_id, deleted_at })
}
