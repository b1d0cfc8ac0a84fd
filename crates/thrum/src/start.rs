//! Starting the daemon: when a person says so, or when a command needs it.
//!
//! The new process is this program again, as `daemon run`, in a session of its own. It is up when it answers `health` on its
//! socket. Until then we listen to its standard error, in memory, because the disk may be what keeps it from starting. Two
//! commands may start one at once: the lock lets one live, and both commands find it answering.

use std::{
    env,
    fs::{File, TryLockError},
    os::unix::fs::FileExt,
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use thrum_core::{ErrorKind, Fault, Stamp, limits};
use thrum_daemon::{lock, paths::Repo, pidfile, sandbox};

use crate::{client::Client, context::Context, output::Output, shapes::Health, time};

/// How long a daemon may take to answer after it was started. Opening a large log takes a few seconds on a slow disk.
const UP: Duration = limits::LOCAL_CALL.saturating_mul(2);

/// How often we look whether it answers. A start is rare and takes some 20 ms.
const LOOK: Duration = Duration::from_millis(5);

/// How often a daemon that found the lock taken is started again once the lock is free.
const MORE_STARTS: u8 = 2;

/// How many lines of what it said are shown when it does not start and gives no error.
const LAST_LINES: usize = 5;

/// Starts the daemon because a command needs it, and says so.
pub(crate) fn on_demand(cx: &Context, repo: &Repo) -> Result<Client, Fault> {
    if !cx.may_start() {
        return Err(not_running(repo));
    }
    cx.output.note(&format!("Starting the daemon of {} …", repo.main_root().display()));
    let _progress = cx.output.progress("Starting the daemon", None);
    start(repo, &[], &cx.output).map(|(client, _)| client)
}

/// The daemon that runs, or one that is started now.
pub(crate) fn ensure(repo: &Repo, output: &Output) -> Result<(Client, Health), Fault> {
    answering(repo).map_or_else(|| start(repo, &[], output), Ok)
}

/// That no daemon runs, and how to start one.
pub(crate) fn not_running(repo: &Repo) -> Fault {
    Fault::new(ErrorKind::Unavailable, format!("the daemon of {} is not running", repo.main_root().display())).hint("thrum daemon start")
}

/// Starts the daemon with further flags for `daemon run`, and waits until it answers.
///
/// # Errors
/// What the daemon itself said before it ended, or `unavailable` with the last lines of its log when it does not answer in time.
pub(crate) fn start(repo: &Repo, flags: &[&str], output: &Output) -> Result<(Client, Health), Fault> {
    let cannot = |what: &str, error: std::io::Error| {
        let fault = Fault::new(ErrorKind::Failed, format!("cannot {what}: {error}"));
        sandbox::hint(&error).map_or(fault.clone(), |hint| fault.hint(hint))
    };
    let program = env::current_exe().map_err(|error| cannot("find this program to start the daemon", error))?;
    if !repo.var().is_dir() {
        Repo::create(repo.main_root(), None)?;
    }
    let talk = in_memory().map_err(|error| cannot("listen to the daemon", error))?;
    let mut command = Command::new(program);
    command
        .args(["daemon", "run", "--background", "--repo"])
        .arg(repo.main_root())
        .args(flags)
        // An agent's name is no business of a daemon that serves them all.
        .env_remove("THRUM_NAME")
        .env_remove("THRUM_AGENT_ID")
        .env_remove("THRUM_HOME")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(talk.try_clone().map_err(|error| cannot("listen to the daemon", error))?);
    let mut spawn = || command.spawn().map_err(|error| cannot("start the daemon", error));

    let mut child = spawn()?;
    let (mut more, mut silent_since) = (MORE_STARTS, None);
    let deadline = Instant::now() + UP;
    loop {
        let ended = child.try_wait().ok().flatten();
        if let Some(up) = answering(repo) {
            return Ok(up);
        }
        match ended {
            // Another one holds the lock: it is starting, or stopping and about to make room.
            Some(status) if refused(status) && lock_is_held(repo) => {
                let since = *silent_since.get_or_insert_with(|| {
                    output.note("Another daemon is starting or stopping here; waiting for it …");
                    Instant::now()
                });
                if since.elapsed() > limits::SILENT_DAEMON && !has_just_started(repo) {
                    return Err(silent(repo));
                }
            }
            Some(status) if refused(status) && more > 0 => {
                more -= 1;
                child = spawn()?;
            }
            Some(status) => return Err(did_not_start(status.code(), &talk)),
            None => {}
        }
        if Instant::now() > deadline {
            return Err(Fault::new(ErrorKind::Unavailable, format!("the daemon did not answer within {} s", UP.as_secs()))
                .hint("See `thrum daemon logs`; it may still be starting."));
        }
        thread::sleep(LOOK);
    }
}

/// Returns `true` if the daemon was started so recently that it may still be opening its log, as its pid file says.
fn has_just_started(repo: &Repo) -> bool {
    let started = pidfile::read(&repo.pid_file()).and_then(|file| Stamp::parse(&file.started_at?));
    started.is_some_and(|started| (started..started.plus(UP)).contains(&time::now()))
}

/// That a process has the lock and does not answer.
fn silent(repo: &Repo) -> Fault {
    let who = lock::holder(repo).map_or_else(String::new, |pid| format!(" (pid {})", pid.as_raw_nonzero()));
    let within = limits::SILENT_DAEMON.as_secs();
    Fault::new(ErrorKind::TryAgain, format!("the daemon of {}{who} did not answer within {within} s", repo.main_root().display()))
        .hint("Try again if it is just starting; else `thrum daemon restart`. `thrum daemon logs` shows what it does.")
}

/// A file of nobody's but ours, on no disk where the system has such.
fn in_memory() -> std::io::Result<File> {
    #[cfg(target_os = "linux")]
    return Ok(rustix::fs::memfd_create("thrum-daemon-start", rustix::fs::MemfdFlags::CLOEXEC)?.into());
    #[cfg(not(target_os = "linux"))]
    tempfile::tempfile()
}

fn refused(status: ExitStatus) -> bool {
    status.code() == Some(i32::from(ErrorKind::Refused.exit_code()))
}

/// A connection to a daemon that answers `health`.
pub(crate) fn answering(repo: &Repo) -> Option<(Client, Health)> {
    let mut client = Client::connect(&repo.socket()).ok()?;
    let health = client.call("health", json!({})).ok()?;
    Some((client, health))
}

/// Whether a process has the daemon's lock: the one sure sign that it lives.
pub(crate) fn lock_is_held(repo: &Repo) -> bool {
    let Ok(file) = File::open(repo.lock_file()) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// The error that the daemon printed before it ended.
fn did_not_start(code: Option<i32>, talk: &File) -> Fault {
    let said = lines(talk);
    let after = |word: &str| said.iter().rev().find_map(|line| line.strip_prefix(word)).map(|rest| rest.trim().to_owned());
    let kind = [ErrorKind::Invalid, ErrorKind::NotFound, ErrorKind::Refused, ErrorKind::Unavailable, ErrorKind::TryAgain]
        .into_iter()
        .find(|kind| code == Some(i32::from(kind.exit_code())))
        .unwrap_or(ErrorKind::Failed);
    let message = after("Error:").unwrap_or_else(|| {
        let last = &said[said.len().saturating_sub(LAST_LINES)..];
        if last.is_empty() { "it said nothing".to_owned() } else { last.join("\n") }
    });
    let fault = Fault::new(kind, format!("the daemon did not start: {message}"));
    fault.hint(after("Hint:").unwrap_or_else(|| "See `thrum daemon logs`.".to_owned()))
}

/// The lines of a file, at most of its first megabyte.
fn lines(file: &File) -> Vec<String> {
    let mut bytes = vec![0; 1 << 20];
    // What cannot be read was not said.
    let length = file.read_at(&mut bytes, 0).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..length]).lines().map(str::to_owned).collect()
}
