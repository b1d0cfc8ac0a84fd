use std::{fs, path::PathBuf};

use serde_json::json;

use crate::common::{Ran, TestRepo, paired};

#[test]
fn the_flag_beats_the_environment_beats_the_only_identity() {
    let repo = TestRepo::with_agent("repo", "ann");
    let who = |args: &[&str], env: Option<&str>| {
        let mut command = repo.command(&[&["whoami", "--json"], args].concat());
        command.envs(env.map(|name| ("THRUM_NAME", name)));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let me: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (me["agent_id"].as_str().unwrap().to_owned(), me["source"].as_str().unwrap().to_owned())
    };
    let is = |name: &str, source: &str| (name.to_owned(), source.to_owned());
    assert_eq!(who(&[], None), is("ann", "file"));
    repo.agent("bob", "reviewer");
    assert_eq!(who(&[], Some("bob")), is("bob", "environment"));
    assert_eq!(who(&["--as", "@ann"], Some("bob")), is("ann", "flag"));
}

#[test]
fn with_several_identities_nothing_is_sent() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    for command in [&["send", "hello", "--to", "@ann"][..], &["inbox"], &["wait"], &["message", "read", "--all"]] {
        repo.thrum(command).fails(2, "several agents: ann, bob").fails(2, "THRUM_NAME");
    }
    assert_eq!(repo.json(&["inbox", "--as", "ann", "--all"])["total"], 0);
}

#[test]
fn a_missing_or_unknown_identity_cannot_send() {
    let repo = TestRepo::git("repo");
    repo.thrum(&["init"]).ok();
    repo.thrum(&["send", "hello", "--broadcast"]).fails(3, "thrum quickstart");
    repo.agent("ann", "implementer");
    let refused = repo.thrum(&["send", "hello", "--to", "@ann", "--as", "ghost"]);
    assert!(refused.code != 0 && refused.stderr.contains("ghost"), "{refused:?}");
    assert_eq!(repo.json(&["inbox"])["total"], 0);
}

#[test]
fn c16_an_agent_sends_and_reads_only_at_its_home() {
    let (left, right) = paired();
    assert!(right.thrum(&["team"]).ok().stdout.contains("@ann@left"), "right knows ann");
    for command in
        [&["send", "as if I were ann", "--to", "@bob"][..], &["inbox"], &["wait"], &["message", "read", "--all"]]
    {
        right.thrum(&[command, &["--as", "ann"]].concat()).fails(4, "ann");
    }
    assert_eq!(right.json(&["inbox"])["total"], 0);
    assert_eq!(left.json(&["inbox", "--all"])["total"], 0);
}

#[test]
fn one_name_on_two_machines_is_shown_and_neither_is_overwritten() {
    let (left, right) = paired();
    right.agent("ann", "reviewer");
    right.thrum(&["sync", "verify", "--as", "bob"]).ok();
    let team = left.thrum(&["team"]).ok().stdout;
    assert!(team.contains("● @ann  ") && team.contains("● @ann@right  "), "{team}");
    assert_eq!(left.json(&["whoami"])["role"], "implementer");
}

#[test]
fn c35_names_that_could_leave_the_directory_are_refused() {
    let repo = TestRepo::with_agent("repo", "ann");
    let long = "x".repeat(300);
    for name in ["a/b", "..", "../../etc/passwd", "Ann", "@all", "everyone", "system", "аnn", &long] {
        repo.thrum(&["quickstart", "--role", "r", "--module", "m", "--name", name]).fails(2, "invalid agent name");
        repo.thrum(&["whoami", "--as", name]).fails(2, "invalid agent name");
    }
    assert_eq!(fs::read_dir(repo.path(".thrum/identities")).unwrap().count(), 1);
}

#[test]
fn whoami_needs_no_daemon() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["daemon", "stop"]).ok();
    let me = repo.json(&["whoami", "--no-start"]);
    assert_eq!(
        (me["agent_id"].as_str(), me["role"].as_str(), me["module"].as_str()),
        (Some("ann"), Some("implementer"), Some("m-ann"))
    );
    assert_eq!(repo.daemon_pid(), None);
}

/// Creates a linked worktree of `repo` at `../NAME`, without setting it up for Thrum.
fn worktree(repo: &TestRepo, name: &str) -> PathBuf {
    repo.git_done(&["commit", "-q", "--allow-empty", "-m", name]);
    repo.git_done(&["worktree", "add", "-q", "-b", name, &format!("../{name}")]);
    repo.above().join(name)
}

/// Runs the program in a directory with additional variables.
fn run_in(repo: &TestRepo, dir: &PathBuf, env: &[(&str, &str)], args: &[&str]) -> Ran {
    repo.command(args).current_dir(dir).envs(env.iter().copied()).output().unwrap().into()
}

#[test]
fn a_variable_set_for_another_worktree_sends_nothing_in_that_agents_name() {
    let repo = TestRepo::with_agent("repo", "ann");
    let feature = worktree(&repo, "feature");
    run_in(&repo, &feature, &[], &["quickstart", "--name", "fay", "--role", "implementer", "--module", "x"]).ok();
    let stale = [("THRUM_NAME", "ann")];
    for command in [&["send", "whose?", "--to", "@ann"][..], &["inbox"], &["whoami"], &["message", "read", "--all"]] {
        run_in(&repo, &feature, &stale, command)
            .fails(2, "THRUM_NAME names ann")
            .fails(2, "it has: fay")
            .fails(2, "unset THRUM_NAME");
    }
    // An explicit `--as` counts, and so does a variable that names an agent of this worktree.
    run_in(&repo, &feature, &stale, &["send", "as fay", "--to", "@ann", "--as", "fay"]).ok();
    run_in(&repo, &feature, &[("THRUM_NAME", "fay")], &["send", "as fay, too", "--to", "@ann"]).ok();
    assert_eq!(repo.json(&["inbox"])["total"], 2);
    assert!(repo.json(&["inbox"])["messages"].as_array().unwrap().iter().all(|message| message["agent_id"] == "fay"));
    // The variable may name a new agent to register: that is its purpose.
    run_in(&repo, &feature, &[("THRUM_NAME", "gus")], &["register", "--role", "reviewer", "--module", "y"]).ok();
    assert!(feature.join(".thrum/identities/gus.json").exists());
}

#[test]
fn a_variable_is_used_with_a_warning_in_a_worktree_without_agents_and_an_unknown_name_sends_nothing() {
    let repo = TestRepo::with_agent("repo", "ann");
    let empty = worktree(&repo, "empty");
    run_in(&repo, &empty, &[], &["init"]).ok();
    run_in(&repo, &empty, &[("THRUM_NAME", "ann")], &["send", "note", "--to", "@ann"])
        .ok()
        .says("acting as @ann, named by the variable THRUM_NAME");
    run_in(&repo, &empty, &[("THRUM_NAME", "ghost")], &["send", "boo", "--to", "@ann"])
        .fails(3, "no agent ghost")
        .says("THRUM_NAME");
    assert_eq!(repo.json(&["inbox", "--all"])["total"], 1);
}

#[test]
fn the_agents_of_the_main_worktree_are_not_those_of_another() {
    let repo = TestRepo::with_agent("repo", "ann");
    // Many people create worktrees inside the main worktree. A fresh one shares the mailbox, but not the agent of the
    // surrounding worktree.
    repo.git_done(&["commit", "-q", "--allow-empty", "-m", "one"]);
    repo.git_done(&["worktree", "add", "-q", "-b", "inner", ".worktrees/inner"]);
    let inner = repo.path(".worktrees/inner");
    run_in(&repo, &inner, &[], &["send", "whose?", "--to", "@ann"])
        .fails(3, "no agent is registered in this worktree")
        .fails(3, "thrum quickstart");
    fs::create_dir(inner.join("src")).unwrap();
    run_in(&repo, &inner.join("src"), &[], &["whoami"]).fails(3, "no agent is registered in this worktree");
    run_in(&repo, &inner, &[], &["init"]).ok();
    run_in(&repo, &inner, &[], &["whoami"]).fails(3, "no agent is registered in this worktree");
    run_in(&repo, &inner, &[], &["quickstart", "--name", "ida", "--role", "reviewer", "--module", "y"]).ok();
    let me = run_in(&repo, &inner.join("src"), &[], &["whoami", "--json"]).ok().json();
    assert_eq!((&me["agent_id"], &me["worktree"]), (&"ida".into(), &inner.to_str().unwrap().into()), "also from below");
    // With `--as`, an agent of another worktree may act here.
    run_in(&repo, &inner, &[], &["send", "as ann", "--to", "@ida", "--as", "ann"]).ok();
    assert_eq!(run_in(&repo, &inner, &[], &["inbox", "--json"]).ok().json()["messages"][0]["agent_id"], "ann");
}

#[test]
fn an_identity_copied_to_another_worktree_is_refused() {
    let repo = TestRepo::with_agent("repo", "ann");
    let feature = worktree(&repo, "feature");
    run_in(&repo, &feature, &[], &["init"]).ok();
    fs::copy(repo.path(".thrum/identities/ann.json"), feature.join(".thrum/identities/ann.json")).unwrap();
    run_in(&repo, &feature, &[], &["send", "which ann?", "--to", "@ann"]).fails(4, "was copied").fails(4, "--as ann");
    fs::rename(feature.join(".thrum/identities/ann.json"), feature.join(".thrum/identities/bob.json")).unwrap();
    run_in(&repo, &feature, &[], &["whoami"]).fails(2, "another agent, 'ann'");
    assert_eq!(repo.json(&["whoami"])["agent_id"], "ann", "the original stays itself");
}

#[test]
fn an_agent_deleted_elsewhere_gets_an_error_and_sends_nothing() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    repo.connect().call("agent.delete", &json!({"name": "bob"}));
    for command in
        [&["send", "from the grave", "--to", "@ann"][..], &["inbox"], &["session", "start"], &["session", "heartbeat"]]
    {
        repo.thrum(&[command, &["--as", "bob"]].concat())
            .fails(3, "no agent bob is registered here: it was deleted at 20")
            .fails(3, "quickstart");
    }
    assert_eq!(repo.json(&["inbox", "--as", "ann", "--all"])["total"], 0);
    // The identity file is still here, so the agent comes back without repeating its role and module.
    repo.thrum(&["quickstart", "--as", "bob"]).ok();
    repo.thrum(&["send", "back", "--to", "@ann", "--as", "bob"]).ok();
}

#[test]
fn gos_variable_is_an_alias_and_two_different_values_are_refused() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    let who = |env: &[(&str, &str)]| run_in(&repo, &repo.root().to_owned(), env, &["whoami", "--json"]);
    assert_eq!(who(&[("THRUM_AGENT_ID", "bob")]).ok().json()["agent_id"], "bob");
    assert_eq!(who(&[("THRUM_AGENT_ID", "bob"), ("THRUM_NAME", "bob")]).ok().json()["agent_id"], "bob");
    who(&[("THRUM_AGENT_ID", "bob"), ("THRUM_NAME", "ann")]).fails(2, "THRUM_AGENT_ID is 'bob'");
    who(&[("THRUM_AGENT_ID", "agent:reviewer:4fk2")]).fails(2, "invalid agent name");
}

#[test]
fn a_name_in_another_case_is_refused_with_the_right_one() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["whoami", "--as", "Ann"]).fails(2, "Did you mean ann?");
    run_in(&repo, &repo.root().to_owned(), &[("THRUM_NAME", "ANN")], &["send", "x", "--to", "@ann"])
        .fails(2, "Did you mean ann?");
    fs::rename(repo.path(".thrum/identities/ann.json"), repo.path(".thrum/identities/Ann.json")).unwrap();
    repo.thrum(&["whoami"]).fails(3, "no agent is registered in this worktree");
}

#[test]
fn one_field_is_printed_alone_for_scripts() {
    let repo = TestRepo::with_agent("repo", "ann");
    assert_eq!(repo.thrum(&["whoami", "--field", "agent_id"]).ok().stdout, "ann\n");
    assert_eq!(repo.thrum(&["whoami", "--field", "branch"]).ok().stdout, "main\n");
    repo.thrum(&["session", "end"]).ok();
    assert_eq!(repo.thrum(&["whoami", "--field", "session_id"]).ok().stdout, "");
    repo.thrum(&["whoami", "--field", "nmae"]).fails(2, "agent_id, branch");
}

#[test]
fn a_lost_identity_file_is_restored_by_the_suggested_command() {
    let repo = TestRepo::git("my repo");
    repo.thrum(&["register", "--name", "ann", "--role", "implementer", "--module", "auth", "--display", "Ann A."]).ok();
    let before = repo.json(&["whoami"]);
    fs::write(repo.path(".thrum/identities/ann.json"), "{").unwrap();
    let refused = repo.thrum(&["whoami", "--json"]);
    assert_eq!(refused.code, 2);
    let error: serde_json::Value = serde_json::from_str(&refused.stderr).unwrap();
    let hint = error["error"]["hint"].as_str().unwrap();
    assert!(repo.thrum(&["doctor"]).stdout.contains(hint), "{hint}");
    let own = hint.replace("thrum quickstart", "\"$0\" quickstart");
    let mut shell = std::process::Command::new("sh");
    let ran = repo.in_surroundings(&mut shell).args(["-c", &own, env!("CARGO_BIN_EXE_thrum")]).output().unwrap();
    assert!(ran.status.success(), "{hint}: {}", String::from_utf8_lossy(&ran.stderr));
    let after = repo.json(&["whoami"]);
    for key in ["agent_id", "role", "module", "display"] {
        assert_eq!(after[key], before[key], "{key}");
    }
    repo.thrum(&["quickstart", "--name", "zed"]).fails(2, "--role is missing");
}

/// Programs that substitute variables in their settings pass the placeholder on unchanged if the variable is not set.
#[test]
fn a_literal_variable_reference_is_no_identity() {
    let repo = TestRepo::with_agent("repo", "ann").with_variable("THRUM_NAME", "${THRUM_NAME}");
    assert_eq!(repo.json(&["whoami"])["agent_id"], "ann");
}
