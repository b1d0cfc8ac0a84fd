//! The machine's own node. Somebody else runs it: we look, say what is the matter, and wait for it to change.

use crate::{
    Mode,
    follow::follow,
    hub::{Hub, patience},
    localapi::LocalApi,
    state::host_unreachable,
};

/// Follows the machine's `tailscaled` until we are to end.
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
