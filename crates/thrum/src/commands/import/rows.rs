//! Makes events of what Go Thrum v0.10.6 shares through git: the last state of messages, receipts and agents instead of
//! events.
//!
//! A row has no event id and names no daemon. The id of an event made here is a hash over its content, so that everyone
//! who imports the row makes the same event, and a repeated import finds it. It sorts after the ids of Go Thrum: if the
//! log also has the message as Go Thrum sent it, at the same time and with its recipients, that event counts.
//!
//! A row of a message names no recipients, no thread and no format, and its text is that of the last edit. An event
//! without recipients would be mail for everyone. Therefore the message is addressed to a group that no agent belongs
//! to, and enters no mailbox.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use thrum_core::{
    Payload, SetDigest, Timestamp,
    audience::GROUP,
    canonical::Canonical,
    ids,
    payload::{AgentRegister, Body, MessageCreate, MessageDelete, MessageEdit, MessageReceipt, ReceiptType, Tag},
};
use thrum_store::GoEvent;

/// The group that messages without known recipients are addressed to.
pub(super) const UNADDRESSED: &str = "a-sync";

/// The time between the creation of a message and its first edit, and between edits. The rows have no times of edits,
/// only their order counts.
const STEP: Duration = Duration::from_millis(1);

/// A row of `messages-v2/`.
#[derive(Debug, Deserialize)]
pub(super) struct MessageRow {
    pub(super) message_id: String,
    pub(super) author_id: String,
    pub(super) body: String,
    #[serde(default)]
    created_at: String,
    #[serde(default)]
    pub(super) deleted: bool,
}

/// A row of `receipts/`.
#[derive(Debug, Deserialize)]
pub(super) struct ReceiptRow {
    pub(super) message_id: String,
    pub(super) agent_id: String,
    #[serde(default)]
    read_at: String,
}

/// A file of `state/agents/`.
#[derive(Debug, Deserialize)]
pub(super) struct AgentState {
    pub(super) agent_id: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    role: String,
    #[serde(default)]
    module: String,
    #[serde(default)]
    display: String,
    #[serde(default)]
    pub(super) hostname: String,
    #[serde(default)]
    worktree: String,
    #[serde(default)]
    last_seen_at: String,
}

impl MessageRow {
    /// The creation of the message, by its author's daemon.
    pub(super) fn create(&self, origin: &str) -> Result<GoEvent, &'static str> {
        let payload = Payload::MessageCreate(MessageCreate {
            message_id: self.message_id.clone(),
            agent_id: self.author_id.clone(),
            body: self.text(),
            scopes: vec![Tag::new(GROUP, UNADDRESSED)],
            ..MessageCreate::default()
        });
        event(&payload, self.at()?, origin)
    }

    /// The edit number `number` of the message, counted from 1.
    pub(super) fn edit(&self, origin: &str, number: u32) -> Result<GoEvent, &'static str> {
        let payload = Payload::MessageEdit(MessageEdit { message_id: self.message_id.clone(), body: self.text() });
        event(&payload, self.at()?.plus(STEP.saturating_mul(number)), origin)
    }

    /// The deletion of the message.
    pub(super) fn delete(&self, origin: &str) -> Result<GoEvent, &'static str> {
        let payload = Payload::MessageDelete(MessageDelete { message_id: self.message_id.clone(), reason: None });
        event(&payload, self.at()?.plus(STEP), origin)
    }

    fn text(&self) -> Body {
        Body { format: "markdown".to_owned(), content: self.body.clone(), structured: None }
    }

    fn at(&self) -> Result<Timestamp, &'static str> {
        Timestamp::parse(&self.created_at).or_else(|| ids::ulid_time(&self.message_id)).ok_or("no time in created_at")
    }
}

impl ReceiptRow {
    /// The receipt. Go Thrum also writes a row for a message that the agent has only seen, with the same fields.
    pub(super) fn event(&self, origin: &str) -> Result<GoEvent, &'static str> {
        let payload = Payload::MessageReceipt(MessageReceipt {
            message_id: self.message_id.clone(),
            agent_id: self.agent_id.clone(),
            session_id: None,
            receipt_type: ReceiptType::Read,
        });
        event(&payload, Timestamp::parse(&self.read_at).ok_or("no time in read_at")?, origin)
    }
}

impl AgentState {
    /// The registration of the agent, at the time at which it was last seen. The file does not say when it registered.
    pub(super) fn event(&self, origin: &str) -> Result<GoEvent, &'static str> {
        let payload = Payload::AgentRegister(AgentRegister {
            agent_id: self.agent_id.clone(),
            kind: self.kind.clone(),
            name: Some(self.agent_id.clone()),
            role: self.role.clone(),
            module: self.module.clone(),
            worktree: (!self.worktree.is_empty()).then(|| self.worktree.clone()),
            display: self.display.clone(),
            hostname: self.hostname.clone(),
            ..AgentRegister::default()
        });
        event(&payload, Timestamp::parse(&self.last_seen_at).ok_or("no time in last_seen_at")?, origin)
    }
}

/// Makes an event whose id is a hash over its content.
fn event(payload: &Payload, at: Timestamp, origin: &str) -> Result<GoEvent, &'static str> {
    let mut fields: Map<String, Value> = payload.fields();
    for (name, value) in [
        ("type", Value::from(payload.kind())),
        ("timestamp", at.to_string().into()),
        ("origin_daemon", origin.into()),
        ("v", 1.into()),
    ] {
        fields.insert(name.to_owned(), value);
    }
    let canonical = |fields: &Map<String, Value>| Canonical::new(fields).map_err(|_| "no canonical form");
    let hash = SetDigest::of(canonical(&fields)?.whole().as_bytes()).to_bytes();
    let digits: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let event_id = format!("evt_{UNADDRESSED}_{digits}");
    fields.insert("event_id".to_owned(), event_id.as_str().into());
    let event_json = canonical(&fields)?.into_whole();
    Ok(GoEvent { sequence: 0, envelope: [Some(event_id), None, None, None], event_json })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_always_gives_one_event_and_another_row_another_one() {
        let row = |body: &str| MessageRow {
            message_id: "msg_01M83E1345P61D7S0CWA3D4P9Q".into(),
            author_id: "ann".into(),
            body: body.into(),
            created_at: "2026-11-23T06:28:29.061903851+01:00".into(),
            deleted: false,
        };
        let made = row("one").create("d_1").unwrap();
        assert_eq!(made, row("one").create("d_1").unwrap());
        let others =
            [row("two").create("d_1"), row("one").create("d_2"), row("one").edit("d_1", 1), row("one").delete("d_1")];
        assert!(others.into_iter().all(|other| other.unwrap().envelope[0] != made.envelope[0]));
        assert!(made.envelope[0].as_deref() > Some("evt_7ZZZZZZZZZZZZZZZZZZZZZZZZZ"), "{made:?}");
        assert!(made.event_json.contains("\"timestamp\":\"2026-11-23T05:28:29.061903851Z\""), "{}", made.event_json);
        let without_time = MessageRow { created_at: "yesterday".into(), ..row("one") };
        assert!(without_time.create("d_1").unwrap().event_json.contains("2026-11-23T05:28:29.061"));
        assert!(MessageRow { message_id: "msg_1".into(), ..without_time }.create("d_1").is_err());
    }
}
