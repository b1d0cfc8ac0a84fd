//! Handshakes, bounds, and malformed calls.

use serde_json::json;

use super::{Client, contents, text, two};
use crate::common::instead_of_daemon;

#[test]
fn both_lifecycles_are_spoken_and_the_version_asked_for_is_kept() {
    let repo = two();
    for version in ["2024-11-05", "2025-06-18", "2025-11-25"] {
        let mut client = Client::start(&repo, "ann");
        let greeted = client.initialize(version);
        assert_eq!((&greeted["protocolVersion"], &greeted["serverInfo"]["name"]), (&version.into(), &"thrum".into()));
        assert_eq!(client.ask("tools/list", json!({}))["result"]["tools"].as_array().unwrap().len(), 8);
    }
    let mut newest = Client::start(&repo, "ann");
    assert_eq!(newest.initialize("2026-07-28")["protocolVersion"], "2025-11-25", "the last one with a handshake");

    let mut client = Client::start(&repo, "ann");
    client.meta = Some(
        json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}),
    );
    let found = client.ask("server/discover", json!({}));
    let versions = found["result"]["supportedVersions"].as_array().unwrap();
    assert!(versions.contains(&"2026-07-28".into()) && versions.contains(&"2025-11-25".into()), "{found}");
    assert!(found["result"]["instructions"].as_str().unwrap().len() < 1024);
    assert_eq!(client.done("brief", json!({}))["you"]["name"], "ann");
    let unknown = client.ask("thrum/nothing", json!({}));
    assert_eq!(unknown["error"]["code"], -32601, "{unknown}");
}

/// Most bytes of a result: 16 KiB of text, 16 KiB of structured content, and the protocol's own fields.
const MOST_BYTES: usize = 32 * 1024 + 256;
const MOST_BYTES_OF_ERROR: usize = 4 * 1024 + 256;

#[test]
fn every_answer_keeps_within_its_bounds_on_the_wire() {
    let repo = two();
    let mut ann = Client::of(&repo, "ann");
    let escaped = "\u{1b}\"".repeat(2000);
    for number in 0..20 {
        let agent = format!("agent-{number}-{}", "x".repeat(50));
        repo.agent(&agent, "tester");
        repo.thrum(&["session", "set-intent", &escaped, "--as", &agent]).ok();
        repo.thrum(&["session", "set-task", &escaped, "--as", &agent]).ok();
    }
    // Directories and files with long paths, which bob has changed and claimed.
    let deep = vec!["d".repeat(200); 18].join("/");
    std::fs::create_dir_all(repo.path(&deep)).unwrap();
    for number in 0..12 {
        std::fs::write(repo.path(&format!("{deep}/{number}")), "x").unwrap();
    }
    repo.thrum(&["session", "heartbeat", "--as", "bob"]).ok();
    let paths: Vec<String> = (0..40).map(|number| format!("{deep}/{}{number}", "y".repeat(200))).collect();
    let claim =
        ["claim"].into_iter().chain(paths.iter().map(String::as_str)).chain(["--as", "bob"]).collect::<Vec<_>>();
    repo.thrum(&claim).ok();

    let first = "d".repeat(200);
    for (tool, arguments, has_more) in [
        ("send_message", json!({"to": "@everyone", "content": "\u{1b}".repeat(100_000)}), false),
        ("reply", json!({"message_id": "", "content": escaped}), false),
        ("list_agents", json!({}), true),
        ("who_has", json!({"path": first}), true),
        ("who_has", json!({"path": "z".repeat(1 << 20)}), false),
        ("set_status", json!({"intent": escaped, "task": escaped}), false),
        ("brief", json!({}), false),
    ] {
        let mut arguments = arguments;
        if tool == "reply" {
            let unread = Client::of(&repo, "ann").done("send_message", json!({"to": "@everyone", "content": "x"}));
            arguments["message_id"] = unread["message_id"].clone();
        }
        let result = ann.call(tool, arguments);
        assert!(
            result["isError"] == false && ann.bytes <= MOST_BYTES,
            "{tool}: {} bytes, {}",
            ann.bytes,
            result["isError"]
        );
        let shown = text(&result);
        assert_eq!(result["structuredContent"]["more"] == true, has_more, "{tool}");
        assert_eq!(shown.contains("more than an answer has room for"), has_more, "{tool}: {shown}");
    }

    // Mail that does not fit is shortened or stays unread; it never disappears.
    let mut bob = Client::of(&repo, "bob");
    for tool in ["wait_for_message", "check_messages"] {
        let result = bob.call(tool, json!({}));
        assert!(result["isError"] == false && bob.bytes <= MOST_BYTES, "{tool}: {} bytes", bob.bytes);
    }

    let long = "\u{1b}x".repeat(100_000);
    for (tool, arguments) in [
        ("send_message", json!({"to": long, "content": "x"})),
        ("send_message", json!({"to": "@bob", "content": "x", "reply_to": long})),
        ("send_message", json!({"to": "@bob", "content": "x".repeat(2 << 20)})),
        ("check_messages", json!({"cursor": long})),
        ("check_messages", json!({"limit": long})),
        ("wait_for_message", json!({ &long: 1 })),
        ("list_agents", json!({"include_offline": long})),
        ("reply", json!({"message_id": long, "content": "x"})),
        ("who_has", json!({"path": format!("../{long}")})),
        ("set_status", json!({"intent": "x", &long: 1})),
        ("brief", json!({ &long: 1 })),
    ] {
        ann.refused(tool, arguments);
        assert!(ann.bytes <= MOST_BYTES_OF_ERROR, "{tool}: {} bytes", ann.bytes);
    }
    for (method, params) in [
        ("tools/call", json!({"name": long, "arguments": {}})),
        ("resources/read", json!({"uri": long})),
        ("resources/read", json!({"uri": format!("thrum://message/{long}")})),
        (long.as_str(), json!({})),
    ] {
        let error = ann.ask(method, params)["error"].clone();
        assert!(error.is_object() && ann.bytes <= MOST_BYTES_OF_ERROR, "{} bytes", ann.bytes);
    }
}

#[test]
fn at_the_end_of_its_input_a_server_ends_its_waits_and_answers_pending_calls() {
    let repo = two();
    let wait = json!({"name": "wait_for_message", "arguments": {"timeout": 50}});
    let mut bob = Client::of(&repo, "bob");
    let waiting = bob.send("tools/call", wait.clone());
    drop(bob.input.take());
    assert_eq!(bob.answer(waiting)["result"]["structuredContent"]["status"], "timeout");
    assert!(bob.end());
    repo.thrum(&["send", "to nobody there", "--to", "@bob", "--as", "ann"]).ok();
    assert_eq!(
        repo.json(&["inbox", "--as", "bob", "--unread"])["messages"].as_array().unwrap().len(),
        1,
        "nothing took it"
    );

    for (tool, field) in [("wait_for_message", "/message/content"), ("check_messages", "/messages/0/content")] {
        let mut bob = Client::of(&repo, "bob");
        let asked = bob.send("tools/call", json!({"name": tool, "arguments": {}}));
        drop(bob.input.take());
        let answer = bob.answer(asked)["result"]["structuredContent"].clone();
        assert_eq!(answer.pointer(field), Some(&"to nobody there".into()), "{tool}: {answer}");
        assert!(bob.end());
        assert_eq!(repo.json(&["inbox", "--as", "bob", "--unread"])["messages"], json!([]), "{tool} has marked it");
        repo.thrum(&["send", "to nobody there", "--to", "@bob", "--as", "ann"]).ok();
    }
}

#[test]
fn wrong_arguments_are_answered_with_the_expected_ones() {
    let repo = two();
    let mut ann = Client::of(&repo, "ann");
    for (tool, arguments, words) in [
        ("send_message", json!({"to": 3, "content": "x"}), "integer `3`"),
        ("send_message", json!({"content": "x"}), "`to`"),
        ("send_message", json!({"to": "@bob", "content": "x", "urgent": true}), "`urgent`"),
        ("send_message", json!({"to": "", "content": "x"}), "no recipient"),
        ("send_message", json!({"to": "@everyone, @bob", "content": "x"}), "not both"),
        ("send_message", json!({"to": "@nobody", "content": "x"}), "@nobody"),
        ("send_message", json!({"to": "@nobody", "content": "x"}), "list_agents"),
        ("send_message", json!({"to": "@bob", "content": " "}), "content is empty"),
        ("check_messages", json!({"limit": "many"}), "check_messages takes limit (integer, optional)"),
        ("wait_for_message", json!({"timeout": -1}), "-1"),
        ("reply", json!({"message_id": "msg_none", "content": "x"}), "msg_none"),
        ("reply", json!({"message_id": "", "content": "x"}), "message_id is empty"),
        ("reply", json!({"message_id": "msg_none", "content": ""}), "content is empty"),
        ("who_has", json!({"path": "../elsewhere"}), "is not inside"),
        ("who_has", json!({"path": ""}), "path is empty"),
        ("set_status", json!({}), "neither"),
        ("brief", json!({"for": "bob"}), "brief takes nothing"),
    ] {
        let said = ann.refused(tool, arguments.clone());
        assert!(said.contains(words), "{tool} {arguments}: {said}");
        assert!(!said.contains("--"), "a tool has no options of a command: {tool} {arguments}: {said}");
    }
    // JSON Schema counts a number without a fraction as an integer, in any notation.
    for (tool, name) in [("check_messages", "limit"), ("wait_for_message", "timeout")] {
        assert!(ann.refused(tool, json!({name: 5.5})).contains("5.5"));
        assert!(ann.refused(tool, json!({name: -1.0})).contains("-1"));
    }
    assert_eq!(ann.done("check_messages", json!({"limit": 5.0}))["status"], "empty");
    assert_eq!(ann.done("check_messages", json!({"limit": 1e300}))["status"], "empty");
    assert_eq!(ann.done("wait_for_message", json!({"timeout": 0.0}))["status"], "timeout");
    // Models send null for parameters that they leave out.
    assert_eq!(ann.done("check_messages", json!({"limit": null}))["status"], "empty");
    let unknown = ann.ask("tools/call", json!({"name": "no_such_tool", "arguments": {}}));
    assert!(unknown["error"]["message"].as_str().unwrap().contains("check_messages"), "{unknown}");

    let heard = instead_of_daemon(&repo, 4, |_| None);
    let said = ann.refused("send_message", json!({"to": "@bob", "content": "x"}));
    assert!(said.contains("Call again with idempotency_key ") && !said.contains("--"), "{said}");
    let said = ann.refused("reply", json!({"message_id": "msg_1", "content": "x"}));
    assert!(said.contains("look whether it was stored") && !said.contains("--"), "{said}");
    heard.join().unwrap();
}

#[test]
fn malformed_parameters_are_answered_with_the_expected_ones() {
    let repo = two();
    let mut client = Client::of(&repo, "ann");
    for (method, params, words) in [
        ("tools/call", json!({"name": "brief", "arguments": []}), "arguments (object)"),
        ("tools/call", json!({"name": 1}), "name (string)"),
        ("tools/call", json!({}), "name (string)"),
        ("resources/read", json!({}), "uri (string)"),
        ("initialize", json!({}), "protocolVersion (string)"),
    ] {
        let error = client.ask(method, params.clone())["error"].clone();
        let said = error["message"].as_str().unwrap_or_default();
        assert!(error["code"] == -32602 && said.contains(words) && said.contains(method), "{method} {params}: {error}");
    }
    assert_eq!(client.ask("thrum/nothing", json!({}))["error"]["code"], -32601);
    assert_eq!(client.done("brief", json!({}))["you"]["name"], "ann", "it serves on");
}

/// Models send an empty text for parameters that they leave out. As a cursor it would skip all unread mail.
#[test]
fn an_optional_parameter_that_is_an_empty_text_counts_as_absent() {
    let repo = two();
    let mut ann = Client::of(&repo, "ann");
    let mut bob = Client::of(&repo, "bob");
    for content in ["one", "two"] {
        let optional = json!({"to": "@bob", "content": content, "reply_to": "", "metadata": "", "idempotency_key": ""});
        ann.done("send_message", optional);
    }
    let read = bob.done("check_messages", json!({"cursor": "", "limit": "", "peek": ""}));
    assert_eq!(contents(&read["messages"]), ["one", "two"], "two messages with the same empty key are two");
    assert_eq!(bob.done("list_agents", json!({"include_offline": ""}))["count"], 2);
    ann.done("send_message", json!({"to": "@bob", "content": "three"}));
    assert_eq!(bob.done("wait_for_message", json!({"timeout": ""}))["message"]["content"], "three");
    // A parameter for which an empty text has a meaning keeps it.
    bob.done("set_status", json!({"intent": "tests", "task": "T-1"}));
    assert_eq!(bob.done("set_status", json!({"intent": ""}))["intent"], "");
    let you = bob.done("brief", json!({}))["you"].clone();
    assert!(you["intent"].as_str().is_none_or(str::is_empty) && you["task"] == "T-1", "{you}");
}
