//! `thrum import`: all events and agents of a Go Thrum are imported exactly once, and its files are not changed.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::net::UnixListener,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::common::{
    TestRepo,
    go::{self, GO, GOS_PEER, GoThrum},
    pair,
    plain::until,
};

/// Returns a repository, and the `.thrum` of the repository beside it in which Go Thrum was used.
fn two() -> (TestRepo, GoThrum) {
    let repo = TestRepo::git("repo");
    repo.thrum(&["init"]).ok();
    let go = GoThrum::recorded(&repo.above().join("old/.thrum"));
    (repo, go)
}

fn ids(listing: &Value) -> Vec<(&str, bool)> {
    listing["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| (m["message_id"].as_str().unwrap(), m["is_read"].as_bool().unwrap()))
        .collect()
}

#[test]
fn an_imported_agent_finds_its_mail_unchanged() {
    let (repo, go) = two();
    go.message(1, "msg_unread", &json!({"recipients": ["a1"], "refs": [{"type": "mention", "value": "a1"}]}));
    go.message(2, "msg_all", &json!({"scopes": [{"type": "group", "value": "everyone"}]}));
    go.conn.execute("INSERT INTO message_reads VALUES ('msg_all', 'ses_x', 'a1', '2024-11-23T07:00:00Z')", []).unwrap();
    drop(go);

    let done = repo.json(&["import", "../old"]);
    assert_eq!((&done["events"], &done["applied"], &done["rejected"]), (&20.into(), &20.into(), &0.into()));
    assert_eq!((&done["former_homes"], &done["marked_read"]), (&json!([GO]), &1.into()));
    assert_eq!(done["agents"], json!([{"agent_id": "a1", "status": "adopted", "reason": null}]));
    assert_eq!(done["identities"], json!([{"agent_id": "a1", "status": "copied"}]));

    let me = repo.json(&["whoami"]);
    assert_eq!(
        (me["agent_id"].as_str(), me["role"].as_str(), &me["session_id"]),
        (Some("a1"), Some("implementer"), &Value::Null)
    );
    let kept: Value =
        serde_json::from_str(&fs::read_to_string(repo.path(".thrum/identities/a1.json")).unwrap()).unwrap();
    assert_eq!((&kept["listener"]["kept"], &kept["session_id"]), (&true.into(), &Value::Null));

    let unread = repo.json(&["inbox", "--unread"]);
    assert_eq!((ids(&unread), &unread["unread"]), (vec![("msg_unread", false)], &1.into()));
    let inbox = repo.json(&["inbox"]);
    assert_eq!(ids(&inbox), [("msg_all", true), ("msg_unread", false), ("msg_01M83CAPTURE00000000000001", true)]);
    assert_eq!(repo.json(&["inbox", "--unread"])["unread"], 0, "shown means read, also of old mail");

    let sent = repo.connect().call("message.outbox", &json!({"caller_agent_id": "a1"}));
    let sent: Vec<_> =
        sent["messages"].as_array().unwrap().iter().map(|m| m["body"]["content"].as_str().unwrap()).collect();
    assert_eq!(sent, ["first message"], "the other one she had deleted");
    let team = repo.json(&["team", "--all"]);
    let members: Vec<_> = team["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| (m["agent_id"].as_str().unwrap(), m["local"].as_bool().unwrap()))
        .collect();
    assert_eq!(members, [("a1", true), ("remote1", false)], "she is no namesake of herself");

    // The usual commands work with the imported agent.
    repo.thrum(&["quickstart", "--name", "a1"]).ok();
    repo.thrum(&["reply", "msg_unread", "On it"]).ok();
    repo.connect()
        .call("message.delete", &json!({"message_id": "msg_01M83E1345P61D7S0CWA3D4P9Q", "caller_agent_id": "a1"}));
}

#[test]
fn imported_events_are_unchanged_and_replicated() {
    let (repo, go) = two();
    drop(go);
    repo.thrum(&["import", "../old/.thrum"]).ok();
    let exported = repo.thrum(&["export", "--jsonl"]).ok().stdout;
    let mut foreign: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    foreign.retain(|event: &Value| event["signature"].is_null());
    let recorded = go::RECORDED.replace("2026-11-23", "2024-11-23");
    let recorded: Vec<Value> =
        recorded.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["event_json"].take()).collect();
    let without_number = |mut event: Value| {
        event.as_object_mut().unwrap().remove("sequence");
        event
    };
    let [foreign, recorded] =
        [foreign, recorded].map(|events| events.into_iter().map(without_number).collect::<Vec<_>>());
    assert_eq!(foreign, recorded);
}

#[test]
fn a_second_import_takes_only_new_events() {
    let (repo, go) = two();
    let again = || {
        let before = repo.connect().call("health", &json!({}))["events"].as_u64().unwrap();
        let done = repo.json(&["import", "../old/.thrum/var/messages.db"]);
        let written = repo.connect().call("health", &json!({}))["events"].as_u64().unwrap() - before;
        (done["applied"].as_u64().unwrap(), done["skipped"].as_u64().unwrap(), written)
    };
    // 18 imported events, the registration of `a1` here, and the end of the session that it had there.
    assert_eq!(again(), (18, 0, 20));
    assert_eq!(again(), (0, 18, 0));
    go.message(1, "msg_more", &json!({"recipients": ["a1"]}));
    go.event(2, GO, "message.receipt", &json!({"message_id": "msg_more", "agent_id": "a1", "receipt_type": "read"}));
    assert_eq!(again().0, 2);
    assert_eq!(ids(&repo.json(&["inbox"]))[0], ("msg_more", true));
    assert_eq!(again(), (0, 20, 0));
}

#[test]
fn the_source_is_only_read_including_its_write_ahead_log() {
    let (repo, go) = two();
    go.message(1, "msg_in_the_wal", &json!({"recipients": ["a1"]}));
    let before = go.files();
    assert!(
        before.iter().any(|(path, bytes)| path.ends_with("messages.db-wal") && !bytes.is_empty()),
        "the last event is there only"
    );
    repo.thrum(&["import", "../old"]).ok();
    assert!(go.files() == before, "with a write-ahead log");
    assert_eq!(ids(&repo.json(&["inbox", "--unread"])), [("msg_in_the_wal", false)]);

    let dir = go.dir.clone();
    drop(go);
    let before = go::files(&dir);
    assert!(!before.iter().any(|(path, _)| path.ends_with("messages.db-wal")));
    repo.thrum(&["import", "../old"]).ok();
    assert!(go::files(&dir) == before, "without one");
}

#[test]
fn a_dry_run_reports_the_import_and_changes_nothing() {
    let (repo, go) = two();
    drop(go);
    let before = repo.thrum(&["export", "--jsonl"]).ok().stdout;
    let done = repo.json(&["import", "../old", "--dry-run"]);
    assert_eq!((&done["applied"], &done["dry_run"]), (&18.into(), &true.into()));
    assert_eq!(done["agents"][0], json!({"agent_id": "a1", "status": "would_be_adopted", "reason": null}));
    assert_eq!(repo.thrum(&["export", "--jsonl"]).ok().stdout, before);
    assert!(!repo.path(".thrum/identities/a1.json").exists());
    let text = repo.thrum(&["import", "../old", "--dry-run"]).ok().stdout;
    assert!(text.contains("18 would be taken, 0 here already, 0 rejected"), "{text}");
    repo.thrum(&["import", "../old"]).ok();
    assert_eq!(repo.json(&["import", "../old", "--dry-run"])["skipped"], 18);
}

#[test]
fn malformed_events_are_listed_and_stop_nothing() {
    let (repo, go) = two();
    let row = |id: &str, json: &str| {
        go.insert([id.to_owned(), "message.create".to_owned(), "2024-11-23T07:00:00Z".to_owned(), GO.to_owned()], json);
    };
    row("evt_no_json", "{\"half");
    row("evt_1e400", r#"{"type":"message.create","n":1e400}"#);
    row("evt_huge", &format!("{{\"x\":\"{}\"}}", "x".repeat(9 << 20)));
    let forged = "d_kaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    go.event(1, forged, "agent.register", &json!({"agent_id": "mallory"}));
    go.message(2, "msg_after", &json!({"recipients": ["a1"]}));
    drop(go);
    let done = repo.json(&["import", "../old"]);
    assert_eq!((&done["applied"], &done["rejected"]), (&19.into(), &4.into()));
    let listed: Vec<_> =
        done["rejected_events"].as_array().unwrap().iter().map(|e| e["event_id"].as_str().unwrap()).collect();
    for id in ["evt_no_json", "evt_1e400", "evt_huge", "evt_01M84TESTEVENT000000000001"] {
        assert!(listed.contains(&id), "{id} in {listed:?}");
    }
    assert_eq!(ids(&repo.json(&["inbox", "--unread"])), [("msg_after", false)]);
    let text = repo.thrum(&["import", "../old"]).ok().stdout;
    assert!(text.contains("evt_no_json: not canonical JSON"), "{text}");
}

#[test]
fn an_invalid_or_damaged_source_is_refused_with_a_clear_error() {
    let (repo, go) = two();
    let dir = go.dir.clone();
    let database = dir.join("var/messages.db");
    drop(go);
    repo.thrum(&["import", "../nowhere"]).fails(3, "../nowhere").says("Hint:");
    repo.thrum(&["import", ".."]).fails(3, "there is no Go Thrum in ..");
    repo.thrum(&["import", "."]).fails(4, "own database");
    let bare = repo.above().join("bare");
    fs::create_dir(&bare).unwrap();
    repo.thrum(&["import", "../bare"]).fails(3, "../bare/.thrum/var/messages.db is missing");
    fs::create_dir(bare.join(".thrum")).unwrap();
    repo.thrum(&["import", "../bare/.thrum"]).fails(3, "../bare/.thrum/var/messages.db is missing");
    let other = TestRepo::with_agent("other", "ann");
    repo.thrum(&["import", other.root().to_str().unwrap()]).fails(4, "of this program").says("thrum backup");
    other.thrum(&["daemon", "stop"]).ok();
    repo.thrum(&["import", other.root().to_str().unwrap()]).fails(4, "of this program").says("thrum backup");
    repo.thrum(&["import", "../old/.thrum/var/peers.json"]).fails(1, "cannot be read as a database");

    // Every page after the first is overwritten.
    let whole = fs::read(&database).unwrap();
    let mut damaged = whole.clone();
    damaged[4096..].iter_mut().for_each(|byte| *byte = 0x5a);
    fs::write(&database, damaged).unwrap();
    repo.thrum(&["import", "../old"]).fails(1, "cannot be read as a database").says(".recover");
    fs::write(&database, &whole).unwrap();

    let conn = rusqlite::Connection::open(&database).unwrap();
    conn.execute_batch("ALTER TABLE events RENAME TO log").unwrap();
    repo.thrum(&["import", "../old"]).fails(2, "has no log of events");
    conn.execute_batch("DROP TABLE messages").unwrap();
    repo.thrum(&["import", "../old"]).fails(2, "is no database of Go Thrum");
    assert_eq!(repo.json(&["team", "--all"])["members"], json!([]), "nothing was taken");
}

#[test]
fn a_source_whose_daemon_runs_is_refused() {
    let (repo, go) = two();
    let lock = fs::File::create(go.dir.join("var/thrum.lock")).unwrap();
    lock.try_lock().unwrap();
    repo.thrum(&["import", "../old"]).fails(4, "a daemon is running").says("daemon stop");
    drop(lock);
    // A process that another test has just started may hold the file open for a moment, too.
    until(|| repo.thrum(&["import", "../old"]).code == 0);
}

#[test]
fn a_database_of_a_later_go_version_is_read_and_its_losses_are_reported() {
    let (repo, go) = two();
    go.conn
        .execute_batch(
            "UPDATE schema_version SET version = 51; ALTER TABLE events ADD COLUMN more TEXT;
             CREATE TABLE daemon_identity (daemon_id TEXT, hostname TEXT); INSERT INTO daemon_identity VALUES ('d_01M83NEW', 'box');
             INSERT INTO messages VALUES ('msg_01M83CAPTURE00000000000001', 'remote1'), ('msg_trimmed', 'remote1');",
        )
        .unwrap();
    drop(go);
    let done = repo.json(&["import", "../old"]);
    assert_eq!(
        (&done["schema_version"], &done["applied"], &done["messages_without_event"]),
        (&51.into(), &18.into(), &1.into())
    );
    assert_eq!(done["former_homes"], json!(["d_01M83NEW", GO]));
}

#[test]
fn an_unknown_source_daemon_id_must_be_given() {
    let (repo, go) = two();
    fs::remove_file(go.dir.join("var/peers.json")).unwrap();
    repo.thrum(&["import", "../old"]).fails(2, GOS_PEER).says("--former-id");
    repo.thrum(&["import", "../old", "--former-id", GO]).ok();
    assert_eq!(repo.json(&["inbox"])["total"], 1);
}

#[test]
fn an_interrupted_import_continues_where_it_stopped() {
    let (repo, go) = two();
    for n in 0..30 {
        go.message(n, &format!("msg_{n:02}"), &json!({"recipients": ["a1"], "padding": "x".repeat(100_000)}));
    }
    drop(go);
    // The import is killed while it runs; how far it came does not matter.
    let importing = repo.begin(&["import", "../old"]);
    importing.kill();
    repo.kill_daemon();
    let done = repo.json(&["import", "../old"]);
    assert_eq!(done["applied"].as_u64().unwrap() + done["skipped"].as_u64().unwrap(), 48);
    assert_eq!(repo.json(&["inbox", "--unread"])["unread"], 30);
    assert_eq!(repo.json(&["import", "../old"])["applied"], 0);
}

#[test]
fn peers_see_an_imported_agent_once_and_as_its_home_does() {
    let (repo, go) = two();
    drop(go);
    let desk = TestRepo::with_agent("desk", "dan");
    pair(&repo, &desk);
    repo.thrum(&["import", "../old"]).ok();
    repo.thrum(&["send", "Here I am", "--to", "@dan", "--as", "a1"]).ok();
    desk.thrum(&["wait", "--timeout", "20s"]).ok();
    repo.thrum(&["sync", "verify"]).ok();
    let members = desk.json(&["team", "--all"])["members"].take();
    let names: Vec<_> = members.as_array().unwrap().iter().map(|member| member["agent_id"].as_str().unwrap()).collect();
    assert_eq!(names.iter().filter(|name| **name == "a1").count(), 1, "{names:?}");
}

#[test]
fn a_database_of_go_at_our_path_names_the_import_command() {
    let repo = TestRepo::git("repo");
    drop(GoThrum::recorded(&repo.path(".thrum")));
    repo.thrum(&["daemon", "start"]).fails(4, "one of Go Thrum").says("thrum import .thrum-go");
    fs::rename(repo.path(".thrum"), repo.path(".thrum-go")).unwrap();
    repo.thrum(&["init"]).ok();
    repo.thrum(&["import", ".thrum-go"]).ok();
    assert_eq!(repo.json(&["inbox"])["total"], 1);
}

/// Our daemon cannot start on Go Thrum's database, so waiting for the lock would be useless.
#[test]
fn a_go_daemon_without_a_socket_is_reported_and_left_running() {
    let repo = TestRepo::git("repo");
    drop(GoThrum::recorded(&repo.path(".thrum")));
    let lock = repo.path(".thrum/var/thrum.lock");
    // Go Thrum takes this lock with `flock`, and no other lock.
    let mut go = Command::new("flock");
    go.args(["--no-fork", "-n"]).arg(&lock).args(["sh", "-c", "echo locked; exec sleep 60 >&-"]);
    let mut go = go.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("util-linux");
    BufReader::new(go.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let named = format!("a daemon of Go Thrum (pid {}) runs, but ", go.id());
    let socket = repo.path(".thrum/var/thrum.sock");
    let silent = UnixListener::bind(&socket).unwrap();
    drop(silent);
    let stale = repo.thrum(&["daemon", "start"]).fails(4, &named);
    assert!(stale.stderr.contains("does not answer") && !stale.stderr.contains("is gone"), "{stale:?}");
    fs::remove_file(&socket).unwrap();
    repo.thrum(&["daemon", "start"]).fails(4, "is gone");
    for command in [["daemon", "restart"].as_slice(), &["daemon", "start"], &["team"]] {
        repo.thrum(command).fails(4, &named).says("thrum daemon stop && mv .thrum .thrum-go");
    }
    let doctor = repo.thrum(&["doctor", "--fix"]);
    assert!(doctor.stdout.contains(&named) && !doctor.stdout.contains("daemon restart"), "{doctor:?}");
    assert!(go.try_wait().unwrap().is_none(), "it goes on");
    // The first step of the advised change-over.
    repo.thrum(&["daemon", "stop"]).ok();
    assert!(!go.wait().unwrap().success());
}

/// Returns a peer as Go Thrum's file lists it. Its token is `digit`, 64 times.
fn go_peer(name: &str, id: &str, digit: char) -> Value {
    json!({"name": name, "address": "127.0.0.1:1", "daemon_id": id, "token": digit.to_string().repeat(64),
           "paired_at": "2026-03-28T10:05:13.899-07:00", "last_sync": "2026-03-28T10:09:44.962-07:00"})
}

/// Returns the outcome for each peer, by name.
fn outcomes(done: &Value) -> Vec<(&str, &str)> {
    let peers = done["peers"].as_array().unwrap();
    peers.iter().map(|peer| (peer["name"].as_str().unwrap(), peer["status"].as_str().unwrap())).collect()
}

fn registry(repo: &TestRepo) -> Value {
    serde_json::from_str(&fs::read_to_string(repo.path(".thrum/var/peers.json")).unwrap()).unwrap()
}

#[test]
fn peers_are_imported_once_with_their_tokens_and_no_token_is_shown() {
    let (repo, go) = two();
    let mut bad = go_peer("bad", "d_bad", '2');
    bad["token"] = "hunter2".into();
    let peers = [go_peer("office", "d_office", '1'), bad, go_peer("self", GO, '3'), go_peer("office", "d_other", '4')];
    fs::write(
        go.dir.join("var/peers.json"),
        json!({"local": {"daemon_id": GO, "port": 9123}, "peers": peers}).to_string(),
    )
    .unwrap();
    drop(go);

    let planned = repo.json(&["import", "../old", "--dry-run"]);
    assert_eq!(
        outcomes(&planned),
        [("office", "would_be_taken"), ("office", "would_be_taken"), ("bad", "refused"), ("self", "refused")]
    );
    assert_eq!(repo.json(&["peer", "list"]), json!([]));

    let ran = repo.thrum(&["import", "../old"]).ok();
    for sentence in
        ["at port 9123 of its node", "its token is not 64 hex digits; pair it anew", "two machines of one name"]
    {
        assert!(ran.stdout.contains(sentence), "{}", ran.stdout);
    }
    let kept = registry(&repo);
    let known: Vec<_> = ["d_office", "d_other"]
        .into_iter()
        .map(|id| kept["peers"].as_array().unwrap().iter().find(|peer| peer["daemon_id"] == id).unwrap())
        .map(|peer| {
            (
                peer["name"].as_str().unwrap(),
                peer["token"].as_str().unwrap().to_owned(),
                peer["as_daemon_id"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(known, [("office", "1".repeat(64), GO), ("office-2", "4".repeat(64), GO)]);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(repo.path(".thrum/var/peers.json")).unwrap().permissions().mode() & 0o777, 0o600);

    let again = repo.thrum(&["import", "../old", "--json"]).ok();
    let done: Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(outcomes(&done), [("office", "known"), ("bad", "refused"), ("self", "refused"), ("office-2", "known")]);
    assert_eq!(registry(&repo)["peers"].as_array().unwrap().len(), 2);
    let log = fs::read_to_string(repo.path(".thrum/var/daemon.log")).unwrap_or_default();
    let status = repo.thrum(&["peer", "status", "--json"]).ok().stdout;
    for text in [ran.stdout, ran.stderr, again.stdout, again.stderr, log, status] {
        assert!(!text.contains(&"1".repeat(64)) && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn the_array_of_the_oldest_version_is_read_and_its_own_id_is_the_one_its_log_names() {
    let (repo, go) = two();
    fs::write(go.dir.join("var/peers.json"), json!([go_peer("office", "d_office", '1')]).to_string()).unwrap();
    drop(go);
    let done = repo.json(&["import", "../old", "--former-id", GO]);
    assert_eq!(outcomes(&done), [("office", "taken")]);
    assert_eq!(registry(&repo)["peers"][0]["as_daemon_id"], GO);
}

#[test]
fn an_existing_peer_keeps_its_token() {
    let (repo, go) = two();
    let desk = TestRepo::with_agent("desk", "dan");
    pair(&repo, &desk);
    let before = registry(&repo)["peers"][0].clone();
    let same = go_peer("other", before["daemon_id"].as_str().unwrap(), '1');
    fs::write(go.dir.join("var/peers.json"), json!({"local": {"daemon_id": GO}, "peers": [same]}).to_string()).unwrap();
    drop(go);
    let done = repo.json(&["import", "../old"]);
    assert_eq!(outcomes(&done), [(before["name"].as_str().unwrap(), "known")]);
    let after = &registry(&repo)["peers"][0];
    assert_eq!(
        (&after["token"], &after["address"], after.get("as_daemon_id")),
        (&before["token"], &before["address"], None)
    );
}

#[test]
fn an_unusable_peer_registry_is_reported_and_the_rest_is_imported() {
    let (repo, go) = two();
    let file = go.dir.join("var/peers.json");
    let (elsewhere, text) = (
        go.dir.join("elsewhere.json"),
        json!({"local": {"daemon_id": GO}, "peers": [go_peer("office", "d_office", '1')]}).to_string(),
    );
    for (sentence, make) in [
        (
            "symbolic link",
            Box::new(|| {
                fs::write(&elsewhere, &text).unwrap();
                fs::remove_file(&file).unwrap();
                std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
            }) as Box<dyn Fn()>,
        ),
        (
            "cannot be used",
            Box::new(|| {
                fs::remove_file(&file).unwrap();
                fs::write(&file, "{\"local\":{\"daemon_id\":\"d_47fkcmt93fcz\"},\"peers\":7}").unwrap();
            }),
        ),
        (
            "v0.7 and later",
            Box::new(|| {
                fs::write(&file, &text).unwrap();
                go.conn.execute("UPDATE schema_version SET version = 16", []).unwrap();
            }),
        ),
    ] {
        make();
        let done = repo.json(&["import", "../old"]);
        assert!(done["peers_error"].as_str().is_some_and(|why| why.contains(sentence)), "{done}");
        assert_eq!((&done["peers"], &done["agents"][0]["agent_id"]), (&json!([]), &"a1".into()));
    }
    assert!(repo.thrum(&["import", "../old"]).ok().stdout.contains("not taken over: its peers speak"));
}

#[test]
fn a_tailnet_peer_must_pair_again_unless_this_daemon_keeps_gos_node() {
    for same in [false, true] {
        let (repo, go) = two();
        // Hides a tailnet of this machine from the test.
        let repo = repo.with_variable("THRUM_TS_TAILSCALED", "/nowhere");
        let mut office = go_peer("office", "d_office", '1');
        office["address"] = "100.64.2.10:9100".into();
        fs::write(
            go.dir.join("var/peers.json"),
            json!({"local": {"daemon_id": GO, "port": 9123}, "peers": [office]}).to_string(),
        )
        .unwrap();
        fs::create_dir(go.dir.join("var/tsnet")).unwrap();
        let mut env = "THRUM_TS_MODE=own\nTHRUM_TS_PORT=9123\n".to_owned();
        if same {
            env += &format!("THRUM_TS_STATE_DIR={}\n", go.dir.join("var/tsnet").display());
        }
        fs::write(repo.path(".thrum/.env"), env).unwrap();
        repo.thrum(&["daemon", "restart"]).ok();
        drop(go);
        let done = repo.json(&["import", "../old"]);
        assert_eq!(outcomes(&done), [("office", "taken")]);
        assert_eq!(done["peers"][0].get("note").is_some(), !same, "{done}");
        assert_eq!(repo.json(&["status"])["health"]["tailnet"]["enabled"], true, "it is wanted now");
    }
}

/// Go Thrum writes a broadcast without a tag, listing the recipients that it knew.
#[test]
fn a_message_of_go_thrum_to_everyone_says_so_and_its_refs_are_shown() {
    let (repo, go) = two();
    go.message(1, "msg_general", &json!({"recipients": ["a1"], "body": {"format": "markdown", "content": "general"}}));
    let refs = json!([{"type": "issue", "value": "42"}, {"type": "mention", "value": "a1"}]);
    go.message(
        2,
        "msg_refs",
        &json!({"recipients": ["a1"], "refs": refs, "body": {"format": "markdown", "content": "with refs"}}),
    );
    drop(go);
    repo.thrum(&["import", "../old"]).ok();
    let inbox = repo.thrum(&["inbox"]).ok().stdout;
    let header = |id: &str| inbox.lines().find(|line| line.contains(id)).unwrap().to_owned();
    assert!(header("msg_general").contains(" to everyone  ") && !header("msg_refs").contains("everyone"), "{inbox}");
    let shown = repo.thrum(&["message", "get", "msg_refs"]).ok().stdout;
    assert!(shown.lines().any(|line| line.split_whitespace().eq(["Refs:", "issue:42"])), "{shown}");
}

#[test]
fn a_dry_run_starts_no_daemon_and_changes_no_file() {
    let (repo, go) = two();
    go.message(1, "msg_new", &json!({"recipients": ["a1"]}));
    drop(go);
    for imported in [false, true] {
        if imported {
            repo.thrum(&["import", "../old"]).ok();
        }
        repo.thrum(&["daemon", "stop"]).ok();
        let before = go::files(repo.above());
        let done = repo.json(&["import", "../old", "--dry-run"]);
        let (applied, skipped) = if imported { (0, 19) } else { (19, 0) };
        assert_eq!(
            (&done["applied"], &done["skipped"], &done["rejected"]),
            (&applied.into(), &skipped.into(), &0.into()),
            "{done}"
        );
        assert_eq!(done["agents"][0]["status"], "would_be_adopted");
        repo.thrum(&["daemon", "status"]).fails(69, "thrum daemon start");
        assert!(go::files(repo.above()) == before, "imported: {imported}");
    }
}

#[test]
fn notes_and_preambles_are_imported_and_other_files_are_listed() {
    let (repo, go) = two();
    let dir = go.dir.clone();
    drop(go);
    fs::create_dir_all(dir.join("context")).unwrap();
    fs::create_dir_all(dir.join("archive")).unwrap();
    for (file, text) in [
        ("context/a1.md", "where I was"),
        ("context/a1_preamble.md", "who I am"),
        ("context/b2.md", "theirs"),
        ("config.json", r#"{"daemon": {"local_only": true}}"#),
        (".env", "THRUM_TS_AUTHKEY=tskey-secret"),
    ] {
        fs::write(dir.join(file), text).unwrap();
    }
    fs::create_dir_all(repo.path(".thrum/context")).unwrap();
    fs::write(repo.path(".thrum/context/b2.md"), "of here").unwrap();
    let note = |agent: &str, part: &str, status: &str| json!({"agent_id": agent, "part": part, "status": status, "reason": null});
    let notes = json!([note("a1", "notes", "copied"), note("a1", "preamble", "copied"), note("b2", "notes", "kept")]);
    let left = |done: &Value| -> Vec<String> {
        done["left_behind"].as_array().unwrap().iter().map(|left| left["name"].as_str().unwrap().to_owned()).collect()
    };
    let done = repo.json(&["import", "../old", "--dry-run"]);
    assert_eq!((&done["notes"], left(&done)), (&notes, vec![".env".to_owned(), "config.json".to_owned()]), "{done}");
    assert!(!repo.path(".thrum/context/a1.md").exists());

    let done = repo.json(&["import", "../old"]);
    assert_eq!(done["notes"], notes);
    let shown = repo.json(&["context", "show"]);
    assert_eq!((&shown["content"], &shown["preamble"]), (&"where I was".into(), &"who I am".into()), "{shown}");
    assert_eq!(fs::read_to_string(repo.path(".thrum/context/b2.md")).unwrap(), "of here");
    let text = repo.thrum(&["import", "../old"]).ok().stdout;
    assert!(
        text.contains("thrum config set KEY VALUE") && text.contains("copy those wanted here to .thrum/.env"),
        "{text}"
    );
    assert!(!text.contains("tskey-secret"), "{text}");
    assert!(text.contains("@a1 has a preamble in this worktree; it is kept"), "{text}");
}
