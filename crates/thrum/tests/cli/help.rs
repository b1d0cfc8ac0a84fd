//! The whole help, as a snapshot: a change of the command line is a change that reviewers see.

use crate::common::TestRepo;

const COMMANDS: [&str; 31] = [
    "",
    "init",
    "quickstart",
    "whoami",
    "send",
    "reply",
    "inbox",
    "message",
    "message get",
    "message read",
    "wait",
    "team",
    "status",
    "peer",
    "peer add",
    "peer join",
    "peer list",
    "peer remove",
    "peer status",
    "sync",
    "sync status",
    "sync force",
    "sync verify",
    "daemon",
    "daemon run",
    "daemon start",
    "daemon stop",
    "daemon restart",
    "daemon status",
    "daemon logs",
    "demo",
];

#[test]
fn the_help_is_the_one_that_was_reviewed() {
    let repo = TestRepo::plain("repo");
    let mut all = String::new();
    for command in COMMANDS.iter().chain(&["bench", "version"]) {
        let mut args: Vec<_> = command.split_whitespace().collect();
        args.push("--help");
        let help = repo.thrum(&args).ok().stdout;
        // The options of every command stand once, in the help of the whole.
        let shown = match help.split_once("Options of every command:") {
            Some((own, rest)) if !command.is_empty() => {
                let after = rest.split_once("\n\n").map_or("", |(_, after)| after);
                format!("{}\n\n{after}", own.trim_end())
            }
            _ => help,
        };
        all += &format!("$ thrum {}\n{}\n\n\n", args.join(" "), shown.trim_end());
    }
    insta::assert_snapshot!(all);
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
