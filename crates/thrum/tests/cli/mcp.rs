//! `thrum mcp serve`, driven line by line as an MCP client does. Tests with third-party client libraries are in
//! `tests/mcp/`.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use serde_json::{Value, json};

use crate::common::{TestRepo, instead_of_daemon, paired, plain::until};

/// An MCP client with its own server process.
struct Client {
    child: Child,
    /// Standard input of the server. Closing it ends the server.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    last_id: u64,
    /// Length of the last line in bytes.
    bytes: usize,
    /// Messages received while waiting for a reply, such as notifications.
    heard: Vec<Value>,
    /// `_meta` field added to every request, for protocol revisions without a handshake and for hosts that send one.
    meta: Option<Value>,
}

impl Client {
    /// Starts the server of this agent without initializing it.
    fn start(repo: &TestRepo, agent: &str) -> Self {
        Self::run(repo.command(&["mcp", "serve", "--as", agent]))
    }

    /// Starts the server of the agent that the environment names, and initializes it.
    fn named_by_variable(repo: &TestRepo, agent: &str) -> Self {
        let mut command = repo.command(&["mcp", "serve"]);
        command.env("THRUM_NAME", agent);
        let mut client = Self::run(command);
        client.initialize("2025-06-18");
        client
    }

    fn run(mut command: std::process::Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output, last_id: 0, bytes: 0, heard: Vec::new(), meta: None }
    }

    /// Starts the server of this agent and initializes it.
    fn of(repo: &TestRepo, agent: &str) -> Self {
        let mut client = Self::start(repo, agent);
        client.initialize("2025-11-25");
        client
    }

    fn initialize(&mut self, version: &str) -> Value {
        let params =
            json!({"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}});
        let answer = self.ask("initialize", params);
        self.write(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        answer["result"].clone()
    }

    fn write(&mut self, message: &Value) {
        writeln!(self.input.as_mut().unwrap(), "{message}").unwrap();
    }

    /// From now on, adds to each request the metadata that Codex 0.171.0 sends from this thread of a session.
    fn in_codex(mut self, session: &str, thread: &str) -> Self {
        let mut turn = json!({"session_id": session, "thread_id": thread, "thread_source": "user"});
        if session != thread {
            turn["thread_source"] = "subagent".into();
            turn["subagent_kind"] = "thread_spawn".into();
            turn["parent_thread_id"] = session.into();
        }
        self.meta = Some(json!({"threadId": thread, "sessionId": session, "x-codex-turn-metadata": turn}));
        self
    }

    /// Sends a request and returns its id.
    fn send(&mut self, method: &str, mut params: Value) -> u64 {
        self.last_id += 1;
        if let Some(meta) = &self.meta {
            params["_meta"] = meta.clone();
        }
        self.write(&json!({"jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params}));
        self.last_id
    }

    /// Reads the next line, or `None` at the end of the output.
    fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.bytes = self.output.read_line(&mut line).unwrap();
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    }

    /// Waits for the reply to a request.
    fn answer(&mut self, id: u64) -> Value {
        loop {
            let message = self.line().expect("an answer");
            if message["id"] == id {
                return message;
            }
            self.heard.push(message);
        }
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.send(method, params);
        self.answer(id)
    }

    fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let answer = self.ask("tools/call", json!({"name": tool, "arguments": arguments}));
        assert!(answer["error"].is_null(), "{answer}");
        answer["result"].clone()
    }

    /// Calls a tool, asserts that it succeeds and returns the structured content.
    #[track_caller]
    fn done(&mut self, tool: &str, arguments: Value) -> Value {
        let result = self.call(tool, arguments);
        assert_eq!(result["isError"], false, "{result}");
        result["structuredContent"].clone()
    }

    /// Calls a tool, asserts that it fails and returns the text. A failed call has no structured content, because
    /// clients would check it against the schema.
    #[track_caller]
    fn refused(&mut self, tool: &str, arguments: Value) -> String {
        let result = self.call(tool, arguments);
        assert_eq!((&result["isError"], &result["structuredContent"]), (&true.into(), &Value::Null), "{result}");
        text(&result)
    }

    /// Ends the server as clients do. Returns `true` if it exits with success.
    fn end(mut self) -> bool {
        drop(self.input.take());
        self.child.wait().unwrap().success()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(result: &Value) -> String {
    result["content"][0]["text"].as_str().unwrap().to_owned()
}

fn contents(messages: &Value) -> Vec<&str> {
    messages.as_array().unwrap().iter().map(|message| message["content"].as_str().unwrap()).collect()
}

fn two() -> TestRepo {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    repo
}

#[test]
fn mail_goes_from_one_agent_to_the_other_and_is_read_once() {
    let repo = two();
    let (mut ann, mut bob) = (Client::of(&repo, "ann"), Client::of(&repo, "bob"));
    let sent = ann.done("send_message", json!({"to": "@bob", "content": "Can you review this?"}));
    assert_eq!(
        (&sent["status"], &sent["resolved_to"], &sent["recipients"][0]["agent"]),
        (&"stored".into(), &1.into(), &"@bob".into())
    );
    let result = bob.call("check_messages", json!({}));
    let read = &result["structuredContent"];
    assert_eq!((&read["status"], &read["remaining"]), (&"messages".into(), &0.into()));
    let message = &read["messages"][0];
    assert_eq!(
        (&message["from"], &message["content"], &message["signed"], &message["message_id"]),
        (&"@ann".into(), &"Can you review this?".into(), &true.into(), &sent["message_id"])
    );
    assert!(text(&result).contains("  │ Can you review this?\n"), "the text says the same: {result}");
    assert_eq!(bob.done("check_messages", json!({}))["status"], "empty");
    bob.done("reply", json!({"message_id": sent["message_id"], "content": "Good to merge."}));
    let answered = ann.done("wait_for_message", json!({"timeout": 30}));
    assert_eq!(
        (&answered["status"], &answered["message"]["content"], &answered["message"]["reply_to"]),
        (&"message_received".into(), &"Good to merge.".into(), &sent["message_id"])
    );
    assert_eq!(ann.done("check_messages", json!({}))["status"], "empty", "what was waited for is read");
    assert!(ann.end() && bob.end());
}

#[test]
fn both_lifecycles_are_spoken_and_the_version_asked_for_is_kept() {
    let repo = two();
    for version in ["2024-11-05", "2025-06-18", "2025-11-25"] {
        let mut client = Client::start(&repo, "ann");
        let greeted = client.initialize(version);
        assert_eq!((&greeted["protocolVersion"], &greeted["serverInfo"]["name"]), (&version.into(), &"thrum".into()));
        assert_eq!(client.ask("tools/list", json!({}))["result"]["tools"].as_array().unwrap().len(), 8);
    }
    let mut newest = Client::start(&repo, "ann");
    assert_eq!(newest.initialize("2026-07-28")["protocolVersion"], "2025-11-25", "the last one with a handshake");

    let mut client = Client::start(&repo, "ann");
    client.meta = Some(
        json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}),
    );
    let found = client.ask("server/discover", json!({}));
    let versions = found["result"]["supportedVersions"].as_array().unwrap();
    assert!(versions.contains(&"2026-07-28".into()) && versions.contains(&"2025-11-25".into()), "{found}");
    assert!(found["result"]["instructions"].as_str().unwrap().len() < 1024);
    assert_eq!(client.done("brief", json!({}))["you"]["name"], "ann");
    let unknown = client.ask("thrum/nothing", json!({}));
    assert_eq!(unknown["error"]["code"], -32601, "{unknown}");
}

#[test]
fn many_messages_come_in_pages_and_each_is_marked_as_it_is_returned() {
    let repo = two();
    let mut ann = Client::of(&repo, "ann");
    let long = "x".repeat(6 * 1024);
    for number in 0..5 {
        ann.done("send_message", json!({"to": "bob", "content": format!("{number}{long}")}));
    }
    let mut bob = Client::of(&repo, "bob");
    let (mut heard, mut calls) = (Vec::new(), 0);
    while calls < 5 {
        calls += 1;
        let result = bob.call("check_messages", json!({"limit": 50}));
        let page = &result["structuredContent"];
        assert!(page.to_string().len() <= 16 * 1024 && text(&result).len() <= 16 * 1024);
        heard.extend(contents(&page["messages"]).into_iter().map(|content| content[..1].to_owned()));
        // This call starts only after the messages returned above have been marked as read.
        let rest = bob.done("check_messages", json!({"limit": 1, "peek": true}));
        let left = rest["messages"].as_array().unwrap().len() as u64 + rest["remaining"].as_u64().unwrap();
        assert_eq!((page["remaining"].as_u64().unwrap(), heard.len() as u64 + left), (left, 5));
        if left == 0 {
            break;
        }
        assert!(text(&result).contains("call check_messages again"));
    }
    assert_eq!((heard.join(""), calls), ("01234".to_owned(), 3));
}

#[test]
fn a_cursor_returns_all_later_mail_whether_read_or_not() {
    let repo = two();
    let mut ann = Client::of(&repo, "ann");
    let mut bob = Client::of(&repo, "bob");
    let cursor = bob.done("check_messages", json!({}))["cursor"].clone();
    let long = "x".repeat(6 * 1024);
    for number in 0..4 {
        ann.done("send_message", json!({"to": "bob", "content": format!("{number}{long}")}));
    }
    repo.thrum(&["inbox", "--as", "bob"]).ok();
    assert_eq!(bob.done("check_messages", json!({}))["status"], "empty", "all are read");
    let (mut heard, mut at) = (Vec::new(), cursor);
    loop {
        let page = bob.done("check_messages", json!({"cursor": at}));
        heard.extend(contents(&page["messages"]).into_iter().map(|content| content[..1].to_owned()));
        at = page["cursor"].clone();
        assert_eq!(heard.len() as u64 + page["remaining"].as_u64().unwrap(), 4);
        if page["remaining"] == 0 {
            break;
        }
    }
    assert_eq!(heard.join(""), "0123");
    assert_eq!(bob.done("check_messages", json!({"cursor": at}))["status"], "empty");
    let said = bob.refused("check_messages", json!({"cursor": "another:1"}));
    assert!(said.contains("CURSOR_EXPIRED") && said.contains("without a cursor"), "{said}");
}

#[test]
fn a_long_message_is_cut_with_the_command_for_its_full_text() {
    let repo = two();
    let mut ann = Client::of(&repo, "ann");
    let whole = "\u{1}é".repeat(100_000);
    let id =
        ann.done("send_message", json!({"to": "@bob", "content": whole}))["message_id"].as_str().unwrap().to_owned();
    let mut bob = Client::of(&repo, "bob");
    let result = bob.call("wait_for_message", json!({}));
    let message = &result["structuredContent"]["message"];
    assert_eq!((&message["truncated"], &message["content_bytes"]), (&true.into(), &whole.len().into()));
    assert!(message.to_string().len() <= 16 * 1024 && text(&result).len() <= 16 * 1024);
    assert!(text(&result).contains(&format!("thrum message get {id}")), "{}", text(&result));
    let uri = format!("thrum://message/{id}");
    let read = bob.ask("resources/read", json!({"uri": uri}));
    let held: Value = serde_json::from_str(read["result"]["contents"][0]["text"].as_str().unwrap()).unwrap();
    assert_eq!(held["message"]["body"]["content"], whole);
}

/// Most bytes of a result: 16 KiB of text, 16 KiB of structured content, and the protocol's own fields.
const MOST_BYTES: usize = 32 * 1024 + 256;
const MOST_BYTES_OF_ERROR: usize = 4 * 1024 + 256;

#[test]
fn every_answer_keeps_within_its_bounds_on_the_wire() {
    let repo = two();
    let mut ann = Client::of(&repo, "ann");
    let escaped = "\u{1b}\"".repeat(2000);
    for number in 0..20 {
        let agent = format!("agent-{number}-{}", "x".repeat(50));
        repo.agent(&agent, "tester");
        repo.thrum(&["session", "set-intent", &escaped, "--as", &agent]).ok();
        repo.thrum(&["session", "set-task", &escaped, "--as", &agent]).ok();
    }
    // Directories and files with long paths, which bob has changed and claimed.
    let deep = vec!["d".repeat(200); 18].join("/");
    std::fs::create_dir_all(repo.path(&deep)).unwrap();
    for number in 0..12 {
        std::fs::write(repo.path(&format!("{deep}/{number}")), "x").unwrap();
    }
    repo.thrum(&["session", "heartbeat", "--as", "bob"]).ok();
    let paths: Vec<String> = (0..40).map(|number| format!("{deep}/{}{number}", "y".repeat(200))).collect();
    let claim =
        ["claim"].into_iter().chain(paths.iter().map(String::as_str)).chain(["--as", "bob"]).collect::<Vec<_>>();
    repo.thrum(&claim).ok();

    let first = "d".repeat(200);
    for (tool, arguments, has_more) in [
        ("send_message", json!({"to": "@everyone", "content": "\u{1b}".repeat(100_000)}), false),
        ("reply", json!({"message_id": "", "content": escaped}), false),
        ("list_agents", json!({}), true),
        ("who_has", json!({"path": first}), true),
        ("who_has", json!({"path": "z".repeat(1 << 20)}), false),
        ("set_status", json!({"intent": escaped, "task": escaped}), false),
        ("brief", json!({}), false),
    ] {
        let mut arguments = arguments;
        if tool == "reply" {
            let unread = Client::of(&repo, "ann").done("send_message", json!({"to": "@everyone", "content": "x"}));
            arguments["message_id"] = unread["message_id"].clone();
        }
        let result = ann.call(tool, arguments);
        assert!(
            result["isError"] == false && ann.bytes <= MOST_BYTES,
            "{tool}: {} bytes, {}",
            ann.bytes,
            result["isError"]
        );
        let shown = text(&result);
        assert_eq!(result["structuredContent"]["more"] == true, has_more, "{tool}");
        assert_eq!(shown.contains("more than an answer has room for"), has_more, "{tool}: {shown}");
    }

    // Mail that does not fit is shortened or stays unread; it never disappears.
    let mut bob = Client::of(&repo, "bob");
    for tool in ["wait_for_message", "check_messages"] {
        let result = bob.call(tool, json!({}));
        assert!(result["isError"] == false && bob.bytes <= MOST_BYTES, "{tool}: {} bytes", bob.bytes);
    }

    let long = "\u{1b}x".repeat(100_000);
    for (tool, arguments) in [
        ("send_message", json!({"to": long, "content": "x"})),
        ("send_message", json!({"to": "@bob", "content": "x", "reply_to": long})),
        ("send_message", json!({"to": "@bob", "content": "x".repeat(2 << 20)})),
        ("check_messages", json!({"cursor": long})),
        ("check_messages", json!({"limit": long})),
        ("wait_for_message", json!({ &long: 1 })),
        ("list_agents", json!({"include_offline": long})),
        ("reply", json!({"message_id": long, "content": "x"})),
        ("who_has", json!({"path": format!("../{long}")})),
        ("set_status", json!({"intent": "x", &long: 1})),
        ("brief", json!({ &long: 1 })),
    ] {
        ann.refused(tool, arguments);
        assert!(ann.bytes <= MOST_BYTES_OF_ERROR, "{tool}: {} bytes", ann.bytes);
    }
    for (method, params) in [
        ("tools/call", json!({"name": long, "arguments": {}})),
        ("resources/read", json!({"uri": long})),
        ("resources/read", json!({"uri": format!("thrum://message/{long}")})),
        (long.as_str(), json!({})),
    ] {
        let error = ann.ask(method, params)["error"].clone();
        assert!(error.is_object() && ann.bytes <= MOST_BYTES_OF_ERROR, "{} bytes", ann.bytes);
    }
}

/// Mail in a result that a client did not take, because it died or cancelled the call, stays unread.
#[test]
fn mail_that_was_not_written_to_the_client_stays_unread() {
    let repo = two();
    let mut bob = Client::of(&repo, "bob");
    let waiting = bob.send("tools/call", json!({"name": "wait_for_message", "arguments": {"timeout": 50}}));
    bob.write(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": waiting}}));
    // The reply to this later call shows that the waiting call is over.
    assert_eq!(bob.done("check_messages", json!({}))["status"], "empty");
    let mut ann = Client::of(&repo, "ann");
    ann.done("send_message", json!({"to": "@bob", "content": "for a living client"}));
    assert_eq!(contents(&bob.done("check_messages", json!({"peek": true}))["messages"]), ["for a living client"]);
    assert!(bob.heard.iter().all(|message| message["id"] != waiting), "{:?}", bob.heard);

    let mut dead = Client::of(&repo, "bob");
    // From now on no process reads the output of this server.
    drop(std::mem::replace(&mut dead.output, closed()));
    dead.send("tools/call", json!({"name": "check_messages", "arguments": {}}));
    assert!(dead.end(), "the end of its input ends it");
    assert_eq!(contents(&bob.done("check_messages", json!({}))["messages"]), ["for a living client"]);
}

#[test]
fn at_the_end_of_its_input_a_server_ends_its_waits_and_answers_pending_calls() {
    let repo = two();
    let wait = json!({"name": "wait_for_message", "arguments": {"timeout": 50}});
    let mut bob = Client::of(&repo, "bob");
    let waiting = bob.send("tools/call", wait.clone());
    drop(bob.input.take());
    assert_eq!(bob.answer(waiting)["result"]["structuredContent"]["status"], "timeout");
    assert!(bob.end());
    repo.thrum(&["send", "to nobody there", "--to", "@bob", "--as", "ann"]).ok();
    assert_eq!(
        repo.json(&["inbox", "--as", "bob", "--unread"])["messages"].as_array().unwrap().len(),
        1,
        "nothing took it"
    );

    for (tool, field) in [("wait_for_message", "/message/content"), ("check_messages", "/messages/0/content")] {
        let mut bob = Client::of(&repo, "bob");
        let asked = bob.send("tools/call", json!({"name": tool, "arguments": {}}));
        drop(bob.input.take());
        let answer = bob.answer(asked)["result"]["structuredContent"].clone();
        assert_eq!(answer.pointer(field), Some(&"to nobody there".into()), "{tool}: {answer}");
        assert!(bob.end());
        assert_eq!(repo.json(&["inbox", "--as", "bob", "--unread"])["messages"], json!([]), "{tool} has marked it");
        repo.thrum(&["send", "to nobody there", "--to", "@bob", "--as", "ann"]).ok();
    }
}

#[test]
fn calls_side_by_side_return_each_message_once() {
    let repo = two();
    let (mut ann, mut bob) = (Client::of(&repo, "ann"), Client::of(&repo, "bob"));
    let mut send = |content: &str| ann.done("send_message", json!({"to": "@bob", "content": content}));
    let texts = ["0", "1", "2", "3", "4"];
    texts.iter().for_each(|content| drop(send(content)));
    let check = json!({"name": "check_messages", "arguments": {}});
    for _ in 0..4 {
        bob.send("tools/call", check.clone());
    }
    let heard = |line: &Value| -> Vec<String> {
        contents(&line["result"]["structuredContent"]["messages"]).into_iter().map(str::to_owned).collect()
    };
    let answers: Vec<Value> = (0..4).map(|_| bob.line().unwrap()).collect();
    assert_eq!(answers.iter().flat_map(heard).collect::<Vec<_>>(), texts, "{answers:?}");

    // Of two calls that wait, one gets the first message and the other one the next.
    for _ in 0..2 {
        bob.send("tools/call", json!({"name": "wait_for_message", "arguments": {"timeout": 50}}));
    }
    for content in ["first", "second"] {
        send(content);
        let answer = bob.line().unwrap();
        assert_eq!(answer["result"]["structuredContent"]["message"]["content"], content, "{answer}");
    }

    // This also holds for calls that are cancelled while the server handles them: a later call returns what was not
    // written.
    let mut expected: Vec<String> = (0..20).map(|number| format!("{number:02}")).collect();
    for content in &expected {
        send(content);
        let cancelled = bob.send("tools/call", check.clone());
        bob.write(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": cancelled}}));
    }
    bob.heard.clear();
    let last = bob.send("tools/call", check);
    let last = bob.answer(last);
    let mut all: Vec<String> = bob.heard.iter().chain([&last]).flat_map(heard).collect();
    // One call returns at most ten messages.
    all.extend(contents(&bob.done("check_messages", json!({"limit": 50}))["messages"]).into_iter().map(str::to_owned));
    all.sort_unstable();
    expected.sort_unstable();
    assert_eq!(all, expected);
}

/// Returns the standard output of a process that has ended.
fn closed() -> BufReader<ChildStdout> {
    let mut child = std::process::Command::new("true").stdout(Stdio::piped()).spawn().unwrap();
    child.wait().unwrap();
    BufReader::new(child.stdout.take().unwrap())
}

#[test]
fn wrong_arguments_are_answered_with_the_expected_ones() {
    let repo = two();
    let mut ann = Client::of(&repo, "ann");
    for (tool, arguments, words) in [
        ("send_message", json!({"to": 3, "content": "x"}), "integer `3`"),
        ("send_message", json!({"content": "x"}), "`to`"),
        ("send_message", json!({"to": "@bob", "content": "x", "urgent": true}), "`urgent`"),
        ("send_message", json!({"to": "", "content": "x"}), "no recipient"),
        ("send_message", json!({"to": "@everyone, @bob", "content": "x"}), "not both"),
        ("send_message", json!({"to": "@nobody", "content": "x"}), "@nobody"),
        ("send_message", json!({"to": "@nobody", "content": "x"}), "list_agents"),
        ("send_message", json!({"to": "@bob", "content": " "}), "content is empty"),
        ("check_messages", json!({"limit": "many"}), "check_messages takes limit (integer, optional)"),
        ("wait_for_message", json!({"timeout": -1}), "-1"),
        ("reply", json!({"message_id": "msg_none", "content": "x"}), "msg_none"),
        ("reply", json!({"message_id": "", "content": "x"}), "message_id is empty"),
        ("reply", json!({"message_id": "msg_none", "content": ""}), "content is empty"),
        ("who_has", json!({"path": "../elsewhere"}), "is not inside"),
        ("who_has", json!({"path": ""}), "path is empty"),
        ("set_status", json!({}), "neither"),
        ("brief", json!({"for": "bob"}), "brief takes nothing"),
    ] {
        let said = ann.refused(tool, arguments.clone());
        assert!(said.contains(words), "{tool} {arguments}: {said}");
        assert!(!said.contains("--"), "a tool has no options of a command: {tool} {arguments}: {said}");
    }
    // JSON Schema counts a number without a fraction as an integer, in any notation.
    for (tool, name) in [("check_messages", "limit"), ("wait_for_message", "timeout")] {
        assert!(ann.refused(tool, json!({name: 5.5})).contains("5.5"));
        assert!(ann.refused(tool, json!({name: -1.0})).contains("-1"));
    }
    assert_eq!(ann.done("check_messages", json!({"limit": 5.0}))["status"], "empty");
    assert_eq!(ann.done("check_messages", json!({"limit": 1e300}))["status"], "empty");
    assert_eq!(ann.done("wait_for_message", json!({"timeout": 0.0}))["status"], "timeout");
    // Models send null for parameters that they leave out.
    assert_eq!(ann.done("check_messages", json!({"limit": null}))["status"], "empty");
    let unknown = ann.ask("tools/call", json!({"name": "no_such_tool", "arguments": {}}));
    assert!(unknown["error"]["message"].as_str().unwrap().contains("check_messages"), "{unknown}");

    let heard = instead_of_daemon(&repo, 4, |_| None);
    let said = ann.refused("send_message", json!({"to": "@bob", "content": "x"}));
    assert!(said.contains("Call again with idempotency_key ") && !said.contains("--"), "{said}");
    let said = ann.refused("reply", json!({"message_id": "msg_1", "content": "x"}));
    assert!(said.contains("look whether it was stored") && !said.contains("--"), "{said}");
    heard.join().unwrap();
}

#[test]
fn malformed_parameters_are_answered_with_the_expected_ones() {
    let repo = two();
    let mut client = Client::of(&repo, "ann");
    for (method, params, words) in [
        ("tools/call", json!({"name": "brief", "arguments": []}), "arguments (object)"),
        ("tools/call", json!({"name": 1}), "name (string)"),
        ("tools/call", json!({}), "name (string)"),
        ("resources/read", json!({}), "uri (string)"),
        ("initialize", json!({}), "protocolVersion (string)"),
    ] {
        let error = client.ask(method, params.clone())["error"].clone();
        let said = error["message"].as_str().unwrap_or_default();
        assert!(error["code"] == -32602 && said.contains(words) && said.contains(method), "{method} {params}: {error}");
    }
    assert_eq!(client.ask("thrum/nothing", json!({}))["error"]["code"], -32601);
    assert_eq!(client.done("brief", json!({}))["you"]["name"], "ann", "it serves on");
}

/// Models send an empty text for parameters that they leave out. As a cursor it would skip all unread mail.
#[test]
fn an_optional_parameter_that_is_an_empty_text_counts_as_absent() {
    let repo = two();
    let mut ann = Client::of(&repo, "ann");
    let mut bob = Client::of(&repo, "bob");
    for content in ["one", "two"] {
        let optional = json!({"to": "@bob", "content": content, "reply_to": "", "metadata": "", "idempotency_key": ""});
        ann.done("send_message", optional);
    }
    let read = bob.done("check_messages", json!({"cursor": "", "limit": "", "peek": ""}));
    assert_eq!(contents(&read["messages"]), ["one", "two"], "two messages with the same empty key are two");
    assert_eq!(bob.done("list_agents", json!({"include_offline": ""}))["count"], 2);
    ann.done("send_message", json!({"to": "@bob", "content": "three"}));
    assert_eq!(bob.done("wait_for_message", json!({"timeout": ""}))["message"]["content"], "three");
    // A parameter for which an empty text has a meaning keeps it.
    bob.done("set_status", json!({"intent": "tests", "task": "T-1"}));
    assert_eq!(bob.done("set_status", json!({"intent": ""}))["intent"], "");
    let you = bob.done("brief", json!({}))["you"].clone();
    assert!(you["intent"].as_str().is_none_or(str::is_empty) && you["task"] == "T-1", "{you}");
}

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

/// The server's library starts calls concurrently; messages must still be sent in the order of the calls.
#[test]
fn messages_that_are_sent_without_waiting_keep_their_order() {
    let repo = two();
    let mut ann = Client::of(&repo, "ann");
    let texts: Vec<String> = (0..30).map(|number| format!("{number:02}")).collect();
    let send = |text: &String| json!({"name": "send_message", "arguments": {"to": "@bob", "content": text}});
    let ids: Vec<u64> = texts.iter().map(|text| ann.send("tools/call", send(text))).collect();
    let mut left = ids.len();
    while left > 0 {
        left -= usize::from(ann.line().unwrap()["result"]["isError"] == false);
    }
    let sent = repo.json(&["sent", "--as", "ann", "--limit", "30"]);
    let mut heard: Vec<&str> =
        sent["messages"].as_array().unwrap().iter().map(|it| it["body"]["content"].as_str().unwrap()).collect();
    heard.reverse();
    assert_eq!(heard, texts);
}

#[test]
fn a_send_that_is_repeated_with_its_key_is_stored_once() {
    let repo = two();
    let mut ann = Client::of(&repo, "ann");
    let mut send = || {
        ann.done("send_message", json!({"to": "@bob", "content": "once", "idempotency_key": "k1"}))["message_id"]
            .clone()
    };
    assert_eq!(send(), send());
    assert_eq!(repo.json(&["inbox", "--as", "bob"])["total"], 1);
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
fn mail_from_another_machine_wakes_a_waiting_call_and_shows_its_machine() {
    let (left, right) = paired();
    let mut bob = Client::of(&right, "bob");
    let waiting = bob.send("tools/call", json!({"name": "wait_for_message", "arguments": {}}));
    let mut ann = Client::of(&left, "ann");
    let sent = ann.done("send_message", json!({"to": "@bob@right", "content": "over there?"}));
    assert_eq!(sent["recipients"][0]["agent"], "@bob@right");
    let woken = &bob.answer(waiting)["result"]["structuredContent"];
    let message = &woken["message"];
    assert_eq!(
        (&message["from"], &message["machine"], &message["signed"]),
        (&"@ann@left".into(), &"left".into(), &true.into()),
        "{woken}"
    );
    let answered =
        bob.done("send_message", json!({"to": message["from"], "content": "here", "reply_to": message["message_id"]}));
    assert_eq!(answered["recipients"][0]["agent"], "@ann@left");
}

/// Records that a session belongs to this agent, as the session's start hook does.
fn session_is(repo: &TestRepo, session: &str, agent: &str) {
    let payload = json!({"session_id": session, "hook_event_name": "SessionStart"}).to_string();
    repo.thrum_with_input(payload.as_bytes(), &["hook", "start", "--host", "codex", "--as", agent]).ok();
}

#[test]
fn a_call_acts_as_the_agent_of_its_session_regardless_of_the_servers_environment() {
    let repo = two();
    session_is(&repo, "s1", "bob");
    // Codex passes the environment of its first terminal to every server.
    let mut server = Client::named_by_variable(&repo, "ann").in_codex("s1", "s1");
    assert_eq!(server.done("brief", json!({}))["you"]["name"], "bob");
    repo.thrum(&["send", "for bob", "--to", "@bob", "--as", "ann"]).ok();
    repo.thrum(&["send", "for ann", "--to", "@ann", "--as", "bob"]).ok();
    assert_eq!(contents(&server.done("check_messages", json!({}))["messages"]), ["for bob"]);
    let sent = server.done("send_message", json!({"to": "@ann", "content": "who wrote this?"}));
    let wrote = repo.json(&["message", "get", sent["message_id"].as_str().unwrap(), "--as", "ann"]);
    assert_eq!(wrote["message"]["author"]["agent_id"], "bob");
    // One process may serve several sessions. A session that is not known yet acts as the agent that the environment
    // names.
    let mut server = server.in_codex("s2", "s2");
    assert_eq!(server.done("brief", json!({}))["you"]["name"], "ann");
    session_is(&repo, "s2", "bob");
    assert_eq!(server.done("brief", json!({}))["you"]["name"], "bob");
}

#[test]
fn a_sub_agent_leaves_the_mail_to_the_session_that_it_works_for() {
    let repo = two();
    session_is(&repo, "s1", "bob");
    let mut sub_agent = Client::named_by_variable(&repo, "ann").in_codex("s1", "t2");
    assert_eq!(sub_agent.done("brief", json!({}))["you"]["name"], "bob", "it speaks for the session");
    repo.thrum(&["send", "one", "--to", "@bob", "--as", "ann"]).ok();
    let seen = sub_agent.done("check_messages", json!({}));
    assert_eq!(
        (contents(&seen["messages"]), seen["note"].as_str().unwrap().contains("stays unread")),
        (vec!["one"], true)
    );
    assert_eq!(contents(&sub_agent.done("check_messages", json!({}))["messages"]), ["one"]);
    // A waiting sub-agent gets only mail that arrives from now on. Otherwise the same unread mail would end every wait.
    assert_eq!(sub_agent.done("wait_for_message", json!({"timeout": 0}))["status"], "timeout");
    let waiting = sub_agent.send("tools/call", json!({"name": "wait_for_message", "arguments": {"timeout": 50}}));
    // The call may not wait yet when the first message is sent, but it does when one of the later messages is.
    let is_woken = AtomicBool::new(false);
    let (woken, sent) = thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let (mut ann, mut sent) = (Client::of(&repo, "ann"), 0);
            while !is_woken.load(Ordering::Relaxed) {
                ann.done("send_message", json!({"to": "@bob", "content": "two"}));
                sent += 1;
            }
            sent
        });
        let woken = sub_agent.answer(waiting);
        is_woken.store(true, Ordering::Relaxed);
        (woken, sending.join().unwrap())
    });
    assert_eq!(woken["result"]["structuredContent"]["message"]["content"], "two");
    let mut session = Client::named_by_variable(&repo, "ann").in_codex("s1", "s1");
    let mut ann = Client::of(&repo, "ann");
    let mut left = 0;
    while left < 1 + sent {
        let page = session.done("check_messages", json!({"limit": 50}));
        assert_eq!(page["status"], "messages", "all of it is the session's: {left} of {sent} and one");
        left += page["messages"].as_array().unwrap().len();
    }
    // This call starts only after the messages returned above have been marked as read.
    assert_eq!(session.done("check_messages", json!({}))["status"], "empty");
    // Unless the call asks for mail to be marked as read.
    ann.done("send_message", json!({"to": "@bob", "content": "three"}));
    assert_eq!(contents(&sub_agent.done("check_messages", json!({"peek": false}))["messages"]), ["three"]);
    // This call starts only after the message returned above has been marked as read.
    assert_eq!(sub_agent.done("check_messages", json!({}))["status"], "empty");
    assert_eq!(session.done("check_messages", json!({}))["status"], "empty");
}

#[test]
fn resources_show_mail_and_leave_it_unread() {
    let repo = two();
    let mut ann = Client::of(&repo, "ann");
    ann.done("send_message", json!({"to": "@bob", "content": "look"}));
    let mut bob = Client::of(&repo, "bob");
    let listed = bob.ask("resources/list", json!({}));
    for resource in listed["result"]["resources"].as_array().unwrap() {
        let read = bob.ask("resources/read", json!({"uri": resource["uri"]}));
        let held: Value = serde_json::from_str(read["result"]["contents"][0]["text"].as_str().unwrap()).unwrap();
        assert!(held.is_object(), "{read}");
        if resource["name"] == "inbox" {
            assert_eq!((&held["unread"], &held["messages"][0]["content"]), (&1.into(), &"look".into()));
        }
    }
    assert_eq!(bob.done("check_messages", json!({}))["messages"].as_array().unwrap().len(), 1);
    let unknown = bob.ask("resources/read", json!({"uri": "file:///etc/passwd"}));
    assert!(unknown["error"]["message"].as_str().unwrap().contains("thrum://inbox"), "{unknown}");
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
