use serde_json::json;

use crate::common::{TestRepo, contents, instead_of_daemon};

#[test]
fn a_message_is_stored_for_each_recipient() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    repo.agent("eve", "reviewer");
    let sent = repo.thrum(&["send", "one", "--to", "bob", "--to", "@eve", "--as", "ann"]).ok();
    assert!(sent.stdout.starts_with("Sent msg_"), "{}", sent.stdout);
    assert!(sent.stdout.contains("@bob  stored") && sent.stdout.contains("@eve  stored"), "{}", sent.stdout);

    repo.thrum(&["send", "two", "--to", "@reviewer", "--as", "ann"]).ok();
    repo.thrum(&["send", "three", "--to", "@everyone", "--as", "ann"]).ok();
    repo.thrum(&["send", "four", "--broadcast", "--as", "ann"]).ok();
    for name in ["bob", "eve"] {
        let inbox = repo.json(&["inbox", "--unread", "--as", name]);
        assert_eq!(contents(&inbox), ["four", "three", "two", "one"], "{name}, newest first");
    }
    assert_eq!(repo.json(&["inbox", "--as", "ann"])["total"], 0);
}

#[test]
fn without_recipient_nothing_is_sent() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    for (args, words) in [
        (&["send", "hello"][..], "no recipient"),
        (&["send", "hello", "--to", ""], "is no name of a recipient"),
        (&["send", "hello", "--to", "@"], "is no name of a recipient"),
        (&["send", "hello", "--to", "bob", "--broadcast"], "not both"),
        (&["send", "hello", "--to", "bob", "--to", "@everyone"], "not both"),
    ] {
        repo.thrum(&[args, &["--as", "ann"]].concat()).fails(2, words).fails(2, "Hint:");
    }
    let unknown = repo.thrum(&["send", "hello", "--to", "@bob", "--to", "@ghost", "--as", "ann"]);
    assert!(unknown.code != 0 && unknown.stderr.contains("@ghost"), "{unknown:?}");
    assert_eq!(repo.json(&["inbox", "--as", "bob"])["total"], 0, "neither got it");
}

#[test]
fn an_unknown_recipient_is_answered_with_suggestions() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    let send = |to: &str| repo.thrum(&["send", "hello", "--to", to, "--as", "ann"]);
    send("BOB").fails(3, "unknown recipients: @BOB").says("Did you mean @bob?");
    send("bob, @carol").fails(3, "unknown recipients").says("Repeat --to for each: --to @bob --to @carol");
    repo.thrum(&["send", "hello", "--to", "bob", "--broadcast", "--as", "ann"])
        .fails(2, "not both")
        .says("Leave one out");
    let alone = repo.thrum(&["send", "hello", "--to", "@implementer", "--as", "ann"]).ok().stdout;
    assert!(alone.trim_end().ends_with("no recipients: no other agent is @implementer"), "{alone}");
}

#[test]
fn mail_to_oneself_is_stored_and_wakes_nobody() {
    let repo = TestRepo::with_agent("repo", "ann");
    let alone = repo.thrum(&["send", "anybody?", "--to", "@everyone"]).ok().stdout;
    assert!(alone.trim_end().ends_with(" no recipients: no other agent is registered yet"), "{alone}");
    let id = repo.json(&["send", "note to self", "--to", "@ann"])["message_id"].as_str().unwrap().to_owned();
    assert_eq!(repo.json(&["message", "get", &id])["message"]["body"]["content"], "note to self");
    repo.thrum(&["wait", "--timeout", "50ms"]).fails(1, "No message");
}

#[test]
fn errors_are_json_with_the_json_flag() {
    let repo = TestRepo::with_agent("repo", "ann");
    let ran = repo.thrum(&["send", "hello", "--json"]).fails(2, "");
    let error: serde_json::Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!((&error["error"]["kind"], &error["error"]["retryable"]), (&"invalid".into(), &false.into()), "{error}");
    assert!(error["error"]["hint"].as_str().unwrap().contains("--broadcast"));
    assert_eq!(ran.stdout, "");
}

#[test]
fn a_send_whose_answer_is_lost_is_repeated_as_the_same_message() {
    let repo = TestRepo::with_agent("repo", "ann");
    let mut first = true;
    let heard = instead_of_daemon(&repo, 2, move |request| {
        let lost = std::mem::replace(&mut first, false);
        (!lost).then(
            || json!({"jsonrpc": "2.0", "id": request["id"], "result": {"message_id": "msg_1", "recipients": []}}),
        )
    });
    repo.thrum(&["send", "once", "--broadcast"]).ok();
    let heard = heard.join().unwrap();
    assert_eq!(heard[0]["params"], heard[1]["params"]);
    assert_eq!(heard[0]["params"]["idempotency_key"].as_str().map(str::len), Some(32));
}

#[test]
fn scopes_and_refs_arrive_with_their_message() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    let send = [
        "send",
        "# Plan",
        "--mention",
        "@bob",
        "--format",
        "plain",
        "--structured",
        r#"{"file":"a.rs","lines":[1,2]}"#,
    ];
    let tags = ["--scope", "module:auth", "--scope", "area:a:b", "--ref", "issue:17", "--as", "ann"];
    let sent = repo.json(&[&send[..], &tags].concat());
    assert_eq!(sent["recipients"].as_array().unwrap().len(), 1);
    let inbox = repo.json(&["inbox", "--as", "bob"]);
    let message = &inbox["messages"][0];
    assert_eq!(message["body"]["format"], "plain");
    let structured: serde_json::Value = serde_json::from_str(message["body"]["structured"].as_str().unwrap()).unwrap();
    assert_eq!(structured, json!({"file": "a.rs", "lines": [1, 2]}));
    assert_eq!(message["scopes"], json!([{"type": "module", "value": "auth"}, {"type": "area", "value": "a:b"}]));
    assert!(message["refs"].as_array().unwrap().contains(&json!({"type": "issue", "value": "17"})), "{message}");
}

#[test]
fn contradictory_flags_are_clear_errors_and_nothing_is_sent() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    for (args, words) in [
        (&["--structured", "{oops"][..], "is no JSON"),
        (&["--structured", "[1]"], "not a JSON object"),
        (&["--structured", "null"], "not a JSON object"),
        (&["--scope", "auth"], "TYPE:VALUE"),
        (&["--scope", ":auth"], "TYPE:VALUE"),
        (&["--ref", "issue:"], "TYPE:VALUE"),
        (&["--format", "html"], "markdown"),
        (&["--body-file", "x.md"], "cannot be used with"),
        (&["--idempotency-key", ""], "1 to 256 bytes"),
    ] {
        repo.thrum(&[&["send", "hello", "--to", "bob", "--as", "ann"], args].concat()).fails(2, words);
    }
    repo.thrum(&["send", "--to", "bob", "--as", "ann"]).fails(2, "TEXT");
    assert_eq!(repo.json(&["inbox", "--as", "bob"])["total"], 0);
}

#[test]
fn a_key_makes_a_repeated_send_one_message_and_is_refused_for_another() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    let send = |text: &str| {
        repo.thrum(&["send", text, "--to", "bob", "--as", "ann", "--idempotency-key", "build-17", "--json"])
    };
    let first = send("build 17 is green").ok().json();
    assert_eq!(send("build 17 is green").ok().json()["message_id"], first["message_id"]);
    let refused = send("build 17 is red");
    assert_eq!(refused.code, 4);
    assert!(refused.stderr.contains("used for another message"), "{}", refused.stderr);
    assert_eq!(repo.json(&["inbox", "--as", "bob"])["total"], 1);
}

#[test]
fn unknown_recipients_are_all_listed_with_suggestions() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    let args = ["send", "hello", "--to", "@bop", "--to", "@bob", "--to", "@reviewers", "--to", "@zebra", "--as", "ann"];
    repo.thrum(&args).fails(3, "@bop, @reviewers, @zebra").says("Did you mean @bob, @reviewer?");
    assert_eq!(repo.json(&["inbox", "--as", "bob"])["total"], 0);
}

/// Like a daemon on a full disk, which does not know whether the message was stored.
#[test]
fn an_error_after_which_the_same_message_may_be_sent_again_shows_its_key() {
    let repo = TestRepo::with_agent("repo", "ann");
    let unknown = |request: &serde_json::Value| {
        let data = serde_json::json!({"kind": "try_again", "retryable": true, "hint": "Make room, then try again."});
        Some(
            serde_json::json!({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32000, "message": "disk full", "data": data}}),
        )
    };
    let heard = instead_of_daemon(&repo, 2, unknown);
    let failed =
        repo.thrum(&["send", "x", "--to", "@bob"]).fails(75, "Make room, then try again. With --idempotency-key ");
    repo.thrum(&["send", "x", "--to", "@bob", "--idempotency-key", "mine"])
        .fails(75, "With --idempotency-key mine the same message");
    let keys: Vec<_> =
        heard.join().unwrap().iter().map(|request| request["params"]["idempotency_key"].clone()).collect();
    assert!(failed.stderr.contains(&format!("--idempotency-key {} ", keys[0].as_str().unwrap())), "{}", failed.stderr);
    assert_eq!(keys[1], "mine");
}

#[test]
fn an_argument_that_is_no_text_is_a_usage_error() {
    use std::os::unix::ffi::OsStrExt;

    let repo = TestRepo::with_agent("repo", "ann");
    let mut command = repo.command(&["send"]);
    let output = command.arg(std::ffi::OsStr::from_bytes(b"\xff")).args(["--to", "@ann"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("UTF-8") && !said.contains("panicked"), "{said}");
}
