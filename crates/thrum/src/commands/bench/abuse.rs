//! `thrum bench --abuse`: what a hostile paired peer costs the agents of this machine.
//!
//! Each case is a daemon of its own, which reads the peer's log while an agent here sends one message after the other. What counts
//! is how long the agent waits, and the most memory that the daemon ever had.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use thrum_core::Fault;

use super::{
    figures::Figures,
    hostile::{self, Log},
    ours,
    work::{Agent, Daemon},
};
use crate::commands::demo::{
    latency::Times,
    stage::{Place, Stage},
};

/// Between two messages of the agent.
const PAUSE: Duration = Duration::from_millis(5);

/// A case is measured for so long at least, however fast the peer is read.
const LEAST: Duration = Duration::from_secs(3);

/// And no longer.
const MOST: Duration = Duration::from_secs(120);

/// How a case is called, what the peer serves, and what is asked of the daemon meanwhile.
struct Case {
    name: &'static str,
    /// The name of its repository.
    place: &'static str,
    log: fn() -> Log,
    asks: &'static [&'static str],
}

const CASES: [Case; 6] = [
    Case { name: "a peer with nothing to say", place: "silent", log: Log::default, asks: &[] },
    Case { name: "60,000 receipts, then their message", place: "receipts", log: receipts, asks: &[] },
    Case { name: "1,000 agents and 2,000 messages to everyone", place: "crowd", log: crowd, asks: &["team.list"] },
    Case {
        name: "30 work contexts of 3.2 MB",
        place: "contexts",
        log: contexts,
        asks: &["team.list", "team.list", "team.list", "team.list", "agent.listContext"],
    },
    Case { name: "120,000 edits of a message and earlier creations", place: "edits", log: edits, asks: &[] },
    Case {
        name: "messages of a megabyte of control characters",
        place: "characters",
        log: control_characters,
        asks: &["message.list", "message.wait"],
    },
];

fn mail(id: &str, content: &str) -> Value {
    json!({"message_id": id, "agent_id": "eve", "body": {"format": "plain", "content": content}, "recipients": ["ann"],
        "refs": [{"type": "mention", "value": "ann"}]})
}

fn receipts() -> Log {
    let mut log = Log::default();
    for n in 0..60_000 {
        log.add("message.receipt", 2, json!({"message_id": "msg_late", "agent_id": format!("reader{n}"), "receipt_type": "read"}));
    }
    log.add("message.create", 1, mail("msg_late", "here at last"));
    log
}

fn crowd() -> Log {
    let mut log = Log::default();
    for n in 0..1_000 {
        log.add("agent.register", 1, json!({"agent_id": format!("one{n}"), "kind": "agent", "role": "crowd", "module": format!("m{n}")}));
    }
    for n in 0..2_000 {
        let everyone = json!([{"type": "group", "value": "everyone"}]);
        log.add(
            "message.create",
            2,
            json!({"message_id": format!("msg_{n}"), "agent_id": "one1", "body": {"content": "hear me"}, "scopes": everyone}),
        );
    }
    log
}

fn contexts() -> Log {
    let mut log = Log::default();
    let files: Vec<String> = (0..3_200).map(|n| format!("{n:04}/{}", "x".repeat(990))).collect();
    for n in 0..30 {
        let (agent, session) = (format!("one{n}"), format!("ses_{n}"));
        log.add("agent.register", 1, json!({"agent_id": agent, "kind": "agent", "role": "hoarder", "module": "m"}));
        log.add("agent.session.start", 2, json!({"session_id": session, "agent_id": agent}));
        log.add("agent.update", 3, json!({"agent_id": agent, "work_contexts": [{"session_id": session, "uncommitted_files": files}]}));
    }
    log
}

fn edits() -> Log {
    let mut log = Log::default();
    log.add("message.create", 100_000, mail("msg_often", "first"));
    for n in 0..120_000 {
        log.add("message.edit", 100_001, json!({"message_id": "msg_often", "body": {"content": format!("edit {n}")}}));
    }
    for n in 0..20 {
        log.add("message.create", 99_999 - n, mail("msg_often", "earlier"));
    }
    log
}

fn control_characters() -> Log {
    let mut log = Log::default();
    for n in 0..10 {
        log.add("message.create", 1, mail(&format!("msg_{n}"), &"\u{1}".repeat(1 << 20)));
    }
    log
}

/// Measures every case.
///
/// # Errors
/// A daemon that cannot be started, or that does not take a message.
pub(super) fn measure(stage: &Stage, step: &dyn Fn(&str), figures: &mut Figures) -> Result<(), Fault> {
    for Case { name, place, log, asks } in &CASES {
        step(name);
        let place = stage.repository(place)?;
        place.run(&["quickstart", "--name", "ann", "--role", "writer", "--module", "bench"])?;
        ours::agent(&place, "bea")?;
        let (agent, log) = (Agent::of(&place, "ann", "bea")?, log());
        let events = log.len();
        hostile::join(&place, log)?;
        let began = Instant::now();
        let (times, read) = thread::scope(|scope| {
            let asking: Vec<_> = asks.iter().map(|method| scope.spawn(|| ask_again_and_again(&place, method, began))).collect();
            let outcome = send_until_read(&place, &agent, events, began);
            for asked in asking {
                asked.join().unwrap_or(Ok(()))?;
            }
            outcome
        })?;
        figures.times(&format!("send while: {name}"), &Times::new(times));
        figures.memory("    most memory of the daemon", peak(&place)?);
        match read {
            Some(took) if events > 0 => figures.took("    read to the end", took),
            Some(_) => {}
            None => figures.took("    not read to the end within", MOST),
        }
        place.run(&["daemon", "stop"])?;
    }
    Ok(())
}

/// One message after the other until the peer is read to its end; how long each took, and when that was.
fn send_until_read(place: &Place, agent: &Agent, events: usize, began: Instant) -> Result<(Vec<Duration>, Option<Duration>), Fault> {
    let (mut sending, mut looking) = (agent.connect()?, place.connect()?);
    let (mut times, mut read, mut looked) = (Vec::new(), None, Instant::now());
    while began.elapsed() < MOST && (read.is_none() || began.elapsed() < LEAST) {
        let sent = Instant::now();
        agent.send(&mut sending)?;
        times.push(sent.elapsed());
        if read.is_none() && looked.elapsed() > Duration::from_millis(200) {
            looked = Instant::now();
            let peers: Value = looking.call("peer.list", json!({}))?;
            let upto = peers[0]["last_synced_seq"].as_u64().unwrap_or(0);
            let is_stopped = peers[0]["state"] == "over_quota";
            if upto >= events as u64 || is_stopped {
                read = Some(began.elapsed());
            }
        }
        thread::sleep(PAUSE);
    }
    Ok((times, read))
}

/// What others ask of the daemon meanwhile.
fn ask_again_and_again(place: &Place, method: &str, began: Instant) -> Result<(), Fault> {
    let mut client = place.connect()?;
    let params = json!({"include_offline": true, "caller_agent_id": "ann", "for_agent": "ann", "timeout_ms": 100});
    while began.elapsed() < LEAST {
        client.call::<Value>(method, params.clone())?;
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// The most resident memory that the daemon ever had. `None` where the system has no `/proc`.
fn peak(place: &Place) -> Result<Option<u64>, Fault> {
    let Ok(status) = fs::read_to_string(format!("/proc/{}/status", ours::health(place)?.pid)) else { return Ok(None) };
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kilobytes.map(|kilobytes| kilobytes * 1024))
}
