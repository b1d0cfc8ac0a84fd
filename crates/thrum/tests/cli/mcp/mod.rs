//! `thrum mcp serve`, driven line by line as an MCP client does. Tests with third-party client libraries are in
//! `tests/mcp/`.

mod mail;
mod protocol;
mod server;
mod session;

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use serde_json::{Value, json};

use crate::common::TestRepo;

/// An MCP client with its own server process.
pub(crate) struct Client {
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

    /// Starts this server without initializing it.
    pub(crate) fn run(mut command: std::process::Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output, last_id: 0, bytes: 0, heard: Vec::new(), meta: None }
    }

    /// Starts the server of this agent and initializes it.
    pub(crate) fn of(repo: &TestRepo, agent: &str) -> Self {
        let mut client = Self::start(repo, agent);
        client.initialize("2025-11-25");
        client
    }

    pub(crate) fn initialize(&mut self, version: &str) -> Value {
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

    pub(crate) fn call(&mut self, tool: &str, arguments: Value) -> Value {
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
    pub(crate) fn end(mut self) -> bool {
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

pub(crate) fn text(result: &Value) -> String {
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
