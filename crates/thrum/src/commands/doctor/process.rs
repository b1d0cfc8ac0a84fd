//! The daemon and its files: its answer, its lock, its pid file, its socket.

use std::{fs, io, os::unix::fs::FileTypeExt};

use serde_json::json;
use thrum_core::{Error, limits};
use thrum_daemon::{checkup, lock, paths::Repo, pidfile};

use super::{
    Check, Repaired,
    Verdict::{Ok as Fine, Problem, Skipped, Warning},
};
use crate::{
    answers::Health,
    client::{self, Client},
    commands::daemon::halt,
    go_daemon,
    output::Output,
    start,
};

/// The state of the repository's daemon, judged by its answer.
pub(super) enum Daemon {
    Answers(Client, Box<Health>),
    NotRunning,
    Silent(Error),
}

impl Daemon {
    pub(super) fn ask(repo: &Repo) -> Self {
        let socket = repo.socket();
        let mut client = match Client::connect(&socket) {
            Ok(client) => client,
            Err(error) if client::nobody_listens(&error) => return Self::NotRunning,
            Err(error) => return Self::Silent(client::cannot_connect(&socket, &error)),
        };
        match client.call("health", json!({})) {
            Ok(health) => Self::Answers(client, Box::new(health)),
            Err(error) => Self::Silent(error),
        }
    }
}

pub(super) fn checks(repo: &Repo, daemon: &Daemon) -> Vec<Check> {
    let mut checks = vec![answer(repo, daemon)];
    checks.extend([lock_file(repo), socket(repo, daemon)]);
    checks
}

/// Describes the daemon's long-running work.
fn is_at(health: &Health) -> impl Iterator<Item = String> {
    let storing = health.storing.iter().map(|storing| format!("it is storing {storing}"));
    storing.chain(health.forgetting.iter().map(|forgetting| format!("it is dropping {forgetting}")))
}

fn answer(repo: &Repo, daemon: &Daemon) -> Check {
    let held = start::lock_is_held(repo);
    match daemon {
        Daemon::Answers(_, health) if go_daemon::answers(health) => {
            Check::new("daemon", Warning, go_daemon::sentence(health))
                .fix(format!("To change over: {}", go_daemon::CHANGE_OVER))
        }
        Daemon::Answers(_, health) if health.version != env!("CARGO_PKG_VERSION") => {
            let text = format!("it runs version {}, this command is {}", health.version, env!("CARGO_PKG_VERSION"));
            Check::new("daemon", Warning, text).fix("thrum daemon restart")
        }
        Daemon::Answers(_, health) if !health.warnings.is_empty() => {
            let said: Vec<String> = health.warnings.iter().cloned().chain(is_at(health)).collect();
            Check::new("daemon", Warning, format!("it runs (pid {}) and warns: {}", health.pid, said.join("; ")))
        }
        Daemon::Answers(_, health) => {
            let is_at: String = is_at(health).map(|work| format!("; {work}")).collect();
            Check::new("daemon", Fine, format!("it runs (pid {}, version {}){is_at}", health.pid, health.version))
        }
        Daemon::NotRunning if held && let Some(error) = go_daemon::out_of_reach(repo) => {
            Check { fix: error.hint, ..Check::new("daemon", Problem, error.message) }
        }
        Daemon::NotRunning if held => {
            let who = lock::holder(repo)
                .map_or_else(|| "a process".to_owned(), |pid| format!("pid {}", pid.as_raw_nonzero()));
            let repo = repo.clone();
            Check::new("daemon", Problem, format!("{who} holds its lock, but does not answer on its socket"))
                .fix("thrum daemon restart")
                .repair(move || restart(&repo))
        }
        Daemon::NotRunning => match checkup::is_own(repo) {
            Ok(()) => Check::new("daemon", Fine, "it is not running; commands start it"),
            Err(error) => Check {
                fix: error.hint,
                ..Check::new("daemon", Problem, format!("it does not start: {}", error.message))
            },
        },
        Daemon::Silent(error) => {
            let fix = error.hint.clone().unwrap_or_else(|| "thrum daemon restart".to_owned());
            Check::new("daemon", Problem, error.message.clone()).fix(fix)
        }
    }
}

/// Checks the lock against the pid file. The lock decides which process is the daemon; the pid file only gives its
/// number.
fn lock_file(repo: &Repo) -> Check {
    let file = repo.pid_file();
    let says = pidfile::read(&file);
    if start::lock_is_held(repo) {
        return match says {
            Some(says) => Check::new("lock", Fine, format!("held by pid {} according to its file", says.pid)),
            None if let Some(pid) = lock::go_holder(repo) => {
                Check::new("lock", Fine, format!("held by pid {}", pid.as_raw_nonzero()))
            }
            None => Check::new("lock", Warning, format!("held, but {} does not name the holder", file.display()))
                .fix("thrum daemon restart"),
        };
    }
    if file.symlink_metadata().is_err() {
        return Check::new("lock", Fine, "free, as no daemon runs");
    }
    let whose = says.map_or_else(String::new, |says| format!(" of pid {}", says.pid));
    Check::new("lock", Warning, format!("free, but {}{whose} was left behind by a crash", file.display()))
        .repair(move || remove(&file))
}

fn socket(repo: &Repo, daemon: &Daemon) -> Check {
    let (socket, usual) = (repo.socket(), repo.var().join("thrum.sock"));
    let shown = socket.display().to_string();
    match fs::symlink_metadata(&socket) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match daemon {
            Daemon::Answers(..) => Check::new("socket", Problem, format!("{shown} is gone while the daemon runs"))
                .fix("thrum daemon restart"),
            _ if start::lock_is_held(repo) => Check::new("socket", Skipped, format!("{shown} is gone")),
            _ => Check::new("socket", Skipped, "there is none while no daemon runs"),
        },
        Err(error) => Check::new("socket", Problem, format!("cannot look at {shown}: {error}")),
        Ok(about) if !about.file_type().is_socket() => {
            let remove = if about.is_dir() { "rm -r" } else { "rm" };
            Check::new("socket", Problem, format!("{shown} is no socket; the daemon cannot listen there"))
                .fix(format!("{remove} {shown}"))
        }
        Ok(_) if matches!(daemon, Daemon::NotRunning) && !start::lock_is_held(repo) => {
            Check::new("socket", Warning, format!("{shown} was left behind by a crash")).repair(move || remove(&socket))
        }
        Ok(_) if socket != usual => {
            let text = format!("{shown}, because its usual path has more than {} bytes", limits::MAX_SOCKET_PATH_BYTES);
            Check::new("socket", Fine, text)
        }
        Ok(_) => Check::new("socket", Fine, shown),
    }
}

fn restart(repo: &Repo) -> Result<Repaired, Error> {
    let stopped = halt(repo)?.map_or_else(String::new, |pid| format!("stopped pid {pid} and "));
    let (_, health) = start::start(repo, &[], &Output::new(false, true))?;
    Ok(format!("{stopped}restarted the daemon (pid {})", health.pid).into())
}

fn remove(file: &std::path::Path) -> Result<Repaired, Error> {
    let failed =
        |error| Error::new(thrum_core::ErrorKind::Failed, format!("cannot remove {}: {error}", file.display()));
    fs::remove_file(file).map_err(failed)?;
    Ok(format!("removed {}", file.display()).into())
}
