//! Which agents are present, and which were left behind.

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};
use thrum_daemon::paths::Repo;

use crate::harness::{Daemon, World};

fn names(list: &Value) -> BTreeSet<&str> {
    list.as_array().unwrap().iter().map(|agent| agent["agent_id"].as_str().unwrap()).collect()
}

#[test]
fn clean_up_deletes_silent_agents_without_an_identity_and_only_on_request() {
    let world = World::new();
    let repo = world.repo("r");
    let daemon = Daemon::start(&repo);
    // A second worktree that shares the daemon.
    let feature = world.dir.join("feature");
    let git_dir = repo.root().join(".git/worktrees/feature");
    fs::create_dir_all(&git_dir).unwrap();
    fs::create_dir_all(feature.join(".thrum/identities")).unwrap();
    fs::write(git_dir.join("gitdir"), feature.join(".git").display().to_string()).unwrap();
    for (name, identities) in [("main", repo.identities()), ("fay", feature.join(".thrum/identities"))] {
        fs::write(identities.join(format!("{name}.json")), "{}").unwrap();
    }
    for name in ["left", "main", "fay", "called", "working", "apart", "moved"] {
        daemon.agent(name, "builder");
    }
    // A directory that git does not list, such as the main worktree of a repository whose git directory lies elsewhere.
    let apart_dir = world.dir.join("apart");
    fs::create_dir(&apart_dir).unwrap();
    let apart = Repo::create(&apart_dir, Some(repo.thrum_dir())).unwrap();
    fs::write(apart.identities().join("apart.json"), "{}").unwrap();
    for name in ["apart", "moved"] {
        let work = json!({"worktree_path": apart.root()});
        let session = daemon.call("session.start", json!({"agent_id": name, "work_context": work}));
        daemon.call("session.end", json!({"session_id": session["session_id"]}));
    }
    daemon.stop();
    // Forty days later.
    let database = rusqlite::Connection::open(repo.database()).unwrap();
    let days = 40 * 86_400_000_000_000_i64;
    database.execute("UPDATE agents SET registered_at = registered_at - ?1", [days]).unwrap();
    database
        .execute(
            "UPDATE sessions SET started_at = started_at - ?1, shown_at = shown_at - ?1, ended_at = ended_at - ?1",
            [days],
        )
        .unwrap();
    database.execute("UPDATE contexts SET at = at - ?1", [days]).unwrap();
    database.execute("UPDATE presence SET last_seen_at = last_seen_at - ?1", [days]).unwrap();
    drop(database);

    let daemon = Daemon::start(&repo);
    daemon.call("agent.whoami", json!({"caller_agent_id": "called"}));
    daemon.call("session.start", json!({"agent_id": "working"}));
    let orphans = |params: Value| {
        let found = daemon.call("agent.cleanup", params);
        (names(&found["orphans"]).into_iter().map(str::to_owned).collect::<Vec<_>>(), found["deleted"].clone())
    };
    let left = vec!["left".to_owned(), "moved".to_owned()];
    assert_eq!(orphans(json!({})), (left.clone(), json!([])), "whoever does not say so deletes nobody");
    assert_eq!(orphans(json!({"dry_run": true})), (left.clone(), json!([])));
    assert_eq!(orphans(json!({"threshold": 41})), (vec![], json!([])));
    assert_eq!(
        daemon.client().error("agent.cleanup", json!({"force": true, "dry_run": true}))["data"]["kind"],
        "invalid"
    );
    assert_eq!(orphans(json!({"force": true})), (left, json!(["moved", "left"])));
    assert_eq!(
        names(&daemon.call("agent.list", json!({}))["agents"]),
        ["apart", "called", "fay", "main", "working"].into()
    );
    assert_eq!(orphans(json!({"force": true})), (vec![], json!([])));
}

#[test]
fn an_abandoned_session_becomes_silent_and_its_agent_is_offline_until_its_next_sign_of_life() {
    let world = World::new();
    let repo = world.repo("r");
    let daemon = Daemon::start(&repo);
    daemon.agent("ann", "builder");
    daemon.call("session.start", json!({"agent_id": "ann"}));
    daemon.stop();
    let database = rusqlite::Connection::open(repo.database()).unwrap();
    let hours = 2 * 3_600_000_000_000_i64;
    database.execute("UPDATE sessions SET started_at = started_at - ?1, shown_at = shown_at - ?1", [hours]).unwrap();
    database.execute("UPDATE presence SET last_seen_at = last_seen_at - ?1", [hours]).unwrap();
    drop(database);

    let daemon = Daemon::start(&repo);
    let state = || {
        let session = daemon.call("session.list", json!({}))["sessions"][0]["status"].clone();
        let member = daemon.call("team.list", json!({"include_offline": true}))["members"][0]["status"].clone();
        let active = daemon.call("session.list", json!({"active_only": true}))["sessions"].as_array().unwrap().len();
        (session, member, active)
    };
    assert_eq!(state(), (json!("silent"), json!("offline"), 0));
    assert_eq!(daemon.call("team.list", json!({}))["members"], json!([]));
    // A wait is a sign of life for as long as it lasts.
    let mut waiting = daemon.client();
    waiting.request("message.wait", json!({"caller_agent_id": "ann", "timeout_ms": 600_000}));
    while state().0 == "silent" {}
    assert_eq!(state(), (json!("active"), json!("active"), 1));
}

#[test]
fn a_call_that_does_not_wait_for_mail_does_not_change_what_its_agent_does() {
    let world = World::new();
    let repo = world.repo("r");
    let daemon = Daemon::start(&repo);
    daemon.agent("ann", "builder");
    daemon.call("agent.setPresence", json!({"caller_agent_id": "ann", "session": "s1", "state": "gone"}));
    let presence = || {
        let member = daemon.call("team.list", json!({"include_offline": true}))["members"][0].clone();
        (member["presence"].clone(), member["presence_since"].clone())
    };
    let gone = presence();
    assert_eq!(gone.0, "gone");
    for method in ["message.wait", "message.news"] {
        daemon.call(method, json!({"caller_agent_id": "ann", "timeout_ms": 0}));
        assert_eq!(presence(), gone, "{method}");
    }
}
