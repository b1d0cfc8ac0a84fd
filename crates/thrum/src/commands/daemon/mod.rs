//! `thrum daemon`: controls the background process that serves the commands.

pub(crate) mod logs;

use std::{
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    net::sockopt::socket_peercred,
    process::{Pid, Signal, kill_process},
};
use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind, limits, name};
use thrum_daemon::{RunOptions, lock, paths::Repo};

use crate::{
    answers::{Answer, Health},
    commands::status,
    context::Context,
    go_daemon,
    render::{OneLine, Page, Render, Silent, boxed},
    start, time,
};

/// Start, stop and inspect the daemon; other commands start it when they need it
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Run the daemon in the foreground until it is stopped
    #[command(after_help = "\
Examples:
  thrum daemon run
  thrum daemon run --json")]
    Run {
        #[command(flatten)]
        identity: CopiedRepository,
        /// Leave the terminal's session: `daemon start` says so
        #[arg(long, hide = true)]
        background: bool,
    },
    /// Start the daemon in the background; safe to repeat
    #[command(after_help = "\
Examples:
  thrum daemon start
  thrum daemon start --json")]
    Start {
        #[command(flatten)]
        identity: CopiedRepository,
    },
    /// Stop the daemon after it has finished its current requests
    #[command(after_help = "\
Examples:
  thrum daemon stop
  thrum daemon stop --quiet")]
    Stop,
    /// Stop the daemon if it is running, and start it
    #[command(after_help = "\
Examples:
  thrum daemon restart
  thrum daemon restart --json")]
    Restart,
    /// Show whether the daemon is running; exit code 69 if it is not
    #[command(after_help = "\
Examples:
  thrum daemon status
  thrum daemon status --json")]
    Status,
    Logs(logs::Args),
}

/// What to do with a repository that was copied or moved with its .thrum.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(multiple = false)]
pub(crate) struct CopiedRepository {
    /// Keep the daemon's identity: the repository was moved
    #[arg(long)]
    moved: bool,
    /// Create a new identity: the repository is a copy
    #[arg(long)]
    new_identity: bool,
}

impl CopiedRepository {
    fn flags(self) -> Vec<&'static str> {
        [(self.moved, "--moved"), (self.new_identity, "--new-identity")]
            .iter()
            .filter(|(set, _)| *set)
            .map(|(_, flag)| *flag)
            .collect()
    }
}

/// Time limit for a daemon to stop: it drains its requests, then closes its files.
const GONE: Duration = limits::DRAIN.saturating_mul(2);

/// How long to wait for a daemon that holds its lock but cannot be found yet, because it starts or stops.
const SILENT: Duration = Duration::from_secs(3);

/// How often to check whether the daemon has stopped.
const LOOK: Duration = Duration::from_millis(10);

impl Command {
    pub(crate) fn run(self, cx: &Context) -> Result<Box<dyn Render>, Error> {
        match self {
            Self::Run { identity, background } => boxed(run(identity, background, cx).map(|()| Silent)),
            Self::Start { identity } => boxed(start(identity, cx)),
            Self::Stop => boxed(stop(cx)),
            Self::Restart => boxed(restart(cx)),
            Self::Status => boxed(status(cx)),
            Self::Logs(args) => boxed(logs::run(&args, cx)),
        }
    }
}

fn run(identity: CopiedRepository, background: bool, cx: &Context) -> Result<(), Error> {
    if background {
        // Fails only for the leader of a process group, which no child of `start` is.
        let _ = rustix::process::setsid();
    }
    let CopiedRepository { moved, new_identity } = identity;
    thrum_daemon::run(RunOptions {
        moved,
        new_identity,
        foreground: !background,
        ..RunOptions::new(cx.repo()?.clone())
    })
}

fn start(identity: CopiedRepository, cx: &Context) -> Result<OneLine, Error> {
    let repo = cx.repo()?;
    if let Some((_, health)) = start::answering(repo) {
        status::tell_version(&health, cx);
        // Go Thrum's daemon does not report its process id.
        let pid = if health.pid == 0 { String::new() } else { format!(" (pid {})", health.pid) };
        return Ok(summary(format!("The daemon was running already{pid}"), "already_running", &health));
    }
    let _progress = cx.output.progress("Starting the daemon", None);
    let (_, health) = start::start(repo, &identity.flags(), &cx.output)?;
    Ok(summary(format!("The daemon is running (pid {})", health.pid), "started", &health))
}

fn stop(cx: &Context) -> Result<OneLine, Error> {
    let _progress = cx.output.progress("Stopping the daemon", None);
    let repo = cx.repo()?;
    let stopped = halt(repo)?;
    let line = match stopped {
        Some(pid) => format!("The daemon has stopped (pid {pid})"),
        None => "The daemon was not running".to_owned(),
    };
    if let Some(next) = lock::holder(repo) {
        cx.output.warn(&format!("another command has started the daemon again (pid {})", next.as_raw_nonzero()));
    }
    let status = if stopped.is_some() { "stopped" } else { "not_running" };
    Ok(OneLine { line, value: json!({"status": status, "pid": stopped}) })
}

fn restart(cx: &Context) -> Result<OneLine, Error> {
    let repo = cx.repo()?;
    if let Some((_, health)) = start::answering(repo).filter(|(_, health)| go_daemon::answers(health)) {
        return Err(go_daemon::left_running(&health));
    }
    if let Some(error) = go_daemon::out_of_reach(repo) {
        return Err(error);
    }
    start::is_allowed(repo)?;
    let _progress = cx.output.progress("Restarting the daemon", None);
    halt(repo)?;
    let (_, health) = start::start(repo, &[], &cx.output)?;
    Ok(summary(format!("Restarted the daemon (pid {})", health.pid), "restarted", &health))
}

fn summary(line: String, status: &str, health: &Health) -> OneLine {
    OneLine {
        line,
        value: json!({"status": status, "pid": health.pid, "version": health.version, "daemon_id": health.daemon_id}),
    }
}

/// Finds the process that holds the daemon's lock, or that listens on its socket, as the operating system reports it;
/// `None` if the lock is free.
///
/// The pid file is not used: after a crash, its process id may belong to another process, and a daemon that is starting
/// has not replaced it yet.
fn holder(repo: &Repo) -> Result<Option<Pid>, Error> {
    let deadline = Instant::now() + SILENT;
    while start::lock_is_held(repo) {
        if let Some(process) = lock::holder(repo).or_else(|| lock::go_holder(repo)) {
            return Ok(Some(process));
        }
        // Without a record lock (an older version, or a file system that has none), only the socket shows the daemon.
        if let Ok(listener) = UnixStream::connect(repo.socket()).and_then(|stream| Ok(socket_peercred(&stream)?)) {
            return Ok(Some(listener.pid));
        }
        if Instant::now() > deadline {
            return Err(Error::new(ErrorKind::TryAgain, "a daemon is starting or stopping and does not listen")
                .hint("Try again in a moment, or see `thrum daemon logs`."));
        }
        thread::sleep(LOOK);
    }
    Ok(None)
}

/// Returns `true` while `process` has the daemon's lock, or an unknown process has it. Another daemon may take the lock
/// as soon as it is free, because any command of an agent starts one.
fn still_holds(repo: &Repo, process: Pid) -> bool {
    start::lock_is_held(repo) && lock::holder(repo).is_none_or(|holder| holder == process)
}

/// Stops the daemon of `repo` and waits until it has released its lock. Returns the process id of the stopped daemon;
/// `None` if no daemon was running. Another daemon may be running when this returns. A command that holds the lock,
/// such as `thrum restore`, is ended like a daemon.
///
/// # Errors
/// `refused` if the daemon belongs to another user; `try_again` if it cannot be found or takes too long.
pub(crate) fn halt(repo: &Repo) -> Result<Option<u32>, Error> {
    let Some(process) = holder(repo)? else { return Ok(None) };
    let pid = process.as_raw_nonzero().get().unsigned_abs();
    match kill_process(process, Signal::TERM) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => {
            return Err(Error::new(ErrorKind::Refused, format!("cannot stop the daemon (pid {pid}): {error}")));
        }
    }
    let deadline = Instant::now() + GONE;
    while still_holds(repo, process) {
        if Instant::now() > deadline {
            return Err(Error::new(
                ErrorKind::TryAgain,
                format!("the daemon (pid {pid}) has not stopped within {}", time::brief(GONE)),
            )
            .hint(format!(
                "See `thrum daemon logs`. As a last resort: kill -9 {pid}. Nothing acknowledged is lost by that."
            )));
        }
        thread::sleep(LOOK);
    }
    Ok(Some(pid))
}

/// The daemon's state. `daemon status` does not start the daemon.
struct State {
    health: Option<Answer<Health>>,
    repo: String,
}

fn status(cx: &Context) -> Result<State, Error> {
    let repo = cx.repo()?.main_root().display().to_string();
    let health = match cx.running_daemon()? {
        Some(mut client) => Some(client.call::<Answer<Health>>("health", json!({}))?),
        None => None,
    };
    match &health {
        Some(health) => status::tell_version(&health.read, cx),
        None => cx.output.hint("thrum daemon start"),
    }
    Ok(State { health, repo })
}

impl Render for State {
    fn human(&self, page: &mut Page) {
        page.field("Repository", &self.repo);
        match &self.health {
            Some(health) => {
                page.field("Daemon", status::daemon(&health.read));
                page.field("Identity", name::quoted(&health.read.daemon_id));
            }
            None => page.field("Daemon", "not running"),
        }
    }

    fn json(&self) -> Value {
        match &self.health {
            Some(health) => json!({"running": true, "repo_path": self.repo, "health": health.raw}),
            None => json!({"running": false, "repo_path": self.repo}),
        }
    }

    fn code(&self) -> u8 {
        if self.health.is_some() { 0 } else { ErrorKind::Unavailable.exit_code() }
    }
}
