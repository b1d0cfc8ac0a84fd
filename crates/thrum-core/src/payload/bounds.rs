//! The bounds of every text and list of every event type, in one table for events made here and events served by peers.
//!
//! An event that an agent of this daemon causes is refused if it exceeds the table ([`check`]). An event of another
//! daemon is stored and relayed unchanged, because other daemons store it too, but it is *read* cut: [`Payload::read`]
//! always applies [`cut`], so no caller can forget it. The result depends on the event alone, so every daemon shows the
//! same text (I6).
//!
//! The ids of an event's subject, agent and session are an exception, and so are ids in lists, because a cut id could
//! be the id of something else. An event with a too long id of the first kind is not folded ([`oversized_id`]), and
//! oversized ids are dropped from lists.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Body, Payload, Tag, WorkContext};
use crate::{
    Error, ErrorKind,
    json::size,
    limits::{
        MAX_AUDIENCE, MAX_CLAIM_PATHS, MAX_CONTENT_BYTES, MAX_CONTEXT_BYTES, MAX_CONTEXT_COMMITS, MAX_CONTEXT_FILES,
        MAX_CONTEXTS, MAX_FOREIGN_ID_BYTES, MAX_FORMER_HOMES, MAX_GROUP_FIELDS, MAX_NAME_BYTES, MAX_PURGED_AHEAD,
        MAX_TEXT_BYTES, MAX_VALUE_DEPTH,
    },
};

/// Most entries in each list of a message: those that a request may name, plus members of the groups that it names.
const MAX_ENTRIES: usize = 2 * MAX_AUDIENCE;

/// The table: visits every text and list of every payload with its bound, except the ids that [`oversized_id`] checks.
fn walk(payload: &mut Payload, to: &mut impl Visitor) {
    match payload {
        Payload::MessageCreate(body) => {
            to.names("thread_id", &mut body.thread_id, MAX_FOREIGN_ID_BYTES);
            to.names("authored_by", &mut body.authored_by, MAX_FOREIGN_ID_BYTES);
            walk_body(&mut body.body, to);
            walk_tags("scopes", &mut body.scopes, MAX_ENTRIES, to);
            walk_tags("refs", &mut body.refs, MAX_ENTRIES, to);
            to.ids("recipients", &mut body.recipients, MAX_ENTRIES);
            walk_homes(&mut body.recipient_homes, to);
        }
        Payload::MessageEdit(body) => {
            walk_body(&mut body.body, to);
        }
        Payload::MessageDelete(body) => {
            to.texts("reason", &mut body.reason, MAX_TEXT_BYTES);
        }
        Payload::MessageReceipt(body) => {
            to.names("session_id", &mut body.session_id, MAX_FOREIGN_ID_BYTES);
        }
        Payload::AgentRegister(body) => {
            to.names("kind", [&mut body.kind], MAX_NAME_BYTES);
            to.names("name", &mut body.name, MAX_FOREIGN_ID_BYTES);
            to.names("role", [&mut body.role], MAX_NAME_BYTES);
            to.names("module", [&mut body.module], MAX_NAME_BYTES);
            to.texts("worktree", &mut body.worktree, MAX_TEXT_BYTES);
            to.texts("display", [&mut body.display], MAX_TEXT_BYTES);
            to.texts("hostname", [&mut body.hostname], MAX_TEXT_BYTES);
            to.ids("former_homes", &mut body.former_homes, MAX_FORMER_HOMES);
            to.names("joined_at", &mut body.joined_at, MAX_NAME_BYTES);
        }
        Payload::SessionStart(_) | Payload::AgentWoken(_) => {}
        Payload::SessionEnd(body) => {
            to.texts("reason", &mut body.reason, MAX_TEXT_BYTES);
        }
        Payload::AgentUpdate(body) => {
            to.list("work_contexts", &mut body.work_contexts, MAX_CONTEXTS);
            for context in &mut body.work_contexts {
                walk_context(context, to);
            }
        }
        Payload::AgentCleanup(body) => {
            to.texts("reason", &mut body.reason, MAX_TEXT_BYTES);
            to.names("method", &mut body.method, MAX_NAME_BYTES);
        }
        Payload::PurgeExecuted(body) => {
            to.names("cutoff", [&mut body.cutoff], MAX_NAME_BYTES);
            to.ids("ahead", &mut body.ahead, MAX_PURGED_AHEAD);
        }
        Payload::GroupCreate(body) => {
            to.names("name", [&mut body.name], MAX_NAME_BYTES);
            to.texts("description", &mut body.description, MAX_TEXT_BYTES);
            to.names("created_by", [&mut body.created_by], MAX_FOREIGN_ID_BYTES);
        }
        Payload::GroupUpdate(body) => {
            to.names("updated_by", [&mut body.updated_by], MAX_FOREIGN_ID_BYTES);
            let mut fields: Vec<(String, String)> = std::mem::take(&mut body.fields).into_iter().collect();
            to.list("fields", &mut fields, MAX_GROUP_FIELDS);
            for (name, value) in &mut fields {
                to.names("fields", [name], MAX_NAME_BYTES);
                to.texts("fields", [value], MAX_TEXT_BYTES);
            }
            body.fields = fields.into_iter().collect();
        }
        Payload::GroupDelete(body) => {
            to.names("deleted_by", [&mut body.deleted_by], MAX_FOREIGN_ID_BYTES);
        }
        Payload::GroupMemberAdd(body) => {
            to.names("member_type", [&mut body.member_type], MAX_NAME_BYTES);
            to.names("member_value", [&mut body.member_value], MAX_FOREIGN_ID_BYTES);
            to.names("added_by", [&mut body.added_by], MAX_FOREIGN_ID_BYTES);
        }
        Payload::GroupMemberRemove(body) => {
            to.names("member_type", [&mut body.member_type], MAX_NAME_BYTES);
            to.names("member_value", [&mut body.member_value], MAX_FOREIGN_ID_BYTES);
            to.names("removed_by", [&mut body.removed_by], MAX_FOREIGN_ID_BYTES);
        }
        Payload::FileClaim(body) => {
            to.list("paths", &mut body.paths, MAX_CLAIM_PATHS);
            to.names("paths", &mut body.paths, MAX_TEXT_BYTES);
            to.names("expires_at", [&mut body.expires_at], MAX_NAME_BYTES);
        }
        Payload::FileRelease(body) => {
            to.list("paths", &mut body.paths, MAX_CLAIM_PATHS);
            to.names("paths", &mut body.paths, MAX_TEXT_BYTES);
        }
        Payload::AgentPresence(body) => {
            to.names("state", [&mut body.state], MAX_NAME_BYTES);
            to.names("since", &mut body.since, MAX_NAME_BYTES);
            to.names("person_at", &mut body.person_at, MAX_NAME_BYTES);
        }
        Payload::Unknown => {}
    }
}

/// Bounds the homes to [`MAX_ENTRIES`], and the recipients listed under all of them to as many in total. Cutting drops
/// a home whose id is too long, together with its recipients.
fn walk_homes(recipient_homes: &mut BTreeMap<String, Vec<String>>, to: &mut impl Visitor) {
    let mut homes: Vec<String> = recipient_homes.keys().cloned().collect();
    to.ids("recipient_homes", &mut homes, MAX_ENTRIES);
    recipient_homes.retain(|home, _| homes.binary_search(home).is_ok());
    let mut room = MAX_ENTRIES;
    for names in recipient_homes.values_mut() {
        to.ids("recipient_homes", names, room);
        room = room.saturating_sub(names.len());
    }
}

fn walk_body(body: &mut Body, to: &mut impl Visitor) {
    to.names("format", [&mut body.format], MAX_NAME_BYTES);
    to.texts("content", [&mut body.content], MAX_CONTENT_BYTES);
    to.texts("structured", &mut body.structured, MAX_CONTENT_BYTES);
}

fn walk_tags(field: &'static str, tags: &mut Vec<Tag>, most: usize, to: &mut impl Visitor) {
    to.list(field, tags, most);
    for tag in tags {
        to.names(field, [&mut tag.kind], MAX_FOREIGN_ID_BYTES);
        to.names(field, [&mut tag.value], MAX_TEXT_BYTES);
    }
}

fn walk_context(context: &mut WorkContext, to: &mut impl Visitor) {
    to.names("session_id", [&mut context.session_id], MAX_FOREIGN_ID_BYTES);
    to.texts("branch", &mut context.branch, MAX_TEXT_BYTES);
    to.texts("worktree_path", &mut context.worktree_path, MAX_TEXT_BYTES);
    to.texts("current_task", &mut context.current_task, MAX_TEXT_BYTES);
    to.texts("intent", &mut context.intent, MAX_TEXT_BYTES);
    to.names("git_updated_at", &mut context.git_updated_at, MAX_NAME_BYTES);
    to.names("git_asked_at", &mut context.git_asked_at, MAX_NAME_BYTES);
    to.names("task_updated_at", &mut context.task_updated_at, MAX_NAME_BYTES);
    to.names("intent_updated_at", &mut context.intent_updated_at, MAX_NAME_BYTES);
    for (field, files) in
        [("uncommitted_files", &mut context.uncommitted_files), ("changed_files", &mut context.changed_files)]
    {
        to.list(field, files, MAX_CONTEXT_FILES);
        to.names(field, files, MAX_TEXT_BYTES);
    }
    to.list("file_changes", &mut context.file_changes, MAX_CONTEXT_FILES);
    to.list("unmerged_commits", &mut context.unmerged_commits, MAX_CONTEXT_COMMITS);
    for change in &mut context.file_changes {
        walk_value("file_changes", change, MAX_VALUE_DEPTH, to);
    }
    for commit in &mut context.unmerged_commits {
        walk_value("unmerged_commits", commit, MAX_VALUE_DEPTH, to);
    }
    walk_tags("scopes", &mut context.scopes, MAX_AUDIENCE, to);
    walk_tags("refs", &mut context.refs, MAX_AUDIENCE, to);
    to.context(context);
}

/// Visits a commit or a file change: an object of strings, numbers, and possibly a list of files.
fn walk_value(field: &'static str, value: &mut Value, depth: usize, to: &mut impl Visitor) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
        Value::String(text) => to.names(field, [text], MAX_TEXT_BYTES),
        Value::Array(items) => {
            to.list(field, items, if depth > 0 { MAX_CONTEXT_FILES } else { 0 });
            for item in items {
                walk_value(field, item, depth.saturating_sub(1), to);
            }
        }
        Value::Object(members) => {
            let mut entries: Vec<(String, Value)> = std::mem::take(members).into_iter().collect();
            to.list(field, &mut entries, if depth > 0 { MAX_GROUP_FIELDS } else { 0 });
            for (name, value) in &mut entries {
                to.names(field, [name], MAX_NAME_BYTES);
                walk_value(field, value, depth.saturating_sub(1), to);
            }
            *members = entries.into_iter().collect();
        }
    }
}

/// An operation on the fields of the table. `most` is the bound: bytes for a text, entries for a list.
trait Visitor {
    /// Visits strings that are compared with others or are not prose. [`cut`] leaves no mark in them.
    fn names<'a>(&mut self, field: &'static str, texts: impl IntoIterator<Item = &'a mut String>, most: usize);
    /// Visits texts for people. A text that [`cut`] has cut ends in [`MARK`], within the bound.
    fn texts<'a>(&mut self, field: &'static str, texts: impl IntoIterator<Item = &'a mut String>, most: usize);
    /// Visits a list whose entries, if they are texts, are visited separately.
    fn list<T>(&mut self, field: &'static str, list: &mut Vec<T>, most: usize);
    /// Visits a list of ids, each of at most [`MAX_FOREIGN_ID_BYTES`].
    fn ids(&mut self, field: &'static str, ids: &mut Vec<String>, most: usize);
    /// Visits a work context, after its fields.
    fn context(&mut self, context: &mut WorkContext);
}

/// The last character of a text that was cut.
pub const MARK: char = '…';

/// Cuts a text to at most `most` bytes, at a character boundary.
pub fn truncate(text: &mut String, most: usize) {
    text.truncate(text.floor_char_boundary(most));
}

/// The name of a role, cut as the table cuts it, for comparison with the role of an agent.
pub fn role(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_NAME_BYTES)]
}

/// Cuts every field that exceeds the table. The ids that [`oversized_id`] checks are not cut.
pub fn cut(payload: &mut Payload) {
    struct Cut;

    impl Visitor for Cut {
        fn names<'a>(&mut self, _: &'static str, texts: impl IntoIterator<Item = &'a mut String>, most: usize) {
            for text in texts {
                truncate(text, most);
            }
        }

        fn texts<'a>(&mut self, _: &'static str, texts: impl IntoIterator<Item = &'a mut String>, most: usize) {
            for text in texts.into_iter().filter(|text| text.len() > most) {
                truncate(text, most - MARK.len_utf8());
                text.push(MARK);
            }
        }

        fn list<T>(&mut self, _: &'static str, list: &mut Vec<T>, most: usize) {
            list.truncate(most);
        }

        fn ids(&mut self, _: &'static str, ids: &mut Vec<String>, most: usize) {
            ids.retain(|id| id.len() <= MAX_FOREIGN_ID_BYTES);
            ids.truncate(most);
        }

        fn context(&mut self, context: &mut WorkContext) {
            fit_context(context);
        }
    }

    walk(payload, &mut Cut);
}

/// Refuses a payload that exceeds the table. The total size of a work context is not checked, because [`cut`] shortens
/// the context.
///
/// # Errors
/// [`ErrorKind::Invalid`], naming the first field that is too long or has too many entries.
pub fn check(payload: &mut Payload) -> Result<(), Error> {
    #[derive(Default)]
    struct Check(Option<String>);

    impl Check {
        fn bytes(&mut self, field: &str, bytes: usize, most: usize) {
            if bytes > most {
                self.0.get_or_insert_with(|| format!("{field} has {bytes} bytes; at most {most} are allowed"));
            }
        }
    }

    impl Visitor for Check {
        fn names<'a>(&mut self, field: &'static str, texts: impl IntoIterator<Item = &'a mut String>, most: usize) {
            texts.into_iter().for_each(|text| self.bytes(field, text.len(), most));
        }

        fn texts<'a>(&mut self, field: &'static str, texts: impl IntoIterator<Item = &'a mut String>, most: usize) {
            self.names(field, texts, most);
        }

        fn list<T>(&mut self, field: &'static str, list: &mut Vec<T>, most: usize) {
            let entries = list.len();
            if entries > most {
                self.0.get_or_insert_with(|| format!("{field} has {entries} entries; at most {most} are allowed"));
            }
        }

        fn ids(&mut self, field: &'static str, ids: &mut Vec<String>, most: usize) {
            self.list(field, ids, most);
            self.names(field, ids, MAX_FOREIGN_ID_BYTES);
        }

        fn context(&mut self, _: &mut WorkContext) {}
    }

    let mut found = Check::default();
    for (field, id) in payload.ids() {
        found.bytes(field, id.len(), MAX_FOREIGN_ID_BYTES);
    }
    walk(payload, &mut found);
    match found.0 {
        None => Ok(()),
        Some(why) => Err(Error::new(ErrorKind::Invalid, why)),
    }
}

/// Returns `true` if the id of the event's subject, agent or session exceeds [`MAX_FOREIGN_ID_BYTES`].
pub fn oversized_id(payload: &Payload) -> bool {
    payload.ids().iter().any(|(_, id)| id.len() > MAX_FOREIGN_ID_BYTES)
}

/// Shortens the lists of a work context until its JSON has at most [`MAX_CONTEXT_BYTES`] bytes. Each step drops the
/// second half of the list with the most bytes.
pub fn fit_context(context: &mut WorkContext) {
    fn halve<T>(list: &mut Vec<T>) {
        list.truncate(list.len() / 2);
    }
    loop {
        if size(context) <= MAX_CONTEXT_BYTES {
            return;
        }
        let sizes = [
            size(&context.unmerged_commits),
            size(&context.file_changes),
            size(&context.changed_files),
            size(&context.uncommitted_files),
            size(&context.scopes),
            size(&context.refs),
        ];
        let longest = sizes.iter().enumerate().max_by_key(|(_, bytes)| **bytes).map_or(0, |(index, _)| index);
        match longest {
            // All lists are empty (`[]`, two bytes). The remaining strings were cut before and fit.
            _ if sizes[longest] <= 2 => return,
            0 => halve(&mut context.unmerged_commits),
            1 => halve(&mut context.file_changes),
            2 => halve(&mut context.changed_files),
            3 => halve(&mut context.uncommitted_files),
            4 => halve(&mut context.scopes),
            _ => halve(&mut context.refs),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Makes every text and list of the value longer than any bound.
    fn blow_up(value: &Value) -> Value {
        match value {
            Value::String(_) => Value::String("é".repeat(600 << 10)),
            Value::Array(items) => (0..5000).map(|n| items[n % items.len()].clone()).collect(),
            Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), blow_up(value))).collect(),
            other => other.clone(),
        }
    }

    fn read(kind: &str, body: &Value) -> Payload {
        Payload::read(kind, &body.to_string()).expect("reads")
    }

    #[test]
    fn every_text_and_list_of_every_type_is_cut_and_refused() {
        let tags = json!([{"type": "t", "value": "v"}]);
        let cases = [
            (
                "message.create",
                json!({"message_id": "m", "agent_id": "a"}),
                json!({"thread_id": "", "authored_by": "", "body": {"format": "",
                "content": "", "structured": ""}, "scopes": tags, "refs": tags, "recipients": ["r"], "recipient_homes": {"h": ["r"]}}),
            ),
            (
                "message.edit",
                json!({"message_id": "m"}),
                json!({"body": {"format": "", "content": "", "structured": ""}}),
            ),
            ("message.delete", json!({"message_id": "m"}), json!({"reason": ""})),
            (
                "message.receipt",
                json!({"message_id": "m", "agent_id": "a", "receipt_type": "read"}),
                json!({"session_id": ""}),
            ),
            (
                "agent.register",
                json!({"agent_id": "a"}),
                json!({"kind": "", "name": "", "role": "", "module": "", "worktree": "", "display": "",
                "hostname": "", "former_homes": ["h"], "joined_at": ""}),
            ),
            ("agent.session.end", json!({"session_id": "s"}), json!({"reason": ""})),
            ("agent.cleanup", json!({"agent_id": "a"}), json!({"reason": "", "method": ""})),
            ("purge.executed", json!({"cutoff": ""}), json!({"cutoff": "", "ahead": ["m"]})),
            ("group.create", json!({"group_id": "g"}), json!({"name": "", "description": "", "created_by": ""})),
            ("group.update", json!({"group_id": "g"}), json!({"updated_by": "", "fields": {"a": ""}})),
            ("group.delete", json!({"group_id": "g"}), json!({"deleted_by": ""})),
            (
                "group.member.add",
                json!({"group_id": "g"}),
                json!({"member_type": "", "member_value": "", "added_by": ""}),
            ),
            (
                "group.member.remove",
                json!({"group_id": "g"}),
                json!({"member_type": "", "member_value": "", "removed_by": ""}),
            ),
            ("file.claim", json!({"agent_id": "a"}), json!({"paths": ["p"], "expires_at": ""})),
            ("file.release", json!({"agent_id": "a"}), json!({"paths": ["p"]})),
            ("agent.presence", json!({"agent_id": "a"}), json!({"state": "", "since": "", "person_at": ""})),
        ];
        for (kind, ids, fields) in cases {
            for (name, value) in fields.as_object().expect("an object") {
                let mut body = ids.clone();
                body[name] = blow_up(value);
                let payload = read(kind, &body);
                assert_ne!(payload, uncut(kind, &body), "{kind} {name} is cut");
                let mut whole = uncut(kind, &body);
                assert!(check(&mut whole).is_err(), "{kind} {name} is refused at our own door");
                assert!(check(&mut payload.clone()).is_ok(), "{kind} {name}: what is left is within the table");
            }
        }
    }

    /// The payload as it was served, without cuts.
    fn uncut(kind: &str, body: &Value) -> Payload {
        Payload::read_whole(kind, &body.to_string()).expect("reads")
    }

    #[test]
    fn every_work_context_is_cut_to_the_maximum_size() {
        let files: Vec<String> = (0..400).map(|n| format!("{n}/{}", "x".repeat(600))).collect();
        let commits: Vec<Value> =
            (0..60).map(|n| json!({"sha": n.to_string(), "message": "m".repeat(9000), "files": files[..9]})).collect();
        let deep = (0..40).fold(json!("x".repeat(9000)), |inner, _| json!([inner]));
        let context = json!({
            "session_id": "ses_1", "intent": "i".repeat(9000), "branch": "b".repeat(9000), "uncommitted_files": files,
            "changed_files": files, "file_changes": [deep, {"path": "p".repeat(9000)}], "unmerged_commits": commits,
        });
        let body = json!({"agent_id": "a", "work_contexts": (0..20).map(|_| context.clone()).collect::<Vec<_>>()});
        let Payload::AgentUpdate(update) = read("agent.update", &body) else { panic!("an update") };
        assert_eq!(update.work_contexts.len(), MAX_CONTEXTS);
        for context in &update.work_contexts {
            assert!(serde_json::to_string(context).expect("json").len() <= MAX_CONTEXT_BYTES);
            assert!(
                !context.uncommitted_files.is_empty() && !context.unmerged_commits.is_empty(),
                "something of each is left"
            );
            assert!(
                context.intent.as_ref().is_some_and(|intent| intent.len() <= MAX_TEXT_BYTES && intent.ends_with(MARK))
            );
        }
        assert!(check(&mut uncut("agent.update", &body)).is_err());
    }

    #[test]
    fn ordinary_events_are_not_changed() {
        let body = json!({"message_id": "m", "agent_id": "a", "body": {"format": "markdown", "content": "é".repeat(1000)},
            "scopes": [{"type": "group", "value": "everyone"}], "recipients": ["bob"], "thread_id": "t"});
        assert_eq!(read("message.create", &body), uncut("message.create", &body));
        assert!(check(&mut read("message.create", &body)).is_ok());
    }

    #[test]
    fn ids_are_never_cut() {
        let long = "x".repeat(300);
        let payload =
            read("message.create", &json!({"message_id": long, "agent_id": "a", "recipients": [long, "bob"]}));
        assert!(oversized_id(&payload));
        let Payload::MessageCreate(message) = payload else { panic!("a message") };
        assert_eq!((message.message_id, message.recipients), (long, vec!["bob".to_owned()]));
        assert!(!oversized_id(&read("message.create", &json!({"message_id": "m", "agent_id": "a"}))));
    }
}
