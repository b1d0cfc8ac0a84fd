//! `thrum daemon logs`: shows the end of the daemon's log file; with `-f` also what follows, across rotation.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::Path,
    thread,
    time::Duration,
};

use thrum_core::{Error, ErrorKind, name::printable};

use crate::{context::Context, output::Output, render::Silent};

/// Show the end of the daemon's log
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  thrum daemon logs -n 20
  thrum daemon logs -f")]
pub(crate) struct Args {
    /// Continue to print new lines
    #[arg(long, short)]
    follow: bool,
    /// Number of lines
    #[arg(long, short = 'n', default_value_t = 50, value_name = "N")]
    lines: usize,
}

/// How often a followed log is polled.
const LOOK: Duration = Duration::from_millis(200);

/// How far back to look for lines, in bytes; a log file may have ten times as much.
const MOST_BYTES: u64 = 1 << 20;

pub(crate) fn run(args: &Args, cx: &Context) -> Result<Silent, Error> {
    let path = cx.repo()?.log_file();
    let mut log = match LogFile::open(&path) {
        Ok(log) => log,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::new(ErrorKind::NotFound, "there is no log yet").hint("thrum daemon start"));
        }
        Err(error) => return Err(cannot_read(&path, &error)),
    };
    for line in log.last(args.lines).map_err(|error| cannot_read(&path, &error))? {
        print(&cx.output, &line)?;
    }
    if !args.follow {
        return Ok(Silent);
    }
    loop {
        while let Some(line) = log.next(&path).map_err(|error| cannot_read(&path, &error))? {
            print(&cx.output, &line)?;
        }
        thread::sleep(LOOK);
    }
}

fn print(output: &Output, line: &str) -> Result<(), Error> {
    if output.is_json() {
        output.json_line(&serde_json::json!({"line": line}))
    } else {
        output.text(&format!("{}\n", printable(line)))
    }
}

fn cannot_read(path: &Path, error: &io::Error) -> Error {
    Error::new(ErrorKind::Failed, format!("cannot read {}: {error}", path.display()))
}

/// A log file that is being written, and may be rotated while it is read.
struct LogFile {
    file: BufReader<File>,
    /// A line whose end has not been written yet.
    begun: Vec<u8>,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: BufReader::new(File::open(path)?), begun: Vec::new() })
    }

    /// Returns the last complete lines, at most `number` and from the last [`MOST_BYTES`]. [`next`](Self::next)
    /// continues after them.
    fn last(&mut self, number: usize) -> io::Result<Vec<String>> {
        let end = self.file.get_ref().metadata()?.len();
        let from = end.saturating_sub(MOST_BYTES);
        self.file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        (&mut self.file).take(end - from).read_to_end(&mut bytes)?;
        let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.begun = bytes.split_off(complete);
        let text = String::from_utf8_lossy(&bytes);
        let cut_off = usize::from(from > 0);
        let lines: Vec<_> = text.lines().skip(cut_off).collect();
        Ok(lines[lines.len().saturating_sub(number)..].iter().map(|line| (*line).to_owned()).collect())
    }

    /// Returns the next complete line, if there is one. At the end of a rotated file, continues with the current file.
    fn next(&mut self, path: &Path) -> io::Result<Option<String>> {
        loop {
            if self.file.read_until(b'\n', &mut self.begun)? > 0 {
                if self.begun.ends_with(b"\n") {
                    let line = String::from_utf8_lossy(&std::mem::take(&mut self.begun)).trim_end().to_owned();
                    return Ok(Some(line));
                }
                continue;
            }
            let here = self.file.get_ref().metadata()?;
            match fs::metadata(path) {
                Ok(there) if (there.dev(), there.ino()) != (here.dev(), here.ino()) => *self = Self::open(path)?,
                Ok(_) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_end_of_a_log_is_followed_over_rotation_without_losing_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.log");
        let mut file = File::create(&path).unwrap();
        write!(file, "one\ntwo\nthree\nfo").unwrap();
        let mut log = LogFile::open(&path).unwrap();
        assert_eq!(log.last(2).unwrap(), ["two", "three"]);
        assert_eq!(log.next(&path).unwrap(), None);
        writeln!(file, "ur").unwrap();
        fs::rename(&path, dir.path().join("daemon.log.1")).unwrap();
        writeln!(file, "five").unwrap();
        fs::write(&path, "six\n").unwrap();
        let mut seen = Vec::new();
        while let Some(line) = log.next(&path).unwrap() {
            seen.push(line);
        }
        assert_eq!(seen, ["four", "five", "six"]);
    }
}
