//! `thrum restore`: replaces the database with that of a backup, and restores other files that are missing.

use std::path::PathBuf;

use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind, name::printable};
use thrum_daemon::{
    backup::{self, Prepared, Restored},
    paths::Repo,
};

use crate::{
    commands::daemon,
    context::Context,
    render::{Page, Render},
    start,
    text::count,
    time,
};

/// Restore the mailbox from a backup; peers send what is newer
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The backup is checked before anything is changed. A running daemon is stopped and started again. The current \
database is kept beside the restored one. Other existing files (key, peers, identities, settings) are not changed; \
only missing ones are restored.

If the repository was lost with its .thrum, run `thrum init --no-start` in a fresh clone before the restore. Never \
run the restored daemon and the original at the same time.

Examples:
  thrum restore mail.backup --yes
  thrum restore mail.backup --yes --json")]
pub(crate) struct Args {
    /// The backup file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Skip the confirmation prompt
    #[arg(long, short)]
    yes: bool,
}

/// The result of a restore.
pub(crate) struct RestoreDone {
    prepared: Prepared,
    restored: Restored,
    daemon_pid: Option<u32>,
}

/// Maximum number of attempts. Each one stops the daemon first, because another command may have started it again.
const TRIES: u8 = 3;

pub(crate) fn run(args: &Args, cx: &Context) -> Result<RestoreDone, Error> {
    let repo = cx.repo()?;
    let progress = cx.output.progress("Checking the backup", None);
    let prepared = backup::prepare(repo, &args.file)?;
    drop(progress);
    if !args.yes {
        confirm(&prepared, cx)?;
    }
    let mut ran = false;
    let restored = stopped(repo, &mut ran, || prepared.install(repo));
    // Start the daemon again if one was stopped, even if the restore failed.
    let started = if ran { Some(start::start(repo, &[], &cx.output)) } else { None };
    let restored = restored?;
    let daemon_pid = started.transpose()?.map(|(_, health)| health.pid);
    if !restored.has_key {
        cx.output
            .warn("The backup holds no key: this becomes another daemon. Register its agents again: thrum quickstart");
    }
    if daemon_pid.is_none() {
        cx.output.hint("thrum daemon start");
    }
    Ok(RestoreDone { prepared, restored, daemon_pid })
}

fn confirm(prepared: &Prepared, cx: &Context) -> Result<(), Error> {
    let manifest = &prepared.manifest;
    let from = time::ago(time::now(), manifest.made_at);
    let question =
        format!("Replace the mailbox by the backup of {from} ({})? [y/N] ", count(manifest.messages, "message"));
    match cx.output.ask(&question) {
        Some(answer) if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") => Ok(()),
        Some(_) => Err(Error::new(ErrorKind::Refused, "nothing was changed")),
        None => Err(Error::new(
            ErrorKind::Invalid,
            "restoring replaces the mailbox that is here, and there is no terminal to ask on",
        )
        .hint("Say --yes.")),
    }
}

/// Stops the daemon and runs `work`, which takes the daemon's lock. Repeats both if a daemon has started in between,
/// with at most [`TRIES`] attempts in all. Sets `ran` if a daemon was running.
fn stopped<T>(repo: &Repo, ran: &mut bool, mut work: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    let mut left = TRIES;
    loop {
        let halted = daemon::halt(repo);
        // A daemon that did not stop in time may stop later.
        *ran |= !matches!(halted, Ok(None));
        halted?;
        left -= 1;
        match work() {
            // Another command started the daemon again before `work` had the lock.
            Err(error) if error.kind == ErrorKind::Refused && left > 0 && start::lock_is_held(repo) => {}
            outcome => return outcome,
        }
    }
}

impl Render for RestoreDone {
    fn human(&self, page: &mut Page) {
        let manifest = &self.prepared.manifest;
        page.line(format!(
            "Restored the mailbox of {} ({}, {})",
            time::exact(manifest.made_at),
            count(manifest.messages, "message"),
            count(manifest.events, "event")
        ));
        if let Some(former) = &self.restored.former {
            page.line(format!("The former database is kept as {}", former.display()));
        }
        if !self.restored.added.is_empty() {
            page.line(format!("Brought back: {}", printable(&self.restored.added.join(", "))));
        }
    }

    fn json(&self) -> Value {
        let (manifest, restored) = (&self.prepared.manifest, &self.restored);
        json!({
            "status": "restored", "made_at": manifest.made_at, "daemon_id": manifest.daemon_id, "events": manifest.events,
            "messages": manifest.messages, "former_database": restored.former, "added": restored.added, "has_key": restored.has_key,
            "daemon_pid": self.daemon_pid,
        })
    }
}
