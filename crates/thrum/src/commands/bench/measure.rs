//! The measurements themselves.

use std::{
    fs,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use thrum_core::{ErrorKind, Fault, limits};

use crate::{
    client::Client,
    commands::demo::{latency::Times, stage::Place},
    shapes::{Health, Pairing},
};

/// The resident memory of the daemon in bytes. `None` where the system has no `/proc`.
pub(crate) fn memory(place: &Place) -> Result<Option<u64>, Fault> {
    let health: Health = place.client()?.call("health", json!({}))?;
    let Ok(status) = fs::read_to_string(format!("/proc/{}/status", health.pid)) else { return Ok(None) };
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kilobytes.map(|kilobytes| kilobytes * 1024))
}

/// `message.send` by one writer who waits for each answer.
pub(crate) fn send_one_by_one(place: &Place, number: usize) -> Result<Times, Fault> {
    let mut client = place.client()?;
    send(&mut client, number).map(Times::new)
}

/// `message.send` by several writers beside each other, each with a connection of its own.
pub(crate) fn send_beside(place: &Place, writers: usize, each: usize) -> Result<(Times, Duration), Fault> {
    let ready = &Barrier::new(writers + 1);
    thread::scope(|scope| {
        let connected = (0..writers).map(|_| place.client()).collect::<Result<Vec<_>, _>>()?;
        let handles: Vec<_> = connected
            .into_iter()
            .map(|mut client| {
                scope.spawn(move || {
                    ready.wait();
                    send(&mut client, each)
                })
            })
            .collect();
        ready.wait();
        let began = Instant::now();
        let mut all = Vec::new();
        for handle in handles {
            all.extend(handle.join().map_err(|_| Fault::new(ErrorKind::Failed, "a writer panicked"))??);
        }
        Ok((Times::new(all), began.elapsed()))
    })
}

fn send(client: &mut Client, number: usize) -> Result<Vec<Duration>, Fault> {
    let params = json!({"content": "x".repeat(200), "mentions": ["@ann"], "caller_agent_id": "ann"});
    (0..number)
        .map(|_| {
            let began = Instant::now();
            client.call::<Value>("message.send", &params)?;
            Ok(began.elapsed())
        })
        .collect()
}

/// Fills one log up to `least` events, pairs the other daemon with it, and measures from there until that one holds them all.
pub(crate) fn catch_up(full: &Place, empty: &Place, least: u64) -> Result<(u64, Duration), Fault> {
    let mut held: Health = full.client()?.call("health", json!({}))?;
    let missing = usize::try_from(least.saturating_sub(held.events)).unwrap_or(usize::MAX);
    let writers = 16;
    send_beside(full, writers, missing.div_ceil(writers))?;
    held = full.client()?.call("health", json!({}))?;

    let mut inviting = full.client()?;
    let pairing: Pairing = inviting.call("peer.start_pairing", json!({"transport": "local"}))?;
    let mut joining = empty.client()?;
    let mut looking = empty.client()?;
    let joined = thread::spawn(move || {
        let within = limits::DIAL + limits::PAIR + limits::FIRST_EXCHANGE;
        joining.call_within::<Value>(within, "peer.join", json!({"address": pairing.address, "code": pairing.code}))
    });
    let began = Instant::now();
    let took = loop {
        let health: Health = looking.call("health", json!({}))?;
        if health.events >= held.events {
            break began.elapsed();
        }
        if began.elapsed() > Duration::from_secs(120) {
            return Err(Fault::new(ErrorKind::Failed, format!("only {} of {} events arrived", health.events, held.events)));
        }
        thread::sleep(Duration::from_millis(2));
    };
    joined.join().map_err(|_| Fault::new(ErrorKind::Failed, "the joining side panicked"))??;
    Ok((held.events, took))
}

/// Whole commands: the process, its answer, its end.
pub(crate) fn commands(place: &Place, args: &[&str], number: usize) -> Result<Times, Fault> {
    let mut times = Vec::with_capacity(number);
    for _ in 0..number {
        let began = Instant::now();
        place.run(args)?;
        times.push(began.elapsed());
    }
    Ok(Times::new(times))
}
