use std::fs;

use crate::common::TestRepo;

#[test]
fn an_agent_is_registered_with_an_identity_and_without_a_session() {
    let repo = TestRepo::git("repo");
    let ran = repo
        .thrum(&["register", "--name", "ann", "--role", "implementer", "--module", "auth", "--display", "Ann A."])
        .ok();
    assert!(ran.stdout.contains("@ann (implementer, auth)"), "{}", ran.stdout);
    ran.says("thrum session start");
    assert!(repo.path(".thrum/identities/ann.json").exists());
    let me = repo.json(&["whoami"]);
    assert_eq!(
        (&me["agent_id"], &me["display"], &me["session_id"]),
        (&"ann".into(), &"Ann A.".into(), &serde_json::Value::Null)
    );
    assert_eq!(repo.json(&["session", "list"])["sessions"].as_array().unwrap().len(), 0);
    assert_eq!(repo.json(&["team"])["members"].as_array().unwrap().len(), 0);
    assert_eq!(repo.json(&["team", "--all"])["members"][0]["status"], "offline");
}

#[test]
fn registering_again_changes_only_the_given_values() {
    let repo = TestRepo::with_agent("repo", "ann");
    let session = repo.json(&["whoami"])["session_id"].clone();
    let again = repo.json(&["agent", "register", "--display", "Ann"]);
    assert_eq!(
        (&again["status"], &again["role"], &again["display"]),
        (&"updated".into(), &"implementer".into(), &"Ann".into())
    );
    assert_eq!(repo.json(&["whoami"])["session_id"], session, "the session goes on");
}

#[test]
fn a_taken_role_and_module_are_shared_only_with_force() {
    let repo = TestRepo::git("repo");
    let register = |name: &str, more: &[&str]| {
        repo.thrum(&[&["register", "--role", "implementer", "--module", "auth", "--name", name], more].concat())
    };
    register("ann", &[]).ok();
    register("bob", &[]).fails(4, "ann is already the implementer of auth").fails(4, "--force");
    assert!(!repo.path(".thrum/identities/bob.json").exists());
    register("bob", &["--re-register"]).ok();
    assert_eq!(repo.json(&["agent", "list"])["agents"].as_array().unwrap().len(), 2, "neither is overwritten");
    repo.thrum(&["register", "--name", "cy", "--role", "implementer"]).fails(2, "--module");
    repo.thrum(&["register", "--name", "implementer", "--role", "r", "--module", "m"]).fails(2, "role");
    assert_eq!(fs::read_dir(repo.path(".thrum/identities")).unwrap().count(), 2);
}
