//! `thrum janitor DIR`, hidden: waits until whoever started it is gone, then ends what is left and removes the directory of
//! a [stage].
//!
//! What is left are daemons, and commands that were running. A command may be starting a daemon just then, so the commands
//! go first, all at once: they are in one process group, whose leader is a child of the janitor that does nothing, so that
//! the group is there as long as it is needed and its number is nobody else's. Ctrl-C reaches none of them; it is for the
//! demo, and reason enough for the rest to end.

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
use thrum_core::{ErrorKind, Fault};
use thrum_daemon::pidfile;

use crate::{
    commands::{daemon, demo::stage},
    start,
};

/// The file that shows that a directory is ours to remove.
pub(crate) const MARKER: &str = ".thrum-stage";

/// What to tell the janitor so that it leaves everything as it is.
pub(crate) const KEEP: &[u8] = b"keep";

/// A daemon that has left its starter's group takes its lock within this time, or finds its directory gone.
const STARTING: Duration = Duration::from_millis(100);

/// Clean up after a demo or a benchmark
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory; without it, the leader of a group, which only waits
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<(), Fault> {
    let Some(dir) = &args.dir else {
        heard();
        return Ok(());
    };
    let dir = fs::canonicalize(dir).map_err(stage::failed("find the directory"))?;
    if !dir.join(MARKER).is_file() {
        return Err(Fault::new(ErrorKind::Refused, format!("{} is no directory of a demo", dir.display())));
    }
    let mut leader = lead_group().map_err(stage::failed("start a process group"))?;
    writeln!(io::stdout(), "{}", leader.id()).map_err(stage::failed("say which group"))?;
    // After the leader, which must be in the session of the commands that join its group.
    let _ = rustix::process::setsid();
    if heard() == KEEP {
        return Ok(());
    }
    if let Some(group) = i32::try_from(leader.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = leader.wait();
    end_daemons(&dir);
    thread::sleep(STARTING);
    end_daemons(&dir);
    fs::remove_dir_all(&dir).map_err(stage::failed("remove the directory"))
}

/// Everything on standard input, until whoever writes there is gone.
fn heard() -> Vec<u8> {
    let mut heard = Vec::new();
    // Whatever ends the wait, the other side is gone.
    let _ = io::stdin().lock().take(KEEP.len() as u64).read_to_end(&mut heard);
    heard
}

/// A process that leads a group of its own, and waits for us.
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
    for repo in stage::repositories(dir) {
        if daemon::halt(&repo).is_ok() || !start::lock_is_held(&repo) {
            continue;
        }
        // It did not stop when asked, and the lock shows that the number is its.
        let pid = pidfile::read(&repo.pid_file()).and_then(|file| i32::try_from(file.pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
