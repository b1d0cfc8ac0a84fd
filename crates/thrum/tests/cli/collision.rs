//! Two agents on two machines change the same file.

use std::{fs, path::Path, time::Instant};

use serde_json::{Value, json};

use crate::common::{TestRepo, paired, plain};

fn hook(repo: &TestRepo, event: &str) -> String {
    let payload = json!({"session_id": "s1", "cwd": repo.root(), "prompt": "go on"});
    let ran = repo.thrum_with_input(payload.to_string().as_bytes(), &["hook", event, "--host", "claude"]).ok();
    let answer: Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
    answer["hookSpecificOutput"]["additionalContext"].as_str().unwrap_or_default().to_owned()
}

fn change(repo: &TestRepo, file: impl AsRef<Path>) {
    fs::write(repo.root().join(file), "fn login() {}\n").unwrap();
    repo.thrum(&["session", "heartbeat"]).ok();
}

/// Waits until the daemon has found a collision over a file, and returns it.
fn found(repo: &TestRepo, file: &str) -> Value {
    let begun = Instant::now();
    loop {
        let answer = repo.json(&["who-has", file]);
        if let Some(found) = answer["collisions"].as_array().and_then(|found| found.first()) {
            return found.clone();
        }
        assert!(begun.elapsed() < plain::WAIT, "no collision over {file}: {answer}");
    }
}

#[test]
fn two_agents_that_change_one_file_on_two_machines_are_each_notified_once() {
    let (left, right) = paired();
    hook(&left, "start");
    hook(&right, "start");
    change(&left, "login.rs");
    change(&right, "other.rs");
    change(&right, "login.rs");
    left.thrum(&["sync", "verify"]).ok();
    right.thrum(&["sync", "verify"]).ok();
    let shown = found(&left, "login.rs");
    assert_eq!((&shown["address"], &shown["other"]["address"]), (&"@ann".into(), &"@bob@right".into()), "{shown}");
    found(&right, "login.rs");
    assert_eq!(left.json(&["who-has", "other.rs"])["collisions"], json!([]));

    let told = hook(&left, "prompt");
    assert!(
        told.contains("@bob@right changed login.rs within ") && told.contains("thrum send TEXT --to @bob@right"),
        "{told}"
    );
    assert_eq!(hook(&left, "prompt"), "", "once");
    assert_eq!(hook(&left, "stop"), "");
    let kept = hook(&right, "stop");
    assert!(
        kept.starts_with("Before you end your turn: @ann@left changed ") && kept.contains("changed login.rs within "),
        "{kept}"
    );
    assert_eq!((hook(&right, "stop"), hook(&right, "prompt")), (String::new(), String::new()));

    for line in [&["team"][..], &["who-has", "login.rs"]] {
        let shown = left.thrum(line).ok().stdout;
        assert!(shown.contains("Collision: @ann and @bob@right changed login.rs within "), "{shown}");
    }
    // An agent without hooks reads the warning together with its mail.
    left.thrum(&["session", "end"]).ok();
    change(&right, "inbox.rs");
    left.thrum(&["session", "start"]).ok();
    change(&left, "inbox.rs");
    left.thrum(&["sync", "verify"]).ok();
    found(&left, "inbox.rs");
    let inbox = left.thrum(&["inbox"]).ok().stdout;
    assert!(inbox.contains("Note: @bob@right changed inbox.rs within "), "{inbox}");
    assert!(left.json(&["inbox"]).get("collisions").is_none(), "once");
}
