//! What a sender hears of whom the message waits for.

use serde_json::{Value, json};

use crate::common::{TestRepo, pair, paired};

/// What is said of the one recipient, to people and to programs.
fn send_to(repo: &TestRepo, name: &str) -> (String, Value) {
    let text = repo.thrum(&["send", "hello", "--to", name]).ok().stdout;
    let sent = repo.json(&["send", "hello", "--to", name]);
    (text, sent["recipients"][0].clone())
}

fn status(repo: &TestRepo, name: &str) -> Value {
    repo.json(&["ping", name])["agents"][0]["status"].clone()
}

/// Exchanges now: the failure of it is known afterwards, too.
fn exchange(repo: &TestRepo) {
    repo.thrum(&["sync", "force"]);
}

#[test]
fn mail_to_a_machine_that_is_unreachable_or_removed_waits_and_its_sender_hears_so() {
    let (left, right) = paired();
    exchange(&left);
    right.thrum(&["session", "start"]).ok();
    exchange(&left);
    assert_eq!(send_to(&left, "@bob").1["outlook"], Value::Null, "its machine answers, and it is there");
    assert_eq!(status(&left, "@bob"), "active");

    right.thrum(&["daemon", "stop"]).ok();
    exchange(&left);
    let (text, recipient) = send_to(&left, "@bob");
    assert!(text.contains("stored; @bob's machine right is unreachable since ") && text.contains(", it waits"), "{text}");
    assert_eq!((&recipient["state"], &recipient["outlook_state"]), (&json!("stored"), &json!("unreachable")), "{recipient}");
    assert!(recipient["outlook"].as_str().unwrap().contains("unreachable since") && recipient["outlook_since"].is_string());
    assert_eq!(status(&left, "@bob"), "offline");
    assert!(!left.thrum(&["ping", "@bob"]).ok().stdout.contains("active"));
    let team = left.thrum(&["team", "--all"]).ok().stdout;
    let line = team.lines().find(|line| line.contains("@bob")).unwrap();
    assert!(line.contains("offline") && line.contains("its machine: unreachable") && !line.contains("active"), "{line}");

    right.thrum(&["daemon", "start"]).ok();
    exchange(&left);
    right.thrum(&["peer", "remove", "left"]).ok();
    exchange(&left);
    let (text, recipient) = send_to(&left, "@bob");
    assert!(text.contains("removed this one from its peers"), "{text}");
    assert_eq!((&recipient["outlook_state"], status(&left, "@bob")), (&json!("removed_us"), json!("offline")));

    left.thrum(&["peer", "remove", "right"]).ok();
    let (text, recipient) = send_to(&left, "@bob");
    assert!(text.contains("@bob's machine") && text.contains("is no peer of this one (removed"), "{text}");
    assert_eq!((&recipient["outlook_state"], status(&left, "@bob")), (&json!("removed"), json!("offline")));
}

#[test]
fn mail_over_a_relay_is_said_to_go_that_way_and_to_wait_where_the_relay_is_away() {
    let (left, relay, right) = (TestRepo::with_agent("left", "ann"), TestRepo::git("relay"), TestRepo::with_agent("right", "bob"));
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
    assert!(text.contains("and relay, which passes mail on, is unreachable since "), "{text}");
    assert_eq!((&recipient["outlook_state"], status(&left, "@bob")), (&json!("unreachable"), json!("offline")));
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
