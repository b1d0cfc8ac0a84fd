use std::process::{Command, Stdio};

use serde_json::json;

use crate::{
    common::{TestRepo, paired, plain::until},
    hook::beside,
};

#[test]
fn it_shows_the_pages_block_the_inbox_and_every_peer() {
    let (left, right) = paired();
    right.thrum(&["send", "hello", "--to", "@ann"]).ok();
    left.thrum(&["wait", "--timeout", "60s"]).ok();
    let shown = left.thrum(&["status"]).ok().stdout;
    for line in
        ["Tailscale Sync: disabled\n", "Peers: 1 connected\n", "Last sync: ", "Hostname: left\n", "1 unread of 1\n"]
    {
        assert!(shown.contains(line), "no '{line}' in:\n{shown}");
    }
    assert!(shown.contains("right") && shown.contains("read by us"), "{shown}");
    let status = left.json(&["status"]);
    assert_eq!((&status["agent"], &status["inbox"]["unread"]), (&"ann".into(), &1.into()), "{status}");
    let page = &status["health"]["tailscale_sync"];
    assert_eq!(
        (&page["enabled"], &page["peer_count"], &page["peers"][0]["name"]),
        (&false.into(), &1.into(), &"right".into())
    );
}

#[test]
fn it_shows_my_intent_and_the_number_of_active_agents() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    let session = repo.json(&["whoami", "--as", "ann"])["session_id"].clone();
    let mut rpc = repo.connect();
    rpc.call("session.setIntent", &json!({"session_id": session, "intent": "mend the login"}));
    rpc.call("session.setTask", &json!({"session_id": session, "current_task": "T-7"}));
    rpc.call("agent.register", &json!({"name": "carol", "role": "tester", "module": "auth"}));
    let shown = repo.thrum(&["overview", "--as", "ann"]).ok().stdout;
    for words in
        ["\"mend the login\"\n", "T-7\n", "2 active of 3 agents\n", "Branch:      main\n", session.as_str().unwrap()]
    {
        assert!(shown.contains(words), "no '{words}' in:\n{shown}");
    }
    let told = repo.json(&["status", "--as", "ann"]);
    let expected = json!({"session_id": session, "intent": "mend the login", "current_task": "T-7", "branch": "main"});
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&told["work_context"][key], value, "{told}");
    }
    assert_eq!((&told["agents"], told["team"].as_array().unwrap().len()), (&json!({"active": 2, "total": 3}), 2));
    rpc.call("session.end", &json!({"session_id": session}));
    assert!(repo.thrum(&["status", "--as", "ann"]).ok().stdout.contains("none (thrum session start)"));
}

#[test]
fn the_open_session_of_an_agent_that_is_not_active_is_shown() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["session", "set-intent", "mend the login"]).ok();
    repo.thrum(&["session", "set-task", "T-7"]).ok();
    let session = repo.json(&["whoami"])["session_id"].clone();
    let mut program = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    beside(&repo, program.id(), "start", &json!({"session_id": "s1"}));
    program.kill().unwrap();
    program.wait().unwrap();
    until(|| repo.json(&["team"])["members"] == json!([]));
    assert!(repo.thrum(&["team"]).ok().stdout.contains("No agent is active ("));
    let shown = repo.thrum(&["status"]).ok().stdout;
    for words in [session.as_str().unwrap(), "\"mend the login\"\n", "T-7\n", "0 active of 1 agent\n"] {
        assert!(shown.contains(words), "no '{words}' in:\n{shown}");
    }
    let told = repo.json(&["status"])["work_context"].clone();
    assert!(told["session_start"].is_string(), "{told}");
    assert_eq!(
        [&told["session_id"], &told["intent"], &told["current_task"]],
        [&session, &json!("mend the login"), &json!("T-7")]
    );
    assert!(repo.thrum(&["prime"]).ok().stdout.contains("T-7\n"));
}

#[test]
fn i11_silence_is_visible() {
    let (left, right) = paired();
    right.thrum(&["daemon", "stop"]).ok();
    left.thrum(&["send", "into the silence", "--to", "@bob"]).ok();
    left.thrum(&["sync", "force"]).fails(75, "");
    let peer = &left.json(&["peer", "status"])[0];
    assert_eq!(peer["state"], "stopped", "it said so: {peer}");
    assert!(peer["since"].is_string() && peer["last_error"].is_string() && peer["next_attempt"].is_string(), "{peer}");
    assert_eq!(peer["backlog_to_them"], 1, "{peer}");
    let shown = left.thrum(&["peer", "status"]).ok().stdout;
    assert!(shown.contains("stopped ") && shown.contains("1 waiting") && shown.contains("Last error: "), "{shown}");

    for shown in [left.thrum(&["peer", "list"]).ok().stdout, left.thrum(&["status"]).ok().stdout] {
        assert!(shown.contains("stopped"), "{shown}");
    }

    right.thrum(&["daemon", "start"]).ok();
    assert!(right.thrum(&["wait", "--timeout", "60s"]).ok().stdout.contains("into the silence"));
}

#[test]
fn it_works_without_an_identity() {
    let repo = TestRepo::git("repo");
    repo.thrum(&["init"]).ok();
    let shown = repo.thrum(&["status"]).ok().says("thrum quickstart");
    assert!(shown.stdout.contains("Peers: 0 connected\n"), "{}", shown.stdout);
    assert!(repo.json(&["status"])["agent"].is_null());
}
