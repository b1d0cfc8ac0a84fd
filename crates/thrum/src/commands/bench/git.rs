//! Measures sync through a git remote: two daemons in clones of one bare repository in the stage's directory.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind, Timestamp};

use super::{
    figures::Figures,
    ours,
    wire::Words,
    work::{self, Agent, Daemon},
};
use crate::commands::demo::{
    failed,
    latency::{self, Times},
    stage::{Stage, StagedRepo},
};

/// Writers that fill the log.
const WRITERS: usize = 50;

/// Messages that are published one by one.
const DELIVERIES: usize = 40;

/// Messages that are published together.
const TOGETHER: usize = 10;

/// Exchanges without news.
const IDLE: usize = 20;

/// Time for an exchange, of which the first one takes longest.
const WITHIN: Duration = Duration::from_secs(600);

/// Fills one daemon with at least so many messages, publishes them, reads them with another daemon, and measures single
/// messages, exchanges without news, and the size of the remote before and after a purge of half of the messages.
pub(super) fn measure(stage: &Stage, messages: usize, step: &dyn Fn(&str), figures: &mut Figures) -> Result<(), Error> {
    let remote = stage.path().join("remote.git");
    let (left, right) = (stage.repository("left")?, stage.repository("right")?);
    left.git(&["init", "--quiet", "--bare", &remote.to_string_lossy()])?;
    for (place, name) in [(&left, "ann"), (&right, "bob")] {
        place.git(&["remote", "add", "origin", &remote.to_string_lossy()])?;
        place.run(&["quickstart", "--name", name, "--role", "writer", "--module", "bench"])?;
    }
    ours::agent(&left, "bea")?;
    let ann = Agent::of(&left, "ann", "bea")?;
    step("the first exchange");
    let half = messages.div_ceil(2 * WRITERS);
    fill(&ann, half, 0)?;
    let middle = crate::time::now();
    fill(&ann, half, WRITERS as u64)?;
    let published = ours::health(&left)?.events;
    let began = Instant::now();
    left.run(&["sync", "git", "on"])?;
    figures.per_second("publish the whole log, events", published, began.elapsed());
    figures.size("the remote then", bytes_in(&remote)?);

    right.run(&["sync", "git", "on"])?;
    force(&left)?;
    trust(&left)?;
    let began = Instant::now();
    trust(&right)?;
    let took = began.elapsed();
    let here = ours::health(&right)?.events;
    if here < published {
        return Err(Error::new(ErrorKind::Failed, format!("only {here} of {published} events arrived")));
    }
    figures.per_second("read the whole log, events", published, took);
    figures.memory("memory, peak of the daemon that published", ours::peak_memory(&left)?);
    figures.memory("memory, peak of the daemon that read", ours::peak_memory(&right)?);
    force(&left)?;

    step("single messages");
    let before = bytes_in(&remote)?;
    figures.times("sent on one, readable on the other, with sync force on both", &deliveries(&left, &right)?);
    figures.each_message("the remote grew, messages one by one", DELIVERIES, bytes_in(&remote)? - before);
    let before = bytes_in(&remote)?;
    let (mut client, mut words) = (ann.connect()?, Words::new(u64::MAX));
    for _ in 0..DELIVERIES {
        for _ in 0..TOGETHER {
            ann.send_text(&mut client, &words.text())?;
        }
        force(&left)?;
    }
    let together = format!("the remote grew, {TOGETHER} messages at once");
    figures.each_message(&together, DELIVERIES * TOGETHER, bytes_in(&remote)? - before);
    force(&right)?;

    step("exchanges without news");
    let pid = ours::health(&right)?.pid;
    let before = ours::cpu_with_children(pid);
    let mut times = Vec::new();
    for _ in 0..IDLE {
        let began = Instant::now();
        force(&right)?;
        times.push(began.elapsed());
    }
    figures.times("an exchange without news", &Times::new(times));
    let used = ours::cpu_with_children(pid).zip(before).map(|(after, before)| after.saturating_sub(before));
    figures.each_time("… processor time of the daemon and its git", used, IDLE);

    step("a purge");
    collect(&remote, &left)?;
    figures.size("the remote with all of it, after its garbage collection", bytes_in(&remote)?);
    purge(&left, middle)?;
    for place in [&left, &right, &left] {
        force(place)?;
    }
    collect(&remote, &left)?;
    figures.size("the remote after a purge of half, and its garbage collection", bytes_in(&remote)?);
    Ok(())
}

/// Sends messages one after the other, with an exchange on both sides after each. Measures from the request until the
/// message is readable on the other side.
fn deliveries(left: &StagedRepo, right: &StagedRepo) -> Result<Times, Error> {
    let ann = Agent::of(left, "ann", "bob")?;
    let (mut client, mut words) = (ann.connect()?, Words::new(u64::MAX / 2));
    let mut watching = latency::watch(right.connect()?)?;
    let mut times = Vec::with_capacity(DELIVERIES);
    for _ in 0..DELIVERIES {
        let began = Instant::now();
        let sent = ann.send_text(&mut client, &words.text())?;
        force(left)?;
        force(right)?;
        latency::arrival(&mut watching, "message.create", &sent.message_id)?;
        times.push(began.elapsed());
    }
    Ok(Times::new(times))
}

/// Sends `each` messages of random words with each writer. `seed` is that of the first writer's words.
fn fill(agent: &Agent, each: usize, seed: u64) -> Result<(), Error> {
    let texts = |writer: u64| {
        let mut words = Words::new((seed + writer) << 32);
        move || words.text()
    };
    work::send_texts_beside(agent, WRITERS, each, texts).map(drop)
}

/// Makes an exchange, and waits for its end.
fn force(place: &StagedRepo) -> Result<(), Error> {
    let forced: Value = place.connect()?.call_within(WITHIN, "sync.force", json!({}))?;
    match forced["git"]["error"].as_str() {
        Some(error) => Err(Error::new(ErrorKind::Failed, error.to_owned())),
        None => Ok(()),
    }
}

/// Trusts the only daemon that wants in.
fn trust(place: &StagedRepo) -> Result<(), Error> {
    let status: Value = serde_json::from_slice(&place.run(&["sync", "git", "status", "--json"])?.stdout)
        .map_err(|error| Error::new(ErrorKind::Failed, format!("cannot read a status: {error}")))?;
    let fingerprint = status["waiting"][0]["fingerprint"].as_str();
    let fingerprint = fingerprint.ok_or_else(|| Error::new(ErrorKind::Failed, format!("nobody wants in: {status}")))?;
    place.run(&["sync", "git", "trust", fingerprint]).map(drop)
}

fn purge(place: &StagedRepo, before: Timestamp) -> Result<(), Error> {
    let params = json!({"before": before, "dry_run": false});
    place.connect()?.call_within::<Value>(WITHIN, "purge.execute", params).map(drop)
}

/// Removes what no ref needs from the remote, as a host does after a while.
fn collect(remote: &Path, place: &StagedRepo) -> Result<(), Error> {
    place.git(&["-C", &remote.to_string_lossy(), "gc", "--quiet", "--prune=now"])
}

/// The sizes of all files in a directory, in bytes.
fn bytes_in(dir: &Path) -> Result<u64, Error> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir).map_err(failed("look at the remote"))? {
        let entry = entry.map_err(failed("look at the remote"))?;
        let kind = entry.file_type().map_err(failed("look at the remote"))?;
        bytes += if kind.is_dir() {
            bytes_in(&entry.path())?
        } else {
            entry.metadata().map_err(failed("look at the remote"))?.len()
        };
    }
    Ok(bytes)
}
