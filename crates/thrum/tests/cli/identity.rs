use std::fs;

use crate::common::{TestRepo, paired};

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
fn of_several_identities_none_is_guessed_and_nothing_is_sent() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    for command in [&["send", "hello", "--to", "@ann"][..], &["inbox"], &["wait"], &["message", "read", "--all"]] {
        repo.thrum(command).fails(2, "several agents: ann, bob").fails(2, "THRUM_NAME");
    }
    assert_eq!(repo.json(&["inbox", "--as", "ann", "--all"])["total"], 0);
}

#[test]
fn nobody_and_somebody_unknown_cannot_send() {
    let repo = TestRepo::git("repo");
    repo.thrum(&["init"]).ok();
    repo.thrum(&["send", "hello", "--broadcast"]).fails(3, "thrum quickstart");
    repo.agent("ann", "implementer");
    let refused = repo.thrum(&["send", "hello", "--to", "@ann", "--as", "ghost"]);
    assert!(refused.code != 0 && refused.stderr.contains("ghost"), "{refused:?}");
    assert_eq!(repo.json(&["inbox"])["total"], 0);
}

#[test]
fn c16_an_agent_speaks_and_reads_only_where_it_is_at_home() {
    let (left, right) = paired();
    assert!(right.thrum(&["team"]).ok().stdout.contains("@ann at left"), "right knows ann");
    for command in [&["send", "as if I were ann", "--to", "@bob"][..], &["inbox"], &["wait"], &["message", "read", "--all"]] {
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
    assert_eq!(team.matches("Another daemon has an agent of this name, too").count(), 2, "{team}");
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
    assert_eq!((me["agent_id"].as_str(), me["role"].as_str(), me["module"].as_str()), (Some("ann"), Some("implementer"), Some("m-ann")));
    assert_eq!(repo.daemon_pid(), None);
}
