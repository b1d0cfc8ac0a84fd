use serde_json::json;

use crate::common::{TestRepo, instead_of_daemon};

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
        let texts: Vec<_> =
            inbox["messages"].as_array().unwrap().iter().map(|message| message["body"]["content"].as_str().unwrap()).collect();
        assert_eq!(texts, ["four", "three", "two", "one"], "{name}, newest first");
    }
    assert_eq!(repo.json(&["inbox", "--as", "ann"])["total"], 0);
}

#[test]
fn without_recipient_nothing_is_sent() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    for (args, words) in [
        (&["send", "hello"][..], "no recipient"),
        (&["send", "hello", "--to", ""], "names nobody"),
        (&["send", "hello", "--to", "@"], "names nobody"),
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
fn mail_to_oneself_is_stored_and_wakes_nobody() {
    let repo = TestRepo::with_agent("repo", "ann");
    let id = repo.json(&["send", "note to self", "--to", "@ann"])["message_id"].as_str().unwrap().to_owned();
    assert_eq!(repo.json(&["message", "get", &id])["message"]["body"]["content"], "note to self");
    repo.thrum(&["wait", "--timeout", "50ms"]).fails(1, "No message");
}

#[test]
fn errors_are_json_where_json_is_asked_for() {
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
        (!lost).then(|| json!({"jsonrpc": "2.0", "id": request["id"], "result": {"message_id": "msg_1", "recipients": []}}))
    });
    repo.thrum(&["send", "once", "--broadcast"]).ok();
    let heard = heard.join().unwrap();
    assert_eq!(heard[0]["params"], heard[1]["params"]);
    assert_eq!(heard[0]["params"]["idempotency_key"].as_str().map(str::len), Some(32));
}
