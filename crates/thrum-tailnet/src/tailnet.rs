//! The handle that the daemon holds.

use std::sync::{Arc, atomic::Ordering};

use thrum_core::limits;
use tokio::sync::watch;

use crate::{
    Config, Mode, Status, host,
    hub::{Hub, drained},
    localapi::LocalApi,
    own,
};

/// The tailnet transport. Cloning gives another handle to the same.
#[derive(Clone)]
pub struct Tailnet(pub(crate) Arc<Hub>);

impl Tailnet {
    /// A transport that does nothing yet.
    pub fn new(config: Config) -> Self {
        Self(Arc::new(Hub::new(config)))
    }

    /// Uses the tailnet from now on, if [`start`](Self::start) was called, else from then on. Does nothing the second time.
    pub fn enable(&self) {
        self.0.enable();
        if self.0.started.load(Ordering::SeqCst) {
            self.start();
        }
    }

    /// Begins, if it is enabled: finds a node, keeps it up and says how it stands. Never fails and never waits. Needs a tokio
    /// runtime.
    pub fn start(&self) {
        let hub = &self.0;
        hub.started.store(true, Ordering::SeqCst);
        if !hub.enabled.load(Ordering::SeqCst) || hub.stop.is_cancelled() || hub.running.swap(true, Ordering::SeqCst) {
            return;
        }
        let hub = Arc::clone(hub);
        self.0.tasks.spawn(async move {
            let chosen = tokio::select! {
                () = hub.stop.cancelled() => None,
                chosen = choose(&hub.config) => Some(chosen),
            };
            if let Some((mode, why)) = chosen {
                hub.chose(mode, &why);
                match mode {
                    Mode::Own => own::run(&hub).await,
                    _ => host::run(&hub).await,
                }
            }
            hub.ended();
        });
    }

    /// Ends it; a `tailscaled` of our own is gone when this returns. Takes at most [`limits::TAILSCALED_STOP`] and a little.
    pub async fn stop(&self) {
        self.0.stop.cancel();
        drained(&self.0.tasks, limits::TAILSCALED_STOP + limits::DRAIN).await;
    }

    /// How it stands, now and as it changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.0.status.subscribe()
    }
}

/// Which node, and why.
async fn choose(config: &Config) -> (Mode, String) {
    match config.mode {
        Mode::Host => return (Mode::Host, "THRUM_TS_MODE is host".to_owned()),
        Mode::Own => return (Mode::Own, "THRUM_TS_MODE is own".to_owned()),
        Mode::Auto => {}
    }
    let reason = if own::is_registered(&config.state_dir) {
        "there is a registered node in THRUM_TS_STATE_DIR"
    } else if config.auth_key.is_some() {
        "there is an auth key"
    } else {
        return (Mode::Host, "there is neither an auth key nor a registered node of our own".to_owned());
    };
    // The app for macOS brings no tailscaled that we could run.
    if own::find_binary(config).is_err() {
        let host = LocalApi::new(&config.host_socket).status().await;
        if host.is_ok_and(|status| status.backend_state == "Running") {
            return (Mode::Host, format!("{reason}, but no tailscaled to run, and this machine's Tailscale is up"));
        }
    }
    (Mode::Own, reason.to_owned())
}
