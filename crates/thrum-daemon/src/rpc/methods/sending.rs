//! `message.send`, `edit`, `delete`: the methods of a message's author.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thrum_core::{Ambient, Error, ErrorKind, Machines, Timestamp, limits, name::shown, payload::Tag, words::count};
use thrum_store::{
    Reader, StoreError, Tx,
    ops::{self, Exchange},
    query::Mailbox,
};
use thrum_sync::blocking::blocking;

use super::{
    delivery::Delivery,
    outlook::{Recipients, outlooks},
    required,
};
use crate::{ambient::System, config::Config, daemon::Daemon, guard::Held};

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
    /// Send this reply to the audience of the message that it answers, instead of `mentions`, and mark that message as
    /// read.
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
    created_at: Timestamp,
    resolved_to: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    audiences: Vec<Tag>,
    recipients: Vec<Delivery>,
}

/// Largest number of recipients for whom the state is read in the transaction that stores the message. For more, a
/// separate read follows.
const FEW: usize = 4;

pub(super) async fn send(daemon: &Daemon, params: Send, process: Option<i32>) -> Result<Sent, Error> {
    if params.acting_as.is_some_and(|name| !name.is_empty()) {
        return Err(Error::new(ErrorKind::Refused, "an agent sends in its own name only"));
    }
    let mut machines = daemon.machines();
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
        machines: machines.clone(),
        idempotency_key: params.idempotency_key,
    };
    let from = send.from.clone();
    let limit = if daemon.live.programs.is_in_turn(&from) { limit(daemon).await? } else { None };
    let (too_much, me) = (Arc::new(Mutex::new(None)), Mailbox { agent_id: from.clone(), home: daemon.id.clone() });
    let (programs, here) = (Arc::clone(&daemon.live.programs), daemon.id.clone());
    // The log may not yet contain the latest prompt of a person to a local agent.
    let person_at = move |agent: &Mailbox| {
        let known = if agent.home == here { programs.presence(&agent.agent_id) } else { None };
        known.map_or(Timestamp::ZERO, |presence| presence.person_at)
    };
    let noted = Arc::clone(&too_much);
    let sent = daemon.storage.write(move |tx| {
        let sent = tx.send(send)?;
        if let Some(limit) = limit
            && !sent.is_repeated
            && let Some(beyond) = beyond(&tx.reader(), &me, &sent.mailboxes, limit, person_at)?
        {
            let error = refusal(&me.agent_id, &beyond, &machines, limit);
            *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(beyond);
            // The error rolls back the sent message.
            return Err(error.into());
        }
        let reader = tx.reader();
        reader.name_machines(&mut machines, sent.mailboxes.iter().map(|mailbox| mailbox.home.as_str()))?;
        // Reading a few recipients here costs less than a separate read on another thread after the commit; reading
        // many would keep other jobs waiting. A failed read only leaves the outlooks out.
        let recipients =
            (sent.mailboxes.len() <= FEW).then(|| Recipients::load(&reader, &sent.mailboxes, machines.clone()).ok());
        Ok((sent, machines, recipients))
    });
    let sent = sent.await;
    let beyond = too_much.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(beyond) = beyond {
        hold(daemon, &from, beyond).await;
    }
    let (sent, machines, recipients) = sent?;
    if !sent.is_repeated {
        sent.mailboxes.iter().for_each(|to| daemon.live.guard.release(&from, to));
    }
    let at = sent.created_at;
    let recipients = match recipients {
        Some(recipients) => recipients,
        None => {
            let (mailboxes, machines) = (sent.mailboxes.clone(), machines.clone());
            daemon.storage.read(move |reader| Recipients::load(reader, &mailboxes, machines)).await.ok()
        }
    };
    let outlooks = recipients.map(|recipients| outlooks(daemon, recipients)).unwrap_or_default();
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

/// Returns how many messages two agents may exchange, according to the current settings; `None` for no limit.
async fn limit(daemon: &Daemon) -> Result<Option<u64>, Error> {
    let repo = daemon.repo.clone();
    blocking(move || Ok(Config::current(&repo).exchange())).await
}

/// Returns the first recipient with whom an agent has exchanged too many messages. Recipients of the kind `user` do not
/// count, nor do messages to more than [`limits::EXCHANGE_AGENTS`] recipients.
fn beyond(
    reader: &Reader<'_>,
    me: &Mailbox,
    to: &[Mailbox],
    limit: u64,
    person_at: impl Fn(&Mailbox) -> Timestamp,
) -> Result<Option<(Mailbox, Exchange)>, StoreError> {
    if to.len() > limits::EXCHANGE_AGENTS {
        return Ok(None);
    }
    let is_user = |mailbox: &Mailbox| {
        let agent = reader.agent(&mailbox.agent_id, &mailbox.home)?;
        Ok::<_, StoreError>(agent.is_some_and(|agent| agent.kind == "user"))
    };
    let stirred = |agent: &Mailbox| Ok::<_, StoreError>(reader.stirred(agent)?.max(person_at(agent)));
    let me_stirred = stirred(me)?;
    for other in to.iter().filter(|other| *other != me) {
        let exchange = reader.exchange(me, other, me_stirred.max(stirred(other)?), limit + 1)?;
        if exchange.messages > limit && !is_user(other)? {
            return Ok(Some((other.clone(), exchange)));
        }
    }
    Ok(None)
}

/// Returns the error for a message that is not sent, with a hint.
fn refusal(from: &str, (to, exchange): &(Mailbox, Exchange), machines: &Machines, limit: u64) -> Error {
    let (to, from) = (machines.address(&to.agent_id, &to.home), shown(from));
    let since = if exchange.since == Timestamp::ZERO {
        String::new()
    } else {
        format!(" since {}", exchange.since.to_the_second())
    };
    let why = format!(
        "not sent: @{from} and {to} have written each other {}{since} without a prompt of a person or a change of a file",
        count(limit, "message")
    );
    Error::new(ErrorKind::Refused, why).hint(
        "Tell your person, who has to look at it: the next prompt of a person to either agent, or a changed file, lets you go on. \
         `thrum config set agents.exchange NUMBER` changes the number.",
    )
}

/// Records that mail is held, and notifies the other agent once.
async fn hold(daemon: &Daemon, from: &str, (to, exchange): (Mailbox, Exchange)) {
    let machines = daemon.machines();
    let (address, messages) = (machines.address(&to.agent_id, &to.home), exchange.messages.saturating_sub(1));
    let held = Held { to: address, messages, since: System.now() };
    if !daemon.live.guard.hold(from, &to, held) {
        return;
    }
    tracing::warn!(agent = %from, to = %to.agent_id, messages, "holding mail: two agents write to each other without a person");
    let text = format!(
        "Thrum holds what @{} writes to you: {} between you two without a prompt of a person or a change of a file. Do not \
         answer; tell your person. The next prompt of a person to either of you, or a changed file, lets you go on.",
        shown(from),
        count(messages, "message")
    );
    let (from, to) =
        (from.to_owned(), if to.home == daemon.id { to.agent_id } else { machines.address(&to.agent_id, &to.home) });
    let tell = move |tx: &mut Tx<'_>| tx.tell_held(&from, to, exchange, machines, text).map(drop);
    daemon.storage.write_in_background(tell).await;
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
    updated_at: Timestamp,
    version: u64,
}

pub(super) async fn edit(daemon: &Daemon, params: Edit, process: Option<i32>) -> Result<Edited, Error> {
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
    deleted_at: Timestamp,
}

pub(super) async fn delete(daemon: &Daemon, params: Delete, process: Option<i32>) -> Result<Deleted, Error> {
    let message_id = required("message_id", params.message_id)?;
    let agent = daemon.caller(params.caller_agent_id, process)?;
    if params.reason.as_ref().is_some_and(|reason| reason.len() > limits::MAX_TEXT_BYTES) {
        return Err(Error::new(ErrorKind::Invalid, "the reason is too long"));
    }
    let id = message_id.clone();
    let deleted_at = daemon.storage.write(move |tx| tx.delete(&agent, &id, params.reason)).await?;
    Ok(Deleted { message_id, deleted_at })
}
