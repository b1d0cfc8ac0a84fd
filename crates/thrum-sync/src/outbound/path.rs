//! Measures the route to a connected peer periodically, so that a status query needs no network access.

use std::sync::Arc;

use thrum_core::limits;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::Outbound;
use crate::{
    replicator::{ReplicatorStatus, State},
    transport::{Kind, Path},
};

/// Publishes the measured route until the peer's driver ends.
pub(super) async fn follow(
    outbound: Arc<Outbound>,
    peer: String,
    mut status: watch::Receiver<ReplicatorStatus>,
    show: watch::Sender<Option<Path>>,
    stop: CancellationToken,
) {
    let measuring = async {
        while status.wait_for(|status| status.state == State::Connected).await.is_ok() {
            let Some(peer) = outbound.env.peer(&peer) else { return };
            let Some(transport) =
                peer.kind().filter(|kind| *kind == Kind::Tailnet).and_then(|kind| outbound.addresses.transport(kind))
            else {
                return;
            };
            let path = timeout(limits::PATH, transport.path(&peer.address)).await.ok().and_then(Result::ok).flatten();
            show.send_replace(path);
            // A peer that often disconnects is not measured more often.
            let pause = sleep(limits::PATH_PAUSE);
            tokio::pin!(pause);
            let gone = async { status.wait_for(|status| status.state != State::Connected).await.is_ok() };
            tokio::select! {
                () = &mut pause => {}
                gone = gone => {
                    show.send_replace(None);
                    if !gone {
                        return;
                    }
                    pause.await;
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = measuring => {}
    }
}
