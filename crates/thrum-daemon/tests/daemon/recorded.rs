//! Calls recorded on a Go Thrum v0.6.3 daemon, made once more on ours: the same keys of the same types, the same errors.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::harness::{Client, Daemon, World};

const RECORDED: &str = include_str!("../data/rpc-go-serves.jsonl");

/// Go Thrum's methods that we do not serve.
const NOT_SERVED: [&str; 4] = ["group.list", "group.info", "purge.execute", "context.show"];

/// Keys that depend on peers, of which there are none here: `method.key`.
const NEED_PEERS: [&str; 4] = ["health.tailscale", "sync.status.last_sync_at", "tsync.force.results", "tsync.force.status"];

struct Exchange {
    asked: String,
    answered: Value,
}

fn recorded() -> Vec<Exchange> {
    let lines: Vec<Value> = RECORDED.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let line = |entry: &Value| entry["line"].as_str().unwrap().to_owned();
    lines
        .chunks(2)
        .map(|pair| {
            assert_eq!((&pair[0]["from"], &pair[1]["from"]), (&json!("client"), &json!("server")));
            Exchange { asked: line(&pair[0]), answered: serde_json::from_str(&line(&pair[1])).unwrap() }
        })
        .collect()
}

#[test]
fn recorded_calls_get_gos_shapes_and_error_texts() {
    let world = World::new();
    let daemon = Daemon::start(&world.repo("g1"));
    daemon.call("agent.register", json!({"name": "a1", "role": "implementer", "module": "m1", "display": "Implementer (m1)"}));
    daemon.call("session.start", json!({"agent_id": "a1"}));
    let mut client = daemon.client();
    let mut ids = Vec::new();
    let mut compared = BTreeSet::new();
    for Exchange { asked, answered } in recorded() {
        let asked = ids.iter().fold(asked, |text, (theirs, ours): &(String, String)| text.replace(theirs, ours));
        let ours = ask(&mut client, &asked);
        let method = serde_json::from_str::<Value>(&asked).ok().and_then(|request| Some(request["method"].as_str()?.to_owned()));
        let method = method.unwrap_or_default();
        if NOT_SERVED.contains(&method.as_str()) {
            assert_eq!(ours["error"], unknown(&method));
            continue;
        }
        assert_eq!(ours.get("id"), answered.get("id"), "{asked}");
        match answered.get("error") {
            Some(error) => {
                assert_eq!((&ours["error"]["code"], &ours["error"]["message"]), (&error["code"], &error["message"]), "{asked}");
                match error.get("data") {
                    // The parser's own words.
                    Some(_) if error["code"] == -32700 => assert!(ours["error"]["data"].is_string()),
                    Some(data) => assert_eq!(ours["error"]["data"], *data),
                    None => assert!(ours["error"]["data"]["kind"].is_string() && ours["error"]["data"]["retryable"].is_boolean()),
                }
            }
            None => {
                same_shape(&answered["result"], &ours["result"], &method);
                learn(&answered["result"], &ours["result"], &mut ids);
            }
        }
        compared.insert(method);
    }
    assert!(compared.len() > 20, "{compared:?}");
}

fn ask(client: &mut Client, line: &str) -> Value {
    client.send_line(line);
    client.line()
}

fn unknown(method: &str) -> Value {
    json!({"code": -32601, "message": "Method not found", "data": format!("method '{method}' is not registered")})
}

/// Every key of theirs is in ours with a value of the same kind. Of lists, the keys that all elements share.
fn same_shape(theirs: &Value, ours: &Value, at: &str) {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            for (key, value) in theirs {
                let at = format!("{at}.{key}");
                if NEED_PEERS.contains(&at.as_str()) {
                    continue;
                }
                let found = ours.get(key).unwrap_or_else(|| panic!("{at} is missing in {ours:?}"));
                same_shape(value, found, &at);
            }
        }
        (Value::Array(theirs), Value::Array(ours)) => {
            if let (Some(theirs), Some(ours)) = (common(theirs), common(ours)) {
                same_shape(&theirs, &ours, &format!("{at}[]"));
            }
        }
        _ => assert_eq!(kind(theirs), kind(ours), "{at}: {theirs} and {ours}"),
    }
}

fn common(elements: &[Value]) -> Option<Value> {
    let mut objects = elements.iter().filter_map(Value::as_object);
    let mut shared: Map<String, Value> = objects.next()?.clone();
    for object in objects {
        shared.retain(|key, _| object.contains_key(key));
    }
    Some(Value::Object(shared))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Remembers which of our ids stands for which of theirs.
fn learn(theirs: &Value, ours: &Value, ids: &mut Vec<(String, String)>) {
    for key in ["session_id", "message_id", "thread_id"] {
        if let (Some(theirs), Some(ours)) = (theirs[key].as_str(), ours[key].as_str()) {
            ids.push((theirs.to_owned(), ours.to_owned()));
        }
    }
}
