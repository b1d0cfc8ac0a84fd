//! Repositories, remotes and clocks that are not as usual.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use thrum_core::Error;
use thrum_git::{Exposure, GitError, SeenState, Stop};

use crate::place::{Daemon, Place, files, git, pair, run_again, script, settle, skip};

/// Lets two daemons write and exchange, and checks that both have the mail of both.
#[track_caller]
fn share(ann: &mut Daemon, ben: &mut Daemon) {
    let (first, second) = (ann.say("from ann"), ben.say("from ben"));
    settle(&mut [ann, ben]);
    assert!(ben.has_message(&first) && ann.has_message(&second));
    assert_eq!(ann.heads(), ben.heads());
}

#[test]
fn a_partial_clone_takes_part_and_our_repository_lacks_nothing() {
    let place = Place::new();
    git(&place.remote(), &["config", "uploadpack.allowFilter", "true"]);
    let mut ann = place.daemon("ann");
    let url = format!("file://{}", place.remote().display());
    git(place.dir.path(), &["clone", "--quiet", "--filter=blob:none", &url, "partial"]);
    let mut partial = Daemon::start(&place.path("partial"), "partial");
    ann.trust(&partial);
    partial.trust(&ann);
    let before = files(&partial.top.join(".git"));
    share(&mut ann, &mut partial);
    assert_eq!(files(&partial.top.join(".git")), before);
    let listed = git(&partial.repository(), &["rev-list", "--objects", "--all", "--missing=print"]);
    assert!(!listed.lines().any(|line| line.starts_with('?')), "{listed}");
    let is_filtered = |path: &Path| path.extension().is_some_and(|ending| ending == "promisor");
    assert!(!files(&partial.repository()).iter().any(|(path, _)| is_filtered(path)), "nothing is fetched one by one");
}

#[test]
fn garbage_collection_between_exchanges_changes_nothing() {
    let place = Place::new();
    let (mut ann, mut ben) = pair(&place);
    let mut said = Vec::new();
    for _ in 0..6 {
        said.push(ann.say("more"));
        let published = ann.run().published.unwrap();
        assert!(published.events <= 2, "only the news, and ann's registration");
        git(&ann.repository(), &["gc", "--quiet", "--prune=now"]);
        git(&place.remote(), &["gc", "--quiet", "--prune=now"]);
        ben.run();
        git(&ben.repository(), &["repack", "--quiet", "-a", "-d"]);
        git(&place.remote(), &["repack", "--quiet", "-a", "-d"]);
        assert!(ben.has_message(said.last().unwrap()));
    }
    assert_eq!((ann.run().published, ben.run().published), (None, None));
    git(&ann.repository(), &["fsck", "--strict"]);
    let mut dan = place.daemon("dan");
    dan.trust(&ann);
    dan.run();
    assert!(said.iter().all(|id| dan.has_message(id)));
}

#[test]
fn repositories_with_sha256_share_mail_like_others() {
    let place = Place::of_kind(&["--object-format=sha256"]);
    let (mut ann, mut ben) = pair(&place);
    share(&mut ann, &mut ben);
    let tip = git(&ann.repository(), &["for-each-ref", "--format=%(objectname)", "refs/own/tip"]);
    assert_eq!(tip.len(), 64);
    ann.restart();
    share(&mut ann, &mut ben);
}

#[test]
fn a_remote_with_reftable_shares_mail_like_others() {
    let probe = tempfile::tempdir().unwrap();
    let mut init = Command::new("git");
    init.args(["init", "--quiet", "--bare", "--ref-format=reftable"]).arg(probe.path()).stderr(Stdio::null());
    if !init.status().unwrap().success() {
        // No skip: the git of CI may be older.
        let _ = writeln!(std::io::stderr(), "not run: `git init --ref-format=reftable` needs git 2.45 or newer");
        return;
    }
    let place = Place::of_kind(&["--ref-format=reftable"]);
    assert!(place.remote().join("reftable").exists());
    let (mut ann, mut ben) = pair(&place);
    share(&mut ann, &mut ben);
    git(&place.remote(), &["gc", "--quiet", "--prune=now"]);
    share(&mut ann, &mut ben);
}

#[test]
fn a_remote_that_takes_too_little_at_once_says_so() {
    let place = Place::new();
    let (mut ann, mut ben) = pair(&place);
    git(&place.remote(), &["config", "receive.maxInputSize", "1k"]);
    let said = ann.say(&format!("{:?}", (0..9999).map(|n| n * n % 7919).collect::<Vec<u64>>()));
    let error = ann.try_run().unwrap_err();
    let GitError::Rejected { why, .. } = &error else { panic!("{error}") };
    assert!(why.contains("pack exceeds maximum allowed size"), "{why}");
    let error = Error::from(error);
    assert_eq!(error.hint, None, "another prefix does not help");
    git(&place.remote(), &["config", "receive.maxInputSize", "1m"]);
    settle(&mut [&mut ann, &mut ben]);
    assert!(ben.has_message(&said));
}

#[test]
fn a_clock_that_is_a_day_off_and_then_set_right_loses_nothing() {
    const DAY: i64 = 24 * 60 * 60;
    for off in [DAY, -DAY] {
        let place = Place::new();
        let (mut ann, mut ben) = pair(&place);
        ben.change_clock(off);
        share(&mut ann, &mut ben);
        ann.trust.numbers = ann.run().daemons.iter().map(|(id, seen)| (id.clone(), seen.number)).collect();
        ben.change_clock(-off);
        share(&mut ann, &mut ben);
        assert_eq!(ann.run().daemons[&ben.id].state, SeenState::Trusted);
        // What it had published is known only by its ref.
        std::fs::remove_dir_all(ben.repository()).unwrap();
        ben.restart();
        share(&mut ann, &mut ben);
        assert_eq!(ann.run().daemons[&ben.id].state, SeenState::Trusted);
    }
}

#[test]
fn a_detached_head_and_a_remote_with_a_relative_path_are_no_obstacle() {
    let place = Place::new();
    let (mut ann, mut ben) = pair(&place);
    git(&ann.top, &["checkout", "--quiet", "--detach"]);
    ann.set(&[("remote.origin.url", "../remote.git")]);
    assert_eq!(thrum_git::default_remote(&ann.top, &Stop::default()).unwrap(), Ok("origin".into()));
    share(&mut ann, &mut ben);
    assert_eq!(ann.exposure(), Exposure::Private);
}

/// As after a copy of the whole directory.
#[test]
fn two_daemons_with_one_key_lose_nothing_and_agree_once_one_is_stopped() {
    let place = Place::new();
    let (mut ann, mut ben) = pair(&place);
    let mut said = vec![ann.say("before the copy")];
    settle(&mut [&mut ann, &mut ben]);
    let mut copy = Daemon::copy_of(&ann, &place.path("copy"));
    for _ in 0..4 {
        said.extend([ann.say("from ann"), copy.say("from the copy")]);
        // Each replaces what the other has published, or reports that it lost the ref.
        for one in [&mut ann, &mut copy] {
            assert!(matches!(one.try_run(), Ok(_) | Err(GitError::LostLease)));
            ben.run();
        }
    }
    // The ref is set by the copy between ann's fetch and ann's push.
    let reference = format!("refs/thrum/{}", ann.id);
    let theirs = git(&place.remote(), &["rev-parse", &reference]);
    said.push(ann.say("once more"));
    let receive = place.path("receive-pack");
    let remote = place.remote();
    script(
        &receive,
        &format!("git -C '{}' update-ref {reference} {theirs}; exec git-receive-pack \"$@\"", remote.display()),
    );
    ann.run();
    ann.set(&[("remote.origin.receivepack", &receive.to_string_lossy())]);
    said.push(ann.say("and again"));
    let error = ann.fails();
    assert!(error.contains("was changed or locked by somebody else meanwhile"), "{error}");
    drop(copy);
    ann.set(&[("remote.origin.receivepack", "git-receive-pack")]);
    settle(&mut [&mut ann, &mut ben]);
    assert!(said.iter().all(|id| ben.has_message(id)), "ben");
    assert!(said.iter().all(|id| ann.has_message(id)), "ann");
    assert_eq!(ann.heads(), ben.heads());
}

/// A directory of somebody else's, as on a shared disk, that the user has declared to be safe.
#[test]
fn a_remote_of_another_user_that_is_a_safe_directory_is_used() {
    const INNER: &str = "THRUM_TEST_SAFE_DIRECTORY";
    if let Some(dir) = std::env::var_os(INNER) {
        let mut ann = Daemon::start(&Path::new(&dir).join("ann"), "ann");
        assert!(ann.run().published.is_some());
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return skip("a remote of another user", "needs root");
    }
    let place = Place::new();
    git(place.dir.path(), &["clone", "--quiet", "remote.git", "ann"]);
    let owned = Command::new("chown").args(["-R", "65534"]).arg(place.remote()).status().unwrap();
    assert!(owned.success());
    let config = place.path("gitconfig");
    std::fs::write(&config, format!("[safe]\n\tdirectory = {}\n", place.remote().display())).unwrap();
    let name = "conditions::a_remote_of_another_user_that_is_a_safe_directory_is_used";
    let mut command = Command::new("env");
    command.env(INNER, place.dir.path()).env("GIT_CONFIG_GLOBAL", &config);
    let (said, code) = run_again(name, &mut command);
    assert_eq!(code, Some(0), "{said}");
}

/// The clock of the copy is behind, so that its numbers would be lower than those that others have seen.
#[test]
fn two_daemons_with_one_key_are_both_read_although_one_is_behind() {
    let place = Place::new();
    let (mut ann, mut ben) = pair(&place);
    let mut said = vec![ann.say("before the copy")];
    settle(&mut [&mut ann, &mut ben]);
    let mut copy = Daemon::copy_of(&ann, &place.path("copy"));
    copy.change_clock(-600);
    for _ in 0..3 {
        for one in [&mut ann, &mut copy] {
            one.change_clock(60);
            said.push(one.say("more"));
            one.run();
            let report = ben.run();
            let seen = &report.daemons[&one.id];
            assert_eq!(seen.state, SeenState::Trusted);
            ben.trust.numbers.insert(one.id.clone(), seen.number);
            assert!(said.iter().all(|id| ben.has_message(id)));
        }
    }
}
