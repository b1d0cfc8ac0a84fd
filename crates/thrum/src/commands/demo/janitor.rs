//! `thrum janitor DIR`, hidden: waits until its parent is done or gone, then ends the remaining processes and removes
//! the directory of a [stage](super::stage).
//!
//! The remaining processes are daemons and running commands. A command may just be starting a daemon, so the commands
//! are killed first, all at once: they share one process group. Its leader is an idle child of the janitor, which keeps
//! the group alive as long as it is needed and its number from being reused. Ctrl-C reaches none of these processes,
//! only the demo or benchmark itself, whose end makes the janitor end the rest.

use std::{
    env, fs,
    io::{self, Read, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use thrum_core::{Error, ErrorKind};
use thrum_daemon::{lock, paths::Repo};

use crate::{
    commands::{daemon, demo::failed},
    start,
};

/// The marker file of a directory that the janitor may remove.
pub(crate) const MARKER: &str = ".thrum-stage";

/// The message that makes the janitor leave everything as it is.
pub(crate) const KEEP: &[u8] = b"keep";

/// Pause before daemons are ended a second time: a daemon that has just left its starter's process group takes its lock
/// within this time, or finds its directory gone.
const STARTING: Duration = Duration::from_millis(100);

/// Clean up after a demo or a benchmark
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory; without it, the leader of a group, which only waits
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let Some(dir) = &args.dir else {
        read_stdin();
        return Ok(());
    };
    let dir = fs::canonicalize(dir).map_err(failed("find the directory"))?;
    if !dir.join(MARKER).is_file() {
        return Err(Error::new(ErrorKind::Refused, format!("{} is no directory of a demo", dir.display())));
    }
    let mut leader = lead_group().map_err(failed("start a process group"))?;
    writeln!(io::stdout(), "{}", leader.id()).map_err(failed("say which group"))?;
    // Leave the session only now: the leader must be started in the session of the commands that join its group.
    let _ = rustix::process::setsid();
    if read_stdin() == KEEP {
        return Ok(());
    }
    if let Some(group) = i32::try_from(leader.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = leader.wait();
    end_daemons(&dir);
    thread::sleep(STARTING);
    end_daemons(&dir);
    fs::remove_dir_all(&dir).map_err(failed("remove the directory"))
}

/// Reads standard input until the process at the other end has closed it, has ended, or has sent [`KEEP`].
fn read_stdin() -> Vec<u8> {
    let mut heard = Vec::new();
    // An error also means that the other side is gone.
    let _ = io::stdin().lock().take(KEEP.len() as u64).read_to_end(&mut heard);
    heard
}

/// Starts an idle process that leads its own process group and ends with us.
fn lead_group() -> io::Result<Child> {
    Command::new(env::current_exe()?)
        .arg("janitor")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

fn end_daemons(dir: &Path) {
    for repo in repositories(dir) {
        if daemon::halt(&repo).is_ok() || !start::lock_is_held(&repo) {
            continue;
        }
        // The daemon did not stop when asked. The lock names its process, while the pid file may be of an earlier one.
        if let Some(pid) = lock::holder(&repo) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// The repositories in a stage's directory.
fn repositories(dir: &Path) -> Vec<Repo> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| Repo::discover(&entry.path()).ok().filter(|repo| repo.root() == entry.path())).collect()
}
