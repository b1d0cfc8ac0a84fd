//! Sending, reading and waiting for mail with the tools and resources.

use std::{
    io::BufReader,
    process::{ChildStdout, Stdio},
};

use serde_json::{Value, json};

use super::{Client, contents, text, two};
use crate::common::paired;

#[test]
fn mail_goes_from_one_agent_to_the_other_and_is_read_once() {
    let repo = two();
    let (mut ann, mut bob) = (Client::of(&repo, "ann"), Client::of(&repo, "bob"));
    let sent = ann.done("send_message", json!({"to": "@bob", "content": "Can you review this?"}));
    assert_eq!(
        (&sent["status"], &sent["resolved_to"], &sent["recipients"][0]["agent"]),
        (&"stored".into(), &1.into(), &"@bob".into())
    );
    let result = bob.call("check_messages", json!({}));
    let read = &result["structuredContent"];
    assert_eq!((&read["status"], &read["remaining"]), (&"messages".into(), &0.into()));
    let message = &read["messages"][0];
    assert_eq!(
        (&message["from"], &message["content"], &message["signed"], &message["message_id"]),
        (&"@ann".into(), &"Can you review this?".into(), &true.into(), &sent["message_id"])
    );
    assert!(text(&result).contains("  │ Can you review this?\n"), "the text says the same: {result}");
    assert_eq!(bob.done("check_messages", json!({}))["status"], "empty");
    bob.done("reply", json!({"message_id": sent["message_id"], "content": "Good to merge."}));
    let answered = ann.done("wait_for_message", json!({"timeout": 30}));
    assert_eq!(
        (&answered["status"], &answered["message"]["content"], &answered["message"]["reply_to"]),
        (&"message_received".into(), &"Good to merge.".into(), &sent["message_id"])
    );
    assert_eq!(ann.done("check_messages", json!({}))["status"], "empty", "what was waited for is read");
    assert!(ann.end() && bob.end());
}

#[test]
fn many_messages_come_in_pages_and_each_is_marked_as_it_is_returned() {
    let repo = two();
    let mut ann = Client::of(&repo, "ann");
    let long = "x".repeat(6 * 1024);
    for number in 0..5 {
        ann.done("send_message", json!({"to": "bob", "content": format!("{number}{long}")}));
    }
    let mut bob = Client::of(&repo, "bob");
    let (mut heard, mut calls) = (Vec::new(), 0);
    while calls < 5 {
        calls += 1;
        let result = bob.call("check_messages", json!({"limit": 50}));
        let page = &result["structuredContent"];
        assert!(page.to_string().len() <= 16 * 1024 && text(&result).len() <= 16 * 1024);
        heard.extend(contents(&page["messages"]).into_iter().map(|content| content[..1].to_owned()));
        // This call starts only after the messages returned above have been marked as read.
        let rest = bob.done("check_messages", json!({"limit": 1, "peek": true}));
        let left = rest["messages"].as_array().unwrap().len() as u64 + rest["remaining"].as_u64().unwrap();
        assert_eq!((page["remaining"].as_u64().unwrap(), heard.len() as u64 + left), (left, 5));
        if left == 0 {
            break;
        }
        assert!(text(&result).contains("call check_messages again"));
    }
    assert_eq!((heard.join(""), calls), ("01234".to_owned(), 3));
}

#[test]
fn a_cursor_returns_all_later_mail_whether_read_or_not() {
    let repo = two();
    let mut ann = Client::of(&repo, "ann");
    let mut bob = Client::of(&repo, "bob");
    let cursor = bob.done("check_messages", json!({}))["cursor"].clone();
    let long = "x".repeat(6 * 1024);
    for number in 0..4 {
        ann.done("send_message", json!({"to": "bob", "content": format!("{number}{long}")}));
    }
    repo.thrum(&["inbox", "--as", "bob"]).ok();
    assert_eq!(bob.done("check_messages", json!({}))["status"], "empty", "all are read");
    let (mut heard, mut at) = (Vec::new(), cursor);
    loop {
        let page = bob.done("check_messages", json!({"cursor": at}));
        heard.extend(contents(&page["messages"]).into_iter().map(|content| content[..1].to_owned()));
        at = page["cursor"].clone();
        assert_eq!(heard.len() as u64 + page["remaining"].as_u64().unwrap(), 4);
        if page["remaining"] == 0 {
            break;
        }
    }
    assert_eq!(heard.join(""), "0123");
    assert_eq!(bob.done("check_messages", json!({"cursor": at}))["status"], "empty");
    let said = bob.refused("check_messages", json!({"cursor": "another:1"}));
    assert!(said.contains("CURSOR_EXPIRED") && said.contains("without a cursor"), "{said}");
}

#[test]
fn a_long_message_is_cut_with_the_command_for_its_full_text() {
    let repo = two();
    let mut ann = Client::of(&repo, "ann");
    let whole = "\u{1}é".repeat(100_000);
    let id =
        ann.done("send_message", json!({"to": "@bob", "content": whole}))["message_id"].as_str().unwrap().to_owned();
    let mut bob = Client::of(&repo, "bob");
    let result = bob.call("wait_for_message", json!({}));
    let message = &result["structuredContent"]["message"];
    assert_eq!((&message["truncated"], &message["content_bytes"]), (&true.into(), &whole.len().into()));
    assert!(message.to_string().len() <= 16 * 1024 && text(&result).len() <= 16 * 1024);
    assert!(text(&result).contains(&format!("thrum message get {id}")), "{}", text(&result));
    let uri = format!("thrum://message/{id}");
    let read = bob.ask("resources/read", json!({"uri": uri}));
    let held: Value = serde_json::from_str(read["result"]["contents"][0]["text"].as_str().unwrap()).unwrap();
    assert_eq!(held["message"]["body"]["content"], whole);
}

/// Mail in a result that a client did not take, because it died or cancelled the call, stays unread.
#[test]
fn mail_that_was_not_written_to_the_client_stays_unread() {
    let repo = two();
    let mut bob = Client::of(&repo, "bob");
    let waiting = bob.send("tools/call", json!({"name": "wait_for_message", "arguments": {"timeout": 50}}));
    bob.write(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": waiting}}));
    // The reply to this later call shows that the waiting call is over.
    assert_eq!(bob.done("check_messages", json!({}))["status"], "empty");
    let mut ann = Client::of(&repo, "ann");
    ann.done("send_message", json!({"to": "@bob", "content": "for a living client"}));
    assert_eq!(contents(&bob.done("check_messages", json!({"peek": true}))["messages"]), ["for a living client"]);
    assert!(bob.heard.iter().all(|message| message["id"] != waiting), "{:?}", bob.heard);

    let mut dead = Client::of(&repo, "bob");
    // From now on no process reads the output of this server.
    drop(std::mem::replace(&mut dead.output, closed()));
    dead.send("tools/call", json!({"name": "check_messages", "arguments": {}}));
    assert!(dead.end(), "the end of its input ends it");
    assert_eq!(contents(&bob.done("check_messages", json!({}))["messages"]), ["for a living client"]);
}

#[test]
fn calls_side_by_side_return_each_message_once() {
    let repo = two();
    let (mut ann, mut bob) = (Client::of(&repo, "ann"), Client::of(&repo, "bob"));
    let mut send = |content: &str| ann.done("send_message", json!({"to": "@bob", "content": content}));
    let texts = ["0", "1", "2", "3", "4"];
    texts.iter().for_each(|content| drop(send(content)));
    let check = json!({"name": "check_messages", "arguments": {}});
    for _ in 0..4 {
        bob.send("tools/call", check.clone());
    }
    let heard = |line: &Value| -> Vec<String> {
        contents(&line["result"]["structuredContent"]["messages"]).into_iter().map(str::to_owned).collect()
    };
    let answers: Vec<Value> = (0..4).map(|_| bob.line().unwrap()).collect();
    assert_eq!(answers.iter().flat_map(heard).collect::<Vec<_>>(), texts, "{answers:?}");

    // Of two calls that wait, one gets the first message and the other one the next.
    for _ in 0..2 {
        bob.send("tools/call", json!({"name": "wait_for_message", "arguments": {"timeout": 50}}));
    }
    for content in ["first", "second"] {
        send(content);
        let answer = bob.line().unwrap();
        assert_eq!(answer["result"]["structuredContent"]["message"]["content"], content, "{answer}");
    }

    // This also holds for calls that are cancelled while the server handles them: a later call returns what was not
    // written.
    let mut expected: Vec<String> = (0..20).map(|number| format!("{number:02}")).collect();
    for content in &expected {
        send(content);
        let cancelled = bob.send("tools/call", check.clone());
        bob.write(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": cancelled}}));
    }
    bob.heard.clear();
    let last = bob.send("tools/call", check);
    let last = bob.answer(last);
    let mut all: Vec<String> = bob.heard.iter().chain([&last]).flat_map(heard).collect();
    // One call returns at most ten messages.
    all.extend(contents(&bob.done("check_messages", json!({"limit": 50}))["messages"]).into_iter().map(str::to_owned));
    all.sort_unstable();
    expected.sort_unstable();
    assert_eq!(all, expected);
}

/// Returns the standard output of a process that has ended.
fn closed() -> BufReader<ChildStdout> {
    let mut child = std::process::Command::new("true").stdout(Stdio::piped()).spawn().unwrap();
    child.wait().unwrap();
    BufReader::new(child.stdout.take().unwrap())
}

/// The server's library starts calls concurrently; messages must still be sent in the order of the calls.
#[test]
fn messages_that_are_sent_without_waiting_keep_their_order() {
    let repo = two();
    let mut ann = Client::of(&repo, "ann");
    let texts: Vec<String> = (0..30).map(|number| format!("{number:02}")).collect();
    let send = |text: &String| json!({"name": "send_message", "arguments": {"to": "@bob", "content": text}});
    let ids: Vec<u64> = texts.iter().map(|text| ann.send("tools/call", send(text))).collect();
    let mut left = ids.len();
    while left > 0 {
        left -= usize::from(ann.line().unwrap()["result"]["isError"] == false);
    }
    let sent = repo.json(&["sent", "--as", "ann", "--limit", "30"]);
    let mut heard: Vec<&str> =
        sent["messages"].as_array().unwrap().iter().map(|it| it["body"]["content"].as_str().unwrap()).collect();
    heard.reverse();
    assert_eq!(heard, texts);
}

#[test]
fn a_send_that_is_repeated_with_its_key_is_stored_once() {
    let repo = two();
    let mut ann = Client::of(&repo, "ann");
    let mut send = || {
        ann.done("send_message", json!({"to": "@bob", "content": "once", "idempotency_key": "k1"}))["message_id"]
            .clone()
    };
    assert_eq!(send(), send());
    assert_eq!(repo.json(&["inbox", "--as", "bob"])["total"], 1);
}

#[test]
fn mail_from_another_machine_wakes_a_waiting_call_and_shows_its_machine() {
    let (left, right) = paired();
    let mut bob = Client::of(&right, "bob");
    let waiting = bob.send("tools/call", json!({"name": "wait_for_message", "arguments": {}}));
    let mut ann = Client::of(&left, "ann");
    let sent = ann.done("send_message", json!({"to": "@bob@right", "content": "over there?"}));
    assert_eq!(sent["recipients"][0]["agent"], "@bob@right");
    let woken = &bob.answer(waiting)["result"]["structuredContent"];
    let message = &woken["message"];
    assert_eq!(
        (&message["from"], &message["machine"], &message["signed"]),
        (&"@ann@left".into(), &"left".into(), &true.into()),
        "{woken}"
    );
    let answered =
        bob.done("send_message", json!({"to": message["from"], "content": "here", "reply_to": message["message_id"]}));
    assert_eq!(answered["recipients"][0]["agent"], "@ann@left");
}

#[test]
fn resources_show_mail_and_leave_it_unread() {
    let repo = two();
    let mut ann = Client::of(&repo, "ann");
    ann.done("send_message", json!({"to": "@bob", "content": "look"}));
    let mut bob = Client::of(&repo, "bob");
    let listed = bob.ask("resources/list", json!({}));
    for resource in listed["result"]["resources"].as_array().unwrap() {
        let read = bob.ask("resources/read", json!({"uri": resource["uri"]}));
        let held: Value = serde_json::from_str(read["result"]["contents"][0]["text"].as_str().unwrap()).unwrap();
        assert!(held.is_object(), "{read}");
        if resource["name"] == "inbox" {
            assert_eq!((&held["unread"], &held["messages"][0]["content"]), (&1.into(), &"look".into()));
        }
    }
    assert_eq!(bob.done("check_messages", json!({}))["messages"].as_array().unwrap().len(), 1);
    let unknown = bob.ask("resources/read", json!({"uri": "file:///etc/passwd"}));
    assert!(unknown["error"]["message"].as_str().unwrap().contains("thrum://inbox"), "{unknown}");
}
