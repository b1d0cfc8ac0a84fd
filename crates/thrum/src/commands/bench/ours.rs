//! What only our own daemons can be asked: how they start, what they cost, how they catch up.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use thrum_core::{ErrorKind, Fault, limits};

use super::work::{self, Agent, Beside, Daemon};
use crate::{
    commands::demo::{
        latency::Times,
        stage::{Place, failed},
    },
    shapes::{Health, Pairing},
};

/// How long a catch-up may take.
const STUCK: Duration = Duration::from_secs(300);

/// How often a daemon that catches up is looked at; each look costs it a moment.
const LOOK: Duration = Duration::from_millis(10);

/// Messages, and what each of them cost the daemon in time on a core.
pub(super) struct Cost {
    pub(super) beside: Beside,
    /// `None` where the system has no `/proc`.
    pub(super) each: Option<Duration>,
}

pub(super) struct CaughtUp {
    pub(super) events: u64,
    pub(super) took: Duration,
}

pub(super) fn health(daemon: &impl Daemon) -> Result<Health, Fault> {
    daemon.connect()?.call("health", json!({}))
}

/// Registers another agent at the daemon.
pub(super) fn agent(daemon: &impl Daemon, name: &str) -> Result<(), Fault> {
    daemon.connect()?.call::<Value>("agent.register", json!({"name": name, "role": "reader", "module": "bench", "force": true}))?;
    Ok(())
}

/// `daemon start`, as a whole command, each after a stop.
pub(super) fn starts(place: &Place, number: usize) -> Result<Times, Fault> {
    let mut times = Vec::with_capacity(number);
    for _ in 0..number.max(1) {
        place.run(&["daemon", "stop"])?;
        let began = Instant::now();
        place.run(&["daemon", "start"])?;
        times.push(began.elapsed());
    }
    Ok(Times::new(times))
}

/// The resident memory of the daemon in bytes. `None` where the system has no `/proc`.
pub(super) fn memory(daemon: &impl Daemon) -> Result<Option<u64>, Fault> {
    let Ok(status) = fs::read_to_string(format!("/proc/{}/status", health(daemon)?.pid)) else { return Ok(None) };
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kilobytes.map(|kilobytes| kilobytes * 1024))
}

/// What the daemon keeps on disk, in bytes.
pub(super) fn bytes_on_disk(place: &Place) -> Result<u64, Fault> {
    let mut bytes = 0;
    for name in ["messages.db", "messages.db-wal"] {
        let path = place.repo()?.var().join(name);
        bytes += fs::metadata(path).map_err(failed("look at the database"))?.len();
    }
    Ok(bytes)
}

/// The processor time of the daemon while `work` is done, per message.
pub(super) fn with_cpu(place: &Place, work: impl FnOnce() -> Result<Beside, Fault>) -> Result<Cost, Fault> {
    let pid = health(place)?.pid;
    let before = cpu(pid);
    let beside = work()?;
    let used = cpu(pid).zip(before).map(|(after, before)| after.saturating_sub(before));
    let number = u32::try_from(beside.times.len()).unwrap_or(u32::MAX).max(1);
    Ok(Cost { each: used.map(|used| used / number), beside })
}

/// The processor time a process has used so far (proc(5): user and system ticks are the 14th and 15th field).
fn cpu(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum();
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// Whole commands: the process, its answer, its end.
pub(super) fn commands(place: &Place, args: &[&str], number: usize) -> Result<Times, Fault> {
    let mut times = Vec::with_capacity(number);
    for _ in 0..number.max(1) {
        let began = Instant::now();
        place.run(args)?;
        times.push(began.elapsed());
    }
    Ok(Times::new(times))
}

/// Fills one log up to `least` events, pairs the other daemon with it over a kind of transport, and measures from there until
/// that one holds them all.
pub(super) fn catch_up(full: (&impl Daemon, &Agent), empty: &impl Daemon, least: u64, transport: &str) -> Result<CaughtUp, Fault> {
    let (full, writer) = full;
    let missing = usize::try_from(least.saturating_sub(health(full)?.events)).unwrap_or(usize::MAX);
    let writers = 16;
    work::send_beside(writer, writers, missing.div_ceil(writers))?;
    let events = health(full)?.events;

    let mut inviting = full.connect()?;
    let pairing: Pairing = inviting.call("peer.start_pairing", json!({"transport": transport}))?;
    let mut joining = empty.connect()?;
    let mut looking = empty.connect()?;
    let joined = thread::spawn(move || {
        let within = limits::DIAL + limits::PAIR + limits::FIRST_EXCHANGE;
        joining.call_within::<Value>(within, "peer.join", json!({"address": pairing.address, "code": pairing.code}))
    });
    let began = Instant::now();
    let took = loop {
        let health: Health = looking.call("health", json!({}))?;
        if health.events >= events {
            break began.elapsed();
        }
        if began.elapsed() > STUCK {
            return Err(Fault::new(ErrorKind::Failed, format!("only {} of {events} events arrived", health.events)));
        }
        thread::sleep(LOOK);
    };
    joined.join().map_err(|_| Fault::new(ErrorKind::Failed, "the joining side panicked"))??;
    Ok(CaughtUp { events, took })
}
