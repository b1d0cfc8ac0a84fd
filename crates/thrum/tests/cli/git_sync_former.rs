//! What a daemon has published under another remote or prefix, or before it was switched off, is removed there.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{
    common::TestRepo,
    git_sync::{share, shows, two_clones},
};

/// The refs of a daemon on a remote, under any prefix.
fn refs_of(repo: &TestRepo, remote: &Path) -> Vec<String> {
    let id = repo.json(&["status"])["health"]["daemon_id"].as_str().unwrap().to_owned();
    let listed = repo.git_says(&["--git-dir", &remote.to_string_lossy(), "for-each-ref", "--format=%(refname)"]);
    listed.lines().filter(|name| name.ends_with(&id)).map(|name| name.replace(&id, "ID")).collect()
}

/// Another bare repository, which is the remote `other`.
fn other_remote(repo: &TestRepo) -> PathBuf {
    let other = repo.above().join("other.git");
    repo.git_done(&["init", "--quiet", "--bare", &other.to_string_lossy()]);
    repo.git_done(&["remote", "add", "other", &other.to_string_lossy()]);
    other
}

fn left_behind(repo: &TestRepo) -> Value {
    repo.thrum(&["sync", "git", "status", "--json"]).json()["left_behind"].clone()
}

#[test]
fn what_was_published_under_another_prefix_or_remote_is_removed_there() {
    let (left, right, remote) = two_clones();
    let other = other_remote(&left);
    share(&left, &right, &[]);
    left.thrum(&["config", "set", "git.ref_prefix", "refs/elsewhere/"]).ok();
    left.thrum(&["sync", "force"]).ok();
    assert_eq!(refs_of(&left, &remote), ["refs/elsewhere/ID"]);
    left.thrum(&["sync", "git", "on", "--remote", "other"]).ok();
    assert_eq!((refs_of(&left, &remote), refs_of(&left, &other)), (vec![], vec!["refs/elsewhere/ID".to_owned()]));
    shows(&left, 0, &["sync", "git", "log"], "from origin");

    // The same repository at another address.
    left.git_done(&["remote", "set-url", "other", &format!("file://{}", other.display())]);
    left.thrum(&["send", "hello", "--to", "@everyone"]).ok();
    left.thrum(&["sync", "force"]).ok();
    assert_eq!(
        (refs_of(&left, &other), left_behind(&left)),
        (vec!["refs/elsewhere/ID".to_owned()], Value::Array(vec![]))
    );
    assert_eq!(refs_of(&right, &remote), ["refs/thrum/ID"], "nobody else's");
}

#[test]
fn what_cannot_be_removed_is_shown_with_the_reason_and_the_next_command() {
    let (left, right, remote) = two_clones();
    let other = other_remote(&left);
    share(&left, &right, &[]);
    let away = remote.with_extension("away");
    std::fs::rename(&remote, &away).unwrap();
    left.thrum(&["sync", "git", "on", "--remote", "other"]).ok();
    shows(&left, 0, &["sync", "git", "status"], "Still published: refs/thrum/");
    assert!(left_behind(&left)[0]["reason"].as_str().unwrap().contains("does not appear to be a git repository"));
    left.thrum(&["sync", "git", "off", "--remove"]).fails(75, "git push ");
    assert_eq!(refs_of(&left, &other), Vec::<String>::new());
    shows(&left, 0, &["sync", "git", "status"], "Still published: refs/thrum/");
    std::fs::rename(&away, &remote).unwrap();
    left.thrum(&["sync", "git", "off", "--remove"]).ok();
    assert_eq!((refs_of(&left, &remote), left_behind(&left)), (vec![], Value::Array(vec![])));
    assert_eq!(refs_of(&right, &remote).len(), 1);
    // Without it, what was published stays.
    right.thrum(&["sync", "git", "off"]).ok();
    assert_eq!(refs_of(&right, &remote).len(), 1);
}
