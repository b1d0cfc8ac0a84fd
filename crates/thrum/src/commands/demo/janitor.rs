//! `thrum janitor DIR`, hidden: waits until whoever started it is gone, then stops the daemons in a stage's directory and
//! removes it. See [`stage`](super::stage).

use std::{
    fs,
    io::{self, Read},
    path::PathBuf,
};

use rustix::process::{Pid, Signal, kill_process};
use thrum_core::{ErrorKind, Fault};
use thrum_daemon::pidfile;

use crate::commands::{daemon, demo::stage};

/// The file that shows that a directory is ours to remove.
pub(crate) const MARKER: &str = ".thrum-stage";

/// What to tell the janitor so that it leaves everything as it is.
pub(crate) const KEEP: &[u8] = b"keep";

/// Clean up after a demo or a benchmark
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<(), Fault> {
    // Ctrl-C on the terminal is for the demo, and the reason why we are here.
    let _ = rustix::process::setsid();
    let mut heard = Vec::new();
    // Whatever ends the wait, the other side is gone.
    let _ = io::stdin().lock().take(KEEP.len() as u64).read_to_end(&mut heard);
    if heard == KEEP {
        return Ok(());
    }
    let dir = fs::canonicalize(&args.dir).map_err(stage::failed("find the directory"))?;
    if !dir.join(MARKER).is_file() {
        return Err(Fault::new(ErrorKind::Refused, format!("{} is no directory of a demo", dir.display())));
    }
    // Moved away first: a command that still runs may start a daemon when it loses the one it had, and must not find a place.
    let gone = dir.with_extension("gone");
    fs::rename(&dir, &gone).map_err(stage::failed("move the directory"))?;
    for repo in stage::repositories(&gone) {
        let pid = pidfile::read(&repo.pid_file()).and_then(|file| i32::try_from(file.pid).ok()).and_then(Pid::from_raw);
        // What does not stop when asked, and can be shown to be the daemon, is stopped.
        if daemon::halt(&repo).is_err()
            && crate::start::lock_is_held(&repo)
            && let Some(pid) = pid
        {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    fs::remove_dir_all(&gone).map_err(stage::failed("remove the directory"))
}
