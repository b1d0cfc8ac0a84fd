//! `message.news`: every reader receives every message once.

use serde_json::{Value, json};

use crate::harness::{Client, Daemon, World};

fn send(daemon: &Daemon, text: &str) -> Value {
    daemon.call("message.send", json!({"content": text, "mentions": ["bob"], "caller_agent_id": "alice"}))
}

/// Returns bob's news: the texts, and the whole answer.
fn news(client: &mut Client, mut params: Value) -> (Vec<String>, Value) {
    params["caller_agent_id"] = "bob".into();
    let answer = client.ok("message.news", params);
    let text = |message: &Value| message["body"]["content"].as_str().unwrap().to_owned();
    (answer["messages"].as_array().unwrap().iter().map(text).collect(), answer)
}

#[test]
fn two_readers_of_one_mailbox_each_receive_every_message_once() {
    let world = World::new();
    let daemon = Daemon::with_two_agents(&world);
    let mut client = daemon.client();
    let mut heard = |reader: &str| news(&mut client, json!({"reader": reader})).0;
    send(&daemon, "one");
    assert_eq!((heard("a"), heard("a")), (vec!["one".to_owned()], vec![]));
    send(&daemon, "two");
    assert_eq!((heard("b"), heard("a")), (vec!["one".to_owned(), "two".to_owned()], vec!["two".to_owned()]));
    daemon.call("message.send", json!({"content": "a note to myself", "mentions": ["bob"], "caller_agent_id": "bob"}));
    daemon.call("message.send", json!({"content": "for alice", "mentions": ["alice"], "caller_agent_id": "bob"}));
    assert_eq!((heard("a"), heard("b")), (vec![], vec![]));
}

#[test]
fn a_reader_keeps_its_cursor_over_a_restart_and_can_skip_mail_read_elsewhere() {
    let world = World::new();
    let repo = world.repo("r");
    let daemon = Daemon::start(&repo);
    daemon.agent("alice", "planner");
    daemon.agent("bob", "builder");
    send(&daemon, "one");
    assert_eq!(news(&mut daemon.client(), json!({"reader": "a"})).0, ["one"]);
    send(&daemon, "two");
    let third = send(&daemon, "three");
    daemon.call("message.markRead", json!({"message_ids": [third["message_id"]], "caller_agent_id": "bob"}));
    drop(daemon);
    let daemon = Daemon::start(&repo);
    let mut client = daemon.client();
    assert_eq!(news(&mut client, json!({"reader": "a", "unread": true, "keep": true})).0, ["two"]);
    assert_eq!(news(&mut client, json!({"reader": "a"})).0, ["two", "three"], "read or not");
    assert_eq!(
        news(&mut client, json!({"reader": "new"})).0,
        ["one", "two"],
        "to a new reader the unread mail is news"
    );
}

#[test]
fn kept_news_is_repeated_until_its_cursor_is_returned() {
    let world = World::new();
    let daemon = Daemon::with_two_agents(&world);
    let mut client = daemon.client();
    news(&mut client, json!({"reader": "a"}));
    for text in ["one", "two", "three"] {
        send(&daemon, text);
    }
    let (first, answer) = news(&mut client, json!({"reader": "a", "keep": true, "page_size": 2}));
    assert_eq!(
        (first.join(" "), &answer["remaining"], &answer["unread"]),
        ("one two".to_owned(), &json!(1), &json!(3))
    );
    assert_eq!(news(&mut client, json!({"reader": "a", "keep": true, "page_size": 2})).0, first, "it was not taken");
    let (rest, after) = news(&mut client, json!({"reader": "a", "keep": true, "cursor": answer["cursor"]}));
    assert_eq!(rest, ["three"]);
    assert_eq!(news(&mut client, json!({"reader": "a", "keep": true})).0, ["three"]);
    assert_eq!(news(&mut client, json!({"reader": "a", "keep": true, "cursor": after["cursor"]})).0, [""; 0]);
    assert_eq!(news(&mut client, json!({"cursor": answer["cursor"]})).0, ["three"], "whoever keeps it needs no name");
}

#[test]
fn an_answer_without_news_moves_a_reader_that_would_otherwise_have_to_confirm_it() {
    let world = World::new();
    let daemon = Daemon::with_two_agents(&world);
    let mut client = daemon.client();
    let ask = json!({"reader": "a", "keep": true, "move_if_empty": true});
    assert_eq!(news(&mut client, ask.clone()).1["reader_moved"], true, "there is no mail yet");
    send(&daemon, "one");
    for _ in 0..2 {
        let (texts, answer) = news(&mut client, ask.clone());
        assert_eq!((texts, answer.get("reader_moved")), (vec!["one".to_owned()], None), "it was not taken");
    }
    daemon.call("message.send", json!({"content": "for alice", "mentions": ["alice"], "caller_agent_id": "bob"}));
    let read = json!({"reader": "a", "unread": true, "keep": true});
    let id = news(&mut client, read.clone()).1["messages"][0]["message_id"].clone();
    daemon.call("message.markRead", json!({"message_ids": [id], "caller_agent_id": "bob"}));
    assert_eq!(news(&mut client, read).1.get("reader_moved"), None, "without the parameter nothing moves");
    let unread = json!({"reader": "a", "unread": true, "keep": true, "move_if_empty": true});
    assert_eq!(news(&mut client, unread).1["reader_moved"], true);
    assert_eq!(news(&mut client, json!({"reader": "a"})).0, [""; 0], "the reader is past what was read elsewhere");
}

#[test]
fn a_cursor_of_another_log_or_beyond_its_end_is_an_error() {
    let world = World::new();
    let daemon = Daemon::with_two_agents(&world);
    let mut client = daemon.client();
    send(&daemon, "one");
    let (_, answer) = news(&mut client, json!({}));
    let cursor = answer["cursor"].as_str().unwrap();
    let (log, sequence) = cursor.rsplit_once(':').unwrap();
    let beyond = format!("{log}:{}", sequence.parse::<u64>().unwrap() + 1);
    for (cursor, words) in [(beyond.as_str(), "CURSOR_AHEAD"), ("another:1", "CURSOR_EXPIRED"), ("nonsense", "not one")]
    {
        let error = client.error("message.news", json!({"caller_agent_id": "bob", "cursor": cursor, "reader": "a"}));
        assert!(error["message"].as_str().unwrap().contains(words), "{cursor}: {error}");
        assert!(error["data"]["hint"].as_str().unwrap().contains("without a cursor"));
    }
    assert_eq!(news(&mut client, json!({"reader": "a"})).0, ["one"], "what is refused moves nobody");
    let long = "x".repeat(257);
    assert_eq!(
        client.error("message.news", json!({"caller_agent_id": "bob", "reader": long}))["data"]["kind"],
        "invalid"
    );
}

#[test]
fn waiting_for_news_delays_no_other_answer() {
    let world = World::new();
    let daemon = Daemon::with_two_agents(&world);
    let mut client = daemon.client();
    send(&daemon, "told, and not read");
    let cursor = news(&mut client, json!({"reader": "a", "unread": true, "keep": true})).1["cursor"].clone();
    // Extend the log with a message that is not news to bob, so that there is something to search.
    daemon.call("message.send", json!({"content": "for alice", "mentions": ["alice"], "caller_agent_id": "bob"}));
    let mut waiting: Vec<Client> = (0..20).map(|_| daemon.client()).collect();
    for (number, client) in waiting.iter_mut().enumerate() {
        let params = json!({
            "caller_agent_id": "bob", "reader": format!("r{number}"), "cursor": cursor, "unread": true, "keep": true, "timeout_ms": 50_000,
        });
        client.request("message.news", params);
    }
    for _ in 0..50 {
        assert_eq!(client.ok("message.list", json!({"for_agent": "bob"}))["total"], 1);
    }
    send(&daemon, "news");
    for client in &mut waiting {
        assert_eq!(client.answer().unwrap()["messages"][0]["body"]["content"], "news");
    }
}
