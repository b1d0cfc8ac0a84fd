use serde_json::{Value, json};

use crate::common::{
    TestRepo, paired,
    plain::{PlainPeer, until},
};

#[test]
fn verify_proves_that_nothing_is_missing() {
    let (left, right) = paired();
    for n in 0..20 {
        left.thrum(&["send", &format!("left {n}"), "--to", "@bob"]).ok();
        right.thrum(&["send", &format!("right {n}"), "--to", "@ann"]).ok();
    }
    for repo in [&left, &right] {
        let verified = repo.json(&["sync", "verify"]);
        assert_eq!(
            (&verified["status"], &verified["peers"][0]["status"]),
            (&"equal".into(), &"equal".into()),
            "{verified}"
        );
        assert!(verified["events"].as_u64().unwrap() >= 40);
        assert!(repo.thrum(&["sync", "verify"]).ok().stdout.contains("Nothing is missing"));
    }
}

#[test]
fn verify_without_reachable_peers_is_try_again() {
    let alone = TestRepo::with_agent("repo", "ann");
    let verified = alone.thrum(&["sync", "verify", "--json"]);
    assert_eq!((verified.code, verified.json()["status"].as_str()), (75, Some("no_peers")));

    let (left, right) = paired();
    right.thrum(&["daemon", "stop"]).ok();
    let verified = left.thrum(&["sync", "verify", "--json"]);
    assert_eq!((verified.code, verified.json()["status"].as_str()), (75, Some("unreachable")));
}

#[test]
fn force_pulls_at_once_and_names_the_peer_that_does_not_answer() {
    let (left, right) = paired();
    let forced = left.json(&["sync", "force"]);
    assert_eq!((&forced["triggered"], &forced["results"][0]["name"]), (&true.into(), &"right".into()), "{forced}");
    left.json(&["sync", "force", "--from", "right"]);
    assert_ne!(left.thrum(&["sync", "force", "--from", "nobody"]).code, 0);
    right.thrum(&["daemon", "stop"]).ok();
    let forced = left.thrum(&["sync", "force", "--json"]);
    assert_eq!(forced.code, 75, "{forced:?}");
    assert!(forced.json()["results"][0]["error"].is_string());
}

/// Deletes events below the checkpoint, as in a database that lost rows. Returns their number.
fn lose(repo: &TestRepo, which: &str) -> usize {
    repo.thrum(&["daemon", "stop"]).ok();
    let lost = rusqlite::Connection::open(repo.path(".thrum/var/messages.db"))
        .unwrap()
        .execute(&format!("DELETE FROM event_rows WHERE sequence IN (SELECT sequence FROM events WHERE {which})"), [])
        .unwrap();
    repo.thrum(&["daemon", "start"]).ok();
    lost
}

/// P1
#[test]
fn verify_names_what_is_missing_on_either_side_and_fetches_it() {
    let (left, right) = paired();
    for n in 0..10 {
        left.thrum(&["send", &format!("left {n}"), "--to", "@bob"]).ok();
        right.thrum(&["send", &format!("right {n}"), "--to", "@ann"]).ok();
    }
    left.thrum(&["sync", "verify"]).ok();
    let whole = left.json(&["sync", "verify"])["events"].clone();
    let id = |repo: &TestRepo| repo.json(&["daemon", "status"])["health"]["daemon_id"].as_str().unwrap().to_owned();
    let (left_id, right_id) = (id(&left), id(&right));
    assert_eq!(lose(&left, &format!("origin_daemon = '{right_id}' AND origin_seq BETWEEN 5 AND 7")), 3);
    assert_eq!(lose(&right, &format!("origin_daemon = '{left_id}' AND origin_seq = 4")), 1);
    let said = left.thrum(&["sync", "verify"]).ok().stdout;
    for words in [
        "● right  holds the same now",
        "3 events (5–7) were missing here, and came from it",
        "Nothing is missing any more: 3 events fetched",
    ] {
        assert!(said.contains(words), "no '{words}' in: {said}");
    }
    let verified = right.json(&["sync", "verify"]);
    assert_eq!((&verified["status"], &verified["events"]), (&"equal".into(), &whole), "{verified}");
    let verified = left.json(&["sync", "verify"]);
    assert_eq!((&verified["fetched"], &verified["peers"][0]["missing"]), (&Value::Null, &Value::Null));
}

#[test]
fn parked_events_are_listed_with_peer_and_reason() {
    let repo = TestRepo::with_agent("repo", "ann");
    assert_eq!(repo.thrum(&["sync", "parked"]).ok().stdout, "Nothing is parked: every event has its effect\n");
    repo.thrum(&["send", "mine", "--to", "@ann"]).ok();
    let mine = repo.json(&["inbox"])["messages"][0]["message_id"].clone();
    let peer = PlainPeer::join(&repo, "desk");
    let edit =
        |message: &str| ("message.edit", json!({"message_id": message, "body": {"format": "plain", "content": "no"}}));
    peer.serve([edit("msg_a"), edit("msg_b"), ("message.delete", json!({"message_id": mine}))]);
    let mut listed = Value::Null;
    until(|| {
        listed = repo.json(&["sync", "parked"]);
        listed["groups"].as_array().unwrap().len() == 2
    });
    let group = |n: usize| {
        let group = &listed["groups"][n];
        (
            group["events"].as_u64().unwrap(),
            group["waits"].as_bool().unwrap(),
            group["last"]["target"].as_str().unwrap(),
        )
    };
    assert_eq!((group(0), group(1).0, group(1).1), ((2, true, "msg_b"), 1, false), "{listed}");
    let text = repo.thrum(&["sync", "parked"]).ok().stdout;
    assert!(
        text.contains(
            "2 events from desk wait: its message is not here\n    last: message.edit evt_d_desk_2 for msg_b, by "
        ),
        "{text}"
    );
    assert!(
        text.contains(
            "1 event from desk stays without effect: it deletes a message of another daemon\n    message.delete evt_"
        ),
        "{text}"
    );
    assert!(repo.thrum(&["status"]).ok().stdout.contains("2 parked, 0 rejected (thrum sync parked)"));
    // Once the message arrives, the events that waited for it take effect.
    peer.serve([(
        "message.create",
        json!({"message_id": "msg_a", "agent_id": "eve", "body": {"format": "plain", "content": "first"}}),
    )]);
    until(|| repo.json(&["sync", "parked"])["groups"].as_array().unwrap().iter().all(|group| group["events"] == 1));
}

/// I11
#[test]
fn a_watch_shows_peers_whenever_their_state_changes() {
    let (left, right) = paired();
    let mut lines = left.begin(&["peer", "status", "--watch", "--json"]);
    let mut state = || {
        let line = lines.line();
        let Ok(peers) = serde_json::from_str::<Value>(&line) else { panic!("{line}") };
        (peers[0]["name"].as_str() == Some("right")).then(|| peers[0]["state"].as_str().unwrap().to_owned())
    };
    while state().as_deref() != Some("connected") {}
    right.thrum(&["daemon", "stop"]).ok();
    while state().as_deref() == Some("connected") {}
    let mut on_terminal = left.asks(&["peer", "status", "--watch"]);
    on_terminal.until("right");
    right.thrum(&["daemon", "start"]).ok();
    // The screen is cleared, and drawn again.
    on_terminal.until("connected");
    // A watch does not start a daemon that somebody stops, but ends.
    left.thrum(&["daemon", "stop"]).ok();
    assert_ne!(lines.end().code, 0);
    assert_ne!(on_terminal.end().0, 0);
    assert_ne!(left.thrum(&["daemon", "status"]).code, 0, "it is stopped");
}
