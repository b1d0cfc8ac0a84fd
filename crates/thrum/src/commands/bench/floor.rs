//! The limits of the machine, which no program on it can beat.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags};
use thrum_core::{Ambient, DaemonKey, Error, ErrorKind, Timestamp};

use super::figures::Figures;
use crate::commands::demo::{
    failed,
    latency::Times,
    stage::{Stage, StagedRepo},
};

/// Number of durable writes, of round trips and of signatures.
const RUNS: usize = 500;

/// Maximum number of rows for SQLite.
const ROWS: u32 = 20_000;

pub(super) fn measure(stage: &Stage, place: &StagedRepo, figures: &mut Figures) -> Result<(), Error> {
    figures.times(
        "limit: one durable write (fdatasync of 4 KiB)",
        &durable_writes(stage).map_err(failed("write durably"))?,
    );
    let (rows, took) = batch_insert(stage, place)
        .map_err(|error| Error::new(ErrorKind::Failed, format!("SQLite cannot be measured: {error}")))?;
    figures.per_second("limit: SQLite, the same rows in one transaction", rows, took);
    figures.times("limit: a round trip on a Unix socket", &round_trips().map_err(failed("use a socket"))?);
    figures.times("limit: one signature", &signatures());
    Ok(())
}

fn durable_writes(stage: &Stage) -> std::io::Result<Times> {
    let mut file = File::create(stage.path().join("durable"))?;
    let mut times = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let began = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    Ok(Times::new(times))
}

/// Inserts at most [`ROWS`] rows of the log into a table without an index, in one transaction.
fn batch_insert(stage: &Stage, place: &StagedRepo) -> rusqlite::Result<(u64, Duration)> {
    type Row = (u64, String, String, i64, String, String, u64, String, Option<String>, String);
    let log = place.dir.join(".thrum/var/messages.db");
    let source = Connection::open_with_flags(log, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let sql = "SELECT sequence, event_id, type, at, origin_daemon, origin_log, origin_seq, received_from, target, body FROM events LIMIT ?1";
    let rows: Vec<Row> = source.prepare(sql)?.query_map([ROWS], |row| row.try_into())?.collect::<Result<_, _>>()?;
    let mut target = Connection::open(stage.path().join("rows.db"))?;
    target.pragma_update(None, "journal_mode", "WAL")?;
    target.pragma_update(None, "synchronous", "FULL")?;
    target.execute_batch("CREATE TABLE rows (a INTEGER PRIMARY KEY, b, c, d, e, f, g, h, i, j)")?;
    let began = Instant::now();
    let tx = target.transaction()?;
    {
        let mut insert = tx.prepare("INSERT INTO rows VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?;
        for row in &rows {
            insert.execute(row.clone())?;
        }
    }
    tx.commit()?;
    Ok((rows.len() as u64, began.elapsed()))
}

/// Sends a line of the size of a request to another thread and back.
fn round_trips() -> std::io::Result<Times> {
    let (here, there) = UnixStream::pair()?;
    let mut line = vec![b'x'; 400];
    line.push(b'\n');
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut lines = BufReader::new(&there).split(b'\n');
            while let Some(Ok(mut line)) = lines.next() {
                line.push(b'\n');
                if (&there).write_all(&line).is_err() {
                    break;
                }
            }
        });
        let mut answers = BufReader::new(&here);
        let mut answer = Vec::new();
        let mut times = Vec::with_capacity(RUNS);
        for _ in 0..RUNS {
            let began = Instant::now();
            (&here).write_all(&line)?;
            answer.clear();
            answers.read_until(b'\n', &mut answer)?;
            times.push(began.elapsed());
        }
        here.shutdown(std::net::Shutdown::Both)?;
        Ok(Times::new(times))
    })
}

fn signatures() -> Times {
    struct Fixed;
    impl Ambient for Fixed {
        fn now(&mut self) -> Timestamp {
            Timestamp::ZERO
        }
        fn fill(&mut self, buffer: &mut [u8]) {
            buffer.fill(7);
        }
    }
    let key = DaemonKey::generate(&mut Fixed);
    let text = "x".repeat(700);
    let times = (0..RUNS).map(|_| {
        let began = Instant::now();
        std::hint::black_box(key.sign_event([&text, ""]));
        began.elapsed()
    });
    Times::new(times.collect())
}
