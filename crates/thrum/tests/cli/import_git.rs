//! `thrum import --git`: what Go Thrum shared through its branch `a-sync` is imported exactly once, whatever else the
//! branch holds, and the repository is not changed.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::common::{
    TestRepo,
    go::{self, GO, GoThrum},
    go_branch::{self, File, file},
};

const FETCHED: &str = "refs/remotes/origin/a-sync";
const LOCAL: &str = "refs/heads/a-sync";

/// Returns a repository of ours whose machine Go Thrum called `laptop`.
fn here() -> TestRepo {
    let repo = TestRepo::git("repo").with_variable("THRUM_HOSTNAME", "laptop");
    repo.thrum(&["init"]).ok();
    repo
}

/// Points a ref of this repository at a new commit with these files.
fn write(repo: &TestRepo, reference: &str, files: &[File]) {
    go_branch::write(repo, repo.root(), reference, None, files);
}

/// An event as Go Thrum v0.6.3 writes it, with a line break.
fn event(n: u32, kind: &str, payload: &Value) -> String {
    let mut event = json!({
        "event_id": format!("evt_01M84TESTEVENT0000000{n:05}"), "type": kind, "origin_daemon": GO, "v": 1,
        "sequence": n, "timestamp": format!("2024-11-23T06:{:02}:00.5Z", n % 60),
    });
    event.as_object_mut().unwrap().extend(payload.as_object().unwrap().clone());
    format!("{event}\n")
}

fn message(n: u32, id: &str) -> String {
    let body = json!({"format": "markdown", "content": id});
    event(
        n,
        "message.create",
        &json!({"message_id": id, "agent_id": "b2", "session_id": "", "body": body, "recipients": ["a1"]}),
    )
}

/// A row of `messages-v2/` as Go Thrum v0.10.6 writes it, with a line break.
fn row(id: &str, author: &str, body: &str, deleted: bool) -> String {
    let at = "2024-11-23T06:28:29.061903851Z";
    let row =
        json!({"message_id": id, "author_id": author, "body": body, "created_at": at, "deleted": deleted, "v": 1});
    format!("{row}\n")
}

/// A file of `state/agents/` as Go Thrum v0.10.6 writes it.
fn state(agent: &str, hostname: &str) -> File {
    let state = json!({
        "agent_id": agent, "name": agent, "role": "implementer", "module": "m1", "display": "", "hostname": hostname,
        "worktree": "", "branch": "main", "kind": "agent", "last_seen_at": "2024-11-23T06:00:00Z", "v": 1,
    });
    file(&format!("state/agents/{agent}.json"), serde_json::to_string_pretty(&state).unwrap())
}

/// Returns the numbers of new, known and rejected events.
fn numbers(done: &Value) -> (u64, u64, u64) {
    let number = |name: &str| done[name].as_u64().unwrap();
    assert_eq!(number("events"), number("applied") + number("skipped") + number("rejected"), "{done}");
    (number("applied"), number("skipped"), number("rejected"))
}

fn reasons(done: &Value) -> Vec<(String, u64)> {
    let reasons = done["rejected_by_reason"].as_array().unwrap().iter();
    reasons.map(|it| (it["reason"].as_str().unwrap().to_owned(), it["count"].as_u64().unwrap())).collect()
}

fn not_read(done: &Value) -> Vec<(&str, u64)> {
    let files = done["git"]["not_read"].as_array().unwrap().iter();
    files.map(|it| (it["reason"].as_str().unwrap(), it["count"].as_u64().unwrap())).collect()
}

fn contents(listing: &Value) -> Vec<&str> {
    let messages = listing["messages"].as_array().unwrap().iter();
    messages.map(|message| message["body"]["content"].as_str().unwrap()).collect()
}

/// Every file of the repository's `.git`.
fn git_dir(repo: &TestRepo) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    go::files(&repo.path(".git"))
}

#[test]
fn mail_that_v0_6_3_shared_is_imported_unchanged_and_the_repository_is_not_touched() {
    let repo = here();
    write(&repo, FETCHED, &go_branch::recorded());
    let before = git_dir(&repo);
    let done = repo.json(&["import", "--git", "--former-id", GO]);
    assert_eq!(numbers(&done), (18, 0, 0));
    assert_eq!((&done["git"]["files"], &done["git"]["lines"]), (&3.into(), &18.into()));
    assert_eq!(done["git"]["refs"][0]["name"], FETCHED);
    assert_eq!(done["agents"], json!([{"agent_id": "a1", "status": "adopted", "reason": null}]));
    assert!(git_dir(&repo) == before, "no ref, object, index or lock is new");
    assert_eq!(repo.git_says(&["status", "--porcelain", "--untracked-files=no"]), "");

    let inbox = repo.json(&["inbox", "--as", "a1"]);
    assert_eq!(contents(&inbox), ["hello from the other side"]);
    assert_eq!(inbox["messages"][0]["is_read"], true, "by the receipts");
    let all = repo.json(&["inbox", "--all", "--as", "a1"]);
    assert_eq!(contents(&all), ["hello from the other side", "first message"], "the other one was deleted");

    let exported = repo.thrum(&["export", "--jsonl"]).ok().stdout;
    let known = |line: &str| -> Value {
        let mut event: Value = serde_json::from_str(line).unwrap();
        event.as_object_mut().unwrap().remove("sequence");
        event
    };
    let exported: Vec<Value> = exported.lines().map(known).collect();
    for (_, path, text) in go_branch::recorded() {
        for line in String::from_utf8(text).unwrap().lines() {
            assert!(exported.contains(&known(line)), "{path}: {line}");
        }
    }
}

#[test]
fn a_second_import_adds_only_what_is_new() {
    let repo = here();
    let again = || {
        let before = repo.connect().call("health", &json!({}))["events"].as_u64().unwrap();
        let done = repo.json(&["import", "--git", "--former-id", GO]);
        (numbers(&done), repo.connect().call("health", &json!({}))["events"].as_u64().unwrap() - before)
    };
    let mut files = go_branch::recorded();
    files.push(state("c3", "laptop"));
    files.push(file("messages-v2/c3.jsonl", row("msg_3", "c3", "three", false) + &row("msg_3", "c3", "3", false)));
    files.push(file(
        "receipts/a1.jsonl",
        "{\"message_id\":\"msg_3\",\"agent_id\":\"a1\",\"read_at\":\"2024-11-23T07:00:00Z\",\"v\":1}\n",
    ));
    write(&repo, FETCHED, &files);
    // Of c3 a registration, a message and an edit, and the receipt of a1. Written here: two registrations and the end
    // of the session that a1 had.
    assert_eq!(again(), ((22, 0, 0), 25));
    assert_eq!(again(), ((0, 22, 0), 0));
    files[1].2.extend(message(1, "msg_more").bytes());
    write(&repo, FETCHED, &files);
    assert_eq!(again(), ((1, 22, 0), 1));
    assert_eq!(again(), ((0, 23, 0), 0));
}

#[test]
fn a_dry_run_starts_no_daemon_and_changes_no_file() {
    let repo = here();
    write(&repo, LOCAL, &go_branch::recorded());
    for imported in [false, true] {
        if imported {
            repo.thrum(&["import", "--git", "--former-id", GO]).ok();
        }
        repo.thrum(&["daemon", "stop"]).ok();
        let before = go::files(repo.above());
        let done = repo.json(&["import", "--git", "--former-id", GO, "--dry-run"]);
        assert_eq!(numbers(&done), if imported { (0, 18, 0) } else { (18, 0, 0) });
        assert_eq!(done["agents"], json!([{"agent_id": "a1", "status": "would_be_adopted", "reason": null}]));
        repo.thrum(&["daemon", "status"]).fails(69, "thrum daemon start");
        assert!(go::files(repo.above()) == before, "imported: {imported}");
    }
}

/// Clones of Go Thrum v0.6.3 that both have commits never come together again.
#[test]
fn a_local_branch_that_the_remote_does_not_contain_is_imported_too() {
    let repo = here();
    let shared = file(
        "events.jsonl",
        event(1, "agent.register", &json!({"agent_id": "a1", "kind": "agent", "role": "r", "module": "m"})),
    );
    let of = |text: String| vec![shared.clone(), file("messages/b2.jsonl", text)];
    write(&repo, FETCHED, &of(message(2, "msg_both") + &message(3, "msg_fetched")));
    go_branch::write(&repo, repo.root(), LOCAL, None, &of(message(2, "msg_both") + &message(4, "msg_local")));
    let done = repo.json(&["import", "--git", "--dry-run"]);
    assert_eq!(numbers(&done), (4, 0, 0));
    assert_eq!((&done["git"]["files"], &done["git"]["repeated"]), (&3.into(), &1.into()));
    let done = repo.json(&["import", "--git"]);
    assert_eq!((numbers(&done), done["git"]["refs"].as_array().unwrap().len()), ((4, 0, 0), 2));
    assert_eq!(contents(&repo.json(&["inbox", "--as", "a1"])), ["msg_local", "msg_fetched", "msg_both"]);

    go_branch::write(&repo, repo.root(), FETCHED, Some(LOCAL), &of(message(5, "msg_later")));
    let done = repo.json(&["import", "--git"]);
    assert_eq!((numbers(&done), done["git"]["refs"].as_array().unwrap().len()), ((1, 1, 0), 1));
}

#[test]
fn a_named_remote_and_a_named_repository_are_read() {
    let repo = here();
    let old = repo.above().join("old-project");
    fs::create_dir_all(old.join("below")).unwrap();
    repo.git_done(&["init", "-q", old.to_str().unwrap()]);
    go_branch::write(&repo, &old, "refs/remotes/team/backup/a-sync", None, &go_branch::recorded());
    let path = "../old-project/below";
    repo.thrum(&["import", "--git", path])
        .fails(3, "no local branch a-sync")
        .says("git fetch origin")
        .says("team/backup");
    repo.thrum(&["import", "--git", path, "--remote", "team"]).fails(3, "refs/remotes/team/a-sync");
    for name in ["a b", "../x", "*", "x@{1}", "-x:", ""] {
        repo.thrum(&["import", "--git", path, &format!("--remote={name}")]).fails(2, "cannot be a remote");
    }
    assert_eq!(numbers(&repo.json(&["import", "--git", path, "--remote", "team/backup"])), (18, 0, 0));
    repo.thrum(&["import", path, "--remote", "team"]).fails(2, "--git");
}

#[test]
fn a_repository_without_such_a_branch_is_reported_with_the_next_step() {
    let repo = here();
    let next = "git fetch origin a-sync:refs/remotes/origin/a-sync";
    repo.thrum(&["import", "--git"]).fails(3, "there is no refs/remotes/origin/a-sync").says(next);
    write(&repo, LOCAL, &go_branch::recorded());
    repo.thrum(&["import", "--git", "--remote", "origin"])
        .fails(3, "there is no refs/remotes/origin/a-sync")
        .says(next);
    write(&repo, LOCAL, &[]);
    repo.thrum(&["import", "--git"]).fails(3, "refs/heads/a-sync has no file of Go Thrum: it is empty");
    write(&repo, LOCAL, &[file("README.md", "x"), file("docs/events.jsonl", "{}")]);
    repo.thrum(&["import", "--git"]).fails(3, "2 files: not a file with mail of Go Thrum (README.md), …");
    let blob = repo.git_says(&["hash-object", "-w", ".gitignore"]);
    repo.git_done(&["update-ref", "refs/remotes/origin/a-sync", blob.trim()]);
    repo.thrum(&["import", "--git"]).fails(1, "git cannot read the branch");
    let plain = TestRepo::plain("plain");
    plain.thrum(&["init"]).ok();
    plain.thrum(&["import", "--git"]).fails(3, "git finds no repository in");
    plain.thrum(&["import", "--git", "../nowhere"]).fails(3, "../nowhere is not a directory");
}

#[test]
fn without_a_known_daemon_no_agent_is_adopted_and_the_daemons_are_named() {
    let repo = here();
    write(&repo, FETCHED, &go_branch::recorded());
    let text = repo.thrum(&["import", "--git"]).ok().stdout;
    assert!(text.contains("none is adopted, because it is not known which daemon this was"), "{text}");
    assert!(text.contains(GO) && text.contains("@a1") && text.contains("--former-id ID"), "{text}");
    // After a change-over, the files of Go Thrum tell.
    drop(GoThrum::empty(&repo.path(".thrum-go")));
    let done = repo.json(&["import", "--git"]);
    assert_eq!((numbers(&done), &done["former_homes"]), ((0, 18, 0), &json!([GO])));
    assert_eq!(done["agents"], json!([{"agent_id": "a1", "status": "adopted", "reason": null}]));
}

#[test]
fn rows_of_v0_10_6_become_messages_without_an_address_edits_deletions_receipts_and_agents() {
    let repo = here();
    let messages = [
        row("msg_01M83E1345P61D7S0CWA3D4P9Q", "ann", "draft", false),
        row("msg_01M83E1345P61D7S0CWA3D4P9Q", "ann", "final", false),
        row("msg_2", "ann", "regretted", false),
        row("msg_2", "ann", "regretted", true),
        row("msg_3", "ann", "gone before", true),
        // Go Thrum appends all rows again at each start.
        row("msg_01M83E1345P61D7S0CWA3D4P9Q", "ann", "final", false),
        row("msg_2", "ann", "regretted", true),
    ];
    let receipt = |at: &str| {
        format!(
            "{{\"message_id\":\"msg_01M83E1345P61D7S0CWA3D4P9Q\",\"agent_id\":\"bob\",\"read_at\":\"{at}\",\"v\":1}}\n"
        )
    };
    write(
        &repo,
        LOCAL,
        &[
            file("messages-v2/ann.jsonl", messages.concat()),
            file("receipts/bob.jsonl", receipt("2024-11-23T07:00:00Z") + &receipt("2024-11-23T08:00:00Z")),
            file("state/bridge-groups/g.json", "{}"),
            state("ann", "desk"),
            state("bob", "laptop"),
        ],
    );
    let done = repo.json(&["import", "--git"]);
    // Three creations, an edit, two deletions, a receipt and two registrations.
    assert_eq!(numbers(&done), (9, 0, 0));
    let git = &done["git"];
    assert_eq!((&git["without_recipients"], &git["repeated"]), (&3.into(), &3.into()));
    assert_eq!(not_read(&done), [("a group of Go Thrum", 1)]);
    assert_eq!(done["agents"], json!([{"agent_id": "bob", "status": "adopted", "reason": null}]), "ann is of the desk");

    assert_eq!(repo.json(&["inbox", "--as", "bob"])["total"], 0, "to whom it was sent is not known");
    let all = repo.json(&["inbox", "--all", "--scope", "group:a-sync", "--as", "bob"]);
    assert_eq!(contents(&all), ["final"]);
    repo.thrum(&["quickstart", "--name", "bob"]).ok();
    let team = repo.json(&["team", "--all"]);
    let members = team["members"].as_array().unwrap().iter();
    let members: Vec<_> = members.map(|member| (&member["agent_id"], &member["local"], &member["address"])).collect();
    let ann = json!(format!("@ann@desk-{}", &done["git"]["homes"][0]["daemon_id"].as_str().unwrap()[2..9]));
    assert_eq!(
        members,
        [(&json!("bob"), &json!(true), &json!("@bob")), (&json!("ann"), &json!(false), &ann)],
        "{team}"
    );
    assert_eq!(repo.connect().call("health", &json!({}))["parked"], 0);
    let text = repo.thrum(&["import", "--git"]).ok().stdout;
    assert!(text.contains("3 messages of v0.10.6, which shares no recipients and no threads"), "{text}");
    assert!(text.contains("0 taken, 9 here already, 0 rejected"), "{text}");
    assert!(text.contains("those of other daemons stay there") && text.contains("(@ann on desk)"), "{text}");
}

/// The database of Go Thrum has the recipients that its branch lacks, whichever is imported first.
#[test]
fn a_message_of_a_row_gets_its_recipients_from_the_database() {
    for database_first in [false, true] {
        let repo = here();
        let go = GoThrum::recorded(&repo.above().join("old/.thrum"));
        let events = file(
            "events.jsonl",
            event(1, "agent.register", &json!({"agent_id": "remote1", "kind": "agent", "role": "r", "module": "m"}))
                .replace(GO, go::GOS_PEER),
        );
        let id = "msg_01M83CAPTURE00000000000001";
        let rows = row(id, "remote1", "hello from the other side", false).replace("06:28:29.061903851Z", "05:30:03.5Z");
        let rows = rows.clone() + &rows.replace("hello from", "edited on");
        write(&repo, FETCHED, &[events, file("messages-v2/remote1.jsonl", rows)]);
        drop(go);
        let imports: [&[&str]; 2] = [&["import", "--git"], &["import", "../old"]];
        for n in [usize::from(database_first), usize::from(!database_first)] {
            repo.thrum(imports[n]).ok();
        }
        let inbox = repo.json(&["inbox", "--as", "a1"]);
        assert_eq!(contents(&inbox), ["edited on the other side"], "{database_first}");
        assert_eq!(repo.connect().call("health", &json!({}))["parked"], 0);
    }
}

#[test]
fn c31_lines_that_cannot_be_used_are_counted_by_reason_and_stop_nothing() {
    let repo = here();
    let whole = message(1, "msg_whole");
    let forged = message(2, "msg_forged").replace(GO, "d_kaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    let mut lines = format!("<<<<<<< HEAD\n{whole}=======\n>>>>>>> theirs\n").into_bytes();
    for line in [
        &whole.as_bytes()[..whole.len() / 2],
        b"\xef\xbb\xbf[[[[[[",
        b"\xff\xfe",
        b"{\"type\":\"message.create\"}",
        b"{\"event_id\":\"evt_1\",\"event_id\":\"evt_2\"}",
        b"[]",
        &[b'['; 300],
        &vec![b'x'; 9 << 20],
        forged.trim().as_bytes(),
        event(3, "message.surprise", &json!({"message_id": "msg_whole"})).trim().as_bytes(),
        b"  ",
        whole.trim().as_bytes(),
        message(4, "msg_last").trim().as_bytes(),
    ] {
        lines.extend(line);
        lines.extend(b"\r\n");
    }
    lines.truncate(lines.len() - 2);
    let rows = [
        row("", "b2", "x", false),
        row("msg_1", "", "x", false),
        row("msg_1", "b2", "x", false).replace("2024-11-23T", "yesterday"),
        "{\"message_id\":\"msg_2\",\"author_id\":\"b2\",\"body\":{}}\n".to_owned(),
        // The error of the JSON parser quotes the text.
        format!(
            "{{\"message_id\":\"msg_2\",\"author_id\":\"b2\",\"body\":\"\",\"deleted\":\"{}\"}}\n",
            "x".repeat(1 << 20)
        ),
        row("msg_3", "b2", "x", false),
    ];
    let files = [
        file(
            "events.jsonl",
            event(0, "agent.register", &json!({"agent_id": "a1", "kind": "agent", "role": "r", "module": "m"})),
        ),
        file("messages/b2.jsonl", lines),
        file("messages-v2/b2.jsonl", rows.concat()),
        file(
            "receipts/b2.jsonl",
            "{\"message_id\":\"msg_3\",\"agent_id\":\"b2\"}\n{\"message_id\":\"\",\"agent_id\":\"b2\"}\n{}",
        ),
        file("state/agents/x.json", " ".repeat(100_000)),
        file("state/agents/y.json", "{\"agent_id\":\"\"}"),
    ];
    write(&repo, LOCAL, &files);
    let done = repo.json(&["import", "--git", "--former-id", GO]);
    let expected = [
        ("longer than an event may be", 1),
        ("more than the state of an agent", 1),
        ("no agent id", 1),
        ("no event id", 1),
        ("no message id or no agent id", 1),
        ("no message id or no author", 2),
        ("no time in created_at", 1),
        ("no time in read_at", 1),
        ("not UTF-8", 1),
        ("not a JSON object", 8),
        ("not a row of a message", 2),
        ("not a row of a receipt", 1),
        ("the signature of its origin is missing or wrong", 1),
    ];
    assert_eq!(reasons(&done), expected.map(|(reason, count)| (reason.to_owned(), count)));
    // The registration, two messages, the event of an unknown type, and a row.
    assert_eq!(numbers(&done), (5, 0, 22));
    assert_eq!((&done["git"]["unknown_types"], &done["git"]["repeated"]), (&1.into(), &1.into()));
    assert!(done.to_string().len() < 10_000, "no text of a megabyte");
    let places = done["rejected_events"].as_array().unwrap();
    assert!(places.iter().any(|it| it["place"] == "messages/b2.jsonl:1"), "{places:?}");
    assert_eq!(contents(&repo.json(&["inbox", "--as", "a1"])), ["msg_last", "msg_whole"]);
    let text = repo.thrum(&["import", "--git"]).ok().stdout;
    assert!(text.contains("messages/b2.jsonl:1") && text.contains("… and 2 more"), "{text}");
    assert!(text.contains("8 not a JSON object; ") && text.contains("1 event of types that are not known"), "{text}");
}

#[test]
fn c31_links_submodules_and_hostile_names_are_not_followed_and_are_counted() {
    let repo = here();
    fs::write(repo.path("secret.jsonl"), message(1, "msg_secret")).unwrap();
    let commit = repo.git_says(&["hash-object", "-w", "secret.jsonl"]);
    let long = format!("messages/{}.jsonl", "x".repeat(2000));
    write(
        &repo,
        LOCAL,
        &[
            ("120000", "events.jsonl".to_owned(), repo.path("secret.jsonl").to_str().unwrap().into()),
            ("120000", "messages/linked.jsonl".to_owned(), b"../../secret.jsonl".to_vec()),
            ("160000", "messages/module.jsonl".to_owned(), commit.trim().into()),
            file("messages/\u{1b}[2J\u{202e}\n--upload-pack=x.jsonl", message(2, "msg_escape")),
            file("messages/-rf $(touch pwned).jsonl", message(3, "msg_shell")),
            file("messages/a/b.jsonl", message(4, "msg_below")),
            file("messages/HEAD:secret.jsonl", message(5, "msg_rev") + "broken\n"),
            file(&long, message(6, "msg_long")),
            ("100755", "messages/exec.jsonl".to_owned(), message(7, "msg_exec").into()),
        ],
    );
    let done = repo.json(&["import", "--git"]);
    assert_eq!(numbers(&done), (4, 0, 1));
    assert_eq!(
        not_read(&done),
        [
            ("a path of more than 1,000 bytes", 1),
            ("a submodule", 1),
            ("a symbolic link", 2),
            ("not a file with mail of Go Thrum", 1)
        ]
    );
    repo.agent("ann", "implementer");
    let all = repo.json(&["inbox", "--all"]);
    assert_eq!(contents(&all), ["msg_exec", "msg_rev", "msg_shell", "msg_escape"]);
    let text = repo.thrum(&["import", "--git"]).ok().stdout;
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text:?}");
    assert!(!repo.path("pwned").exists());
}

#[test]
fn a_content_that_the_clone_lacks_is_counted() {
    let repo = here();
    write(
        &repo,
        LOCAL,
        &[
            file("events.jsonl", event(0, "group.create", &json!({"group_id": "g"}))),
            file("messages/b2.jsonl", message(1, "msg_1")),
        ],
    );
    let blob = repo.git_says(&["rev-parse", "a-sync:messages/b2.jsonl"]);
    remove_object(&repo, blob.trim());
    let done = repo.json(&["import", "--git"]);
    assert_eq!((numbers(&done), not_read(&done)), ((1, 0, 0), vec![("its content is not in this clone", 1)]));
}

/// Takes one object out of the repository.
fn remove_object(repo: &TestRepo, object: &str) {
    let path = |top: &Path| top.join(".git/objects").join(&object[..2]).join(&object[2..]);
    fs::remove_file(path(repo.root())).unwrap();
}

#[test]
fn a_branch_of_100_000_lines_is_counted_to_the_end() {
    let repo = here();
    let mut lines = String::new();
    for n in 0..100_000 {
        match n % 4 {
            0 if n % 100 == 0 => lines += &message(n, &format!("msg_{n}")),
            0 | 1 => lines += "{\"event_id\":\"evt_half\n",
            2 => lines += &event(n % 1000, "agent.session.end", &json!({"session_id": "ses_1", "n": n % 1000})),
            _ => lines += "null\n",
        }
    }
    write(&repo, LOCAL, &[file("messages/b2.jsonl", lines)]);
    let done = repo.json(&["import", "--git", "--dry-run"]);
    assert_eq!(numbers(&done), (1_250, 0, 74_000));
    assert_eq!((&done["git"]["lines"], &done["git"]["repeated"]), (&100_000.into(), &24_750.into()));
    assert_eq!(reasons(&done), [("not a JSON object".to_owned(), 74_000)]);
    assert_eq!(done["rejected_events"].as_array().unwrap().len(), 1000, "the first ones");
}
