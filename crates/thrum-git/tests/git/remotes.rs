//! Remotes that are missing, refuse, hang, or are of another kind.

use std::{
    net::TcpListener,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use thrum_git::{GitError, Remote, Repository, Stop};

use crate::place::{Daemon, Place, git, script};

#[test]
fn a_remote_that_is_gone_is_an_error_in_words_and_works_again_once_it_is_back() {
    let place = Place::new();
    let mut ann = place.daemon("ann");
    ann.say("hello");
    std::fs::rename(place.remote(), place.path("elsewhere.git")).unwrap();
    let error = ann.try_run().unwrap_err().to_string();
    assert!(error.starts_with("`git fetch` failed: ") && error.contains("remote.git"), "{error}");
    std::fs::rename(place.path("elsewhere.git"), place.remote()).unwrap();
    assert_eq!(ann.run().published.map(|published| published.events), Some(ann.heads().total()));
}

#[test]
fn a_remote_that_does_not_take_our_refs_is_named() {
    let place = Place::new();
    let mut ann = place.daemon("ann");
    git(&place.remote(), &["config", "transfer.hideRefs", "refs/thrum"]);
    match ann.try_run() {
        Err(GitError::Rejected { reference, why }) => {
            assert_eq!(reference, format!("refs/thrum/{}", ann.id));
            assert!(why.contains("hidden ref"), "{why}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_ref_that_changed_after_the_fetch_is_not_overwritten_but_the_next_exchange_repairs_it() {
    let place = Place::new();
    let mut ann = place.daemon("ann");
    ann.say("hello");
    ann.run();
    // Somebody sets it to something else, which is fetched before the next push.
    let other = git(&place.remote(), &["rev-parse", "refs/heads/main"]);
    git(&place.remote(), &["update-ref", &format!("refs/thrum/{}", ann.id), &other]);
    assert!(ann.run().published.is_some());
    let mut dan = place.daemon("dan");
    dan.trust(&ann);
    dan.run();
    assert_eq!(dan.heads().total(), ann.heads().total() + 1, "and dan's own registration");
}

#[test]
fn shallow_clones_bare_repositories_and_worktrees_take_part() {
    let place = Place::new();
    let mut ann = place.daemon("ann");
    let said = ann.say("hello");
    ann.run();
    let url = format!("file://{}", place.remote().display());
    git(place.dir.path(), &["clone", "--quiet", "--depth=1", &url, "shallow"]);
    git(place.dir.path(), &["clone", "--quiet", "--bare", &url, "bare"]);
    git(&place.path("bare"), &["worktree", "add", "--quiet", "../tree", "main"]);
    for name in ["shallow", "bare", "tree"] {
        let mut daemon = Daemon::start(&place.path(name), name);
        daemon.trust(&ann);
        daemon.run();
        assert!(daemon.has_message(&said), "{name}");
    }
    assert_eq!(place.refs().len(), 4);
}

#[test]
fn a_repository_with_another_hash_is_an_error_in_words() {
    let place = Place::new();
    git(place.dir.path(), &["init", "--quiet", "--object-format=sha256", "other"]);
    git(&place.path("other"), &["remote", "add", "origin", &place.remote().to_string_lossy()]);
    let mut daemon = Daemon::start(&place.path("other"), "other");
    let error = daemon.try_run().unwrap_err().to_string();
    assert!(error.contains("hash algorithm") || error.contains("mismatched algorithms"), "{error}");
}

/// A server that accepts and says nothing holds up nobody who stops.
#[test]
fn a_hanging_remote_ends_with_a_stop() {
    let place = Place::new();
    let ann = place.daemon("ann");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("git://{}/x.git", listener.local_addr().unwrap());
    git(&ann.top, &["remote", "set-url", "origin", &url]);
    let stop = Stop::default();
    let remote = Remote { name: "origin".into(), prefix: "refs/thrum/".into() };
    let repository = Repository::open(&ann.top.join(".thrum/var/other"), &ann.top, remote, stop.clone()).unwrap();
    let mut exchange =
        thrum_git::Exchange::new(Box::new(repository), Arc::clone(&ann.log) as _, ann.me(), Box::new(ann.world()));
    let running = thread::spawn(move || {
        let began = Instant::now();
        let result = exchange.run(&Default::default());
        (result.map(drop), began.elapsed())
    });
    let (connection, _) = listener.accept().unwrap();
    stop.stop();
    let (result, took) = running.join().unwrap();
    assert!(matches!(result, Err(GitError::Stopped)), "{result:?}");
    assert!(took < Duration::from_secs(20), "long before the remote is given up");
    drop(connection);
}

#[test]
fn locks_that_a_killed_process_left_are_removed() {
    let place = Place::new();
    let mut ann = place.daemon("ann");
    ann.run();
    let dir = ann.top.join(".thrum/var/git");
    for lock in ["refs/own/tip.lock", "packed-refs.lock"] {
        std::fs::write(dir.join(lock), "").unwrap();
    }
    ann.say("hello");
    assert!(ann.try_run().is_err());
    Repository::remove_locks(&dir).unwrap();
    assert!(ann.run().published.is_some());
}

/// As a connection that ssh keeps for the next command.
#[test]
fn a_process_that_a_remote_helper_leaves_behind_holds_up_nothing() {
    let place = Place::new();
    let mut ann = place.daemon("ann");
    let helper = place.path("upload-pack");
    script(&helper, "setsid sleep 60 >&2 &\nexec git-upload-pack \"$@\"");
    git(&ann.top, &["config", "remote.origin.uploadpack", &helper.to_string_lossy()]);
    ann.restart();
    let began = Instant::now();
    ann.run();
    assert!(began.elapsed() < Duration::from_secs(40), "before the process ends");
}
