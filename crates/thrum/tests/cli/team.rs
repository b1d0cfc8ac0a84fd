use std::fs;

use crate::common::{TestRepo, paired};

#[test]
fn the_team_shows_agents_work_worktrees_and_mail() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    fs::write(repo.path("login.rs"), "x\n").unwrap();
    repo.thrum(&["session", "heartbeat", "--as", "ann"]).ok();
    repo.thrum(&["session", "set-intent", "Fix the login", "--as", "ann"]).ok();
    repo.thrum(&["session", "set-task", "AUTH-17", "--as", "ann"]).ok();
    repo.thrum(&["send", "one", "--to", "@ann", "--as", "bob"]).ok();
    repo.thrum(&["send", "two", "--to", "@ann", "--as", "bob"]).ok();
    repo.thrum(&["message", "read", "--all", "--as", "ann"]).ok();
    repo.thrum(&["send", "three", "--to", "@ann", "--as", "bob"]).ok();
    let team = repo.thrum(&["team"]).ok().stdout;
    for words in
        ["@ann  implementer · m-ann", "inbox 1/3", "Fix the login", "Task: AUTH-17", "main", "Files: ", "login.rs"]
    {
        assert!(team.contains(words), "no '{words}' in: {team}");
    }
    repo.thrum(&["session", "end", "--as", "bob"]).ok();
    assert!(!repo.thrum(&["team"]).ok().stdout.contains("@bob"));
    let all = repo.thrum(&["team", "--all"]).ok().stdout;
    assert!(all.contains("○ @bob") && all.contains("offline, last seen"), "{all}");
}

#[test]
fn agents_working_on_a_file_are_found_from_any_directory_and_none_is_exit_code_three() {
    let repo = TestRepo::git("repo");
    fs::create_dir_all(repo.path("src/deep")).unwrap();
    for name in ["src/login.rs", "src/quiet.rs"] {
        fs::write(repo.path(name), "1\n2\n").unwrap();
    }
    repo.git_done(&["add", "src"]);
    repo.git_done(&["commit", "-q", "-m", "Begin"]);
    fs::write(repo.path("src/login.rs"), "1\ntwo\n3\n").unwrap();
    repo.agent("ann", "implementer");
    let line = repo.thrum(&["who-has", "src/login.rs"]).ok().stdout;
    assert!(
        line.starts_with("@ann is editing src/login.rs (+2 -1, modified ") && line.contains("), branch: main"),
        "{line}"
    );
    let from = |dir: &str, file: &str| {
        repo.command(&["who-has", file]).current_dir(repo.path(dir)).output().unwrap().status.code()
    };
    assert_eq!(from("src", "login.rs"), Some(0));
    assert_eq!(from("src/deep", "../login.rs"), Some(0));
    assert_eq!(from("src", repo.path("src/login.rs").to_str().unwrap()), Some(0));
    assert_eq!(from("src", "quiet.rs"), Some(3));
    assert_eq!(from("src/deep", ".."), Some(0), "a directory is everything in it");
    assert_eq!(from("src", ".."), Some(0), "and so is the top");
    assert!(repo.thrum(&["who-has", "."]).ok().stdout.starts_with(line.split_once(' ').unwrap().0), "and from there");
    assert_eq!(from(".", "src/log"), Some(3), "half a name is no name");
    let nobody = repo.thrum(&["who-has", "src/quiet.rs", "--json"]);
    assert_eq!(
        (nobody.code, nobody.json()),
        (3, serde_json::json!({"file": "src/quiet.rs", "agents": [], "claims": [], "collisions": []}))
    );
    repo.thrum(&["who-has", "../elsewhere"]).fails(2, "is not inside");
    let found = repo.json(&["who-has", "src"]);
    assert_eq!(
        (&found["agents"][0]["files"][0]["path"], &found["agents"][0]["files"][0]["uncommitted"]),
        (&"src/login.rs".into(), &true.into())
    );

    fs::write(repo.path("new.rs"), "1\n").unwrap();
    repo.thrum(&["session", "heartbeat"]).ok();
    assert!(
        repo.thrum(&["who-has", "new.rs"]).ok().stdout.contains("new.rs (added "),
        "how many lines it has is not known"
    );
    let all = repo.thrum(&["who-has", "."]).ok().stdout;
    assert!(all.contains("src/login.rs") && all.contains("new.rs"), "{all}");

    // A committed change still belongs to the agent until it is merged.
    repo.git_done(&["checkout", "-q", "-b", "feature"]);
    repo.git_done(&["commit", "-q", "-a", "-m", "Two"]);
    repo.thrum(&["session", "heartbeat"]).ok();
    assert!(repo.thrum(&["who-has", "src/login.rs"]).ok().stdout.contains("@ann has changed src/login.rs"));
    repo.thrum(&["session", "end"]).ok();
    repo.thrum(&["who-has", "src/login.rs"]).fails(3, "");
    repo.thrum(&["who-has", "."]).fails(3, "");
}

#[test]
fn a_file_is_found_whichever_worktree_or_machine_it_is_edited_in() {
    let (left, right) = paired();
    fs::write(left.path("shared.rs"), "x\n").unwrap();
    left.thrum(&["session", "heartbeat"]).ok();
    left.thrum(&["sync", "verify"]).ok();
    let line = right.thrum(&["who-has", "shared.rs"]).ok().stdout;
    assert!(line.starts_with("@ann@left is editing shared.rs"), "{line}");
}

#[test]
fn the_events_of_a_remote_agent_are_its_signs_of_life() {
    let (left, right) = paired();
    let heard = || {
        let team = left.json(&["team", "--all"]);
        let members = team["members"].as_array().unwrap();
        members.iter().find(|member| member["agent_id"] == "bob").unwrap()["last_seen"].as_str().unwrap().to_owned()
    };
    let listed = || {
        let all = left.json(&["agent", "list"]);
        let agents = all["agents"].as_array().unwrap();
        agents.iter().find(|agent| agent["agent_id"] == "bob").unwrap()["last_seen_at"].as_str().unwrap().to_owned()
    };
    let told = |repo: &TestRepo| drop(repo.thrum(&["sync", "verify"]).ok());
    let began = heard();
    right.thrum(&["send", "hello", "--to", "@ann"]).ok();
    told(&left);
    let wrote = heard();
    assert!(wrote > began, "{began} {wrote}");
    assert_eq!(listed(), wrote);
    left.thrum(&["send", "hello", "--to", "@bob"]).ok();
    told(&right);
    right.thrum(&["inbox"]).ok();
    told(&left);
    assert!(heard() > wrote && listed() > wrote, "{wrote} {} {}", heard(), listed());
    right.thrum(&["session", "end"]).ok();
    right.thrum(&["send", "bye", "--to", "@ann"]).ok();
    told(&left);
    assert_eq!(heard(), listed());
}

#[test]
fn ping_finds_by_name_display_name_and_role() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["register", "--name", "bob", "--role", "reviewer", "--module", "m", "--display", "Bob B."]).ok();
    assert!(repo.thrum(&["ping", "@ann"]).ok().stdout.starts_with("@ann: active, last seen 20"));
    for name in ["bob", "Bob B.", "reviewer", "@bob"] {
        let said = repo.thrum(&["ping", name]).ok().stdout;
        assert!(said.starts_with("@bob: offline"), "{said}");
    }
    assert_eq!(repo.json(&["ping", "implementer"])["agents"][0]["agent_id"], "ann");
    repo.thrum(&["ping", "ghost"]).fails(3, "ghost").fails(3, "thrum team --all");
}

#[test]
fn ping_shows_the_home_of_an_agent_and_whether_its_daemon_answers() {
    let (left, right) = paired();
    assert!(left.thrum(&["ping", "bob"]).ok().stdout.starts_with("@bob@right: active"));
    assert!(left.thrum(&["ping", "bob"]).ok().stdout.trim_end().ends_with("; its daemon answers"));
    right.thrum(&["daemon", "stop"]).ok();
    left.thrum(&["sync", "force"]);
    let said = left.thrum(&["ping", "bob"]).ok().stdout;
    assert!(!said.contains("answers") && said.contains("; its daemon is "), "{said}");
}
