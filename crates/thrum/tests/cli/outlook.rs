//! What `send` reports about a recipient for whom the message has to wait.

use serde_json::{Value, json};

use crate::{
    common::{TestRepo, pair, paired, plain::until},
    hook::{beside, waiter},
};

/// Sends a message to one recipient. Returns the report on it for people and for programs.
fn send_to(repo: &TestRepo, name: &str) -> (String, Value) {
    let text = repo.thrum(&["send", "hello", "--to", name]).ok().stdout;
    let sent = repo.json(&["send", "hello", "--to", name]);
    (text, sent["recipients"][0].clone())
}

fn status(repo: &TestRepo, name: &str) -> Value {
    repo.json(&["ping", name])["agents"][0]["status"].clone()
}

/// Synchronizes with all peers now, so that the daemon knows afterwards if that fails.
fn exchange(repo: &TestRepo) {
    repo.thrum(&["sync", "force"]);
}

#[test]
fn the_sender_is_told_that_mail_to_an_unreachable_or_removed_machine_waits() {
    let (left, right) = paired();
    exchange(&left);
    right.thrum(&["session", "start"]).ok();
    exchange(&left);
    assert_eq!(send_to(&left, "@bob").1["outlook"], Value::Null, "its machine answers, and it is there");
    assert_eq!(status(&left, "@bob"), "active");

    right.thrum(&["daemon", "stop"]).ok();
    exchange(&left);
    let (text, recipient) = send_to(&left, "@bob");
    assert!(text.contains("stored; @bob's machine right stopped at ") && text.contains(", it waits"), "{text}");
    assert_eq!(
        (&recipient["state"], &recipient["outlook_state"]),
        (&json!("stored"), &json!("stopped")),
        "{recipient}"
    );
    assert!(recipient["outlook"].as_str().unwrap().contains("stopped at ") && recipient["outlook_since"].is_string());
    assert_eq!(status(&left, "@bob"), "offline");
    assert!(!left.thrum(&["ping", "@bob"]).ok().stdout.contains("active"));
    let team = left.thrum(&["team", "--all"]).ok().stdout;
    let line = team.lines().find(|line| line.contains("@bob")).unwrap();
    assert!(line.contains("offline") && line.contains("its machine: stopped") && !line.contains("active"), "{line}");

    right.thrum(&["daemon", "start"]).ok();
    exchange(&left);
    right.thrum(&["peer", "remove", "left"]).ok();
    exchange(&left);
    let (text, recipient) = send_to(&left, "@bob");
    assert!(text.contains("removed this one from its peers"), "{text}");
    assert_eq!((&recipient["outlook_state"], status(&left, "@bob")), (&json!("removed_us"), json!("offline")));

    left.thrum(&["peer", "remove", "right"]).ok();
    let (text, recipient) = send_to(&left, "@bob");
    // The text uses the same machine name as the address beside it.
    let address = recipient["address"].as_str().unwrap();
    let said = format!(
        "{address}  stored; @bob's machine {} is no peer of this one (removed",
        address.strip_prefix("@bob@").unwrap()
    );
    assert!(text.contains(&said), "{said}: {text}");
    assert_eq!((&recipient["outlook_state"], status(&left, "@bob")), (&json!("removed"), json!("offline")));
}

#[test]
fn the_sender_is_told_that_mail_goes_through_a_relay_or_waits_for_it() {
    let (left, relay, right) =
        (TestRepo::with_agent("left", "ann"), TestRepo::git("relay"), TestRepo::with_agent("right", "bob"));
    relay.agent("rob", "relay");
    pair(&relay, &right);
    pair(&left, &relay);
    exchange(&left);
    let (text, recipient) = send_to(&left, "@bob");
    assert!(text.contains("relay passes it on"), "{text}");
    assert_eq!(recipient["outlook_state"], "relayed");
    relay.thrum(&["daemon", "stop"]).ok();
    exchange(&left);
    let (text, recipient) = send_to(&left, "@bob");
    assert!(text.contains("and relay, which passes mail on, stopped at "), "{text}");
    assert_eq!((&recipient["outlook_state"], status(&left, "@bob")), (&json!("stopped"), json!("offline")));
}

#[test]
fn mail_to_an_agent_of_this_machine_whose_session_is_over_waits_for_the_next_one() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    let send = || repo.json(&["send", "hello", "--to", "@bob", "--as", "ann"])["recipients"][0].clone();
    repo.thrum(&["session", "start", "--as", "bob"]).ok();
    assert_eq!(send()["outlook"], Value::Null);
    repo.thrum(&["session", "end", "--as", "bob"]).ok();
    let recipient = send();
    assert_eq!(recipient["outlook_state"], "ended", "{recipient}");
    let text = repo.thrum(&["send", "hello", "--to", "@bob", "--as", "ann"]).ok().stdout;
    assert!(text.contains("stored; @bob's session ended at ") && text.contains("it waits for the next one"), "{text}");
}

#[test]
fn the_state_of_a_remote_recipient_gives_the_expected_delivery() {
    let (left, right) = paired();
    let me = std::process::id();
    let hook = |event: &str| drop(beside(&right, me, event, &json!({"session_id": "s1", "prompt": "x"})));
    let until_said = |state: &str, words: &str| {
        // Polls with `team`, because each message would wake the session.
        let expected =
            |outlook: &Value| outlook["outlook_state"] == state && outlook["outlook"].as_str().unwrap().contains(words);
        until(|| {
            let team = left.json(&["team", "--all"]);
            let member =
                team["members"].as_array().unwrap().iter().find(|member| member["agent_id"] == "bob").unwrap().clone();
            let shown = (member["presence"].as_str().unwrap_or_default(), member["wakeable"] == true);
            let is_there = match state {
                "wakeable" => ("idle", true),
                "busy" => ("working", false),
                other => (other, false),
            };
            shown == is_there
        });
        let (text, recipient) = send_to(&left, "@bob");
        assert!(expected(&recipient), "{recipient}");
        assert!(text.contains(words) && recipient["outlook_since"].is_string(), "{text}");
    };
    hook("start");
    until_said("idle", "and nothing wakes it: it gets it with its next prompt");
    hook("prompt");
    until_said("busy", "is working since ");
    hook("stop");
    // The first stop continues the turn with the mail.
    hook("stop");
    let mut waiting = waiter(&right, me, "s1");
    until_said("wakeable", "it gets it now");
    waiting.wait().unwrap();
    hook("end");
    until_said("gone", "it waits for the next session");
}
