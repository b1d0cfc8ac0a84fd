//! Starting, stopping and crashing a daemon, and starting it in the wrong place.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use rustix::process::Signal;
use serde_json::{Value, json};
use thrum_core::limits;
use thrum_daemon::pidfile;

use crate::harness::{Client, Daemon, Start, World, is_root, stranger};

#[test]
fn a_new_daemon_answers_and_its_files_are_private() {
    let world = World::new();
    let repo = world.repo("my-repo");
    let daemon = Daemon::start(&repo);
    let health = daemon.call("health", json!({}));
    assert_eq!((&health["status"], &health["repo_id"]), (&json!("ok"), &json!("my-repo")));
    assert_eq!((&health["pid"], &health["events"]), (&json!(daemon.pid()), &json!(0)));
    assert_eq!(health["repo_path"], json!(repo.root()));
    assert_eq!(health["daemon_id"].as_str().map(str::len), Some(55));
    assert_eq!(health["tailscale_sync"]["peer_count"], 0);
    let name = health["tailscale_sync"]["hostname"].as_str().unwrap();
    assert!(name.ends_with("-my-repo") && name.to_lowercase() == name, "{name}");
    let recorded = pidfile::read(&repo.pid_file()).unwrap();
    assert_eq!(
        (recorded.pid, recorded.socket_path, recorded.repo_path),
        (daemon.pid(), Some(repo.socket()), Some(repo.root().into()))
    );
    for entry in fs::read_dir(repo.var()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().mode() & 0o077, 0, "{:?}", entry.path());
    }
}

#[test]
fn c28_a_second_daemon_is_refused_and_the_first_keeps_running() {
    let world = World::new();
    let repo = world.repo("r");
    let first = Daemon::start(&repo);
    let (code, said) = Start::of(&repo).refused();
    assert_eq!(code, 4);
    assert!(said.contains("thrum daemon status"), "{said}");
    assert_eq!(first.call("health", json!({}))["pid"], first.pid());
    assert_eq!(pidfile::read(&repo.pid_file()).unwrap().pid, first.pid());
}

#[test]
fn c26_acknowledged_messages_survive_a_kill_and_leftover_files_do_no_harm() {
    let world = World::new();
    let repo = world.repo("r");
    let daemon = Daemon::start(&repo);
    daemon.agent("alice", "planner");
    daemon.agent("bob", "builder");
    let log = daemon.call("health", json!({}))["log_id"].clone();
    let mut client = daemon.client();
    let sent: Vec<Value> = (0..20)
        .map(|n| {
            client
                .ok("message.send", json!({"content": format!("{n}"), "mentions": ["bob"], "caller_agent_id": "alice"}))
        })
        .collect();
    daemon.signal(Signal::KILL);
    assert_eq!(daemon.ended().0, None);
    assert!(repo.socket().exists() && repo.pid_file().exists());

    let daemon = Daemon::start(&repo);
    let mut client = daemon.client();
    for message in sent {
        client.ok("message.get", json!({"message_id": message["message_id"]}));
    }
    assert_eq!(client.ok("health", json!({}))["log_id"], log, "a crash is no new log");
}

#[test]
fn c26_p2_messages_acknowledged_during_shutdown_survive_it() {
    for signal in [Signal::TERM, Signal::KILL] {
        let world = World::new();
        let repo = world.repo("r");
        let daemon = Daemon::start(&repo);
        daemon.agent("alice", "planner");
        let (acknowledged, ids) = std::sync::mpsc::channel();
        let mut writers = Vec::new();
        for _ in 0..4 {
            let (mut client, acknowledged) = (daemon.client(), acknowledged.clone());
            writers.push(std::thread::spawn(move || {
                let message = json!({"content": "x", "mentions": ["alice"], "caller_agent_id": "alice"});
                while let Some(sent) = client.attempt("message.send", message.clone()) {
                    acknowledged.send(sent["message_id"].clone()).unwrap();
                }
            }));
        }
        drop(acknowledged);
        let mut known: Vec<Value> = ids.iter().take(40).collect();
        daemon.signal(signal);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        known.extend(ids);
        daemon.ended();

        let daemon = Daemon::start(&repo);
        let mut client = daemon.client();
        for id in &known {
            client.ok("message.get", json!({"message_id": id}));
        }
        let stored = client.ok("health", json!({}))["messages"].as_u64().unwrap();
        let unanswered = stored - known.len() as u64;
        assert!(unanswered <= 4, "each writer has one request open at most: {unanswered}");
    }
}

#[test]
fn sigterm_ends_every_connection_and_leaves_nothing_behind() {
    let world = World::new();
    let repo = world.repo("r");
    let daemon = Daemon::start(&repo);
    let (mut idle, mut watching, mut pairing) = (daemon.client(), daemon.client(), daemon.client());
    idle.ok("health", json!({}));
    watching.ok("events.watch", json!({}));
    pairing.ok("peer.start_pairing", json!({}));
    daemon.signal(Signal::TERM);
    assert_eq!([idle.line(), watching.line(), pairing.line()], [Value::Null, Value::Null, Value::Null]);
    let (code, log) = daemon.ended();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("stopping on SIGTERM") && log.contains("stopped"), "{log}");
    assert!(!repo.socket().exists() && !repo.pid_file().exists());
    let logged = fs::read_to_string(repo.log_file()).unwrap();
    assert!(logged.lines().all(|line| line.as_bytes()[4] == b'/' && line.as_bytes()[13] == b':'), "{logged}");
}

#[test]
fn c27_a_lost_or_restored_database_begins_a_new_log_under_the_same_identity() {
    let world = World::new();
    let repo = world.repo("r");
    let daemon = Daemon::start(&repo);
    daemon.agent("alice", "planner");
    let first = daemon.call("health", json!({}));
    daemon.stop();
    let backup = fs::read(repo.database()).unwrap();
    for database in [Some(backup), None] {
        Daemon::start(&repo).stop();
        match &database {
            Some(bytes) => fs::write(repo.database(), bytes).unwrap(),
            None => fs::remove_file(repo.database()).unwrap(),
        }
        let daemon = Daemon::start(&repo);
        let health = daemon.call("health", json!({}));
        assert_eq!(health["daemon_id"], first["daemon_id"]);
        assert_ne!(health["log_id"], first["log_id"], "restored: {}", database.is_some());
        assert_eq!(health["agents"], u64::from(database.is_some()));
        daemon.stop();
    }
}

#[test]
fn c28_a_copied_repository_does_not_start_until_the_user_declares_it() {
    let world = World::new();
    let original = world.repo("a");
    let daemon = Daemon::start(&original);
    let health = daemon.call("health", json!({}));
    let id = &health["daemon_id"];
    daemon.stop();
    let copy = world.repo("b");
    for entry in fs::read_dir(original.var()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.var().join(path.file_name().unwrap())).unwrap();
    }
    let before = fs::read(copy.identity_file()).unwrap();
    let (code, said) = Start::of(&copy).refused();
    assert_eq!(code, 4);
    assert!(said.contains("was copied from") && said.contains("--new-identity"), "{said}");
    assert_eq!(fs::read(copy.identity_file()).unwrap(), before);
    let daemon = Start::of(&copy).env("MOVED", "1").run();
    let moved = daemon.call("health", json!({}));
    assert_eq!(moved["daemon_id"], *id);
    assert_ne!(moved["log_id"], health["log_id"], "what the original wrote meanwhile must not get the same numbers");
    daemon.stop();
    let daemon = Start::of(&copy).env("NEW_IDENTITY", "1").run();
    assert_ne!(daemon.call("health", json!({}))["daemon_id"], *id);
    daemon.stop();
    Daemon::start(&copy).stop();
    Daemon::start(&original).stop();
}

#[test]
fn unusable_files_are_errors_and_are_left_as_they_are() {
    let world = World::new();
    let damaged = world.repo("damaged");
    fs::write(damaged.database(), vec![b'x'; 8192]).unwrap();
    let (code, said) = Start::of(&damaged).refused();
    assert_eq!(code, 1);
    assert!(said.contains("the database is damaged") && said.contains("thrum doctor --fix"), "{said}");
    assert_eq!(fs::read(damaged.database()).unwrap(), vec![b'x'; 8192]);

    let blocked = world.repo("blocked");
    fs::write(blocked.socket(), "mine").unwrap();
    let (code, said) = Start::of(&blocked).refused();
    assert_eq!(code, 4);
    assert!(said.contains("is no socket"), "{said}");
    assert!(!blocked.pid_file().exists(), "a daemon that did not start leaves no pid");
}

#[test]
fn c26_an_unwritable_directory_is_a_clear_error() {
    let world = World::new();
    let repo = world.repo("r");
    fs::set_permissions(&world.dir, fs::Permissions::from_mode(0o755)).unwrap();
    let start = if is_root() {
        Start::of(&repo).run_by(65534)
    } else {
        fs::set_permissions(repo.var(), fs::Permissions::from_mode(0o500)).unwrap();
        Start::of(&repo)
    };
    let (code, said) = start.refused();
    assert_ne!(code, 0);
    assert!(said.contains("another user") || said.contains("ermission denied"), "{said}");
    let left: Vec<_> = fs::read_dir(repo.var()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".gitignore"], "nothing beside what was there before");
}

#[test]
fn c14_another_user_is_refused_even_if_the_file_system_permits_access() {
    if !is_root() {
        // Only root can become another user; `may_call` has its own test.
        return;
    }
    let world = World::new();
    let repo = world.repo("r");
    let daemon = Daemon::start(&repo);
    for path in [&world.dir, repo.root(), repo.thrum_dir(), &repo.var(), &repo.socket()] as [&Path; 5] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let answer = stranger(&repo.socket(), 65534);
    assert!(answer.contains("this daemon serves only the user who runs it"), "{answer}");
    assert!(!answer.contains("daemon_id"), "{answer}");
    drop(daemon);
}

#[test]
fn c17_the_number_of_connections_is_bounded() {
    let world = World::new();
    let repo = world.repo("r");
    let daemon = Daemon::start(&repo);
    let mut clients: Vec<Client> = (0..limits::MAX_LOCAL_CONNECTIONS).map(|_| daemon.client()).collect();
    for client in &mut clients {
        client.ok("health", json!({}));
    }
    assert_eq!(daemon.client().line()["error"]["data"]["kind"], "try_again");
    assert_eq!(clients[0].ok("health", json!({}))["status"], "ok");
}

#[test]
fn c17_a_client_that_disconnects_while_it_waits_frees_its_slot() {
    let world = World::new();
    let repo = world.repo("r");
    let daemon = Daemon::start(&repo);
    daemon.agent("alice", "planner");
    for _ in 0..2 * limits::MAX_LOCAL_CONNECTIONS {
        let mut client = daemon.client();
        // A refused client arrived before the daemon noticed that an earlier one had left.
        let _ = client.attempt_to_wait("alice");
    }
    // Each of these calls would have waited for ten minutes.
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    while daemon.client().attempt("health", json!({})).is_none() {
        assert!(std::time::Instant::now() < deadline, "the places are held by nobody");
    }
}

#[test]
fn c26_the_store_fingerprint_is_written_before_anything_else() {
    let world = World::new();
    let repo = world.repo("r");
    let log_ids: Vec<Value> = (0..3)
        .map(|_| {
            let daemon = Daemon::start(&repo);
            let log_id = daemon.call("health", json!({}))["log_id"].clone();
            let beside: Value = serde_json::from_str(&fs::read_to_string(repo.identity_file()).unwrap()).unwrap();
            assert_eq!(beside["log_id"], log_id, "before anything was stored");
            daemon.signal(Signal::KILL);
            daemon.ended();
            log_id
        })
        .collect();
    assert!(log_ids.windows(2).all(|pair| pair[0] == pair[1]), "the same database each time: {log_ids:?}");
}

#[test]
fn c36_invalid_settings_are_reported_and_stop_nothing() {
    let world = World::new();
    let repo = world.repo("r");
    let [near, far] = repo.env_files();
    fs::write(&near, "THRUM_TS_HOSTNAME=near\nTHRUM_TS_PORT=many\nTHRUM_TS_AUTHKEY=a secret\n").unwrap();
    fs::write(&far, "THRUM_TS_HOSTNAME=far\nTHRUM_HOSTNAME=box9\n").unwrap();
    for file in [&near, &far] {
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let daemon = Daemon::start(&repo);
    let health = daemon.call("health", json!({}));
    assert_eq!(health["tailscale_sync"]["hostname"], "near");
    let warnings = health["warnings"].to_string();
    for part in ["line 3", "THRUM_TS_PORT", ".thrum/.env can be read by other users"] {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }
    assert!(
        !warnings.contains("secret") && !warnings.contains("r/.env can be read"),
        "no secret is in the other one: {warnings}"
    );
    daemon.agent("alice", "planner");
    assert_eq!(daemon.call("agent.list", json!({}))["agents"][0]["hostname"], "box9");
    assert!(!fs::read_to_string(repo.log_file()).unwrap().contains("secret"));
    drop(daemon);
    let daemon = Start::of(&repo).env("THRUM_TS_HOSTNAME", "from-the-process").run();
    assert_eq!(daemon.call("health", json!({}))["tailscale_sync"]["hostname"], "from-the-process");
}
