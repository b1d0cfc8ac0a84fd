use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::Value;

use crate::common::TestRepo;

#[test]
fn from_nothing_to_an_agent_in_one_command() {
    let repo = TestRepo::git("repo");
    let ran = repo
        .thrum(&[
            "quickstart",
            "--name",
            "ann",
            "--role",
            "implementer",
            "--module",
            "auth",
            "--intent",
            "Fix the login",
        ])
        .ok();
    assert!(ran.stdout.contains("@ann") && ran.stdout.contains("Fix the login"), "{}", ran.stdout);
    assert!(
        ran.stderr.contains("added it to .gitignore") && ran.stderr.contains("Starting the daemon"),
        "{}",
        ran.stderr
    );

    let path = repo.path(".thrum/identities/ann.json");
    let file: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(
        (&file["version"], &file["agent"]["Name"], &file["agent"]["Role"]),
        (&3.into(), &"ann".into(), &"implementer".into())
    );
    assert_eq!((&file["worktree"], &file["branch"]), (&"repo".into(), &"main".into()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let team = repo.json(&["team"]);
    assert_eq!(
        (&team["members"][0]["agent_id"], &team["members"][0]["intent"]),
        (&"ann".into(), &"Fix the login".into()),
        "{team}"
    );
}

#[test]
fn a_second_time_is_the_same_agent_in_the_same_session() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["session", "set-intent", "Fix the login"]).ok();
    repo.thrum(&["session", "set-task", "AUTH-17"]).ok();
    repo.thrum(&["session", "heartbeat", "--add-scope", "module:auth", "--add-ref", "issue:17"]).ok();
    let session = || repo.json(&["session", "list", "--active"])["sessions"].clone();
    let before = session();
    let again = repo.json(&["quickstart"]);
    assert_eq!(
        (&again["agent_id"], &again["role"]),
        (&"ann".into(), &"implementer".into()),
        "what was not said again stays"
    );
    assert_eq!((&again["continued"], &again["intent"]), (&true.into(), &"Fix the login".into()));
    assert_eq!(again["session_id"], before[0]["session_id"]);
    let mut after = session();
    for (name, value) in [("current_task", "AUTH-17"), ("intent", "Fix the login")] {
        assert_eq!(after[0][name], value, "{after}");
    }
    after[0]["last_seen_at"] = before[0]["last_seen_at"].clone();
    assert_eq!(after, before, "one session, with its scopes and refs");
    let file: Value =
        serde_json::from_str(&fs::read_to_string(repo.path(".thrum/identities/ann.json")).unwrap()).unwrap();
    assert_eq!((&file["intent"], &file["session_id"]), (&"Fix the login".into(), &before[0]["session_id"]));

    let ran = repo.thrum(&["quickstart", "--intent", "Something else"]).ok();
    assert!(ran.stdout.contains(" goes on\n"), "{}", ran.stdout);
    assert_eq!((&session()[0]["intent"], &session()[0]["current_task"]), (&"Something else".into(), &"AUTH-17".into()));
    let other = repo.json(&["quickstart", "--new-session"]);
    assert_eq!((&other["continued"], &other["intent"]), (&false.into(), &Value::Null));
    assert_ne!(other["session_id"], before[0]["session_id"]);
    assert_eq!(session().as_array().unwrap().len(), 1);
    assert_eq!(repo.json(&["team", "--all"])["members"].as_array().unwrap().len(), 1);
}

#[test]
fn another_agent_of_the_same_role_and_module_is_shown_and_only_force_goes_on() {
    let repo = TestRepo::git("repo");
    let as_agent = |name, more: &[&str]| {
        repo.thrum(&[&["quickstart", "--role", "implementer", "--module", "auth", "--name", name], more].concat())
    };
    as_agent("ann", &[]).ok();
    as_agent("bob", &[]).fails(4, "ann").fails(4, "--force");
    assert!(!repo.path(".thrum/identities/bob.json").exists());
    as_agent("bob", &["--force"]).ok();
    let team = repo.json(&["team", "--all"]);
    assert_eq!(team["members"].as_array().unwrap().len(), 2, "neither is overwritten: {team}");
}

#[test]
fn missing_arguments_are_reported_and_nothing_is_created() {
    let repo = TestRepo::git("repo");
    repo.thrum(&["quickstart", "--role", "r", "--module", "m"]).fails(2, "--name");
    repo.thrum(&["quickstart", "--name", "ann", "--module", "m"]).fails(2, "--role");
    repo.thrum(&["quickstart", "--name", "ann", "--role", "r"]).fails(2, "--module");
    repo.thrum(&["quickstart", "--name", "ann", "--role", "R/..", "--module", "m"]).fails(2, "role");
    assert!(!repo.path(".thrum").exists());
}
