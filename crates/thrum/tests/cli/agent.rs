use serde_json::json;

use crate::common::{TestRepo, paired};

fn names(value: &serde_json::Value) -> Vec<&str> {
    let mut names: Vec<_> =
        value["agents"].as_array().unwrap().iter().map(|agent| agent["agent_id"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

#[test]
fn agents_are_listed_by_role_and_module_with_their_work() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    assert_eq!(names(&repo.json(&["agent", "list"])), ["ann", "bob"]);
    assert_eq!(names(&repo.json(&["agent", "list", "--role", "reviewer"])), ["bob"]);
    assert_eq!(names(&repo.json(&["agent", "list", "--module", "m-ann"])), ["ann"]);
    let with = repo.json(&["agent", "list", "--role", "reviewer", "--context"]);
    assert_eq!(
        (with["contexts"].as_array().unwrap().len(), &with["contexts"][0]["agent_id"]),
        (1, &"bob".into()),
        "{with}"
    );
    let text = repo.thrum(&["agent", "list", "--context"]).ok().stdout;
    assert!(text.contains("@bob") && text.contains("main"), "{text}");
}

#[test]
fn an_agent_of_a_peer_lives_where_the_peer_is_called() {
    let (left, _right) = paired();
    let all = left.json(&["agent", "list"]);
    let bob = all["agents"].as_array().unwrap().iter().find(|agent| agent["agent_id"] == "bob").unwrap();
    assert_eq!((&bob["home_name"], &bob["local"]), (&"right".into(), &false.into()), "{bob}");
    let shown = left.thrum(&["agent", "list"]).ok().stdout;
    let lives = |name: &str, place: &str| {
        shown.lines().any(|line| line.contains(name) && line.split_whitespace().any(|word| word == place))
    };
    assert!(lives("@bob", "right") && lives("@ann", "here"), "{shown}");
}

#[test]
fn the_work_of_an_agent_is_found_by_name_branch_and_file() {
    let repo = TestRepo::with_agent("repo", "ann");
    std::fs::write(repo.path("a b.rs"), "x\n").unwrap();
    repo.thrum(&["session", "heartbeat"]).ok();
    repo.thrum(&["session", "set-intent", "Tidy up"]).ok();
    let shown = repo.thrum(&["agent", "context", "@ann"]).ok().stdout;
    assert!(
        shown.contains("Intent: \"Tidy up\"") && shown.contains("Branch: main") && shown.contains("\"a b.rs\" (added)"),
        "{shown}"
    );
    let count =
        |args: &[&str]| repo.json(&[&["agent", "context"], args].concat())["contexts"].as_array().unwrap().len();
    assert_eq!([count(&["--branch", "main"]), count(&["--branch", "other"])], [1, 0]);
    assert_eq!([count(&["--file", "a b.rs"]), count(&["--file", "./a b.rs"]), count(&["--file", "b.rs"])], [1, 1, 0]);
    assert_eq!(count(&["--file", "."]), 1);
    repo.connect().call("agent.register", &json!({"name": "bob", "role": "reviewer", "module": "m"}));
    assert_eq!(count(&["bob"]), 0);
}

#[test]
fn a_deleted_agent_is_gone_with_its_identity_and_its_messages_stay() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    repo.thrum(&["send", "from bob", "--to", "@ann", "--as", "bob"]).ok();
    repo.thrum(&["agent", "delete", "bob"]).fails(2, "no terminal to ask on").says("--force");
    assert!(repo.path(".thrum/identities/bob.json").exists());
    let gone = repo.thrum(&["agent", "delete", "@bob", "--force"]).ok().stdout;
    assert!(gone.contains("@bob") && gone.contains("bob.json"), "{gone}");
    assert!(!repo.path(".thrum/identities/bob.json").exists());
    assert_eq!(names(&repo.json(&["agent", "list"])), ["ann"]);
    assert_eq!(repo.json(&["inbox"])["total"], 1);
    repo.thrum(&["send", "still there?", "--to", "@bob"]).fails(3, "bob");
    repo.thrum(&["agent", "delete", "bob", "--force"]).fails(3, "it was deleted at");
    repo.thrum(&["agent", "delete", "../../x", "--force"]).fails(2, "invalid agent name");
}

#[test]
fn a_person_at_a_terminal_is_asked_before_an_agent_is_deleted() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    let mut no = repo.asks(&["agent", "delete", "bob"]);
    no.until("[y/N] ");
    no.types("n\n");
    assert_eq!(no.end().0, 4);
    assert_eq!(names(&repo.json(&["agent", "list"])), ["ann", "bob"]);
    let mut yes = repo.asks(&["agent", "delete", "bob"]);
    yes.until("[y/N] ");
    yes.types("y\n");
    assert_eq!(yes.end().0, 0);
    assert_eq!(names(&repo.json(&["agent", "list"])), ["ann"]);
}

#[test]
fn a_deletion_reaches_peers_and_an_agent_of_another_machine_cannot_be_deleted() {
    let (left, right) = paired();
    left.thrum(&["sync", "verify"]).ok();
    left.thrum(&["agent", "delete", "bob", "--force"])
        .fails(4, "bob lives at another daemon (")
        .says("Delete it where it lives: thrum agent delete bob");
    left.thrum(&["agent", "delete", "anne", "--force"]).fails(3, "no agent anne").says("Did you mean ann?");
    right.agent("rex", "tester");
    right.thrum(&["agent", "delete", "rex", "--force"]).ok();
    left.thrum(&["sync", "verify"]).ok();
    assert_eq!(names(&left.json(&["agent", "list"])), ["ann", "bob"]);
}

#[test]
fn clean_up_proposes_no_agent_that_may_still_return() {
    let repo = TestRepo::with_agent("repo", "ann");
    // An agent without an identity file anywhere, but registered just now.
    repo.connect().call("agent.register", &json!({"name": "new", "role": "r", "module": "m"}));
    for args in [&["agent", "cleanup"][..], &["agent", "cleanup", "--dry-run"], &["agent", "cleanup", "--force"]] {
        let found = repo.json(args);
        assert_eq!(
            (found["orphans"].as_array().unwrap().len(), found["deleted"].as_array().unwrap().len()),
            (0, 0),
            "{found}"
        );
        assert_eq!(found["message"], "No agent of this daemon was left behind for 30 days");
    }
    assert_eq!(names(&repo.json(&["agent", "list"])), ["ann", "new"]);
    repo.thrum(&["agent", "cleanup", "--dry-run", "--force"]).fails(2, "cannot be used with");
    repo.thrum(&["agent", "cleanup", "--threshold", "0"]).fails(2, "0");
}
