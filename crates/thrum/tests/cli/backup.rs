//! `thrum backup` and `thrum restore`.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::common::{TestRepo, paired};

fn back_up(repo: &TestRepo) -> PathBuf {
    PathBuf::from(repo.json(&["backup"])["file"].as_str().unwrap())
}

fn restore(repo: &TestRepo, file: &Path) -> Value {
    repo.json(&["restore", file.to_str().unwrap(), "--yes"])
}

fn log_id(repo: &TestRepo) -> Value {
    repo.json(&["daemon", "status"])["health"]["log_id"].clone()
}

#[test]
fn a_restored_mailbox_begins_a_new_log_and_is_healed_by_its_peer_in_both_directions() {
    let (left, right) = paired();
    left.thrum(&["send", "in the backup", "--to", "@ann"]).ok();
    let file = back_up(&left);
    assert!(file.starts_with(left.path(".thrum/backup")), "{}", file.display());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // The messages are sent within the same run of the daemon, so that even its count of database opens does not reveal
    // the restore.
    left.thrum(&["send", "after the backup", "--to", "@ann"]).ok();
    left.thrum(&["send", "to the other side", "--to", "@bob"]).ok();
    right.thrum(&["send", "from the other side", "--to", "@ann"]).ok();
    left.thrum(&["sync", "verify"]).ok();
    let before = log_id(&left);

    let restored = restore(&left, &file);
    let former = PathBuf::from(restored["former_database"].as_str().unwrap());
    assert!(former.is_file() && restored["daemon_pid"].is_u64(), "{restored}");
    assert_eq!((&restored["messages"], &restored["added"]), (&json!(1), &json!([])), "{restored}");
    assert_ne!(log_id(&left), before);
    left.thrum(&["send", "after the restoration", "--to", "@bob"]).ok();
    left.thrum(&["sync", "verify"]).ok();
    right.thrum(&["sync", "verify"]).ok();
    assert_eq!(left.inbox_contents("ann"), ["after the backup", "from the other side", "in the backup"]);
    assert_eq!(right.inbox_contents("bob"), ["after the restoration", "to the other side"]);
    // The former database is complete and could be put back.
    assert_eq!(messages_in(&former), 4);
}

/// Number of messages in a database that no daemon uses.
fn messages_in(database: &Path) -> i64 {
    let conn = rusqlite::Connection::open(database).unwrap();
    conn.query_row("SELECT count(*) FROM messages", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_lost_repository_comes_back_in_a_fresh_clone_with_its_key_its_agents_and_its_peers() {
    let (left, right) = paired();
    left.thrum(&["send", "kept", "--to", "@ann"]).ok();
    left.thrum(&["context", "save", "my notes"]).ok();
    left.thrum(&["backup", "--to", "mail.backup"]).ok().says("private");
    left.thrum(&["send", "after the backup", "--to", "@bob"]).ok();
    left.thrum(&["sync", "verify"]).ok();
    let id = left.json(&["daemon", "status"])["health"]["daemon_id"].clone();
    left.thrum(&["daemon", "stop"]).ok();
    fs::remove_dir_all(left.path(".thrum")).unwrap();

    left.thrum(&["init", "--no-start"]).ok();
    let restored = restore(&left, &left.path("mail.backup"));
    let mut added: Vec<_> = restored["added"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    added.sort_unstable();
    assert_eq!(added, ["context/ann.md", "identities/ann.json", "var/daemon.json", "var/peers.json"]);
    assert_eq!((&restored["former_database"], &restored["daemon_pid"]), (&Value::Null, &Value::Null), "{restored}");
    assert_eq!(left.inbox_contents("ann"), ["kept"]);
    assert_eq!(left.json(&["daemon", "status"])["health"]["daemon_id"], id);
    assert!(left.thrum(&["context", "show"]).ok().stdout.contains("my notes"));
    left.thrum(&["sync", "verify"]).ok();
    let outbox = left.connect().call("message.outbox", &json!({"caller_agent_id": "ann"}));
    assert_eq!(outbox["messages"].as_array().map(Vec::len), Some(2), "{outbox}");
    right.thrum(&["sync", "verify"]).ok();
}

#[test]
fn a_backup_without_keys_has_neither_key_nor_tokens() {
    let (left, _right) = paired();
    left.thrum(&["backup", "--to", "open.backup", "--no-keys"]).ok();
    left.thrum(&["backup", "--to", "whole.backup"]).ok();
    let peers: Value = serde_json::from_str(&fs::read_to_string(left.path(".thrum/var/peers.json")).unwrap()).unwrap();
    let token = peers["peers"][0]["token"].as_str().unwrap();
    let holds =
        |name: &str| fs::read(left.path(name)).unwrap().windows(token.len()).any(|window| window == token.as_bytes());
    assert!(holds("whole.backup") && !holds("open.backup"));
    // The restored database contains none of the secrets in the backup.
    restore(&left, &left.path("whole.backup"));
    assert!(!holds(".thrum/var/messages.db"));
}

#[test]
fn a_backup_that_would_lack_a_secret_is_not_written() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["daemon", "stop"]).ok();
    std::os::unix::fs::symlink("elsewhere.json", repo.path(".thrum/var/peers.json")).unwrap();
    repo.thrum(&["backup", "--to", "mail.backup"]).fails(1, "var/peers.json");
    assert!(!repo.path("mail.backup").exists());
    repo.thrum(&["backup", "--to", "mail.backup", "--no-keys"]).ok();
}

#[test]
fn a_backup_of_another_repository_a_newer_or_a_damaged_one_is_refused_and_nothing_changes() {
    let (repo, other) = (TestRepo::with_agent("repo", "ann"), TestRepo::with_agent("other", "bob"));
    repo.thrum(&["send", "stays", "--to", "@ann"]).ok();
    let foreign = back_up(&other);
    let refused = repo.thrum(&["restore", foreign.to_str().unwrap(), "--yes"]);
    refused.fails(4, "another repository").says("thrum init --no-start");

    let own = back_up(&repo);
    let changed = |name: &str, change: &dyn Fn(&Path)| {
        let path = repo.path(name);
        fs::copy(&own, &path).unwrap();
        change(&path);
        path
    };
    let sql = |statement: &'static str| {
        move |path: &Path| rusqlite::Connection::open(path).unwrap().execute_batch(statement).unwrap()
    };
    let broken_page = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        let from = bytes.len() / 2;
        bytes[from..].fill(0xa5);
        fs::write(path, bytes).unwrap();
    };
    for (name, change, code, words) in [
        ("newer-form", &sql("UPDATE backup SET manifest = '{\"form\": 99}'") as &dyn Fn(&Path), 4, "newer version"),
        ("newer-database", &sql("PRAGMA user_version = 99"), 4, "newer version"),
        ("changed-event", &sql("UPDATE event_rows SET body = replace(body, 'stays', 'stuck')"), 1, "damaged"),
        ("lost-event", &sql("DELETE FROM event_rows WHERE sequence = 1"), 1, "damaged"),
        ("changed-file", &sql("UPDATE backup_files SET content = x'00'"), 1, "damaged"),
        ("no-manifest", &sql("DROP TABLE backup"), 1, "no backup"),
        ("broken-page", &broken_page, 1, "damaged"),
        (
            "text",
            &|path: &Path| fs::write(path, "no database at all, but long enough to look at").unwrap(),
            1,
            "no backup",
        ),
        ("empty", &|path: &Path| fs::write(path, "").unwrap(), 1, "no backup"),
    ] {
        let path = changed(name, change);
        repo.thrum(&["restore", path.to_str().unwrap(), "--yes"]).fails(code, words).says("nothing has changed");
    }
    repo.thrum(&["restore", "nowhere.backup", "--yes"]).fails(3, "nowhere.backup");
    repo.thrum(&["restore", ".", "--yes"]).fails(2, "no file");
    rustix::fs::mkfifoat(rustix::fs::CWD, repo.path("pipe"), rustix::fs::Mode::RWXU).unwrap();
    repo.thrum(&["restore", repo.path("pipe").to_str().unwrap(), "--yes"]).fails(2, "no file");
    assert_eq!(repo.inbox_contents("ann"), ["stays"]);
    let left_over: Vec<_> = fs::read_dir(repo.path(".thrum/var"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("restoring") || name.contains("before"))
        .collect();
    assert_eq!(left_over, [""; 0]);
}

#[test]
fn without_a_terminal_only_yes_restores_and_a_stopped_daemon_stays_stopped() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["send", "before", "--to", "@ann"]).ok();
    repo.thrum(&["daemon", "stop"]).ok();
    repo.thrum(&["backup", "--to", "mail.backup"]).ok();
    assert_eq!(repo.daemon_pid(), None, "a backup needs no daemon");
    repo.thrum(&["backup", "--to", "mail.backup"]).fails(4, "there already");
    repo.thrum(&["backup", "--to", "a", "--dir", "."]).fails(2, "cannot be used with");
    repo.thrum(&["send", "after", "--to", "@ann"]).ok();
    repo.thrum(&["restore", "mail.backup"]).fails(2, "--yes");
    assert_eq!(repo.inbox_contents("ann"), ["after", "before"]);
    repo.thrum(&["daemon", "stop"]).ok();
    repo.thrum(&["restore", "mail.backup", "--yes"]).ok();
    assert_eq!(repo.daemon_pid(), None);
    assert_eq!(repo.inbox_contents("ann"), ["before"]);
    // Backups exist for a mailbox that cannot be opened any more.
    repo.thrum(&["daemon", "stop"]).ok();
    fs::write(repo.path(".thrum/var/messages.db"), "ruined").unwrap();
    repo.thrum(&["restore", "mail.backup", "--yes"]).ok();
    assert_eq!(repo.inbox_contents("ann"), ["before"]);
    TestRepo::git("empty").thrum(&["backup"]).fails(3, "thrum init");
}

/// Another command may be starting the daemon, or the daemon may stop only after `restore` has given up.
#[test]
fn a_daemon_that_does_not_stop_in_time_runs_again_after_the_restore_has_failed() {
    let repo = TestRepo::with_agent("repo", "ann");
    let file = back_up(&repo);
    repo.thrum(&["daemon", "stop"]).ok();
    let lock = File::options().write(true).open(repo.path(".thrum/var/thrum.lock")).unwrap();
    lock.lock().unwrap();
    let mut restoring = repo.begin(&["restore", file.to_str().unwrap(), "--yes"]);
    let waits = std::iter::repeat_with(|| restoring.talk())
        .take_while(|line| !line.is_empty())
        .any(|line| line.contains("Another daemon is starting or stopping here"));
    drop(lock);
    assert!(waits, "it starts the daemon");
    restoring.end().fails(75, "a daemon is starting or stopping and does not listen");
    repo.thrum(&["daemon", "status"]).ok();
}

#[test]
fn there_is_no_backup_of_a_damaged_database() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["send", "stays", "--to", "@ann"]).ok();
    repo.thrum(&["daemon", "stop"]).ok();
    let database = repo.path(".thrum/var/messages.db");
    let whole = fs::read(&database).unwrap();
    let page = |bytes: &mut Vec<u8>| {
        // A page that is in use; those in the middle of the file may be free.
        let conn = rusqlite::Connection::open(&database).unwrap();
        let select = "SELECT rootpage FROM sqlite_schema WHERE name = 'messages'";
        let number: usize = conn.query_row(select, [], |row| row.get(0)).unwrap();
        bytes[(number - 1) * 4096..number * 4096].fill(0xa5);
    };
    let event = |bytes: &mut Vec<u8>| {
        fs::write(&database, &*bytes).unwrap();
        let conn = rusqlite::Connection::open(&database).unwrap();
        conn.execute_batch("UPDATE event_rows SET body = replace(body, 'stays', 'stuck')").unwrap();
        conn.close().unwrap();
        *bytes = fs::read(&database).unwrap();
    };
    for damage in [&page as &dyn Fn(&mut Vec<u8>), &event] {
        let mut bytes = whole.clone();
        damage(&mut bytes);
        fs::write(&database, bytes).unwrap();
        let ran = repo
            .thrum(&["backup", "--to", "mail.backup"])
            .fails(1, "damaged, so there is no backup")
            .says("thrum doctor");
        assert!(!ran.stderr.contains("***"), "{}", ran.stderr);
        let left: Vec<_> = fs::read_dir(repo.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("mail.backup")), "{left:?}");
    }
    fs::write(&database, whole).unwrap();
    repo.thrum(&["backup", "--to", "mail.backup"]).ok();
}

#[test]
fn a_backup_with_keys_that_git_would_add_gets_a_warning() {
    let repo = TestRepo::with_agent("repo", "ann");
    let warns = |args: &[&str]| repo.thrum(args).ok().stderr.contains("git does not ignore");
    assert!(warns(&["backup", "--to", "mail.backup"]));
    fs::create_dir(repo.path("deep")).unwrap();
    assert!(warns(&["backup", "--dir", "deep"]));
    assert!(!warns(&["backup", "--to", "open.backup", "--no-keys"]));
    assert!(!warns(&["backup"]));
    assert!(!warns(&["backup", "--to", repo.above().join("outside.backup").to_str().unwrap()]));
    let mut ignored = fs::read_to_string(repo.path(".gitignore")).unwrap();
    ignored.push_str("*.backup\n");
    fs::write(repo.path(".gitignore"), ignored).unwrap();
    assert!(!warns(&["backup", "--to", "ignored.backup"]));
}

#[test]
fn a_missing_directory_is_reported_before_anything_is_written() {
    let repo = TestRepo::with_agent("repo", "ann");
    for args in [&["backup", "--to", "no/dir/x.backup"] as &[_], &["backup", "--dir", "no/dir"]] {
        let ran = repo.thrum(args).fails(1, "there is no directory no/dir").says("mkdir -p no/dir");
        assert!(!ran.stderr.contains(".part"), "{}", ran.stderr);
    }
}
