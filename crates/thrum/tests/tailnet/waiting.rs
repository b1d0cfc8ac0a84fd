//! Waiting with a deadline, and saying what for.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    process::Command,
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

/// For an answer of something that has nothing else to do.
pub(crate) const ANSWER: Duration = Duration::from_secs(30);

/// For what comes by itself after a disturbance: backoff of the node, of the peers and a round of synchronisation.
pub(crate) const RECOVERY: Duration = Duration::from_secs(90);

/// Messages each way.
pub(crate) const MESSAGES: usize = 500;

/// Events that a daemon finds when it comes late.
pub(crate) const CATCH_UP: usize = 20_000;

/// How long something is gone: long enough that everybody has noticed, and waits longer and longer.
pub(crate) const OUTAGE: Duration = Duration::from_secs(60);

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(50);

/// Waits until `look` gives something.
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

/// One thing that must hold, in a test of several: its name is in the test's output, and a failure's last.
pub(crate) struct Scenario {
    name: String,
    began: Instant,
    _watched: Sender<()>,
}

/// The longest that a scenario takes on a slow machine, with much to spare.
const STUCK: Duration = Duration::from_secs(240);

/// Begins a scenario; it ends with what this gives. If it hangs, the processes with something of `dirs` in their arguments
/// or surroundings are killed, so that whoever waits for them goes on and fails.
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

/// Kills every process that has `dir`, a temporary directory of ours, in its arguments or surroundings.
pub(crate) fn sweep(dir: &Path) {
    for pid in processes_of(dir) {
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).output();
    }
}

/// The processes that have `dir` in their arguments or surroundings.
pub(crate) fn processes_of(dir: &Path) -> Vec<u32> {
    let needle = dir.as_os_str().as_encoded_bytes();
    let contains = |file: &Path| fs::read(file).is_ok_and(|text| text.windows(needle.len()).any(|part| part == needle));
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| *pid != std::process::id())
        .filter(|pid| ["cmdline", "environ"].iter().any(|file| contains(&Path::new("/proc").join(pid.to_string()).join(file))))
        .collect()
}

/// The end of a log, for whoever reads why a test failed.
pub(crate) fn tail(of: &str, log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    format!("-- {of}:\n{}\n", lines[lines.len().saturating_sub(LINES_OF_A_LOG)..].join("\n"))
}

const LINES_OF_A_LOG: usize = 60;
