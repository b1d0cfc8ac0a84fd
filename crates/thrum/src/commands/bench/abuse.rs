//! `thrum bench --abuse`: what a hostile paired peer costs the agents of this machine.
//!
//! Each case starts its own daemon, which reads the peer's log while a local agent sends one message after the other.
//! The figures are how long the agent waits, and the daemon's peak memory.
//!
//! The peer and the clients share the cores with the daemon. A control measures what that alone costs the agent: the
//! same messages go to an idle daemon, while threads of this process use as much processor time and write as much to
//! the same disk as the case did.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    os::unix::{fs::FileExt, net::UnixStream},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind, limits};

use super::{
    figures::{Ended, Figures},
    hostile::{self, Log},
    ours,
    work::{Agent, Daemon},
};
use crate::commands::demo::{
    failed,
    latency::Times,
    stage::{Stage, StagedRepo},
};

/// Pause between two messages of the agent, and between two calls of a client.
const PAUSE: Duration = Duration::from_millis(5);

/// Minimum duration of a case, even if the peer is read faster; also how long clients call and the control lasts.
const LEAST: Duration = Duration::from_secs(3);

/// Maximum duration of a case.
const MOST: Duration = Duration::from_secs(120);

/// The name of a case, the log that the peer serves, and the methods that clients call meanwhile.
struct Case {
    name: &'static str,
    /// The name of its repository.
    place: &'static str,
    log: fn() -> Log,
    asks: &'static [&'static str],
}

const CASES: [Case; 7] = [
    Case { name: "a peer with nothing to say", place: "silent", log: Log::default, asks: &[] },
    Case { name: "45,000 receipts, then their message", place: "receipts", log: || receipts(45_000), asks: &[] },
    Case { name: "60,000 receipts, more than the quota has", place: "quota", log: || receipts(60_000), asks: &[] },
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

/// Receipts for a message that comes last. Until it arrives they are parked, and count towards
/// [`thrum_core::limits::MAX_PEER_PARKED`].
fn receipts(number: usize) -> Log {
    let mut log = Log::default();
    for n in 0..number {
        log.add(
            "message.receipt",
            2,
            json!({"message_id": "msg_late", "agent_id": format!("reader{n}"), "receipt_type": "read"}),
        );
    }
    log.add("message.create", 1, mail("msg_late", "here at last"));
    log
}

fn crowd() -> Log {
    let mut log = Log::default();
    for n in 0..1_000 {
        log.add(
            "agent.register",
            1,
            json!({"agent_id": format!("one{n}"), "kind": "agent", "role": "crowd", "module": format!("m{n}")}),
        );
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
        log.add(
            "agent.update",
            3,
            json!({"agent_id": agent, "work_contexts": [{"session_id": session, "uncommitted_files": files}]}),
        );
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
/// Fails if a daemon cannot be started or refuses a message.
pub(super) fn measure(stage: &Stage, step: &dyn Fn(&str), figures: &mut Figures) -> Result<(), Error> {
    for Case { name, place, log, asks } in &CASES {
        step(name);
        let place = stage.repository(place)?;
        place.run(&["quickstart", "--name", "ann", "--role", "writer", "--module", "bench"])?;
        ours::agent(&place, "bea")?;
        let (agent, log) = (Agent::of(&place, "ann", "bea")?, log());
        let events = log.len();
        let load = Load::begin(&place)?;
        hostile::join(&place, log)?;
        let began = Instant::now();
        let (times, ended) = thread::scope(|scope| {
            let asking: Vec<_> =
                asks.iter().map(|method| scope.spawn(|| ask_again_and_again(&place, method, began))).collect();
            let outcome = send_until_read(&place, &agent, events, began);
            for asked in asking {
                asked.join().unwrap_or(Ok(()))?;
            }
            outcome
        })?;
        let load = load.end();
        figures.times(&format!("send while: {name}"), &Times::new(times));
        figures.memory("    most memory of the daemon", ours::peak_memory(&place)?);
        if events > 0 {
            figures.read("    read", &ended, events);
        }
        place.run(&["daemon", "stop"])?;
        if let Some(load) = load.filter(|_| events > 0) {
            figures.load("    meanwhile", load.daemon, load.here, load.written);
            place.run(&["daemon", "start"])?;
            let times = send_beside_others(&place, &agent, &load, asks.len() + PEER)?;
            figures.times("    control: send while others compute and write as much", &Times::new(times));
            place.run(&["daemon", "stop"])?;
        }
    }
    Ok(())
}

/// Sends messages one after the other until the peer's log is read to its end or the quota stops it, but for at least
/// [`LEAST`] and at most [`MOST`]. Returns how long each send took, and how the reading ended.
fn send_until_read(
    place: &StagedRepo,
    agent: &Agent,
    events: usize,
    began: Instant,
) -> Result<(Vec<Duration>, Ended), Error> {
    let (mut sending, mut looking) = (agent.connect()?, place.connect()?);
    let (mut times, mut looked) = (Vec::new(), Instant::now());
    let mut ended = Ended { taken: 0, is_over_quota: false, after: None };
    while began.elapsed() < MOST && (ended.after.is_none() || began.elapsed() < LEAST) {
        let sent = Instant::now();
        agent.send(&mut sending)?;
        times.push(sent.elapsed());
        if ended.after.is_none() && looked.elapsed() > Duration::from_millis(200) {
            looked = Instant::now();
            let peers: Value = looking.call("peer.list", json!({}))?;
            ended.taken = peers[0]["last_synced_seq"].as_u64().unwrap_or(0);
            ended.is_over_quota = peers[0]["state"] == "over_quota";
            if ended.taken >= events as u64 || ended.is_over_quota {
                ended.after = Some(began.elapsed());
            }
        }
        thread::sleep(PAUSE);
    }
    Ok((times, ended))
}

/// Calls `method` repeatedly for [`LEAST`], as other clients would. Answers are read and discarded: the cost of parsing
/// them is not measured here.
fn ask_again_and_again(place: &StagedRepo, method: &str, began: Instant) -> Result<(), Error> {
    let cannot = |error: io::Error| Error::new(ErrorKind::Failed, format!("{method} was not answered: {error}"));
    let params = json!({"include_offline": true, "caller_agent_id": "ann", "for_agent": "ann", "timeout_ms": 100});
    let request = format!("{}\n", json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}));
    let stream = UnixStream::connect(place.socket()?).map_err(cannot)?;
    stream.set_read_timeout(Some(2 * limits::LOCAL_CALL)).map_err(cannot)?;
    let mut stream = BufReader::with_capacity(256 << 10, stream);
    while began.elapsed() < LEAST {
        stream.get_mut().write_all(request.as_bytes()).map_err(cannot)?;
        if stream.skip_until(b'\n').map_err(cannot)? == 0 {
            return Err(cannot(io::ErrorKind::UnexpectedEof.into()));
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Number of threads of the control besides one for each calling client: one for the peer, and one for the daemon that
/// reads it.
const PEER: usize = 2;

/// How long a thread of the control computes without a pause.
const BURST: Duration = Duration::from_millis(10);

/// Pause between two writes of the control.
const WRITE_PAUSE: Duration = Duration::from_millis(100);

/// What was used before a case began: processor time by the daemon and by this process, which plays the peer and the
/// clients, and disk writes by the daemon.
struct Load {
    pid: u32,
    began: Instant,
    daemon: Duration,
    here: Duration,
    written: u64,
}

/// The load of a case: processor use in cores, and the daemon's disk writes in bytes per second.
struct Rates {
    daemon: f64,
    here: f64,
    written: u64,
}

impl Load {
    fn begin(place: &StagedRepo) -> Result<Self, Error> {
        let pid = ours::health(place)?.pid;
        let used = |pid| ours::cpu(pid).unwrap_or_default();
        let written = written(pid).unwrap_or_default();
        Ok(Self { pid, began: Instant::now(), daemon: used(pid), here: used(std::process::id()), written })
    }

    /// Returns the load since `begin`; `None` if the system has no `/proc`.
    fn end(self) -> Option<Rates> {
        let seconds = self.began.elapsed().as_secs_f64();
        let cores = |pid, before: Duration| Some(ours::cpu(pid)?.saturating_sub(before).as_secs_f64() / seconds);
        let milliseconds = u64::try_from(self.began.elapsed().as_millis()).ok()?.max(1);
        let written = written(self.pid)?.saturating_sub(self.written) * 1000 / milliseconds;
        Some(Rates { daemon: cores(self.pid, self.daemon)?, here: cores(std::process::id(), self.here)?, written })
    }
}

/// Bytes that a process has written to disks so far.
fn written(pid: u32) -> Option<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    io.lines().find_map(|line| line.strip_prefix("write_bytes:")?.trim().parse().ok())
}

/// Sends messages one after the other while `threads` other threads together use as much processor time, and a further
/// thread writes as much, as in `load`.
fn send_beside_others(place: &StagedRepo, agent: &Agent, load: &Rates, threads: usize) -> Result<Vec<Duration>, Error> {
    let share = ((load.daemon + load.here) / threads as f64).clamp(0.01, 1.0);
    let began = Instant::now();
    let compute = || {
        while began.elapsed() < LEAST {
            let burst = Instant::now();
            while burst.elapsed() < BURST {
                std::hint::spin_loop();
            }
            thread::sleep(BURST.mul_f64(1.0 / share - 1.0));
        }
    };
    let path = place.repo()?.var().join("control");
    let bytes = vec![
        b'x';
        usize::try_from(load.written / 1000 * u64::try_from(WRITE_PAUSE.as_millis()).unwrap_or(0))
            .unwrap_or(0)
    ];
    let write = || -> io::Result<()> {
        let file = fs::File::create(&path)?;
        while began.elapsed() < LEAST {
            file.write_all_at(&bytes, 0)?;
            file.sync_data()?;
            thread::sleep(WRITE_PAUSE);
        }
        fs::remove_file(&path)
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(compute);
        }
        let writing = scope.spawn(write);
        let (mut sending, mut times) = (agent.connect()?, Vec::new());
        while began.elapsed() < LEAST {
            let sent = Instant::now();
            agent.send(&mut sending)?;
            times.push(sent.elapsed());
            thread::sleep(PAUSE);
        }
        writing.join().unwrap_or(Ok(())).map_err(failed("write for the control"))?;
        Ok(times)
    })
}
