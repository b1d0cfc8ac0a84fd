//! Waits with a deadline and a description of the expected state.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    process::Command,
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

/// Deadline for a reply from an idle program.
pub(crate) const ANSWER: Duration = Duration::from_secs(30);

/// Deadline for recovery after a disturbance: covers the backoff of the node and of the peers, and one sync interval.
pub(crate) const RECOVERY: Duration = Duration::from_secs(90);

/// Number of messages each way.
pub(crate) const MESSAGES: usize = 500;

/// Number of events that a daemon finds when it joins late.
pub(crate) const CATCH_UP: usize = 20_000;

/// Duration of an outage: long enough for every side to notice it and to increase its backoff.
pub(crate) const OUTAGE: Duration = Duration::from_secs(60);

/// Interval between polls.
const LOOK: Duration = Duration::from_millis(50);

/// Polls until `look` returns `Ok`, and returns the value.
#[track_caller]
pub(crate) fn until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(now) => assert!(began.elapsed() < within, "not within {} s: {what}\nnow: {now}", within.as_secs()),
        }
        thread::sleep(LOOK);
    }
}

/// One scenario of a test. The output shows its name; in a failed test, the last name is that of the failed scenario.
pub(crate) struct Scenario {
    name: String,
    began: Instant,
    _watched: Sender<()>,
}

/// The longest time that a scenario takes on a slow machine, with a large margin.
const STUCK: Duration = Duration::from_secs(240);

/// Begins a scenario, which ends when the result is dropped. If the scenario hangs, the processes with one of `dirs` in
/// their arguments or environment are killed, so that calls that wait for them return and the test fails.
pub(crate) fn scenario(name: &str, dirs: Vec<std::path::PathBuf>) -> Scenario {
    let (watched, watching) = channel::<()>();
    let stuck = name.to_owned();
    thread::spawn(move || {
        if watching.recv_timeout(STUCK) == Err(RecvTimeoutError::Timeout) {
            let _ = writeln!(io::stderr(), "stuck, its processes are killed: {stuck}");
            dirs.iter().for_each(|dir| sweep(dir));
        }
    });
    Scenario { name: name.to_owned(), began: Instant::now(), _watched: watched }
}

impl Drop for Scenario {
    fn drop(&mut self) {
        let how = if thread::panicking() { "FAILED" } else { "ok" };
        println!("scenario {how} after {:.1} s: {}", self.began.elapsed().as_secs_f32(), self.name);
    }
}

/// Kills every process with `dir`, a temporary directory of the test, in its arguments or environment.
pub(crate) fn sweep(dir: &Path) {
    for pid in processes_of(dir) {
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).output();
    }
}

/// Process ids of the processes with `dir` in their arguments or environment.
pub(crate) fn processes_of(dir: &Path) -> Vec<u32> {
    let needle = dir.as_os_str().as_encoded_bytes();
    let contains = |file: &Path| fs::read(file).is_ok_and(|text| text.windows(needle.len()).any(|part| part == needle));
    let pids = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| *pid != std::process::id())
        .filter(|pid| {
            ["cmdline", "environ"].iter().any(|file| contains(&Path::new("/proc").join(pid.to_string()).join(file)))
        })
        .collect()
}

/// Returns the end of a log, to explain a failure.
pub(crate) fn tail(of: &str, log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    format!("-- {of}:\n{}\n", lines[lines.len().saturating_sub(LINES_OF_A_LOG)..].join("\n"))
}

const LINES_OF_A_LOG: usize = 60;
