//! Every text a message can have, and those it cannot.

use std::fs;

use crate::common::TestRepo;

const MEBIBYTE: usize = 1 << 20;

#[test]
fn a_text_comes_from_the_command_line_a_file_or_standard_input_and_stays_what_it_is() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    let text = "Zeile 1\n\ttab \"quoted\" 日本語\r\nlast line\n";
    fs::write(repo.path("body.md"), text).unwrap();
    repo.thrum(&["send", text, "--to", "bob", "--as", "ann"]).ok();
    repo.thrum(&["send", "--body-file", "body.md", "--to", "bob", "--as", "ann"]).ok();
    repo.thrum_with_input(text.as_bytes(), &["send", "-", "--to", "bob", "--as", "ann"]).ok();
    let inbox = repo.json(&["inbox", "--as", "bob"]);
    let bodies: Vec<_> = inbox["messages"].as_array().unwrap().iter().map(|message| message["body"]["content"].as_str().unwrap()).collect();
    assert_eq!(bodies, [text; 3]);
}

#[test]
fn one_mebibyte_passes_and_nothing_empty_longer_or_not_utf8_does() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    let send = |body: &[u8]| repo.thrum_with_input(body, &["send", "-", "--to", "bob", "--as", "ann"]);
    send(&[b'\\'; MEBIBYTE]).ok();
    send(&[b'a'; MEBIBYTE + 1]).fails(2, "longer than 1048576 bytes");
    send(b"").fails(2, "empty");
    send(b"ab\xff\xfe").fails(2, "not UTF-8");
    repo.thrum(&["send", "", "--to", "bob", "--as", "ann"]).fails(2, "empty");
    repo.thrum(&["send", "--body-file", "no-such-file", "--to", "bob", "--as", "ann"]).fails(3, "no-such-file");
    let inbox = repo.json(&["inbox", "--as", "bob"]);
    assert_eq!(inbox["total"], 1);
    assert_eq!(inbox["messages"][0]["body"]["content"].as_str().unwrap().len(), MEBIBYTE);
}

#[test]
fn c33_what_others_write_cannot_drive_the_terminal() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    let attack = "\x1b]52;c;aGk=\x07\x1b[2J\u{9b}31m\u{202e}gnp.exe\u{200b}\n2026/01/01 forged line\rover";
    repo.thrum_with_input(attack.as_bytes(), &["send", "-", "--to", "bob", "--as", "ann"]).ok();
    for args in [&["inbox", "--unread"][..], &["wait"], &["inbox", "--json", "--unread"]] {
        let shown = repo.thrum(&[args, &["--as", "bob"]].concat()).ok().stdout;
        let dangerous = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202e}' | '\u{200b}');
        assert!(!shown.contains(dangerous), "{args:?}: {shown:?}");
        assert!(shown.contains("forged line"));
    }
    let json = repo.json(&["inbox", "--as", "bob"]);
    assert_eq!(json["messages"][0]["body"]["content"], attack, "programs get it unchanged");
}
