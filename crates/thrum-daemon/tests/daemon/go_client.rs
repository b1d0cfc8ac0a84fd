//! Plays a session of an existing Go client. Its commands make one connection each and send these lines, byte for byte
//! as Go's encoder writes them. Every field that they decode must be present with the expected type: Go's decoder fails
//! on a wrong type, silently takes a missing or null field for an empty one, and the commands range over lists without
//! checking.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    process::Command,
};

use serde_json::Value;
use thrum_core::Timestamp;

use crate::harness::{Daemon, Start, World};

/// Runs one command: connects, sends one line, reads one answer, and disconnects.
fn command(daemon: &Daemon, line: &str) -> Value {
    let mut stream = BufReader::new(UnixStream::connect(daemon.repo.socket()).unwrap());
    stream.get_mut().write_all(line.as_bytes()).unwrap();
    stream.get_mut().write_all(b"\n").unwrap();
    let mut answer = String::new();
    stream.read_line(&mut answer).unwrap();
    assert!(
        answer.starts_with("{\"jsonrpc\":\"2.0\",\"") && answer.ends_with(",\"id\":2}\n"),
        "the id is the integer that was sent: {answer}"
    );
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert!(answer.get("error").is_some() != answer.get("result").is_some(), "{answer}");
    answer
}

fn result(daemon: &Daemon, method: &str, params: &str) -> Value {
    let answer =
        command(daemon, &format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{method}\",\"params\":{params},\"id\":2}}"));
    assert!(answer.get("error").is_none(), "{method} {params}: {answer}");
    answer["result"].clone()
}

fn error(daemon: &Daemon, method: &str, params: &str) -> String {
    let answer =
        command(daemon, &format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{method}\",\"params\":{params},\"id\":2}}"));
    assert_eq!(answer["error"]["code"], -32000, "{answer}");
    answer["error"]["message"].as_str().unwrap().to_owned()
}

/// Checks a value against `place:type` pairs: `s`tring, `t`ime, `i`nteger, `b`ool, `o`bject. In a place, `[]` stands
/// for each element of a list that must not be empty, and `[*]` for each element of one that may be. A place with `?`
/// in front may be absent, but not null.
#[track_caller]
fn decodes(value: &Value, fields: &str) {
    for field in fields.split_whitespace() {
        let (place, kind) = field.rsplit_once(':').unwrap();
        let (place, optional) = place.strip_prefix('?').map_or((place, false), |place| (place, true));
        let parts: Vec<_> = place.split('.').collect();
        at(value, &parts, &|found| match found {
            None => assert!(optional, "{place} is missing in {value}"),
            Some(found) => {
                let right = match kind {
                    "s" => found.is_string(),
                    "t" => found.as_str().and_then(Timestamp::parse).is_some(),
                    "i" => found.is_i64() || found.is_u64(),
                    "b" => found.is_boolean(),
                    "o" => found.is_object(),
                    other => panic!("{other}"),
                };
                assert!(right, "{place} is no {kind}: {found}");
            }
        });
    }
}

#[track_caller]
fn at(value: &Value, place: &[&str], check: &dyn Fn(Option<&Value>)) {
    let Some((first, rest)) = place.split_first() else { return check(Some(value)) };
    let list = first.strip_suffix("[]").map(|key| (key, true)).or(first.strip_suffix("[*]").map(|key| (key, false)));
    let key = list.map_or(*first, |(key, _)| key);
    let found = if key.is_empty() { Some(value) } else { value.get(key) };
    match (found, list) {
        (None, _) => check(None),
        (Some(found), None) => at(found, rest, check),
        (Some(found), Some((_, filled))) => {
            let elements = found.as_array().unwrap_or_else(|| panic!("{first} is no list: {found}"));
            assert!(!filled || !elements.is_empty(), "{first} is empty");
            elements.iter().for_each(|element| at(element, rest, check));
        }
    }
}

const SUMMARY: &str = "messages[].message_id:s ?messages[].thread_id:s ?messages[].reply_to:s messages[].agent_id:s messages[].body.format:s \
                       messages[].body.content:s ?messages[].body.structured:s messages[].created_at:t ?messages[].updated_at:t messages[].deleted:b \
                       messages[].is_read:b total:i page:i page_size:i total_pages:i";

#[test]
fn a_go_client_registers_sends_lists_reads_edits_and_asks_for_team_and_health() {
    let world = World::new();
    let daemon = Daemon::start(&world.repo("g1"));

    // quickstart twice for bob: a conflict over ann's role, then a registration with another role.
    let registered =
        "agent_id:s status:s ?conflict.existing_agent_id:s ?conflict.registered_at:t ?conflict.last_seen_at:s";
    let ann =
        result(&daemon, "agent.register", r#"{"name":"ann","role":"implementer","module":"auth","display":"Ann"}"#);
    decodes(&ann, registered);
    assert_eq!(ann["status"], "registered");
    let conflict = result(&daemon, "agent.register", r#"{"name":"bob","role":"implementer","module":"auth"}"#);
    decodes(&conflict, registered);
    assert_eq!((&conflict["status"], &conflict["agent_id"]), (&"conflict".into(), &"".into()));
    let bob = result(
        &daemon,
        "agent.register",
        r#"{"name":"bob","role":"reviewer","module":"auth","display":"","force":false,"re_register":true}"#,
    );
    assert_eq!(bob["status"], "registered");

    let mut sessions = Vec::new();
    for name in ["ann", "bob"] {
        let refs = r#"[{"type":"worktree","value":"/home/dev/repo"}]"#;
        let session =
            result(&daemon, "session.start", &format!(r#"{{"agent_id":"{name}","scopes":null,"refs":{refs}}}"#));
        decodes(&session, "session_id:s agent_id:s started_at:t");
        sessions.push(session["session_id"].as_str().unwrap().to_owned());
    }
    let [ann_session, bob_session] = &sessions[..] else { panic!() };
    let intent = result(
        &daemon,
        "session.setIntent",
        &format!(r#"{{"session_id":"{ann_session}","intent":"log in & out <b>"}}"#),
    );
    decodes(&intent, "session_id:s intent:s intent_updated_at:t");
    let task = result(&daemon, "session.setTask", &format!(r#"{{"session_id":"{ann_session}","current_task":""}}"#));
    decodes(&task, "session_id:s current_task:s task_updated_at:t");
    let beat = result(
        &daemon,
        "session.heartbeat",
        &format!(r#"{{"session_id":"{ann_session}","add_scopes":[],"remove_refs":null}}"#),
    );
    decodes(&beat, "session_id:s last_seen_at:t ?branch:s ?unmerged_commits:i");
    decodes(
        &result(&daemon, "agent.whoami", r#"{"caller_agent_id":"ann"}"#),
        "agent_id:s role:s module:s display:s source:s session_id:s session_start:t ?branch:s intent:s",
    );

    // send, with all the fields of Go's command, and with as few as it may send.
    let sent = result(
        &daemon,
        "message.send",
        r#"{"content":"Ready \u003cb\u003e \u0026 waiting","format":"markdown","structured":{"n":1},"scopes":[{"type":"module","value":"auth"}],"refs":[{"type":"issue","value":"7"}],"mentions":["@bob"],"tags":["x"],"disclose":false,"acting_as":"","caller_agent_id":"ann"}"#,
    );
    decodes(
        &sent,
        "message_id:s ?thread_id:s created_at:t resolved_to:i ?warnings[*]:s audiences[].type:s audiences[].value:s recipients[].agent_id:s recipients[].delivered_at:t",
    );
    let id = sent["message_id"].as_str().unwrap();
    decodes(
        &result(&daemon, "message.send", r#"{"content":"to all","caller_agent_id":"ann"}"#),
        "message_id:s audiences[].type:s recipients[].agent_id:s",
    );
    decodes(
        &result(&daemon, "message.send", r#"{"content":"to a role","mentions":["@reviewer"],"caller_agent_id":"ann"}"#),
        "warnings[]:s",
    );
    let reply = result(
        &daemon,
        "message.send",
        &format!(
            r#"{{"content":"On it","format":"markdown","reply_to":"{id}","mentions":["@ann"],"caller_agent_id":"bob"}}"#
        ),
    );
    decodes(&reply, "message_id:s thread_id:s");

    // inbox, wait, sent.
    let inbox = result(
        &daemon,
        "message.list",
        r#"{"page_size":10,"page":1,"for_agent":"bob","for_agent_role":"reviewer","exclude_self":true,"caller_agent_id":"bob","caller_mention_role":"reviewer","unread":false,"scope":null}"#,
    );
    decodes(&inbox, SUMMARY);
    decodes(&inbox, "unread:i");
    assert_eq!((&inbox["total"], &inbox["unread"]), (&3.into(), &3.into()), "{inbox}");
    let named = r#"{"mentions":true,"caller_agent_id":"bob","caller_mention_role":"reviewer","page_size":10}"#;
    assert_eq!(result(&daemon, "message.list", named)["total"], 2, "by name and by role");
    let after = format!(
        r#"{{"created_after":"{}","for_agent":"bob","exclude_self":true,"caller_agent_id":"bob","page_size":1,"sort_by":"created_at","sort_order":"desc"}}"#,
        sent["created_at"].as_str().unwrap()
    );
    assert_eq!(result(&daemon, "message.list", &after)["total"], 2, "what is later than the first");
    let empty = result(&daemon, "message.list", r#"{"for_agent":"bob","author_id":"nobody","caller_agent_id":"bob"}"#);
    decodes(&empty, "messages[*]:o total:i total_pages:i");
    let full = "message.message_id:s ?message.thread_id:s ?message.reply_to:s message.author.agent_id:s message.author.session_id:s message.body.format:s \
                message.body.content:s ?message.body.structured:s message.scopes[*].type:s message.refs[*].value:s message.metadata:o \
                ?message.metadata.deleted_at:t ?message.metadata.delete_reason:s message.created_at:t ?message.updated_at:t message.deleted:b \
                message.audiences[*].type:s message.recipients[*].agent_id:s message.recipients[*].delivered_at:t ?message.recipients[*].read_at:t";
    let got = result(&daemon, "message.get", &format!(r#"{{"message_id":"{id}"}}"#));
    decodes(&got, full);
    assert_eq!(got["message"]["body"]["structured"], "{\"n\":1}", "structured content is a string of JSON");
    assert_eq!(got["message"]["scopes"][0]["value"], "auth");
    let marked = result(&daemon, "message.markRead", &format!(r#"{{"message_ids":["{id}"],"caller_agent_id":"bob"}}"#));
    decodes(&marked, "marked_count:i");
    let outbox = result(
        &daemon,
        "message.outbox",
        r#"{"caller_agent_id":"ann","to":"","unread":false,"page_size":10,"page":1}"#,
    );
    decodes(&outbox, SUMMARY);
    decodes(
        &outbox,
        "messages[].audiences[].type:s messages[].recipients[].agent_id:s messages[].recipients[].delivered_at:t ?messages[].recipients[].read_at:t ?messages[].read_count:i",
    );

    // edit, delete.
    let edited = result(
        &daemon,
        "message.edit",
        &format!(r#"{{"message_id":"{id}","content":"Ready, really","caller_agent_id":"ann"}}"#),
    );
    decodes(&edited, "message_id:s updated_at:t version:i");
    let theirs =
        error(&daemon, "message.edit", &format!(r#"{{"message_id":"{id}","content":"x","caller_agent_id":"bob"}}"#));
    assert_eq!(theirs, "only message author can edit (author: ann, current: bob)");
    let deleted = result(&daemon, "message.delete", &format!(r#"{{"message_id":"{id}","caller_agent_id":"ann"}}"#));
    decodes(&deleted, "message_id:s deleted_at:t");
    decodes(&result(&daemon, "message.get", &format!(r#"{{"message_id":"{id}"}}"#)), full);
    let unknown =
        error(&daemon, "message.send", r#"{"content":"x","mentions":["@ghost","@bob"],"caller_agent_id":"ann"}"#);
    assert_eq!(unknown, "unknown recipients: @ghost \u{2014} no matching agent, role, or group found");

    // team, agents, groups, health; without parameters in every form that Go uses.
    let member = "members[].agent_id:s members[].role:s members[].module:s ?members[].display:s ?members[].hostname:s ?members[].worktree:s \
                  ?members[].session_id:s ?members[].session_start:t ?members[].last_seen:t ?members[].intent:s ?members[].current_task:s ?members[].branch:s \
                  members[].unmerged_commits:i members[].inbox_total:i members[].inbox_unread:i members[].status:s shared_messages.broadcast_total:i \
                  shared_messages.groups[].name:s shared_messages.groups[].total:i";
    decodes(&result(&daemon, "team.list", r#"{"include_offline":true}"#), member);
    decodes(&result(&daemon, "team.list", "null"), member);
    decodes(
        &result(&daemon, "agent.list", r#"{"role":"","module":""}"#),
        "agents[].agent_id:s agents[].kind:s agents[].role:s agents[].module:s agents[].display:s agents[].registered_at:t ?agents[].last_seen_at:t",
    );
    let contexts = result(&daemon, "agent.listContext", "{}");
    decodes(
        &contexts,
        "contexts[].session_id:s contexts[].agent_id:s ?contexts[].branch:s contexts[].intent:s contexts[].intent_updated_at:t",
    );
    decodes(
        &result(&daemon, "group.list", "{}"),
        "groups[].group_id:s groups[].name:s groups[].description:s groups[].member_count:i groups[].created_at:t",
    );
    let group = result(&daemon, "group.members", r#"{"name":"reviewer","expand":true}"#);
    decodes(&group, "members[].member_type:s members[].member_value:s members[].added_at:t expanded[]:s");
    assert_eq!(group["expanded"], serde_json::json!(["bob"]));
    let health = "status:s uptime_ms:i version:s repo_id:s sync_state:s";
    decodes(&result(&daemon, "health", "{}"), health);
    for line in
        [r#"{"jsonrpc":"2.0","method":"health","id":2}"#, r#"{"jsonrpc":"2.0","method":"health","params":null,"id":2}"#]
    {
        decodes(&command(&daemon, line)["result"], health);
    }
    decodes(&result(&daemon, "sync.status", "{}"), "running:b ?last_sync_at:t ?last_error:s sync_state:s local_only:b");
    assert_eq!(result(&daemon, "peer.list", "{}"), serde_json::json!([]), "a list, not null");
    decodes(
        &result(&daemon, "session.list", r#"{"active_only":true}"#),
        "sessions[].session_id:s sessions[].agent_id:s sessions[].started_at:t ?sessions[].ended_at:t ?sessions[].end_reason:s sessions[].last_seen_at:t ?sessions[].intent:s sessions[].status:s",
    );
    let ended = result(&daemon, "session.end", &format!(r#"{{"session_id":"{bob_session}","reason":"normal"}}"#));
    decodes(&ended, "session_id:s ended_at:t duration_ms:i");
    decodes(&result(&daemon, "agent.delete", r#"{"name":"bob"}"#), "agent_id:s deleted:b message:s");
}

#[test]
fn a_person_has_the_name_that_git_is_configured_with() {
    let world = World::new();
    let repo = world.repo("g1");
    let daemon = Start::of(&repo).env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", world.dir.to_str().unwrap()).run();
    assert_eq!(error(&daemon, "user.identify", "{}"), "git knows no user.name in this repository");
    let git =
        |args: &[&str]| assert!(Command::new("git").args(args).current_dir(repo.root()).status().unwrap().success());
    git(&["init", "-q"]);
    git(&["config", "user.name", "Ann O'Neill"]);
    let person = result(&daemon, "user.identify", "{}");
    decodes(&person, "username:s email:s display:s");
    assert_eq!((&person["username"], &person["display"]), (&"ann_o_neill".into(), &"Ann O'Neill".into()));
}
