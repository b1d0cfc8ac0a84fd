//! `daemon.log`: lines in Go Thrum's format, `2026/03/28 10:00:00 text key=value`, in the machine's time zone.
//!
//! Lines may contain names and texts from other daemons. Each line is therefore escaped as a whole, so that nobody can
//! forge a second line or control the terminal of a reader. The file is private and is rotated by size.

use std::{
    fmt::{self, Write as _},
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Mutex,
};

use thrum_core::{Error, limits, name};
use thrum_sync::held_dir::{HeldDir, with_suffix};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use crate::disk;

/// Sends all further log output of this process to `path`, and also to standard error if `also_shown`.
pub(crate) fn init(path: &Path, also_shown: bool) -> Result<(), Error> {
    let file = Rotating::open(path, limits::LOG_FILE_BYTES)?;
    let writer = Mutex::new(Output { file, also_shown });
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(Level::INFO)
        .with_ansi(false)
        .event_format(GoLines)
        .with_writer(writer)
        .finish();
    // If the process has a logger already, that one stays in use.
    let _ = tracing::subscriber::set_global_default(subscriber);
    std::panic::set_hook(Box::new(|panic| tracing::error!("a defect in the daemon: {panic}")));
    Ok(())
}

/// Formats one event as one line.
struct GoLines;

impl<S, N> FormatEvent<S, N> for GoLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = Line(String::new());
        event.record(&mut line);
        let level = match *event.metadata().level() {
            Level::ERROR => "error: ",
            Level::WARN => "warning: ",
            _ => "",
        };
        let text = &line.0[..line.0.floor_char_boundary(limits::MAX_TEXT_BYTES)];
        writeln!(writer, "{} {level}{}", jiff::Zoned::now().strftime("%Y/%m/%d %H:%M:%S"), name::printable(text))
    }
}

/// The message, followed by the fields in their order.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let space = if self.0.is_empty() { "" } else { " " };
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{space}{value:?}"),
            name => write!(self.0, "{space}{name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

struct Output {
    file: Rotating,
    also_shown: bool,
}

impl Write for Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.also_shown {
            let _ = io::stderr().write_all(line);
        }
        self.file.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file that is renamed to `.1` before it exceeds a size; `.1` becomes `.2`, and so on up to [`limits::LOG_FILES`].
/// All files stay in the directory that was at the path at the start.
struct Rotating {
    directory: HeldDir,
    name: PathBuf,
    file: File,
    size: u64,
    most: u64,
}

impl Rotating {
    fn open(path: &Path, most: u64) -> Result<Self, Error> {
        let failed = |error| disk::io_error("open the log", path, &error);
        let (directory, name) = HeldDir::of(path).map_err(failed)?;
        let file = directory.append(&name).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        Ok(Self { directory, name, file, size, most })
    }

    fn numbered(&self, number: usize) -> PathBuf {
        if number == 0 { self.name.clone() } else { with_suffix(&self.name, &format!(".{number}")) }
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (0..limits::LOG_FILES).rev() {
            self.directory.rename(&self.numbered(number), &self.numbered(number + 1))?;
        }
        self.file = self.directory.append(&self.name)?;
        self.size = 0;
        Ok(())
    }
}

impl Write for Rotating {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.size > 0 && self.size + line.len() as u64 > self.most {
            // If the directory is not writable, one long file is better than no log.
            let _ = self.rotate();
        }
        let written = self.file.write(line)?;
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt};

    use super::*;

    fn log_to(path: &Path, most: u64, log: impl FnOnce()) {
        let writer = Mutex::new(Output { file: Rotating::open(path, most).unwrap(), also_shown: false });
        let subscriber =
            tracing_subscriber::fmt().with_max_level(Level::INFO).event_format(GoLines).with_writer(writer).finish();
        tracing::subscriber::with_default(subscriber, log);
    }

    /// C33
    #[test]
    fn lines_look_like_gos_and_nobody_forges_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.log");
        log_to(&path, 1 << 20, || {
            tracing::info!("[pairing] Session started, code=****, timeout=5m0s");
            tracing::warn!(name = "x\n2026/01/01 00:00:00 [pairing] Paired with \u{1b}[31mevil", "odd peer");
            tracing::debug!("unheard");
        });
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().map(|line| line.split_at(20)).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[0].1, "[pairing] Session started, code=****, timeout=5m0s");
        assert_eq!(lines[1].1, "warning: odd peer name=x\\n2026/01/01 00:00:00 [pairing] Paired with \\u{1b}[31mevil");
        let shape: String = lines[0].0.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
        assert_eq!(shape, "9999/99/99 99:99:99 ");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_log_rotates_by_size_and_keeps_a_few_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.log");
        log_to(&path, 100, || (0..20).for_each(|n| tracing::info!("{n:060}")));
        let mut found: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        found.sort();
        assert_eq!(found, ["daemon.log", "daemon.log.1", "daemon.log.2", "daemon.log.3"]);
        assert!(fs::read_to_string(&path).unwrap().ends_with("19\n"));
        assert!(fs::read_to_string(dir.path().join("daemon.log.3")).unwrap().ends_with("16\n"));
    }
}
