//! Which messages, as SQL.

use rusqlite::types::Value as Sql;
use thrum_core::{Stamp, limits, payload::Tag};

use super::Mailbox;
use crate::fold::residence;

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
    /// Whose `is_read` and number of unread ones is asked for where no mailbox is.
    pub reader: Option<Mailbox>,
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
    /// Only those that went to this agent or role, by name or as part of a group.
    pub to: Option<String>,
    /// Only those that name this agent at this home.
    pub addressed: Option<Mailbox>,
    /// Only those that name one of these agents or roles; a message for everyone names nobody.
    pub named: Vec<String>,
    /// Only those that one of their recipients, here or elsewhere, has not read.
    pub unread_by_somebody: bool,
    /// Only those shown later than this.
    pub after: Option<Stamp>,
    /// Whether to say of each what became of it at its recipients.
    pub recipients: bool,
    /// By last change instead of creation.
    pub by_update: bool,
    /// Direction.
    pub order: Order,
    /// How many to skip.
    pub offset: u64,
    /// How many at most.
    pub limit: u64,
    /// How much of their texts.
    pub room: Room,
}

/// How much of the texts of messages is read. What is beyond it is cut, and the message says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Most bytes of each content.
    pub content: usize,
    /// Most bytes of all messages of a list as JSON.
    pub all: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { content: usize::MAX, all: usize::MAX }
    }
}

impl Room {
    /// That of one answer to a client, with at most so many bytes of each content.
    pub fn answer(content: Option<usize>) -> Self {
        Self { content: content.unwrap_or(usize::MAX), all: limits::MAX_ANSWER_BYTES }
    }

    /// What the next message of a list may take if `after` others may follow: all that is left but for a share of each of them.
    pub(super) fn next(&self, used: usize, limit: u64, after: u64) -> usize {
        // A half is shared out beforehand, the other half goes to whoever comes first.
        let share = self.all / 2 / usize::try_from(limit).unwrap_or(usize::MAX).max(1);
        let kept = share.saturating_mul(usize::try_from(after).unwrap_or(usize::MAX));
        self.all.saturating_sub(used).saturating_sub(kept).max(share)
    }
}

/// A filter as SQL: `FROM … WHERE …`, without `unread`.
pub(super) struct Selection {
    /// With everything a message is made of.
    pub(super) rows: String,
    /// With the tables alone that the conditions speak of: counting a mailbox without its messages is ten times as fast.
    pub(super) counted: String,
    /// The values of both.
    pub(super) values: Vec<Sql>,
    /// Whether nothing but a mailbox is asked for.
    pub(super) is_whole_mailbox: bool,
}

impl Selection {
    /// Of the mailbox with this number, or of all messages.
    pub(super) fn of(filter: &Filter, owner: Option<i64>) -> Self {
        let mut asks = Asks::default();
        asks.of_messages(filter);
        asks.of_texts(filter);
        let time = if owner.is_some() { "b.at" } else { "m.shown_at" };
        if let Some(after) = filter.after {
            asks.conditions.push_str(&format!(" AND {time} > {}", after.nanos()));
        }
        let texts = " JOIN events e ON e.sequence = m.sequence";
        let (base, messages, first) = match owner {
            // The time is part of both keys: whichever side has fewer rows can lead.
            Some(owner) => ("mailbox b", " JOIN messages m ON m.sequence = b.sequence AND m.shown_at = b.at", format!("b.owner = {owner}")),
            None => ("messages m", "", "m.deleted_at IS NULL".to_owned()),
        };
        let counted = match (asks.messages, asks.texts) {
            (_, true) => format!("{base}{messages}{texts}"),
            (true, false) => format!("{base}{messages}"),
            (false, false) => base.to_owned(),
        };
        let conditions = asks.conditions;
        Self {
            is_whole_mailbox: owner.is_some() && conditions.is_empty(),
            rows: format!("FROM {base}{messages}{texts} WHERE {first}{conditions}"),
            counted: format!("FROM {counted} WHERE {first}{conditions}"),
            values: asks.values,
        }
    }
}

/// Conditions in the making.
#[derive(Default)]
struct Asks {
    conditions: String,
    values: Vec<Sql>,
    /// Whether they speak of messages, and of their texts.
    messages: bool,
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
        // One's own copy in one's own mailbox is never unread.
        if let Some(author) = filter.exclude_author.as_ref().filter(|author| !(filter.unread && filter.mailbox.as_ref() == Some(author))) {
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
            self.message(&format!(" AND m.sequence IN (SELECT u.sequence FROM audience u WHERE u.kind IN (0, 1) AND u.value = {n})"));
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
                " AND EXISTS (SELECT 1 FROM audience a WHERE a.kind = 0 AND a.value = {name} AND a.at = m.at AND a.sequence = m.sequence
                              AND {})",
                residence::is_for(&name, &home)
            ));
        }
        if filter.unread_by_somebody {
            // Of the recipients that are shown with the message, which live anywhere: each home says what was read there.
            self.texts = true;
            self.conditions.push_str(&format!(
                " AND EXISTS (SELECT 1 FROM json_each(e.body, '$.recipients') n CROSS JOIN agents g ON g.agent_id = n.value
                      WHERE NOT (g.agent_id = m.agent_id AND g.home = m.home)
                      AND EXISTS (SELECT 1 FROM audience a WHERE a.kind = 0 AND a.value = g.agent_id
                                  AND a.at = m.at AND a.sequence = m.sequence AND {})
                      AND NOT EXISTS (SELECT 1 FROM receipts r
                                      WHERE r.message_id = m.message_id AND r.agent_id = g.agent_id AND r.read_at IS NOT NULL
                                      AND (r.origin = g.home
                                           OR EXISTS (SELECT 1 FROM former_homes f
                                                      WHERE f.agent_id = g.agent_id AND f.former = r.origin AND f.home = g.home
                                                      AND f.until > max(r.read_at, m.at)))))",
                residence::is_for("g.agent_id", "g.home")
            ));
        }
        if !filter.named.is_empty() {
            let names: Vec<String> = filter.named.iter().map(|name| self.value(name)).collect();
            self.tagged("refs", "IN ('mention', 'group')", &names.join(", "));
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
