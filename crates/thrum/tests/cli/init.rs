use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use crate::common::TestRepo;

#[test]
fn a_repository_is_set_up_once_and_a_second_time_changes_nothing() {
    let repo = TestRepo::git("repo");
    fs::write(repo.path(".gitignore"), "target").unwrap();
    let first = repo.json(&["init"]);
    assert_eq!((first["status"].as_str(), first["gitignore_changed"].as_bool()), (Some("created"), Some(true)), "{first}");
    let ignored = fs::read_to_string(repo.path(".gitignore")).unwrap();
    assert_eq!(ignored, "target\n.thrum/\n");
    let config = fs::read_to_string(repo.path(".thrum/config.json")).unwrap();
    fs::write(repo.path(".thrum/config.json"), config.replace("true", "false")).unwrap();

    let second = repo.json(&["init"]);
    assert_eq!((second["status"].as_str(), second["gitignore_changed"].as_bool()), (Some("exists"), Some(false)), "{second}");
    assert_eq!(second["daemon_pid"], first["daemon_pid"], "the same daemon goes on");
    assert_eq!(fs::read_to_string(repo.path(".gitignore")).unwrap(), ignored);
    assert!(fs::read_to_string(repo.path(".thrum/config.json")).unwrap().contains("false"), "what people wrote stays");
    let mode = fs::metadata(repo.path(".thrum/var")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn it_works_from_a_directory_below_and_outside_git() {
    let repo = TestRepo::git("repo");
    fs::create_dir_all(repo.path("src/deep")).unwrap();
    repo.command(&["init", "--repo", "src/deep", "--no-start"]).status().unwrap();
    assert!(repo.path(".thrum/var").is_dir());
    assert!(!repo.path("src/deep/.thrum").exists());

    let plain = TestRepo::plain("plain");
    plain.thrum(&["init"]).ok().says("no git repository");
    assert!(plain.path(".thrum/var").is_dir());
    assert!(!plain.path(".gitignore").exists());
}

#[test]
fn an_env_file_that_git_would_commit_is_warned_of() {
    let repo = TestRepo::git("repo");
    fs::write(repo.path(".env"), "THRUM_TS_AUTHKEY=tskey-auth-x\n").unwrap();
    repo.thrum(&["init", "--no-start"]).ok().says(".env is not ignored by git");
    let ran = repo.thrum(&["init", "--no-start", "--json"]).ok();
    let warning: serde_json::Value = serde_json::from_str(&ran.stderr).expect("one line of JSON");
    assert!(warning["warning"]["message"].as_str().unwrap().contains(".env"), "{warning}");
    fs::write(repo.path(".gitignore"), ".env\n.thrum/\n").unwrap();
    let quiet = repo.thrum(&["init", "--no-start"]).ok();
    assert!(!quiet.stderr.contains("ignored"), "{}", quiet.stderr);
}

#[test]
fn a_linked_worktree_shares_the_daemon_and_keeps_identities_of_its_own() {
    let repo = TestRepo::git("repo");
    let git = |args: &[&str]| {
        let done = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"])
            .args(args)
            .current_dir(repo.root())
            .status();
        assert!(done.unwrap().success());
    };
    git(&["commit", "-q", "--allow-empty", "-m", "one"]);
    git(&["worktree", "add", "-q", "../feature", "-b", "feature"]);
    let feature = repo.above().join("feature");
    let flag = feature.to_str().unwrap();

    // The main worktree is set up with it.
    repo.thrum(&["quickstart", "--repo", flag, "--name", "fay", "--role", "implementer", "--module", "x"]).ok();
    assert_eq!(fs::read_to_string(feature.join(".thrum/redirect")).unwrap().trim(), repo.path(".thrum").to_str().unwrap());
    assert!(feature.join(".thrum/identities/fay.json").exists());
    assert!(!feature.join(".thrum/var").exists());
    assert!(!repo.path(".thrum/identities/fay.json").exists());
    let me = repo.json(&["whoami", "--repo", flag]);
    assert_eq!((me["agent_id"].as_str(), me["branch"].as_str()), (Some("fay"), Some("feature")));

    repo.agent("mia", "reviewer");
    repo.thrum(&["send", "hello", "--to", "@fay"]).ok();
    assert_eq!(repo.json(&["inbox", "--repo", flag])["total"], 1);
}

#[test]
fn without_a_repository_the_error_names_the_command_that_makes_one() {
    let repo = TestRepo::plain("repo");
    repo.thrum(&["inbox"]).fails(3, "Hint:").fails(3, "thrum init");
    repo.thrum(&["inbox", "--repo", "/no/such/directory"]).fails(3, "/no/such/directory");
}
