use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::common::TestRepo;

#[test]
fn a_repository_is_set_up_once_and_a_second_time_changes_nothing() {
    let repo = TestRepo::git("repo");
    fs::write(repo.path(".gitignore"), "target").unwrap();
    let first = repo.json(&["init"]);
    assert_eq!(
        (first["status"].as_str(), first["gitignore_changed"].as_bool()),
        (Some("created"), Some(true)),
        "{first}"
    );
    let ignored = fs::read_to_string(repo.path(".gitignore")).unwrap();
    assert_eq!(ignored, "target\n.thrum/\n");
    repo.thrum(&["config", "set", "daemon.local_only", "true"]).ok();

    let second = repo.json(&["init"]);
    assert_eq!(
        (second["status"].as_str(), second["gitignore_changed"].as_bool()),
        (Some("exists"), Some(false)),
        "{second}"
    );
    assert_eq!(second["daemon_pid"], first["daemon_pid"], "the same daemon goes on");
    assert_eq!(fs::read_to_string(repo.path(".gitignore")).unwrap(), ignored);
    assert!(fs::read_to_string(repo.path(".thrum/config.json")).unwrap().contains("true"), "what people wrote stays");
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
fn an_env_file_that_git_would_commit_gets_a_warning() {
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

    // Setting up the linked worktree also sets up the main worktree.
    repo.thrum(&["quickstart", "--repo", flag, "--name", "fay", "--role", "implementer", "--module", "x"]).ok();
    assert_eq!(
        fs::read_to_string(feature.join(".thrum/redirect")).unwrap().trim(),
        repo.path(".thrum").to_str().unwrap()
    );
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

/// Creates a repository with a main worktree and a linked one beside it, both set up.
fn with_feature() -> (TestRepo, PathBuf) {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.git_done(&["commit", "-q", "--allow-empty", "-m", "one"]);
    repo.git_done(&["worktree", "add", "-q", "-b", "feature", "../feature"]);
    let feature = repo.above().join("feature");
    repo.thrum(&["init", "--repo", feature.to_str().unwrap()]).ok();
    (repo, feature)
}

#[test]
fn a_linked_worktree_changes_nothing_that_git_would_commit() {
    let (repo, feature) = with_feature();
    assert!(!feature.join(".gitignore").exists());
    assert!(fs::read_to_string(repo.path(".git/info/exclude")).unwrap().lines().any(|line| line == ".thrum/"));
    let status = |dir: &Path| {
        let mut git = Command::new("git");
        let output = repo.in_surroundings(&mut git).args(["status", "--porcelain"]).current_dir(dir).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(status(&feature), "");
    assert_eq!(status(repo.root()), "?? .gitignore\n");
    let before = fs::read(repo.path(".git/info/exclude")).unwrap();
    repo.thrum(&["init", "--repo", feature.to_str().unwrap()]).ok();
    assert_eq!(fs::read(repo.path(".git/info/exclude")).unwrap(), before, "once is enough");

    let stealthy = TestRepo::git("stealthy");
    let said = stealthy.thrum(&["init", "--stealth"]).ok().stdout;
    assert!(said.contains("Added .thrum/ to .git/info/exclude"), "{said}");
    assert!(!stealthy.path(".gitignore").exists());
    assert!(!stealthy.json(&["init"])["gitignore_changed"].as_bool().unwrap(), "what is excluded needs no .gitignore");
}

#[test]
fn a_broken_redirect_names_the_repair() {
    let (repo, feature) = with_feature();
    let flag = feature.to_str().unwrap();
    fs::write(feature.join(".thrum/redirect"), "/moved/away/.thrum\n").unwrap();
    repo.thrum(&["inbox", "--repo", flag])
        .fails(2, "/moved/away/.thrum")
        .fails(2, "`thrum init` in this worktree writes it again");
    repo.thrum(&["init", "--repo", flag]).ok();
    assert_eq!(
        fs::read_to_string(feature.join(".thrum/redirect")).unwrap().trim(),
        repo.path(".thrum").to_str().unwrap()
    );

    // The main worktree was moved, so git does not find it either.
    repo.thrum(&["daemon", "stop"]).ok();
    let moved = repo.above().join("moved");
    fs::rename(repo.root(), &moved).unwrap();
    let at = |dir: &Path, args: &[&str]| -> crate::common::Ran {
        repo.command(args).current_dir(dir).output().unwrap().into()
    };
    for command in [&["whoami"][..], &["init"]] {
        at(&feature, command).fails(2, "git worktree repair");
    }
    let mut repair = Command::new("git");
    assert!(
        repo.in_surroundings(&mut repair)
            .args(["worktree", "repair", flag])
            .current_dir(&moved)
            .status()
            .unwrap()
            .success()
    );
    at(&feature, &["init"]).ok();
    assert_eq!(
        fs::read_to_string(feature.join(".thrum/redirect")).unwrap().trim(),
        moved.join(".thrum").to_str().unwrap()
    );
}

#[test]
fn an_existing_redirect_stays_and_an_own_mailbox_is_not_hidden() {
    let (repo, feature) = with_feature();
    let flag = feature.to_str().unwrap();
    let other = repo.above().join("other");
    fs::create_dir(&other).unwrap();
    repo.thrum(&["init", "--repo", other.to_str().unwrap()]).ok();
    repo.thrum(&["daemon", "stop", "--repo", other.to_str().unwrap()]).ok();
    let by_hand = format!("{}\n", other.join(".thrum").display());
    fs::write(feature.join(".thrum/redirect"), &by_hand).unwrap();
    repo.thrum(&["init", "--no-start", "--repo", flag]).ok();
    assert_eq!(fs::read_to_string(feature.join(".thrum/redirect")).unwrap(), by_hand);

    fs::remove_file(feature.join(".thrum/redirect")).unwrap();
    fs::rename(other.join(".thrum/var"), feature.join(".thrum/var")).unwrap();
    repo.thrum(&["init", "--repo", flag]).fails(4, "a mailbox of its own").fails(4, "thrum daemon stop");
    assert!(!feature.join(".thrum/redirect").exists());
}

#[test]
fn chains_and_loops_of_redirects_are_refused() {
    let (repo, feature) = with_feature();
    let flag = feature.to_str().unwrap();
    let redirect = |dir: &Path, to: &Path| {
        fs::write(dir.join(".thrum/redirect"), to.join(".thrum").display().to_string()).unwrap()
    };
    redirect(&feature, &feature);
    repo.thrum(&["inbox", "--repo", flag]).fails(2, "redirects once more");
    redirect(&feature, repo.root());
    redirect(repo.root(), &feature);
    repo.thrum(&["inbox", "--repo", flag]).fails(2, "redirects once more");
    repo.thrum(&["inbox"]).fails(2, "redirects once more");
}

#[test]
fn one_name_in_two_worktrees_is_reported_as_one_agent() {
    let (repo, feature) = with_feature();
    let flag = feature.to_str().unwrap();
    let warning = "@ann is also the agent of worktree repo; both read one mailbox";
    repo.thrum(&["quickstart", "--name", "ann", "--repo", flag]).ok().says(warning);
    repo.thrum(&["quickstart", "--name", "ann"]).ok().says("worktree feature; both");
    let other = repo.thrum(&["register", "--name", "eve", "--role", "tester", "--module", "m", "--repo", flag]).ok();
    assert!(!other.stderr.contains("mailbox"), "{}", other.stderr);
}
