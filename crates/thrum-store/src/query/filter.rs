//! Translates message filters into SQL.

use rusqlite::types::Value as Sql;
use thrum_core::{
    Timestamp,
    audience::{GROUP, MENTION},
    limits,
    payload::Tag,
};

use crate::fold::{audience::AudienceKind, residence};

/// Order of a list by time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Newest first.
    #[default]
    NewestFirst,
    /// Oldest first.
    OldestFirst,
}

/// Identifies a mailbox by the agent's name and home.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mailbox {
    /// The name of the agent.
    pub agent_id: String,
    /// The home of the agent.
    pub home: String,
}

/// Selects messages. Deleted messages are never listed.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only messages in this mailbox; it also determines `is_read`.
    pub mailbox: Option<Mailbox>,
    /// Mailbox that determines `is_read` and the number of unread messages if `mailbox` is not set.
    pub reader: Option<Mailbox>,
    /// Only messages that are unread in `mailbox`; without `mailbox`, in that of `reader`; without either, none.
    pub unread: bool,
    /// Only messages by this author.
    pub author: Option<String>,
    /// Only messages whose author has this home; use with `author`.
    pub author_home: Option<String>,
    /// Excludes messages by this agent, but not by agents of the same name elsewhere.
    pub exclude_author: Option<Mailbox>,
    /// Only messages in this thread.
    pub thread_id: Option<String>,
    /// Only messages with this scope.
    pub scope: Option<Tag>,
    /// Only messages with this ref.
    pub reference: Option<Tag>,
    /// Only messages to this agent or role. An agent is also found if the message lists it as a member of a group or of
    /// everyone.
    pub to: Option<String>,
    /// Only messages that name this agent and are for the one at this home (`fold/residence.rs`).
    pub addressed: Option<Mailbox>,
    /// Only messages that name one of these agents or roles; a message for everyone names none of them.
    pub mentions: Vec<String>,
    /// Only messages that at least one registered recipient, here or elsewhere, has not read.
    pub unread_by_somebody: bool,
    /// Only messages shown later than this.
    pub after: Option<Timestamp>,
    /// Only messages of `mailbox` that come after this sequence in our log, in the order of the log instead of `order`.
    /// Without `mailbox` it has no effect.
    pub since: Option<u64>,
    /// Whether each message includes its recipients with their receipts.
    pub recipients: bool,
    /// Whether to order by the last edit instead of the creation.
    pub by_update: bool,
    /// The order of the list.
    pub order: Order,
    /// Number of messages to skip.
    pub offset: u64,
    /// Maximum number of messages; 0 lists none.
    pub limit: u64,
    /// Limits on the length of texts.
    pub room: Room,
}

/// Limits on the length of message texts. Longer texts are cut, and the message records this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Maximum number of bytes per content.
    pub content: usize,
    /// Approximate maximum size of all messages of a list in bytes of JSON.
    pub all: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { content: usize::MAX, all: usize::MAX }
    }
}

impl Room {
    /// The limits for one answer to a client, with at most `content` bytes per content.
    pub fn answer(content: Option<usize>) -> Self {
        Self { content: content.unwrap_or(usize::MAX), all: limits::MAX_ANSWER_BYTES }
    }

    /// Limit for the next message of a list if `after` others may follow: all the remaining room except a share for
    /// each of them.
    pub(super) fn next(&self, used: usize, limit: u64, after: u64) -> usize {
        // Half of the room is reserved in equal shares; the other half goes to the first messages that need it.
        let share = self.all / 2 / usize::try_from(limit).unwrap_or(usize::MAX).max(1);
        let kept = share.saturating_mul(usize::try_from(after).unwrap_or(usize::MAX));
        self.all.saturating_sub(used).saturating_sub(kept).max(share)
    }
}

/// A filter as SQL: `FROM … WHERE …`, without the condition `unread`.
pub(super) struct Selection {
    /// The clauses with all tables that a message needs.
    pub(super) rows: String,
    /// The clauses with only the tables that the conditions use: counting a mailbox is ten times as fast without the
    /// table `messages`.
    pub(super) counted: String,
    /// The parameter values of both clauses.
    pub(super) values: Vec<Sql>,
    /// Whether the filter selects a whole mailbox without further conditions.
    pub(super) is_whole_mailbox: bool,
}

impl Selection {
    /// Translates a filter for the mailbox with this owner number, or for all messages.
    pub(super) fn of(filter: &Filter, owner: Option<i64>) -> Self {
        let mut asks = Asks::default();
        asks.of_messages(filter);
        asks.of_texts(filter);
        let time = if owner.is_some() { "b.at" } else { "m.shown_at" };
        if let Some(after) = filter.after {
            asks.conditions.push_str(&format!(" AND {time} > {}", after.nanos()));
        }
        let texts = " JOIN events e ON e.sequence = m.sequence";
        let (base, messages, first) = match (owner, filter.since) {
            // Start from the later part of the log, however large the mailbox is.
            (Some(owner), Some(since)) => (
                "messages m CROSS JOIN mailbox b ON b.at = m.shown_at AND b.sequence = m.sequence",
                "",
                format!("m.sequence > {since} AND b.owner = {owner}"),
            ),
            // The time is part of both keys, so the query can start from the side with fewer rows.
            (Some(owner), None) => (
                "mailbox b",
                " JOIN messages m ON m.sequence = b.sequence AND m.shown_at = b.at",
                format!("b.owner = {owner}"),
            ),
            (None, _) => ("messages m", "", "m.deleted_at IS NULL".to_owned()),
        };
        let counted = match (asks.messages, asks.texts) {
            (_, true) => format!("{base}{messages}{texts}"),
            (true, false) => format!("{base}{messages}"),
            (false, false) => base.to_owned(),
        };
        let conditions = asks.conditions;
        Self {
            is_whole_mailbox: owner.is_some() && filter.since.is_none() && conditions.is_empty(),
            rows: format!("FROM {base}{messages}{texts} WHERE {first}{conditions}"),
            counted: format!("FROM {counted} WHERE {first}{conditions}"),
            values: asks.values,
        }
    }
}

/// The conditions collected so far.
#[derive(Default)]
struct Asks {
    conditions: String,
    values: Vec<Sql>,
    /// Whether the conditions use the `messages` table.
    messages: bool,
    /// Whether the conditions use the texts of the messages, which are in `events`.
    texts: bool,
}

impl Asks {
    fn value(&mut self, text: &str) -> String {
        self.values.push(Sql::Text(text.to_owned()));
        format!("?{}", self.values.len())
    }

    fn message(&mut self, condition: &str) {
        self.messages = true;
        self.conditions.push_str(condition);
    }

    fn of_messages(&mut self, filter: &Filter) {
        if let Some(author) = &filter.author {
            let name = self.value(author);
            self.message(&format!(" AND m.agent_id = {name}"));
        }
        if let Some(home) = &filter.author_home {
            let home = self.value(home);
            self.message(&format!(" AND m.home = {home}"));
        }
        // Unread mail in the agent's own mailbox needs no condition: the agent's own copies there are never unread.
        if let Some(author) =
            filter.exclude_author.as_ref().filter(|author| !(filter.unread && filter.mailbox.as_ref() == Some(author)))
        {
            let (name, home) = (self.value(&author.agent_id), self.value(&author.home));
            self.message(&format!(" AND NOT (m.agent_id = {name} AND m.home = {home})"));
        }
        if let Some(thread) = &filter.thread_id {
            let n = self.value(thread);
            self.message(&format!(
                " AND (m.thread_id = {n} OR m.message_id IN (SELECT r.reply_to FROM messages r WHERE r.thread_id = {n}))"
            ));
        }
        if let Some(name) = &filter.to {
            let n = self.value(name);
            self.message(&format!(
                " AND m.sequence IN (SELECT u.sequence FROM audience u WHERE u.kind IN ({}, {}) AND u.value = {n})",
                AudienceKind::Agent,
                AudienceKind::Role
            ));
        }
    }

    fn of_texts(&mut self, filter: &Filter) {
        for (list, tag) in [("scopes", &filter.scope), ("refs", &filter.reference)] {
            if let Some(tag) = tag {
                let (kind, value) = (self.value(&tag.kind), self.value(&tag.value));
                self.tagged(list, &format!("= {kind}"), &value);
            }
        }
        if let Some(Mailbox { agent_id, home }) = &filter.addressed {
            let (name, home) = (self.value(agent_id), self.value(home));
            self.message(&format!(
                " AND EXISTS (SELECT 1 FROM audience a WHERE a.kind = {} AND a.value = {name} AND a.at = m.at AND a.sequence = m.sequence
                              AND {})",
                AudienceKind::Agent,
                residence::is_for(&name, &home)
            ));
        }
        if filter.unread_by_somebody {
            // Covers the recipients that are shown with the message, at any home; each home reports the reads of its
            // own agents.
            self.texts = true;
            self.conditions.push_str(&format!(
                " AND EXISTS (SELECT 1 FROM json_each(e.body, '$.recipients') n CROSS JOIN agents g ON g.agent_id = n.value
                      WHERE NOT (g.agent_id = m.agent_id AND g.home = m.home)
                      AND EXISTS (SELECT 1 FROM audience a WHERE a.kind = {} AND a.value = g.agent_id
                                  AND a.at = m.at AND a.sequence = m.sequence AND {})
                      AND NOT EXISTS (SELECT 1 FROM receipts r
                                      WHERE r.message_id = m.message_id AND r.agent_id = g.agent_id AND r.read_at IS NOT NULL
                                      AND (r.origin = g.home
                                           OR EXISTS (SELECT 1 FROM former_homes f
                                                      WHERE f.agent_id = g.agent_id AND f.former = r.origin AND f.home = g.home
                                                      AND f.until > max(r.read_at, m.at)))))",
                AudienceKind::Agent,
                residence::is_for("g.agent_id", "g.home")
            ));
        }
        if !filter.mentions.is_empty() {
            let names: Vec<String> = filter.mentions.iter().map(|name| self.value(name)).collect();
            self.tagged("refs", &format!("IN ('{MENTION}', '{GROUP}')"), &names.join(", "));
        }
    }

    fn tagged(&mut self, list: &str, kind: &str, values: &str) {
        self.texts = true;
        self.conditions.push_str(&format!(
            " AND EXISTS (SELECT 1 FROM json_each(e.body, '$.{list}') t
                          WHERE t.value ->> 'type' {kind} AND t.value ->> 'value' IN ({values}))"
        ));
    }
}
