//! The whole help is `docs/cli.md`: a change of the command line is a change that reviewers see.
//!
//! After such a change: `UPDATE_DOCS=1 cargo test -p thrum --test cli help::`

use crate::common::{TestRepo, docs};

const INTRODUCTION: &str = "\
# The command line

What `thrum help` says of every command, word for word; a test compares. Every example runs in a test, too, in a repository where
`ann` (implementer) is the agent of this worktree and `bob` (reviewer) and `carol` (tester) are registered.
";

/// Follows the list of commands from help to help.
fn whole_help() -> String {
    let repo = TestRepo::plain("repo");
    let mut page = INTRODUCTION.to_owned();
    let mut left = vec![String::new()];
    while let Some(command) = left.pop() {
        let args: Vec<_> = command.split_whitespace().chain(["--help"]).collect();
        let help = repo.thrum(&args).ok().stdout;
        let mut below: Vec<_> = docs::commands(&help).iter().map(|name| format!("{command} {name}").trim().to_owned()).collect();
        below.reverse();
        left.extend(below);
        // The options of every command stand once, in the help of the whole.
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
fn docs_cli_md_is_what_the_help_says() {
    docs::compare("cli.md", &whole_help());
}

#[test]
fn usage_errors_are_json_where_json_is_asked_for() {
    let repo = TestRepo::plain("repo");
    let ran = repo.thrum(&["--json", "message", "read"]).fails(2, "");
    let error: serde_json::Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!(error["error"]["kind"], "invalid");
    assert!(error["error"]["message"].as_str().unwrap().contains("MESSAGE"), "{error}");
    assert_eq!(ran.stdout, "");
    repo.thrum(&["sned"]).fails(2, "send");
}
