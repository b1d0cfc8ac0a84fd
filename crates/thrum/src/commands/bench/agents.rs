//! `thrum bench --agents`: what the mailbox costs a program that runs agents, in bytes and in time.
//!
//! Two daemons are paired over the local transport. `ann` writes on one. `bob`, on the other, is an agent in a session
//! of Claude Code; this process runs its hooks and MCP server as that program would. The time of a hook is that of the
//! whole command, from the start of the process to its end.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{self, Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind};

use super::{
    figures::Figures,
    ours,
    work::{Agent, Daemon},
};
use crate::{
    commands::demo::{
        failed,
        latency::{self, Times},
        stage::{Stage, StagedRepo},
    },
    hook::host::{Event, Host},
    mcp::client::Client,
};

/// Minimum number of repetitions.
const LEAST: usize = 10;

/// Maximum number of repetitions.
const MOST: usize = 300;

/// Maximum number of wakes that are measured.
const WAKES: usize = 40;

/// Time limit for all calls to the MCP server.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long a waiter gets to reach the daemon before a message is sent.
const SETTLED: Duration = Duration::from_millis(150);

/// How long the idle server is measured.
const IDLE: Duration = Duration::from_secs(3);

/// The message that is sent: a question of typical length.
const MESSAGE: &str = "The login form now validates e-mail addresses on the server as well. Could you look at src/login.rs before I merge it? \
                       The tests pass; I am not sure about the redirect after an error.";

pub(super) fn measure(stage: &Stage, number: usize, step: &impl Fn(&str), figures: &mut Figures) -> Result<(), Error> {
    let number = number.clamp(LEAST, MOST);
    let (left, right) = (stage.repository("left")?, stage.repository("right")?);
    left.run(&["quickstart", "--name", "ann", "--role", "writer", "--module", "bench"])?;
    right.run(&["quickstart", "--name", "bob", "--role", "reader", "--module", "bench"])?;
    ours::pair(left.connect()?, right.connect()?, "local")?;
    let ann = Agent::of(&left, "ann", "bob")?;
    let mut office =
        Office { ann, sending: left.connect()?, watching: latency::watch(right.connect()?)?, place: &right };

    step("what an agent is told");
    let mut server = mcp(&right)?;
    figures.cost("tools/list", asked(&mut server, "tools/list", &json!({}))?.1);
    figures.cost("instructions of the MCP server", server.server["instructions"].as_str().unwrap_or_default().len());
    office.write(3)?;
    let brief = office.hook(Event::Start, &json!({"source": "startup"}))?;
    figures.cost("briefing, 3 messages unread", text_for_model(&brief).len());
    office.write(1)?;
    figures.cost(
        "mail with a prompt, 1 message",
        text_for_model(&office.hook(Event::Prompt, &json!({"prompt": "go on"}))?).len(),
    );
    office.write(10)?;
    let page = call(&mut server, "check_messages", &json!({}))?;
    figures.cost("check_messages, 10 messages, as text", page["content"][0]["text"].as_str().unwrap_or_default().len());
    figures.cost("check_messages, 10 messages, as data", page["structuredContent"].to_string().len());
    while call(&mut server, "check_messages", &json!({}))?["structuredContent"]["status"] != "empty" {}
    office.hook(Event::Stop, &json!({"stop_hook_active": false}))?;

    step("hooks");
    figures.times("thrum version, as a whole command", &ours::commands(&right, &["version"], number)?);
    for (event, payload) in
        [(Event::Prompt, json!({"prompt": "go on"})), (Event::Stop, json!({"stop_hook_active": false}))]
    {
        figures.times(
            &format!("hook {} without news, as a whole command", event.name()),
            &office.hooks(event, &payload, number)?,
        );
    }

    step("the MCP server");
    let mut calls = |name: &str, arguments: &Value| -> Result<Times, Error> {
        let one = |_| {
            let began = Instant::now();
            call(&mut server, name, arguments)?;
            Ok(began.elapsed())
        };
        Ok(Times::new((0..number).map(one).collect::<Result<_, Error>>()?))
    };
    let send = json!({"to": "@ann@left", "content": MESSAGE});
    figures.times("tools/call send_message", &calls("send_message", &send)?);
    figures.times("tools/call check_messages, none", &calls("check_messages", &json!({}))?);
    let before = ours::cpu(server.pid());
    thread::sleep(IDLE);
    figures.idle(
        "thrum mcp serve, idle",
        ours::cpu(server.pid()).zip(before).map(|(after, before)| after.saturating_sub(before)),
        IDLE,
    );
    figures.memory("thrum mcp serve, memory", ours::resident(server.pid()));
    figures.memory("thrum mcp serve, memory without its code", ours::private(server.pid()));
    server.end();

    step("waking");
    let (text, times) = office.wakes(number.min(WAKES))?;
    figures.cost("text that wakes a session, 1 message", text.len());
    figures.times("sent on one daemon, the waiter's text printed on the other", &times);

    step("hooks without a daemon");
    right.run(&["daemon", "stop"])?;
    figures.times(
        "hook prompt, no daemon, as a whole command",
        &office.hooks(Event::Prompt, &json!({"prompt": "go on"}), number)?,
    );
    Ok(())
}

/// A session of the agent `bob`, and the agent `ann`, which writes to `bob` from the other daemon.
struct Office<'a> {
    ann: Agent,
    sending: crate::client::Client,
    watching: crate::client::Client,
    place: &'a StagedRepo,
}

impl Office<'_> {
    /// Sends `number` messages to `bob` and waits until each has arrived.
    fn write(&mut self, number: usize) -> Result<(), Error> {
        for _ in 0..number {
            let sent = self.ann.send_text(&mut self.sending, MESSAGE)?;
            latency::arrival(&mut self.watching, "message.create", &sent.message_id)?;
        }
        Ok(())
    }

    /// Starts a hook of the session and writes its payload.
    fn begin(&self, event: Event, payload: &Value) -> Result<Child, Error> {
        let mut all =
            json!({"session_id": "bench", "cwd": self.place.dir, "hook_event_name": Host::Claude.event_name(event)});
        if let (Some(all), Some(payload)) = (all.as_object_mut(), payload.as_object()) {
            all.extend(payload.clone());
        }
        let mut command = self.place.command(&["hook", &event.name(), "--host", &Host::Claude.name()])?;
        // The waiter watches its agent's program, which is this process.
        command
            .env("CLAUDE_PID", process::id().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed("start a hook"))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(all.to_string().as_bytes()).map_err(failed("write to a hook"))?;
        }
        Ok(child)
    }

    /// Runs a hook and returns its output.
    fn hook(&self, event: Event, payload: &Value) -> Result<String, Error> {
        let output = self.begin(event, payload)?.wait_with_output().map_err(failed("run a hook"))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn hooks(&self, event: Event, payload: &Value, number: usize) -> Result<Times, Error> {
        let one = |_| {
            let began = Instant::now();
            let said = self.hook(event, payload)?;
            let took = began.elapsed();
            if said.is_empty() {
                Ok(took)
            } else {
                Err(Error::new(ErrorKind::Failed, format!("hook {} had something to say: {said}", event.name())))
            }
        };
        (0..number).map(one).collect::<Result<_, _>>().map(Times::new)
    }

    /// Wakes the idle session `number` times. Returns the first text, and how long each wake took from the request on
    /// the other daemon.
    fn wakes(&mut self, number: usize) -> Result<(String, Times), Error> {
        let (mut first, mut times) = (String::new(), Vec::with_capacity(number));
        for _ in 0..number {
            let mut waiter = Waiter(self.begin(Event::Wait, &json!({"source": "startup"}))?);
            thread::sleep(SETTLED);
            let began = Instant::now();
            self.ann.send_text(&mut self.sending, MESSAGE)?;
            let text = waiter.text(&mut times, began)?;
            if first.is_empty() {
                first.clone_from(&text);
            }
            // The turn that the wake starts, and its end.
            self.hook(Event::Prompt, &json!({"prompt": format!("<task-notification>\n{text}")}))?;
            self.hook(Event::Stop, &json!({"stop_hook_active": true}))?;
        }
        Ok((first, Times::new(times)))
    }
}

/// A running waiter, which is killed on drop.
struct Waiter(Child);

impl Waiter {
    /// Returns what the waiter writes to standard error. Adds the time from `began` to its first line to `times`.
    fn text(&mut self, times: &mut Vec<Duration>, began: Instant) -> Result<String, Error> {
        let Some(stderr) = self.0.stderr.take() else { return Ok(String::new()) };
        let (mut stderr, mut text) = (BufReader::new(stderr), String::new());
        stderr.read_line(&mut text).map_err(failed("read from a hook"))?;
        times.push(began.elapsed());
        stderr.read_to_string(&mut text).map_err(failed("read from a hook"))?;
        if text.is_empty() {
            Err(Error::new(ErrorKind::Failed, "the waiter ended without an answer"))
        } else {
            Ok(text)
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The text for the model in a hook's answer.
fn text_for_model(answer: &str) -> String {
    let answer: Value = serde_json::from_str(answer).unwrap_or_default();
    answer["hookSpecificOutput"]["additionalContext"].as_str().unwrap_or_default().to_owned()
}

fn mcp(place: &StagedRepo) -> Result<Client, Error> {
    Client::start(&mut place.command(&["mcp", "serve"])?, PATIENCE).map_err(of_server)
}

fn asked(server: &mut Client, method: &str, params: &Value) -> Result<(Value, usize), Error> {
    server.ask(method, params).map_err(of_server)
}

/// Calls a tool and returns its result.
fn call(server: &mut Client, name: &str, arguments: &Value) -> Result<Value, Error> {
    let (result, _) = asked(server, "tools/call", &json!({"name": name, "arguments": arguments}))?;
    if result["isError"] == true { Err(of_server(result["content"][0]["text"].to_string())) } else { Ok(result) }
}

fn of_server(why: String) -> Error {
    Error::new(ErrorKind::Failed, format!("the MCP server: {why}"))
}
