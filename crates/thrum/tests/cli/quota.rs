//! The daemon stops reading a peer that exceeds its quota. Raising the quota resumes it; removing the peer can drop its
//! data.

use serde_json::{Value, json};

use crate::common::{
    TestRepo,
    plain::{PlainPeer, until},
};

fn registrations(from: usize, to: usize) -> impl Iterator<Item = (&'static str, Value)> {
    (from..to).map(|n| {
        (
            "agent.register",
            json!({"agent_id": format!("agent{n}"), "kind": "agent", "role": "coder", "module": format!("m{n}")}),
        )
    })
}

fn agents(repo: &TestRepo) -> usize {
    repo.json(&["agent", "list"])["agents"].as_array().unwrap().len()
}

#[test]
fn a_peer_over_its_quota_is_read_no_further_until_the_quota_is_raised() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["config", "set", "peers.max_agents", "100"]).ok();
    let crowd = PlainPeer::join(&repo, "crowd");
    let other = PlainPeer::join(&repo, "other");
    crowd.serve(registrations(0, 2_500));
    let state = || {
        repo.json(&["peer", "list"]).as_array().unwrap().iter().find(|peer| peer["name"] == "crowd").unwrap().clone()
    };
    until(|| state()["state"] == "over_quota");
    assert_eq!((&state()["over_quota"]["measure"], &state()["over_quota"]["allowed"]), (&json!("agents"), &json!(100)));
    let kept = agents(&repo);
    assert!((101..=1_001).contains(&kept), "the batch with which it came over the quota is kept: {kept}");
    // Other peers are read as before.
    other.serve([("agent.register", json!({"agent_id": "olga", "role": "coder", "module": "m"}))]);
    until(|| agents(&repo) == kept + 1);
    crowd.serve(registrations(2_500, 2_600));
    for command in [&["peer", "list"][..], &["peer", "status"], &["status"], &["sync", "status"]] {
        let shown = repo.thrum(command).ok().stdout;
        assert!(shown.contains("over quota") && shown.contains("thrum config set peers.max_agents"), "{shown}");
    }
    let examined = repo.thrum(&["doctor"]).stdout;
    assert!(
        examined.contains("crowd is over its quota and read no further") && examined.contains("--forget"),
        "{examined}"
    );
    let forced = repo.thrum(&["sync", "force", "--from", "crowd"]);
    assert!(forced.code == 75 && forced.stdout.contains("over quota"), "{forced:?}");
    // A restart changes nothing.
    repo.thrum(&["daemon", "restart"]).ok();
    until(|| state()["state"] == "over_quota");
    assert_eq!(agents(&repo), kept + 1);
    repo.thrum(&["config", "set", "peers.max_agents", "5000"]).ok();
    until(|| agents(&repo) == 2_602);
    assert!(state().get("over_quota").is_none());
}

#[test]
fn forgetting_a_removed_peer_drops_only_its_events() {
    let repo = TestRepo::with_agent("repo", "ann");
    let bad = PlainPeer::join(&repo, "bad");
    let good = PlainPeer::join(&repo, "good");
    bad.serve(registrations(0, 1_500));
    let mail = |n: usize| {
        (
            "message.create",
            json!({"message_id": format!("msg_bad_{n}"), "agent_id": "agent1", "recipients": ["ann"], "body": {"content": "x".repeat(500)}}),
        )
    };
    bad.serve((0..500).map(mail));
    good.serve([("agent.register", json!({"agent_id": "olga", "role": "coder", "module": "m"}))]);
    let kept = || repo.json(&["inbox", "--unread"])["total"].as_u64().unwrap();
    until(|| kept() == 500 && agents(&repo) >= 1_000);
    // Receipts for the peer's messages are events of this daemon, and stay.
    repo.thrum(&["inbox"]).ok();
    repo.thrum(&["send", "still here", "--to", "ann"]).ok();
    let removed = repo.thrum(&["peer", "remove", "bad", "--forget"]).ok().stdout;
    assert!(removed.contains("its events are being removed"), "{removed}");
    until(|| agents(&repo) == 2 && kept() == 0);
    assert_eq!(repo.json(&["inbox"])["messages"][0]["body"]["content"], "still here");
    let health = repo.connect().call("health", &json!({}));
    assert!(health.get("forgetting").is_none() && health["parked"] == 0, "there is nothing to show any more: {health}");
    // A second removal by the peer's id finds no data.
    repo.thrum(&["peer", "remove", "d_bad", "--forget"]).fails(3, "not found");
    repo.thrum(&["doctor"]).ok();
}

#[test]
fn the_progress_of_forgetting_a_removed_peer_is_shown() {
    let repo = TestRepo::with_agent("repo", "ann");
    let bad = PlainPeer::join(&repo, "bad");
    // More than a hundred steps of five hundred rows each.
    let receipt = |n: u32| {
        ("message.receipt", json!({"message_id": format!("msg_{n}"), "agent_id": "eve", "receipt_type": "read"}))
    };
    repo.thrum(&["config", "set", "peers.max_parked", "100000"]).ok();
    bad.serve((0..60_000).map(receipt));
    let mut rpc = repo.connect();
    let mut health = || rpc.call("health", &json!({}));
    until(|| health()["events"].as_u64().unwrap() > 60_000);
    repo.thrum(&["peer", "remove", "bad", "--forget"]).ok();
    let first = health()["forgetting"][0].clone();
    assert_eq!(first["daemon_id"], "d_bad");
    assert!(first["done"].as_u64().unwrap() <= first["rows"].as_u64().unwrap(), "{first}");
    until(|| health()["forgetting"][0]["done"].as_u64().unwrap() > first["done"].as_u64().unwrap());
    let shown = repo.thrum(&["status"]).ok().stdout;
    assert!(shown.contains("the events of d_bad, ") && shown.contains(" rows of the log examined"), "{shown}");
    let examined = repo.thrum(&["doctor"]).stdout;
    assert!(examined.contains("it is dropping the events of d_bad, "), "{examined}");
}
