//! The daemon's handle to the tailnet transport.

use std::sync::{Arc, atomic::Ordering};

use thrum_core::limits;
use tokio::sync::watch;

use crate::{
    Config, Mode, Status, host,
    hub::{Hub, drained},
    localapi::LocalApi,
    own,
};

/// The tailnet transport. A clone is another handle to the same transport.
#[derive(Clone)]
pub struct Tailnet(pub(crate) Arc<Hub>);

impl Tailnet {
    /// Creates a transport that does nothing until it is started.
    pub fn new(config: Config) -> Self {
        Self(Arc::new(Hub::new(config)))
    }

    /// Enables the tailnet. Takes effect at once if [`start`](Self::start) was called, otherwise with that call.
    /// Further calls have no effect.
    pub fn enable(&self) {
        self.0.enable();
        if self.0.started.load(Ordering::SeqCst) {
            self.start();
        }
    }

    /// Starts the transport if it is enabled: chooses a node, keeps it running and publishes its status. Never fails
    /// and never waits. Needs a tokio runtime.
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

    /// Stops the transport and waits until the own `tailscaled` is gone, at most [`limits::TAILSCALED_STOP`] plus
    /// [`limits::DRAIN`].
    pub async fn stop(&self) {
        self.0.stop.cancel();
        drained(&self.0.tasks, limits::TAILSCALED_STOP + limits::DRAIN).await;
    }

    /// Subscribes to the status: its current value and all changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.0.status.subscribe()
    }
}

/// Chooses a node; returns the choice and its reason.
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
        return (Mode::Host, "no auth key and no earlier login for a node of its own".to_owned());
    };
    // The app for macOS does not include a `tailscaled` that we could run.
    if own::find_binary(config).is_err() {
        let host = LocalApi::new(&config.host_socket).status().await;
        if host.is_ok_and(|status| status.backend_state == "Running") {
            return (Mode::Host, format!("{reason}, but no tailscaled to run, and this machine's Tailscale is up"));
        }
    }
    (Mode::Own, reason.to_owned())
}
