//! `message.wait`: the call that returns when there is mail.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thrum_core::{ErrorKind, Fault, Machines, Stamp, limits, payload::Tag};
use thrum_store::{
    ops,
    query::{Filter, Listing, Mailbox, Order, Room},
};
use tokio::time::{Instant, timeout_at};

use super::{message::name_machines, shape::Summary};
use crate::daemon::Daemon;

/// How long one waits who does not say.
const DEFAULT: Duration = Duration::from_secs(30);

/// Most messages in one answer. Who gets as many asks for the rest by `message.list`.
const MOST: u64 = 10;

#[derive(Deserialize)]
pub(super) struct Wait {
    #[serde(default)]
    caller_agent_id: Option<String>,
    #[serde(default)]
    timeout_ms: Option<u64>,
    /// Only what is later counts, read or not.
    #[serde(default)]
    after: Option<Stamp>,
    /// Only mail with this scope.
    #[serde(default)]
    scope: Option<Tag>,
    /// Only mail that names this agent or role; a message for everyone names nobody.
    #[serde(default)]
    mention: Option<String>,
    /// Most bytes of each message's content; ours.
    #[serde(default)]
    max_content_bytes: Option<usize>,
}

#[derive(Serialize)]
pub(super) struct Waited {
    /// `received` or `timeout`.
    status: &'static str,
    /// Oldest first.
    messages: Vec<Summary>,
    unread: u64,
}

pub(super) async fn wait(daemon: &Daemon, params: Wait, process: Option<i32>) -> Result<Waited, Fault> {
    let within = params.timeout_ms.map_or(DEFAULT, Duration::from_millis);
    if within > limits::MAX_WAIT {
        return Err(Fault::new(ErrorKind::Invalid, format!("invalid params: timeout_ms is at most {}", limits::MAX_WAIT.as_millis())));
    }
    let deadline = Instant::now() + within;
    let agent = daemon.caller(params.caller_agent_id, process)?;
    // Before the first look, so that what is committed meanwhile wakes us again.
    let mut bell = daemon.bell.listen(&agent);
    let mailbox = Mailbox { agent_id: agent, home: daemon.id.clone() };
    let mut filter = Filter {
        // Mail to oneself is stored and wakes nobody.
        exclude_author: Some(mailbox.clone()),
        mailbox: Some(mailbox),
        unread: params.after.is_none(),
        after: params.after,
        scope: params.scope,
        order: Order::OldestFirst,
        limit: MOST,
        room: Room::answer(params.max_content_bytes),
        ..Filter::default()
    };
    if let Some(mention) = params.mention.filter(|name| !name.trim_start_matches('@').is_empty()) {
        let machines = daemon.machines();
        match daemon.storage.read(move |reader| ops::listed(reader, &mention, machines)).await? {
            (name, None) => filter.named = vec![name],
            (agent_id, Some(home)) => filter.addressed = Some(Mailbox { agent_id, home }),
        }
    }
    loop {
        let (found, machines) = look(daemon, filter.clone()).await?;
        if !found.messages.is_empty() {
            let messages = found.messages.into_iter().map(|message| Summary::of(message, &machines)).collect();
            return Ok(Waited { status: "received", messages, unread: found.unread });
        }
        match timeout_at(deadline, bell.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Fault::new(ErrorKind::TryAgain, "the daemon is stopping")),
            Err(_) => return Ok(Waited { status: "timeout", messages: Vec::new(), unread: 0 }),
        }
    }
}

async fn look(daemon: &Daemon, filter: Filter) -> Result<(Listing, Machines), Fault> {
    let mut machines = daemon.machines();
    let question = daemon.storage.read(move |reader| {
        let Some(mailbox) = &filter.mailbox else { return Ok((Listing::default(), machines)) };
        ops::resident(reader, &mailbox.agent_id)?;
        // Cheap, and often enough.
        if filter.unread && !reader.has_unread(mailbox)? {
            return Ok((Listing::default(), machines));
        }
        let listing = reader.list(&filter)?;
        name_machines(reader, &mut machines, &listing.messages)?;
        Ok((listing, machines))
    });
    question.await
}
