//! Who reads decides the form: a terminal, a pipe, a program.

use std::process::Stdio;

use crate::common::TestRepo;

#[test]
fn a_pipe_gets_no_colours_and_exact_times() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    repo.thrum(&["send", "hello", "--to", "bob", "--as", "ann"]).ok();
    let shown = repo.thrum(&["inbox", "--unread", "--as", "bob"]).ok().stdout;
    assert!(!shown.contains('\x1b') && !shown.contains("ago"), "{shown:?}");
    assert!(shown.contains("Z  "), "a time in UTC: {shown}");
}

#[test]
fn a_reader_who_stops_early_is_no_error() {
    let repo = TestRepo::with_agent("repo", "ann");
    let mut child = repo.command(&["team"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn json_is_one_compact_line_and_quiet_leaves_the_notes_out() {
    let repo = TestRepo::git("repo");
    let ran = repo.thrum(&["quickstart", "--name", "ann", "--role", "r", "--module", "m", "--json"]).ok();
    assert_eq!((ran.stdout.lines().count(), ran.stderr.as_str()), (1, ""));
    for args in
        [&["team"][..], &["status"], &["whoami"], &["inbox"], &["peer", "list"], &["sync", "status"], &["daemon", "status"], &["version"]]
    {
        repo.json(args);
    }
    repo.thrum(&["daemon", "stop"]).ok();
    assert_eq!(repo.thrum(&["inbox", "--quiet"]).ok().stderr, "");
}
