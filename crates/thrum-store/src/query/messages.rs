//! Messages and mailboxes.

use rusqlite::{OptionalExtension, Row, params_from_iter, types::Value as Sql};
use thrum_core::{
    Stamp,
    payload::{Body, MessageCreate, MessageEdit, Tag},
};

use crate::{Reader, StoreError};

/// A message as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `msg_…`
    pub message_id: String,
    /// Its thread: its own, or the one that the first answer to it began.
    pub thread_id: Option<String>,
    /// What it answers.
    pub reply_to: Option<String>,
    /// The author.
    pub agent_id: String,
    /// The author's session; may be empty.
    pub session_id: String,
    /// The daemon that wrote it.
    pub origin: String,
    /// The author's home: where it lives now, if it moved.
    pub home: String,
    /// The text, after the last edit.
    pub body: Body,
    /// Classification and groups.
    pub scopes: Vec<Tag>,
    /// What it points to.
    pub refs: Vec<Tag>,
    /// Whom it named, and what they did with it.
    pub recipients: Vec<Recipient>,
    /// When it was written.
    pub created_at: Stamp,
    /// When it was last edited.
    pub updated_at: Option<Stamp>,
    /// How often it was edited.
    pub edits: u64,
    /// When it was deleted.
    pub deleted_at: Option<Stamp>,
    /// Why.
    pub delete_reason: Option<String>,
    /// Whether whoever asks has read it; always false when nobody in particular asks.
    pub is_read: bool,
}

impl Message {
    /// Whom it addresses, as `type:value`: `mention`, `group` or `broadcast`.
    pub fn audiences(&self) -> Vec<Tag> {
        let mut audiences: Vec<Tag> = self.refs.iter().filter(|tag| tag.kind == "mention").cloned().collect();
        for scope in self.scopes.iter().filter(|tag| tag.kind == "group") {
            let kind = if scope.value == "everyone" { "broadcast" } else { "group" };
            audiences.push(Tag::new(kind, &scope.value));
        }
        if audiences.is_empty() && self.recipients.is_empty() {
            audiences.push(Tag::new("broadcast", "everyone"));
        }
        audiences
    }
}

/// One agent a message named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Who.
    pub agent_id: String,
    /// When it saw the message, on whichever machine first.
    pub seen_at: Option<Stamp>,
    /// When it read it.
    pub read_at: Option<Stamp>,
}

/// Whose mailbox: an agent is its name and its home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailbox {
    /// The agent.
    pub agent_id: String,
    /// Its home.
    pub home: String,
}

/// Which way a list goes, by time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Newest first.
    #[default]
    NewestFirst,
    /// Oldest first.
    OldestFirst,
}

/// Which messages. Deleted ones are never listed.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only those in this mailbox; also decides `is_read`.
    pub mailbox: Option<Mailbox>,
    /// Only unread ones of that mailbox.
    pub unread: bool,
    /// Only of this author.
    pub author: Option<String>,
    /// Only of this author's home, with `author`.
    pub author_home: Option<String>,
    /// Not written by this agent; its namesakes elsewhere are others.
    pub exclude_author: Option<Mailbox>,
    /// Only in this thread.
    pub thread_id: Option<String>,
    /// Only with this scope.
    pub scope: Option<Tag>,
    /// Only with this ref.
    pub reference: Option<Tag>,
    /// Only addressed to this agent or role by name.
    pub mentions: Option<String>,
    /// Only later than this.
    pub after: Option<Stamp>,
    /// By last change instead of creation.
    pub by_update: bool,
    /// Direction.
    pub order: Order,
    /// How many to skip.
    pub offset: u64,
    /// How many at most.
    pub limit: u64,
}

/// A page of messages and exact counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The page.
    pub messages: Vec<Message>,
    /// How many the filter matches in all.
    pub total: u64,
    /// How many of those are unread by the mailbox's owner.
    pub unread: u64,
}

const COLUMNS: &str = "m.message_id,
    coalesce(m.thread_id, (SELECT r.thread_id FROM messages r WHERE r.reply_to = m.message_id AND r.thread_id IS NOT NULL
                           ORDER BY r.at, r.event_id LIMIT 1)),
    m.reply_to, m.agent_id, m.session_id, m.origin, m.at, m.edited_at, m.edits, m.deleted_at, m.delete_reason,
    e.body, (SELECT body FROM events WHERE sequence = m.edit_sequence), m.sequence, m.home";

impl Reader<'_> {
    /// One message, deleted or not. `is_read` is as `mailbox` has it.
    ///
    /// # Errors
    /// SQLite's.
    pub fn message(&self, message_id: &str, mailbox: Option<&Mailbox>) -> Result<Option<Message>, StoreError> {
        let owner = self.owner(mailbox)?.unwrap_or(0);
        let sql = format!("SELECT {COLUMNS}, {} FROM messages m JOIN events e USING (sequence) WHERE m.message_id = ?1", is_read(owner));
        let found = self.conn.prepare_cached(&sql)?.query_row([message_id], read_message).optional()?;
        found.map(|found| self.finish(found)).transpose()
    }

    /// A page of messages.
    ///
    /// # Errors
    /// SQLite's.
    pub fn list(&self, filter: &Filter) -> Result<Listing, StoreError> {
        let owner = self.owner(filter.mailbox.as_ref())?;
        if filter.mailbox.is_some() && owner.is_none() {
            return Ok(Listing::default());
        }
        let (from, values) = selection(filter, owner);
        let counted = counted(filter, owner, &from);
        let unread = match owner {
            Some(_) => self.count(&counted, " AND b.unread", &values)?,
            None => 0,
        };
        let total = if filter.unread { unread } else { self.count(&counted, "", &values)? };
        let time = if filter.by_update { "coalesce(m.edited_at, m.at)" } else { if owner.is_some() { "b.at" } else { "m.at" } };
        let number = if owner.is_some() { "b.sequence" } else { "m.sequence" };
        let direction = if filter.order == Order::NewestFirst { "DESC" } else { "ASC" };
        let unread_only = if filter.unread { " AND b.unread" } else { "" };
        let sql = format!(
            "SELECT {COLUMNS}, {} {from}{unread_only} ORDER BY {time} {direction}, {number} {direction} LIMIT {} OFFSET {}",
            is_read(owner.unwrap_or(0)),
            filter.limit,
            filter.offset
        );
        let found: Vec<Found> = {
            let mut statement = self.conn.prepare(&sql)?;
            statement.query_map(params_from_iter(values), read_message)?.collect::<Result<_, _>>()?
        };
        let messages = found.into_iter().map(|found| self.finish(found)).collect::<Result<_, _>>()?;
        Ok(Listing { messages, total, unread })
    }

    /// How much mail an agent has, and how much of it is unread.
    ///
    /// # Errors
    /// SQLite's.
    pub fn mail_count(&self, mailbox: &Mailbox) -> Result<(u64, u64), StoreError> {
        let Some(owner) = self.owner(Some(mailbox))? else { return Ok((0, 0)) };
        let count = |sql: &str| -> Result<u64, StoreError> { Ok(self.conn.prepare_cached(sql)?.query_row([owner], |row| row.get(0))?) };
        Ok((count("SELECT count(*) FROM mailbox WHERE owner = ?1")?, count("SELECT count(*) FROM mailbox WHERE owner = ?1 AND unread")?))
    }

    /// Whether an agent has unread mail.
    ///
    /// # Errors
    /// SQLite's.
    pub fn has_unread(&self, mailbox: &Mailbox) -> Result<bool, StoreError> {
        let Some(owner) = self.owner(Some(mailbox))? else { return Ok(false) };
        Ok(self.conn.prepare_cached("SELECT 1 FROM mailbox WHERE owner = ?1 AND unread LIMIT 1")?.exists([owner])?)
    }

    /// Messages for everyone, and for each role that was addressed: name and count, by name.
    ///
    /// # Errors
    /// SQLite's.
    pub fn shared_mail(&self) -> Result<(u64, Vec<(String, u64)>), StoreError> {
        let everyone: u64 = self.conn.prepare_cached("SELECT count(*) FROM audience WHERE kind = 2")?.query_row([], |row| row.get(0))?;
        let mut statement = self.conn.prepare_cached(
            "SELECT value, count(*) FROM audience WHERE kind = 1 AND value IN (SELECT role FROM agents) GROUP BY value ORDER BY value",
        )?;
        let roles = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
        Ok((everyone, roles))
    }

    pub(crate) fn owner(&self, mailbox: Option<&Mailbox>) -> Result<Option<i64>, StoreError> {
        let Some(mailbox) = mailbox else { return Ok(None) };
        let mut statement = self.conn.prepare_cached("SELECT owner FROM agents WHERE agent_id = ?1 AND home = ?2")?;
        Ok(statement.query_row((&mailbox.agent_id, &mailbox.home), |row| row.get(0)).optional()?)
    }

    fn count(&self, from: &str, more: &str, values: &[Sql]) -> Result<u64, StoreError> {
        let mut statement = self.conn.prepare_cached(&format!("SELECT count(*) {from}{more}"))?;
        Ok(statement.query_row(params_from_iter(values), |row| row.get(0))?)
    }

    fn finish(&self, found: Found) -> Result<Message, StoreError> {
        let Found { mut message, sequence, created, edited } = found;
        let created: MessageCreate = read_body(&created)?;
        message.body = created.body;
        if let Some(edited) = edited {
            message.body = read_body::<MessageEdit>(&edited)?.body;
        }
        (message.scopes, message.refs) = (created.scopes, created.refs);
        let mut receipts =
            self.conn.prepare_cached("SELECT min(seen_at), min(read_at) FROM receipts WHERE sequence = ?1 AND agent_id = ?2")?;
        for agent_id in created.recipients {
            let stamp = |nanos: Option<i64>| nanos.map(Stamp::from_nanos);
            let (seen_at, read_at) = receipts.query_row((sequence, &agent_id), |row| Ok((stamp(row.get(0)?), stamp(row.get(1)?))))?;
            message.recipients.push(Recipient { agent_id, seen_at, read_at });
        }
        Ok(message)
    }
}

fn read_body<T: serde::de::DeserializeOwned>(body: &str) -> Result<T, StoreError> {
    serde_json::from_str(body).map_err(|error| StoreError::Damaged(format!("a folded event cannot be read: {error}")))
}

fn is_read(owner: i64) -> String {
    format!("EXISTS (SELECT 1 FROM mailbox o WHERE o.owner = {owner} AND o.at = m.at AND o.sequence = m.sequence AND NOT o.unread)")
}

/// `FROM … WHERE …` of a filter, without `unread`.
fn selection(filter: &Filter, owner: Option<i64>) -> (String, Vec<Sql>) {
    let mut values: Vec<Sql> = Vec::new();
    let mut value = |text: &str| {
        values.push(Sql::Text(text.to_owned()));
        values.len()
    };
    let tagged = |list: &str, kind: usize, value: usize| {
        format!(
            " AND EXISTS (SELECT 1 FROM json_each(e.body, '$.{list}') t WHERE t.value ->> 'type' = ?{kind} AND t.value ->> 'value' = ?{value})"
        )
    };
    let mut conditions = String::new();
    if let Some(author) = &filter.author {
        conditions.push_str(&format!(" AND m.agent_id = ?{}", value(author)));
    }
    if let Some(home) = &filter.author_home {
        conditions.push_str(&format!(" AND m.home = ?{}", value(home)));
    }
    if let Some(author) = &filter.exclude_author {
        let (name, home) = (value(&author.agent_id), value(&author.home));
        conditions.push_str(&format!(" AND NOT (m.agent_id = ?{name} AND m.home = ?{home})"));
    }
    if let Some(thread) = &filter.thread_id {
        let n = value(thread);
        conditions.push_str(&format!(
            " AND (m.thread_id = ?{n} OR m.message_id IN (SELECT r.reply_to FROM messages r WHERE r.thread_id = ?{n}))"
        ));
    }
    if let Some(scope) = &filter.scope {
        let (kind, value) = (value(&scope.kind), value(&scope.value));
        conditions.push_str(&tagged("scopes", kind, value));
    }
    if let Some(reference) = &filter.reference {
        let (kind, value) = (value(&reference.kind), value(&reference.value));
        conditions.push_str(&tagged("refs", kind, value));
    }
    if let Some(name) = &filter.mentions {
        let n = value(name);
        conditions.push_str(&format!(" AND m.sequence IN (SELECT u.sequence FROM audience u WHERE u.kind IN (0, 1) AND u.value = ?{n})"));
    }
    let time = if owner.is_some() { "b.at" } else { "m.at" };
    if let Some(after) = filter.after {
        conditions.push_str(&format!(" AND {time} > {}", after.nanos()));
    }
    let from = match owner {
        Some(owner) => {
            format!(
                "FROM mailbox b JOIN messages m ON m.sequence = b.sequence JOIN events e ON e.sequence = b.sequence WHERE b.owner = {owner}"
            )
        }
        None => "FROM messages m JOIN events e USING (sequence) WHERE m.deleted_at IS NULL".to_owned(),
    };
    (from + &conditions, values)
}

/// What to count: only the mailbox where nothing of the messages themselves is asked for, which is ten times as fast.
fn counted(filter: &Filter, owner: Option<i64>, from: &str) -> String {
    let Filter { author: None, exclude_author: None, thread_id: None, scope: None, reference: None, mentions: None, after, .. } = filter
    else {
        return from.to_owned();
    };
    let since = after.map_or(String::new(), |after| format!(" AND at > {}", after.nanos()));
    match owner {
        Some(owner) => format!("FROM mailbox b WHERE owner = {owner}{since}"),
        None => format!("FROM messages WHERE deleted_at IS NULL{since}"),
    }
}

/// A row whose texts are not read yet.
struct Found {
    message: Message,
    sequence: u64,
    created: String,
    edited: Option<String>,
}

fn read_message(row: &Row<'_>) -> rusqlite::Result<Found> {
    let stamp = |nanos: Option<i64>| nanos.map(Stamp::from_nanos);
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
        recipients: Vec::new(),
        created_at: Stamp::from_nanos(row.get(6)?),
        updated_at: stamp(row.get(7)?),
        edits: row.get(8)?,
        deleted_at: stamp(row.get(9)?),
        delete_reason: row.get(10)?,
        is_read: row.get(15)?,
    };
    Ok(Found { message, created: row.get(11)?, edited: row.get(12)?, sequence: row.get(13)? })
}
