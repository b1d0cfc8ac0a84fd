//! Queries over messages and mailboxes.

use std::collections::{HashMap, hash_map::Entry};

use rusqlite::{OptionalExtension, Row, params_from_iter, types::Value as Sql};
use thrum_core::{
    Payload, Timestamp, bounds, json,
    payload::{Body, MessageCreate, Tag},
};

use super::filter::{Filter, Mailbox, Order, Selection};
use crate::{
    Reader, StoreError, arrival,
    fold::{audience::AudienceKind, residence},
};

/// The current state of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Id of the message, `msg_…`.
    pub message_id: String,
    /// Thread of the message: the one in which it was sent, or the one that the first answer to it started. `None` if
    /// there is neither.
    pub thread_id: Option<String>,
    /// Id of the message that this one answers.
    pub reply_to: Option<String>,
    /// Name of the author.
    pub agent_id: String,
    /// Id of the author's session; may be empty.
    pub session_id: String,
    /// The daemon that wrote the message.
    pub origin: String,
    /// The author's current home; differs from `origin` if the author moved.
    pub home: String,
    /// The content, after the last edit.
    pub body: Body,
    /// Scopes: classification and groups.
    pub scopes: Vec<Tag>,
    /// References to other things.
    pub refs: Vec<Tag>,
    /// The addressees as `type:value`; the type is `mention`, `group` or `broadcast`.
    pub audiences: Vec<Tag>,
    /// The recipients that the message lists by name, with their receipts. In a list it is filled only if
    /// [`Filter::recipients`] is set.
    pub recipients: Vec<Recipient>,
    /// When the message was written. If that time lay ahead of our clock when the message arrived, about the time of
    /// arrival (`arrival.rs`).
    pub created_at: Timestamp,
    /// When the message was written, according to the author's daemon.
    pub claimed_at: Timestamp,
    /// When the message was last edited; `None` if never. A time ahead of our clock is replaced as in `created_at`.
    pub updated_at: Option<Timestamp>,
    /// When the message was last edited, according to the author's daemon; `None` if never.
    pub edit_claimed_at: Option<Timestamp>,
    /// Number of edits.
    pub edits: u64,
    /// When the message was deleted; `None` if it is not. A time ahead of our clock is replaced as in `created_at`.
    pub deleted_at: Option<Timestamp>,
    /// The reason for the deletion.
    pub delete_reason: Option<String>,
    /// Whether the reader named in the query has read or written the message; always `false` without a reader.
    pub is_read: bool,
    /// Sequence of the message in our log; a peer that has read the log up to there has the message.
    pub sequence: u64,
    /// Full length of the content in bytes; `None` unless a part of the message was cut.
    pub whole: Option<usize>,
}

impl Message {
    /// Size of its texts and lists as JSON, which is nearly the size of the whole message.
    fn size(&self) -> usize {
        let recipients: usize = self.recipients.iter().map(Recipient::size).sum();
        let Body { format, content, structured } = &self.body;
        let body = json::text_size(content)
            + json::size(&(format, structured))
            + r#"{"format":,"content":"","structured":}"#.len();
        body + [&self.scopes, &self.refs, &self.audiences].into_iter().map(json::size).sum::<usize>() + recipients
    }

    /// Cuts the content to at most `content` bytes, and the whole message to about `all` bytes of JSON.
    pub fn cut(&mut self, content: usize, all: usize) {
        let whole = self.body.content.len();
        bounds::truncate(&mut self.body.content, content);
        let mut is_cut = self.body.content.len() < whole;
        if self.size() > all {
            is_cut = true;
            // Cut the lists first, to an eighth of the room each. They are usually far smaller and stay as they are.
            for list in [&mut self.scopes, &mut self.refs, &mut self.audiences] {
                keep(list, all / 8, json::size);
            }
            keep(&mut self.recipients, all / 8, Recipient::size);
            if self.body.structured.as_ref().is_some_and(|text| json::size(text) > all / 8) {
                // A truncated JSON text is not valid JSON.
                self.body.structured = None;
            }
            let room = all.saturating_sub(self.size() - json::text_size(&self.body.content));
            let kept = json::prefix(&self.body.content, room).len();
            self.body.content.truncate(kept);
        }
        if is_cut {
            self.whole = Some(whole);
        }
    }
}

/// Keeps the first entries whose sizes add up to at most `most` bytes.
fn keep<T>(list: &mut Vec<T>, most: usize, size: impl Fn(&T) -> usize) {
    let mut bytes = 0;
    let kept = list.iter().take_while(|entry| {
        bytes += size(entry) + 1;
        bytes <= most
    });
    let kept = kept.count();
    list.truncate(kept);
}

impl Message {
    /// The ids of the daemons in this message: the home of the author and those of the recipients.
    pub fn homes(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.home.as_str())
            .chain(self.recipients.iter().filter_map(|recipient| recipient.home.as_deref()))
    }
}

/// One mailbox that a message is for: a named agent at one of its homes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The name of the agent.
    pub agent_id: String,
    /// The home of the agent; `None` if the message gives no home and the name means no registered agent (any more).
    pub home: Option<String>,
    /// When a waiter of the agent was first given the message, according to the agent's home; `None` if never.
    pub woken_at: Option<Timestamp>,
    /// When the agent first saw or read the message, according to its home; `None` if never.
    pub seen_at: Option<Timestamp>,
    /// When the agent read the message, according to its home; `None` if never.
    pub read_at: Option<Timestamp>,
}

impl Recipient {
    /// Approximate size in an answer: its texts, four timestamps and the field names.
    fn size(&self) -> usize {
        json::size(&self.agent_id) + json::size(&self.home) + 300
    }
}

/// A page of messages and exact counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The messages of the page.
    pub messages: Vec<Message>,
    /// Number of messages that match the filter.
    pub total: u64,
    /// Number of matching messages that the owner of the filter's `mailbox` or `reader` has not read; 0 without either.
    pub unread: u64,
}

const COLUMNS: &str = "m.message_id,
    coalesce(m.thread_id, (SELECT r.thread_id FROM messages r WHERE r.reply_to = m.message_id AND r.thread_id IS NOT NULL
                           ORDER BY r.at, r.event_id LIMIT 1)),
    m.reply_to, m.agent_id, m.session_id, m.origin, m.shown_at,
    min(m.edited_at, coalesce((SELECT h.shown_at FROM ahead h WHERE h.sequence = m.edit_sequence), m.edited_at)), m.edits,
    min(m.deleted_at, coalesce((SELECT min(h.shown_at) FROM ahead h WHERE h.origin IN (m.origin, m.home) AND h.at = m.deleted_at), m.deleted_at)),
    m.delete_reason, e.body, (SELECT body FROM events WHERE sequence = m.edit_sequence), m.sequence, m.home, m.at, m.edited_at";

impl Reader<'_> {
    /// Returns one message, deleted or not; `None` if it is not here. `is_read` refers to `mailbox`.
    ///
    /// # Errors
    /// SQLite's.
    pub fn message(&self, message_id: &str, mailbox: Option<&Mailbox>) -> Result<Option<Message>, StoreError> {
        let owner = self.owner(mailbox)?.unwrap_or(0);
        let sql = format!(
            "SELECT {COLUMNS}, {} FROM messages m JOIN events e USING (sequence) WHERE m.message_id = ?1",
            is_read(owner)
        );
        let found = self.conn.prepare_cached(&sql)?.query_row([message_id], read_message).optional()?;
        found.map(|found| self.finish(found, Some(&mut Homes::new()))).transpose()
    }

    /// Returns a page of messages; empty if the filter's mailbox belongs to no registered agent, or if it asks for
    /// unread messages and neither `mailbox` nor `reader` is that of a registered agent.
    ///
    /// # Errors
    /// SQLite's.
    pub fn list(&self, filter: &Filter) -> Result<Listing, StoreError> {
        let owner = self.owner(filter.mailbox.as_ref())?;
        if filter.mailbox.is_some() && owner.is_none() {
            return Ok(Listing::default());
        }
        let selection = Selection::of(filter, owner);
        let (from, values) = (&selection.rows, &selection.values);
        let reader = if owner.is_some() { owner } else { self.owner(filter.reader.as_ref())? };
        let unread_only = match (owner, reader) {
            _ if !filter.unread => String::new(),
            (Some(_), _) => " AND b.unread".to_owned(),
            (None, Some(reader)) => format!(" AND {}", in_mailbox(reader, "o.unread")),
            (None, None) => return Ok(Listing::default()),
        };
        let (total, unread) = match (owner, reader) {
            (Some(owner), _) if selection.is_whole_mailbox => self.kept_counts(owner)?,
            (Some(_), _) => self.count(&selection.counted, "coalesce(sum(b.unread), 0)", values)?,
            (None, Some(reader)) => self.count(
                &selection.counted,
                &format!("coalesce(sum({}), 0)", in_mailbox(reader, "o.unread")),
                values,
            )?,
            (None, None) => self.count(&selection.counted, "0", values)?,
        };
        let total = if filter.unread { unread } else { total };
        let time = if filter.by_update {
            "coalesce(min(m.edited_at, coalesce((SELECT h.shown_at FROM ahead h WHERE h.sequence = m.edit_sequence), m.edited_at)), m.shown_at)"
        } else {
            if owner.is_some() { "b.at" } else { "m.shown_at" }
        };
        let number = if owner.is_some() { "b.sequence" } else { "m.sequence" };
        let order = |time: &str, direction: &str| match (owner, filter.since) {
            (Some(_), Some(_)) => "m.sequence".to_owned(),
            _ => format!("{time} {direction}, {number} {direction}"),
        };
        let direction = if filter.order == Order::NewestFirst { "DESC" } else { "ASC" };
        let sql = format!(
            "SELECT {COLUMNS}, {} {from}{unread_only} ORDER BY {} LIMIT {} OFFSET {}",
            is_read(reader.unwrap_or(0)),
            order(time, direction),
            filter.limit,
            filter.offset
        );
        let mut homes = filter.recipients.then(Homes::new);
        let mut messages = Vec::new();
        let mut used = 0;
        let mut statement = self.conn.prepare(&sql)?;
        // Read one message at a time: a hundred events of the maximum size do not fit into memory.
        for found in statement.query_map(params_from_iter(values), read_message)? {
            let mut message = self.finish(found?, homes.as_mut())?;
            let after = filter.limit.saturating_sub(messages.len() as u64 + 1);
            message.cut(filter.room.content, filter.room.next(used, filter.limit, after));
            used += message.size();
            messages.push(message);
        }
        Ok(Listing { messages, total, unread })
    }

    /// Returns how many messages an agent's mailbox holds, and how many of them are unread.
    ///
    /// # Errors
    /// SQLite's.
    pub fn mail_count(&self, mailbox: &Mailbox) -> Result<(u64, u64), StoreError> {
        let Some(owner) = self.owner(Some(mailbox))? else { return Ok((0, 0)) };
        self.kept_counts(owner)
    }

    /// Returns `true` if an agent has unread mail.
    ///
    /// # Errors
    /// SQLite's.
    pub fn has_unread(&self, mailbox: &Mailbox) -> Result<bool, StoreError> {
        let Some(owner) = self.owner(Some(mailbox))? else { return Ok(false) };
        Ok(self.conn.prepare_cached("SELECT 1 FROM mailbox WHERE owner = ?1 AND unread LIMIT 1")?.exists([owner])?)
    }

    /// Returns `true` if this message is in the mailbox and unread.
    ///
    /// # Errors
    /// SQLite's.
    pub fn is_unread(&self, message_id: &str, mailbox: &Mailbox) -> Result<bool, StoreError> {
        let Some(owner) = self.owner(Some(mailbox))? else { return Ok(false) };
        let mut statement = self.conn.prepare_cached(
            "SELECT 1 FROM messages m JOIN mailbox b ON b.owner = ?2 AND b.at = m.shown_at AND b.sequence = m.sequence AND b.unread
             WHERE m.message_id = ?1",
        )?;
        Ok(statement.exists((message_id, owner))?)
    }

    /// Counts the messages addressed to everyone, and those for each role of a registered agent: name and count, by
    /// name. Roles without messages are left out.
    ///
    /// # Errors
    /// SQLite's.
    pub fn shared_mail(&self) -> Result<(u64, Vec<(String, u64)>), StoreError> {
        let mut everyone =
            self.conn.prepare_cached("SELECT total FROM audience_counts WHERE kind = ?1 AND value = ''")?;
        let everyone: Option<u64> = everyone.query_row([AudienceKind::Everyone], |row| row.get(0)).optional()?;
        let mut statement = self.conn.prepare_cached(
            "SELECT value, total FROM audience_counts WHERE kind = ?1 AND total > 0 AND value IN (SELECT role FROM agents) ORDER BY value",
        )?;
        let roles = statement
            .query_map([AudienceKind::Role], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        Ok((everyone.unwrap_or(0), roles))
    }

    pub(crate) fn owner(&self, mailbox: Option<&Mailbox>) -> Result<Option<i64>, StoreError> {
        let Some(mailbox) = mailbox else { return Ok(None) };
        let mut statement = self.conn.prepare_cached("SELECT owner FROM agents WHERE agent_id = ?1 AND home = ?2")?;
        Ok(statement.query_row((&mailbox.agent_id, &mailbox.home), |row| row.get(0)).optional()?)
    }

    fn count(&self, from: &str, unread: &str, values: &[Sql]) -> Result<(u64, u64), StoreError> {
        let mut statement = self.conn.prepare_cached(&format!("SELECT count(*), {unread} {from}"))?;
        Ok(statement.query_row(params_from_iter(values), |row| Ok((row.get(0)?, row.get(1)?)))?)
    }

    /// The total and unread counts that the database keeps for a mailbox.
    fn kept_counts(&self, owner: i64) -> Result<(u64, u64), StoreError> {
        let mut statement = self.conn.prepare_cached("SELECT total, unread FROM mailbox_counts WHERE owner = ?1")?;
        Ok(statement.query_row([owner], |row| Ok((row.get(0)?, row.get(1)?))).optional()?.unwrap_or_default())
    }

    /// Parses the bodies of a row. Adds the state of the recipients if `homes`, a cache of their homes, is given.
    fn finish(&self, found: UnparsedMessage, homes: Option<&mut Homes>) -> Result<Message, StoreError> {
        let UnparsedMessage { mut message, created, edited } = found;
        let Payload::MessageCreate(created) = read_body("message.create", &created)? else {
            return Err(unreadable("its type"));
        };
        message.audiences = created.listed_addressees();
        if let Some(homes) = homes {
            message.recipients = self.recipients(&message, &created, homes)?;
        }
        message.body = created.body;
        if let Some(edited) = edited {
            let Payload::MessageEdit(edited) = read_body("message.edit", &edited)? else {
                return Err(unreadable("its type"));
            };
            message.body = edited.body;
        }
        (message.scopes, message.refs) = (created.scopes, created.refs);
        Ok(message)
    }

    /// Returns one entry per recipient name and home; of one name, the agent of this daemon comes first. The homes are
    /// those that the message gives for the name, or to which the agent moved from there. If the message gives none,
    /// they are the homes that the name means (`fold/residence.rs`) and at which it is still registered. A name without
    /// any home has one entry. A receipt counts for the home that wrote it, or for the home to which its reader moved.
    /// For a name without any home, every receipt counts.
    fn recipients(
        &self,
        message: &Message,
        created: &MessageCreate,
        homes: &mut Homes,
    ) -> Result<Vec<Recipient>, StoreError> {
        let stamp = |nanos: Option<i64>| nanos.map(Timestamp::from_nanos);
        let receipts: Vec<(String, Recipient)> = self
            .conn
            .prepare_cached(&format!(
                "SELECT agent_id, coalesce((SELECT f.home FROM former_homes f WHERE f.agent_id = r.agent_id AND f.former = r.origin
                                            AND f.until > max(coalesce(r.read_at, r.seen_at), ?2)), r.origin), {}, {}
                 FROM receipts r WHERE message_id = ?1",
                arrival::shown_sql("r.origin", "r.seen_at"),
                arrival::shown_sql("r.origin", "r.read_at"),
            ))?
            .query_map((&message.message_id, message.claimed_at.nanos()), |row| {
                let (seen_at, read_at) = (stamp(row.get(2)?), stamp(row.get(3)?));
                Ok((row.get(0)?, Recipient { agent_id: String::new(), home: row.get(1)?, woken_at: None, seen_at, read_at }))
            })?
            .collect::<Result<_, _>>()?;
        let wakes: Vec<(String, Option<String>, Timestamp)> = self
            .conn
            .prepare_cached(&format!(
                "SELECT agent_id, coalesce((SELECT f.home FROM former_homes f WHERE f.agent_id = w.agent_id AND f.former = w.origin
                                            AND f.until > max(w.at, ?2)), w.origin), {}
                 FROM wakes w WHERE message_id = ?1",
                arrival::shown_sql("w.origin", "w.at"),
            ))?
            .query_map((&message.message_id, message.claimed_at.nanos()), |row| {
                Ok((row.get(0)?, row.get(1)?, Timestamp::from_nanos(row.get(2)?)))
            })?
            .collect::<Result<_, _>>()?;
        let mut recipients = Vec::with_capacity(created.recipients.len());
        for name in &created.recipients {
            let mut named_homes =
                created.homes_of(name).map(|home| self.lives_now(name, home)).collect::<Result<Vec<_>, _>>()?;
            let lives: &mut Vec<String> = match homes.entry(name.clone()) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => {
                    let mut lives = self.homes(name)?;
                    lives.sort_unstable_by_key(|home| (home != self.home, home.clone()));
                    unknown.insert(lives)
                }
            };
            if named_homes.is_empty() {
                // The message carries only the name.
                let meant = self.homes_at(name, message.claimed_at)?;
                named_homes = lives.iter().filter(|home| meant.contains(home)).cloned().collect();
            }
            named_homes.sort_unstable_by_key(|home| (home != self.home, home.clone()));
            named_homes.dedup();
            let recipient_homes =
                if named_homes.is_empty() { vec![None] } else { named_homes.into_iter().map(Some).collect() };
            for home in recipient_homes {
                let here = receipts
                    .iter()
                    .filter(|(agent, receipt)| agent == name && (home.is_none() || receipt.home == home));
                let (seen_at, read_at) =
                    (here.clone().filter_map(|(_, it)| it.seen_at).min(), here.filter_map(|(_, it)| it.read_at).min());
                let woken =
                    wakes.iter().filter(|(agent, origin, _)| agent == name && (home.is_none() || *origin == home));
                let woken_at = woken.map(|(.., at)| *at).min();
                recipients.push(Recipient { agent_id: name.clone(), home, woken_at, seen_at, read_at });
            }
        }
        Ok(recipients)
    }
}

impl Reader<'_> {
    /// The current home of an agent that lived at `home`.
    fn lives_now(&self, agent_id: &str, home: &str) -> Result<String, StoreError> {
        let mut statement =
            self.conn.prepare_cached("SELECT home FROM former_homes WHERE agent_id = ?1 AND former = ?2")?;
        Ok(statement.query_row((agent_id, home), |row| row.get(0)).optional()?.unwrap_or_else(|| home.to_owned()))
    }
}

impl Reader<'_> {
    /// The homes that a message of this time means if it addresses only the name.
    fn homes_at(&self, agent_id: &str, at: Timestamp) -> Result<Vec<String>, StoreError> {
        let mut statement = self.conn.prepare_cached(&residence::homes_at("?1", "?2"))?;
        Ok(statement.query_map((agent_id, at.nanos()), |row| row.get(0))?.collect::<Result<_, _>>()?)
    }
}

/// Cache of the homes at which each name is registered, for one answer.
type Homes = HashMap<String, Vec<String>>;

fn read_body(kind: &str, body: &str) -> Result<Payload, StoreError> {
    Payload::read(kind, body).map_err(|error| unreadable(&error.to_string()))
}

fn unreadable(why: &str) -> StoreError {
    StoreError::Damaged(format!("a folded event cannot be read: {why}"))
}

/// SQL condition: the owner of a mailbox has read a message. An agent's own messages count as read, even if they are
/// not in its mailbox.
fn is_read(owner: i64) -> String {
    let own = format!(
        "EXISTS (SELECT 1 FROM agents a WHERE a.owner = {owner} AND a.agent_id = m.agent_id AND a.home = m.home)"
    );
    format!("({} OR {own})", in_mailbox(owner, "NOT o.unread"))
}

/// SQL condition: a message is in a mailbox, in this state.
fn in_mailbox(owner: i64, state: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM mailbox o WHERE o.owner = {owner} AND o.at = m.shown_at AND o.sequence = m.sequence AND {state})"
    )
}

/// A row whose bodies are not parsed yet.
struct UnparsedMessage {
    message: Message,
    created: String,
    edited: Option<String>,
}

fn read_message(row: &Row<'_>) -> rusqlite::Result<UnparsedMessage> {
    let stamp = |nanos: Option<i64>| nanos.map(Timestamp::from_nanos);
    let message = Message {
        message_id: row.get(0)?,
        thread_id: row.get(1)?,
        reply_to: row.get(2)?,
        agent_id: row.get(3)?,
        session_id: row.get(4)?,
        origin: row.get(5)?,
        home: row.get(14)?,
        body: Body::default(),
        scopes: Vec::new(),
        refs: Vec::new(),
        audiences: Vec::new(),
        recipients: Vec::new(),
        created_at: Timestamp::from_nanos(row.get(6)?),
        claimed_at: Timestamp::from_nanos(row.get(15)?),
        updated_at: stamp(row.get(7)?),
        edit_claimed_at: stamp(row.get(16)?),
        edits: row.get(8)?,
        deleted_at: stamp(row.get(9)?),
        delete_reason: row.get(10)?,
        is_read: row.get(17)?,
        sequence: row.get(13)?,
        whole: None,
    };
    Ok(UnparsedMessage { message, created: row.get(11)?, edited: row.get(12)? })
}
