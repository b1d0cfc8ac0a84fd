//! Unexpected clients on the peer port: browsers, old clients, other versions; and events that cannot be understood.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::{Value, json};

use crate::harness::{Client, Daemon, World, keep_port};

/// Starts a daemon that shows a code on loopback. Also returns the connection that keeps the code valid, the address
/// and the code.
fn waiting(world: &World) -> (Daemon, Client, String, String) {
    let repo = world.repo("r");
    keep_port(&repo);
    let daemon = Daemon::start(&repo);
    daemon.agent("ann", "planner");
    let mut adding = daemon.client();
    let shown = adding.ok("peer.start_pairing", json!({"transport": "local"}));
    let text = |key: &str| shown[key].as_str().unwrap().to_owned();
    (daemon, adding, text("address"), text("code"))
}

/// Sends bytes and reads until the daemon closes the connection.
fn until_closed(address: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    // A reset also closes the connection.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

/// C15: there is no web port. A web page in a local browser can nevertheless send lines to the peer port, in the body
/// of a form that it posts without asking the user. Such a page must not be able to spend an attempt at the code, and
/// must not receive anything that looks like a reply to a peer.
#[test]
fn c15_what_a_browser_sends_to_the_peer_port_has_no_effect() {
    let world = World::new();
    let (daemon, _adding, address, code) = waiting(&world);
    let before = (daemon.call("peer.list", json!({})), daemon.call("health", json!({}))["events"].clone());
    let pair = json!({"jsonrpc": "2.0", "method": "pair.request", "id": 1,
        "params": {"code": code, "daemon_id": "d_page", "name": "page", "address": "127.0.0.1:1"}});
    let post = |path: &str, kind: &str, body: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nOrigin: https://evil.example\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}\n",
            body.len() + 1
        )
    };
    for request in [
        format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n"),
        format!(
            "GET /ws HTTP/1.1\r\nHost: evil.example\r\nOrigin: https://evil.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n{pair}\n"
        ),
        post("/", "text/plain", &pair.to_string()),
        post("/", "application/x-www-form-urlencoded", &format!("{pair}")),
        format!("OPTIONS / HTTP/1.0\n\n{pair}\n"),
        format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{pair}\n"),
    ] {
        let answer = until_closed(&address, request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("not HTTP"), "{request}: {answer}");
        assert!(
            !answer.contains("paired")
                && !answer.contains("jsonrpc")
                && !answer.to_lowercase().contains("access-control"),
            "{answer}"
        );
    }
    assert_eq!((daemon.call("peer.list", json!({})), daemon.call("health", json!({}))["events"].clone()), before);
    // The code is still valid, and no guess was counted.
    let answer = ask(&address, &pair);
    assert_eq!(answer["result"]["status"], "paired", "{answer}");
    // The daemon has no other port: it listens only on the socket and on this port.
    let listening: Vec<u16> = ports_of(daemon.pid());
    assert_eq!(listening, [address.rsplit_once(':').unwrap().1.parse::<u16>().unwrap()]);
}

/// Sends one request and returns the answer.
fn ask(address: &str, request: &Value) -> Value {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(format!("{request}\n").as_bytes()).unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stream), &mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

/// Returns the TCP ports on which a process listens.
fn ports_of(pid: u32) -> Vec<u16> {
    let sockets: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| {
            Some(
                std::fs::read_link(entry.ok()?.path())
                    .ok()?
                    .to_str()?
                    .strip_prefix("socket:[")?
                    .strip_suffix(']')?
                    .to_owned(),
            )
        })
        .collect();
    let mut ports = Vec::new();
    for table in ["tcp", "tcp6"] {
        let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")) else { continue };
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if fields[3] == "0A" && sockets.iter().any(|inode| inode == fields[9]) {
                ports.push(u16::from_str_radix(fields[1].rsplit_once(':').unwrap().1, 16).unwrap());
            }
        }
    }
    ports
}

/// C25: a newer peer sends more fields than we know, and an older one fewer.
#[test]
fn c25_unknown_fields_are_ignored_and_unknown_methods_are_errors() {
    let world = World::new();
    let (_daemon, _adding, address, code) = waiting(&world);
    let mut newer = json!({"jsonrpc": "3.0", "method": "pair.request", "id": "a string", "from_the_future": {"x": [1]},
        "params": {"code": code, "daemon_id": "d_newer", "name": "newer", "address": "127.0.0.1:1", "capabilities": ["teleport"], "pairing_version": 9}});
    let answer = ask(&address, &newer);
    assert_eq!((&answer["id"], &answer["result"]["status"]), (&json!("a string"), &json!("paired")), "{answer}");
    let token = answer["result"]["token"].clone();
    newer["method"] = json!("sync.pull");
    newer["params"] = json!({"token": token, "after_sequence": 0, "max_batch": 5000, "compress": "zstd", "log_id": null, "filter": {"x": 1}});
    let answer = ask(&address, &newer);
    assert_eq!(answer["result"]["events"].as_array().map(Vec::len), Some(1), "{answer}");
    newer["method"] = json!("sync.stream");
    let answer = ask(&address, &newer);
    assert_eq!(
        (&answer["error"]["code"], &answer["error"]["message"]),
        (&json!(-32601), &json!("method not found: sync.stream"))
    );
    // A request of the oldest peers: no version, no id, nothing optional.
    let answer = ask(&address, &json!({"method": "sync.pull", "params": {"token": token}}));
    assert_eq!(answer["result"]["events"].as_array().map(Vec::len), Some(1), "{answer}");
    assert_eq!(answer.get("id"), None);
}

/// C25, C29: events that cannot be folded do not delay others, and are shown.
#[test]
fn c29_unknown_and_malformed_events_stop_nothing_and_are_reported() {
    let world = World::new();
    let daemon = Daemon::start(&world.repo("r"));
    daemon.agent("ann", "planner");
    let event = |n: u32, kind: &str, payload: Value| {
        let mut fields = json!({"event_id": format!("evt_{n}"), "type": kind, "origin_daemon": "d_x", "v": 1, "timestamp": "2026-03-28T17:05:13Z"});
        fields.as_object_mut().unwrap().extend(payload.as_object().unwrap().clone());
        json!({"event_json": fields.to_string()})
    };
    let good = |n: u32| {
        event(
            n,
            "message.create",
            json!({"message_id": format!("msg_{n}"), "agent_id": "eve", "recipients": ["ann"], "from_the_future": [1],
            "refs": [{"type": "mention", "value": "ann"}], "body": {"format": "hologram", "content": "good", "from_the_future": 1}}),
        )
    };
    let events = [
        good(1),
        event(2, "message.create", json!({"message_id": 7, "agent_id": ["eve"], "body": "no body"})),
        event(3, "message.create", json!({"message_id": null})),
        event(4, "agent.register", json!({"agent_id": {"a": 1}})),
        event(5, "message.receipt", json!({"message_id": "msg_1", "agent_id": "ann", "receipt_type": "smelled"})),
        event(6, "agent.session.end", json!({"session_id": -1})),
        event(7, "purge.executed", json!({"cutoff": "never", "before": 7})),
        event(8, "agent.update", json!({"agent_id": "eve", "work_contexts": "none"})),
        event(9, "future.thing", json!({"anything": [1, {"x": null}]})),
        event(10, "group.create", json!({"group_id": 7})),
        event(11, "message.edit", json!({"message_id": "msg_nowhere", "body": {"content": "x"}})),
        json!({"event_json": "{\"no\":\"id\"}"}),
        json!({"event_json": "not json"}),
        good(12),
    ];
    let taken = daemon.call("import.events", json!({"events": events}));
    assert_eq!((&taken["applied"], taken["rejected"].as_array().map(Vec::len)), (&json!(12), Some(2)), "{taken}");
    let inbox = daemon.call("message.list", json!({"for_agent": "ann", "caller_agent_id": "ann"}));
    assert_eq!(inbox["total"], 2, "the good messages before and after the bad events are there: {inbox}");
    let health = daemon.call("health", json!({}));
    assert!(health["parked"].as_u64().unwrap() >= 6 && health["rejected"] == 2, "{health}");
    // All well-formed events are in the log, and so are relayed: these twelve, and the registration of ann.
    assert_eq!(health["events"], 13);
}
