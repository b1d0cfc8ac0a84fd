//! The daemon's own node: a private `tailscaled` in userspace, run without root, with its state in a private directory.
//!
//! This module starts the process, logs it in, watches it and ends it. The difficulty is that the process may outlive
//! the daemon: a daemon that is killed leaves it running on the state directory. The directory is therefore locked
//! before anything is started, and a `tailscaled` found running on it is ended first. It is signalled only if its
//! command line identifies it as such a `tailscaled`.
//!
//! If the directory is deleted or replaced while the daemon runs, the lock no longer excludes other daemons. The daemon
//! then ends its own `tailscaled`. It leaves a process on the new directory alone until it has locked that directory,
//! because that process may be another daemon's.
//!
//! The socket of `tailscaled` is open to every user (mode 0666), so it is placed in a directory of mode 0700.

mod binary;
mod directory;
mod process;

use thrum_core::limits;
use thrum_sync::held_dir::HeldDir;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::login::Login;
use crate::{
    Mode, State,
    follow::follow,
    hub::{Hub, patience},
    localapi::{ApiError, LocalApi},
    state::Verdict,
};
pub(crate) use binary::find as find_binary;
use directory::Directory;
pub(crate) use directory::is_registered;
use process::{LogPlace, Process};

/// Keeps the own node running until the transport is stopped. When this returns, the process is gone.
pub(crate) async fn run(hub: &Hub) {
    let mut backoff = patience();
    let log = HeldDir::of(&hub.config.log_file).ok();
    let mut opened = None;
    while !hub.stop.is_cancelled() {
        let directory = match opened.take().filter(Directory::is_in_place) {
            Some(directory) => directory,
            None => match Directory::open(&hub.config).await {
                Ok(directory) => {
                    // A `tailscaled` left behind by an earlier daemon forwards connections even before ours runs.
                    hub.is_handed_on_to_by(Some(&LocalApi::new(directory.socket())));
                    directory
                }
                Err(verdict) => {
                    hub.publish(&verdict, None, None);
                    if !hub.pause(&mut backoff).await {
                        return;
                    }
                    continue;
                }
            },
        };
        let began = Instant::now();
        let verdict = once(hub, &directory, log.clone()).await;
        // A process that ends right after its start is restarted with increasing pauses only.
        if began.elapsed() > limits::TAILNET_RETRY_LAST {
            backoff.reset();
        }
        if let Some(verdict) = verdict {
            hub.publish(&verdict, None, None);
        }
        opened = Some(directory);
        if !hub.pause(&mut backoff).await {
            return;
        }
    }
}

/// Runs the process once. Returns the reason why it did not start or ended; `None` if the transport was stopped.
async fn once(hub: &Hub, directory: &Directory, log: LogPlace) -> Option<Verdict> {
    let binary = match find_binary(&hub.config) {
        Ok(binary) => binary,
        Err(verdict) => return Some(verdict),
    };
    tokio::select! {
        () = hub.stop.cancelled() => return None,
        () = directory.end_orphan() => {}
    }
    let mut process = match Process::start(&binary, directory, &hub.config, log, &hub.tasks) {
        Ok(process) => process,
        Err(error) => return Some(crashed(&format!("{} cannot be started: {error}", binary.display()))),
    };
    let api = LocalApi::new(directory.socket());
    let why = tokio::select! {
        () = hub.stop.cancelled() => None,
        ended = process.ended() => Some(ended),
        () = replaced(directory) => Some("its state directory was deleted or replaced".to_owned()),
        error = serve(hub, &api) => Some(match timeout(limits::SOCKET_PROBE, process.ended()).await {
            // The connection breaks when the process ends, whose exit status is more informative.
            Ok(ended) => ended,
            Err(_) => error.to_string(),
        }),
    };
    process.stop().await;
    directory.forget_process();
    why.map(|why| crashed(&format!("this daemon's own tailscaled ended: {}", hub.config.without_key(&why))))
}

/// Resolves when the directory at the path of the state directory is no longer the locked one.
async fn replaced(directory: &Directory) {
    while directory.is_in_place() {
        sleep(limits::STATE_LOOK).await;
    }
}

/// Waits until the process answers, logs the node in and watches it; returns the error with which it stopped answering.
async fn serve(hub: &Hub, api: &LocalApi) -> ApiError {
    let until = Instant::now() + limits::TAILSCALED_START;
    loop {
        match timeout_at(until, api.status()).await {
            Ok(Ok(_)) => break,
            Ok(Err(ApiError::NotRunning)) if Instant::now() < until => sleep(limits::TAILSCALED_LOOK).await,
            Ok(Err(error)) => return error,
            Err(_) => return ApiError::Timeout,
        }
    }
    follow(hub, Mode::Own, api, Some(Login::default()), || ()).await
}

fn crashed(sentence: &str) -> Verdict {
    Verdict::new(
        State::Crashed,
        thrum_core::name::printable(sentence).to_string(),
        "It is started again by itself; its log is beside the daemon's.",
    )
}
