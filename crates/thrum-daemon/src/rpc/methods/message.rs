//! `message.get`, `list`, `outbox`, `markRead`: the methods for reading mail.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thrum_core::{Error, ErrorKind, Machines, Timestamp, limits, name, payload::Tag};
use thrum_store::{
    Reader, StoreError, ops,
    query::{Filter, Listing, Mailbox, Message, Order, Room},
};

use super::{
    agent_ref::AgentRef,
    budget::Budget,
    delivery::Deliveries,
    large, required,
    shape::{Full, Summary},
};
use crate::{daemon::Daemon, rpc::connection::Reply};

/// Default number of messages in a page, as in Go Thrum.
const PAGE_SIZE: u64 = 10;

#[derive(Deserialize)]
pub(super) struct Get {
    #[serde(default)]
    message_id: Option<String>,
    #[serde(default)]
    caller_agent_id: Option<String>,
    /// Also mark the message as read by the caller.
    #[serde(default)]
    mark_read: bool,
}

#[derive(Serialize)]
pub(super) struct Got {
    message: Full,
}

pub(super) async fn get(daemon: &Daemon, params: Get) -> Result<Reply, Error> {
    let turn = daemon.large.turn().await;
    let id = required("message_id", params.message_id)?;
    let caller = params.caller_agent_id.filter(|name| !name.is_empty());
    let mailbox = caller.clone().map(|agent_id| Mailbox { agent_id, home: daemon.id.clone() });
    let look = async || {
        let (wanted, mailbox, mut machines) = (id.clone(), mailbox.clone(), daemon.machines());
        let found = daemon.storage.read_much(&turn, move |reader| {
            let unread = mailbox.as_ref().map(|mailbox| reader.is_unread(&wanted, mailbox)).transpose()?;
            let message = reader.message(&wanted, mailbox.as_ref())?;
            name_machines(reader, &mut machines, message.as_slice())?;
            Ok((message, machines, unread == Some(true)))
        });
        let (message, machines, unread) = found.await?;
        message.map(|message| (message, machines, unread)).ok_or_else(|| unknown_message(&id))
    };
    let (mut message, mut machines, unread) = look().await?;
    if let Some(agent) = caller.filter(|_| params.mark_read && unread) {
        let ids = [id.clone()];
        daemon.storage.write(move |tx| tx.mark_read(&agent, &ids)).await?;
        (message, machines, _) = look().await?;
    }
    // An event of this daemon always fits. A foreign event may not: its lists may be padded to the maximum event size,
    // and the answer also contains fields derived from them.
    message.cut(usize::MAX, limits::MAX_LINE_BYTES / 4 * 3);
    let got = Got { message: Full::of(message, &Deliveries::now(daemon, machines)) };
    large(turn, got).await
}

/// Adds the names of the machines that these messages come from and go to.
pub(super) fn name_machines(
    reader: &Reader<'_>,
    machines: &mut Machines,
    messages: &[Message],
) -> Result<(), StoreError> {
    reader.name_machines(machines, messages.iter().flat_map(Message::homes))
}

fn unknown_message(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("message not found: {}", name::printable(id)))
        .hint("`thrum inbox` lists the messages you have.")
}

/// Selects the page of a list.
#[derive(Deserialize)]
struct Paging {
    #[serde(default)]
    page_size: Option<i64>,
    #[serde(default)]
    page: Option<i64>,
    /// Maximum bytes of each message's content; not in Go Thrum. Longer content is cut and marked `truncated`, as is
    /// content that does not fit into the answer.
    #[serde(default)]
    max_content_bytes: Option<usize>,
}

impl Paging {
    fn size(&self) -> u64 {
        self.page_size
            .and_then(|size| u64::try_from(size).ok())
            .filter(|size| *size > 0)
            .unwrap_or(PAGE_SIZE)
            .min(limits::MAX_PAGE_MESSAGES)
    }

    fn page(&self) -> u64 {
        self.page.and_then(|page| u64::try_from(page).ok()).unwrap_or(1).max(1)
    }

    fn room(&self) -> Room {
        Room::answer(self.max_content_bytes)
    }

    /// Returns the number of rows before the page, within SQLite's integer range.
    fn offset(&self) -> u64 {
        (self.page() - 1).saturating_mul(self.size()).min(i64::MAX.unsigned_abs())
    }
}

#[derive(Deserialize)]
pub(super) struct List {
    #[serde(flatten)]
    paging: Paging,
    #[serde(default)]
    scope: Option<Tag>,
    #[serde(default, rename = "ref")]
    reference: Option<Tag>,
    #[serde(default)]
    thread_id: Option<String>,
    #[serde(default)]
    author_id: Option<String>,
    #[serde(default)]
    mentions: bool,
    #[serde(default)]
    mention_role: Option<String>,
    #[serde(default)]
    unread: bool,
    #[serde(default)]
    unread_for_agent: Option<String>,
    #[serde(default)]
    for_agent: Option<String>,
    #[serde(default)]
    exclude_self: bool,
    #[serde(default)]
    created_after: Option<Timestamp>,
    #[serde(default)]
    sort_by: Option<String>,
    #[serde(default)]
    sort_order: Option<String>,
    #[serde(default)]
    caller_agent_id: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Page {
    messages: Vec<Summary>,
    /// The exact number of matching messages.
    total: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    unread: Option<u64>,
    page: u64,
    page_size: u64,
    total_pages: u64,
}

impl Page {
    fn of(listing: Listing, paging: &Paging, summary: impl Fn(Message) -> Summary) -> Self {
        Self {
            unread: None,
            total: listing.total,
            page: paging.page(),
            page_size: paging.size(),
            total_pages: listing.total.div_ceil(paging.size()),
            messages: listing.messages.into_iter().map(summary).collect(),
        }
    }
}

pub(super) async fn list(daemon: &Daemon, params: List, process: Option<i32>) -> Result<Reply, Error> {
    let turn = daemon.large.turn().await;
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let unread = params.unread || given(params.unread_for_agent.clone()).is_some();
    let mut owner = given(params.for_agent).or(given(params.unread_for_agent));
    if owner.is_none() && unread {
        owner = Some(daemon.caller(params.caller_agent_id.clone(), process)?);
    }
    let named = given(params.mention_role);
    let mentioned = if named.is_none() && params.mentions {
        Some(daemon.caller(params.caller_agent_id.clone(), process)?)
    } else {
        None
    };
    let mailbox = |agent_id| Mailbox { agent_id, home: daemon.id.clone() };
    let caller = daemon.caller(params.caller_agent_id, process);
    // Listing all messages needs no caller; without one, no message is shown as read.
    let reader = caller.as_ref().ok().cloned().map(mailbox);
    let exclude_author = if params.exclude_self { Some(mailbox(caller?)) } else { None };
    let mut filter = Filter {
        mailbox: owner.map(mailbox),
        reader,
        unread,
        exclude_author,
        thread_id: given(params.thread_id),
        scope: params.scope,
        reference: params.reference,
        mentions: named.into_iter().chain(mentioned.clone()).collect(),
        after: params.created_after,
        by_update: choice("sort_by", params.sort_by.as_deref(), "created_at", "updated_at")?,
        order: match choice("sort_order", params.sort_order.as_deref(), "desc", "asc")? {
            false => Order::NewestFirst,
            true => Order::OldestFirst,
        },
        offset: params.paging.offset(),
        limit: params.paging.size(),
        room: params.paging.room(),
        ..Filter::default()
    };
    let (author, mut machines) = (given(params.author_id), daemon.machines());
    let listing = daemon.storage.read_much(&turn, move |reader| {
        if let Some(author) = author {
            let (name, home) = ops::listed(reader, &author, machines.clone())?;
            (filter.author, filter.author_home) = (Some(name), home);
        }
        if let Some(agent) = &mentioned {
            // A mention of the agent's role also mentions the agent.
            filter.mentions.extend(reader.agent_here(agent)?.map(|agent| agent.role));
        }
        if let Some(mailbox) = &filter.mailbox {
            ops::resident(reader, &mailbox.agent_id)?;
        }
        let listing = reader.list(&filter)?;
        name_machines(reader, &mut machines, &listing.messages)?;
        Ok((listing, machines))
    });
    let (listing, machines) = listing.await?;
    let page = Page {
        unread: Some(listing.unread),
        ..Page::of(listing, &params.paging, |message| Summary::of(message, &machines))
    };
    large(turn, page).await
}

/// Returns `true` if the second word was given; `false` for the first word and for none.
fn choice(what: &str, given: Option<&str>, first: &str, second: &str) -> Result<bool, Error> {
    match given.unwrap_or_default() {
        "" => Ok(false),
        word if word == first => Ok(false),
        word if word == second => Ok(true),
        _ => Err(Error::new(ErrorKind::Invalid, format!("invalid params: {what} is {first} or {second}"))),
    }
}

#[derive(Deserialize)]
pub(super) struct Outbox {
    #[serde(flatten)]
    paging: Paging,
    /// Only this message.
    #[serde(default)]
    message_id: Option<String>,
    #[serde(default)]
    to: Option<String>,
    #[serde(default)]
    unread: bool,
    #[serde(default)]
    caller_agent_id: Option<String>,
}

/// Lists an agent's sent messages, newest first. With `unread`, only those that at least one recipient has not read.
pub(super) async fn outbox(daemon: &Daemon, params: Outbox, process: Option<i32>) -> Result<Reply, Error> {
    let turn = daemon.large.turn().await;
    let author = daemon.caller(params.caller_agent_id, process)?;
    let mut machines = daemon.machines();
    if let Some(id) = params.message_id.filter(|id| !id.is_empty()) {
        let message = daemon.storage.read_much(&turn, move |reader| {
            ops::resident(reader, &author)?;
            let message = ops::sent_by(reader, &author, &id)?;
            name_machines(reader, &mut machines, std::slice::from_ref(&message))?;
            Ok((message, machines))
        });
        let (mut message, machines) = message.await?;
        let room = params.paging.room();
        message.cut(room.content, room.all);
        let deliveries = Deliveries::now(daemon, machines);
        let listing = Listing { messages: vec![message], total: 1, unread: 0 };
        let page = Page::of(listing, &params.paging, |message| Summary::sent(message, &deliveries));
        return large(turn, page).await;
    }
    let to = params.to.filter(|to| !to.trim_start_matches('@').is_empty());
    let mut filter = Filter {
        author: Some(author.clone()),
        author_home: Some(daemon.id.clone()),
        unread_by_somebody: params.unread,
        recipients: true,
        offset: params.paging.offset(),
        limit: params.paging.size(),
        room: params.paging.room(),
        ..Filter::default()
    };
    let listing = daemon.storage.read_much(&turn, move |reader| {
        ops::resident(reader, &author)?;
        if let Some(to) = to {
            match ops::listed(reader, &to, machines.clone())? {
                (name, None) => filter.to = Some(name),
                (agent_id, Some(home)) => filter.addressed = Some(Mailbox { agent_id, home }),
            }
        }
        let listing = reader.list(&filter)?;
        name_machines(reader, &mut machines, &listing.messages)?;
        Ok((listing, machines))
    });
    let (listing, machines) = listing.await?;
    let deliveries = Deliveries::now(daemon, machines);
    let page = Page::of(listing, &params.paging, |message| Summary::sent(message, &deliveries));
    large(turn, page).await
}

#[derive(Deserialize)]
pub(super) struct MarkRead {
    #[serde(default)]
    message_ids: Vec<String>,
    /// Messages that were partly shown to the agent; they stay unread.
    #[serde(default)]
    shown_ids: Vec<String>,
    /// Instead of ids: mark as many unread messages as one request can. Callers repeat the request until none is left.
    #[serde(default)]
    all: bool,
    #[serde(default)]
    caller_agent_id: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Marked {
    /// How many of the messages were unread before.
    marked_count: usize,
    /// The other agents that have read each message: agents of this daemon by id, others as `@name@machine`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    also_read_by: BTreeMap<String, Vec<String>>,
    /// The same agents with their homes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    readers: BTreeMap<String, Vec<AgentRef>>,
    /// With `all`: how many unread messages are left.
    #[serde(skip_serializing_if = "Option::is_none")]
    unread: Option<u64>,
}

pub(super) async fn mark_read(daemon: &Daemon, params: MarkRead, process: Option<i32>) -> Result<Marked, Error> {
    let (ids, shown) = (params.message_ids, params.shown_ids);
    if (ids.is_empty() && shown.is_empty()) != params.all {
        let why = if params.all { "either message_ids or all" } else { "message_ids is required" };
        return Err(Error::new(ErrorKind::Invalid, why));
    }
    if ids.len() + shown.len() > limits::MAX_BATCH_EVENTS {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("more than {} message_ids at once", limits::MAX_BATCH_EVENTS),
        ));
    }
    let agent = daemon.caller(params.caller_agent_id, process)?;
    if params.all {
        let (marked_count, unread) = daemon.storage.write(move |tx| tx.mark_all_read(&agent)).await?;
        return Ok(Marked {
            marked_count,
            also_read_by: BTreeMap::new(),
            readers: BTreeMap::new(),
            unread: Some(unread),
        });
    }
    let (marking, me) = (ids.clone(), agent.clone());
    let marked_count = daemon.storage.write(move |tx| {
        tx.mark_shown(&me, &shown)?;
        Ok(tx.mark_read(&me, &marking)?.len())
    });
    let marked_count = marked_count.await?;
    let (own, mut machines) = (daemon.id.clone(), daemon.machines());
    let readers = daemon.storage.read(move |reader| {
        let (mut readers, mut budget) = (BTreeMap::new(), Budget::new());
        for id in ids {
            let recipients = reader.message(&id, None)?.map(|message| message.recipients).unwrap_or_default();
            // A recipient that is no longer registered anywhere is assumed to be a former agent of this daemon.
            let read = recipients.into_iter().filter(|other| other.read_at.is_some());
            let read =
                read.map(|other| Mailbox { home: other.home.unwrap_or_else(|| own.clone()), agent_id: other.agent_id });
            let others: Vec<Mailbox> = read.filter(|other| other.agent_id != agent || other.home != own).collect();
            reader.name_machines(&mut machines, others.iter().map(|other| other.home.as_str()))?;
            let others: Vec<AgentRef> = others.into_iter().map(|other| AgentRef::of(other, &machines)).collect();
            // This list is only an addition to the answer, so it is left out where it would exceed the budget.
            if !others.is_empty()
                && budget.take(&(&id, &others, others.iter().map(AgentRef::listed).collect::<Vec<_>>()))
            {
                readers.insert(id, others);
            }
        }
        Ok(readers)
    });
    let readers = readers.await?;
    let also_read_by =
        readers.iter().map(|(id, others)| (id.clone(), others.iter().map(AgentRef::listed).collect())).collect();
    Ok(Marked { marked_count, also_read_by, readers, unread: None })
}
