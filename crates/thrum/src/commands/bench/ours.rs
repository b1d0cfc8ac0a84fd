//! Measurements that need our own daemons: start time, memory and processor use, catch-up.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind, limits};

use super::work::{self, Agent, Beside, Daemon};
use crate::{
    answers::{Health, Pairing},
    client::Client,
    commands::demo::{failed, latency::Times, stage::StagedRepo},
};

/// Maximum duration of a catch-up.
const STUCK: Duration = Duration::from_secs(300);

/// How often a daemon that catches up is polled; each poll costs the daemon some time.
const LOOK: Duration = Duration::from_millis(10);

/// Timings of messages, and the daemon's processor time for each.
pub(super) struct Cost {
    pub(super) beside: Beside,
    /// `None` if the system has no `/proc`.
    pub(super) each: Option<Duration>,
}

pub(super) struct CaughtUp {
    pub(super) events: u64,
    pub(super) took: Duration,
}

pub(super) fn health(daemon: &impl Daemon) -> Result<Health, Error> {
    daemon.connect()?.call("health", json!({}))
}

/// Registers another agent with the daemon.
pub(super) fn agent(daemon: &impl Daemon, name: &str) -> Result<(), Error> {
    daemon
        .connect()?
        .call::<Value>("agent.register", json!({"name": name, "role": "reader", "module": "bench", "force": true}))?;
    Ok(())
}

/// Measures `daemon start` as a whole command, each after a stop.
pub(super) fn starts(place: &StagedRepo, number: usize) -> Result<Times, Error> {
    let mut times = Vec::with_capacity(number);
    for _ in 0..number.max(1) {
        place.run(&["daemon", "stop"])?;
        let began = Instant::now();
        place.run(&["daemon", "start"])?;
        times.push(began.elapsed());
    }
    Ok(Times::new(times))
}

/// The daemon's resident memory in bytes; `None` if the system has no `/proc`.
pub(super) fn memory(daemon: &impl Daemon) -> Result<Option<u64>, Error> {
    Ok(resident(health(daemon)?.pid))
}

/// The highest resident memory of the daemon since its start, in bytes; `None` if the system has no `/proc`.
pub(super) fn peak_memory(daemon: &impl Daemon) -> Result<Option<u64>, Error> {
    Ok(of_status(health(daemon)?.pid, "VmHWM:"))
}

/// The resident memory of a process in bytes; `None` if the system has no `/proc`.
pub(super) fn resident(pid: u32) -> Option<u64> {
    of_status(pid, "VmRSS:")
}

/// The anonymous part of a process's resident memory in bytes. The rest is file-backed, mainly code that processes of
/// the same program share. `None` if the system does not report it.
pub(super) fn private(pid: u32) -> Option<u64> {
    of_status(pid, "RssAnon:")
}

/// Reads a line of a process's status, in bytes (proc(5)).
fn of_status(pid: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kilobytes =
        status.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kilobytes.map(|kilobytes| kilobytes * 1024)
}

/// The size of the daemon's database on disk, in bytes, once it no longer changes: about a second after the last write,
/// the daemon empties a long write-ahead log.
pub(super) fn bytes_on_disk(place: &StagedRepo) -> Result<u64, Error> {
    const LOOKS: usize = 5;
    let mut bytes = bytes_now(place)?;
    for _ in 0..LOOKS {
        thread::sleep(Duration::from_millis(1500));
        let before = std::mem::replace(&mut bytes, bytes_now(place)?);
        if before == bytes {
            break;
        }
    }
    Ok(bytes)
}

fn bytes_now(place: &StagedRepo) -> Result<u64, Error> {
    let mut bytes = 0;
    for name in ["messages.db", "messages.db-wal"] {
        let path = place.repo()?.var().join(name);
        bytes += fs::metadata(path).map_err(failed("look at the database"))?.len();
    }
    Ok(bytes)
}

/// Measures the daemon's processor time per message during `work`.
pub(super) fn with_cpu(place: &StagedRepo, work: impl FnOnce() -> Result<Beside, Error>) -> Result<Cost, Error> {
    let pid = health(place)?.pid;
    let before = cpu(pid);
    let beside = work()?;
    let used = cpu(pid).zip(before).map(|(after, before)| after.saturating_sub(before));
    let number = u32::try_from(beside.times.len()).unwrap_or(u32::MAX).max(1);
    Ok(Cost { each: used.map(|used| used / number), beside })
}

/// The processor time that a process has used so far (proc(5): user and system ticks are the 14th and 15th field).
pub(super) fn cpu(pid: u32) -> Option<Duration> {
    ticks(pid, &[11, 12])
}

/// The processor time of a process and of its children that have ended (proc(5): fields 14 to 17).
pub(super) fn cpu_with_children(pid: u32) -> Option<Duration> {
    ticks(pid, &[11, 12, 13, 14])
}

/// The sum of fields of a process's `stat`, counted after its name, as a time.
fn ticks(pid: u32, fields_of_time: &[usize]) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields_of_time.iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum();
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// Measures whole commands, from the start of the process to its end.
pub(super) fn commands(place: &StagedRepo, args: &[&str], number: usize) -> Result<Times, Error> {
    let mut times = Vec::with_capacity(number);
    for _ in 0..number.max(1) {
        let began = Instant::now();
        place.run(args)?;
        times.push(began.elapsed());
    }
    Ok(Times::new(times))
}

/// Fills the log of `full` to at least `least` events, and pairs `empty` with it over a transport. Measures from the
/// start of the pairing until `empty` holds as many events.
pub(super) fn catch_up(
    full: (&impl Daemon, &Agent),
    empty: &impl Daemon,
    least: u64,
    transport: &str,
) -> Result<CaughtUp, Error> {
    let (full, writer) = full;
    let missing = usize::try_from(least.saturating_sub(health(full)?.events)).unwrap_or(usize::MAX);
    let writers = 16;
    work::send_beside(writer, writers, missing.div_ceil(writers))?;
    let events = health(full)?.events;

    let (inviting, joining, transport) = (full.connect()?, empty.connect()?, transport.to_owned());
    let mut looking = empty.connect()?;
    let joined = thread::spawn(move || pair(inviting, joining, &transport));
    let began = Instant::now();
    let took = loop {
        let health: Health = looking.call("health", json!({}))?;
        if health.events >= events {
            break began.elapsed();
        }
        if began.elapsed() > STUCK {
            return Err(Error::new(ErrorKind::Failed, format!("only {} of {events} events arrived", health.events)));
        }
        thread::sleep(LOOK);
    };
    joined.join().map_err(|_| Error::new(ErrorKind::Failed, "the joining side panicked"))??;
    Ok(CaughtUp { events, took })
}

/// Pairs the daemons of two connections over a transport.
pub(super) fn pair(mut inviting: Client, mut joining: Client, transport: &str) -> Result<(), Error> {
    let pairing: Pairing = inviting.call("peer.start_pairing", json!({"transport": transport}))?;
    let within = limits::DIAL + limits::PAIR + limits::FIRST_EXCHANGE;
    joining
        .call_within::<Value>(within, "peer.join", json!({"address": pairing.address, "code": pairing.code}))
        .map(drop)
}
