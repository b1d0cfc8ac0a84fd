//! Guards against endless exchanges between agents.
//!
//! Two agents whose messages start each other's turns can continue for ever, at their owner's expense. So the messages
//! between them, in both directions, are counted since one of the two last got a prompt from a person or changed a
//! file. The caller decides the limit.

use rusqlite::params;
use serde::Deserialize;
use thrum_core::{Machines, Timestamp, limits, payload::Tag, work::FileChange};

use super::message::{Send, Sent};
use crate::{Reader, StoreError, Tx, arrival::shown_sql, fold::audience::AudienceKind, query::Mailbox};

/// The recent message count between two agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Number of messages, up to the requested maximum.
    pub messages: u64,
    /// Start of the count: a person's prompt or a change of a file; zero if there was none.
    pub since: Timestamp,
}

/// The scope of the message that notifies an agent that another agent's messages to it are held.
const HELD: (&str, &str) = ("thrum", "held");

impl Reader<'_> {
    /// Counts the messages between two agents, including those with further recipients, that are shown after `since`;
    /// at most `most`. For `since`, see [`stirred`](Self::stirred). Only messages that name the other agent count,
    /// among the newest [`limits::EXCHANGE_ROWS`] messages under each author's name.
    ///
    /// # Errors
    /// SQLite's.
    pub fn exchange(
        &self,
        one: &Mailbox,
        other: &Mailbox,
        since: Timestamp,
        most: u64,
    ) -> Result<Exchange, StoreError> {
        let mut messages = 0;
        for (from, to) in [(one, other), (other, one)] {
            let mut statement = self.conn.prepare_cached(
                "SELECT count(*) FROM (SELECT 1 FROM
                     (SELECT at, sequence, origin FROM messages WHERE agent_id = ?1 AND shown_at > ?5
                      ORDER BY shown_at DESC, sequence DESC LIMIT ?7) m
                 WHERE m.origin = ?2 AND EXISTS (SELECT 1 FROM audience u
                     WHERE u.kind = ?8 AND u.value = ?3 AND u.home IN (?4, '') AND u.at = m.at AND u.sequence = m.sequence) LIMIT ?6)",
            )?;
            let values = params![
                from.agent_id,
                from.home,
                to.agent_id,
                to.home,
                since.nanos(),
                most,
                limits::EXCHANGE_ROWS,
                AudienceKind::Agent
            ];
            messages += statement.query_row(values, |row| row.get::<_, u64>(0))?;
        }
        Ok(Exchange { messages: messages.min(most), since })
    }

    /// The later of a person's last prompt to an agent and the agent's last change of a file, as far as the log
    /// contains them; zero if neither is known.
    ///
    /// # Errors
    /// SQLite's.
    pub fn stirred(&self, agent: &Mailbox) -> Result<Timestamp, StoreError> {
        let person_at = self.presence(agent)?.map_or(Timestamp::ZERO, |presence| presence.person_at);
        let session = self.newest_open_session(&agent.agent_id, &agent.home)?;
        let changes = session.iter().flat_map(|session| &session.context.file_changes);
        // Contexts from other daemons may contain anything.
        let times = changes.filter_map(|change| {
            FileChange::deserialize(change).ok()?.last_modified.as_deref().and_then(Timestamp::parse)
        });
        let sql = format!(
            "SELECT coalesce(max({}), 0) FROM contexts c WHERE c.agent_id = ?1 AND c.home = ?2",
            shown_sql("c.home", "c.at")
        );
        let published_at: i64 =
            self.conn.prepare_cached(&sql)?.query_row((&agent.agent_id, &agent.home), |row| row.get(0))?;
        // A change cannot be later than the context that reports it.
        let changed_at = times.filter(|at| at.nanos() <= published_at).max().unwrap_or_default();
        Ok(person_at.max(changed_at))
    }
}

impl Tx<'_> {
    /// Notifies an agent, once per exchange, that another agent's messages to it are held.
    ///
    /// # Errors
    /// Those of [`send`](Self::send).
    pub fn tell_held(
        &mut self,
        from: &str,
        to: String,
        exchange: Exchange,
        machines: Machines,
        text: String,
    ) -> Result<Sent, StoreError> {
        let idempotency_key = Some(format!("held:{to}:{}", exchange.since.nanos()));
        let scopes = vec![Tag::new(HELD.0, HELD.1)];
        self.send(Send {
            from: from.to_owned(),
            content: text,
            mentions: vec![to],
            scopes,
            machines,
            idempotency_key,
            ..Send::default()
        })
    }
}
