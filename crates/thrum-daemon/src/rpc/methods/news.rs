//! `message.news`: returns the new messages of a mailbox to one of its readers, in order of arrival.
//!
//! A cursor names a position: the log's id and a sequence in that log. A caller may keep the cursor itself and pass it
//! as `cursor`. Or the caller names a reader (`reader`) whose cursor the daemon keeps. That cursor moves past the
//! returned messages. With `keep`, the cursor moves only when the caller passes the cursor of an earlier answer, which
//! confirms that the messages of that answer have arrived; until then the reader gets these messages again. An answer
//! without messages needs no confirmation: with `move_if_empty`, it moves the cursor all the same. For a reader without
//! a position, the unread mail is news first, and then everything that arrives.
//!
//! With `timeout_ms` the call waits for news. A program that may start several such waits names them (`waiter`), and
//! each new wait ends the previous one of that name.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thrum_core::{Error, ErrorKind, Machines, limits};
use thrum_store::{
    Reader, StoreError, ops,
    query::{Filter, Listing, Mailbox, Order, Room},
};
use tokio::time::{Instant, timeout_at};

use super::{answer, bounded, large, message::name_machines, shape::Summary};
use crate::{daemon::Daemon, large::Turn, rpc::connection::Reply, waiters::NameLease};

/// Default number of messages in an answer.
const PAGE: u64 = 10;

#[derive(Deserialize)]
pub(super) struct News {
    #[serde(default)]
    caller_agent_id: Option<String>,
    /// The reader's name, unique among the readers of this agent.
    #[serde(default)]
    reader: Option<String>,
    /// The cursor of an earlier answer; later messages are news.
    #[serde(default)]
    cursor: Option<String>,
    /// Do not move the reader's cursor past the messages of this answer, only to `cursor` if that is given.
    #[serde(default)]
    keep: bool,
    /// Move the reader's cursor in spite of `keep` if the answer contains no messages.
    #[serde(default)]
    move_if_empty: bool,
    /// Only mail that has not been read in the agent's name.
    #[serde(default)]
    unread: bool,
    #[serde(default)]
    page_size: Option<u64>,
    /// Maximum bytes of each message's content.
    #[serde(default)]
    max_content_bytes: Option<usize>,
    /// How long to wait if there is no news; 0 to answer at once.
    #[serde(default)]
    timeout_ms: u64,
    /// The name of the wait. Only the newest wait of a name continues.
    #[serde(default)]
    waiter: Option<String>,
}

#[derive(Serialize)]
pub(super) struct NewsAnswer {
    /// `told`; after a wait without news `timeout`, or `replaced` by a newer wait of the same name.
    status: &'static str,
    /// The new messages, in the order of their arrival here.
    messages: Vec<Summary>,
    /// The position after these messages, for the `cursor` of the next call.
    cursor: String,
    /// `true` if the reader's cursor is at that position now, so that no further call has to move it there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    reader_moved: bool,
    /// The number of further messages that are news.
    remaining: u64,
    /// The number of unread messages in the whole mailbox.
    unread: u64,
}

pub(super) async fn news(daemon: &Daemon, params: News, process: Option<i32>) -> Result<Reply, Error> {
    let agent = daemon.caller(params.caller_agent_id, process)?;
    let within = bounded(Duration::from_millis(params.timeout_ms))?;
    let deadline = Instant::now() + within;
    let [reader, waiter] =
        [("reader", params.reader), ("waiter", params.waiter)].map(|(what, name)| check_name(what, name));
    let (reader, waiter) = (reader?, waiter?);
    let log = daemon.storage.commits().borrow().log.to_string();
    let given = params
        .cursor
        .as_deref()
        .filter(|cursor| !cursor.is_empty())
        .map(|cursor| position(cursor, &log))
        .transpose()?;
    let question = Question {
        mailbox: Mailbox { agent_id: agent.clone(), home: daemon.id.clone() },
        reader: reader.clone(),
        given,
        unread: params.unread,
        limit: params.page_size.unwrap_or(PAGE).clamp(1, limits::MAX_PAGE_MESSAGES),
        room: Room::answer(params.max_content_bytes),
    };
    // Subscribe before the first query, so that a commit meanwhile wakes this call again.
    let (mut wake, woken) = (daemon.wakes.listen(&agent), agent.clone());
    let is_hook = waiter.is_some();
    let mut lease = waiter.map(|waiter| daemon.live.waiters.take_over(&waiter));
    let _waiting = if within.is_zero() { None } else { daemon.live.programs.waits(&agent, is_hook) };
    let (found, status) = loop {
        let found = query_news(daemon, question.clone()).await?;
        if !found.listing.messages.is_empty() || within.is_zero() {
            break (found, "told");
        }
        tokio::select! {
            rung = timeout_at(deadline, wake.changed()) => match rung {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Error::new(ErrorKind::TryAgain, "the daemon is stopping")),
                Err(_) => break (found, "timeout"),
            },
            () = NameLease::is_lost(lease.as_mut()) => break (found, "replaced"),
        }
    };
    let NewsSnapshot { listing, machines, since, latest, unread, turn } = found;
    let remaining = listing.total.saturating_sub(listing.messages.len() as u64);
    let reached = match listing.messages.last() {
        // A reader without a position moves to the end of the log, and has to request the rest of the unread mail
        // itself.
        Some(last) if remaining > 0 && since.is_some() => last.sequence,
        _ => latest,
    };
    let keeps = params.keep && !(params.move_if_empty && listing.messages.is_empty());
    let moved = if keeps { since } else { Some(reached) };
    let reader_moved = reader.is_some() && moved == Some(reached);
    if let (Some(reader), Some(moved)) = (reader, moved.filter(|moved| given.is_some() || since != Some(*moved))) {
        daemon.storage.write(move |tx| tx.move_cursor(&agent, &reader, moved)).await?;
    }
    // A session in a turn is not woken: it gets the mail at the end of the turn.
    if is_hook && !daemon.live.programs.is_in_turn(&woken) {
        wake_requested(daemon, &woken, &listing).await;
    }
    let messages = listing.messages.into_iter().map(|message| Summary::of(message, &machines)).collect();
    let told = NewsAnswer { status, messages, cursor: format!("{log}:{reached}"), reader_moved, remaining, unread };
    match turn {
        Some(turn) => large(turn, told).await,
        None => answer(&told),
    }
}

/// Records that these messages were given to a call that waited for mail of an agent. Does not wait for the commit,
/// because the waiter's answer has to be quick.
pub(super) async fn wake_requested(daemon: &Daemon, agent: &str, listing: &Listing) {
    let (agent, ids) =
        (agent.to_owned(), listing.messages.iter().map(|message| message.message_id.clone()).collect::<Vec<_>>());
    if !ids.is_empty() {
        daemon.storage.write_in_background(move |tx| tx.woken(&agent, &ids)).await;
    }
}

/// Checks the length of an optional name; an empty name counts as absent.
fn check_name(what: &str, name: Option<String>) -> Result<Option<String>, Error> {
    let name = name.filter(|name| !name.is_empty());
    match name {
        Some(name) if name.len() > limits::MAX_READER_BYTES => Err(Error::new(
            ErrorKind::Invalid,
            format!("invalid params: {what} is at most {} bytes", limits::MAX_READER_BYTES),
        )),
        name => Ok(name),
    }
}

/// The parameters of a query to the store.
#[derive(Clone)]
struct Question {
    mailbox: Mailbox,
    reader: Option<String>,
    given: Option<u64>,
    unread: bool,
    limit: u64,
    room: Room,
}

/// The result of a query, from one snapshot.
struct NewsSnapshot {
    listing: Listing,
    machines: Machines,
    /// The position after which messages are news; `None` if the unread messages are news.
    since: Option<u64>,
    /// The end of the log.
    latest: u64,
    unread: u64,
    /// The turn in which the messages were read, if there are any.
    turn: Option<Turn>,
}

async fn query_news(daemon: &Daemon, question: Question) -> Result<NewsSnapshot, Error> {
    let asked = question.clone();
    // This query is cheap and often sufficient.
    let (since, latest, unread) = daemon.storage.read(move |store| asked.positions(store)).await?;
    if question.given.is_some_and(|given| given > latest) {
        return Err(Error::new(ErrorKind::Invalid, format!("CURSOR_AHEAD: this log ends at {latest}")).hint(ANEW));
    }
    let mut machines = daemon.machines();
    if unread == 0 && (question.unread || since.is_none()) || since == Some(latest) {
        return Ok(NewsSnapshot { listing: Listing::default(), machines, since, latest, unread, turn: None });
    }
    let turn = daemon.large.turn().await;
    let found = daemon.storage.read_much(&turn, move |store| {
        let (since, latest, unread) = question.positions(store)?;
        let filter = Filter {
            // An agent's mail to itself is not news to it.
            exclude_author: Some(question.mailbox.clone()),
            mailbox: Some(question.mailbox),
            unread: question.unread || since.is_none(),
            since,
            order: Order::OldestFirst,
            limit: question.limit,
            room: question.room,
            ..Filter::default()
        };
        let listing = store.list(&filter)?;
        name_machines(store, &mut machines, &listing.messages)?;
        Ok(NewsSnapshot { listing, machines, since, latest, unread, turn: None })
    });
    let found = found.await?;
    // A call that still waits for news must not hold up other large answers.
    let turn = Some(turn).filter(|_| !found.listing.messages.is_empty());
    Ok(NewsSnapshot { turn, ..found })
}

impl Question {
    /// Returns the position after which there is news, the end of the log, and the number of unread messages in the
    /// whole mailbox.
    fn positions(&self, store: &Reader<'_>) -> Result<(Option<u64>, u64, u64), StoreError> {
        ops::resident(store, &self.mailbox.agent_id)?;
        let latest = store.latest()?;
        let known =
            self.reader.as_deref().map(|name| store.cursor(&self.mailbox.agent_id, name)).transpose()?.flatten();
        // A cursor may lie beyond the end of the log if a repair of the database has lost the events there.
        let since = self.given.or(known.map(|known| known.min(latest)));
        let (_, unread) = store.mail_count(&self.mailbox)?;
        Ok((since, latest, unread))
    }
}

/// Hint for a cursor that can no longer be used.
const ANEW: &str = "Ask without a cursor: all mail, or with unread all that is unread, is news then.";

/// Parses a cursor of this log and returns its sequence.
fn position(cursor: &str, log: &str) -> Result<u64, Error> {
    let wrong = || Error::new(ErrorKind::Invalid, "invalid params: cursor is not one that an answer gave").hint(ANEW);
    let (of, sequence) = cursor.rsplit_once(':').ok_or_else(wrong)?;
    let sequence = sequence.parse().map_err(|_| wrong())?;
    if of != log {
        let why = "CURSOR_EXPIRED: the log it points into was replaced, by a restored or repaired one";
        return Err(Error::new(ErrorKind::Invalid, why).hint(ANEW));
    }
    Ok(sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_of_one_log() {
        assert_eq!(position("log_1:7", "log_1"), Ok(7));
        for (cursor, words) in
            [("log_0:7", "CURSOR_EXPIRED"), ("7", "not one"), ("log_1:x", "not one"), ("log_1:-1", "not one")]
        {
            assert!(position(cursor, "log_1").unwrap_err().message.contains(words), "{cursor}");
        }
    }
}
