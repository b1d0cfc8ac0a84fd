//! The server without, with and after a daemon; what it reports about the team.

use serde_json::json;

use super::{Client, contents, text, two};
use crate::common::{TestRepo, instead_of_daemon, plain::until};

/// After a reboot nothing else may start the daemon before the model calls a tool.
#[test]
fn a_server_starts_the_daemon_before_any_tool_is_called() {
    let repo = two();
    let begin = |more: &[&str]| {
        repo.kill_daemon();
        let mut client = Client::run(repo.command(&[&["mcp", "serve", "--as", "ann"], more].concat()));
        client.initialize("2025-11-25");
        client
    };
    let client = begin(&[]);
    until(|| repo.try_connect().is_ok());
    assert!(client.end());
    let mut client = begin(&["--no-start"]);
    assert!(client.refused("brief", json!({})).contains("is not running"));
    assert!(client.end());
    assert!(repo.try_connect().is_err());
}

#[test]
fn a_server_survives_the_daemon_and_a_missing_agent_at_its_start() {
    let repo = TestRepo::git("repo");
    let mut client = Client::of(&repo, "ann");
    assert!(client.refused("check_messages", json!({})).contains("thrum init"), "there is no mailbox");
    assert!(!repo.path(".thrum").exists(), "and serving makes none");
    repo.agent("ann", "implementer");
    repo.agent("bob", "reviewer");
    assert_eq!(client.done("brief", json!({}))["unread"], 0);
    repo.thrum(&["daemon", "restart"]).ok();
    client.done("send_message", json!({"to": "@bob", "content": "to the second daemon"}));
    repo.kill_daemon();
    let mut bob = Client::of(&repo, "bob");
    assert_eq!(contents(&bob.done("check_messages", json!({}))["messages"]), ["to the second daemon"]);
    assert_eq!(client.done("list_agents", json!({}))["count"], 2);
}

#[test]
fn a_call_waits_for_a_daemon_that_restarts_and_one_that_never_answers_is_one_clear_error() {
    let repo = two();
    let mut bob = Client::of(&repo, "bob");
    let waiting = bob.send("tools/call", json!({"name": "wait_for_message", "arguments": {"timeout": 50}}));
    repo.thrum(&["daemon", "restart"]).ok();
    repo.thrum(&["send", "after all", "--to", "@bob", "--as", "ann"]).ok();
    assert_eq!(bob.answer(waiting)["result"]["structuredContent"]["message"]["content"], "after all");

    let heard = instead_of_daemon(&repo, 2, |_| None);
    let said = bob.refused("list_agents", json!({}));
    assert!(said.contains("closed the connection") && said.contains("thrum daemon logs"), "{said}");
    assert_eq!(heard.join().unwrap().len(), 2, "asked once more, and no further");
}

#[test]
fn intents_tasks_and_files_are_announced_and_found() {
    let repo = two();
    let mut ann = Client::of(&repo, "ann");
    std::fs::write(repo.path("login.rs"), "x").unwrap();
    repo.thrum(&["session", "heartbeat", "--as", "bob"]).ok();
    ann.done("set_status", json!({"intent": "Make login faster", "task": "AUTH-17"}));
    let mut bob = Client::of(&repo, "bob");
    let agents = bob.done("list_agents", json!({}));
    let of_ann = agents["agents"].as_array().unwrap().iter().find(|agent| agent["name"] == "ann").unwrap();
    assert_eq!(
        (&of_ann["intent"], &of_ann["task"], &of_ann["status"]),
        (&"Make login faster".into(), &"AUTH-17".into(), &"active".into())
    );
    let held = ann.done("who_has", json!({"path": "login.rs"}));
    assert_eq!((&held["agents"][0]["agent"], &held["agents"][0]["uncommitted"]), (&"@bob".into(), &true.into()));
    repo.thrum(&["claim", "docs", "--as", "bob"]).ok();
    let claims = ann.done("who_has", json!({"path": "docs/guide.md"}))["claims"].clone();
    assert_eq!(
        (&claims[0]["agent"], &claims[0]["path"], &claims[0]["you"]),
        (&"@bob".into(), &"docs".into(), &false.into())
    );
    ann.done("set_status", json!({"intent": ""}));
    let brief = ann.call("brief", json!({}));
    assert!(brief["structuredContent"]["you"]["intent"].as_str().is_none_or(str::is_empty), "{brief}");
    assert!(text(&brief).contains("@bob (reviewer · m-bob) active"), "{brief}");
}

#[test]
fn a_briefing_of_a_large_team_with_much_mail_stays_short() {
    let repo = two();
    for number in 0..20 {
        repo.agent(&format!("agent-{number}"), "tester");
        repo.thrum(&["session", "set-intent", &"long ".repeat(200), "--as", &format!("agent-{number}")]).ok();
        repo.thrum(&["send", &"words ".repeat(500), "--to", "@bob", "--as", "ann"]).ok();
    }
    let brief = Client::of(&repo, "bob").call("brief", json!({}));
    let shown = text(&brief);
    assert!(shown.contains("20 unread messages") && shown.contains("21 other agents"), "{shown}");
    assert!(shown.len() < 2400, "{} bytes: {shown}", shown.len());
}

#[test]
fn a_plugin_server_offers_no_tools_without_a_mailbox() {
    let offered = |repo: &TestRepo| {
        let mut command = repo.command(&["mcp", "serve"]);
        command.env("THRUM_PLUGIN", "1");
        let mut client = Client::run(command);
        let greeted = client.initialize("2025-11-25");
        let listed = client.ask("tools/list", json!({}))["result"]["tools"].as_array().unwrap().len();
        let resources = client.ask("resources/list", json!({}))["result"]["resources"].as_array().unwrap().len();
        assert!(client.end());
        assert_eq!(repo.path(".thrum").exists(), listed > 0, "serving makes no mailbox");
        (listed, resources > 0, greeted["instructions"].is_string())
    };
    assert_eq!(offered(&TestRepo::git("repo")), (0, false, false));
    assert_eq!(offered(&TestRepo::with_agent("repo", "bob")), (8, true, true));
}
