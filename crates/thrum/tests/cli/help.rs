//! `docs/cli.md` contains the whole help, so reviewers see every change of the command line.
//!
//! After such a change: `UPDATE_DOCS=1 cargo test -p thrum --test cli help::`

use crate::common::{TestRepo, docs};

const INTRODUCTION: &str = "\
# The command line

What `thrum help` says of every command, word for word; a test compares. Every example runs in a test, too, in a repository where
`ann` (implementer) is the agent of this worktree and `bob` (reviewer) and `carol` (tester) are registered.
";

/// Collects the help of every command, following the lists of commands.
fn whole_help() -> String {
    let repo = TestRepo::plain("repo");
    let mut page = INTRODUCTION.to_owned();
    let mut left = vec![String::new()];
    while let Some(command) = left.pop() {
        let args: Vec<_> = command.split_whitespace().chain(["--help"]).collect();
        let help = repo.thrum(&args).ok().stdout;
        let mut below: Vec<_> =
            docs::commands(&help).iter().map(|name| format!("{command} {name}").trim().to_owned()).collect();
        below.reverse();
        left.extend(below);
        // The options of every command appear only once, in the top-level help.
        let shown = match help.split_once("Options of every command:") {
            Some((own, rest)) if !command.is_empty() => {
                let after = rest.split_once("\n\n").map_or("", |(_, after)| after);
                format!("{}\n\n{after}", own.trim_end())
            }
            _ => help,
        };
        page += format!("\n## thrum {command}").trim_end();
        page += &format!("\n\n```\n{}\n```\n", shown.trim_end());
    }
    page
}

#[test]
fn docs_cli_md_matches_the_help() {
    docs::compare("cli.md", &whole_help());
}

#[test]
fn the_help_is_clean_text_that_breaks_only_where_it_must() {
    let help = whole_help();
    assert!(!help.contains("\\\""), "no quotation mark of the source is left");
    let mut lines = help.lines().zip(help.lines().skip(1));
    // A line that was broken by hand and then again by the program ends after a word or two in the middle of a
    // sentence.
    let torn = lines.find(|(line, next)| {
        line.starts_with(char::is_alphabetic)
            && line.len() < 40
            && !line.ends_with(['.', ':'])
            && next.starts_with(char::is_lowercase)
    });
    assert_eq!(torn, None);
    let keys = help.lines().skip_while(|line| *line != "Keys:").skip(1).take_while(|line| !line.is_empty());
    for line in keys {
        let is_key = ["daemon.", "tailnet.", "peers.", "codex.", "agents.", "git."]
            .iter()
            .any(|section| line.starts_with(&format!("  {section}")));
        assert!(is_key || line.starts_with(&" ".repeat(24)), "{line}");
    }
    let hanging = help.lines().find(|line| line.len() > 100 && line.starts_with(' '));
    assert_eq!(hanging, None, "what is set in columns fits");
}

#[test]
fn usage_errors_are_json_with_the_json_flag() {
    let repo = TestRepo::plain("repo");
    let ran = repo.thrum(&["--json", "message", "read"]).fails(2, "");
    let error: serde_json::Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!(error["error"]["kind"], "invalid");
    assert!(error["error"]["message"].as_str().unwrap().contains("MESSAGE"), "{error}");
    assert_eq!(error["error"]["hint"], "See `thrum help message read`.");
    assert_eq!(ran.stdout, "");
    let hint = |args: &[&str]| {
        let error: serde_json::Value = serde_json::from_str(&repo.thrum(args).fails(2, "").stderr).unwrap();
        error["error"]["hint"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        hint(&["--as", "ann", "send", "x", "--scope", "y", "--json"]),
        "See `thrum help send`.",
        "an error without usage"
    );
    assert_eq!(hint(&["message", "read", "--json", "--all", "m"]), "See `thrum help message read`.");
    for command in [&["send", "--to", "bob"][..], &["reply", "msg_1"], &["message", "edit", "msg_1"]] {
        let args = [command, &["--jsn"]].concat();
        repo.thrum(&args).fails(2, "unexpected argument '--jsn' found").says("a similar argument exists: '--json'");
        assert!(hint(&[&args[..], &["--json"]].concat()).contains("'--json'"), "{command:?}");
    }
    repo.thrum(&["quickstart", "--intent", "--quiet"]).fails(2, "a value is required").says("--intent=-text");
    repo.thrum(&["sned"]).fails(2, "send");
}
