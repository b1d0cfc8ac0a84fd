//! An agent's notes over the socket: contents are base64, and a client can choose neither the path nor the directory.

use std::{fs, os::unix::fs::symlink};

use serde_json::json;
use thrum_daemon::paths::Repo;

use crate::harness::{Daemon, World};

#[test]
fn notes_go_to_the_worktree_that_was_named_and_come_back() {
    let world = World::new();
    let main = world.repo("main");
    let root = main.main_root().parent().unwrap().join("feature");
    fs::create_dir(&root).unwrap();
    let feature = Repo::create(&root, Some(main.thrum_dir())).unwrap();
    let daemon = Daemon::start(&main);

    daemon.call("context.save", json!({"agent_name": "ann", "content": "bWFpbg=="}));
    let there = json!({"agent_name": "ann", "content": "ZmVhdHVyZQ==", "repo_path": root});
    assert_eq!(daemon.call("context.save", there), json!({"agent_name": "ann", "message": "context of ann saved"}));
    daemon.call("context.preamble.save", json!({"agent_name": "ann", "content": "SSBhbSBhbm4=", "repo_path": root}));
    assert_eq!(fs::read_to_string(feature.local_dir().join("context/ann.md")).unwrap(), "feature");
    assert_eq!(fs::read_to_string(main.local_dir().join("context/ann.md")).unwrap(), "main");

    let shown = daemon.call("context.show", json!({"agent_name": "ann", "include_preamble": true, "repo_path": root}));
    assert_eq!(
        (&shown["content"], &shown["preamble"], &shown["size"]),
        (&json!("ZmVhdHVyZQ=="), &json!("SSBhbSBhbm4="), &json!(7))
    );
    assert_eq!((&shown["has_context"], &shown["has_preamble"]), (&json!(true), &json!(true)));
    assert!(shown["updated_at"].as_str().unwrap().ends_with('Z'), "{shown}");
    let preamble = daemon.call("context.preamble.show", json!({"agent_name": "ann"}));
    assert_eq!(preamble, json!({"agent_name": "ann", "content": null, "has_preamble": false}));

    daemon.call("context.clear", json!({"agent_name": "ann", "repo_path": root}));
    let shown = daemon.call("context.show", json!({"agent_name": "ann", "repo_path": root}));
    assert_eq!(shown, json!({"agent_name": "ann", "content": null, "has_context": false, "has_preamble": true}));
    assert_eq!(daemon.call("context.show", json!({"agent_name": "ann"}))["content"], "bWFpbg==");
}

#[test]
fn c35_no_client_makes_the_daemon_read_or_write_elsewhere() {
    let world = World::new();
    let main = world.repo("main");
    let other = world.repo("other");
    let above = main.main_root().parent().unwrap().to_owned();
    symlink(other.main_root(), main.main_root().join("link")).unwrap();
    let daemon = Daemon::start(&main);
    let mut client = daemon.client();
    let methods = ["context.save", "context.show", "context.clear", "context.preamble.save", "context.preamble.show"];
    for method in methods {
        for name in ["../ann", "..", "/etc/passwd", "a/b", "Ann", "ann\n", "ann_preamble", "everyone", ""] {
            let error = client.error(method, json!({"agent_name": name, "content": "eA=="}));
            assert_eq!(error["data"]["kind"], "invalid", "{method} {name:?}");
        }
        for place in [
            other.main_root(),
            &above,
            &main.main_root().join("link"),
            &main.main_root().join("../other"),
            "other".as_ref(),
            "/".as_ref(),
        ] {
            let error = client.error(method, json!({"agent_name": "ann", "content": "eA==", "repo_path": place}));
            assert_eq!(error["data"]["kind"], "refused", "{method} {place:?}: {error}");
        }
    }
    assert!(!other.local_dir().join("context").exists() && !main.local_dir().join("context").exists());
}

#[test]
fn contents_are_base64_of_a_bounded_text() {
    let world = World::new();
    let daemon = Daemon::start(&world.repo("main"));
    let mut client = daemon.client();
    let most = 256 << 10;
    let whole = format!("{}eA==", "eHh4".repeat(most / 3));
    daemon.call("context.save", json!({"agent_name": "ann", "content": whole}));
    let more = format!("{}eHh4", "eHh4".repeat(most / 3));
    for content in [more.as_str(), "no base64!", "/w==", &"eHh4".repeat(most)] {
        let error = client.error("context.save", json!({"agent_name": "ann", "content": content}));
        assert_eq!(error["data"]["kind"], "invalid", "{error}");
    }
    assert_eq!(daemon.call("context.show", json!({"agent_name": "ann"}))["size"], most);
}
