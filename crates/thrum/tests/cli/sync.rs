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
