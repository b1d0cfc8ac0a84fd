//! Mail within one repository: bounds, waiting, watching, and permissions between agents.

use serde_json::{Value, json};
use thrum_core::limits;

use crate::harness::{Daemon, World};

fn send(from: &str, to: &str, text: &str) -> Value {
    json!({"content": text, "mentions": [to], "caller_agent_id": from})
}

#[test]
fn a_wait_is_woken_by_mail_and_answers_at_once_when_there_is_some() {
    let world = World::new();
    let daemon = Daemon::with_two_agents(&world);
    let mut bob = daemon.client();
    bob.request("message.wait", json!({"caller_agent_id": "bob", "timeout_ms": 600_000}));
    let sent = daemon.call("message.send", send("alice", "@bob", "hello"));
    let answer = bob.answer().unwrap();
    assert_eq!((&answer["status"], &answer["unread"]), (&json!("received"), &json!(1)));
    let message = &answer["messages"][0];
    assert_eq!((&message["message_id"], &message["is_read"]), (&sent["message_id"], &json!(false)));
    let again = bob.ok("message.wait", json!({"caller_agent_id": "bob", "timeout_ms": 600_000}));
    assert_eq!(again["messages"][0]["message_id"], sent["message_id"], "waiting does not mark read");
}

#[test]
fn mail_to_others_and_to_oneself_wakes_no_waiter() {
    let world = World::new();
    let daemon = Daemon::with_two_agents(&world);
    let mut client = daemon.client();
    let read = client.ok("message.send", send("alice", "bob", "read"));
    client.ok("message.markRead", json!({"message_ids": [read["message_id"]], "caller_agent_id": "bob"}));
    client.ok("message.send", send("bob", "bob", "a note to myself"));
    client.ok("message.send", send("alice", "alice", "another"));
    let timeout = json!({"status": "timeout", "messages": [], "unread": 0});
    assert_eq!(client.ok("message.wait", json!({"caller_agent_id": "bob", "timeout_ms": 0})), timeout);
    let after = |at: &Value| json!({"caller_agent_id": "bob", "timeout_ms": 0, "after": at});
    assert_eq!(client.ok("message.wait", after(&read["created_at"])), timeout);
    let found = client.ok("message.wait", after(&json!("2020-01-01T00:00:00Z")));
    assert_eq!(found["messages"][0]["message_id"], read["message_id"], "read or not: later than asked counts");
    let mailbox = client.ok("message.list", json!({"for_agent": "bob", "caller_agent_id": "bob"}));
    assert_eq!(mailbox["total"], 2, "mail to oneself is stored: {mailbox}");
}

#[test]
fn a_wait_has_a_bound_and_an_agent() {
    let world = World::new();
    let daemon = Daemon::with_two_agents(&world);
    let mut client = daemon.client();
    for (params, kind) in [
        (json!({"caller_agent_id": "bob", "timeout_ms": 600_001}), "invalid"),
        (json!({"caller_agent_id": "bob", "timeout_ms": -1}), "invalid"),
        (json!({"caller_agent_id": "bob", "after": "yesterday"}), "invalid"),
        (json!({"timeout_ms": 0}), "invalid"),
        (json!({"caller_agent_id": "nobody", "timeout_ms": 0}), "not_found"),
    ] {
        assert_eq!(client.error("message.wait", params.clone())["data"]["kind"], kind, "{params}");
    }
}

#[test]
fn a_watcher_sees_every_event_once_and_in_order() {
    let world = World::new();
    let daemon = Daemon::with_two_agents(&world);
    let mut watcher = daemon.client();
    let begun = watcher.ok("events.watch", json!({"after_sequence": 0}));
    assert_eq!((&begun["status"], &begun["sequence"]), (&json!("watching"), &json!(0)));
    assert_eq!(begun["log_id"], daemon.call("health", json!({}))["log_id"]);
    let sent = daemon.call("message.send", send("alice", "bob", "seen by the watcher"));
    let seen: Vec<Value> = (0..3).map(|_| watcher.line()).collect();
    let params = |n: usize| &seen[n]["params"];
    assert!(seen.iter().all(|line| line["method"] == "events.committed" && line.get("id").is_none()));
    assert_eq!([params(0), params(1), params(2)].map(|event| event["sequence"].as_u64()), [Some(1), Some(2), Some(3)]);
    assert_eq!([params(0), params(2)].map(|event| event["type"].clone()), ["agent.register", "message.create"]);
    assert_eq!(params(2)["event_json"]["message_id"], sent["message_id"]);
    assert_eq!(params(2)["timestamp"], params(2)["event_json"]["timestamp"]);

    let mut late = daemon.client();
    late.ok("events.watch", json!({}));
    daemon.call("message.send", send("bob", "alice", "from now on"));
    assert_eq!(late.line()["params"]["sequence"], 4);
}

#[test]
fn a_body_has_its_bounds_to_the_byte() {
    let world = World::new();
    let daemon = Daemon::with_two_agents(&world);
    let mut client = daemon.client();
    let largest = "\u{1}".repeat(1 << 20);
    let sent = client.ok("message.send", send("alice", "bob", &largest));
    let got = client.ok("message.get", json!({"message_id": sent["message_id"]}));
    assert!(got["message"]["body"]["content"] == json!(largest), "six times as long in JSON, and whole");
    let events = client.ok("health", json!({}))["events"].clone();
    for text in [format!("{largest}x"), String::new()] {
        assert_eq!(client.error("message.send", send("alice", "bob", &text))["data"]["kind"], "invalid");
    }
    assert_eq!(client.ok("health", json!({}))["events"], events);
    let escapes = "\u{1b}[2J\u{202e}\r\n\u{0}";
    let sent = client.ok("message.send", send("alice", "bob", escapes));
    let got = client.ok("message.get", json!({"message_id": sent["message_id"]}));
    assert_eq!(got["message"]["body"]["content"], escapes, "kept as it is; whoever prints it escapes it");
}

#[test]
fn c35_invalid_names_are_refused_everywhere() {
    let world = World::new();
    let daemon = Daemon::with_two_agents(&world);
    let mut client = daemon.client();
    let long = "x".repeat(300);
    for name in ["a/b", "..", "../../etc/passwd", "Claude", "аlice", "everyone", "system", "-rf \u{1b}", &long] {
        let error = client.error("agent.register", json!({"name": name, "role": "r", "module": "m"}));
        assert_eq!(error["data"]["kind"], "invalid", "{name}: {error}");
        for (method, params) in [
            ("message.send", send(name, "bob", "x")),
            ("message.wait", json!({"caller_agent_id": name, "timeout_ms": 0})),
            ("session.start", json!({"agent_id": name})),
            ("agent.delete", json!({"name": name})),
        ] {
            let error = client.error(method, params);
            assert_eq!(error["data"]["kind"], "not_found", "{method} {name}: {error}");
            assert!(!error.to_string().contains('\u{1b}'));
        }
    }
    assert_eq!(client.ok("agent.list", json!({}))["agents"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_request_repeated_with_its_key_is_one_message() {
    let world = World::new();
    let daemon = Daemon::with_two_agents(&world);
    let mut client = daemon.client();
    let request = json!({"content": "once", "mentions": ["bob"], "caller_agent_id": "alice", "idempotency_key": "k1"});
    let first = client.ok("message.send", request.clone());
    assert_eq!(client.ok("message.send", request)["message_id"], first["message_id"]);
    let list = client.ok("message.list", json!({"for_agent": "bob"}));
    assert_eq!((&list["total"], &list["unread"]), (&json!(1), &json!(1)));
}

#[test]
fn pages_are_bounded_and_totals_exact() {
    let world = World::new();
    let daemon = Daemon::with_two_agents(&world);
    let mut client = daemon.client();
    for n in 0..23 {
        client.ok("message.send", send("alice", "bob", &n.to_string()));
    }
    let page = |params: Value| daemon.call("message.list", params);
    let first = page(json!({"for_agent": "bob"}));
    assert_eq!((&first["total"], &first["page_size"], &first["total_pages"]), (&json!(23), &json!(10), &json!(3)));
    assert_eq!(
        (first["messages"].as_array().map(Vec::len), &first["messages"][0]["body"]["content"]),
        (Some(10), &json!("22"))
    );
    let last = page(json!({"for_agent": "bob", "page": 3, "sort_order": "asc"}));
    assert_eq!(
        (last["messages"].as_array().map(Vec::len), &last["messages"][2]["body"]["content"]),
        (Some(3), &json!("22"))
    );
    for odd in [
        json!({"page": -1, "page_size": 0}),
        json!({"page_size": 100_000}),
        json!({"page": i64::MAX, "page_size": 100}),
    ] {
        let mut params = odd.clone();
        params["for_agent"] = json!("bob");
        assert_eq!(page(params)["total"], 23, "{odd}");
    }
    assert_eq!(page(json!({"for_agent": "bob", "page_size": 101}))["page_size"], limits::MAX_PAGE_MESSAGES);
    let outbox = page_of(&daemon, json!({"caller_agent_id": "alice", "unread": true, "page": 3}));
    assert_eq!((&outbox["total"], outbox["messages"].as_array().map(Vec::len)), (&json!(23), Some(3)));
    assert_eq!(daemon.client().error("message.list", json!({"sort_by": "size"}))["data"]["kind"], "invalid");
}

fn page_of(daemon: &Daemon, params: Value) -> Value {
    daemon.call("message.outbox", params)
}

#[test]
fn c16_an_agent_edits_and_deletes_its_own_messages_only_and_sends_in_its_own_name() {
    let world = World::new();
    let daemon = Daemon::with_two_agents(&world);
    let mut client = daemon.client();
    let sent = client.ok("message.send", send("alice", "bob", "mine"));
    let id = &sent["message_id"];
    for (method, params) in [
        ("message.edit", json!({"message_id": id, "content": "yours", "caller_agent_id": "bob"})),
        ("message.delete", json!({"message_id": id, "caller_agent_id": "bob"})),
        ("message.send", json!({"content": "x", "caller_agent_id": "bob", "acting_as": "alice"})),
    ] {
        assert_eq!(client.error(method, params)["data"]["kind"], "refused", "{method}");
    }
    assert_eq!(client.ok("message.get", json!({"message_id": id}))["message"]["body"]["content"], "mine");
}

/// Go Thrum's `inbox --all` and `prime` name only the caller, not a mailbox.
#[test]
fn a_list_of_all_messages_shows_the_read_state_of_its_caller() {
    let world = World::new();
    let daemon = Daemon::with_two_agents(&world);
    let mut client = daemon.client();
    let read = client.ok("message.send", send("alice", "bob", "one"))["message_id"].clone();
    client.ok("message.send", send("alice", "bob", "two"));
    client.ok("message.markRead", json!({"caller_agent_id": "bob", "message_ids": [read]}));
    let mut list = |params: Value| {
        let page = client.ok("message.list", params);
        let messages = page["messages"].as_array().unwrap();
        let read: Vec<_> =
            messages.iter().map(|message| (message["body"]["content"].clone(), message["is_read"].clone())).collect();
        (read, page["total"].clone(), page["unread"].clone())
    };
    let row = |text: &str, is_read: bool| (json!(text), json!(is_read));
    let bob = (vec![row("two", false), row("one", true)], json!(2), json!(1));
    assert_eq!(list(json!({"caller_agent_id": "bob"})), bob);
    assert_eq!(list(json!({"caller_agent_id": "bob", "exclude_self": true, "sort_by": "created_at"})), bob);
    let of_both = |is_read| (vec![row("two", is_read), row("one", is_read)], json!(2), json!(0));
    assert_eq!(list(json!({"caller_agent_id": "alice"})), of_both(true), "she wrote them");
    assert_eq!(list(json!({})), of_both(false), "nobody in particular");
}

#[test]
fn a_new_session_ends_the_abandoned_one() {
    let world = World::new();
    let daemon = Daemon::with_two_agents(&world);
    let mut client = daemon.client();
    let first = client.ok("session.start", json!({"agent_id": "alice"}));
    let second = client.ok("session.start", json!({"caller_agent_id": "alice"}));
    let sessions = client.ok("session.list", json!({"agent_id": "alice"}));
    let rows = sessions["sessions"].as_array().unwrap();
    assert_eq!((&rows[0]["session_id"], &rows[0]["status"]), (&second["session_id"], &json!("active")));
    assert_eq!((&rows[1]["session_id"], &rows[1]["end_reason"]), (&first["session_id"], &json!("crash_recovered")));
    let team = client.ok("team.list", json!({}));
    assert_eq!(team["members"].as_array().map(Vec::len), Some(1), "bob has no session: {team}");
    assert_eq!(client.ok("team.list", json!({"include_offline": true}))["members"].as_array().map(Vec::len), Some(2));
    client.ok("agent.delete", json!({"name": "bob"}));
    assert_eq!(client.ok("team.list", json!({"include_offline": true}))["members"].as_array().map(Vec::len), Some(1));
}
