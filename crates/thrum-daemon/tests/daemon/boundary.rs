//! Boundaries between agents, users and files: who may act for which agent, who may read which file, and where links
//! lead.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use rustix::process::Signal;
use serde_json::{Value, json};
use thrum_daemon::{METHODS, paths::Repo};

use crate::harness::{Client, Daemon, Start, World, is_root, stranger};

/// Methods that act in no agent's name, and show nothing or only what every local client may see.
const IN_NOBODYS_NAME: &[&str] = &[
    "health",
    "agent.list",
    "agent.listContext",
    "agent.check",
    "daemon.settings",
    "team.list",
    "session.list",
    "claim.list",
    "collision.list",
    // The caller only serves to exclude it from the agents that are waited for.
    "work.wait",
    "message.archive",
    "message.deleteByAgent",
    "message.deleteByScope",
    "group.list",
    "group.info",
    "group.members",
    "group.create",
    "group.delete",
    "group.member.add",
    "group.member.remove",
    "user.identify",
    "user.register",
    "subscribe",
    "unsubscribe",
    "subscriptions.list",
    "telegram.configure",
    "telegram.status",
    "telegram.pair",
    // Imported events keep their origin, and are verified if their origin signs.
    "import.events",
    "import.peers",
    "purge.execute",
    "events.watch",
    "sync.status",
    "sync.force",
    "sync.parked",
    "sync.verify",
    "tsync.force",
    "tsync.peers.list",
    "tsync.peers.add",
    "peer.list",
    "peer.status",
    "git.status",
    "git.log",
];

/// Methods that concern daemons rather than agents.
const OF_DAEMONS: &[&str] = &[
    "peer.start_pairing",
    "peer.wait_pairing",
    "peer.join",
    "peer.look",
    "peer.waiting",
    "peer.ping",
    "peer.rename",
    "peer.remove",
    "git.on",
    "git.off",
    "git.trust",
    "git.untrust",
];

/// Starts a daemon with `ann`, and with events about `eve`, who lives at another daemon: her session, a message from
/// her, and an unread message to her.
fn with_eve(world: &World) -> Daemon {
    let daemon = Daemon::start(&world.repo("r"));
    daemon.agent("ann", "planner");
    let event = |n: u32, kind: &str, payload: Value| {
        let mut fields = json!({"event_id": format!("evt_{n}"), "type": kind, "origin_daemon": "d_elsewhere", "v": 1,
            "timestamp": format!("2026-03-28T17:05:{n:02}Z")});
        fields.as_object_mut().unwrap().extend(payload.as_object().unwrap().clone());
        json!({"event_json": fields.to_string()})
    };
    let events = [
        event(1, "agent.register", json!({"agent_id": "eve", "role": "tester", "module": "m", "kind": "agent"})),
        event(2, "agent.session.start", json!({"session_id": "ses_eve", "agent_id": "eve"})),
        event(
            3,
            "message.create",
            json!({"message_id": "msg_of_eve", "agent_id": "eve", "recipients": ["ann"],
            "body": {"format": "markdown", "content": "hers"}, "refs": [{"type": "mention", "value": "ann"}]}),
        ),
    ];
    assert_eq!(daemon.call("import.events", json!({"events": events}))["applied"], 3);
    daemon.call("message.send", json!({"content": "for eve", "mentions": ["eve"], "caller_agent_id": "ann"}));
    daemon
}

/// C16: every method is in a table here, so that a new method cannot be overlooked.
#[test]
fn c16_no_caller_acts_for_an_agent_of_another_daemon() {
    let world = World::new();
    let daemon = with_eve(&world);
    let mut client = daemon.client();
    let to_eve = client.ok("message.outbox", json!({"caller_agent_id": "ann"}))["messages"][0]["message_id"].clone();
    let home = client.ok("agent.list", json!({}))["agents"].clone();
    // Actions in her name, with every way to give the name.
    let refused: Vec<(&str, Value)> = vec![
        ("message.send", json!({"content": "x", "mentions": ["ann"], "caller_agent_id": "eve"})),
        ("message.send", json!({"content": "x", "mentions": ["ann"], "caller_agent_id": "ann", "acting_as": "eve"})),
        ("message.edit", json!({"message_id": "msg_of_eve", "content": "x", "caller_agent_id": "eve"})),
        ("message.edit", json!({"message_id": "msg_of_eve", "content": "x", "caller_agent_id": "ann"})),
        ("message.delete", json!({"message_id": "msg_of_eve", "caller_agent_id": "eve"})),
        ("message.delete", json!({"message_id": "msg_of_eve", "caller_agent_id": "ann"})),
        ("message.wait", json!({"caller_agent_id": "eve", "timeout_ms": 0})),
        ("message.news", json!({"caller_agent_id": "eve", "reader": "r"})),
        ("message.markRead", json!({"caller_agent_id": "eve", "message_ids": [to_eve]})),
        ("message.markRead", json!({"caller_agent_id": "eve", "all": true})),
        ("session.start", json!({"agent_id": "eve"})),
        ("session.start", json!({"caller_agent_id": "eve"})),
        ("session.end", json!({"session_id": "ses_eve"})),
        ("session.heartbeat", json!({"session_id": "ses_eve"})),
        ("session.setIntent", json!({"session_id": "ses_eve", "intent": "x"})),
        ("session.setTask", json!({"session_id": "ses_eve", "current_task": "x"})),
        ("agent.delete", json!({"name": "eve"})),
        ("claim.take", json!({"caller_agent_id": "eve", "paths": ["src"]})),
        ("claim.release", json!({"caller_agent_id": "eve"})),
        ("agent.setPresence", json!({"caller_agent_id": "eve", "session": "s", "state": "working"})),
        ("collision.news", json!({"caller_agent_id": "eve"})),
    ];
    // Calls that are permitted and change nothing of hers.
    let harmless: Vec<(&str, Value)> = vec![
        ("agent.whoami", json!({"caller_agent_id": "eve"})),
        ("agent.cleanup", json!({"force": true})),
        ("message.get", json!({"message_id": to_eve, "caller_agent_id": "eve"})),
        ("message.get", json!({"message_id": to_eve, "caller_agent_id": "eve", "mark_read": true})),
        ("message.list", json!({"for_agent": "eve", "caller_agent_id": "eve"})),
        ("message.list", json!({"unread_for_agent": "eve", "caller_agent_id": "eve"})),
        ("message.outbox", json!({"caller_agent_id": "eve"})),
        ("import.adopt", json!({"former_homes": [home[0]["home"]]})),
        ("import.markRead", json!({"agent_id": "eve", "message_ids": [to_eve]})),
        ("context.save", json!({"agent_name": "eve", "content": "eA=="})),
        ("context.show", json!({"agent_name": "eve"})),
        ("context.clear", json!({"agent_name": "eve"})),
        ("context.preamble.save", json!({"agent_name": "eve", "content": "eA=="})),
        ("context.preamble.show", json!({"agent_name": "eve"})),
    ];
    let in_the_table = |method: &str| {
        method == "agent.register" || refused.iter().chain(&harmless).any(|(listed, _)| *listed == method)
    };
    for method in METHODS {
        let places = [in_the_table(method), IN_NOBODYS_NAME.contains(method), OF_DAEMONS.contains(method)];
        assert_eq!(places.iter().filter(|listed| **listed).count(), 1, "{method}: in whose name does it act?");
    }
    let hers = |client: &mut Client| {
        let sessions = client.ok("session.list", json!({"agent_id": "eve"}))["sessions"].clone();
        let session: Vec<Value> =
            ["session_id", "ended_at", "intent", "current_task"].map(|key| sessions[0][key].clone()).into();
        let recipients = client.ok("message.get", json!({"message_id": to_eve}))["message"]["recipients"].clone();
        let message = client.ok("message.get", json!({"message_id": "msg_of_eve"}))["message"]["body"].clone();
        let agents = client.ok("agent.list", json!({}))["agents"].clone();
        let eve = agents
            .as_array()
            .unwrap()
            .iter()
            .find(|agent| agent["agent_id"] == "eve" && agent["home"] == "d_elsewhere")
            .cloned();
        (session, recipients[0]["read_at"].clone(), message, eve.map(|eve| eve["role"].clone()))
    };
    let before = hers(&mut client);
    let events = client.ok("health", json!({}))["events"].clone();
    for (method, params) in &refused {
        match client.call(method, params.clone()) {
            Err(error) => {
                assert!(
                    ["refused", "not_found"].contains(&error["data"]["kind"].as_str().unwrap()),
                    "{method} {params}: {error}"
                )
            }
            Ok(answer) => panic!("{method} {params}: {answer}"),
        }
    }
    assert_eq!(client.ok("health", json!({}))["events"], events, "nothing was written");
    for (method, params) in &harmless {
        let answer = client.call(method, params.clone());
        assert_eq!(hers(&mut client), before, "{method} {params}: {answer:?}");
    }
    let error = client.error("message.list", json!({"for_agent": "eve", "caller_agent_id": "eve"}));
    assert_eq!(error["data"]["kind"], "refused", "her mailbox is at her home: {error}");
    // An agent that takes her name here is a different agent, and is shown as one.
    client.ok("agent.register", json!({"name": "eve", "role": "impostor", "module": "m"}));
    let agents = client.ok("agent.list", json!({}))["agents"].clone();
    let eves: Vec<_> = agents.as_array().unwrap().iter().filter(|agent| agent["agent_id"] == "eve").collect();
    assert_eq!(eves.len(), 2, "{agents}");
    assert!(eves.iter().any(|eve| eve["home"] == "d_elsewhere" && eve["role"] == "tester"), "{agents}");
    for (method, params) in refused.iter().filter(|(method, _)| ["message.edit", "message.delete"].contains(method)) {
        assert!(client.call(method, params.clone()).is_err(), "{method}: she did not write it");
    }
}

/// Returns everything below a directory, with its mode.
fn below(dir: &Path) -> Vec<(PathBuf, u32)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let about = fs::symlink_metadata(&path).unwrap();
        found.push((path.clone(), about.mode() & 0o777));
        if about.is_dir() {
            found.extend(below(&path));
        }
    }
    found
}

/// C14: regardless of the umask of the user who starts the daemon.
#[test]
fn c14_no_file_of_the_daemon_is_readable_by_others() {
    let world = World::new();
    let daemon = Start::of(&world.repo("r")).umask(0).run();
    let other = Start::of(&world.repo("other")).umask(0).run();
    daemon.agent("ann", "planner");
    let mut adding = daemon.client();
    let shown = adding.ok("peer.start_pairing", json!({"transport": "local"}));
    // One wrong guess, so that the daemon writes down the remaining guesses.
    other.client().error(
        "peer.join",
        json!({"address": shown["address"], "code": if shown["code"] == "0000" { "0001" } else { "0000" }}),
    );
    other.call("peer.join", json!({"address": shown["address"], "code": shown["code"]}));
    daemon.call("context.save", json!({"agent_name": "ann", "content": "eA=="}));
    daemon.call("message.send", json!({"content": "x", "mentions": ["ann"], "caller_agent_id": "ann"}));
    for daemon in [&daemon, &other] {
        let found = below(&daemon.repo.var());
        for name in [
            "messages.db",
            "messages.db-wal",
            "daemon.json",
            "peers.json",
            "daemon.log",
            "thrum.sock",
            "thrum.lock",
            "thrum.pid",
        ] {
            assert!(found.iter().any(|(path, _)| path.ends_with(name)), "{name} is missing: {found:?}");
        }
        let open: Vec<_> = found.iter().filter(|(_, mode)| mode & 0o077 != 0).collect();
        assert_eq!(open, Vec::<&(PathBuf, u32)>::new());
        assert_eq!(fs::metadata(daemon.repo.var()).unwrap().mode() & 0o777, 0o700);
    }
    assert!(below(&daemon.repo.var()).iter().any(|(path, _)| path.ends_with("pairing.json")));
    let notes = below(&daemon.repo.thrum_dir().join("context"));
    assert!(!notes.is_empty() && notes.iter().all(|(_, mode)| mode & 0o077 == 0), "{notes:?}");
}

/// C13, C14: a link in place of one of the daemon's files is followed neither for reading nor for writing.
#[test]
fn c14_no_link_leads_the_daemon_out_of_its_directory() {
    for name in [
        "var",
        "var/daemon.json",
        "var/peers.json",
        "var/pairing.json",
        "var/messages.db",
        "var/messages.db-wal",
        "var/daemon.log",
        "var/thrum.lock",
        "var/thrum.sock",
        "redirect",
    ] {
        let world = World::new();
        let repo = world.repo("r");
        // A former run of the daemon gives every file real content, which could be mistaken for valid.
        Daemon::start(&repo).stop();
        let inside = repo.thrum_dir().join(name);
        let outside = world.dir.join("outside");
        match fs::rename(&inside, &outside) {
            Ok(()) => {}
            Err(_) => fs::write(&outside, "precious").unwrap(),
        }
        let before = content(&outside);
        symlink(&outside, &inside).unwrap();
        let (code, said) = match Repo::discover(repo.root()) {
            Ok(repo) => Start::of(&repo).refused(),
            Err(error) => (error.kind.exit_code().into(), error.message),
        };
        assert_ne!(code, 0, "{name}: {said}");
        assert_eq!(content(&outside), before, "{name}: what is elsewhere stays as it is");
    }
}

/// Returns the bytes of a file, or the names in a directory.
fn content(path: &Path) -> Vec<u8> {
    if path.is_dir() {
        let mut names: Vec<_> = below(path).into_iter().map(|(path, _)| path.display().to_string()).collect();
        names.sort();
        return names.join("\n").into_bytes();
    }
    fs::read(path).unwrap()
}

/// C13: the files were open to other users until now, so the log must say so.
#[test]
fn c13_keys_and_tokens_readable_by_others_are_made_private_and_reported() {
    let world = World::new();
    let repo = world.repo("r");
    Daemon::start(&repo).stop();
    fs::write(repo.peers_file(), "{}").unwrap();
    for file in [repo.identity_file(), repo.peers_file()] {
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let daemon = Daemon::start(&repo);
    for file in [repo.identity_file(), repo.peers_file()] {
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    }
    let log = fs::read_to_string(repo.log_file()).unwrap();
    for name in ["daemon.json", "peers.json"] {
        assert!(
            log.lines().any(|line| line.contains("warning: ")
                && line.contains(name)
                && line.contains("could be read by others")),
            "{name}: {log}"
        );
    }
    drop(daemon);
}

/// C13: damage by an editor or a crash. The file stays for the person who repairs it.
#[test]
fn c13_a_damaged_registry_stops_the_daemon_with_an_error_and_is_left_as_it_is() {
    let world = World::new();
    let repo = world.repo("r");
    Daemon::start(&repo).stop();
    let token = "a1".repeat(32);
    let peer = |id: &str| format!(r#"{{"name":"{id}","address":"127.0.0.1:1","daemon_id":"{id}","token":"{token}"}}"#);
    for text in [
        format!(r#"{{"peers":[{},{}]}}"#, peer("d_a"), peer("d_a")),
        format!(r#"{{"peers":[{},{}]}}"#, peer("d_a"), peer("d_b")),
        format!(r#"{{"peers":[{}"#, peer("d_a")),
    ] {
        fs::write(repo.peers_file(), &text).unwrap();
        let (code, said) = Start::of(&repo).refused();
        assert_ne!(code, 0);
        assert!(
            said.contains("peers.json cannot be used") && said.contains("Hint: Repair") && !said.contains(&token),
            "{said}"
        );
        assert_eq!(fs::read_to_string(repo.peers_file()).unwrap(), text);
        assert!(!fs::read_to_string(repo.log_file()).unwrap().contains(&token));
    }
}

/// C14: paths of any length, each with its own socket, in a directory for this user only.
#[test]
fn c14_long_paths_have_short_sockets_that_do_not_collide_and_go_with_their_daemon() {
    let world = World::new();
    let runtime = world.dir.join("run");
    fs::create_dir(&runtime).unwrap();
    let long = "x".repeat(110);
    let repos = ["a", "b"].map(|name| world.repo(&format!("{long}/{name}")));
    let runtime_dir = runtime.to_str().unwrap();
    let daemons = repos.each_ref().map(|repo| Start::of(repo).env("XDG_RUNTIME_DIR", runtime_dir).run());
    // As recorded by the daemons, for a caller with another runtime directory.
    let sockets = repos.each_ref().map(Repo::socket);
    assert_ne!(sockets[0], sockets[1]);
    for (socket, repo) in sockets.iter().zip(&repos) {
        assert!(socket.starts_with(&runtime) && socket.as_os_str().len() < 108, "{socket:?}");
        assert_eq!(fs::metadata(socket).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(socket.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        assert_eq!(Client::connect(repo).ok("health", json!({}))["status"], "ok");
    }
    let ids = daemons.each_ref().map(|daemon| daemon.call("health", json!({}))["daemon_id"].clone());
    assert_ne!(ids[0], ids[1]);
    if is_root() {
        for path in [&world.dir, &runtime, sockets[0].parent().unwrap(), &sockets[0]] as [&Path; 4] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
        }
        assert!(stranger(&sockets[0], 65534).contains("this daemon serves only the user who runs it"));
    }
    let [first, second] = daemons;
    first.signal(Signal::KILL);
    assert_eq!(first.ended().0, None);
    assert!(sockets[0].exists(), "a crash leaves it");
    let again = Start::of(&repos[0]).env("XDG_RUNTIME_DIR", runtime_dir).run();
    assert_eq!(again.call("health", json!({}))["daemon_id"], ids[0]);
    again.stop();
    second.stop();
    assert_eq!(fs::read_dir(runtime.join("thrum")).unwrap().count(), 0, "nothing is left");
}

/// C35: names that the file system or the eye cannot tell apart are refused; all others are different agents.
#[test]
fn c35_lookalike_names_are_rejected_and_no_agent_is_mistaken_for_another() {
    let world = World::new();
    let daemon = Daemon::start(&world.repo("r"));
    daemon.agent("alice", "planner");
    let mut client = daemon.client();
    let long = "x".repeat(300);
    for twin in [
        "Alice",
        "ALICE",
        "аlice",
        "a\u{301}lice",
        "alice\u{200b}",
        "\u{202e}ecila",
        "alice ",
        " alice",
        "alice\n",
        "＠alice",
        &long,
    ] {
        let error = client.error("agent.register", json!({"name": twin, "role": "r", "module": "m"}));
        assert_eq!(error["data"]["kind"], "invalid", "{twin:?}: {error}");
        let error =
            client.error("message.send", json!({"content": "x", "mentions": [twin], "caller_agent_id": "alice"}));
        assert_eq!(error["data"]["kind"], "not_found", "{twin:?}: {error}");
        let error =
            client.error("message.send", json!({"content": "x", "mentions": ["alice"], "caller_agent_id": twin}));
        assert_eq!(error["data"]["kind"], "not_found", "{twin:?}: {error}");
        assert!(!error.to_string().contains(['\u{200b}', '\u{202e}']), "{error}");
    }
    // No agent of our daemons can have such a name. An agent of Go Thrum can, and then counts as a different agent.
    let event = json!({"event_id": "evt_1", "type": "agent.register", "origin_daemon": "d_go", "timestamp": "2026-03-28T17:05:13Z",
        "agent_id": "аlice", "role": "r", "module": "m", "v": 1});
    client.ok("import.events", json!({"events": [{"event_json": event.to_string()}]}));
    let sent = client.ok("message.send", json!({"content": "x", "mentions": ["alice"], "caller_agent_id": "alice"}));
    assert_eq!(sent["recipients"].as_array().map(Vec::len), Some(1), "{sent}");
    assert_eq!(sent["recipients"][0]["agent_id"], "alice");
}
