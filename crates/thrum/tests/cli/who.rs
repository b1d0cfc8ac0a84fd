//! Authors and recipients are shown by their addresses, and no text from others can look like a line of ours.

use serde_json::{Value, json};

use crate::common::{TestRepo, paired, plain::PlainPeer};

/// Starts a line with FORGED wherever one of its line breaks gets through.
const FORGED: &str = "x\nFORGED\r\nFORGED\u{2028}FORGED\u{85}FORGED  \u{25cf} @boss  active \u{1b}[2J \u{430}nn";

fn forged(n: usize) -> String {
    format!("{n}{FORGED}")
}

fn now() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    thrum_core::Timestamp::from_nanos(i64::try_from(now.as_nanos()).unwrap()).to_string()
}

/// Waits until the events of a plain peer have arrived: the last of them is a message for `ann`.
fn received(repo: &TestRepo) -> Value {
    repo.json(&["wait", "--timeout", "30s"])
}

#[test]
fn unsigned_mail_and_mail_of_a_namesake_are_marked_and_a_reply_goes_to_the_author() {
    let repo = TestRepo::with_agent_and_port("here", "ann");
    repo.agent("cy", "coder");
    let peer = PlainPeer::join(&repo, "gopeer");
    let now = now();
    let message = json!({"message_id": "msg_1", "agent_id": "bob", "body": {"format": "plain", "content": "hello"},
        "recipients": ["ann"], "refs": [{"type": "mention", "value": "ann"}], "timestamp": now});
    peer.serve([
        ("agent.register", json!({"agent_id": "ann", "role": "coder", "module": "m", "timestamp": now})),
        ("agent.register", json!({"agent_id": "bob", "role": "coder", "module": "m", "timestamp": now})),
        (
            "message.create",
            json!({"message_id": "msg_0", "agent_id": "ann", "body": {"content": "I am ann"}, "timestamp": now}),
        ),
        (
            "message.create",
            json!({"message_id": "msg_2", "agent_id": "ann", "body": {"content": "read me"}, "timestamp": now}),
        ),
        ("message.create", message),
    ]);
    let waited = repo.json(&["wait", "--timeout", "30s", "--as", "ann", "--mention", "@ann"]);
    let message = &waited["messages"][0];
    assert_eq!(
        (&message["address"], &message["home_name"], &message["signed"]),
        (&"@bob@gopeer".into(), &"gopeer".into(), &false.into())
    );
    // `ann` is not the author of the namesake's message, so looking at it marks it as read.
    assert_eq!(repo.json(&["message", "get", "msg_2", "--as", "ann"])["message"]["is_read"], false);
    assert_eq!(repo.json(&["message", "get", "msg_2", "--as", "ann"])["message"]["is_read"], true);
    let inbox = repo.thrum(&["inbox", "--as", "ann", "--unread"]).ok().stdout;
    assert!(inbox.contains("@bob@gopeer unsigned  "), "{inbox}");
    assert!(inbox.contains("@ann@gopeer unsigned to everyone"), "the namesake: {inbox}");
    assert!(repo.thrum(&["prime", "--as", "ann"]).ok().stdout.contains("@ann@gopeer unsigned"));
    let got = repo.thrum(&["message", "get", "msg_1", "--as", "ann"]).ok().stdout;
    assert!(got.lines().any(|line| line.starts_with("From:") && line.ends_with("@bob@gopeer unsigned")), "{got}");
    // Filters accept the same addresses.
    assert_eq!(repo.json(&["inbox", "--as", "ann", "--from", "@ann@gopeer"])["total"], 2);
    assert_eq!(repo.json(&["inbox", "--as", "ann", "--from", "@ann@here"])["total"], 0);
    repo.thrum(&["inbox", "--as", "ann", "--from", "@ann@nowhere"]).fails(3, "no machine is called nowhere");
    // An incomplete or mistyped machine name is an error that proposes the address.
    let near = "Did you mean @bob@gopeer?";
    repo.thrum(&["send", "hi", "--to", "@bob@gopeers", "--as", "ann"]).fails(3, "@bob@gopeers").says(near);
    repo.thrum(&["inbox", "--as", "ann", "--from", "@bob@gopeers"]).fails(3, "gopeers").says(near);
    repo.thrum(&["ping", "@bob@gopeers", "--as", "ann"]).fails(3, "gopeers").says(near);
    repo.thrum(&["ping", "@bop", "--as", "ann"]).fails(3, "bop").says("Did you mean @bob?");

    let answer = repo.json(&["reply", "msg_0", "which of us?", "--as", "ann"]);
    let addresses = |sent: &Value| -> Vec<Value> {
        sent["recipients"].as_array().unwrap().iter().map(|recipient| recipient["address"].clone()).collect()
    };
    assert_eq!(addresses(&answer), ["@ann@gopeer"], "to the home that wrote");
    repo.thrum(&["send", "hi", "--to", "@ann", "--as", "cy"]).ok().says("there is also @ann@gopeer");
    let bare = repo.json(&["send", "hi", "--to", "@ann", "--as", "cy"]);
    assert!(bare["warnings"][0].as_str().unwrap().contains("there is also @ann@gopeer"), "{bare}");
    assert_eq!(addresses(&bare), ["@ann"]);
    assert_eq!(addresses(&repo.json(&["send", "hi", "--to", "@ann@gopeer", "--as", "cy"])), ["@ann@gopeer"]);
    let text = repo.thrum(&["send", "hi", "--to", "ann@gopeer", "--as", "cy"]).ok().stdout;
    assert!(text.contains("to 1 agent\n  @ann@gopeer  stored"), "{text}");
    let misspelt = repo.thrum(&["send", "hi", "--to", "@ann@gopher", "--as", "cy"]);
    misspelt.fails(3, "@ann@gopher").says("Did you mean @ann@gopeer, @ann?");
    let sent = repo.thrum(&["sent", "--to", "@ann@gopeer", "--as", "cy"]).ok().stdout;
    assert!(sent.contains("to @ann@gopeer  ") && sent.contains("2 messages sent by"), "{sent}");
    let team = repo.thrum(&["team", "--all"]).ok().stdout;
    assert!(team.contains(" @ann  ") && team.contains(" @ann@gopeer unsigned  "), "{team}");
}

#[test]
fn mail_to_a_namesake_of_ours_reaches_that_one_alone() {
    let (left, right) = paired();
    right.agent("ann", "reviewer");
    right.thrum(&["sync", "verify", "--as", "bob"]).ok();
    left.agent("eve", "coder");
    left.thrum(&["send", "for the other ann", "--to", "@ann@right", "--as", "eve"]).ok();
    let waited = right.json(&["wait", "--as", "ann", "--timeout", "30s"]);
    assert_eq!(waited["messages"][0]["address"], "@eve@left");
    assert_eq!(waited["messages"][0]["signed"], true);
    assert_eq!(left.json(&["inbox", "--as", "ann"])["total"], 0);
    right.thrum(&["reply", waited["messages"][0]["message_id"].as_str().unwrap(), "thanks", "--as", "ann"]).ok();
    assert_eq!(left.json(&["wait", "--as", "eve", "--timeout", "30s"])["messages"][0]["address"], "@ann@right");
}

/// Sends every text that a peer can choose, with line breaks in it, through every command that shows one of them.
#[test]
fn no_text_of_a_peer_starts_a_line_or_escapes_its_quotes() {
    let repo = TestRepo::with_agent_and_port("here", "ann");
    let peer = PlainPeer::join(&repo, &format!("peer {FORGED}"));
    let (agent, session, message) = (forged(1), forged(2), forged(3));
    let context = json!({"session_id": session, "branch": forged(4), "worktree_path": forged(5), "current_task": forged(6),
        "intent": forged(7), "uncommitted_files": [forged(8)], "changed_files": [forged(9)],
        "unmerged_commits": [{"sha": forged(10), "message": forged(11), "files": [forged(12)]}],
        "file_changes": [{"path": forged(8), "status": forged(13), "additions": 1, "deletions": 1, "last_modified": forged(14)}],
        "scopes": [{"type": forged(15), "value": forged(16)}], "git_updated_at": "2026-11-01T00:00:00Z"});
    let mail = json!({"message_id": message, "agent_id": agent, "session_id": session, "thread_id": forged(17), "event_id": forged(18),
        "body": {"format": forged(19), "content": FORGED, "structured": format!("{{\"a\":\"{FORGED}\"}}")},
        "scopes": [{"type": forged(20), "value": forged(21)}], "refs": [{"type": "reply_to", "value": forged(22)},
            {"type": "mention", "value": forged(23)}, {"type": "mention", "value": "ann"}],
        "recipients": ["ann", forged(23)]});
    let cutoff = "2020-01-01T00:00:00Z";
    peer.serve([
        (
            "agent.register",
            json!({"agent_id": agent, "kind": forged(24), "role": forged(25), "module": forged(26), "display": forged(27),
            "hostname": forged(28), "worktree": forged(29)}),
        ),
        ("agent.register", json!({"agent_id": "zed", "role": "coder", "module": "m", "hostname": forged(28), "origin_daemon": forged(30)})),
        (
            "agent.session.start",
            json!({"session_id": session, "agent_id": agent, "timestamp": thrum_core::Timestamp::from_nanos(i64::MAX / 2).to_string()}),
        ),
        ("agent.update", json!({"agent_id": agent, "work_contexts": [context]})),
        ("message.edit", json!({"message_id": forged(31), "body": {"content": "x"}, "event_id": forged(32)})),
        ("purge.executed", json!({"cutoff": cutoff, "origin_daemon": forged(33)})),
        (Box::leak(forged(34).into_boxed_str()), json!({"x": 1})),
        ("message.create", mail),
    ]);
    received(&repo);
    let calls: &[&[&str]] = &[
        &["inbox", "--unread"],
        &["inbox", "--all"],
        &["wait"],
        &["message", "get", &message],
        &["reply", &message, "an answer"],
        &["sent"],
        &["prime"],
        &["status"],
        &["team"],
        &["team", "--all"],
        &["ping", &agent],
        &["ping", "zed"],
        &["agent", "list"],
        &["agent", "list", "--context"],
        &["agent", "context"],
        &["agent", "cleanup", "--dry-run"],
        &["who-has", "."],
        &["session", "list"],
        &["peer", "list"],
        &["peer", "status"],
        &["sync", "status"],
        &["sync", "force"],
        &["doctor"],
        &["daemon", "logs"],
        &["whoami"],
        &["send", "x", "--to", &agent],
        &["send", "x", "--to", "nobody\nFORGED"],
    ];
    let mut seen = 0;
    for args in calls {
        let ran = repo.thrum(args);
        for line in ran.stdout.lines().chain(ran.stderr.lines()) {
            seen += line.matches("FORGED").count();
            assert!(!line.trim_start().starts_with("FORGED"), "{args:?}: {line}");
            assert!(!line.contains(['\u{1b}', '\u{2028}', '\u{85}', '\r']), "{args:?}: {line:?}");
            let quoted = line.trim_start().starts_with('\u{2502}') || args == &["daemon", "logs"];
            if let Some(at) = line.find("FORGED").filter(|_| !quoted) {
                let before = line[..at].replace("\\\\", "").replace("\\\"", "");
                assert!(before.matches('"').count() % 2 == 1, "outside of quotes in {args:?}: {line}");
            }
        }
    }
    assert!(seen > 50, "what was served is shown: {seen}");
}

/// A purge is shown with its origin and the peer that forwarded it, and an unsigned purge keeps the mail of others.
#[test]
fn a_purge_is_shown_with_its_author_and_the_peer_it_came_through() {
    let repo = TestRepo::with_agent_and_port("here", "ann");
    repo.thrum(&["send", "mine", "--to", "@ann"]).ok();
    let peer = PlainPeer::join(&repo, "gopeer");
    let now = now();
    peer.serve([
        ("purge.executed", json!({"cutoff": now, "timestamp": now, "origin_daemon": "d_behind"})),
        (
            "message.create",
            json!({"message_id": "msg_1", "agent_id": "bob", "recipients": ["ann"], "body": {"content": "older"}}),
        ),
    ]);
    received(&repo);
    let texts = repo.json(&["inbox"]).to_string();
    assert!(texts.contains("mine") && texts.contains("older"), "{texts}");
    let status = repo.thrum(&["status"]).ok().stdout;
    let purged = status.lines().find(|line| line.starts_with("Purged:")).unwrap_or_else(|| panic!("{status}"));
    assert!(
        purged.contains("of its own mail") && purged.contains("by machine-behind (unsigned), through gopeer"),
        "{purged}"
    );
}
