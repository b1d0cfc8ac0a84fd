//! Starts the daemon, on request or because a command needs it.
//!
//! The new process is this program again, as `daemon run`, detached from the terminal. It is up when it answers
//! `health` on its socket. If it ends before that, its error is read from its standard error, a file in memory: a full
//! or broken disk may be what prevents the start.
//!
//! Two commands may start a daemon at the same time: the lock admits one of the daemons, and both commands find that
//! one answering.

use std::{
    env,
    fs::{self, File, TryLockError},
    io,
    os::unix::{fs::FileExt, net::UnixListener},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use thrum_core::{Error, ErrorKind, Timestamp, limits};
use thrum_daemon::{lock, paths::Repo, pidfile, sandbox};

use crate::{
    answers::Health,
    client::{Client, cannot_connect},
    go_daemon,
    output::Output,
    time,
};

/// How long a started daemon may take to answer. Opening a large log takes a few seconds on a slow disk.
const UP: Duration = limits::LOCAL_CALL.saturating_mul(2);

/// How often to check whether the daemon answers. A start is rare and takes some 20 ms.
const LOOK: Duration = Duration::from_millis(5);

/// How many further times a daemon is started if it ended because the lock was taken and the lock is free now.
const MORE_STARTS: u8 = 2;

/// How many lines of the daemon's output are shown when it fails without an error message.
const LAST_LINES: usize = 5;

/// The block size in bytes from which glibc's allocator takes memory directly from the system, and returns it when
/// freed. By default glibc raises that size to the largest block freed so far, and each thread keeps smaller freed
/// blocks: after a few events of six megabytes, a daemon stayed at three times the memory that it used. Other
/// allocators ignore the variable.
const LARGE_BLOCKS: (&str, &str) = ("MALLOC_MMAP_THRESHOLD_", "262144");

/// Starts the daemon because a command needs it, and prints a note.
pub(crate) fn on_demand(repo: &Repo, output: &Output) -> Result<Client, Error> {
    output.note(&format!("Starting the daemon of {} …", repo.main_root().display()));
    let _progress = output.progress("Starting the daemon", None);
    start(repo, &[], output).map(|(client, _)| client)
}

/// Returns a connection to the running daemon, or starts one.
pub(crate) fn ensure(repo: &Repo, output: &Output) -> Result<(Client, Health), Error> {
    answering(repo).map_or_else(|| start(repo, &[], output), Ok)
}

/// The error for a daemon that is not running, with the command that starts it.
pub(crate) fn not_running(repo: &Repo) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the daemon of {} is not running", repo.main_root().display()))
        .hint("thrum daemon start")
}

/// Checks that the system lets this process use the daemon's socket and create one beside it. A sandbox may forbid
/// that; stopping the daemon there for a restart would leave all agents without a daemon.
///
/// # Errors
/// `refused`. If a sandbox forbids it, the hint names the sandbox and the way out.
pub(crate) fn is_allowed(repo: &Repo) -> Result<(), Error> {
    let socket = repo.socket();
    if let Err(error) = Client::connect(&socket)
        && error.kind() == io::ErrorKind::PermissionDenied
    {
        return Err(cannot_connect(&socket, &error));
    }
    let beside = socket.with_extension("try");
    let made = UnixListener::bind(&beside);
    let _ = fs::remove_file(&beside);
    match made {
        Err(error) if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {
            let text = format!(
                "a daemon could not be started here, so the one that runs is left: cannot listen on {}: {error}",
                socket.display()
            );
            let refused = Error::new(ErrorKind::Refused, text);
            Err(sandbox::hint(&error).map_or(refused.clone(), |hint| refused.hint(hint)))
        }
        // The start itself reports every other problem.
        _ => Ok(()),
    }
}

/// Starts the daemon with further flags for `daemon run`, and waits until it answers.
///
/// # Errors
/// Returns the error that the daemon printed before it ended, or `unavailable` if it does not answer in time;
/// `try_again` if another process holds the lock and does not answer; `refused` if a daemon of Go Thrum runs and cannot
/// be reached; `failed` if the process cannot be created.
pub(crate) fn start(repo: &Repo, flags: &[&str], output: &Output) -> Result<(Client, Health), Error> {
    let cannot = |what: &str, cause: io::Error| {
        let error = Error::new(ErrorKind::Failed, format!("cannot {what}: {cause}"));
        sandbox::hint(&cause).map_or(error.clone(), |hint| error.hint(hint))
    };
    if let Some(error) = go_daemon::out_of_reach(repo) {
        return Err(error);
    }
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
        // The daemon serves all agents, so it must not inherit the name of one.
        .env_remove("THRUM_NAME")
        .env_remove("THRUM_AGENT_ID")
        .env_remove("THRUM_HOME")
        .env(LARGE_BLOCKS.0, LARGE_BLOCKS.1)
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
            // Another process started the daemon that answers. Ours must not become the daemon later, after that one
            // was stopped.
            if ended.is_none() && up.1.pid != child.id() {
                let _ = child.kill();
                let _ = child.wait();
            }
            return Ok(up);
        }
        match ended {
            // Another daemon holds the lock: it is starting, or it is stopping and will release the lock.
            Some(status) if refused(status) && lock_is_held(repo) => {
                let since = *silent_since.get_or_insert_with(|| {
                    output.note("Another daemon is starting or stopping here; waiting for it …");
                    Instant::now()
                });
                if since.elapsed() > limits::SILENT_DAEMON && !has_just_started(repo) {
                    return Err(silent(repo));
                }
            }
            Some(status) if refused(status) && more > 0 && found_lock_taken(&lines(&talk)) => {
                more -= 1;
                child = spawn()?;
            }
            Some(status) => return Err(did_not_start(status.code(), &talk)),
            None => {}
        }
        if Instant::now() > deadline {
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!("the daemon did not answer within {} s", UP.as_secs()),
            )
            .hint("See `thrum daemon logs`; it may still be starting."));
        }
        thread::sleep(LOOK);
    }
}

/// Returns `true` if the pid file shows that the daemon was started so recently that it may still be opening its
/// database.
fn has_just_started(repo: &Repo) -> bool {
    let started = pidfile::read(&repo.pid_file()).and_then(|file| Timestamp::parse(&file.started_at?));
    started.is_some_and(|started| (started..started.plus(UP)).contains(&time::now()))
}

/// The error for a process that holds the lock and does not answer.
fn silent(repo: &Repo) -> Error {
    let who = lock::holder(repo).map_or_else(String::new, |pid| format!(" (pid {})", pid.as_raw_nonzero()));
    let within = limits::SILENT_DAEMON.as_secs();
    Error::new(
        ErrorKind::TryAgain,
        format!("the daemon of {}{who} did not answer within {within} s", repo.main_root().display()),
    )
    .hint("Try again if it is just starting; else `thrum daemon restart`. `thrum daemon logs` shows what it does.")
}

/// Creates a private file, in memory if the system supports that.
fn in_memory() -> io::Result<File> {
    #[cfg(target_os = "linux")]
    return Ok(rustix::fs::memfd_create("thrum-daemon-start", rustix::fs::MemfdFlags::CLOEXEC)?.into());
    #[cfg(not(target_os = "linux"))]
    tempfile::tempfile()
}

fn refused(status: ExitStatus) -> bool {
    status.code() == Some(i32::from(ErrorKind::Refused.exit_code()))
}

/// Returns `true` if a daemon's last error, in what it and others before it have printed, is that the lock was taken. Any
/// other refusal would be repeated by another daemon.
fn found_lock_taken(said: &[String]) -> bool {
    let last = said.iter().rev().find_map(|line| line.strip_prefix("Error: "));
    last.is_some_and(|error| error.starts_with("a daemon is already running for "))
}

/// Connects to the daemon; `None` unless it answers `health`.
pub(crate) fn answering(repo: &Repo) -> Option<(Client, Health)> {
    let mut client = Client::connect(&repo.socket()).ok()?;
    let health = client.call("health", json!({})).ok()?;
    Some((client, health))
}

/// Returns `true` if a process has the daemon's lock: the only certain sign that a daemon is alive.
pub(crate) fn lock_is_held(repo: &Repo) -> bool {
    let Ok(file) = File::open(repo.lock_file()) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// Returns the error that the daemon printed before it ended; without one, the last lines of its output.
fn did_not_start(code: Option<i32>, talk: &File) -> Error {
    let said = lines(talk);
    let after =
        |word: &str| said.iter().rev().find_map(|line| line.strip_prefix(word)).map(|rest| rest.trim().to_owned());
    let kind =
        ErrorKind::ALL.into_iter().find(|kind| code == Some(i32::from(kind.exit_code()))).unwrap_or(ErrorKind::Failed);
    let message = after("Error:").unwrap_or_else(|| {
        let last = &said[said.len().saturating_sub(LAST_LINES)..];
        if last.is_empty() { "it said nothing".to_owned() } else { last.join("\n") }
    });
    let error = Error::new(kind, format!("the daemon did not start: {message}"));
    error.hint(after("Hint:").unwrap_or_else(|| "See `thrum daemon logs`.".to_owned()))
}

/// The lines in the first megabyte of a file.
fn lines(file: &File) -> Vec<String> {
    let mut bytes = vec![0; 1 << 20];
    // Treat a read error as no output.
    let length = file.read_at(&mut bytes, 0).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..length]).lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lock_that_was_taken_is_a_reason_to_start_another_daemon() {
        let taken = "Error: a daemon is already running for /repo (pid 7)";
        let copied = "Error: /repo was copied from /other, which still has the same identity";
        for (said, expected) in [
            ([taken, "Hint: x"].as_slice(), true),
            (&[taken, "Hint: x", copied, "Hint: y"], false),
            (&[copied, taken], true),
            (&[], false),
        ] {
            let said: Vec<String> = said.iter().map(|line| (*line).to_owned()).collect();
            assert_eq!(found_lock_taken(&said), expected, "{said:?}");
        }
    }
}
