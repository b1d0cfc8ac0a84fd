//! Reports which messages were shown to an agent here, and which ones woke it, to the authors' daemons.
//!
//! That an agent has read a message is recorded with its mailbox (`message.rs`). Each report is an event, made once for
//! each message and agent.

use rusqlite::OptionalExtension;
use thrum_core::{
    Payload, Timestamp,
    payload::{AgentWoken, MessageReceipt, ReceiptType},
};

use super::resident;
use crate::{StoreError, Tx};

impl Tx<'_> {
    /// Records that a waiter of an agent was given these messages, except those recorded before.
    ///
    /// # Errors
    /// Those of [`resident`]; SQLite's.
    pub fn woken(&mut self, agent: &str, message_ids: &[String]) -> Result<(), StoreError> {
        let known = "SELECT 1 FROM wakes WHERE message_id = ?1 AND agent_id = ?2 AND origin = ?3";
        self.say_once(known, agent, message_ids, |message_id| {
            Payload::AgentWoken(AgentWoken { agent_id: agent.to_owned(), message_id: message_id.to_owned() })
        })
    }

    /// Records that messages were shown to an agent, though not in full, except those that it has already seen.
    ///
    /// # Errors
    /// Those of [`resident`]; SQLite's.
    pub fn mark_shown(&mut self, agent: &str, message_ids: &[String]) -> Result<(), StoreError> {
        let session_id = self.reader().open_session(agent)?;
        let known = "SELECT 1 FROM receipts WHERE message_id = ?1 AND agent_id = ?2 AND origin = ?3";
        self.say_once(known, agent, message_ids, |message_id| {
            Payload::MessageReceipt(MessageReceipt {
                message_id: message_id.to_owned(),
                agent_id: agent.to_owned(),
                session_id: session_id.clone(),
                receipt_type: ReceiptType::Seen,
            })
        })
    }

    /// Appends an event for each present message that has no such event about this agent yet. The query `known` finds
    /// the row for a message, an agent and this daemon.
    fn say_once(
        &mut self,
        known: &'static str,
        agent: &str,
        message_ids: &[String],
        payload: impl Fn(&str) -> Payload,
    ) -> Result<(), StoreError> {
        resident(&self.reader(), agent)?;
        for message_id in message_ids {
            if self.conn.prepare_cached(known)?.exists((message_id, agent, self.home()))? {
                continue;
            }
            let Some(at) = self.sent_at(message_id)? else { continue };
            self.append(payload(message_id), Some(at))?;
        }
        Ok(())
    }

    /// When a message was sent; `None` if it is not here.
    fn sent_at(&self, message_id: &str) -> Result<Option<Timestamp>, StoreError> {
        let mut statement = self.conn.prepare_cached("SELECT at FROM messages WHERE message_id = ?1")?;
        Ok(statement.query_row([message_id], |row| row.get(0)).optional()?.map(Timestamp::from_nanos))
    }
}
