//! A repository that was copied or moved together with its `.thrum`.

use std::{fs, process::Command};

use serde_json::Value;

use crate::common::{TestRepo, pair, paired, plain::until};

#[test]
fn c28_a_copy_does_not_start_until_the_user_declares_it() {
    let original = TestRepo::with_agent("original", "ann");
    original.thrum(&["send", "before the copy", "--to", "@ann"]).ok();
    let id = original.json(&["daemon", "status"])["health"]["daemon_id"].clone();
    original.thrum(&["daemon", "stop"]).ok();
    let copy = TestRepo::plain("copy");
    let copied = Command::new("cp").arg("-a").arg(original.path(".thrum")).arg(copy.root()).status().unwrap();
    assert!(copied.success());

    copy.thrum(&["daemon", "start"]).fails(4, "--new-identity").says("--moved");
    copy.thrum(&["inbox"]).fails(4, "--new-identity");
    let doctor = copy.thrum(&["doctor"]).fails(1, "").stdout;
    assert!(doctor.contains("it does not start: ") && doctor.contains("--new-identity"), "{doctor}");
    assert_eq!(copy.daemon_pid(), None);
    // The copy does not disturb the original.
    original.thrum(&["daemon", "start"]).ok();
    assert_eq!(original.json(&["daemon", "status"])["health"]["daemon_id"], id);

    copy.thrum(&["daemon", "start", "--moved", "--new-identity"]).fails(2, "");
    copy.thrum(&["daemon", "start", "--new-identity"]).ok();
    assert_ne!(copy.json(&["daemon", "status"])["health"]["daemon_id"], id);
    // The copy's agent belongs to the original. The copy still shows its daemon and its peers.
    let status = copy.thrum(&["status"]).ok();
    assert!(
        status.stdout.contains("Daemon:      running") && status.stderr.contains("ann lives at another daemon"),
        "{status:?}"
    );
    assert_eq!(copy.json(&["inbox", "--all"])["total"], 1, "what was in it stays");
    copy.thrum(&["daemon", "restart"]).ok();
}

#[test]
fn c28_a_moved_repository_keeps_its_identity() {
    let repo = TestRepo::with_agent("old-place", "ann");
    let id = repo.json(&["daemon", "status"])["health"]["daemon_id"].clone();
    repo.thrum(&["daemon", "stop"]).ok();
    let moved = TestRepo::plain("new-place");
    fs::rename(repo.path(".thrum"), moved.path(".thrum")).unwrap();
    let started = moved.thrum(&["daemon", "start"]);
    if started.code != 0 {
        moved.thrum(&["daemon", "start", "--moved"]).ok();
    }
    assert_eq!(moved.json(&["daemon", "status"])["health"]["daemon_id"], id);
}

/// Copies the files of a stopped daemon and adapts the recorded path, so that the daemon cannot detect the copy, as on
/// a cloned machine.
fn clone_of(original: &TestRepo) -> TestRepo {
    let clone = TestRepo::plain("clone");
    let copied = Command::new("cp").arg("-a").arg(original.path(".thrum")).arg(clone.root()).status().unwrap();
    assert!(copied.success());
    let file = clone.path(".thrum/var/daemon.json");
    let mut identity: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    identity["path"] = fs::canonicalize(clone.path(".thrum")).unwrap().to_str().unwrap().into();
    fs::write(&file, identity.to_string()).unwrap();
    clone
}

fn evidence(repo: &TestRepo, check: &str) -> String {
    let found = repo.thrum(&["doctor", "--json"]).json();
    let check = found["checks"].as_array().unwrap().iter().find(|one| one["name"] == check).unwrap().clone();
    assert_eq!(check["verdict"], "warning", "{check}");
    check["evidence"].as_str().unwrap().to_owned()
}

#[test]
fn c28_a_cloned_machine_is_reported_on_all_three_sides_until_it_gets_a_new_identity() {
    let (left, original) = paired();
    original.thrum(&["daemon", "stop"]).ok();
    let clone = clone_of(&original);
    for repo in [&original, &clone] {
        repo.thrum(&["config", "set", "daemon.sync_interval", "5s"]).ok();
        repo.thrum(&["daemon", "start"]).ok();
    }
    let health = |repo: &TestRepo| repo.json(&["daemon", "status"])["health"].clone();
    assert_eq!(health(&original)["daemon_id"], health(&clone)["daemon_id"]);
    let (of_original, of_clone) = (health(&original)["local_address"].clone(), health(&clone)["local_address"].clone());
    until(|| {
        let both = left.json(&["status"])["sync"]["peers"][0]["same_key"].clone();
        let is_at =
            |address: &Value| both.as_array().is_some_and(|both| both.iter().any(|seen| seen["address"] == *address));
        [&of_original, &of_clone].into_iter().all(is_at)
    });
    let name = left.json(&["peer", "list"])[0]["name"].as_str().unwrap().to_owned();
    let shown = left.thrum(&["status"]).ok().stdout;
    assert!(shown.contains("Two daemons run with its key") && shown.contains("--new-identity"), "{shown}");
    let said = evidence(&left, "peers");
    assert!(said.contains(&name) && said.contains("Two daemons run with its key"), "{said}");

    for (repo, other) in [(&original, &of_clone), (&clone, &of_original)] {
        until(|| health(repo)["same_key"][0]["address"] == *other);
        let seen = health(repo)["same_key"][0].clone();
        assert!(seen["peer"].is_string() && seen["at"].is_string(), "{seen}");
        let said = format!(
            "another daemon runs with this daemon's key: seen by {} at {}",
            seen["peer"].as_str().unwrap(),
            other.as_str().unwrap()
        );
        let shown = repo.thrum(&["status"]).ok().stdout;
        assert!(shown.contains(&said) && shown.contains("--new-identity"), "{shown}");
        assert!(evidence(repo, "daemon").contains(&said));
        let log = fs::read_to_string(repo.path(".thrum/var/daemon.log")).unwrap();
        assert_eq!(log.matches("another daemon runs with this daemon's key").count(), 1, "{log}");
    }
    let log = fs::read_to_string(left.path(".thrum/var/daemon.log")).unwrap();
    assert_eq!(log.matches("two daemons run with the key of").count(), 1, "{log}");

    // The advised solution works.
    clone.thrum(&["daemon", "stop"]).ok();
    clone.thrum(&["daemon", "start", "--new-identity"]).ok();
    pair(&left, &clone);
    assert_ne!(health(&original)["daemon_id"], health(&clone)["daemon_id"]);
    assert!(health(&clone)["same_key"].is_null());
}
