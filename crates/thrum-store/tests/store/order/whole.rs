//! One payload of each event type with every field set. The compiler asks for a new field.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use thrum_core::{
    Payload,
    payload::{
        AgentCleanup, AgentPresence, AgentRegister, AgentUpdate, AgentWoken, Body, FileClaim, FileRelease, GroupCreate,
        GroupDelete, GroupMemberAdd, GroupMemberRemove, GroupUpdate, MessageCreate, MessageDelete, MessageEdit,
        MessageReceipt, PurgeExecuted, ReceiptType, SessionEnd, SessionStart, Tag, WorkContext,
    },
};

fn x() -> String {
    "x".to_owned()
}

fn body() -> Body {
    Body { format: x(), content: x(), structured: Some(x()) }
}

fn tags() -> Vec<Tag> {
    vec![Tag { kind: x(), value: x() }]
}

/// Returns a work context with every field set.
pub(super) fn context() -> WorkContext {
    WorkContext {
        session_id: x(),
        branch: Some(x()),
        worktree_path: Some(x()),
        unmerged_commits: vec![json!("x")],
        uncommitted_files: vec![x()],
        changed_files: vec![x()],
        file_changes: vec![json!("x")],
        git_updated_at: Some(x()),
        git_asked_at: Some(x()),
        current_task: Some(x()),
        task_updated_at: Some(x()),
        intent: Some(x()),
        intent_updated_at: Some(x()),
        scopes: tags(),
        refs: tags(),
    }
}

/// Returns one payload of each type. A field with a default value would not be written, so none has it.
pub(super) fn payloads() -> Vec<Payload> {
    vec![
        Payload::MessageCreate(MessageCreate {
            message_id: x(),
            thread_id: Some(x()),
            agent_id: x(),
            session_id: x(),
            body: body(),
            scopes: tags(),
            refs: tags(),
            recipients: vec![x()],
            recipient_homes: BTreeMap::from([(x(), vec![x()])]),
            authored_by: Some(x()),
            disclosed: true,
        }),
        Payload::MessageEdit(MessageEdit { message_id: x(), body: body() }),
        Payload::MessageDelete(MessageDelete { message_id: x(), reason: Some(x()) }),
        Payload::MessageReceipt(MessageReceipt {
            message_id: x(),
            agent_id: x(),
            session_id: Some(x()),
            receipt_type: ReceiptType::Seen,
        }),
        Payload::AgentRegister(AgentRegister {
            agent_id: x(),
            kind: x(),
            name: Some(x()),
            role: x(),
            module: x(),
            worktree: Some(x()),
            display: x(),
            hostname: x(),
            former_homes: vec![x()],
            joined_at: Some(x()),
        }),
        Payload::SessionStart(SessionStart { session_id: x(), agent_id: x() }),
        Payload::SessionEnd(SessionEnd { session_id: x(), reason: Some(x()) }),
        Payload::AgentUpdate(AgentUpdate { agent_id: x(), work_contexts: vec![context()] }),
        Payload::AgentCleanup(AgentCleanup { agent_id: x(), reason: Some(x()), method: Some(x()) }),
        Payload::PurgeExecuted(PurgeExecuted { cutoff: x(), ahead: vec![x()] }),
        Payload::GroupCreate(GroupCreate { group_id: x(), name: x(), description: Some(x()), created_by: x() }),
        Payload::GroupUpdate(GroupUpdate { group_id: x(), updated_by: x(), fields: BTreeMap::from([(x(), x())]) }),
        Payload::GroupDelete(GroupDelete { group_id: x(), deleted_by: x() }),
        Payload::GroupMemberAdd(GroupMemberAdd { group_id: x(), member_type: x(), member_value: x(), added_by: x() }),
        Payload::GroupMemberRemove(GroupMemberRemove {
            group_id: x(),
            member_type: x(),
            member_value: x(),
            removed_by: x(),
        }),
        Payload::FileClaim(FileClaim { agent_id: x(), paths: vec![x()], expires_at: x() }),
        Payload::FileRelease(FileRelease { agent_id: x(), paths: vec![x()] }),
        Payload::AgentPresence(AgentPresence {
            agent_id: x(),
            state: x(),
            wakeable: true,
            since: Some(x()),
            person_at: Some(x()),
        }),
        Payload::AgentWoken(AgentWoken { agent_id: x(), message_id: x() }),
    ]
}

/// Returns the paths of all fields that have a value, such as `body.content`; the elements of a list share their paths.
pub(super) fn paths(fields: &Value) -> BTreeSet<String> {
    fn add(path: &str, value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Null | Value::Bool(false) => {}
            Value::String(text) if text.is_empty() => {}
            Value::Array(values) => values.iter().for_each(|value| add(path, value, found)),
            // The keys of these are data.
            Value::Object(_) if matches!(path, "recipient_homes" | "fields") => drop(found.insert(path.to_owned())),
            Value::Object(fields) => {
                let path = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                fields.iter().for_each(|(key, value)| add(&path(key), value, found));
            }
            _ => drop(found.insert(path.to_owned())),
        }
    }
    let mut found = BTreeSet::new();
    add("", fields, &mut found);
    found
}
