use std::{fs, process::Command};

use crate::common::TestRepo;

#[test]
fn each_shell_gets_a_script_that_names_every_command() {
    let repo = TestRepo::plain("repo");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = repo.thrum(&["completions", shell]).ok().stdout;
        for word in ["quickstart", "preamble", "no-start"] {
            assert!(script.contains(word), "no '{word}' for {shell}");
        }
    }
    assert!(repo.json(&["completions", "bash"])["script"].as_str().unwrap().contains("quickstart"));
    repo.thrum(&["completions", "tcsh"]).fails(2, "zsh");
}

#[test]
fn bash_takes_its_script_and_completes() {
    let repo = TestRepo::plain("repo");
    let script = repo.path("thrum.bash");
    fs::write(&script, repo.thrum(&["completions", "bash"]).ok().stdout).unwrap();
    let ask = "source ./thrum.bash; COMP_WORDS=(thrum quick); COMP_CWORD=1; _thrum thrum quick thrum; echo \"${COMPREPLY[@]}\"";
    let Ok(output) = Command::new("bash").args(["--norc", "-c", ask]).current_dir(repo.root()).output() else { return };
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "quickstart",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn help_is_there_for_every_command_and_an_unknown_one_gets_a_suggestion() {
    let repo = TestRepo::plain("repo");
    for args in [
        &["help"][..],
        &["help", "context"],
        &["help", "config", "set"],
        &["context", "help", "save"],
        &["config", "set", "-h"],
    ] {
        assert!(repo.thrum(args).ok().stdout.contains("Usage: thrum"), "{args:?}");
    }
    for (typed, meant) in [("imbox", "inbox"), ("contxt", "context"), ("statsu", "status")] {
        repo.thrum(&[typed]).fails(2, meant);
    }
    repo.thrum(&["help", "nothing"]).fails(2, "nothing");
    repo.thrum(&["config", "shwo"]).fails(2, "show");
}
