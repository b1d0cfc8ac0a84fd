//! C26, C27: a damaged database is rebuilt from its readable parts and from a peer.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::common::{TestRepo, paired};

/// Damages a database file.
type Damage = fn(&Path);

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

const DAMAGES: [(&str, Damage); 7] = [
    ("its head", |path| change(path, |bytes| bytes[..100].fill(0))),
    ("pages in the middle", |path| {
        change(path, |bytes| {
            let pages = bytes.len() / 4096;
            for page in [pages / 4, pages / 2, pages * 3 / 4] {
                bytes[page * 4096..(page + 1) * 4096].fill(0x5a);
            }
        });
    }),
    ("its end", |path| change(path, |bytes| bytes.truncate(bytes.len() / 2))),
    ("all of it", |path| fs::write(path, "").unwrap()),
    ("noise", |path| change(path, |bytes| bytes.fill(0x5a))),
    ("the file", |path| fs::remove_file(path).unwrap()),
    ("its head, with garbage for a write-ahead log", |path| {
        change(path, |bytes| bytes[..16].fill(0));
        let wal = path.with_file_name("messages.db-wal");
        fs::write(&wal, [0x5a; 40_000]).unwrap();
        fs::set_permissions(wal, fs::Permissions::from_mode(0o600)).unwrap();
    }),
];

fn check(findings: &Value) -> &Value {
    findings["checks"].as_array().unwrap().iter().find(|check| check["name"] == "database").unwrap()
}

#[test]
fn damage_loses_no_event_that_is_readable_or_held_by_a_peer() {
    let (left, right) = paired();
    for n in 0..25 {
        left.thrum(&["send", &format!("left {n} {}", "x".repeat(200)), "--to", "@bob"]).ok();
        right.thrum(&["send", &format!("right {n} {}", "x".repeat(200)), "--to", "@ann"]).ok();
    }
    left.thrum(&["sync", "verify"]).ok();
    let (mine, theirs) = (left.inbox_contents("ann"), right.inbox_contents("bob"));
    let database = left.path(".thrum/var/messages.db");
    for (what, damage) in DAMAGES {
        left.thrum(&["daemon", "stop"]).ok();
        damage(&database);
        let before = fs::read(&database).ok();
        let found = left.thrum(&["doctor", "--json"]);
        assert_eq!(
            (found.code, &check(&found.json())["fix"]),
            (1, &json!("thrum doctor --fix")),
            "{what}: {}",
            found.stdout
        );
        assert_eq!(fs::read(&database).ok(), before, "{what}: without --fix nothing changes");

        let fixed = left.thrum(&["doctor", "--fix", "--json"]).ok().json();
        let salvaged = &check(&fixed)["salvaged"];
        assert_eq!(salvaged["peers"], json!(["right"]), "{what}: {fixed}");
        match before {
            Some(bytes) => {
                let former = PathBuf::from(salvaged["former_database"].as_str().unwrap());
                assert!(fs::read(&former).unwrap() == bytes, "{what}: the damaged one is kept as it was");
                assert!(check(&fixed)["fixed"].as_str().unwrap().contains(former.to_str().unwrap()), "{what}");
            }
            None => assert_eq!(salvaged["former_database"], Value::Null),
        }
        if what.contains("head") {
            assert!(salvaged["events"].as_u64().unwrap() >= 52 && salvaged["lost"] == 0, "{what}: {salvaged}");
        }
        left.thrum(&["daemon", "start"]).ok();
        assert_eq!(left.json(&["sync", "verify"])["status"], "equal", "{what}");
        assert_eq!((left.inbox_contents("ann"), right.inbox_contents("bob")), (mine.clone(), theirs.clone()), "{what}");
    }
    // Mail continues in both directions.
    left.thrum(&["send", "after all of it", "--to", "@bob"]).ok();
    left.thrum(&["sync", "verify"]).ok();
    assert_eq!(right.inbox_contents("bob").len(), theirs.len() + 1);
}

#[test]
fn a_daemon_with_a_damaged_database_names_the_repair() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["send", "kept", "--to", "@ann"]).ok();
    repo.thrum(&["daemon", "stop"]).ok();
    change(&repo.path(".thrum/var/messages.db"), |bytes| bytes[..100].fill(0x20));
    let ran = repo.thrum(&["daemon", "start"]);
    assert_ne!(ran.code, 0);
    let ran = ran.says("the database is damaged").says("thrum doctor --fix");
    assert!(ran.stderr.lines().count() < 6, "{}", ran.stderr);
    let said = repo.thrum(&["doctor", "--fix"]).ok().stdout;
    assert!(said.contains("saved in a new database") && said.contains("nothing is known to be lost"), "{said}");
    assert_eq!(repo.inbox_contents("ann"), ["kept"]);
    // The damaged file that is kept still contains the purged mail.
    repo.thrum(&["purge", "--all", "--confirm"]).ok().says("messages.db.damaged");
}

#[test]
fn without_a_peer_a_repair_reports_the_losses() {
    let repo = TestRepo::with_agent("repo", "ann");
    for n in 0..60 {
        repo.thrum(&["send", &format!("{n} {}", "x".repeat(400)), "--to", "@ann"]).ok();
    }
    repo.thrum(&["daemon", "stop"]).ok();
    change(&repo.path(".thrum/var/messages.db"), |bytes| {
        // Not the first such page, where the agent is registered.
        let page = bytes
            .chunks(4096)
            .collect::<Vec<_>>()
            .into_iter()
            .rposition(|page| page[0] == 0x0d && page.windows(4).any(|text| text == b" xxx"))
            .unwrap();
        bytes[page * 4096..(page + 1) * 4096].fill(0);
    });
    let fixed = repo.thrum(&["doctor", "--fix", "--json"]).ok().json();
    let (salvaged, said) = (&check(&fixed)["salvaged"], check(&fixed)["fixed"].as_str().unwrap());
    assert!(salvaged["lost"].as_u64().unwrap() > 0 && salvaged["missing"][0]["numbers"].is_array(), "{salvaged}");
    assert!(
        said.contains("could not be read (of this daemon: ")
            && said.contains("they are lost, unless a backup has them"),
        "{said}"
    );
    let lost = usize::try_from(salvaged["lost"].as_u64().unwrap()).unwrap();
    assert!(repo.inbox_contents("ann").len() >= 60 - lost, "{salvaged}");
}

#[test]
fn an_unreadable_peer_registry_is_not_treated_as_empty() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["send", "kept", "--to", "@ann"]).ok();
    repo.thrum(&["daemon", "stop"]).ok();
    change(&repo.path(".thrum/var/messages.db"), |bytes| bytes[..100].fill(0));
    let peers = repo.path(".thrum/var/peers.json");
    fs::write(&peers, "{").unwrap();
    fs::set_permissions(&peers, fs::Permissions::from_mode(0o600)).unwrap();
    let fixed = repo.thrum(&["doctor", "--fix", "--json"]).json();
    let said = check(&fixed)["fixed"].as_str().unwrap();
    assert!(said.contains("peers.json cannot be read") && check(&fixed)["salvaged"]["peers"] == Value::Null, "{fixed}");
}

#[test]
fn doctor_does_not_repair_the_database_of_a_running_daemon() {
    let repo = TestRepo::with_agent("repo", "ann");
    for n in 0..60 {
        repo.thrum(&["send", &format!("{n} {}", "x".repeat(400)), "--to", "@ann"]).ok();
    }
    repo.thrum(&["daemon", "stop"]).ok();
    change(&repo.path(".thrum/var/messages.db"), |bytes| {
        let end = bytes.len();
        bytes[end - 4096..].fill(0x11);
    });
    repo.thrum(&["daemon", "start"]).ok();
    let found = repo.thrum(&["doctor", "--fix", "--json"]);
    assert_eq!(found.code, 1);
    assert!(
        check(&found.json())["fix"].as_str().unwrap().contains("thrum daemon stop && thrum doctor --fix"),
        "{}",
        found.stdout
    );
    assert!(!repo.path(".thrum/var/messages.db.damaged").exists());
}

/// SQLite deletes the log of a database without pages, even on a read-only connection, and the log would have been the
/// only copy.
#[test]
fn c26_an_emptied_file_leaves_the_write_ahead_log_to_be_saved() {
    let damages: [Damage; 2] = [|path| fs::write(path, "").unwrap(), |path| fs::remove_file(path).unwrap()];
    damages.into_iter().for_each(leaves_the_log);
}

fn leaves_the_log(damage: Damage) {
    let repo = TestRepo::with_agent("repo", "ann");
    for n in 0..5 {
        repo.thrum(&["send", &n.to_string(), "--to", "@ann"]).ok();
    }
    repo.kill_daemon();
    let (database, log) = (repo.path(".thrum/var/messages.db"), repo.path(".thrum/var/messages.db-wal"));
    damage(&database);
    let before = fs::read(&log).unwrap();
    assert!(!before.is_empty());
    let is_left = |what: &str| assert!(fs::read(&log).is_ok_and(|bytes| bytes == before), "{what} leaves the log");

    let found = repo.thrum(&["doctor", "--json"]);
    assert_eq!((found.code, &check(&found.json())["fix"]), (1, &json!("thrum doctor --fix")), "{}", found.stdout);
    is_left("doctor");
    let started = repo.thrum(&["daemon", "start"]);
    assert_ne!(started.code, 0);
    started.says("thrum doctor --fix");
    is_left("a start");
    assert_ne!(repo.thrum(&["backup"]).code, 0);
    is_left("a backup");

    let said = repo.thrum(&["doctor", "--fix"]).ok().stdout;
    assert!(said.contains("nothing is known to be lost"), "{said}");
    assert_eq!(repo.inbox_contents("ann"), ["0", "1", "2", "3", "4"]);
}

/// A database of another program is not rebuilt, whatever data a peer has.
#[test]
fn c27_the_database_of_another_program_is_left_alone() {
    let (left, _right) = paired();
    left.thrum(&["daemon", "stop"]).ok();
    let database = left.path(".thrum/var/messages.db");
    let foreign = |application: u32, broken: bool| {
        fs::remove_file(&database).unwrap();
        let connection = rusqlite::Connection::open(&database).unwrap();
        connection.pragma_update(None, "application_id", application).unwrap();
        connection
            .execute_batch("CREATE TABLE notes (text TEXT); INSERT INTO notes VALUES ('theirs'), ('theirs, too');")
            .unwrap();
        connection.close().unwrap();
        if broken {
            change(&database, |bytes| bytes[..16].fill(0));
        }
        fs::set_permissions(&database, fs::Permissions::from_mode(0o600)).unwrap();
    };
    for (application, broken) in [(0, false), (77, false), (77, true)] {
        foreign(application, broken);
        let before = fs::read(&database).unwrap();
        let ran = left.thrum(&["doctor", "--fix", "--json"]);
        assert_eq!(ran.code, 1, "{}", ran.stdout);
        let answer = ran.json();
        let fix = check(&answer)["fix"].as_str().unwrap();
        assert!(fix.contains("Move it away"), "{fix}");
        assert!(
            fs::read(&database).unwrap() == before && !left.path(".thrum/var/messages.db.damaged").exists(),
            "{answer}"
        );
        assert_ne!(left.thrum(&["daemon", "start"]).code, 0);
    }
    // The advice works.
    fs::rename(&database, left.path("theirs.db")).unwrap();
    left.thrum(&["doctor", "--fix"]).ok();
    left.thrum(&["daemon", "start"]).ok();
    assert_eq!(left.json(&["sync", "verify"])["status"], "equal");
}
