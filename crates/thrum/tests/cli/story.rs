//! Two paired repositories exchange mail, from the first command to the proof that nothing is missing.

use crate::common::{contents, paired};

#[test]
fn a_message_wakes_the_other_side_its_receipt_comes_back_and_nothing_is_missing() {
    let (left, right) = paired();

    let mut waiting = right.begin(&["wait", "--timeout", "60s", "--json"]);
    let sent = left.json(&["send", "Can you review feature/login?", "--to", "@bob"]);
    assert_eq!(sent["recipients"][0]["agent_id"], "bob", "{sent}");
    let received: serde_json::Value = serde_json::from_str(&waiting.line()).unwrap();
    let message = &received["messages"][0];
    assert_eq!((&message["message_id"], &message["agent_id"]), (&sent["message_id"], &"ann".into()), "{received}");
    waiting.end().ok();

    let id = sent["message_id"].as_str().unwrap();
    right.thrum(&["reply", id, "On it."]).ok();
    let answer = left.json(&["wait", "--timeout", "60s"]);
    assert_eq!(
        (&answer["messages"][0]["body"]["content"], &answer["messages"][0]["reply_to"]),
        (&"On it.".into(), &id.into())
    );
    // The answer arrived after the receipt on the same path, so the receipt is here, too.
    left.thrum(&["sync", "verify"]).ok();
    let read = left.json(&["message", "get", id]);
    assert!(read["message"]["recipients"][0]["read_at"].is_string(), "{read}");

    let team = left.json(&["team"]);
    let names: Vec<_> =
        team["members"].as_array().unwrap().iter().map(|member| member["agent_id"].as_str().unwrap()).collect();
    assert!(names.contains(&"ann") && names.contains(&"bob"), "{names:?}");

    // Messages to roles and broadcasts cross over, too.
    right.agent("rita", "reviewer");
    right.thrum(&["sync", "verify", "--as", "bob"]).ok();
    left.thrum(&["send", "to reviewers", "--to", "@reviewer"]).ok();
    left.thrum(&["send", "to all", "--broadcast"]).ok();
    right.thrum(&["sync", "verify", "--as", "bob"]).ok();
    let inbox = right.json(&["inbox", "--as", "rita"]);
    assert_eq!(contents(&inbox), ["to all", "to reviewers"]);
    left.thrum(&["sync", "verify"]).ok();
}

#[test]
fn mail_sent_while_the_other_side_is_away_arrives_when_it_comes_back() {
    let (left, right) = paired();
    right.thrum(&["daemon", "stop"]).ok();
    for n in 0..10 {
        left.thrum(&["send", &format!("while you were away {n}"), "--to", "@bob"]).ok();
    }
    right.thrum(&["daemon", "start"]).ok();
    right.thrum(&["sync", "verify"]).ok();
    assert_eq!(right.json(&["inbox", "--unread"])["unread"], 10);
}
