use std::fs;

use crate::common::TestRepo;

fn with_message() -> (TestRepo, String) {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    let id = repo.json(&["send", "first", "--to", "bob", "--as", "ann"])["message_id"].as_str().unwrap().to_owned();
    (repo, id)
}

#[test]
fn showing_a_message_marks_it_as_read_for_its_recipient_only() {
    let (repo, id) = with_message();
    repo.agent("eve", "tester");
    for name in ["eve", "ann"] {
        let seen = repo.json(&["message", "get", &id, "--as", name]);
        assert!(seen["message"]["recipients"][0]["read_at"].is_null(), "{name} does not read it for bob: {seen}");
    }
    // The command does not mark a message as read if it could not print it.
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert_eq!(
        repo.command(&["message", "get", &id, "--as", "bob"]).stdout(full).output().unwrap().status.code(),
        Some(1)
    );
    let events = repo.connect().call("health", &serde_json::json!({}))["events"].clone();
    let first = repo.json(&["message", "get", &id, "--as", "bob"]);
    assert_eq!(
        (&first["message"]["is_read"], &first["message"]["recipients"][0]["state"]),
        (&false.into(), &"stored".into())
    );
    let seen = repo.json(&["message", "get", &id, "--as", "bob"]);
    assert_eq!(
        (&seen["message"]["is_read"], &seen["message"]["recipients"][0]["state"]),
        (&true.into(), &"read".into())
    );
    let more =
        repo.connect().call("health", &serde_json::json!({}))["events"].as_u64().unwrap() - events.as_u64().unwrap();
    assert_eq!(more, 1, "once");
}

#[test]
fn showing_a_message_to_everyone_marks_it_as_read() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    for whom in [["--to", "@reviewer"], ["--to", "@everyone"]] {
        let sent = repo.json(&[&["send", "x", "--as", "ann"][..], &whom].concat());
        repo.thrum(&["message", "get", sent["message_id"].as_str().unwrap(), "--as", "bob"]).ok();
        assert_eq!(repo.json(&["inbox", "--unread", "--as", "bob"])["unread"], 0, "{whom:?}");
    }
}

#[test]
fn an_edited_message_has_the_new_text_everywhere() {
    let (repo, id) = with_message();
    let edited = repo.json(&["message", "edit", &id, "second", "--as", "ann"]);
    assert_eq!((&edited["message_id"], &edited["version"]), (&id.as_str().into(), &1.into()));
    fs::write(repo.path("third.md"), "third\n").unwrap();
    let shown = repo.thrum(&["message", "edit", &id, "--body-file", "third.md", "--as", "ann"]).ok().stdout;
    assert_eq!(shown, format!("Edited {id} (version 2)\n"));
    repo.thrum_with_input(b"fourth", &["message", "edit", &id, "-", "--as", "ann"]).ok();
    let inbox = repo.thrum(&["inbox", "--as", "bob"]).ok().stdout;
    assert!(inbox.contains("  │ fourth\n") && inbox.contains("(edited)"), "{inbox}");
}

#[test]
fn a_deletion_asks_first_and_withdraws_the_message() {
    let (repo, id) = with_message();
    repo.thrum(&["message", "delete", &id, "--as", "ann"]).fails(2, "no terminal").says("--force");
    repo.thrum_with_input(b"y\n", &["message", "delete", &id, "--as", "ann"]).fails(2, "no terminal");
    assert_eq!(repo.json(&["inbox", "--unread", "--as", "bob"])["total"], 1);
    let deleted =
        repo.thrum(&["message", "delete", &id, "--force", "--reason", "wrong branch", "--as", "ann"]).ok().stdout;
    assert_eq!(deleted, format!("Deleted {id}\n"));
    assert_eq!(repo.json(&["inbox", "--as", "bob"])["total"], 0);
    let seen = repo.json(&["message", "get", &id, "--as", "bob"]);
    assert_eq!(seen["message"]["metadata"]["delete_reason"], "wrong branch");
    for args in [&["message", "get", &id][..], &["sent", "show", &id]] {
        let seen = repo.json(&[args, &["--as", "ann"]].concat());
        assert_eq!(
            (&seen["message"]["body"]["content"], &seen["message"]["deleted"]),
            (&"".into(), &true.into()),
            "{args:?}"
        );
    }
    assert!(repo.thrum(&["message", "get", &id, "--as", "bob"]).ok().stdout.ends_with("(deleted)\n"));
    repo.thrum(&["message", "delete", &id, "--force", "--as", "ann"]).ok();
    repo.thrum(&["message", "edit", &id, "x", "--as", "ann"]).fails(4, "deleted");
}

#[test]
fn a_message_of_another_agent_and_an_unknown_one_are_left_alone() {
    let (repo, id) = with_message();
    for args in [&["message", "edit", &id, "mine now"][..], &["message", "delete", &id, "--force"]] {
        repo.thrum(&[args, &["--as", "bob"]].concat()).fails(4, "only message author can").says("Hint:");
    }
    for args in [
        &["message", "edit", "msg_none", "x"][..],
        &["message", "delete", "msg_none", "--force"],
        &["message", "get", "msg_none"],
        &["message", "read", "msg_none"],
        &["message", "read", &id, "msg_none"],
    ] {
        repo.thrum(&[args, &["--as", "bob"]].concat()).fails(3, "message not found: msg_none").says("thrum inbox");
    }
    let inbox = repo.json(&["inbox", "--unread", "--as", "bob"]);
    assert_eq!(
        (&inbox["unread"], &inbox["messages"][0]["body"]["content"]),
        (&1.into(), &"first".into()),
        "nothing was marked"
    );
}

#[test]
fn only_the_callers_own_mailbox_is_marked_as_read() {
    let (repo, id) = with_message();
    repo.agent("eve", "tester");
    assert_eq!(repo.json(&["message", "read", &id, "--as", "eve"])["marked_count"], 0);
    assert_eq!(repo.json(&["inbox", "--unread", "--as", "bob"])["unread"], 1);
    repo.thrum(&["message", "read", &id, "--all", "--as", "bob"]).fails(2, "cannot be used with");
    repo.thrum(&["message", "read", "--as", "bob"]).fails(2, "MESSAGE");
}
