use serde_json::{Value, json};

use crate::{
    common::{TestRepo, message_id, pair, paired, plain::until},
    hook::{beside, ended, waiter},
};

fn states(message: &Value) -> Vec<(&str, &str)> {
    message["recipients"]
        .as_array()
        .unwrap()
        .iter()
        .map(|to| (to["agent_id"].as_str().unwrap(), to["state"].as_str().unwrap()))
        .collect()
}

#[test]
fn each_recipient_is_shown_with_its_delivery_state() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    repo.agent("eve", "tester");
    let first = message_id(&repo.json(&["send", "to both", "--to", "bob", "--to", "eve", "--as", "ann"]));
    repo.thrum(&["send", "to eve", "--to", "eve", "--as", "ann"]).ok();
    repo.thrum(&["message", "read", &first, "--as", "bob"]).ok();

    let sent = |args: &[&str]| repo.json(&[&["sent", "--as", "ann"], args].concat());
    let all = sent(&[]);
    assert_eq!((&all["total"], &all["messages"][0]["body"]["content"]), (&2.into(), &"to eve".into()), "newest first");
    assert_eq!(states(&all["messages"][1]), [("bob", "read"), ("eve", "stored")]);
    assert_eq!(sent(&["--to", "@bob"])["total"], 1);
    assert_eq!(sent(&["--unread"])["total"], 2);
    assert_eq!(sent(&["--limit", "1", "--page", "2"])["messages"][0]["message_id"], first.as_str());
    repo.thrum(&["inbox", "--as", "eve"]).ok();
    assert_eq!(sent(&["--unread"])["total"], 0);

    let shown = repo.thrum(&["sent", "show", &first, "--as", "ann"]).ok().stdout;
    assert!(shown.contains("to both") && shown.contains("@bob  read ") && shown.contains("@eve  read "), "{shown}");
    let list = repo.thrum(&["sent", "--as", "ann"]).ok().stdout;
    assert!(list.ends_with("\n2 messages sent by @ann\n"), "{list}");
    repo.thrum(&["sent", "show", &first, "--as", "bob"]).fails(4, "was sent by @ann").says("thrum message get");
    repo.thrum(&["sent", "show", "msg_none", "--as", "bob"]).fails(3, "message not found");
    repo.thrum(&["sent", "--limit", "0", "--as", "bob"]).fails(2, "");
}

#[test]
fn a_message_is_at_its_home_after_its_acknowledgement_which_survives_a_restart() {
    let (left, right) = paired();
    right.thrum(&["daemon", "stop"]).ok();
    let message = message_id(&left.json(&["send", "are you there?", "--to", "@bob"]));
    let shown = || left.json(&["sent", "show", &message])["message"]["recipients"][0].clone();
    assert_eq!(
        (&shown()["state"], &shown()["home_name"], &shown()["local"]),
        (&"stored".into(), &"right".into(), &false.into())
    );
    assert!(left.thrum(&["sent"]).ok().stdout.contains("@bob@right  stored, not confirmed by right"));

    right.thrum(&["daemon", "start"]).ok();
    // A pull from after the last event acknowledges that event.
    right.thrum(&["sync", "force"]).ok();
    let there = shown();
    assert_eq!(there["state"], "at_home", "{there}");
    assert!(left.thrum(&["message", "get", &message]).ok().stdout.contains("@bob@right  at right since "));
    left.thrum(&["daemon", "restart"]).ok();
    assert_eq!(shown(), there);

    right.thrum(&["inbox"]).ok();
    left.thrum(&["sync", "force"]).ok();
    assert_eq!((&shown()["state"], &shown()["at_home_since"]), (&"read".into(), &there["at_home_since"]));
}

#[test]
fn a_message_at_a_relay_is_not_at_its_home() {
    let (left, relay, right) =
        (TestRepo::with_agent("left", "ann"), TestRepo::git("relay"), TestRepo::with_agent("right", "bob"));
    relay.agent("rob", "relay");
    pair(&left, &relay);
    pair(&relay, &right);
    left.thrum(&["sync", "force"]).ok();
    let message = message_id(&left.json(&["send", "over the hills", "--to", "@bob"]));
    relay.thrum(&["sync", "force"]).ok();
    // Polls without `wait`, because a wait would be reported to the sender.
    until(|| right.json(&["inbox", "--unread"])["total"] == 1);
    right.thrum(&["sync", "force"]).ok();
    let shown = || left.json(&["sent", "show", &message])["message"]["recipients"][0].clone();
    assert_eq!(
        (&shown()["state"], &shown()["at_home_since"]),
        (&"stored".into(), &Value::Null),
        "only bob's machine could say so"
    );
    let machine = shown()["home_name"].as_str().unwrap().to_owned();
    assert!(
        left.thrum(&["sent"]).ok().stdout.contains(&format!("@bob@{machine}  stored, not confirmed by {machine}")),
        "{machine}"
    );

    right.thrum(&["inbox"]).ok();
    relay.thrum(&["sync", "force"]).ok();
    left.thrum(&["sync", "force"]).ok();
    assert_eq!(shown()["state"], "read", "its receipt is its own word, whoever brings it");
}

#[test]
fn the_sending_machine_distinguishes_woken_shown_and_read() {
    let (left, right) = paired();
    let me = std::process::id();
    let hook =
        |event: &str, prompt: &str| drop(beside(&right, me, event, &json!({"session_id": "s1", "prompt": prompt})));
    hook("start", "");
    let waiting = waiter(&right, me, "s1");
    // Longer than the part of a message that a hook shows.
    let long = message_id(&left.json(&["send", &"long ".repeat(2000), "--to", "@bob"]));
    let until_all = |state: &str, words: &str| {
        until(|| left.json(&["sent", "show", &long])["message"]["recipients"][0]["state"] == state);
        assert_eq!(left.json(&["message", "get", &long])["message"]["recipients"][0]["state"], state);
        assert!(left.thrum(&["sent"]).ok().stdout.contains(words), "{words}");
    };
    assert_eq!(ended(waiting).code, 2);
    until_all("wake_requested", "@bob@right  wake requested ");
    // The turn that the message started proves that the agent was shown the beginning of it, but not the whole text.
    hook("prompt", "<task-notification>");
    until_all("shown", "@bob@right  shown ");
    assert_eq!(right.json(&["inbox", "--unread"])["total"], 1);
    let times = &left.json(&["sent", "show", &long])["message"]["recipients"][0];
    assert!(times["woken_at"].is_string() && times["seen_at"].is_string() && times["read_at"].is_null(), "{times}");
    right.thrum(&["message", "get", &long]).ok();
    until_all("read", "@bob@right  read ");
}
