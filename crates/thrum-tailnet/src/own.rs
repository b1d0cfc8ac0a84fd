//! A node of our own: a private `tailscaled` in userspace, run without root, with its state in a directory that only we enter.
//!
//! It is started, logged in, watched and ended here. What makes it hard is that it may outlive us: a daemon that is killed
//! leaves it behind, holding the state. So the state directory is locked before anything is started, and one that is found
//! running on it is ended first (after a look at its command line: nothing else is ever signalled). When the directory is deleted or
//! replaced while we run, the lock excludes nobody any more: our `tailscaled` is ended, and the one on the new directory, which may
//! be another daemon's, is left alone until we have locked that directory.
//!
//! Its socket lets everybody in (mode 0666), so that it lies in a directory of mode 0700.

mod binary;
mod directory;
mod login;
mod process;

use thrum_core::limits;
use thrum_sync::held_dir::HeldDir;
use tokio::time::{Instant, sleep, timeout, timeout_at};

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
pub(crate) use login::Login;
use process::{LogPlace, Process};

/// Keeps a node of our own up until we are to end; it is gone when this returns.
pub(crate) async fn run(hub: &Hub) {
    let mut backoff = patience();
    let log = HeldDir::of(&hub.config.log_file).ok();
    let mut opened = None;
    while !hub.stop.is_cancelled() {
        let directory = match opened.take().filter(Directory::is_in_place) {
            Some(directory) => directory,
            None => match Directory::open(&hub.config).await {
                Ok(directory) => {
                    // One that an earlier daemon left hands connections on before ours runs.
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
        // One that ends as soon as it runs is not started again all the time.
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

/// One life of the process; why it ended, unless we were to end.
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
            // The connection breaks when the process ends, which says more.
            Ok(ended) => ended,
            Err(_) => error.to_string(),
        }),
    };
    process.stop().await;
    directory.forget_process();
    why.map(|why| crashed(&format!("this daemon's own tailscaled ended: {}", hub.config.without_key(&why))))
}

/// Resolves when the state directory at its path is not the one that was locked.
async fn replaced(directory: &Directory) {
    while directory.is_in_place() {
        sleep(limits::STATE_LOOK).await;
    }
}

/// Waits until it answers, logs it in and follows it; returns why it cannot be asked any more.
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
