//! Limits on mail between agents: no endless exchange, no interruption of a turn, and one wake for many messages.

use serde_json::{Value, json};

use crate::{
    common::{Ran, TestRepo, contents, paired, plain::until},
    hook::{beside, ended, injected_text, waiter},
};

/// Runs a hook of the session of this repository's agent.
fn hook(repo: &TestRepo, event: &str, prompt: &str) -> Ran {
    let session = if repo.root().ends_with("left") { "l1" } else { "r1" };
    beside(repo, std::process::id(), event, &json!({"session_id": session, "prompt": prompt}))
}

fn unread(repo: &TestRepo) -> Vec<String> {
    let listed = repo.json(&["inbox", "--unread", "--limit", "50"]);
    contents(&listed).into_iter().map(str::to_owned).collect()
}

#[test]
fn mail_between_agents_without_a_person_is_held_and_both_are_notified() {
    let (left, right) = paired();
    left.thrum(&["config", "set", "agents.exchange", "4"]).ok();
    let person = |repo: &TestRepo| drop(hook(repo, "prompt", "do it"));
    let woken = |repo: &TestRepo| drop(hook(repo, "prompt", "<task-notification>"));
    let write = |text: &str| left.thrum(&["send", text, "--to", "@bob"]);
    for number in 0..6 {
        write(&number.to_string()).ok();
    }
    hook(&left, "start", "");
    person(&left);
    let mut last = None;
    // Messages from before the prompt do not count; after it, the messages of both sides do.
    let question = |key: &str| left.thrum(&["send", "question", "--to", "@bob", "--idempotency-key", key]);
    for key in ["k0", "k1"] {
        let sent = question(key).ok();
        let id = sent.stdout.split_whitespace().nth(1).unwrap().to_owned();
        until(|| right.thrum(&["reply", &id, "answer"]).code == 0);
        last = Some(id);
    }
    until(|| unread(&left).len() == 2);
    woken(&left);
    for _ in 0..2 {
        let held = write("one too many");
        held.fails(4, "not sent: @ann and @bob@right have written each other 4 messages since ")
            .says("Tell your person");
    }
    assert_eq!(
        question("k1").ok().stdout.split_whitespace().nth(1),
        last.as_deref(),
        "what is stored is said to be stored"
    );
    left.thrum(&["send", "to myself", "--to", "@ann"]).ok();
    let notices = || {
        unread(&right).iter().filter(|text| text.starts_with("Thrum holds what @ann writes to you: 4 messages")).count()
    };
    until(|| notices() == 1);
    assert!(!unread(&right).contains(&"one too many".to_owned()));
    let team = left.json(&["team"]);
    let ann = team["members"].as_array().unwrap().iter().find(|member| member["agent_id"] == "ann").unwrap();
    assert_eq!((&ann["held"][0]["to"], &ann["held"][0]["messages"]), (&json!("@bob@right"), &json!(4)));
    let shown = left.thrum(&["team"]).ok().stdout;
    assert!(shown.contains("Held: mail to @bob@right, after 4 messages without a person"), "{shown}");
    let shown = left.thrum(&["status"]).ok().stdout;
    assert!(shown.contains("@ann to @bob@right (thrum team)\n"), "{shown}");

    // A command that is typed outside a turn comes from a person.
    hook(&left, "stop", "");
    until(|| hook(&left, "stop", "").stdout.is_empty());
    write("by hand").ok();
    woken(&left);
    write("still").fails(4, "not sent");
    person(&left);
    write("looked at").ok();
    assert_eq!(
        left.json(&["team"])["members"].as_array().unwrap().iter().filter(|member| !member["held"].is_null()).count(),
        0
    );
    let shown = left.thrum(&["status"]).ok().stdout;
    assert!(!shown.contains("(thrum team)"), "nobody waits for a person: {shown}");
    for _ in 0..3 {
        write("more").ok();
    }
    write("too many").fails(4, "not sent");
    // A person at the other machine counts, too.
    hook(&right, "start", "");
    person(&right);
    until(|| write("heard of").code == 0);
    assert_eq!(notices(), 2, "once for each time");
    left.thrum(&["config", "set", "agents.exchange", "0"]).ok();
    for _ in 0..6 {
        write("no limit").ok();
    }
}

#[test]
fn a_changed_file_is_something_new_to_write_about() {
    let (left, _right) = paired();
    left.thrum(&["config", "set", "agents.exchange", "2"]).ok();
    hook(&left, "start", "");
    hook(&left, "prompt", "do it");
    let write = || left.thrum(&["send", "hello", "--to", "@bob"]);
    write().ok();
    write().ok();
    write().fails(4, "not sent");
    std::fs::write(left.path("new.rs"), "x\n").unwrap();
    hook(&left, "prompt", "<task-notification>");
    until(|| write().code == 0);
}

#[test]
fn remote_mail_waits_for_the_end_of_the_turn_and_a_flood_wakes_once() {
    let (left, right) = paired();
    let me = std::process::id();
    hook(&right, "start", "");
    hook(&right, "prompt", "work");
    let waiting = waiter(&right, me, "r1");
    for number in 0..5 {
        left.thrum(&["send", &format!("message {number}"), "--to", "@bob"]).ok();
    }
    until(|| unread(&right).len() == 5);
    let interrupted = ended(waiting);
    assert_eq!((interrupted.code, interrupted.stderr.as_str()), (0, ""), "it works");
    let brought = injected_text(&hook(&right, "stop", ""));
    assert!((0..5).all(|number| brought.contains(&format!("message {number}"))), "{brought}");
    assert_eq!(injected_text(&hook(&right, "stop", "")), "", "once");

    let waiting = waiter(&right, me, "r1");
    for number in 0..20 {
        left.thrum(&["send", &format!("flood {number}"), "--to", "@bob"]).ok();
    }
    assert_eq!(ended(waiting).code, 2);
    until(|| unread(&right).len() == 20);
    // The turn has begun: no other waiter wakes the session, and the end of the turn brings the remaining messages
    // together.
    hook(&right, "prompt", "<task-notification>");
    let second = ended(waiter(&right, me, "r1"));
    assert_eq!((second.code, second.stderr.as_str()), (0, ""));
    let mut turns = 0;
    while !injected_text(&hook(&right, "stop", "")).is_empty() {
        turns += 1;
    }
    assert!(turns <= 2, "{turns}: ten messages each");
    assert_eq!(unread(&right), Vec::<String>::new());
    let states = left.json(&["sent", "--limit", "20"]);
    let read = |message: &Value| message["recipients"][0]["state"] == "read";
    until(|| left.json(&["sent", "--limit", "20"])["messages"].as_array().unwrap().iter().all(read));
    assert_eq!(states["messages"].as_array().unwrap().len(), 20);
}
