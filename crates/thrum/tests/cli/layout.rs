//! Git layouts: which worktrees share a mailbox, and where it lives.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::common::{Ran, TestRepo};

/// Creates a repository with one commit; the tests create others beside it.
fn with_commit() -> TestRepo {
    let repo = TestRepo::git("seed");
    repo.git_done(&["config", "--global", "protocol.file.allow", "always"]);
    repo.git_done(&["commit", "-q", "--allow-empty", "-m", "one"]);
    repo
}

fn git(repo: &TestRepo, dir: &Path, args: &[&str]) -> Ran {
    let mut git = Command::new("git");
    Ran::from(repo.in_surroundings(&mut git).args(args).current_dir(dir).output().unwrap()).ok()
}

fn thrum(repo: &TestRepo, dir: &Path, args: &[&str]) -> Ran {
    repo.command(args).current_dir(dir).output().unwrap().into()
}

/// Registers an agent in each of two worktrees, and asserts that both share one mailbox, whose `.thrum` is in `home`.
fn share(repo: &TestRepo, one: &Path, two: &Path, home: &Path) {
    for (dir, name) in [(one, "ann"), (two, "bob")] {
        thrum(repo, dir, &["quickstart", "--name", name, "--role", "implementer", "--module", name]).ok();
        assert_eq!(
            fs::read_to_string(dir.join(".thrum/redirect")).unwrap().trim(),
            home.join(".thrum").to_str().unwrap()
        );
        assert!(!dir.join(".thrum/var").exists(), "{}", dir.display());
        // A main worktree gets a `.gitignore` to commit; the others change nothing.
        let status = git(repo, dir, &["status", "--porcelain"]).stdout;
        assert!(["", "?? .gitignore\n"].contains(&status.as_str()), "{status}");
    }
    thrum(repo, one, &["send", "hello", "--to", "@bob"]).ok();
    assert_eq!(thrum(repo, two, &["inbox", "--json"]).ok().json()["total"], 1);
    assert_eq!(thrum(repo, one, &["team", "--all", "--json"]).ok().json()["members"].as_array().unwrap().len(), 2);
    let orphans = thrum(repo, one, &["agent", "cleanup", "--dry-run", "--json"]).ok().json();
    assert_eq!(orphans["orphans"], serde_json::json!([]));
    thrum(repo, one, &["daemon", "stop"]).ok();
}

#[test]
fn worktrees_of_a_bare_repository_share_one_mailbox_whatever_it_is_called() {
    for (name, home) in [("p/.bare", "p"), ("p/.git", "p"), ("p/repository", "p/repository"), ("p.git", "p.git")] {
        let repo = with_commit();
        let (above, bare) = (repo.above().to_owned(), repo.above().join(name));
        git(&repo, &above, &["clone", "-q", "--bare", "seed", bare.to_str().unwrap()]);
        if name == "p/.bare" {
            fs::write(above.join("p/.git"), "gitdir: ./.bare\n").unwrap();
        }
        for tree in ["one", "two"] {
            git(&repo, &bare, &["worktree", "add", "-q", "-b", tree, above.join("p").join(tree).to_str().unwrap()]);
        }
        share(&repo, &above.join("p/one"), &above.join("p/two"), &above.join(home));
        assert!(!above.join("p/.gitignore").exists(), "there is nothing to commit it from");
    }
}

/// Separate mailboxes remain from versions in which worktrees of one common directory did not share a mailbox.
#[test]
fn doctor_names_the_separate_mailboxes_of_two_worktrees_and_changes_nothing() {
    let repo = with_commit();
    let (above, bare) = (repo.above().to_owned(), repo.above().join("p/.bare"));
    git(&repo, &above, &["clone", "-q", "--bare", "seed", bare.to_str().unwrap()]);
    let trees = ["one", "two"].map(|tree| above.join("p").join(tree));
    for (tree, agent) in trees.iter().zip(["ann", "bob"]) {
        git(&repo, &bare, &["worktree", "add", "-q", "-b", agent, tree.to_str().unwrap()]);
        fs::create_dir_all(tree.join(".thrum/var")).unwrap();
        fs::write(tree.join(".thrum/var/messages.db"), "").unwrap();
        thrum(&repo, tree, &["quickstart", "--name", agent, "--role", "implementer", "--module", agent]).ok();
    }
    let of_two = thrum(&repo, &trees[1], &["team", "--all", "--json"]).ok().json();
    assert_eq!(of_two["members"].as_array().unwrap().len(), 1, "they do not see each other");
    for tree in &trees {
        let doctor = thrum(&repo, tree, &["doctor", "--fix"]).ok().stdout;
        let named = trees.each_ref().map(|tree| tree.join(".thrum").display().to_string());
        assert!(
            doctor.contains(&format!(
                "2 mailboxes, which do not see each other: {} (@ann); {} (@bob)",
                named[0], named[1]
            )),
            "{doctor}"
        );
    }
    // The first advice works: once paired, each has the other's mail.
    let mut code = repo.command(&["peer", "add", "--via", "local", "--json"]);
    let mut adding = code.current_dir(&trees[0]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(adding.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let shown: serde_json::Value = serde_json::from_str(&line).unwrap();
    let mut joining = repo.command(&["peer", "join", shown["address"].as_str().unwrap()]);
    let mut joining = joining.current_dir(&trees[1]).stdin(Stdio::piped()).spawn().unwrap();
    writeln!(joining.stdin.take().unwrap(), "{}", shown["code"].as_str().unwrap()).unwrap();
    assert!(joining.wait().unwrap().success());
    assert!(adding.wait().unwrap().success());
    thrum(&repo, &trees[0], &["sync", "verify"]).ok();
    thrum(&repo, &trees[0], &["send", "hello", "--to", "@bob"]).ok();
    assert_eq!(thrum(&repo, &trees[1], &["wait", "--timeout", "30s", "--json"]).ok().json()["status"], "received");
    // The second advice works, too: the worktrees give up their mailboxes for the shared one.
    for (tree, agent) in trees.iter().zip(["ann", "bob"]) {
        thrum(&repo, tree, &["daemon", "stop"]).ok();
        fs::rename(tree.join(".thrum"), above.join(agent)).unwrap();
        thrum(&repo, tree, &["quickstart", "--name", agent, "--role", "implementer", "--module", agent]).ok();
    }
    let doctor = thrum(&repo, &trees[0], &["doctor"]).ok().stdout;
    assert!(doctor.contains("the worktrees of this repository share one"), "{doctor}");
    thrum(&repo, &trees[0], &["daemon", "stop"]).ok();
}

#[test]
fn a_submodule_and_a_separate_git_directory_share_with_their_own_worktrees() {
    let repo = with_commit();
    let above = repo.above().to_owned();
    git(&repo, &above, &["init", "-q", "-b", "main", "outer"]);
    git(&repo, &above.join("outer"), &["submodule", "--quiet", "add", above.join("seed").to_str().unwrap(), "sub"]);
    git(&repo, &above.join("outer/sub"), &["worktree", "add", "-q", "-b", "feature", "../../sub-feature"]);
    share(&repo, &above.join("outer/sub"), &above.join("sub-feature"), &above.join("outer/.git/modules/sub"));

    git(&repo, &above, &["init", "-q", "-b", "main", "--separate-git-dir", "store", "work"]);
    git(&repo, &above.join("work"), &["commit", "-q", "--allow-empty", "-m", "one"]);
    git(&repo, &above.join("work"), &["worktree", "add", "-q", "-b", "feature", "../work-feature"]);
    share(&repo, &above.join("work-feature"), &above.join("work"), &above.join("store"));
}

#[test]
fn git_variables_of_a_hook_of_another_repository_select_no_other_mailbox() {
    let repo = TestRepo::with_agent("repo", "ann");
    let other = repo.above().join("other");
    git(&repo, repo.above(), &["init", "-q", "other"]);
    let mut command = repo.command(&["whoami", "--json"]);
    command.env("GIT_DIR", other.join(".git")).env("GIT_WORK_TREE", &other);
    let me = Ran::from(command.output().unwrap()).ok().json();
    assert_eq!(me["agent_id"], "ann", "{me}");
    assert!(!other.join(".thrum").exists());
}

/// Creates a repository with the agent `ann`, and a linked worktree that has not been set up.
fn with_fresh_worktree() -> (TestRepo, PathBuf) {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.git_done(&["commit", "-q", "--allow-empty", "-m", "one"]);
    repo.git_done(&["worktree", "add", "-q", "-b", "feature", "../feature"]);
    let feature = repo.above().join("feature");
    (repo, feature)
}

#[test]
fn a_fresh_worktree_shares_the_mailbox_with_every_command_and_nothing_is_written_there() {
    let (repo, feature) = with_fresh_worktree();
    let pid = repo.daemon_pid();
    let prime = thrum(&repo, &feature, &["prime", "--json"]).ok().json();
    assert_eq!((&prime["agents"]["total"], prime["missing"].as_array().unwrap().len()), (&1.into(), 1), "{prime}");
    assert!(prime["missing"][0]["hint"].as_str().unwrap().starts_with("thrum quickstart"), "{prime}");
    for command in
        [&["status"][..], &["team"], &["config", "show"], &["sync", "status"], &["daemon", "status"], &["ping", "ann"]]
    {
        thrum(&repo, &feature, command).ok();
    }
    thrum(&repo, &feature, &["inbox", "--as", "ann"]).ok();
    thrum(&repo, &feature, &["inbox"]).fails(3, "thrum quickstart");
    assert!(!feature.join(".thrum").exists());
    assert_eq!(repo.daemon_pid(), pid, "one daemon");

    thrum(&repo, &feature, &["quickstart", "--name", "fay", "--role", "tester", "--module", "x"])
        .ok()
        .says("shares the mailbox of");
    assert_eq!(thrum(&repo, &feature, &["whoami", "--json"]).ok().json()["agent_id"], "fay");
    assert_eq!(repo.json(&["team", "--all"])["members"].as_array().unwrap().len(), 2);
    assert_eq!(git(&repo, &feature, &["status", "--porcelain"]).stdout, "");
}

#[test]
fn notes_saved_in_a_fresh_worktree_are_ignored_by_git() {
    let (repo, feature) = with_fresh_worktree();
    thrum(&repo, &feature, &["context", "save", "notes", "--as", "ann"]).ok();
    assert!(feature.join(".thrum/context/ann.md").exists() && feature.join(".thrum/redirect").exists());
    assert_eq!(git(&repo, &feature, &["status", "--porcelain"]).stdout, "");
}

#[test]
fn a_worktree_of_a_repository_that_does_not_use_thrum_names_the_command_that_sets_up_both() {
    let repo = with_commit();
    repo.git_done(&["worktree", "add", "-q", "-b", "feature", "../feature"]);
    let feature = repo.above().join("feature");
    thrum(&repo, &feature, &["inbox"]).fails(3, "is not set up").fails(3, "thrum quickstart");
    assert!(!feature.join(".thrum").exists() && !repo.path(".thrum").exists());
}

#[test]
fn a_link_to_the_mailbox_of_another_worktree_is_checked_before_any_write() {
    let (repo, feature) = with_fresh_worktree();
    symlink("../repo/.thrum", feature.join(".thrum")).unwrap();
    for command in [&["init"][..], &["quickstart", "--name", "fay", "--role", "r", "--module", "m"], &["inbox"]] {
        thrum(&repo, &feature, command)
            .fails(4, "is a link that leads out of the repository")
            .fails(4, "Remove the link");
    }
    assert!(!repo.path(".thrum/redirect").exists());
    assert_eq!(fs::read_dir(repo.path(".thrum/identities")).unwrap().count(), 1, "nobody else's identity came here");
    repo.thrum(&["inbox"]).ok();
    fs::remove_file(feature.join(".thrum")).unwrap();
    thrum(&repo, &feature, &["init"]).ok();
    assert!(feature.join(".thrum/redirect").exists());
}

#[test]
fn a_gitignore_that_is_a_link_is_left_alone() {
    let repo = TestRepo::git("repo");
    let elsewhere = repo.above().join("elsewhere");
    fs::write(&elsewhere, "precious\n").unwrap();
    symlink(&elsewhere, repo.path(".gitignore")).unwrap();
    repo.thrum(&["init", "--no-start"]).ok();
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "precious\n");
    assert!(fs::read_to_string(repo.path(".git/info/exclude")).unwrap().contains(".thrum/"));
}

#[test]
fn a_nested_repository_is_told_that_it_uses_the_outer_mailbox_until_it_has_its_own() {
    let repo = TestRepo::with_agent("outer", "ann");
    let inner = repo.path("vendor/inner");
    git(&repo, repo.root(), &["init", "-q", "vendor/inner"]);
    let team = thrum(&repo, &inner, &["team", "--json"]).ok().json();
    let hint = team["hints"][0].as_str().unwrap();
    assert!(hint.contains(repo.root().to_str().unwrap()) && hint.contains("thrum init"), "{hint}");
    let deep = repo.path("src");
    fs::create_dir(&deep).unwrap();
    assert!(
        thrum(&repo, &deep, &["team", "--json"]).ok().json().get("hints").is_none(),
        "one's own repository needs no hint"
    );

    let ran = thrum(&repo, &inner, &["quickstart", "--name", "eve", "--role", "r", "--module", "m"]).ok();
    ran.says("a mailbox of its own, apart from that of");
    assert!(inner.join(".thrum/identities/eve.json").exists() && inner.join(".thrum/var").is_dir());
    assert!(!repo.path(".thrum/identities/eve.json").exists());
    let names =
        |dir: &Path| thrum(&repo, dir, &["team", "--all", "--json"]).ok().json()["members"].as_array().unwrap().len();
    assert_eq!((names(&inner), names(repo.root())), (1, 1));
}
