//! Counts the heap allocations of a message in the store: sent one by one, sent in groups, and received from a peer.
//!
//! `cargo bench -p thrum-store --bench allocations`
//!
//! Everything that allocates in Rust counts, on all threads: the job, the writer thread, the connection's layer. SQLite
//! is C and takes its memory with `malloc`, past the counter. The requests, and the events of the peer as text, are
//! made before the count begins. What a store allocates once, such as prepared statements, is allocated by the warm-up.
//!
//! Unlike durations, these numbers are nearly the same in every run and on every machine.

#![expect(clippy::print_stdout, reason = "the result of a benchmark")]

use std::{
    alloc::System,
    sync::mpsc::{channel, sync_channel},
    time::Duration,
};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};
use tempfile::TempDir;
use thrum_core::{
    Ambient, DaemonKey, Timestamp,
    event::{Candidate, admit},
    exchange::Batch,
    limits,
};
use thrum_store::{
    OpenOptions, Readers, Store, StoreError, Writer,
    ops::{Register, Send, Sent},
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Messages of each measurement, a multiple of [`GROUP`].
const MESSAGES: usize = 5000;

/// Messages before the measurement.
const WARM_UP: usize = 500;

/// Messages of one group: as many as one commit takes when fifty clients write.
const GROUP: usize = 50;

/// Length of a message's text in bytes.
const TEXT: usize = 300;

fn main() -> Result<(), StoreError> {
    let (one, other) = (Node::open(1)?, Node::open(2)?);
    for (node, name) in [(&one, "ann"), (&one, "bea"), (&other, "bob")] {
        let register =
            Register { name: name.into(), role: "reader".into(), module: format!("of-{name}"), ..Register::default() };
        node.writer.call(move |tx| tx.register(register))?;
    }
    one.send_one_by_one(requests(WARM_UP))?;
    one.send_in_groups(requests(WARM_UP))?;

    println!("per message of {TEXT} bytes to one agent, {MESSAGES} messages:");
    print("sent one by one", &one.send_one_by_one(requests(MESSAGES))?);
    print(&format!("sent in groups of {GROUP}"), &one.send_in_groups(requests(MESSAGES))?);

    // The registrations and the first messages are the warm-up of the receiver.
    let served = one.serve()?;
    let (first, rest) = served.split_at(served.len() - MESSAGES);
    let (before, after) = (first.len(), first.len() + rest.len());
    other.receive(&one, first, before)?;
    let (checked, stored) = other.receive(&one, rest, after)?;
    print("received: read and verified", &checked);
    print("received: stored", &stored);
    Ok(())
}

fn print(what: &str, counted: &Stats) {
    let each = |number: usize| number as f64 / MESSAGES as f64;
    println!(
        "{what:<28} {:>6.1} allocations, {:>5.1} reallocations, {:>7.0} bytes",
        each(counted.allocations),
        each(counted.reallocations),
        each(counted.bytes_allocated)
    );
}

fn add(sum: &mut Stats, counted: Stats) {
    sum.allocations += counted.allocations;
    sum.reallocations += counted.reallocations;
    sum.bytes_allocated += counted.bytes_allocated;
}

fn requests(number: usize) -> Vec<Send> {
    (0..number)
        .map(|n| {
            let mut content = format!("message {n} of many ").repeat(TEXT / 18);
            content.truncate(TEXT);
            Send { from: "ann".into(), mentions: vec!["@bea".into()], content, ..Send::default() }
        })
        .collect()
}

/// A daemon's store, with its writer.
struct Node {
    writer: Writer,
    id: String,
    log: String,
    dir: TempDir,
}

impl Node {
    fn open(seed: u64) -> Result<Self, StoreError> {
        // In memory if possible: nothing is timed here.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
        let mut ambient = Steady { seed, now: 1_774_717_513_000_000_000 };
        let key = DaemonKey::generate(&mut ambient);
        let store =
            Store::open(&dir.path().join("messages.db"), OpenOptions::new(key.clone(), None), Box::new(ambient))?;
        let log = store.fingerprint().log_id;
        let writer = Writer::start(store, |_| {}).expect("a thread");
        Ok(Self { writer, id: key.id().to_string(), log, dir })
    }

    fn send_one_by_one(&self, requests: Vec<Send>) -> Result<Stats, StoreError> {
        let region = Region::new(ALLOCATOR);
        for request in requests {
            self.writer.call(move |tx| tx.send(request))?;
        }
        Ok(region.change())
    }

    /// Sends messages so that each commit takes [`GROUP`] of them: a job holds the writer while they are queued.
    fn send_in_groups(&self, requests: Vec<Send>) -> Result<Stats, StoreError> {
        let mut counted = Stats::default();
        let mut requests = requests.into_iter().peekable();
        while requests.peek().is_some() {
            let (begun, begins) = channel();
            let (release, released) = channel();
            self.writer.submit(
                move |_| {
                    let _ = begun.send(());
                    let _ = released.recv();
                    Ok(())
                },
                |_| {},
            );
            // The writer has taken this job alone.
            let _ = begins.recv();
            let (done, outcomes) = sync_channel::<Result<Sent, StoreError>>(GROUP);
            let region = Region::new(ALLOCATOR);
            for request in requests.by_ref().take(GROUP) {
                let done = done.clone();
                self.writer.submit(
                    move |tx| tx.send(request),
                    move |outcome| {
                        let _ = done.send(outcome);
                    },
                );
            }
            drop(done);
            let _ = release.send(());
            for outcome in outcomes {
                outcome?;
            }
            add(&mut counted, region.change());
        }
        Ok(counted)
    }

    /// The whole log, as it is served to peers.
    fn serve(&self) -> Result<Vec<String>, StoreError> {
        let readers = Readers::new(&self.dir.path().join("messages.db"), &self.id);
        let page = readers.with(|reader| reader.page(0, 10 * MESSAGES, usize::MAX))?;
        Ok(page.rows.into_iter().map(|row| row.body).collect())
    }

    /// Applies events of `peer` in batches of the size of a pull; `end` is the sequence of the last one. Returns what
    /// reading and verifying took, and what storing took.
    fn receive(&self, peer: &Self, served: &[String], end: usize) -> Result<(Stats, Stats), StoreError> {
        let (mut checked, mut stored) = (Stats::default(), Stats::default());
        let mut checkpoint = (end - served.len()) as u64;
        for served in served.chunks(limits::MAX_BATCH_EVENTS) {
            let region = Region::new(ALLOCATOR);
            let candidates = served.iter().map(|text| Candidate::read(text, &[]).expect("well-formed")).collect();
            let (events, rejected) = admit(candidates);
            add(&mut checked, region.change());
            assert!(rejected.is_empty(), "{rejected:?}");
            checkpoint += served.len() as u64;
            let batch = Batch {
                peer: peer.id.clone(),
                log: peer.log.clone(),
                checkpoint,
                checkpoint_event: String::new(),
                events,
                rejected,
            };
            let region = Region::new(ALLOCATOR);
            let applied = self.writer.apply(batch)?;
            add(&mut stored, region.change());
            assert_eq!(applied.applied, served.len());
        }
        Ok((checked, stored))
    }
}

/// A clock that advances with each look, and random numbers that repeat in every run.
struct Steady {
    seed: u64,
    now: i64,
}

impl Ambient for Steady {
    fn now(&mut self) -> Timestamp {
        self.now += i64::try_from(Duration::from_millis(1).as_nanos()).unwrap_or_default();
        Timestamp::from_nanos(self.now)
    }

    fn fill(&mut self, buffer: &mut [u8]) {
        for byte in buffer {
            // A linear congruential generator, Knuth's MMIX constants.
            self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = self.seed.to_be_bytes()[0];
        }
    }
}
