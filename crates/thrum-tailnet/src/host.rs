//! The machine's own node, which the daemon does not manage. This module only watches it, reports problems, and waits
//! until they are solved.

use crate::{
    Mode,
    follow::follow,
    hub::{Hub, patience},
    localapi::LocalApi,
    state::host_unreachable,
};

/// Watches the machine's `tailscaled` until the transport is stopped.
pub(crate) async fn run(hub: &Hub) {
    let api = LocalApi::new(&hub.config.host_socket);
    hub.is_handed_on_to_by(Some(&api));
    let mut backoff = patience();
    loop {
        let mut answered = false;
        let error = tokio::select! {
            () = hub.stop.cancelled() => return,
            error = follow(hub, Mode::Host, &api, None, || answered = true) => error,
        };
        if answered {
            backoff.reset();
        }
        hub.publish(&host_unreachable(&error, api.socket(), hub.config.mode == Mode::Auto), None, None);
        if !hub.pause(&mut backoff).await {
            return;
        }
    }
}
