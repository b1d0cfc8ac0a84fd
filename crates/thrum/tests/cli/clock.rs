//! Mail that is dated years ahead, written by a machine with a wrong clock.

use serde_json::{Value, json};

use crate::common::{
    TestRepo, contents,
    go::{GOS_PEER, GoThrum},
};

/// Creates a repository whose agent `a1` has ten messages dated 2099.
fn with_mail_of_2099() -> TestRepo {
    let repo = TestRepo::git("repo");
    repo.thrum(&["init"]).ok();
    let go = GoThrum::recorded(&repo.above().join("old/.thrum"));
    for n in 0..10 {
        let (id, at) = (format!("evt_2099_{n}"), format!("2099-01-01T00:00:{n:02}Z"));
        let event = json!({
            "event_id": id, "type": "message.create", "timestamp": at, "origin_daemon": GOS_PEER, "v": 1, "message_id": format!("msg_2099_{n}"),
            "agent_id": "remote1", "session_id": "", "recipients": ["a1"], "body": {"format": "plain", "content": format!("of 2099, {n}")},
        });
        go.insert([id, "message.create".to_owned(), at, GOS_PEER.to_owned()], &event.to_string());
    }
    drop(go);
    repo.thrum(&["import", "../old"]).ok();
    repo
}

#[test]
fn mail_dated_years_ahead_does_not_stand_above_new_mail_and_its_machine_is_named() {
    let repo = with_mail_of_2099();
    repo.agent("bob", "tester");
    repo.thrum(&["send", "new", "--to", "@a1", "--as", "bob"]).ok();
    let first = repo.json(&["inbox", "--as", "a1", "--limit", "10"]);
    assert!(contents(&first).contains(&"new"), "{first}");
    repo.thrum(&["message", "read", "--all", "--as", "a1"]).ok();
    let dated =
        first["messages"].as_array().unwrap().iter().find(|message| message["message_id"] == "msg_2099_9").unwrap();
    assert!(
        dated["claimed_at"].as_str().unwrap().starts_with("2099-")
            && !dated["created_at"].as_str().unwrap().starts_with("2099-")
    );
    let got = repo.thrum(&["message", "get", "msg_2099_9", "--as", "a1"]).ok().stdout;
    assert!(got.contains("2099-01-01") && got.contains("it arrived before that"), "{got}");

    let status = repo.thrum(&["status", "--as", "a1"]).ok().stdout;
    assert!(status.contains(&format!("the clock of {GOS_PEER}")) && status.contains("10 events"), "{status}");
    let ahead = repo.json(&["status", "--as", "a1"])["health"]["ahead"].clone();
    assert_eq!(
        (&ahead[0]["daemon_id"], &ahead[0]["events"], &ahead[0]["local"]),
        (&json!(GOS_PEER), &json!(10), &json!(false)),
        "{ahead}"
    );
    let doctor = repo.thrum(&["doctor"]).stdout;
    assert!(doctor.contains(&format!("the clock of {GOS_PEER}")), "{doctor}");
}

#[test]
fn a_purge_takes_mail_dated_years_ahead() {
    let repo = with_mail_of_2099();
    let would = repo.json(&["purge", "--all"]);
    let done = repo.json(&["purge", "--all", "--confirm"]);
    assert_eq!(
        (&done["messages_deleted"], &done["events_deleted"]),
        (&would["messages_deleted"], &would["events_deleted"])
    );
    assert_eq!(repo.json(&["inbox", "--as", "a1"])["total"], 0);
    assert_eq!(repo.json(&["status", "--as", "a1"])["health"]["ahead"], Value::Null);
    // The cutoff alone does not cover these messages, so the purge names them.
    let named = repo.json(&["status", "--as", "a1"])["health"]["purges"]["last"][0]["named"].clone();
    assert!(named.as_u64().is_some_and(|named| named >= 10), "{named}");
    let status = repo.thrum(&["status", "--as", "a1"]).ok().stdout;
    assert!(status.contains(&format!(", with {named} named that claim to be later")), "{status}");
}
