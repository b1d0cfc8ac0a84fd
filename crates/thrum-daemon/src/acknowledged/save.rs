//! Saves the changed marks of what peers have acknowledged to the database, shortly after the change.

use std::sync::Arc;

use thrum_core::limits;
use tokio::time::sleep;

use crate::{shutdown::Shutdown, storage::Storage};

/// Saves marks shortly after they were made, until the daemon stops.
pub(crate) async fn follow(storage: Arc<Storage>, shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = storage.acknowledged.unsaved.notified() => {}
            () = shutdown.stopping() => break,
        }
        tokio::select! {
            () = sleep(limits::SAVE_ACKNOWLEDGEMENTS) => save(&storage).await,
            () = shutdown.stopping() => break,
        }
    }
    save(&storage).await;
}

async fn save(storage: &Storage) {
    let changes = storage.acknowledged.take_unsaved();
    if changes.is_empty() {
        return;
    }
    let saved =
        storage.write(move |tx| changes.iter().try_for_each(|it| tx.save_acknowledged(&it.peer, it.afresh, &it.marks)));
    if let Err(error) = saved.await {
        tracing::warn!(%error, "cannot save what peers have read");
        storage.acknowledged.not_saved();
    }
}
