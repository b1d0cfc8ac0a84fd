//! `daemon.log`: one line for each `tracing` event of level `info` or above, as text or as JSON.
//!
//! **Text** is the default and has Go Thrum's format, in the machine's time zone:
//!
//! ```text
//! 2026/03/28 10:00:00 warning: cannot accept a local connection error="Too many open files"
//! ```
//!
//! The message is followed by its fields. A value that is not one plain word is quoted. Lines that begin with a prefix
//! of Go Thrum ([`GO_PREFIXES`]) are the exception: their sentences have Go Thrum's wording, which contains all values,
//! so their fields appear in JSON only.
//!
//! **JSON** (`THRUM_LOG=json`) has one object in each line: `at` (UTC), `level` (`error`, `warn`, `info`), `target`
//! (the module that wrote the line), `message`, and the fields. The fields of the spans that surround the event come
//! first.
//!
//! Messages and fields may contain names and texts from other daemons. Both forms therefore escape every character that
//! is not printable, so that no peer can forge a line or a field, or control the terminal of a reader. The file is
//! private and is rotated by size.

use std::{
    fmt,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Serialize, Serializer};
use serde_json::Value;
use thrum_core::{Error, json, limits, name};
use thrum_sync::held_dir::{HeldDir, with_suffix};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    registry::{LookupSpan, Registry, Scope},
};

use crate::{ambient::now, private_files};

/// The prefixes of the lines whose wording is Go Thrum's.
const GO_PREFIXES: [&str; 3] = ["[pairing] ", "periodic_sync: ", "sync.notify: "];

/// The form of the lines of the log file: `THRUM_LOG`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `text`: Go Thrum's format.
    #[default]
    Text,
    /// `json`: one JSON object in each line.
    Json,
}

impl LogFormat {
    /// Returns the format with this name, if there is one.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Sends all further log output of this process to `path`, and also to standard error if `also_shown`.
pub(crate) fn init(path: &Path, format: LogFormat, also_shown: bool) -> Result<(), Error> {
    let file = Rotating::open(path, limits::LOG_FILE_BYTES)?;
    // If the process has a logger already, that one stays in use.
    let _ = tracing::subscriber::set_global_default(subscriber(format, Output { file, also_shown }));
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a defect in the daemon")));
    Ok(())
}

/// Returns a subscriber that writes events of level `info` and above to `output`.
fn subscriber(format: LogFormat, output: Output) -> impl Subscriber + Send + Sync {
    Registry::default().with(LevelFilter::INFO).with(LineWriter { format, output: Mutex::new(output) })
}

/// Writes each event as one line.
struct LineWriter {
    format: LogFormat,
    output: Mutex<Output>,
}

impl<S> Layer<S> for LineWriter
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(Scope::from_root) {
            if let Some(of_span) = span.extensions().get::<Fields>() {
                of_span.values.iter().for_each(|(name, value)| fields.set(name, value.clone()));
            }
        }
        event.record(&mut fields);
        let line = match self.format {
            LogFormat::Text => text_line(event.metadata(), &fields),
            LogFormat::Json => json_line(event.metadata(), &fields),
        };
        // There is nowhere to report that the log file cannot be written.
        let _ = self.output.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
    }
}

fn text_line(metadata: &Metadata<'_>, fields: &Fields) -> String {
    let time = jiff::Zoned::now();
    let level = match *metadata.level() {
        Level::ERROR => "error: ",
        Level::WARN => "warning: ",
        _ => "",
    };
    let mut line = format!("{} {level}{}", time.strftime("%Y/%m/%d %H:%M:%S"), name::printable(&fields.message));
    if !GO_PREFIXES.iter().any(|prefix| fields.message.starts_with(prefix)) {
        for (name, value) in &fields.values {
            let value = value.as_str().map_or_else(|| value.to_string(), name::quoted);
            line.extend([" ", name, "=", &value]);
        }
    }
    line.push('\n');
    line
}

fn json_line(metadata: &Metadata<'_>, fields: &Fields) -> String {
    let line = JsonLine { at: now().to_string(), metadata, fields };
    // A map with string keys can always be written as JSON.
    let mut line = serde_json::to_string(&line).map_or_else(|_| String::new(), |line| json::printable(&line));
    line.push('\n');
    line
}

struct JsonLine<'a> {
    at: String,
    metadata: &'a Metadata<'a>,
    fields: &'a Fields,
}

impl Serialize for JsonLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let level = self.metadata.level().as_str().to_ascii_lowercase();
        let head = [
            ("at", self.at.as_str()),
            ("level", &level),
            ("target", self.metadata.target()),
            ("message", &self.fields.message),
        ];
        let head = head.map(|(name, value)| (name, Value::from(value)));
        let fields = self.fields.values.iter().filter(|(name, _)| !head.iter().any(|(taken, _)| taken == name));
        serializer.collect_map(head.iter().chain(fields).map(|(name, value)| (name, value)))
    }
}

/// The message and the other fields of an event or a span, in their order. Every text is at most
/// [`limits::MAX_TEXT_BYTES`] long.
#[derive(Default)]
struct Fields {
    message: String,
    values: Vec<(&'static str, Value)>,
}

impl Fields {
    /// Sets a field, in place of an earlier value.
    fn set(&mut self, name: &'static str, value: Value) {
        match self.values.iter_mut().find(|(known, _)| *known == name) {
            Some((_, earlier)) => *earlier = value,
            None => self.values.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let value = &value[..value.floor_char_boundary(limits::MAX_TEXT_BYTES)];
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            name => self.set(name, value.into()),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), value.into());
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
        let failed = |error| private_files::io_error("open the log", path, &error);
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

    use serde_json::json;

    use super::*;

    fn log_to(path: &Path, format: LogFormat, most: u64, log: impl FnOnce()) {
        let output = Output { file: Rotating::open(path, most).unwrap(), also_shown: false };
        tracing::subscriber::with_default(subscriber(format, output), log);
    }

    /// Returns what `log` writes in this format.
    fn logged(format: LogFormat, log: impl FnOnce()) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.log");
        log_to(&path, format, 1 << 20, log);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::read_to_string(&path).unwrap()
    }

    /// A name that contains the next line, a colour, and a field.
    const FORGED: &str =
        "x\n2026/01/01 00:00:00 [pairing] Paired with \u{1b}[31mevil\" admin=true {\"admin\":true}\u{202e}";

    /// Hostile input (C33 in docs/security.md): names that contain line breaks and escapes.
    #[test]
    fn text_lines_have_gos_format_and_cannot_be_forged() {
        let text = logged(LogFormat::Text, || {
            tracing::info!("[pairing] Session started, code=****, timeout=5m0s");
            tracing::warn!(peer = FORGED, events = 3, "the peer is slow");
            tracing::error!("{FORGED}");
            tracing::debug!("not logged");
        });
        let lines: Vec<_> = text.lines().map(|line| line.split_at(20)).collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(lines[0].1, "[pairing] Session started, code=****, timeout=5m0s");
        assert_eq!(
            lines[1].1,
            r#"warning: the peer is slow peer="x\n2026/01/01 00:00:00 [pairing] Paired with \u{1b}[31mevil\" admin=true {\"admin\":true}\u{202e}" events=3"#
        );
        assert!(lines[2].1.starts_with(r"error: x\n2026/01/01"), "{text}");
        for (time, _) in lines {
            let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
            assert_eq!(shape, "9999/99/99 99:99:99 ");
        }
        assert!(text.chars().all(|c| c == '\n' || name::is_printable(c)), "{text:?}");
    }

    #[test]
    fn json_lines_keep_every_value_and_cannot_be_forged() {
        let text = logged(LogFormat::Json, || {
            tracing::warn!(peer = FORGED, events = 3, is_due = true, error = %"gone", "the peer is slow");
            tracing::error!("{FORGED}");
            tracing::debug!("not logged");
        });
        assert!(text.chars().all(|c| c == '\n' || name::is_printable(c)), "{text:?}");
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [mut slow, error] = <[Value; 2]>::try_from(lines).unwrap();
        let at = slow["at"].take();
        assert!(thrum_core::Timestamp::parse(at.as_str().unwrap()).is_some(), "{at}");
        let expected = json!({
            "at": null, "level": "warn", "target": module_path!(), "message": "the peer is slow", "peer": FORGED,
            "events": 3, "is_due": true, "error": "gone",
        });
        assert_eq!(slow, expected);
        assert_eq!((&error["level"], &error["message"]), (&json!("error"), &json!(FORGED)));
        assert!(text.starts_with(r#"{"at":""#) && text.contains(r#","level":"warn","target":""#), "{text}");
    }

    #[test]
    fn the_fields_of_a_span_belong_to_every_line_in_it() {
        let log = || {
            let _peer = tracing::info_span!("session", peer = "laptop", tries = 1).entered();
            tracing::info!(tries = 2, "connected");
            tracing::info!("periodic_sync: synced 3 events from laptop");
        };
        let text = logged(LogFormat::Text, log);
        let lines: Vec<_> = text.lines().map(|line| &line[20..]).collect();
        assert_eq!(lines, ["connected peer=laptop tries=2", "periodic_sync: synced 3 events from laptop"]);
        let text = logged(LogFormat::Json, log);
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let values: Vec<_> = lines.iter().map(|line| (&line["peer"], &line["tries"])).collect();
        assert_eq!(values, [(&json!("laptop"), &json!(2)), (&json!("laptop"), &json!(1))]);
    }

    #[test]
    fn the_log_rotates_by_size_and_keeps_a_few_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.log");
        log_to(&path, LogFormat::Text, 100, || (0..20).for_each(|n| tracing::info!("{n:060}")));
        let mut found: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        found.sort();
        assert_eq!(found, ["daemon.log", "daemon.log.1", "daemon.log.2", "daemon.log.3"]);
        assert!(fs::read_to_string(&path).unwrap().ends_with("19\n"));
        assert!(fs::read_to_string(dir.path().join("daemon.log.3")).unwrap().ends_with("16\n"));
    }
}
