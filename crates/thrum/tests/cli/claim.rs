//! `thrum claim`, `release` and `claim check`.

use std::{
    fs,
    io::Read,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    thread,
    time::Duration,
};

use crate::common::{Ran, TestRepo, paired};

/// Asserts that the command ended with `code` and printed these words.
#[track_caller]
fn prints(ran: &Ran, code: i32, words: &str) {
    assert!(ran.code == code && ran.stdout.contains(words), "no '{words}', or not {code}: {ran:?}");
}

#[test]
fn a_claim_is_seen_on_the_other_machine_until_it_is_released() {
    let (left, right) = paired();
    fs::create_dir_all(left.path("src/deep")).unwrap();
    let claimed = left
        .command(&["claim", "login.rs", "../docs", "--for", "2h", "--json"])
        .current_dir(left.path("src"))
        .output()
        .unwrap();
    assert!(claimed.status.success(), "{claimed:?}");
    left.thrum(&["sync", "verify"]).ok();

    let held = right.json(&["who-has", "src"]);
    assert_eq!(
        (&held["claims"][0]["path"], &held["claims"][0]["address"]),
        (&"src/login.rs".into(), &"@ann@left".into()),
        "{held}"
    );
    prints(&right.thrum(&["who-has", "src/login.rs"]), 0, "@ann@left has claimed src/login.rs for 2h");
    let clash = right.thrum(&["claim", "src"]);
    prints(&clash, 1, "Claimed src for ");
    prints(&clash, 1, "Held by @ann@left: src/login.rs for 2h");
    assert_eq!(right.json(&["claim"])["claims"].as_array().unwrap().len(), 3);
    prints(&right.thrum(&["claim", "src", "--for", "5m", "--json"]), 1, "\"others\":[{");

    prints(&left.thrum(&["release", "src"]), 0, "Released src/login.rs");
    prints(&left.thrum(&["release", "src"]), 0, "Nothing of that was claimed");
    left.thrum(&["sync", "verify"]).ok();
    prints(&right.thrum(&["claim", "src/login.rs"]), 0, "Claimed src/login.rs for 30m");
    prints(&right.thrum(&["who-has", "docs"]), 0, "@ann@left has claimed docs");
}

#[test]
fn invalid_paths_and_times_are_refused() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["claim", "../elsewhere"]).fails(2, "is not inside");
    repo.thrum(&["claim", "a", "--for", "25h"]).fails(2, "up to 24 hours");
    repo.thrum(&["claim", "a", "--for", "0s"]).fails(2, "up to 24 hours");
    prints(&repo.thrum(&["claim"]), 0, "Nothing is claimed");
    prints(&repo.thrum(&["claim", "./check"]), 0, "Claimed check");
}

#[test]
fn a_commit_of_claimed_files_gets_a_warning_and_is_blocked_only_on_request() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "tester");
    let hook = repo.path(".git/hooks/pre-commit");
    let write_hook = |line: &str| {
        fs::create_dir_all(hook.parent().unwrap()).unwrap();
        fs::write(&hook, format!("#!/bin/sh\n'{}' {line}\n", env!("CARGO_BIN_EXE_thrum"))).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let commit = |args: &[&str]| {
        let mut command = repo.there("git");
        command
            .args(["-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "-m", "x"])
            .args(args)
            .env("THRUM_NAME", "ann");
        let done = command.current_dir(repo.root()).output().unwrap();
        (done.status.success(), String::from_utf8(done.stdout).unwrap() + &String::from_utf8(done.stderr).unwrap())
    };
    write_hook("claim check --staged");
    for (name, text) in [("a.rs", "1"), ("b.rs", "1"), ("own.rs", "1")] {
        fs::write(repo.path(name), text).unwrap();
        repo.git_done(&["add", name]);
    }
    repo.thrum(&["claim", "own.rs", "--as", "ann"]).ok();
    assert_eq!(commit(&[]), (true, String::new()), "nobody else has claimed anything");

    repo.thrum(&["claim", "b.rs", "--as", "bob"]).ok();
    for name in ["a.rs", "b.rs", "own.rs"] {
        fs::write(repo.path(name), "2").unwrap();
    }
    assert_eq!(commit(&["own.rs", "a.rs"]), (true, String::new()), "what is not committed does not matter");
    let (done, said) = commit(&["b.rs"]);
    assert!(done && said.contains("Held by @bob: b.rs for "), "{said}");

    write_hook("claim check --staged --block");
    fs::write(repo.path("b.rs"), "3").unwrap();
    let (done, said) = commit(&["-a"]);
    assert!(!done && said.contains("Held by @bob: b.rs"), "{said}");
    assert_eq!(repo.thrum(&["claim", "check", "--staged", "--json", "--as", "ann"]).ok().stdout, "{\"claims\":[]}\n");
    prints(&repo.thrum(&["claim", "check", "b.rs", "--json", "--as", "ann"]), 0, "\"path\":\"b.rs\"");

    repo.thrum(&["claim", "check", "--block"]).fails(2, "--staged");
    repo.thrum(&["claim", "check", "--block", "../elsewhere"]).fails(2, "is not inside");

    repo.thrum(&["daemon", "stop"]).ok();
    assert_eq!(commit(&["-a"]), (true, String::new()), "without a daemon");
    assert!(repo.daemon_pid().is_none(), "and none was started");
}

/// A daemon that is stopped or overloaded accepts the connection and does not answer.
#[test]
fn a_commit_does_not_wait_for_a_daemon_that_hangs() {
    // Less than a command waits for an answer, and much more than the check may take.
    const PATIENCE: Duration = Duration::from_secs(10);
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["daemon", "stop"]).ok();
    let socket = UnixListener::bind(repo.path(".thrum/var/thrum.sock")).unwrap();
    let gives_up = thread::spawn(move || {
        let (mut stream, _) = socket.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.read_to_string(&mut String::new()).is_ok()
    });
    assert_eq!(repo.thrum(&["claim", "check", "a.rs", "--block"]).ok().says_nothing().stdout, "");
    assert!(gives_up.join().unwrap(), "the check closes the connection");
}

#[test]
fn a_check_says_nothing_where_there_is_no_mailbox() {
    let repo = TestRepo::git("bare");
    let checked = repo.thrum(&["claim", "check", "--staged"]).ok().says_nothing();
    assert_eq!(checked.stdout, "");
}

#[test]
fn who_has_takes_several_paths() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["claim", "a.rs", "src"]).ok();
    let lines = |args: &[&str], code| {
        let ran = repo.thrum(&[&["who-has"], args].concat());
        assert_eq!(ran.code, code, "{ran:?}");
        ran.stdout.lines().map(|line| line.split(" for ").next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (a, src) = ("@ann has claimed a.rs", "@ann has claimed src");
    assert_eq!(lines(&["a.rs", "src/b.rs", "./a.rs"], 0), [a, src], "a path that is named twice is shown once");
    let nobody = |path: &str| format!("No agent is known to work on {path}");
    assert_eq!(lines(&["b.rs", "a.rs"], 0), [nobody("b.rs"), a.to_owned()]);
    assert_eq!(lines(&["b.rs", "c.rs"], 3), [nobody("b.rs"), nobody("c.rs")]);
    let found = repo.json(&["who-has", "b.rs", "a.rs"]);
    let claims = |number: usize| found["paths"][number]["claims"].as_array().unwrap().len();
    assert_eq!((&found["paths"][1]["file"], claims(0), claims(1)), (&"a.rs".into(), 0, 1), "{found}");
    repo.thrum(&["who-has", "a.rs", "../b.rs"]).fails(2, "is not inside");
    repo.thrum(&["who-has"]).fails(2, "<PATH>...");
}

/// A script passes an empty path when a variable is not set.
#[test]
fn an_empty_path_is_not_the_whole_repository() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["claim", "a.rs"]).ok();
    for args in
        [["claim", ""].as_slice(), &["claim", "b.rs", ""], &["release", ""], &["who-has", ""], &["claim", "check", ""]]
    {
        repo.thrum(args).fails(2, "an empty path names no file");
    }
    let claims = repo.json(&["claim"]);
    assert_eq!(
        claims["claims"].as_array().unwrap().iter().map(|claim| claim["path"].clone()).collect::<Vec<_>>(),
        ["a.rs"]
    );
    repo.thrum(&["claim", "a.rs", "--for", "0"]).fails(2, "more than no time");
}
