use crate::common::{TestRepo, paired};

#[test]
fn verify_proves_that_nothing_is_missing() {
    let (left, right) = paired();
    for n in 0..20 {
        left.thrum(&["send", &format!("left {n}"), "--to", "@bob"]).ok();
        right.thrum(&["send", &format!("right {n}"), "--to", "@ann"]).ok();
    }
    for repo in [&left, &right] {
        let verified = repo.json(&["sync", "verify"]);
        assert_eq!((&verified["status"], &verified["peers"][0]["status"]), (&"equal".into(), &"equal".into()), "{verified}");
        assert!(verified["events"].as_u64().unwrap() >= 40);
        assert!(repo.thrum(&["sync", "verify"]).ok().stdout.contains("Nothing is missing"));
    }
}

#[test]
fn verify_with_nobody_to_ask_is_try_again() {
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

/// A hole below the checkpoint, as a database that lost rows has it.
fn lose(repo: &TestRepo, which: &str) -> usize {
    repo.thrum(&["daemon", "stop"]).ok();
    let lost = rusqlite::Connection::open(repo.path(".thrum/var/messages.db"))
        .unwrap()
        .execute(&format!("DELETE FROM events WHERE {which}"), [])
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
    assert_eq!((&verified["fetched"], &verified["peers"][0]["missing"]), (&serde_json::Value::Null, &serde_json::Value::Null));
}
