//! Detects when two agents change one file at nearly the same time, and records it for each of the two agents whose
//! home is this daemon.

use std::{sync::Arc, time::Duration};

use thrum_core::{Ambient, Error};
use tokio::time::sleep;

use crate::{ambient::System, shutdown::Shutdown, storage::Storage};

/// Minimum pause between two searches. A search costs about as much as storing a message, so under load one search
/// covers many commits.
const PAUSE: Duration = Duration::from_millis(200);

/// Searches after each commit until the daemon stops. Events that were in the log before the start are not searched:
/// they are too old to matter.
pub(crate) async fn follow(storage: Arc<Storage>, shutdown: Shutdown) {
    let mut commits = storage.commits();
    let mut after = commits.borrow_and_update().latest;
    loop {
        tokio::select! {
            changed = commits.changed() => if changed.is_err() { return },
            () = shutdown.stopping() => return,
        }
        let latest = commits.borrow_and_update().latest;
        if let Err(error) = search(&storage, after).await {
            tracing::warn!(%error, "cannot search for files that two agents have changed");
        }
        after = latest;
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = shutdown.stopping() => return,
        }
    }
}

/// Searches the events after the sequence `after` for collisions, and records the new ones.
async fn search(storage: &Arc<Storage>, after: u64) -> Result<(), Error> {
    let new_collisions = storage.read(move |reader| {
        let changed = reader.updated_since(after)?;
        let found = if changed.is_empty() { Vec::new() } else { reader.collisions_of(&changed, System.now())? };
        reader.new_collisions(found, System.now())
    });
    let new_collisions = new_collisions.await?;
    if !new_collisions.is_empty() {
        storage.write(move |tx| tx.record_collisions(new_collisions)).await?;
    }
    Ok(())
}
