//! What a daemon has published under another remote or prefix, or before it was switched off, is removed there.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{
    common::{TestRepo, plain::until},
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

/// A push that takes as long as its hook, which waits until a file is there.
fn slow(remote: &Path) -> PathBuf {
    let (hook, go) = (remote.join("hooks/pre-receive"), remote.join("go"));
    std::fs::create_dir_all(remote.join("hooks")).unwrap();
    let script = format!(
        "#!/bin/sh\ntouch '{}'\nwhile [ ! -e '{}' ]; do sleep 0.01; done\n",
        remote.join("waits").display(),
        go.display()
    );
    std::fs::write(&hook, script).unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    go
}

#[test]
fn an_exchange_that_is_running_publishes_nothing_after_a_removal() {
    let (left, right, remote) = two_clones();
    share(&left, &right, &[]);
    let go = slow(&remote);
    left.thrum(&["send", "on its way", "--to", "@bob"]).ok();
    std::thread::scope(|scope| {
        scope.spawn(|| left.thrum(&["sync", "force"]));
        until(|| remote.join("waits").exists());
        let off = scope.spawn(|| left.thrum(&["sync", "git", "off", "--remove"]).ok());
        until(|| left.thrum(&["sync", "git", "status", "--json"]).json()["state"] == "off");
        // Who switches it on meanwhile waits for the removal.
        let on = scope.spawn(|| left.thrum(&["sync", "git", "on"]).ok());
        std::fs::write(&go, "").unwrap();
        off.join().unwrap();
        on.join().unwrap();
    });
    assert_eq!(refs_of(&left, &remote), ["refs/thrum/ID"], "published again");
    left.thrum(&["sync", "git", "off", "--remove"]).ok();
    assert_eq!(refs_of(&left, &remote), Vec::<String>::new());
}

#[test]
fn what_is_published_while_it_is_off_is_shown() {
    let (left, right, remote) = two_clones();
    share(&left, &right, &[]);
    shows(&left, 0, &["sync", "git", "off"], "thrum sync git off --remove");
    shows(&left, 0, &["doctor"], "is still published");
    // A machine that is not on the remote any more gets nothing meanwhile, and is not compared.
    right.thrum(&["sync", "git", "untrust", &crate::git_sync::name_of(&left)]).ok();
    right.thrum(&["sync", "git", "trust", &crate::git_sync::name_of(&left)]).ok();
    left.thrum(&["sync", "git", "off", "--remove"]).ok();
    right.thrum(&["sync", "force"]).ok();
    let sent = right.thrum(&["send", "hello", "--to", "@ann"]).ok();
    assert!(format!("{}{}", sent.stdout, sent.stderr).contains("is not on the git remote any more"), "{sent:?}");
    shows(&right, 75, &["sync", "verify"], "no longer on the remote");
    assert_eq!(refs_of(&left, &remote), Vec::<String>::new());
}

#[test]
fn a_remote_that_cannot_be_reached_does_not_replace_one_that_works() {
    let (left, right, _) = two_clones();
    share(&left, &right, &[]);
    left.thrum(&["sync", "git", "on", "--remote", "/nowhere/x.git"]).fails(75, "origin stays in use");
    shows(&left, 0, &["sync", "git", "status"], "ok through origin");
}

#[test]
fn a_state_that_cannot_be_read_is_a_failure_and_not_off() {
    let (left, right, _) = two_clones();
    share(&left, &right, &[]);
    left.thrum(&["daemon", "stop"]).ok();
    let file = left.path(".thrum/var/git.json");
    std::fs::write(&file, "{").unwrap();
    left.thrum(&["daemon", "start"]).ok();
    shows(&left, 75, &["sync", "git", "status"], "git.json cannot be used");
    let report = left.thrum(&["doctor"]);
    assert!(report.stdout.contains("git.json cannot be used"), "{report:?}");
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
