//! `message.get`, `list`, `outbox`, `markRead`: what a reader does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thrum_core::{ErrorKind, Fault, Machines, Stamp, limits, name, payload::Tag};
use thrum_store::{
    Reader, StoreError, ops,
    query::{Filter, Listing, Mailbox, Message, Order, Room},
};

use super::{
    budget::Budget,
    delivery::Deliveries,
    required,
    shape::{Full, Summary},
};
use crate::daemon::Daemon;

/// A page, if none is asked for, and the largest; Go Thrum has the same.
const PAGE_SIZE: u64 = 10;
const MAX_PAGE_SIZE: u64 = 100;

#[derive(Deserialize)]
pub(super) struct Get {
    #[serde(default)]
    message_id: Option<String>,
    #[serde(default)]
    caller_agent_id: Option<String>,
    /// Whether the caller has now read it.
    #[serde(default)]
    mark_read: bool,
}

#[derive(Serialize)]
pub(super) struct Got {
    message: Full,
}

pub(super) async fn get(daemon: &Daemon, params: Get) -> Result<Got, Fault> {
    let id = required("message_id", params.message_id)?;
    let caller = params.caller_agent_id.filter(|name| !name.is_empty());
    let mailbox = caller.clone().map(|agent_id| Mailbox { agent_id, home: daemon.id.clone() });
    let look = async || {
        let (wanted, mailbox, mut machines) = (id.clone(), mailbox.clone(), daemon.machines());
        let found = daemon.storage.read(move |reader| {
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
    // An event of ours always fits; lists that are padded to the size of an event may not, beside what is made of them.
    message.cut(usize::MAX, limits::MAX_LINE_BYTES / 4 * 3);
    Ok(Got { message: Full::of(message, &Deliveries::now(daemon, machines)) })
}

/// Names the machines that these messages are from and for.
pub(super) fn name_machines(reader: &Reader<'_>, machines: &mut Machines, messages: &[Message]) -> Result<(), StoreError> {
    reader.name_machines(machines, messages.iter().flat_map(Message::homes))
}

fn unknown_message(id: &str) -> Fault {
    Fault::new(ErrorKind::NotFound, format!("message not found: {}", name::printable(id)))
        .hint("`thrum inbox` lists the messages you have.")
}

/// Which page of a list.
#[derive(Deserialize)]
struct Paging {
    #[serde(default)]
    page_size: Option<i64>,
    #[serde(default)]
    page: Option<i64>,
    /// Most bytes of each message's content; ours. What is longer is cut and marked `truncated`, as is what does not fit
    /// into the answer.
    #[serde(default)]
    max_content_bytes: Option<usize>,
}

impl Paging {
    fn size(&self) -> u64 {
        self.page_size.and_then(|size| u64::try_from(size).ok()).filter(|size| *size > 0).unwrap_or(PAGE_SIZE).min(MAX_PAGE_SIZE)
    }

    fn page(&self) -> u64 {
        self.page.and_then(|page| u64::try_from(page).ok()).unwrap_or(1).max(1)
    }

    fn room(&self) -> Room {
        Room::answer(self.max_content_bytes)
    }

    /// Rows before the page, as SQLite counts.
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
    created_after: Option<Stamp>,
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
    /// How many there are in all, exactly.
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

pub(super) async fn list(daemon: &Daemon, params: List, process: Option<i32>) -> Result<Page, Fault> {
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let unread = params.unread || given(params.unread_for_agent.clone()).is_some();
    let mut owner = given(params.for_agent).or(given(params.unread_for_agent));
    if owner.is_none() && unread {
        owner = Some(daemon.caller(params.caller_agent_id.clone(), process)?);
    }
    let named = given(params.mention_role);
    let mentioned = if named.is_none() && params.mentions { Some(daemon.caller(params.caller_agent_id.clone(), process)?) } else { None };
    let mailbox = |agent_id| Mailbox { agent_id, home: daemon.id.clone() };
    let caller = daemon.caller(params.caller_agent_id, process);
    // Nobody has to say who asks in order to see all messages; then none of them is shown as read.
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
        named: named.into_iter().chain(mentioned.clone()).collect(),
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
    let listing = daemon.storage.read(move |reader| {
        if let Some(author) = author {
            let (name, home) = ops::listed(reader, &author, machines.clone())?;
            (filter.author, filter.author_home) = (Some(name), home);
        }
        if let Some(agent) = &mentioned {
            // Who is named by a role is named.
            filter.named.extend(reader.agent_here(agent)?.map(|agent| agent.role));
        }
        if let Some(mailbox) = &filter.mailbox {
            ops::resident(reader, &mailbox.agent_id)?;
        }
        let listing = reader.list(&filter)?;
        name_machines(reader, &mut machines, &listing.messages)?;
        Ok((listing, machines))
    });
    let (listing, machines) = listing.await?;
    Ok(Page { unread: Some(listing.unread), ..Page::of(listing, &params.paging, |message| Summary::of(message, &machines)) })
}

/// Whether the second of two words was given instead of the first.
fn choice(what: &str, given: Option<&str>, first: &str, second: &str) -> Result<bool, Fault> {
    match given.unwrap_or_default() {
        "" => Ok(false),
        word if word == first => Ok(false),
        word if word == second => Ok(true),
        _ => Err(Fault::new(ErrorKind::Invalid, format!("invalid params: {what} is {first} or {second}"))),
    }
}

#[derive(Deserialize)]
pub(super) struct Outbox {
    #[serde(flatten)]
    paging: Paging,
    /// This message alone.
    #[serde(default)]
    message_id: Option<String>,
    #[serde(default)]
    to: Option<String>,
    #[serde(default)]
    unread: bool,
    #[serde(default)]
    caller_agent_id: Option<String>,
}

/// What an agent sent, newest first. With `unread`, those that somebody it was sent to has not read.
pub(super) async fn outbox(daemon: &Daemon, params: Outbox, process: Option<i32>) -> Result<Page, Fault> {
    let author = daemon.caller(params.caller_agent_id, process)?;
    let mut machines = daemon.machines();
    if let Some(id) = params.message_id.filter(|id| !id.is_empty()) {
        let message = daemon.storage.read(move |reader| {
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
        return Ok(Page::of(listing, &params.paging, |message| Summary::sent(message, &deliveries)));
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
    let listing = daemon.storage.read(move |reader| {
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
    Ok(Page::of(listing, &params.paging, |message| Summary::sent(message, &deliveries)))
}

#[derive(Deserialize)]
pub(super) struct MarkRead {
    #[serde(default)]
    message_ids: Vec<String>,
    /// In place of ids: what is unread, as much as one request marks. Asked again until none is left.
    #[serde(default)]
    all: bool,
    #[serde(default)]
    caller_agent_id: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Marked {
    /// How many were unread before.
    marked_count: usize,
    /// Who else has read them, by message.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    also_read_by: BTreeMap<String, Vec<String>>,
    /// With `all`: how many unread ones are left.
    #[serde(skip_serializing_if = "Option::is_none")]
    unread: Option<u64>,
}

pub(super) async fn mark_read(daemon: &Daemon, params: MarkRead, process: Option<i32>) -> Result<Marked, Fault> {
    let ids = params.message_ids;
    if ids.is_empty() != params.all {
        let why = if params.all { "either message_ids or all" } else { "message_ids is required" };
        return Err(Fault::new(ErrorKind::Invalid, why));
    }
    if ids.len() > limits::MAX_BATCH_EVENTS {
        return Err(Fault::new(ErrorKind::Invalid, format!("more than {} message_ids at once", limits::MAX_BATCH_EVENTS)));
    }
    let agent = daemon.caller(params.caller_agent_id, process)?;
    if params.all {
        let (marked_count, unread) = daemon.storage.write(move |tx| tx.mark_all_read(&agent)).await?;
        return Ok(Marked { marked_count, also_read_by: BTreeMap::new(), unread: Some(unread) });
    }
    let (marking, me) = (ids.clone(), agent.clone());
    let marked_count = daemon.storage.write(move |tx| Ok(tx.mark_read(&me, &marking)?.len())).await?;
    let also_read_by = daemon.storage.read(move |reader| {
        let (mut also_read_by, mut budget) = (BTreeMap::new(), Budget::new());
        for id in ids {
            let recipients = reader.message(&id, None)?.map(|message| message.recipients).unwrap_or_default();
            let others = recipients.into_iter().filter(|other| other.read_at.is_some() && other.agent_id != agent);
            let others: Vec<String> = others.map(|other| other.agent_id).collect();
            // Said beside the answer, and left out where it would be most of it.
            if !others.is_empty() && budget.take(&(&id, &others)) {
                also_read_by.insert(id, others);
            }
        }
        Ok(also_read_by)
    });
    Ok(Marked { marked_count, also_read_by: also_read_by.await?, unread: None })
}
