//! `message.wait`: returns when there is mail, or when the time is over.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thrum_core::{Error, ErrorKind, Machines, Timestamp, payload::Tag};
use thrum_store::{
    ops,
    query::{Filter, Listing, Mailbox, Order, Room},
};
use tokio::time::{Instant, timeout_at};

use super::{answer, bounded, large, message::name_machines, news::wake_requested, shape::Summary};
use crate::{daemon::Daemon, large::Turn, rpc::connection::Reply};

/// Default time to wait.
const DEFAULT: Duration = Duration::from_secs(30);

/// Maximum number of messages in one answer. A caller that gets as many as this has to ask for the rest with
/// `message.list`.
const MOST: u64 = 10;

#[derive(Deserialize)]
pub(super) struct Wait {
    #[serde(default)]
    caller_agent_id: Option<String>,
    #[serde(default)]
    timeout_ms: Option<u64>,
    /// Only messages after this time count, whether read or not.
    #[serde(default)]
    after: Option<Timestamp>,
    /// Only mail with this scope.
    #[serde(default)]
    scope: Option<Tag>,
    /// Only mail that names this agent or role. A message to everyone does not count as naming an agent.
    #[serde(default)]
    mention: Option<String>,
    /// Maximum bytes of each message's content; not in Go Thrum.
    #[serde(default)]
    max_content_bytes: Option<usize>,
}

#[derive(Serialize)]
pub(super) struct Waited {
    /// `received` or `timeout`.
    status: &'static str,
    /// The messages, oldest first; empty after `timeout`.
    messages: Vec<Summary>,
    unread: u64,
}

pub(super) async fn wait(daemon: &Daemon, params: Wait, process: Option<i32>) -> Result<Reply, Error> {
    let within = bounded(params.timeout_ms.map_or(DEFAULT, Duration::from_millis))?;
    let (deadline, waits) = (Instant::now() + within, !within.is_zero());
    let agent = daemon.caller(params.caller_agent_id, process)?;
    // Subscribe before the first query, so that a commit meanwhile wakes this call again.
    let mut wake = daemon.wakes.listen(&agent);
    let waiting_as = agent.clone();
    let mailbox = Mailbox { agent_id: agent, home: daemon.id.clone() };
    let mut filter = Filter {
        // An agent's mail to itself is stored, but wakes no waiting call.
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
            (name, None) => filter.mentions = vec![name],
            (agent_id, Some(home)) => filter.addressed = Some(Mailbox { agent_id, home }),
        }
    }
    // A call that waits for only some of the mail does not return for the rest, so it does not make the agent wakeable.
    let waits_for_all = filter.scope.is_none() && filter.mentions.is_empty() && filter.addressed.is_none();
    let _waiting = if waits && waits_for_all { daemon.live.programs.waits(&waiting_as, false) } else { None };
    loop {
        if let Some((turn, (found, machines))) = find_mail(daemon, &filter).await? {
            if waits {
                wake_requested(daemon, &waiting_as, &found).await;
            }
            let messages = found.messages.into_iter().map(|message| Summary::of(message, &machines)).collect();
            return large(turn, Waited { status: "received", messages, unread: found.unread }).await;
        }
        match timeout_at(deadline, wake.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Error::new(ErrorKind::TryAgain, "the daemon is stopping")),
            Err(_) => return answer(&Waited { status: "timeout", messages: Vec::new(), unread: 0 }),
        }
    }
}

/// Returns the present mail and the turn in which it was read; `None` if there is no mail.
async fn find_mail(daemon: &Daemon, filter: &Filter) -> Result<Option<(Turn, (Listing, Machines))>, Error> {
    let Some(mailbox) = filter.mailbox.clone() else { return Ok(None) };
    let unread_only = filter.unread;
    let may_have_mail = daemon.storage.read(move |reader| {
        ops::resident(reader, &mailbox.agent_id)?;
        // This query is cheap and often sufficient.
        Ok(!unread_only || reader.has_unread(&mailbox)?)
    });
    if !may_have_mail.await? {
        return Ok(None);
    }
    let turn = daemon.large.turn().await;
    let (filter, mut machines) = (filter.clone(), daemon.machines());
    let found = daemon.storage.read_much(&turn, move |reader| {
        let listing = reader.list(&filter)?;
        name_machines(reader, &mut machines, &listing.messages)?;
        Ok((listing, machines))
    });
    let found = found.await?;
    Ok((!found.0.messages.is_empty()).then_some((turn, found)))
}
