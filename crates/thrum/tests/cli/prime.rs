use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::{Value, json};

use crate::common::{Ran, TestRepo, paired};

/// Git gets all the time it needs; the usual short limit is not under test.
const PATIENT: [&str; 2] = ["--git-wait", "60s"];

fn primed(repo: &TestRepo, args: &[&str]) -> Value {
    repo.json(&[&["prime"], &PATIENT[..], args].concat())
}

#[test]
fn the_briefing_has_identity_mail_team_and_work() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    repo.thrum(&["context", "save", "The form is done.\nNext: the tests.", "--as", "ann"]).ok();
    let session = repo.json(&["whoami", "--as", "ann"])["session_id"].clone();
    let mut rpc = repo.connect();
    rpc.call("session.setIntent", &json!({"session_id": session, "intent": "mend the login"}));
    rpc.call("session.setTask", &json!({"session_id": session, "current_task": "T-7"}));
    repo.thrum(&["send", "the oldest", "--to", "ann", "--as", "bob"]).ok();
    for number in 1..=6 {
        repo.thrum(&["send", &format!("number {number}\nmore of it"), "--to", "ann", "--as", "bob"]).ok();
    }
    fs::write(repo.path("new file.rs"), "").unwrap();

    let shown = repo.thrum(&[&["prime", "--as", "ann"], &PATIENT[..]].concat()).ok().stdout;
    for line in [
        "@ann (implementer · m-ann)\n",
        "\"mend the login\"\n",
        "T-7\n",
        "main, 2 files uncommitted\n",
        "    \"new file.rs\"\n",
        "7 unread of 7\n",
        "    │ number 6 more of it\n",
        "2 active of 2 agents\n",
        "    @bob reviewer · m-bob\n",
        "  │ The form is done.\n  │ Next: the tests.\n",
        "thrum wait --timeout 8m",
    ] {
        assert!(shown.contains(line), "no '{line}' in:\n{shown}");
    }
    assert!(!shown.contains("the oldest"), "five are enough:\n{shown}");

    let told = primed(&repo, &["--as", "ann"]);
    assert_eq!((&told["identity"]["agent_id"], &told["session"]["session_id"]), (&"ann".into(), &session), "{told}");
    assert_eq!(
        (&told["session"]["intent"], &told["session"]["current_task"]),
        (&"mend the login".into(), &"T-7".into())
    );
    assert_eq!((&told["messages"]["unread"], told["messages"]["recent"].as_array().unwrap().len()), (&7.into(), 5));
    assert_eq!(told["messages"]["recent"][0]["is_read"], false, "it leaves mail unread");
    assert_eq!((&told["agents"]["total"], &told["agents"]["active"]), (&2.into(), &2.into()));
    assert_eq!(told["work_context"]["uncommitted_files"], json!([".gitignore", "new file.rs"]));
    assert_eq!((&told["sync_state"]["daemon_status"], &told["missing"]), (&"running".into(), &json!([])));
    assert!(told["context"]["notes"].as_str().unwrap().starts_with("The form is done."));
    assert_eq!(repo.json(&["context", "prime", "--as", "ann"])["identity"], told["identity"]);
}

#[test]
fn the_commands_in_the_briefing_exist() {
    let repo = TestRepo::with_agent("repo", "ann");
    let commands = primed(&repo, &[])["commands"].take();
    for command in commands.as_array().unwrap() {
        let words: Vec<_> = command
            .as_str()
            .unwrap()
            .split(' ')
            .skip(1)
            .take_while(|word| word.starts_with(char::is_lowercase))
            .collect();
        let help = repo.thrum(&[&words[..], &["--help"]].concat()).ok().stdout;
        assert!(help.contains(&format!("Usage: thrum {}", words.join(" "))), "{command}: {help}");
    }
}

#[test]
fn unread_mail_comes_before_newer_mail_that_was_read() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    let send = |text: &str| {
        repo.json(&["send", text, "--to", "ann", "--as", "bob"])["message_id"].as_str().unwrap().to_owned()
    };
    send("old and unread");
    for number in 0..6 {
        let id = send(&format!("newer {number}"));
        repo.thrum(&["message", "read", &id, "--as", "ann"]).ok();
    }
    let recent = primed(&repo, &["--as", "ann"])["messages"]["recent"].take();
    let previews: Vec<_> =
        recent.as_array().unwrap().iter().map(|message| message["preview"].as_str().unwrap()).collect();
    assert_eq!(previews, ["old and unread", "newer 5", "newer 4", "newer 3", "newer 2"]);
}

#[test]
fn without_a_daemon_the_briefing_names_the_gap_and_shows_the_rest() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["context", "save", "what I was about"]).ok();
    repo.thrum(&["daemon", "stop"]).ok();
    let shown = repo.thrum(&["prime", "--no-start"]).ok().stdout;
    for words in [
        "@ann (implementer · m-ann)",
        "Missing: the daemon of",
        "(thrum daemon start)",
        "what I was about",
        "thrum inbox",
    ] {
        assert!(shown.contains(words), "no '{words}' in:\n{shown}");
    }
    let told = primed(&repo, &["--no-start"]);
    assert_eq!(
        (&told["sync_state"]["daemon_status"], &told["missing"][0]["kind"]),
        (&"not_running".into(), &"unavailable".into())
    );
    assert_eq!((&told["messages"], &told["identity"]["role"]), (&Value::Null, &"implementer".into()));
    // An unreachable daemon does not make the command fail, either.
    fs::set_permissions(repo.path(".thrum/var"), fs::Permissions::from_mode(0o000)).unwrap();
    let ran = repo.thrum(&["prime", "--no-start"]);
    fs::set_permissions(repo.path(".thrum/var"), fs::Permissions::from_mode(0o700)).unwrap();
    assert!(ran.ok().stdout.contains("Missing: "));
    repo.thrum(&["prime"]).ok().says("Starting the daemon");
}

#[test]
fn the_briefing_works_before_registration() {
    let repo = TestRepo::plain("repo");
    repo.thrum(&["prime"]).fails(3, "thrum init");
    repo.thrum(&["init"]).ok();
    let shown = repo.thrum(&[&["prime"], &PATIENT[..]].concat()).ok().stdout;
    assert!(shown.contains("Missing: no agent is registered in this worktree (thrum quickstart"), "{shown}");
    let told = primed(&repo, &[]);
    assert_eq!((&told["identity"], &told["session"]), (&Value::Null, &Value::Null));
    assert!(told["work_context"]["error"].as_str().unwrap().contains("git"), "{told}");
}

#[test]
fn the_briefing_names_peers_with_trouble_and_counts_the_others() {
    let (left, right) = paired();
    let shown = left.thrum(&["prime"]).ok().stdout;
    assert!(shown.contains("peers: 1 connected") && !shown.contains("read by us"), "{shown}");
    right.thrum(&["daemon", "stop"]).ok();
    left.thrum(&["sync", "force"]).fails(75, "");
    let trouble = primed(&left, &[])["sync_state"]["troubles"][0].take();
    assert_eq!(trouble["name"], "right");
    assert!(trouble["last_error"].is_string(), "{trouble}");
    assert!(left.thrum(&["prime"]).ok().stdout.contains("Last error: "));
}

#[test]
fn long_notes_mail_and_lists_are_cut_where_a_context_window_would_suffer() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum_with_input("word ".repeat(20_000).as_bytes(), &["context", "save", "-"]).ok();
    repo.thrum_with_input("mail ".repeat(20_000).as_bytes(), &["send", "-", "--to", "@ann"]).ok();
    for number in 0..60 {
        fs::write(repo.path(&format!("file-{number:02}")), "").unwrap();
    }
    let shown = repo.thrum(&[&["prime"], &PATIENT[..]].concat()).ok().stdout;
    assert!(shown.len() < 8000, "{} bytes", shown.len());
    assert!(
        shown.contains("61 files uncommitted")
            && shown.contains("and 41 more")
            && shown.contains("all: thrum context show"),
        "{shown}"
    );
    assert!(primed(&repo, &[]).to_string().len() < 10_000);
}

#[test]
fn a_slow_or_missing_git_costs_only_the_git_part() {
    let repo = TestRepo::with_agent("repo", "ann");
    let slow = repo.above().join("slow");
    fs::create_dir(&slow).unwrap();
    fs::write(slow.join("git"), "#!/bin/sh\nexec tail -f /dev/null\n").unwrap();
    fs::set_permissions(slow.join("git"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", slow.display(), std::env::var("PATH").unwrap());
    let told = Ran::from(repo.command(&["prime", "--json"]).env("PATH", path).output().unwrap()).ok().json();
    assert_eq!(told["work_context"]["branch"], "main");
    assert_eq!(told["work_context"]["error"], "git did not answer within 50 ms", "{told}");
    let ran = Ran::from(repo.command(&["prime", "--json"]).env("PATH", "/nowhere").output().unwrap()).ok();
    assert!(ran.json()["work_context"]["error"].as_str().unwrap().contains("cannot be started"));
}
