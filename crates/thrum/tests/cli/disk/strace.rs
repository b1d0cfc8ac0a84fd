//! Runs the program under `strace`, which makes system calls fail or kills the process at one of them. The program
//! itself has no code for that.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{OnceLock, mpsc},
    thread::{self, JoinHandle},
};

use crate::common::{Ran, TestRepo, skip};

/// System calls that change something on a disk.
const CALLS: &str = "write,pwrite64,ftruncate,fallocate,fsync,fdatasync,rename,unlink,mkdir,link";

/// The effect of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happens {
    /// From this call on, the disk is full.
    Full,
    /// This one call fails.
    Fails,
    /// From this call on, the file system is read-only.
    ReadOnly,
    /// The process is killed as by `kill -9`, before the call is made.
    Killed,
}

const ALL: [Happens; 4] = [Happens::Full, Happens::Fails, Happens::ReadOnly, Happens::Killed];

/// A fault at the n-th call of this name in each thread.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) call: String,
    nth: u64,
    pub(super) happens: Happens,
}

/// Returns `true` if `strace` can trace processes here. Otherwise prints one line with the reason, and fails with
/// `CI=true`.
pub(crate) fn possible() -> bool {
    static POSSIBLE: OnceLock<bool> = OnceLock::new();
    *POSSIBLE.get_or_init(|| {
        let why = match Command::new("strace").args(["-f", "-qq", "-o", "/dev/null", "true"]).output() {
            Ok(output) if output.status.success() => return true,
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => format!("strace: {error}"),
        };
        skip("faults at system calls", &why);
        false
    })
}

/// A program under `strace`.
pub(super) struct Traced {
    child: Child,
    log: PathBuf,
    talk: JoinHandle<String>,
    said: mpsc::Receiver<()>,
}

impl Traced {
    /// Starts the program. Only calls on `files` are counted and fail, or all calls if `files` is empty.
    pub(super) fn start(repo: &TestRepo, args: &[&str], files: &[PathBuf], fault: Option<&Fault>) -> Self {
        let log = repo.above().join("strace.log");
        let mut strace = Command::new("strace");
        // Not with `--seccomp-bpf`: it is faster, but signals are not injected then (strace 6.1). Without a selection
        // of files, `openat` would include the calls of the dynamic loader.
        let opening = if files.is_empty() { "" } else { ",openat" };
        repo.in_surroundings(&mut strace).args(["-f", "-qq", "-e", &format!("trace={CALLS}{opening}"), "-o"]).arg(&log);
        for file in files {
            strace.arg("-P").arg(file);
        }
        if let Some(Fault { call, nth, happens }) = fault {
            let what = match happens {
                Happens::Full => format!("error=ENOSPC:when={nth}+"),
                Happens::Fails => format!("error=EIO:when={nth}"),
                Happens::ReadOnly => format!("error=EROFS:when={nth}+"),
                Happens::Killed => format!("signal=KILL:when={nth}"),
            };
            strace.arg("-e").arg(format!("inject={call}:{what}"));
        }
        strace.arg(env!("CARGO_BIN_EXE_thrum")).args(args).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = strace.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (started, said) = mpsc::channel();
        let talk = thread::spawn(move || {
            let mut talk = String::new();
            for line in stderr.lines().map_while(Result::ok) {
                if line.contains(" started: d_") {
                    let _ = started.send(());
                }
                talk.push_str(&line);
                talk.push('\n');
            }
            talk
        });
        Self { child, log, talk, said }
    }

    /// Waits until a daemon serves or has ended. Returns `true` if it serves.
    pub(super) fn serves(&self) -> bool {
        self.said.recv().is_ok()
    }

    /// Waits for the program to exit. Returns its exit code (-1 if it was killed) and standard error, and the number of
    /// calls that failed or at which it was killed.
    pub(super) fn end(mut self) -> (Ran, u64) {
        let status = self.child.wait().unwrap();
        let stderr = self.talk.join().unwrap();
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        // A call at which the process is killed does not return. A kill by the test itself hits the daemon outside
        // these calls.
        let injected = log.lines().filter(|line| line.contains("(INJECTED)") || line.ends_with("= ?")).count();
        (Ran { code: status.code().unwrap_or(-1), stdout: String::new(), stderr }, injected as u64)
    }
}

/// Counts the calls in an `strace` log. For each name, returns the count of the thread that made the most calls.
fn counted(log: &Path) -> BTreeMap<String, u64> {
    let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
    for line in fs::read_to_string(log).unwrap().lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        if let Some((name, _)) = call.trim_start().split_once('(')
            && !name.starts_with("<...")
        {
            *counts.entry((thread.to_owned(), name.to_owned())).or_default() += 1;
        }
    }
    let mut most = BTreeMap::new();
    for ((_, name), count) in counts {
        let known: &mut u64 = most.entry(name).or_default();
        *known = count.max(*known);
    }
    most
}

/// Calls `with` first without a fault, then with about `some` of all possible faults, evenly distributed over the
/// system calls; with all of them if `THRUM_EVERY_FAULT=1` is set. `with` returns the number of calls that it saw fail.
#[expect(clippy::print_stdout, reason = "figures for whoever runs the tests for them")]
pub(super) fn each_fault(name: &str, repo: &TestRepo, some: usize, mut with: impl FnMut(Option<&Fault>) -> u64) {
    with(None);
    let counted = counted(&repo.above().join("strace.log"));
    let (mut runs, mut possible) = (0, 0);
    let mut injected = ALL.map(|happens| (happens, 0));
    for (call, count) in &counted {
        let faults = (1..=*count).flat_map(|nth| ALL.map(|happens| Fault { call: call.clone(), nth, happens }));
        let all = faults.clone().count();
        let stride = if env::var_os("THRUM_EVERY_FAULT").is_some() { 0 } else { all * counted.len() / some };
        possible += all;
        // An odd stride covers all four effects in turn.
        for fault in faults.step_by(stride | 1) {
            runs += 1;
            let failed = with(Some(&fault));
            injected.iter_mut().filter(|(happens, _)| *happens == fault.happens).for_each(|(_, sum)| *sum += failed);
        }
    }
    println!("{name}: {runs} runs of {possible} possible, calls that failed: {injected:?}");
    let sum =
        |of: fn(Happens) -> bool| injected.iter().filter(|(happens, _)| of(*happens)).map(|(_, sum)| sum).sum::<u64>();
    // Otherwise `strace` itself had no effect.
    assert!(sum(|happens| happens == Happens::Killed) > 0, "{name}: no run was killed");
    assert!(sum(|happens| happens != Happens::Killed) > 0, "{name}: no call failed");
}
