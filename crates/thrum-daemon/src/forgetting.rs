//! Removes the events that a removed peer brought, except those that this daemon or a still paired peer wrote (`peer
//! remove --forget`); piece by piece, in the background. Stops if the peer is paired again.
//!
//! The database records what must still be dropped, so a daemon that stops before the end continues at its next start.

use std::{collections::BTreeSet, sync::Arc};

use thrum_core::{Error, limits};
use thrum_store::Forgetting;
use thrum_sync::Peers;
use tokio::sync::Notify;

use crate::{shutdown::Shutdown, storage::Storage};

/// Removes the events of removed peers until the daemon stops. `wake` reports that another peer must be forgotten.
pub(crate) async fn run(storage: Arc<Storage>, peers: Peers, own: String, wake: Arc<Notify>, shutdown: Shutdown) {
    loop {
        // This read is not part of `work`, which is dropped at shutdown: a dropped read goes on in its thread and would
        // keep the storage in use, so the readers could not be closed.
        let removed = storage.read(|reader| reader.forgetting()).await;
        let work = async {
            match removed {
                Ok(removed) => {
                    for Forgetting { peer, .. } in removed {
                        if let Err(error) = forget(&storage, &peers, &own, &peer).await {
                            tracing::warn!(%peer, %error, "cannot drop the events of a removed peer yet");
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, "cannot list the peers that are to be forgotten"),
            }
            tokio::select! {
                () = wake.notified() => {}
                // Failed work is retried.
                () = tokio::time::sleep(limits::BACKOFF_LAST) => {}
            }
        };
        tokio::select! {
            () = work => {}
            () = shutdown.stopping() => return,
        }
    }
}

/// Removes one peer's events, one piece per transaction.
async fn forget(storage: &Arc<Storage>, peers: &Peers, own: &str, peer: &str) -> Result<(), Error> {
    let mut events = 0;
    loop {
        let paired = peers.list();
        if paired.iter().any(|known| known.daemon_id == peer) {
            let peer = peer.to_owned();
            return storage.write(move |tx| tx.stop_forgetting(&peer)).await;
        }
        let ids = paired.into_iter().flat_map(|known| [Some(known.daemon_id), known.as_daemon_id]).flatten();
        let kept_origins: BTreeSet<String> = ids.chain([own.to_owned()]).collect();
        let removed = peer.to_owned();
        let piece = storage.write(move |tx| tx.forget_piece(&removed, &kept_origins)).await?;
        events += piece.events;
        if piece.is_done {
            tracing::info!(%peer, events, "dropped the events of a removed peer");
            return Ok(());
        }
    }
}
