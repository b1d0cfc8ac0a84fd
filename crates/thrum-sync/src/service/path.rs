//! Looks from time to time at how packets travel to a connected peer, so that asking for its status asks nobody.

use std::sync::Arc;

use thrum_core::limits;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::Inner;
use crate::{
    replicator::{State, Status},
    transport::{Kind, Path},
};

/// Ends with the peer's driver.
pub(super) async fn follow(
    inner: Arc<Inner>,
    peer: String,
    mut status: watch::Receiver<Status>,
    show: watch::Sender<Option<Path>>,
    stop: CancellationToken,
) {
    let look = async {
        while status.wait_for(|status| status.state == State::Connected).await.is_ok() {
            let Some(peer) = inner.desk().registry.get(&peer).cloned() else { return };
            let Some(transport) = peer.kind().filter(|kind| *kind == Kind::Tailnet).and_then(|kind| inner.transport(kind)) else { return };
            let path = timeout(limits::PATH, transport.path(&peer.address)).await.ok().and_then(Result::ok).flatten();
            show.send_replace(path);
            // A peer that comes and goes is looked at no more often.
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
        () = look => {}
    }
}
