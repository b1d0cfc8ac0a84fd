use std::{fs, os::unix::fs::PermissionsExt, process::Stdio};

use crate::common::{Ran, TestRepo};

#[test]
fn notes_are_saved_shown_replaced_and_cleared_without_a_daemon() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["daemon", "stop"]).ok();
    repo.thrum(&["context", "show"]).ok().says("Hint: thrum context save");
    repo.thrum(&["context", "save", "one"]).ok();
    fs::write(repo.path("notes.md"), "# Two\n\tindented\n").unwrap();
    assert!(
        repo.thrum(&["context", "save", "--file", "notes.md"])
            .ok()
            .stdout
            .contains("Saved the notes of @ann (16 bytes)")
    );
    repo.thrum(&["context", "preamble", "I implement."]).ok();
    let shown = repo.thrum(&["context", "load"]).ok().stdout;
    assert!(
        shown.starts_with("I implement.\n\nNotes of @ann, saved 20") && shown.ends_with("Z\n# Two\n    indented\n"),
        "{shown}"
    );
    assert_eq!(repo.thrum(&["context", "show", "--raw", "--no-preamble"]).ok().stdout, "# Two\n\tindented\n");
    assert_eq!(fs::metadata(repo.path(".thrum/context/ann.md")).unwrap().permissions().mode() & 0o777, 0o600);
    let told = repo.json(&["context", "show"]);
    assert_eq!(
        (&told["content"], &told["preamble"], &told["size"]),
        (&"# Two\n\tindented\n".into(), &"I implement.".into(), &16.into())
    );
    assert_eq!(repo.json(&["context", "clear"])["status"], "cleared");
    assert_eq!(repo.json(&["context", "clear"])["status"], "none");
    let told = repo.json(&["context", "show"]);
    assert_eq!((&told["has_context"], &told["has_preamble"]), (&false.into(), &true.into()));
    assert!(!repo.path(".thrum/var/thrum.sock").exists(), "nothing of it started a daemon");
}

#[test]
fn raw_notes_are_byte_exact_in_a_pipe_and_cannot_control_a_terminal() {
    let repo = TestRepo::with_agent("repo", "ann");
    let text = b"\x1b[31mred\x1b[0m\r\nno end of line";
    repo.thrum_with_input(text, &["context", "save", "-"]).ok();
    let raw = repo.command(&["context", "show", "--raw"]).stderr(Stdio::inherit()).output().unwrap();
    assert_eq!(raw.stdout, text);
    let (code, shown) = repo.on_terminal(80, &["context", "show", "--raw"]);
    assert_eq!((code, shown.as_str()), (0, "\\u{1b}[31mred\\u{1b}[0m\nno end of line\n"));
}

#[test]
fn notes_belong_to_an_agent_and_names_are_no_paths() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    repo.thrum(&["context", "save", "ann's", "--as", "ann"]).ok();
    repo.thrum(&["context", "save", "bob's", "--agent", "@bob"]).ok();
    assert_eq!(repo.json(&["context", "show", "--as", "bob"])["content"], "bob's");
    repo.thrum(&["context", "show"]).fails(2, "several agents");
    for name in ["../ann", "/etc/passwd", "Ann", "ann_preamble"] {
        repo.thrum(&["context", "save", "x", "--agent", name]).fails(2, "");
        repo.thrum(&["context", "clear", "--agent", name]).fails(2, "");
    }
    assert_eq!(fs::read_dir(repo.path(".thrum/context")).unwrap().count(), 2);
}

#[test]
fn invalid_notes_are_refused_with_a_clear_error() {
    let repo = TestRepo::with_agent("repo", "ann");
    let too_long = vec![b'x'; (256 << 10) + 1];
    repo.thrum_with_input(&too_long, &["context", "save", "-"]).fails(2, "at most 262144 are kept");
    repo.thrum_with_input(b"ab\xff", &["context", "save", "-"]).fails(2, "not UTF-8 (byte 3");
    repo.thrum(&["context", "save", " \n"]).fails(2, "thrum context clear");
    repo.thrum(&["context", "save"]).fails(2, "TEXT");
    repo.thrum(&["context", "save", "x", "--file", "y"]).fails(2, "cannot be used with");
    repo.thrum(&["context", "save", "--file", "nowhere.md"]).fails(3, "cannot read nowhere.md");
    fs::create_dir(repo.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(repo.path("elsewhere"), repo.path(".thrum/context")).unwrap();
    repo.thrum(&["context", "save", "x"]).fails(4, "no directory of its own");
    assert_eq!(Ran::from(repo.command(&["context", "show"]).output().unwrap()).code, 4);
}
