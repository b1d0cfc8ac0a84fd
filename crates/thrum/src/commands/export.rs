//! `thrum export`: writes the log in a form that any program can read.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, IsTerminal, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind, exchange::Row, limits};
use thrum_daemon::backup;
use thrum_store::Readers;

use crate::{
    context::Context,
    new_file,
    render::{Page, Render},
    text,
};

/// Export all events of the log as JSON, one per line
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each line is one event as it is sent to peers: canonical JSON (RFC 8785) with all keys that it came with, after this \
daemon's `sequence`. Lines are sorted by `sequence`, which may have gaps. Without `sequence`, a line is exactly what \
the event's signature and the digests of `thrum sync verify` are computed from.

The log is read from its file, without a daemon and without disturbing one. Events that are stored during the export \
may or may not be included.

Examples:
  thrum export --jsonl
  thrum export --jsonl --to log.jsonl")]
pub(crate) struct Args {
    /// Write one line of JSON per event; required, the only format
    #[arg(long, required = true)]
    jsonl: bool,
    /// Write to this new file instead of standard output; the file appears once it is complete
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

/// The result of an export.
pub(crate) struct Exported {
    events: u64,
    sequence: u64,
    /// `None` for standard output, which then gets only the events.
    file: Option<PathBuf>,
}

pub(crate) fn run(args: Args, cx: &Context) -> Result<Exported, Error> {
    debug_assert!(args.jsonl, "clap asks for it");
    let readers = Readers::beside(&cx.repo()?.database(), "")?;
    let Some(path) = args.to else {
        let escaped = io::stdout().is_terminal();
        let written = write_log(readers.as_ref(), cx, &mut BufWriter::new(io::stdout().lock()), escaped);
        let (events, sequence) = match written {
            // The reader has closed the pipe (`thrum export --jsonl | head -1`).
            Err(Failed::Writing(error)) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
            written => written.map_err(|failed| failed.to("standard output"))?,
        };
        return Ok(Exported { events, sequence, file: None });
    };
    let (events, sequence) = write_file(&path, |out| write_log(readers.as_ref(), cx, out, false))?;
    Ok(Exported { events, sequence, file: Some(path) })
}

/// Why an export ended early.
enum Failed {
    Reading(Error),
    Writing(io::Error),
}

impl Failed {
    fn to(self, what: &str) -> Error {
        match self {
            Self::Reading(error) => error,
            Self::Writing(error) => Error::new(ErrorKind::Failed, format!("cannot write to {what}: {error}")),
        }
    }
}

/// Writes the log, at least the part that exists at the beginning. Returns the number of events and the last sequence.
/// Holds one page of the log at a time, and no read transaction between pages, which would keep the write-ahead log
/// from being checkpointed.
fn write_log(
    readers: Option<&Readers>,
    cx: &Context,
    out: &mut impl Write,
    escaped: bool,
) -> Result<(u64, u64), Failed> {
    let Some(readers) = readers else { return Ok((0, 0)) };
    let reading = |error: thrum_store::StoreError| Failed::Reading(error.into());
    let (total, mut latest) =
        readers.with(|reader| Ok((reader.totals()?.events, reader.latest()?))).map_err(reading)?;
    let progress = cx.output.progress("Writing events", Some(total));
    let (mut events, mut after, mut extended) = (0, 0, false);
    loop {
        let page = readers
            .with(|reader| reader.page(after, limits::MAX_BATCH_EVENTS, limits::MAX_BATCH_BYTES))
            .map_err(reading)?;
        for row in &page.rows {
            let line = line(row, escaped);
            out.write_all(line.as_bytes()).and_then(|()| out.write_all(b"\n")).map_err(Failed::Writing)?;
            after = row.sequence;
        }
        events += page.rows.len() as u64;
        progress.at(events);
        // An event may have moved behind `latest` meanwhile, because the event that it waited for has arrived. Extend
        // the range once.
        if page.more && after >= latest && !extended {
            (latest, extended) = (readers.with(|reader| reader.latest()).map_err(reading)?, true);
        }
        // Stop at the known end, so that a writer that is faster than we read cannot keep us here forever.
        if !page.more || after >= latest {
            out.flush().map_err(Failed::Writing)?;
            return Ok((events, after));
        }
    }
}

/// Returns an event exactly as it is served to peers: in canonical form, with this daemon's `sequence` first. For a
/// terminal, control characters are replaced by escapes, which are equivalent JSON.
fn line(row: &Row, escaped: bool) -> String {
    let line = row.event_json();
    if escaped { thrum_core::json::printable(&line) } else { line }
}

/// Writes a new file of mode 0600 under a temporary name, and moves it to `path` when it is complete and durable.
fn write_file<T>(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<T, Failed>) -> Result<T, Error> {
    let shown = path.display().to_string();
    if path.symlink_metadata().is_ok() {
        return Err(Error::new(ErrorKind::Refused, format!("{shown} is there already"))
            .hint("Choose another name, or remove it first."));
    }
    new_file::has_directory(path)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.part", std::process::id()));
    let beside = PathBuf::from(beside);
    // A file that is there already is another one's, and is not removed.
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside);
    let file = opened.map_err(|error| Failed::Writing(error).to(&shown))?;
    let complete = || -> Result<T, Failed> {
        let mut out = BufWriter::new(file);
        let written = write(&mut out)?;
        out.into_inner()
            .map_err(|error| error.into_error())
            .and_then(|file| file.sync_all())
            .map_err(Failed::Writing)?;
        backup::move_without_replacing(&beside, path).map_err(Failed::Writing)?;
        Ok(written)
    };
    let written = complete();
    let _ = fs::remove_file(&beside);
    written.map_err(|failed| failed.to(&shown))
}

impl Render for Exported {
    fn human(&self, page: &mut Page) {
        if let Some(file) = &self.file {
            page.line(format!("Wrote {} to {}", text::count(self.events, "event"), file.display()));
        }
    }

    fn json(&self) -> Value {
        match &self.file {
            Some(file) => json!({"events": self.events, "latest_sequence": self.sequence, "file": file}),
            None => Value::Null,
        }
    }
}
